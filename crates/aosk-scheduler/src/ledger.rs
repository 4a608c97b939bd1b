//! A budget that survives crashes: money is carved from it in durable slices.
//!
//! A budget of a day cannot live in memory: a crash would give it back. Writing every reservation
//! down would cost a commit a call. So a slice is carved from the budget, written down once, and
//! calls are paid from it in memory. After a crash everything carved counts as spent until the
//! journal says what was not: what is lost count of is at most the slices, and never spent twice.
//! With slices of a hundred calls that is one commit in a hundred calls.
//!
//! The order is the caller's to keep: [`reserve`](Ledger::reserve) asks for a slice, the caller
//! makes it durable, [`carve`](Ledger::carve) counts it, and only then the reservation succeeds.

use aosk_abi::MicroDollars;

/// Why there is no money for a call yet, or at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMoney {
    /// A slice must be carved first.
    #[error("carve {0} durably, tell the ledger, then reserve again")]
    Carve(MicroDollars),
    /// The budget has less left than is asked for.
    #[error(
        "{asked} is asked for and {left} is left of the budget: raise it, or wait for the next"
    )]
    Spent {
        /// What is asked for.
        asked: MicroDollars,
        /// What is neither spent nor reserved.
        left: MicroDollars,
    },
}

/// What is carved, spent and reserved of one budget.
///
/// At every moment *spent + reserved ≤ carved ≤ limit*, but for calls that used more than they had
/// reserved: those are debts, paid from the next slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    limit: u64,
    slice: u64,
    carved: u64,
    spent: u64,
    reserved: u64,
}

impl Ledger {
    /// A budget of which `carved` is written down as carved by whoever had it before: all of that
    /// counts as spent. Slices are of `slice`, or of what a call needs or the budget has left.
    #[must_use]
    pub const fn new(limit: MicroDollars, slice: MicroDollars, carved: MicroDollars) -> Self {
        Self { limit: limit.0, slice: slice.0, carved: carved.0, spent: carved.0, reserved: 0 }
    }

    /// Reserves money for a call.
    ///
    /// # Errors
    /// [`NoMoney::Carve`] with the slice that must be durable first; [`NoMoney::Spent`].
    pub fn reserve(&mut self, amount: MicroDollars) -> Result<(), NoMoney> {
        let needed = self.spent.saturating_add(self.reserved).saturating_add(amount.0);
        if needed <= self.carved {
            self.reserved += amount.0;
            return Ok(());
        }
        if needed > self.limit {
            let left = self.limit.saturating_sub(self.spent.saturating_add(self.reserved));
            return Err(NoMoney::Spent { asked: amount, left: MicroDollars(left) });
        }
        let slice = self.slice.max(needed - self.carved).min(self.limit - self.carved);
        Err(NoMoney::Carve(MicroDollars(slice)))
    }

    /// A slice is durable now.
    ///
    /// # Errors
    /// [`NoMoney::Spent`] where the budget has less that is not carved: nothing changes.
    pub fn carve(&mut self, slice: MicroDollars) -> Result<(), NoMoney> {
        let left = self.limit.saturating_sub(self.carved);
        if slice.0 > left {
            return Err(NoMoney::Spent { asked: slice, left: MicroDollars(left) });
        }
        self.carved += slice.0;
        Ok(())
    }

    /// A call that had reserved `reserved` cost `used`.
    pub fn settle(&mut self, reserved: MicroDollars, used: MicroDollars) {
        self.reserved = self.reserved.saturating_sub(reserved.0);
        self.spent = self.spent.saturating_add(used.0);
        // A debt: the money is gone, carved or not.
        self.carved = self.carved.max(self.spent.saturating_add(self.reserved));
    }

    /// The journal shows that so much of what counts as spent was not.
    pub fn found(&mut self, unspent: MicroDollars) {
        self.spent = self.spent.saturating_sub(unspent.0);
    }

    /// Another limit from now on; one below what is carved lets nothing more through.
    pub const fn raise(&mut self, limit: MicroDollars) {
        self.limit = limit.0;
    }

    /// What was carved and is neither spent nor reserved: to be written down as given back, then
    /// it is. What is reserved stays.
    #[must_use]
    pub const fn give_back(&mut self) -> MicroDollars {
        let kept = self.spent.saturating_add(self.reserved);
        let back = self.carved.saturating_sub(kept);
        self.carved -= back;
        MicroDollars(back)
    }

    /// Neither spent nor reserved, carved or not.
    #[must_use]
    pub const fn left(&self) -> MicroDollars {
        MicroDollars(self.limit.saturating_sub(self.spent.saturating_add(self.reserved)))
    }

    /// Reserved for calls in flight.
    #[must_use]
    pub const fn reserved(&self) -> MicroDollars {
        MicroDollars(self.reserved)
    }

    /// Written down as carved: what a crash now would count as spent.
    #[must_use]
    pub const fn carved(&self) -> MicroDollars {
        MicroDollars(self.carved)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CENT: MicroDollars = MicroDollars(10_000);

    /// Reserves as a caller does, whose slices are durable at once.
    fn reserve(ledger: &mut Ledger, amount: MicroDollars) -> bool {
        match ledger.reserve(amount) {
            Ok(()) => true,
            Err(NoMoney::Spent { .. }) => false,
            Err(NoMoney::Carve(slice)) => {
                ledger.carve(slice).expect("it was asked for");
                ledger.reserve(amount).is_ok()
            }
        }
    }

    #[test]
    fn forty_calls_of_a_cent_at_once_on_two_cents_are_two() {
        for slice in [0, 1, 10_000, 15_000, 1_000_000] {
            let mut ledger =
                Ledger::new(MicroDollars(20_000), MicroDollars(slice), MicroDollars::ZERO);
            assert_eq!((0..40).filter(|_| reserve(&mut ledger, CENT)).count(), 2, "{slice}");
        }
    }

    #[test]
    fn what_was_carved_before_a_crash_is_spent_until_it_is_found() {
        let mut ledger = Ledger::new(MicroDollars(50_000), CENT, MicroDollars(40_000));
        assert!(reserve(&mut ledger, CENT));
        let left = MicroDollars::ZERO;
        assert_eq!(ledger.reserve(CENT), Err(NoMoney::Spent { asked: CENT, left }));
        ledger.found(MicroDollars(20_000));
        assert!(reserve(&mut ledger, CENT));
        ledger.settle(CENT, CENT);
        assert_eq!(ledger.give_back(), CENT);
        assert_eq!(ledger.carved(), MicroDollars(40_000));
        assert_eq!(ledger.reserved(), CENT);
    }

    proptest! {
        #[test]
        fn nothing_is_spent_that_is_not_carved_and_nothing_carved_above_the_limit(
            limit in 1..1_000_u64,
            slice in 0..100_u64,
            calls in prop::collection::vec((0..200_u64, 0..200_u64, any::<bool>()), 1..100)
        ) {
            let mut ledger =
                Ledger::new(MicroDollars(limit), MicroDollars(slice), MicroDollars::ZERO);
            let (mut open, mut paid) = (Vec::new(), 0);
            for (most, used, ends) in calls {
                let most = MicroDollars(most);
                if reserve(&mut ledger, most) {
                    open.push((most, MicroDollars(used).min(most)));
                }
                if ends && let Some((most, used)) = open.pop() {
                    ledger.settle(most, used);
                    paid += used.0;
                }
                let held: u64 = open.iter().map(|call| call.0.0).sum();
                prop_assert!(paid + held <= ledger.carved().0 && ledger.carved().0 <= limit);
            }
            for (most, used) in open {
                ledger.settle(most, used);
            }
            prop_assert_eq!(ledger.reserved(), MicroDollars::ZERO);
        }
    }
}
