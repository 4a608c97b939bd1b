//! What a program may ask of the kernel, and what it hears back.
//!
//! Each syscall has a deterministic number, its [`Op`]: the n-th syscall that a process ever makes
//! is operation n. Outcomes name it, and the program sees outcomes in journal order, however many
//! ran at once. That makes a program a fold over its journal.

use serde::{Deserialize, Serialize};

use crate::content::ContentRef;
use crate::id::{Op, Step};
use crate::inference::StopReason;
use crate::process::Exit;

/// A request of a program to the kernel. There are few, because each is a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "syscall", rename_all = "snake_case")]
pub enum Syscall {
    /// Plan the context and ask the model for the next turn.
    Infer {
        /// Whether the model may call tools in this turn.
        tools: bool,
    },
    /// Run a tool.
    CallTool(ToolCall),
    /// Add a message to the conversation.
    Tell {
        /// What the model is told.
        text: String,
    },
    /// End the process.
    Exit(Exit),
}

/// A tool call of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's id of the call.
    pub id: String,
    /// The tool's name as the model wrote it.
    pub name: String,
    /// The arguments as the model wrote them.
    pub arguments: ContentRef,
}

/// What a program hears; made from journaled events alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The process begins.
    Started {
        /// How many steps it may make.
        max_steps: u64,
        /// After how many steps with tool calls it must answer; `None`: never.
        max_tool_steps: Option<u64>,
    },
    /// The program had ended, and a message continues the conversation: it begins anew behind what
    /// was said so far.
    Continued,
    /// The program had ended so, and begins again as its manifest asks.
    Restarted {
        /// How it ended.
        exit: Exit,
    },
    /// The model replied to an [`Syscall::Infer`].
    Replied {
        /// The operation.
        op: Op,
        /// The step that it belonged to.
        step: Step,
        /// What the program needs to know of the reply.
        reply: ReplySummary,
    },
    /// An [`Syscall::Infer`] failed for good.
    InferFailed {
        /// The operation.
        op: Op,
        /// The error's stable code.
        code: String,
        /// What went wrong.
        message: ContentRef,
    },
    /// A [`Syscall::CallTool`] has its outcome in the conversation.
    ToolDone {
        /// The operation.
        op: Op,
    },
}

/// A reply without its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplySummary {
    /// Why the model stopped.
    pub stop: StopReason,
    /// The reply's text, if it has one; the last where there are several.
    pub text: Option<ContentRef>,
    /// The tools that it calls, in order.
    pub calls: Vec<ToolCall>,
}
