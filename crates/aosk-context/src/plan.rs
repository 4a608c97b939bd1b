//! Plans: the decision what the next prompt holds.

use std::collections::{BTreeMap, BTreeSet};

use aosk_abi::{Admission, PageId, Seq, Tokens};

use crate::arrival::{Arrival, admit};
use crate::demand::Demand;
use crate::error::Error;
use crate::invariant::{Change, Violation};
use crate::page::Page;
use crate::policy::{Policy, Unit};
use crate::table::PageTable;

/// What the next prompt holds, as a difference to the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a plan changes nothing until its event is applied"]
pub struct Plan {
    /// New pages, in prompt order.
    pub admitted: Vec<Admission>,
    /// Pages that leave, in prompt order.
    pub evicted: Vec<PageId>,
    /// The table's generation, or the next one where pages leave.
    pub generation: u64,
    /// The size of the prompt as counted: pages and overhead.
    pub prompt_tokens: Tokens,
}

/// A unit of the prompt as it would be if nothing left, and what holds it there.
struct Standing {
    unit: Unit,
    pinned: bool,
    unanswered: bool,
}

impl PageTable {
    /// Decides what the next prompt holds: everything that stands in it and all `arrivals`, if
    /// that fits. Only if it does not, units leave in the order of `policy`, until the prompt
    /// fills 85 % of the room or nothing more may leave. The same arguments give the same plan.
    ///
    /// Takes O(n log n) time in the pages of the prompt, however long the history is.
    ///
    /// # Errors
    /// [`Error::Overflow`] where what must stay exceeds the room; [`Error::Invariant`] for
    /// arrivals that contradict the table, such as a result of a call that has left.
    pub fn plan(
        &self,
        arrivals: &[Arrival],
        demand: &Demand,
        policy: &dyn Policy,
    ) -> Result<Plan, Error> {
        let admitted = admit(arrivals, self.pages().len()).ok_or(Violation::PageNumbersUsedUp)?;
        let mut plan = Plan {
            admitted,
            evicted: Vec::new(),
            generation: self.generation(),
            prompt_tokens: Tokens::ZERO,
        };
        let mut total = demand.overhead + self.tokens();
        total += plan.admitted.iter().map(|page| page.tokens).sum();
        if !demand.admits(total) {
            total = self.evict(&mut plan, demand, policy)?;
        }
        plan.prompt_tokens = total;
        plan.change(demand).check(self)?;
        Ok(plan)
    }

    /// The prompt as it will be once `plan` is applied, in order.
    pub fn preview<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = Page> + 'a {
        self.resident()
            .filter(|page| plan.evicted.binary_search(&page.id).is_err())
            .copied()
            .chain(plan.admitted.iter().map(Page::from))
    }

    /// Makes units leave and gives the size of the prompt that remains.
    fn evict(
        &self,
        plan: &mut Plan,
        demand: &Demand,
        policy: &dyn Policy,
    ) -> Result<Tokens, Error> {
        let (mut pinned, mut unanswered) = (Tokens::ZERO, Tokens::ZERO);
        let mut candidates = Vec::new();
        for standing in self.standings(plan, demand) {
            let tokens = standing.unit.tokens;
            if standing.pinned {
                pinned += tokens;
            } else if standing.unanswered {
                unanswered += tokens;
            } else {
                candidates.push(standing.unit);
            }
        }
        let fixed = demand.overhead + pinned + unanswered;
        if !demand.admits(fixed) {
            return Err(Error::Overflow(demand.overflow(pinned, unanswered)));
        }
        candidates.sort_by_cached_key(|unit| (policy.worth(unit), unit.first));
        let mut total = candidates.iter().fold(fixed, |sum, unit| sum + unit.tokens);
        let mut leaving = BTreeSet::new();
        for unit in candidates {
            if total <= demand.low_water() {
                break;
            }
            total = total.saturating_sub(unit.tokens);
            leaving.insert(unit.id);
        }
        plan.evicted = self
            .resident()
            .filter(|page| leaving.contains(&page.unit))
            .map(|page| page.id)
            .collect();
        plan.generation = self.generation().saturating_add(1);
        Ok(total)
    }

    fn standings(&self, plan: &Plan, demand: &Demand) -> impl Iterator<Item = Standing> {
        let unanswered_from = plan.change(demand).unanswered_from(self);
        let mut units: BTreeMap<Seq, Standing> = BTreeMap::new();
        for page in self.preview(plan) {
            let standing = units.entry(page.unit).or_insert(Standing {
                unit: Unit {
                    id: page.unit,
                    first: page.id,
                    tokens: Tokens::ZERO,
                    importance: page.importance,
                },
                pinned: false,
                unanswered: false,
            });
            standing.unit.tokens += page.tokens;
            standing.unit.importance = standing.unit.importance.max(page.importance);
            standing.pinned |= page.pinned;
            standing.unanswered |= page.id.0 >= unanswered_from;
        }
        units.into_values()
    }
}

impl Plan {
    fn change(&self, demand: &Demand) -> Change<'_> {
        Change {
            admitted: &self.admitted,
            evicted: &self.evicted,
            generation: self.generation,
            prompt_tokens: self.prompt_tokens,
            max_output: demand.max_output,
            window: demand.window,
        }
    }
}
