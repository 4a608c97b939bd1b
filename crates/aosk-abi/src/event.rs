//! Events: everything that can happen to a process.
//!
//! The state of a process is the fold of its events and of nothing else, so every input that is
//! not determined by earlier events is one of these: replies, tool results, messages, clock
//! readings (each event's `at`), decisions of policies. Bodies are small; texts are named by hash.
//!
//! A kind's code and the meaning of a version of its body are for ever. A body that must change
//! gets the next version, and readers keep the old one.
//!
//! Fields are declared in the order of their keys, which is the order of the bytes: the encoder
//! then finds them sorted and has little to move.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::amount::{MicroDollars, Timestamp, Tokens};
use crate::canonical::{CanonicalError, to_canonical_json_at};
use crate::condition::{CacheLife, Changes};
use crate::content::{ContentRef, Hash};
use crate::id::{Epoch, Op, PageId, Pid, Seq, Step};
use crate::inference::{FailureKind, ReplyPart, StopReason, Usage};
use crate::page::{Admission, Stub};
use crate::priority::Priority;
use crate::process::{BlockedOn, Exit};
use crate::quota::Limits;
use crate::reason::Reasons;
use crate::signal::Signal;
use crate::tool::Effect;

/// Something that happened to a process, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The wall clock of the kernel that wrote it; it may step back.
    pub at: Timestamp,
    /// What happened.
    pub what: What,
}

impl Event {
    /// The event that `what` happened `at` that time.
    #[must_use]
    pub const fn new(at: Timestamp, what: What) -> Self {
        Self { at, what }
    }

    /// What kind of event it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.what.kind()
    }

    pub(crate) fn body(&self) -> Result<Vec<u8>, CanonicalError> {
        self.what.body(self.at)
    }

    pub(crate) fn from_body(kind: Kind, body: &[u8]) -> Result<Self, serde_json::Error> {
        let mut value: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)?;
        let at = value.remove("at").unwrap_or(serde_json::Value::Null);
        let at: Timestamp = serde_json::from_value(at)?;
        Ok(Self { at, what: What::from_value(kind, serde_json::Value::Object(value))? })
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $code:literal v $version:literal $name:ident $text:literal;)*) => {
        /// What an event says.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum What {
            $($(#[$doc])* $name($name),)*
        }

        /// The kinds of events.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl What {
            /// What kind of event it is.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$name(_) => Kind::$name,)*
                }
            }

            fn body(&self, at: Timestamp) -> Result<Vec<u8>, CanonicalError> {
                match self {
                    $(Self::$name(what) => to_canonical_json_at(at.as_millis(), what),)*
                }
            }

            fn from_value(
                kind: Kind,
                value: serde_json::Value,
            ) -> Result<Self, serde_json::Error> {
                match kind {
                    $(Kind::$name => serde_json::from_value(value).map(Self::$name),)*
                }
            }
        }

        impl Kind {
            /// Every kind, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code under which the kind is stored and hashed.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The newest version of the kind's body.
            #[must_use]
            pub const fn version(self) -> u16 {
                match self {
                    $(Self::$name => $version,)*
                }
            }

            /// The kind with that code, if this program knows it.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The kind's name, as users and logs see it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// The process begins.
    1 v 1 Spawned "spawned";
    /// A kernel took the process over after a restart.
    2 v 1 Recovered "recovered";
    /// The process ended.
    3 v 1 Exited "exited";
    /// The process waits.
    4 v 1 Blocked "blocked";
    /// The process goes on.
    5 v 1 Unblocked "unblocked";
    /// The process may spend more.
    6 v 1 SpendRaised "spend_raised";
    /// A signal arrived.
    7 v 1 SignalReceived "signal_received";
    /// A message arrived.
    8 v 1 MessageReceived "message_received";
    /// The program added a message to the conversation.
    9 v 1 Told "told";
    /// The process became more or less important.
    10 v 1 PriorityChanged "priority_changed";
    /// The program ended and begins again.
    11 v 1 Restarted "restarted";
    /// The kernel failed inside itself while it executed the process.
    12 v 1 Crashed "crashed";
    /// A message was taken out of the mailbox.
    13 v 1 MessageTaken "message_taken";
    /// A child is about to begin.
    14 v 1 ChildBegun "child_begun";
    /// A child has ended.
    15 v 1 ChildEnded "child_ended";
    /// The context was planned.
    16 v 1 Planned "planned";
    /// A model call is about to be made.
    17 v 1 LlmRequested "llm_requested";
    /// A model call returned.
    18 v 1 LlmReturned "llm_returned";
    /// A model call failed.
    19 v 1 LlmFailed "llm_failed";
    /// Pages that had left were asked for and come back.
    20 v 1 Recalled "recalled";
    /// Another model or pool is asked.
    21 v 1 Routed "routed";
    /// A tool is about to run.
    32 v 1 ToolRequested "tool_requested";
    /// A tool returned.
    33 v 1 ToolReturned "tool_returned";
    /// A tool call was cut off and cannot be repeated.
    34 v 1 Interrupted "interrupted";
    /// What was in flight was given up because the process was killed.
    35 v 1 Cancelled "cancelled";
    /// A quota that the process waits for was changed.
    48 v 1 QuotaChanged "quota_changed";
    /// A budget is nearly spent.
    49 v 1 BudgetWarned "budget_warned";
    /// A setting of a device was chosen.
    50 v 1 Tuned "tuned";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The process begins. Everything that the fold needs stands here; the texts are contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spawned {
    /// The external name that the pid stands for, if it was made from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The whole manifest as JSON.
    pub manifest: ContentRef,
    /// How many steps it may make.
    pub max_steps: u64,
    /// After how many steps with tool calls it must answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tool_steps: Option<u64>,
    /// The model it asks, a name of the table of models.
    pub model: String,
    /// The agent's name.
    pub name: String,
    /// The process that spawned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Pid>,
    /// How important it is.
    pub priority: Priority,
    /// The program that it runs.
    pub program: String,
    /// What it may spend; absent: only the kernel's own limits hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_limit: Option<MicroDollars>,
    /// The system prompt.
    pub system: ContentRef,
    /// The task.
    pub task: ContentRef,
    /// The schemas of its tools, a JSON array; they never change under a conversation.
    pub tools: ContentRef,
}

/// A kernel took the process over after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovered {
    /// The epoch that it ran under before; the record itself carries the new one.
    pub from: Epoch,
    /// The kernel instance that took over.
    pub instance: String,
}

/// The process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exited {
    /// How.
    pub exit: Exit,
    /// The operation that ended it; absent where a signal did, or the kernel because it could not go
    /// on with the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Op>,
}

/// The process waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocked {
    /// For what.
    pub on: BlockedOn,
    /// The tool call that waits; absent where the kernel does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Op>,
}

/// The process goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unblocked {}

/// The process may spend more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpendRaised {
    /// The new limit.
    pub limit: MicroDollars,
}

/// A signal arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalReceived {
    /// Which.
    pub signal: Signal,
}

/// A message arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageReceived {
    /// What it says.
    pub content: ContentRef,
    /// The sender: a pid or `user`.
    pub from: String,
    /// The sender's operation, where a process sent it: with the pid it names the message, and it
    /// goes into the mailbox instead of the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Op>,
}

/// The program added a message to the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// What the model is told.
    pub content: ContentRef,
    /// The operation.
    pub op: Op,
}

/// The process became more or less important.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityChanged {
    /// How important it is from now on.
    pub priority: Priority,
}

/// The program ended and begins again, as its manifest asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarted {
    /// How it ended.
    pub exit: Exit,
    /// The first restart of the process is 1.
    pub number: u64,
    /// The operation that ended it; absent where the kernel did, because it could not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Op>,
    /// When it begins.
    pub until: Timestamp,
}

/// The kernel failed inside itself while it executed the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crashed {
    /// What is known of it, secrets redacted.
    pub message: ContentRef,
}

/// A message was taken out of the mailbox; the result of the call says what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageTaken {
    /// Where it was received.
    pub message: Seq,
    /// The tool call that took it.
    pub op: Op,
}

/// A child is about to begin; durable before its first event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildBegun {
    /// Its pid.
    pub child: Pid,
    /// What it may spend, out of what its parent may; spent until the child has ended. Absent: no
    /// limit holds for either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<MicroDollars>,
    /// Its name in the manifest.
    pub name: String,
    /// The tool call that began it.
    pub op: Op,
}

/// A child has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildEnded {
    /// What it answered, or why it could not; absent where it said nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ContentRef>,
    /// Which.
    pub child: Pid,
    /// How: the name of its exit.
    pub exit: String,
    /// What it spent.
    pub spent: MicroDollars,
}

/// The context was planned. The plan is a difference to the one before, so that its size follows
/// what was added and never the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// Pages that are new in this plan, in prompt order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted: Vec<Admission>,
    /// Pages that left the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evicted: Vec<PageId>,
    /// Grows by one each time pages leave; between two generations the prompt only grows.
    pub generation: u64,
    /// For how long the endpoint is asked to keep what the call writes to its cache; absent: as long
    /// as it does unasked.
    #[serde(default, skip_serializing_if = "CacheLife::is_short")]
    pub life: CacheLife,
    /// The operation that it serves.
    pub op: Op,
    /// The unkeyed hash of the rendered prompt without its tail.
    pub prompt: Hash,
    /// The length of the rendered prompt without its tail, in bytes.
    pub prompt_len: u64,
    /// The size of the prompt under the tokenizer that counted, tail included.
    pub prompt_tokens: Tokens,
    /// Why pages left; named where some do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Reasons>,
    /// The step.
    pub step: Step,
    /// What the prompt says from now on of all pages that have left, in their order; named where
    /// pages leave and the agent can ask for them back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<Stub>,
    /// Whether a tail (time, steps left) stands behind the log; rendered from this event alone.
    pub tail: bool,
    /// Whether the model may call tools in this turn.
    pub tools: bool,
    /// The conditions that differ from those of the plan before.
    #[serde(default, skip_serializing_if = "Changes::is_none")]
    pub under: Changes,
}

/// Pages that had left are needed again: a page fault. They stand in the next plan under new
/// numbers, behind the result of the call that asked for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recalled {
    /// The tool call that asked.
    pub op: Op,
    /// The numbers under which they are known so far; none of them stands in the prompt. Of those
    /// that a query found the best first.
    pub pages: Vec<PageId>,
    /// How a query found them; absent: they were asked for by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<RecallSearch>,
}

/// How a query found pages. The pages are what counts from then on: an index may answer otherwise
/// tomorrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallSearch {
    /// What was looked for, in words.
    pub query: ContentRef,
    /// Where each of the pages stood, in their order.
    pub ranks: Vec<RecallRank>,
}

/// Where a page stood among those that a query found. Ranks begin at 1; a page has at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallRank {
    /// By direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<u32>,
    /// By words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<u32>,
}

/// Another model is asked from now on, before anything was sent to the one before: a pool of the same
/// alias, or, where that cannot be asked, one that may be asked instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routed {
    /// The model.
    pub model: String,
    /// The operation that goes there first.
    pub op: Op,
}

/// A model call is about to be made; durable before its first byte leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmRequested {
    /// The first attempt is 1.
    pub attempt: u32,
    /// The device that is asked.
    pub device: String,
    /// The operation.
    pub op: Op,
    /// What the call may cost at most; spent until reconciled.
    pub reserved: MicroDollars,
}

/// A model call returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmReturned {
    /// Which attempt returned.
    pub attempt: u32,
    /// What it cost.
    pub cost: MicroDollars,
    /// The model's name as the endpoint reports it.
    pub model: String,
    /// The operation.
    pub op: Op,
    /// The reply, in the model's order.
    pub parts: Vec<ReplyPart>,
    /// The reply as it came over the wire, secrets redacted; absent for devices without a wire, and
    /// where a secret was taken out of a part: a stream may hold it in pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<ContentRef>,
    /// Why the model stopped.
    pub stop: StopReason,
    /// From the first byte sent to the last received, in milliseconds.
    pub took_ms: u64,
    /// What the endpoint says it used; absent where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Pages of the prompt from which the reply repeats a line or a name, in their order, each once;
    /// none that came with or after the model's turn before. Each was needed once more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<PageId>,
}

/// A model call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmFailed {
    /// Which attempt failed.
    pub attempt: u32,
    /// The error's stable code.
    pub code: String,
    /// What it cost all the same.
    pub cost: MicroDollars,
    /// How.
    pub failure: FailureKind,
    /// What went wrong, secrets redacted.
    pub message: ContentRef,
    /// The model that is asked from now on; absent: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The operation.
    pub op: Op,
    /// When it is tried again; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

/// A tool is about to run; durable before it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolRequested {
    /// The first attempt is 1; recovery may make more of a `pure` or `idempotent` call.
    pub attempt: u32,
    /// What a repeated call does.
    pub effect: Effect,
    /// How the tool is isolated: what its process's sandbox says, for example `openat2` or
    /// `no-files`; `none` for code of the operator's.
    pub isolation: String,
    /// The operation.
    pub op: Op,
    /// The process that it is about, where the kernel found one for a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Pid>,
    /// The tool.
    pub tool: String,
}

/// A tool returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolReturned {
    /// The operation.
    pub op: Op,
    /// The result as JSON, secrets redacted.
    pub result: ContentRef,
    /// Whether the tool did what was asked.
    pub success: bool,
    /// How long it ran, in milliseconds.
    pub took_ms: u64,
}

/// A tool call was cut off by a crash and its effect forbids to run it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupted {
    /// The operation.
    pub op: Op,
    /// What the process is told, a failed result as JSON.
    pub result: ContentRef,
}

/// What was in flight was given up because the process was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancelled {
    /// The operation.
    pub op: Op,
}

/// A quota that the process waits for was changed, so it asks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaChanged {
    /// What its owner may use from now on.
    pub limits: Limits,
    /// Whose quota, as [`BlockedOn::Limit`] names it. Its own, `process`, is this from now on, in place
    /// of what its manifest says.
    pub owner: String,
}

/// A budget is nearly spent: a call of this process took what is spent or reserved past a share of
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetWarned {
    /// The whole budget.
    pub limit: MicroDollars,
    /// Whose it is, as [`BlockedOn::Limit`] names it.
    pub owner: String,
    /// The share, in percent: 80 or 95.
    pub percent: u8,
    /// When there is all of it again; absent: never by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A setting of a device was chosen by what the one before was worth. It stands in the journal of the
/// process whose call is the first to go by it, and changes nothing of that process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// How many tokens a call may run ahead of its turn.
    pub ahead_tokens: u64,
    /// After how many milliseconds of waiting a call goes next at least every other time.
    pub aging_ms: u64,
    /// How many of its slots the device is given, in percent.
    pub depth_percent: u8,
    /// The device.
    pub device: String,
    /// How many settings had their turn before this one.
    pub epochs: u64,
    /// The share of replies, in percent, whose length is guessed for the next; absent: their mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess_percent: Option<u8>,
    /// What the setting before was worth: how little of their time its calls waited, in thousandths.
    pub worth_milli: u64,
}
