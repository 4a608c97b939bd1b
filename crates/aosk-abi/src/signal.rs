//! Signals: what others may do to a process.

use serde::{Deserialize, Serialize};

/// A request to a process from outside; the owner moves it into the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// End it; what is in flight is cancelled.
    Kill,
    /// Suspend it between two steps.
    Stop,
    /// Go on after a stop.
    Cont,
}

impl Signal {
    /// The signal's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cont => "cont",
        }
    }
}
