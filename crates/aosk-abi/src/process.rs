//! The states of a process.

use serde::{Deserialize, Serialize};

use crate::amount::{MicroDollars, Timestamp};
use crate::content::ContentRef;
use crate::id::Pid;

/// Where a process stands. `Exited` is final, but for a message that continues the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ProcessState {
    /// Known, not yet admitted.
    New,
    /// Waits for its turn.
    Ready,
    /// A model call is in flight.
    Running,
    /// Waits for something that is named.
    Blocked {
        /// For what.
        on: BlockedOn,
        /// Since when.
        since: Timestamp,
    },
    /// Stopped by a signal until it is continued.
    Suspended {
        /// Since when.
        since: Timestamp,
    },
    /// Ended.
    Exited {
        /// How.
        exit: Exit,
    },
}

impl ProcessState {
    /// The state's name, one word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Blocked { .. } => "blocked",
            Self::Suspended { .. } => "suspended",
            Self::Exited { .. } => "exited",
        }
    }

    /// Whether nothing more happens to the process by itself.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Exited { .. })
    }
}

/// What a blocked process waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case", deny_unknown_fields)]
pub enum BlockedOn {
    /// Its spend limit does not cover the next call; raise the limit to go on.
    Quota {
        /// What it may spend.
        limit: MicroDollars,
        /// What it has spent or reserved.
        spent: MicroDollars,
        /// What the next call may cost.
        needed: MicroDollars,
    },
    /// Room in a quota that it shares with others. Journaled where the wait is not over at once.
    Limit {
        /// Whose quota: `pool NAME`, `tenant NAME`, `group NAME`, `process` for its own, or `process
        /// PID` for that of one from whom it descends.
        owner: String,
        /// What of it there is no room for.
        scarce: Scarce,
        /// When there is room; absent: it goes on when somebody raises the quota.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// A slot of its device. Never journaled: slots live in memory.
    Slot {
        /// The device.
        device: String,
    },
    /// A moment: the next attempt of a call, a restart, the end of a sleep.
    Timer {
        /// When it goes on.
        until: Timestamp,
    },
    /// A person's look: the kernel failed inside itself while it executed the process, again and
    /// again.
    Review {
        /// How often, since the process last got on.
        crashes: u64,
    },
    /// The results of its tool calls.
    Tool {
        /// How many are awaited.
        calls: u64,
    },
    /// A message of another process.
    Message {
        /// Of which; absent: of any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Pid>,
        /// When it gives up; absent: never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// The ends of its children.
    Child {
        /// Those that are awaited, all of them.
        children: Vec<Pid>,
        /// When it gives up; absent: never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
}

/// What a quota can be short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scarce {
    /// Calls begun.
    Requests,
    /// Tokens that go in.
    Input,
    /// Tokens that come out.
    Output,
    /// Money.
    Money,
    /// Calls in flight.
    Calls,
    /// Nothing of its own: the endpoint asked to be left alone, or fails call after call.
    Pause,
}

impl Scarce {
    /// In words, as it stands behind "waits for".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Input => "input tokens",
            Self::Output => "output tokens",
            Self::Money => "money",
            Self::Calls => "calls at once",
            Self::Pause => {
                "the end of a pause that the endpoint asked for, or that its failures brought"
            }
        }
    }
}

impl BlockedOn {
    /// How a [`Limit`](Self::Limit) names the process's own quota.
    pub const OWN: &'static str = "process";

    /// How it names that of one from whom the process descends.
    #[must_use]
    pub fn of_kin(pid: Pid) -> String {
        format!("{} {pid}", Self::OWN)
    }

    /// The processes that are awaited; empty where anybody may end the wait, or nobody.
    #[must_use]
    pub fn awaited(&self) -> &[Pid] {
        match self {
            Self::Message { from: Some(from), .. } => std::slice::from_ref(from),
            Self::Child { children, .. } => children,
            _ => &[],
        }
    }

    /// When it ends by itself.
    #[must_use]
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Timer { until } => Some(*until),
            Self::Limit { until, .. } | Self::Message { until, .. } | Self::Child { until, .. } => {
                *until
            }
            Self::Quota { .. } | Self::Slot { .. } | Self::Review { .. } | Self::Tool { .. } => {
                None
            }
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "exit", rename_all = "snake_case", deny_unknown_fields)]
pub enum Exit {
    /// The model answered without calling a tool.
    Completed {
        /// The answer; absent where the model said nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<ContentRef>,
    },
    /// It used up its steps.
    StepLimit {
        /// The limit.
        limit: u64,
    },
    /// The model or its provider refused.
    Refused {
        /// What it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<ContentRef>,
    },
    /// It cannot go on.
    Failed {
        /// The error's stable code.
        code: String,
        /// What went wrong, whose fault it is and what to do next.
        message: ContentRef,
    },
    /// It was killed by a signal.
    Killed,
}

impl Exit {
    /// Whether a message continues the conversation that ended so. Only a kill is for good.
    #[must_use]
    pub const fn can_be_continued(&self) -> bool {
        !matches!(self, Self::Killed)
    }

    /// The exit's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Completed { .. } => "completed",
            Self::StepLimit { .. } => "step limit",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Killed => "killed",
        }
    }
}
