//! Money, counted from the events a second time and in another way than the kernel counts it.

use std::collections::BTreeMap;

use aosk_abi::{MicroDollars, Op, Pid, What};

/// What one process has spent and may spend.
#[derive(Debug, Default)]
pub(super) struct Purse {
    settled: MicroDollars,
    /// Reservations of calls whose end will never be known.
    lost: MicroDollars,
    open: BTreeMap<Op, MicroDollars>,
    /// What children may spend that have not ended, as far as is known here.
    granted: BTreeMap<Pid, MicroDollars>,
    limit: Option<MicroDollars>,
}

impl Purse {
    /// The purse of a process that may spend that much.
    pub(super) fn new(limit: Option<MicroDollars>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Takes an event in. The error is a call that was begun beyond the limit.
    pub(super) fn hear(&mut self, what: &What) -> Result<(), String> {
        match what {
            What::SpendRaised(raised) => self.limit = Some(raised.limit),
            What::LlmRequested(asked) => {
                self.lost += self.open.insert(asked.op, asked.reserved).unwrap_or_default();
                if let Some(limit) = self.limit
                    && self.spent() > limit
                {
                    let spent = self.spent();
                    return Err(format!("the call {} brings {spent} of {limit}", asked.op));
                }
            }
            What::ChildBegun(begun) => {
                self.granted.extend(begun.granted.map(|granted| (begun.child, granted)));
            }
            What::ChildEnded(ended) => {
                self.granted.remove(&ended.child);
                self.settled += ended.spent;
            }
            What::LlmReturned(reply) => self.settle(reply.op, reply.cost),
            What::LlmFailed(failed) => self.settle(failed.op, failed.cost),
            _ => {}
        }
        Ok(())
    }

    fn settle(&mut self, op: Op, cost: MicroDollars) {
        self.open.remove(&op);
        self.settled += cost;
    }

    /// It had ended and goes on: what was left of its parent's money went back with its end.
    pub(super) fn give_back(&mut self) {
        self.limit = self.limit.map(|_| self.spent());
    }

    /// What is reserved for the newest call that is under way.
    pub(super) fn reserved(&self) -> MicroDollars {
        self.open.values().next_back().copied().unwrap_or_default()
    }

    /// What is reserved for a call.
    pub(super) fn reserved_for(&self, op: Op) -> MicroDollars {
        self.open.get(&op).copied().unwrap_or_default()
    }

    /// What the process may spend, if anybody said.
    pub(super) const fn limit(&self) -> Option<MicroDollars> {
        self.limit
    }

    /// Everything that counts as spent.
    pub(super) fn spent(&self) -> MicroDollars {
        let open = self.open.values().chain(self.granted.values());
        self.settled + self.lost + open.copied().sum()
    }
}
