//! Plans: the decision what the next prompt holds.

use std::collections::BTreeMap;

use aosk_abi::{Admission, PageId, PageKind, Seq, Tokens};

use crate::arrival::{Arrival, admit};
use crate::demand::Demand;
use crate::error::Error;
use crate::invariant::{Change, Violation};
use crate::page::Page;
use crate::policy::{Policy, Unit, View};
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
}

/// A unit of the prompt as it would be if nothing left, and what holds it there.
struct Standing {
    unit: Unit,
    pinned: bool,
    unanswered: bool,
}

/// What may leave a prompt, and the size of what may not.
struct Standings {
    units: Vec<Unit>,
    pinned: Tokens,
    unanswered: Tokens,
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
        };
        let mut total = demand.overhead + self.tokens();
        total += plan.admitted.iter().map(|page| page.tokens).sum();
        if !demand.admits(total) || policy.attends(total, demand.capacity(), terms) {
            total = self.evict(&mut plan, demand, policy, terms)?;
        }
        plan.prompt_tokens = total;
        plan.change(demand).check(self)?;
        Ok(plan)
    }

    /// The prompt as it will be once `plan` is applied, in order; credits are settled then.
    pub fn preview<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = Page> + 'a {
        self.resident()
            .filter(|page| plan.evicted.binary_search(&page.id).is_err())
            .copied()
            .chain(plan.admitted.iter().map(|page| self.admit(page)))
    }

    /// Makes units leave and gives the size of the prompt that remains.
    fn evict(
        &self,
        plan: &mut Plan,
        demand: &Demand,
        policy: &dyn Policy,
        terms: &Terms,
    ) -> Result<Tokens, Error> {
        let Standings { units, pinned, unanswered } = self.standings(plan, demand);
        let fixed = demand.overhead + pinned + unanswered;
        if !demand.admits(fixed) {
            return Err(Error::Overflow(demand.overflow(pinned, unanswered)));
        }
        let view = View {
            units: &units,
            fixed,
            pinned,
            capacity: demand.capacity(),
            now: self.turns(),
            tokens_per_turn: self.tokens_per_turn(),
            terms: *terms,
        };
        let mut total = view.size();
        let mut leaves = vec![false; units.len()];
        let mut leave = |index: usize, total: &mut Tokens| {
            // An index that names no unit is a policy's fault and lets nothing go.
            if let Some((leaves, unit)) = leaves.get_mut(index).zip(units.get(index))
                && !std::mem::replace(leaves, true)
            {
                *total = total.saturating_sub(unit.tokens);
            }
        };
        policy.evict(&view).into_iter().for_each(|index| leave(index, &mut total));
        for index in 0..units.len() {
            if demand.admits(total) {
                break;
            }
            leave(index, &mut total);
        }
        let mut leaving: Vec<Seq> = units
            .iter()
            .zip(leaves)
            .filter(|(_, leaves)| *leaves)
            .map(|(unit, _)| unit.id)
            .collect();
        leaving.sort_unstable();
        plan.evicted = self
            .resident()
            .filter(|page| leaving.binary_search(&page.unit).is_ok())
            .map(|page| page.id)
            .collect();
        if !plan.evicted.is_empty() {
            plan.generation = self.generation().saturating_add(1);
        }
        Ok(total)
    }

    fn standings(&self, plan: &Plan, demand: &Demand) -> Standings {
        let unanswered_from = plan.change(demand).unanswered_from(self);
        let mut units: BTreeMap<Seq, Standing> = BTreeMap::new();
        for page in self.preview(plan) {
            let standing = units.entry(page.unit).or_insert(Standing {
                unit: Unit::of(&page),
                pinned: false,
                unanswered: false,
            });
            standing.unit.join(&page);
            standing.pinned |= page.pinned;
            standing.unanswered |= page.id.0 >= unanswered_from;
        }
        let mut standings =
            Standings { units: Vec::new(), pinned: Tokens::ZERO, unanswered: Tokens::ZERO };
        for Standing { unit, pinned, unanswered } in units.into_values() {
            if pinned {
                standings.pinned += unit.tokens;
            } else if unanswered {
                standings.unanswered += unit.tokens;
            } else {
                standings.units.push(unit);
            }
        }
        standings.units.sort_unstable_by_key(|unit| unit.first);
        standings
    }
}

impl Unit {
    /// The unit that begins with `page`, without its pages yet.
    const fn of(page: &Page) -> Self {
        Self {
            id: page.unit,
            first: page.id,
            tokens: Tokens::ZERO,
            importance: page.importance,
            tool_result: false,
            born: page.born,
            accesses: 0,
            last_access: page.last_access,
            credit: page.credit,
        }
    }

    fn join(&mut self, page: &Page) {
        self.tokens += page.tokens;
        self.importance = self.importance.max(page.importance);
        self.tool_result |= page.kind == PageKind::ToolResult;
        self.born = self.born.max(page.born);
        self.accesses = self.accesses.saturating_add(page.accesses);
        self.last_access = self.last_access.max(page.last_access);
        self.credit = self.credit.max(page.credit);
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
