//! Warnings that a budget is nearly spent.

use crate::registry::Owner;

/// So much of a budget is spent or reserved: 80 or 95 percent, each told once in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning<K> {
    /// Whose budget.
    pub owner: Owner<K>,
    /// The share that was passed, in percent.
    pub percent: u8,
}
