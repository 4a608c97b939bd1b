//! The invariants of the page table, in one place.
//!
//! A plan is checked before it is given out, and checked again by the same code when its event is
//! folded. A check costs time in proportion to what changes or, where pages came late to their units,
//! to the prompt, and never to the history: what left the prompt cannot break an invariant again,
//! because numbers of pages and of units only grow.

use std::cell::LazyCell;

use aosk_abi::{Admission, PageId, Ppm, Seq, Tokens};

use crate::ascent::Ascent;
use crate::page::{follows, in_head, is_part, is_turn, place};
use crate::table::PageTable;

/// How a plan contradicts the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Page numbers are given in order of admission, without a gap.
    #[error("page {found} is admitted where page {expected} is next")]
    PageNumber {
        /// The number in the plan.
        found: PageId,
        /// The number of pages so far.
        expected: usize,
    },
    /// A process can have 2^32 pages.
    #[error("the process has used up the numbers of its pages")]
    PageNumbersUsedUp,
    /// A share above the whole.
    #[error("page {page} has an importance of {} millionths: at most 1000000 is allowed", found.0)]
    Importance {
        /// The page.
        page: PageId,
        /// Its importance.
        found: Ppm,
    },
    /// System, tools and task are pinned.
    #[error("page {0} belongs to the head but is not pinned")]
    HeadNotPinned(PageId),
    /// System, tools and task come before everything else.
    #[error("page {0} belongs to the head but stands behind pages of the log")]
    HeadNotFirst(PageId),
    /// A page joins a unit that stands in the prompt or begins one newer than all before.
    #[error("page {page} joins unit {unit}, which does not stand in the prompt and is not new")]
    UnitGone {
        /// The page.
        page: PageId,
        /// Its unit.
        unit: Seq,
    },
    /// A part of a content stands behind the part before it.
    #[error("page {0} is a part of a content and does not follow the part before it")]
    PartAlone(PageId),
    /// A unit stays or leaves as a whole, but for parts of contents, which may leave before it.
    #[error("unit {unit} is torn apart: page {page} stays while others leave")]
    UnitTorn {
        /// The unit.
        unit: Seq,
        /// A page of it that stays.
        page: PageId,
    },
    /// Only what stands in the prompt can leave it.
    #[error("page {0} leaves the prompt but does not stand in it")]
    NotResident(PageId),
    /// Pages leave in prompt order, each once.
    #[error("page {0} leaves the prompt out of order or twice")]
    EvictedOrder(PageId),
    /// Pinned pages never leave.
    #[error("page {0} is pinned but leaves the prompt")]
    PinnedLeaves(PageId),
    /// What the model has not answered never leaves.
    #[error("page {0} leaves the prompt before the model has answered it")]
    UnansweredLeaves(PageId),
    /// A generation ends when pages leave, and only then.
    #[error("the plan is of generation {found} where {expected} is due")]
    Generation {
        /// The number in the plan.
        found: u64,
        /// The number that is due.
        expected: u64,
    },
    /// The pages of the prompt are part of the prompt.
    #[error("the pages have {pages} tokens, the whole prompt only {prompt}")]
    PromptSmaller {
        /// The sum over the pages.
        pages: u128,
        /// The size of the prompt.
        prompt: Tokens,
    },
    /// Prompt and reply fit into the window.
    #[error(
        "a prompt of {prompt} tokens and a reply of {max_output} exceed the window of {window}"
    )]
    OverWindow {
        /// The size of the prompt.
        prompt: Tokens,
        /// The room kept for the reply.
        max_output: Tokens,
        /// The window.
        window: Tokens,
    },
}

/// The parts of a plan that can contradict a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) admitted: &'a [Admission],
    pub(crate) evicted: &'a [PageId],
    pub(crate) generation: u64,
    pub(crate) prompt_tokens: Tokens,
    pub(crate) max_output: Tokens,
    pub(crate) window: Tokens,
}

impl Change<'_> {
    pub(crate) fn check(&self, table: &PageTable) -> Result<(), Violation> {
        self.check_admitted(table)?;
        self.check_evicted(table)?;
        self.check_sizes(table)
    }

    fn check_admitted(&self, table: &PageTable) -> Result<(), Violation> {
        // Sorted, and not a tree: units come nearly in order, and there may be ten thousand. Few
        // plans need them: most pages begin a unit or join one of the same plan, and those of most
        // tables stand in their order.
        let resident_units = LazyCell::new(|| {
            let mut units: Vec<Seq> = table.resident().map(|page| page.unit).collect();
            units.sort_unstable();
            units
        });
        let stands = |unit: Seq| {
            if table.units().is_none() {
                return resident_units.binary_search(&unit).is_ok();
            }
            let of = |id: &PageId| table.page(*id).map(|page| page.unit);
            table.resident_ids().binary_search_by_key(&Some(unit), of).is_ok()
        };
        let mut before = None;
        let mut log_begun = table.pages().last().is_some_and(|page| !page.in_head());
        for (admission, expected) in self.admitted.iter().zip(table.pages().len()..) {
            let page = admission.page;
            if page.0 as usize != expected {
                return Err(Violation::PageNumber { found: page, expected });
            }
            check_page(page, admission.importance, in_head(admission.kind), admission.pinned)?;
            if in_head(admission.kind) && log_begun {
                return Err(Violation::HeadNotFirst(page));
            }
            log_begun |= !in_head(admission.kind);
            let place = place(admission);
            if is_part(place) && !before.is_some_and(|before| follows(before, place)) {
                return Err(Violation::PartAlone(page));
            }
            before = Some(place);
            let unit = admission.unit;
            let is_new = table.newest_unit().is_none_or(|newest| unit > newest);
            if !is_new && !stands(unit) {
                return Err(Violation::UnitGone { page, unit });
            }
        }
        Ok(())
    }

    fn check_evicted(&self, table: &PageTable) -> Result<(), Violation> {
        let expected = table.generation().saturating_add(u64::from(!self.evicted.is_empty()));
        if self.generation != expected {
            return Err(Violation::Generation { found: self.generation, expected });
        }
        if let Some(pair) = self.evicted.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(Violation::EvictedOrder(pair[1]));
        }
        let unanswered = self.unanswered_from(table);
        let mut leaving = Vec::with_capacity(self.evicted.len());
        for &id in self.evicted {
            let page =
                table.page(id).filter(|page| page.resident).ok_or(Violation::NotResident(id))?;
            if page.pinned {
                return Err(Violation::PinnedLeaves(id));
            }
            if id.0 >= unanswered {
                return Err(Violation::UnansweredLeaves(id));
            }
            if !page.is_part() {
                leaving.push(page.unit);
            }
        }
        if leaving.is_empty() {
            return Ok(());
        }
        leaving.sort_unstable();
        let mut comes = self.admitted.iter().map(|admission| (admission.unit, admission.page));
        let stays = if table.units().is_none() || self.parts_neighbours(table, &leaving) {
            let (mut evicted, mut leaving) = (Ascent::of(self.evicted), Ascent::of(&leaving));
            table
                .resident()
                .filter(|page| !evicted.has(&page.id))
                .find(|page| leaving.has(&page.unit))
                .map(|page| (page.unit, page.id))
        } else {
            None
        };
        match stays.or_else(|| comes.find(|(unit, _)| leaving.binary_search(unit).is_ok())) {
            Some((unit, page)) => Err(Violation::UnitTorn { unit, page }),
            None => Ok(()),
        }
    }

    /// Whether a page stays that stands beside one that leaves and is of a unit of `leaving`, which
    /// ascend. Where units stand side by side, this tells whether one is torn apart, and takes time
    /// in proportion to what leaves and not to what stays.
    fn parts_neighbours(&self, table: &PageTable, leaving: &[Seq]) -> bool {
        let resident = table.resident_ids();
        let (mut places, mut leaving) = (Ascent::of(resident), Ascent::of(leaving));
        let mut torn = |neighbour: Option<&PageId>, evicted: Option<&PageId>| {
            let stays = neighbour.filter(|id| evicted != Some(*id));
            stays.and_then(|id| table.page(*id)).is_some_and(|page| leaving.has(&page.unit))
        };
        self.evicted.iter().enumerate().any(|(nth, id)| {
            // A neighbour that leaves, too, is the next among those that leave.
            places.place(id).is_some_and(|place| {
                torn(resident[..place].last(), self.evicted[..nth].last())
                    || torn(resident.get(place + 1), self.evicted.get(nth + 1))
            })
        })
    }

    fn check_sizes(&self, table: &PageTable) -> Result<(), Violation> {
        let (prompt, max_output, window) = (self.prompt_tokens, self.max_output, self.window);
        // The table's own sum was at most a `Tokens` and holds each page that leaves.
        let leave: u128 = self
            .evicted
            .iter()
            .filter_map(|&id| table.page(id))
            .map(|page| u128::from(page.tokens.0))
            .sum();
        let come: u128 = self.admitted.iter().map(|page| u128::from(page.tokens.0)).sum();
        let pages = u128::from(table.tokens().0) + come - leave;
        if pages > u128::from(prompt.0) {
            return Err(Violation::PromptSmaller { pages, prompt });
        }
        match prompt.0.checked_add(max_output.0) {
            Some(both) if both <= window.0 => Ok(()),
            _ => Err(Violation::OverWindow { prompt, max_output, window }),
        }
    }

    /// The first page that the model has not answered: where it took a turn, everything before
    /// this plan is answered.
    pub(crate) fn unanswered_from(&self, table: &PageTable) -> u32 {
        match self.admitted.first() {
            Some(first) if self.admitted.iter().any(|page| is_turn(page.kind)) => first.page.0,
            _ => table.unanswered_from(),
        }
    }
}

pub(crate) fn check_page(
    page: PageId,
    importance: Ppm,
    in_head: bool,
    pinned: bool,
) -> Result<(), Violation> {
    if importance > Ppm::ONE {
        return Err(Violation::Importance { page, found: importance });
    }
    if in_head && !pinned {
        return Err(Violation::HeadNotPinned(page));
    }
    Ok(())
}
