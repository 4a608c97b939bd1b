//! Why pages left the prompt, as a plan tells of it.
//!
//! A policy decides from numbers that are gone a moment later: the ages of that turn, the prices of
//! that day. So the plan keeps them, once for each decision and not for each page: what leaves
//! together has one row of some 30 bytes, what is the same for all stands once, and a plan in which
//! nothing leaves has none.

use serde::{Deserialize, Serialize};

use crate::id::PageId;

/// Why pages left with a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reasons {
    /// Whether they left while everything still had room, because the policy asked for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early: bool,
    /// What was decided, in prompt order.
    pub scores: Vec<Score>,
    /// Terms that are the same for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<u64>,
    /// What the terms of each score are, by name, and behind them the shared ones; none where the
    /// policy goes by place alone.
    pub terms: Vec<String>,
}

/// Why a unit left, or a part of a content before the rest of its unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// What decided.
    #[serde(default, skip_serializing_if = "Cause::is_scored")]
    pub cause: Cause,
    /// Its first page; the others of its unit left with it.
    pub page: PageId,
    /// As [`Reasons::terms`] names them.
    pub terms: Vec<u64>,
}

/// What decided that something left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The policy chose it.
    #[default]
    Scored,
    /// What the policy chose was not enough, and it was the oldest that was left.
    Oldest,
    /// Parts of it were missing, and there was no room to say so any more.
    Gaps,
}

impl Cause {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    fn is_scored(&self) -> bool {
        *self == Self::Scored
    }

    /// The name that events use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::Oldest => "oldest",
            Self::Gaps => "gaps",
        }
    }
}
