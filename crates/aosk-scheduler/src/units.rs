//! Units: what calls are charged in.

/// What a call is estimated at or was charged: tokens, money or time of a pool's capacity. All
/// calls of one pool must be counted in the same unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Units(pub u64);

impl Units {
    /// What is charged for a call that is said to cost this much: at least 1. A call held a slot
    /// even where it used nothing, and a free call that is repeated for ever would starve
    /// everyone else.
    pub(crate) fn charged(self) -> u128 {
        self.0.max(1).into()
    }
}
