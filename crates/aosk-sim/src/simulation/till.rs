//! A till: what the kernel of one machine may spend, or all of them together, and what their calls
//! have cost.

use std::sync::{Mutex, PoisonError};

use aosk_abi::MicroDollars;
use aosk_ports::{CallError, Prices, Reply};

/// What a machine's kernel may spend; or, of a budget that is shared, all kernels in all their lives.
#[derive(Debug, Default)]
pub(super) struct Till {
    /// For all processes together.
    pub(super) limit: Option<MicroDollars>,
    /// For each process that has no limit of its own.
    pub(super) each: Option<MicroDollars>,
    spent: Mutex<MicroDollars>,
}

impl Till {
    pub(super) const fn new(limit: Option<MicroDollars>, each: Option<MicroDollars>) -> Self {
        Self { limit, each, spent: Mutex::new(MicroDollars::ZERO) }
    }

    /// A call of that ceiling leaves. The error is one that could pass the limit.
    pub(super) fn begin(&self, ceiling: MicroDollars) -> Result<(), String> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent += ceiling;
        match self.limit {
            Some(limit) if *spent > limit => {
                Err(format!("a call brings what is spent to {spent} of {limit}"))
            }
            _ => Ok(()),
        }
    }

    /// The call came to its end. This counts the least that a kernel has to count: one that is given
    /// up stays what it could cost, one that failed is nothing, and one whose endpoint claims more
    /// than it could cost is no more than that, since others may be on their way by then.
    pub(super) fn end(
        &self,
        ceiling: MicroDollars,
        prices: &Prices,
        answer: &Result<Reply, CallError>,
    ) {
        let cost = match answer {
            Ok(reply) => reply.usage.map_or(ceiling, |usage| prices.cost(&usage).min(ceiling)),
            Err(_) => MicroDollars::ZERO,
        };
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent = spent.saturating_sub(ceiling) + cost;
    }
}
