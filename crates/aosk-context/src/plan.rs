//! Plans: the decision what the next prompt holds.

use aosk_abi::{Admission, Cause, PageId, Reasons, Tokens};

use crate::arrival::{Arrival, admit};
use crate::demand::Demand;
use crate::error::Error;
use crate::invariant::{Change, Violation};
use crate::page::Page;
use crate::policy::{Policy, View};
use crate::standing::{Leaving, Standings};
use crate::table::PageTable;
use crate::terms::Terms;

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
    /// How many gaps contents have of which parts have left.
    pub gaps: usize,
    /// Why pages leave, where some do.
    pub reasons: Option<Reasons>,
}

impl PageTable {
    /// Decides what the next prompt holds, where the endpoint's cache is warm and at usual prices:
    /// see [`PageTable::plan_under`].
    ///
    /// # Errors
    /// As [`PageTable::plan_under`].
    pub fn plan(
        &self,
        arrivals: &[Arrival],
        demand: &Demand,
        policy: &dyn Policy,
    ) -> Result<Plan, Error> {
        self.plan_under(arrivals, demand, policy, &Terms::default())
    }

    /// Decides what the next prompt holds: everything that stands in it and all `arrivals`, less
    /// the units that `policy` lets go of where that does not fit or the policy asks to be heard.
    /// Where what it leaves does not fit, the oldest units leave until it does. The same arguments
    /// give the same plan.
    ///
    /// Takes O(n log n) time in the pages of the prompt, however long the history is.
    ///
    /// # Errors
    /// [`Error::Overflow`] where what must stay exceeds the room; [`Error::Invariant`] for
    /// arrivals that contradict the table, such as a result of a call that has left.
    pub fn plan_under(
        &self,
        arrivals: &[Arrival],
        demand: &Demand,
        policy: &dyn Policy,
        terms: &Terms,
    ) -> Result<Plan, Error> {
        let admitted = admit(arrivals, self.pages().len()).ok_or(Violation::PageNumbersUsedUp)?;
        let mut plan = Plan {
            admitted,
            evicted: Vec::new(),
            generation: self.generation(),
            prompt_tokens: Tokens::ZERO,
            gaps: self.gaps(),
            reasons: None,
        };
        let mut total = demand.overhead + self.tokens();
        total += plan.admitted.iter().map(|page| page.tokens).sum();
        if !demand.admits(total) || policy.attends(total, demand.capacity(), terms) {
            total = self.evict(&mut plan, total, demand, policy, terms)?;
        }
        plan.prompt_tokens = total;
        plan.change(demand).check(self)?;
        Ok(plan)
    }

    /// The prompt as it will be once `plan` is applied, in order; credits are settled then.
    pub fn preview<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = Page> + Clone + 'a {
        self.resident()
            .filter(|page| plan.evicted.binary_search(&page.id).is_err())
            .copied()
            .chain(plan.admitted.iter().map(|page| self.admit(page)))
    }

    /// Makes units leave a prompt of that `size` and gives the size of what remains.
    fn evict(
        &self,
        plan: &mut Plan,
        size: Tokens,
        demand: &Demand,
        policy: &dyn Policy,
        terms: &Terms,
    ) -> Result<Tokens, Error> {
        let unanswered_from = plan.change(demand).unanswered_from(self);
        let coming: Vec<Page> = plan.admitted.iter().map(|page| self.admit(page)).collect();
        let standings = Standings::of(self, &coming, unanswered_from);
        let Standings { ref units, pinned, unanswered, .. } = standings;
        let fixed = demand.overhead + pinned + unanswered;
        if !demand.admits(fixed) {
            return Err(Error::Overflow(demand.overflow(pinned, unanswered)));
        }
        let view = View {
            units,
            size,
            fixed,
            pinned,
            capacity: demand.capacity(),
            now: self.turns(),
            tokens_per_turn: self.tokens_per_turn(),
            terms: *terms,
        };
        let mut leaving = Leaving::nothing(&standings, size);
        policy.evict(&view).into_iter().for_each(|index| leaving.leave(index, Cause::Scored));
        for index in 0..units.len() {
            if demand.admits(leaving.total) {
                break;
            }
            leaving.leave(index, Cause::Oldest);
        }
        plan.evicted = leaving.close_gaps(self, demand.gaps);
        let total = leaving.total;
        if !plan.evicted.is_empty() {
            plan.generation = self.generation().saturating_add(1);
            plan.gaps = self.gaps_after(&plan.evicted).count();
            plan.reasons = Some(leaving.reasons(policy, &view, demand.admits(size)));
        }
        Ok(total)
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
