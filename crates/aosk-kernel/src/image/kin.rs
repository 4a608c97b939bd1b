//! Children: the processes that a process spawned, as far as its own journal tells.

use aosk_abi::{ContentRef, MicroDollars, Op, Seq};
use serde::{Deserialize, Serialize};

/// A process that was spawned by this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its name in the manifest.
    pub name: String,
    /// The call that spawned it.
    pub op: Op,
    /// What it may spend.
    pub granted: Option<MicroDollars>,
    /// How it ended, once that is known here.
    pub end: Option<End>,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The name of its exit.
    pub exit: String,
    /// The event that says so.
    pub seq: Seq,
    /// What it answered, or why it could not.
    pub answer: Option<ContentRef>,
}
