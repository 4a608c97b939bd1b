//! What a process used and spent.

use std::collections::BTreeMap;

use aosk_abi::{MicroDollars, Op, Pid, Usage};
use serde::{Deserialize, Serialize};

/// Tokens and money of one process.
///
/// A call's ceiling is reserved before its first byte leaves and counts as spent until the call's
/// end is known. A call that a crash cut off is never known, so its reservation stays: a budget is
/// never overspent by losing count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Tokens of the calls that returned.
    pub usage: Usage,
    /// Money of the calls whose end is known.
    pub settled: MicroDollars,
    /// Ceilings of calls that were cut off.
    pub unreconciled: MicroDollars,
    /// Ceilings of calls in flight.
    pub reserved: BTreeMap<Op, MicroDollars>,
    /// What the process may spend.
    pub limit: Option<MicroDollars>,
    /// What children may spend out of the limit that have not ended, as far as is known here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub granted: BTreeMap<Pid, MicroDollars>,
}

impl Account {
    /// Everything that counts against the limit, also what children spend of it.
    #[must_use]
    pub fn spent(&self) -> MicroDollars {
        let reserved = self.reserved.values().chain(self.granted.values());
        self.settled + self.unreconciled + reserved.copied().sum()
    }

    /// What is left of the limit; `None` where none holds. `otherwise` is as in
    /// [`exceeds`](Self::exceeds).
    #[must_use]
    pub fn left(&self, otherwise: Option<MicroDollars>) -> Option<MicroDollars> {
        let limit = self.limit.or(otherwise)?;
        Some(MicroDollars(limit.0.saturating_sub(self.spent().0)))
    }

    /// A child may spend that much of it.
    pub(super) fn grant(&mut self, child: Pid, granted: Option<MicroDollars>) {
        self.granted.extend(granted.map(|granted| (child, granted)));
    }

    /// A child has ended and spent that much.
    pub(super) fn reclaim(&mut self, child: Pid, spent: MicroDollars) {
        self.granted.remove(&child);
        self.settled += spent;
    }

    /// The limit that does not cover a call of that ceiling. `otherwise` is the limit of a process
    /// that has none of its own.
    #[must_use]
    pub fn exceeds(
        &self,
        needed: MicroDollars,
        otherwise: Option<MicroDollars>,
    ) -> Option<MicroDollars> {
        self.limit.or(otherwise).filter(|&limit| self.spent() + needed > limit)
    }

    pub(super) fn reserve(&mut self, op: Op, ceiling: MicroDollars) {
        if let Some(lost) = self.reserved.insert(op, ceiling) {
            self.unreconciled += lost;
        }
    }

    pub(super) fn settle(&mut self, op: Op, cost: MicroDollars) {
        self.reserved.remove(&op);
        self.settled += cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_at_and_above() {
        let mut account = Account { limit: Some(MicroDollars(100)), ..Account::default() };
        account.settle(Op(0), MicroDollars(60));
        let (limit, other) = (Some(MicroDollars(100)), Some(MicroDollars(90)));
        for (needed, exceeded) in [(39, None), (40, None), (41, limit)] {
            assert_eq!(account.exceeds(MicroDollars(needed), other), exceeded);
        }
        account.limit = None;
        for (needed, exceeded) in [(29, None), (30, None), (31, other)] {
            assert_eq!(account.exceeds(MicroDollars(needed), other), exceeded);
        }
        assert_eq!(account.exceeds(MicroDollars(1_000_000), None), None);
    }

    #[test]
    fn a_call_that_was_cut_off_stays_spent() {
        let mut account = Account::default();
        account.reserve(Op(1), MicroDollars(50));
        account.reserve(Op(1), MicroDollars(50));
        assert_eq!(account.spent(), MicroDollars(100));
        account.settle(Op(1), MicroDollars(7));
        assert_eq!(account.spent(), MicroDollars(57));
    }
}
