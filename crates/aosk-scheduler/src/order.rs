//! How a pool is set up, and in which order the processes of a group go.

use std::time::Duration;

use crate::units::Units;

/// The order of the processes inside a group of a tenant. It decides nothing between tenants or
/// groups: those share fairly whatever it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// By the time at which the step would end if all processes of the group were served at once,
    /// each at the rate of its weight, from its predicted size (fair sojourn protocol: Friedman and
    /// Henderson, SIGMETRICS 2003; with weights and errors: Dell'Amico, Carra and Michiardi, PSBS,
    /// 2014). Sizes count
    /// three times: short calls pass more than fair sharing would let them, and in return who has
    /// waited [`aging`](PoolOptions::aging) goes next at least every other time. Shares follow the
    /// weights only roughly; where they must, take [`Fair`](Self::Fair).
    #[default]
    Fsp,
    /// By weighted virtual time alone: shares follow the weights within the bound, however long
    /// calls are.
    Fair,
    /// First come, first served.
    Fifo,
    /// Each process in its turn.
    RoundRobin,
    /// Strictly the more important process first. Whoever has waited
    /// [`aging`](PoolOptions::aging) goes next at least every other time, so nobody starves.
    Priority,
}

impl Order {
    /// Whether a long wait counts: where the order itself lets nobody starve, it would only undo
    /// the shares.
    pub(crate) const fn ages(self) -> bool {
        matches!(self, Self::Fsp | Self::Priority)
    }

    /// Whether ranks are virtual time, so that a window in units has a meaning.
    pub(crate) const fn is_virtual(self) -> bool {
        matches!(self, Self::Fsp | Self::Fair)
    }
}

/// How long a process goes on before its equals get their turn. It ends at the first of both
/// limits, and at once, between two steps, when a more important process of its group waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Steps in a row, at least 1.
    pub steps: u32,
    /// Time since the first of them began.
    pub time: Duration,
}

impl Default for Slice {
    /// One step: every step is a decision.
    fn default() -> Self {
        Self { steps: 1, time: Duration::MAX }
    }
}

/// How a pool is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// How many calls it takes at once, at least 1.
    pub slots: usize,
    /// The order of the processes inside a group.
    pub order: Order,
    /// After which wait a step goes next at least every other time, in orders that need it.
    pub aging: Duration,
    /// How long a process goes on before its equals.
    pub slice: Slice,
    /// How far in units a step with a warm cache or a deadline may run ahead of its turn, inside
    /// its group and where the order is [`Order::Fsp`] or [`Order::Fair`]; 0 turns both off.
    pub window: Units,
    /// The greatest charge of one call: the bounds rest on it. What claims to have used more is
    /// charged this much, and [`charge`](crate::Scheduler::charge) says so.
    pub greatest: Units,
}

impl PoolOptions {
    /// A pool of that many slots; 30 s of aging, one step a slice, no window, no greatest charge.
    #[must_use]
    pub const fn new(slots: usize) -> Self {
        Self {
            slots,
            order: Order::Fsp,
            aging: Duration::from_secs(30),
            slice: Slice { steps: 1, time: Duration::MAX },
            window: Units(0),
            greatest: Units(u64::MAX),
        }
    }
}
