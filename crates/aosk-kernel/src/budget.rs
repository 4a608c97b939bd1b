//! The spend cap of a whole kernel run.
//!
//! It stands beside the limits of single processes so that a folder of agents started by mistake
//! cannot cost more than one number. It lives in memory: each process's own account is durable.

use std::sync::Mutex;

use aosk_abi::MicroDollars;

/// Money that all processes of a run share.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: Option<MicroDollars>,
    spent: Mutex<MicroDollars>,
}

/// The cap does not cover a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) limit: MicroDollars,
    pub(crate) spent: MicroDollars,
}

impl Budget {
    pub(crate) fn new(limit: Option<MicroDollars>) -> Self {
        Self { limit, spent: Mutex::new(MicroDollars::ZERO) }
    }

    /// Takes the call's ceiling out of the budget, or says why not.
    pub(crate) fn reserve(&self, ceiling: MicroDollars) -> Result<(), Exhausted> {
        let mut spent = self.lock();
        match self.limit {
            Some(limit) if *spent + ceiling > limit => Err(Exhausted { limit, spent: *spent }),
            _ => {
                *spent += ceiling;
                Ok(())
            }
        }
    }

    /// Replaces a reserved ceiling by what the call really cost.
    pub(crate) fn settle(&self, ceiling: MicroDollars, cost: MicroDollars) {
        let mut spent = self.lock();
        *spent = spent.saturating_sub(ceiling) + cost;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MicroDollars> {
        self.spent.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_calls_never_pass_the_cap() {
        let budget = Budget::new(Some(MicroDollars(20_000)));
        let granted = (0..40).filter(|_| budget.reserve(MicroDollars(10_000)).is_ok()).count();
        assert_eq!(granted, 2);
        budget.settle(MicroDollars(10_000), MicroDollars(1));
        assert_eq!(
            budget.reserve(MicroDollars(10_000)),
            Err(Exhausted { limit: MicroDollars(20_000), spent: MicroDollars(10_001) })
        );
        assert!(budget.reserve(MicroDollars(9_999)).is_ok());
    }
}
