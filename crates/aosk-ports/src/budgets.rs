//! Budgets: money that is carved before it is spent.
//!
//! A budget of a day must outlive a crash, and several kernels may draw on one. So each kernel draws
//! a share of it that is its own, durably, and pays its calls from that in memory. What it has drawn
//! is one number a drawer, set and not added to: a kernel that has no answer says the same again,
//! and nothing is drawn or given back twice.

use aosk_abi::{MicroDollars, Tenant, Timestamp};
use futures::future::BoxFuture;

use crate::store::StoreError;

/// What a drawer wants to have drawn of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// Whose budget.
    pub tenant: Tenant,
    /// Which: a name of at most 400 bytes, without NUL.
    pub budget: String,
    /// When its window began; windows of one budget come one after the other.
    pub window: Timestamp,
    /// Who draws: a number that no other kernel has, and no other life of this one.
    pub drawer: u64,
    /// What it has drawn in all, from now on.
    pub drawn: MicroDollars,
    /// What may be drawn by all together.
    pub limit: MicroDollars,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Whether it has drawn that now; if not, it has what it had.
    pub granted: bool,
    /// What others have drawn in this window.
    pub others: MicroDollars,
}

/// The ledger of budgets.
pub trait Budgets: Send + Sync {
    /// Sets what a drawer has drawn of a budget, durably, unless that is more than it had and above
    /// the limit together with what others have drawn. Of two that draw at once the second sees the
    /// first. What was drawn in earlier windows of the budget may be forgotten with it.
    fn draw(&self, draw: Draw) -> BoxFuture<'_, Result<Drawn, StoreError>>;
}
