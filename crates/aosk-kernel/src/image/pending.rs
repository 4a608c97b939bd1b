//! Syscalls without an outcome, and what follows from them.

use aosk_abi::{Effect, Exit, Op, Pid, Seq, Syscall, ToolCall};
use serde::{Deserialize, Serialize};

use super::Image;

/// A syscall that has no outcome yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pending {
    /// A model call.
    Infer {
        /// Whether the model may call tools.
        tools: bool,
        /// Attempts requested so far.
        attempts: u32,
        /// How many of them were made at models that were given up.
        elsewhere: u32,
        /// How often the endpoint said that the prompt was too long.
        overflows: u32,
    },
    /// A tool call.
    Tool {
        /// What is called.
        call: ToolCall,
        /// The event of the reply that called it.
        unit: Seq,
        /// Attempts requested so far; at 0 the tool has never run.
        attempts: u32,
        /// What a repeated call does, once it was requested.
        effect: Option<Effect>,
        /// The process that it is about, where a name was found to mean one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Pid>,
    },
    /// A message to the model.
    Tell {
        /// What it says.
        text: String,
        /// The event that made the program say it, with which it stays and leaves.
        unit: Seq,
    },
    /// The end.
    Exit {
        /// How.
        exit: Exit,
    },
}

impl Pending {
    pub(super) fn new(syscall: Syscall, unit: Seq) -> Self {
        match syscall {
            Syscall::Infer { tools } => {
                Self::Infer { tools, attempts: 0, elsewhere: 0, overflows: 0 }
            }
            Syscall::CallTool(call) => {
                Self::Tool { call, unit, attempts: 0, effect: None, to: None }
            }
            Syscall::Tell { text } => Self::Tell { text, unit },
            Syscall::Exit(exit) => Self::Exit { exit },
        }
    }
}

/// What the kernel has to do next for a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Add a message to the conversation.
    Tell(Op, String),
    /// End the process.
    Exit(Op, Exit),
    /// Run these tool calls; they may run at once.
    Tools(Vec<Op>),
    /// Ask the model.
    Infer(Op),
    /// Nothing is outstanding: the program will never be heard of again.
    Stuck,
}

impl Image {
    /// What has to be done next: the oldest syscall, with all tool calls that stand beside it.
    #[must_use]
    pub fn next_action(&self) -> Action {
        let Some((&op, first)) = self.pending.first_key_value() else {
            return Action::Stuck;
        };
        match first {
            Pending::Tell { text, .. } => Action::Tell(op, text.clone()),
            Pending::Exit { exit } => Action::Exit(op, exit.clone()),
            Pending::Infer { .. } => Action::Infer(op),
            Pending::Tool { .. } => Action::Tools(
                self.pending
                    .iter()
                    .take_while(|(_, pending)| matches!(pending, Pending::Tool { .. }))
                    .map(|(&op, _)| op)
                    .collect(),
            ),
        }
    }
}
