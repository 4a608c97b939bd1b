//! What a process asks for, and what came of it.

use std::time::Duration;

use aosk_abi::{MicroDollars, Tokens};

use crate::units::Units;

/// What one call takes of quotas, besides being one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Tokens that go in.
    pub input: Tokens,
    /// Tokens that come out.
    pub output: Tokens,
    /// What it costs.
    pub money: MicroDollars,
}

impl Amounts {
    /// Both together.
    pub(crate) const fn and(&self, other: &Self) -> Self {
        Self {
            input: Tokens(self.input.0.saturating_add(other.input.0)),
            output: Tokens(self.output.0.saturating_add(other.output.0)),
            money: MicroDollars(self.money.0.saturating_add(other.money.0)),
        }
    }
}

/// A prefix that the endpoint holds in its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warm {
    /// How many tokens of it.
    pub tokens: Tokens,
    /// Until when, on the clock of [`pick`](crate::Scheduler::pick).
    pub until: Duration,
}

/// A wish for one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// What it will probably be charged: the mean, not the worst case. Settlement corrects it.
    pub estimate: Units,
    /// The most that it can take of quotas: reserved when it starts, given back when it ends.
    pub most: Amounts,
    /// When it should have started. Inside the pool's window the earliest deadline goes first; one
    /// that has passed gives no precedence, so that the late ones cannot make the next ones late.
    pub deadline: Option<Duration>,
    /// What of its prompt is warm. Inside the pool's window the warmest goes first.
    pub warm: Option<Warm>,
}

impl From<Units> for Step {
    /// A step that draws on no quota but requests and concurrency.
    fn from(estimate: Units) -> Self {
        Self { estimate, ..Self::default() }
    }
}

/// What a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What it is charged.
    pub charge: Units,
    /// What it took of quotas; where that is not known, all that was reserved counts as used.
    pub amounts: Option<Amounts>,
}

impl From<Units> for Used {
    fn from(charge: Units) -> Self {
        Self { charge, amounts: None }
    }
}

/// How a call was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// As it was said.
    Exactly,
    /// It was settled before, and nothing changed.
    Again,
    /// It claims more than a call of this pool can use, and was charged the greatest charge.
    Implausible {
        /// What it claims.
        said: Units,
        /// What it was charged.
        charged: Units,
    },
}
