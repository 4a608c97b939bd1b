//! A flow: one process in one pool.

use crate::account::Account;
use crate::slab::NONE;
use crate::step::Step;

/// Its account outlives its waits, so that sleep sheds no debt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) account: Account,
    /// The process, among those of the scheduler.
    pub(crate) process: u32,
    /// Its group, among those of the pool.
    pub(crate) group: u32,
    pub(crate) priority: u8,
    /// What it waits for.
    pub(crate) step: Step,
    /// It stands in the queue of its group.
    pub(crate) waits: bool,
    /// It does not although it wants to: it stands at the gate of a quota of its kin.
    pub(crate) held: bool,
    /// Since when it stands in the queue, in nanoseconds.
    pub(crate) since: u64,
    /// Calls in flight.
    pub(crate) flying: u32,
    /// The first round in which it has its turn.
    pub(crate) round: u64,
    pub(crate) slice: Slice,
    /// Those who came before and after it.
    pub(crate) older: u32,
    pub(crate) younger: u32,
}

/// What is left of a slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) steps: u32,
    /// In nanoseconds.
    pub(crate) until: u64,
}

impl Flow {
    pub(crate) fn new(process: u32, group: u32, priority: u8, account: Account) -> Self {
        Self {
            account,
            process,
            group,
            priority,
            step: Step::default(),
            waits: false,
            held: false,
            since: 0,
            flying: 0,
            round: 0,
            slice: Slice::default(),
            older: NONE,
            younger: NONE,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.waits || self.flying > 0
    }

    /// Whether it may go on before its equals.
    pub(crate) const fn continues(&self, now: u64) -> bool {
        self.slice.steps > 0 && now < self.slice.until
    }
}
