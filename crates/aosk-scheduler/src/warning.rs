//! Warnings that a budget is nearly spent.

use std::time::Duration;

use aosk_abi::MicroDollars;

use crate::registry::Owner;

/// So much of a budget is spent or reserved: 80 or 95 percent, each told once in a window, and not
/// again for what was spent of the window before this scheduler saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning<K> {
    /// Whose budget.
    pub owner: Owner<K>,
    /// The process whose call passed the share.
    pub by: K,
    /// The share that was passed, in percent.
    pub percent: u8,
    /// The whole budget.
    pub limit: MicroDollars,
    /// When there is all of it again, on the clock of [`pick`](crate::Scheduler::pick); `None`:
    /// never by itself.
    pub until: Option<Duration>,
}
