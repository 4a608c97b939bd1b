//! What may leave a prompt, and what leaves with it.
//!
//! A unit leaves as a whole, but for the parts of contents that were cut: each of those may leave
//! before. What is left of the content says where parts are missing, and such gaps take room. Half
//! of the results of a coding agent may well have one, so there are only as many as there is room
//! for: beyond that, the oldest units with gaps leave whole.

use std::collections::BTreeSet;

use aosk_abi::{Cause, PageId, PageKind, Reasons, Score, Seq, Tokens};

use crate::page::Page;
use crate::policy::{Policy, Unit, View};
use crate::table::PageTable;

/// The unit whose pages are being gathered, at that place among the units, its parts behind it.
#[derive(Clone, Copy)]
struct Open {
    id: Seq,
    at: usize,
    pinned: bool,
    unanswered: bool,
}

/// What may leave a prompt, and the size of what may not.
#[derive(Default)]
pub(crate) struct Standings {
    /// In prompt order: units, each without the parts that may leave before it, and those parts.
    pub(crate) units: Vec<Unit>,
    pub(crate) pinned: Tokens,
    pub(crate) unanswered: Tokens,
    has_parts: bool,
    /// The parts among the units: of which, and their indices.
    parts: Vec<(Seq, usize)>,
}

impl Standings {
    /// What stands in a prompt of those pages, of which the model has answered those before
    /// `unanswered_from`.
    ///
    /// Units stand in their order, so that one pass gathers each where it stands: of a hundred
    /// thousand pages, a map of units takes four times as long, and more with every page that the
    /// processor's caches cannot hold. Only where a content came late to its unit, with others
    /// between, are the pages sorted first.
    pub(crate) fn of(pages: impl Iterator<Item = Page> + Clone, unanswered_from: u32) -> Self {
        let in_order = Self::gather(pages.clone(), unanswered_from);
        let mut standings = in_order.unwrap_or_else(|| Self::sorted(pages, unanswered_from));
        if standings.has_parts {
            let places = standings.units.iter().enumerate().filter(|(_, unit)| unit.part);
            standings.parts = places.map(|(index, unit)| (unit.id, index)).collect();
            standings.parts.sort_unstable();
        }
        standings
    }

    #[expect(clippy::expect_used, reason = "sorted by unit, no older one stands behind a newer")]
    fn sorted(pages: impl Iterator<Item = Page>, unanswered_from: u32) -> Self {
        let mut pages: Vec<Page> = pages.collect();
        pages.sort_by_key(|page| page.unit);
        let mut standings = Self::gather(pages.into_iter(), unanswered_from).expect("units ascend");
        standings.units.sort_unstable_by_key(|unit| unit.first);
        standings
    }

    /// The units of those pages, in their order; `None` where pages of an older unit stand behind.
    fn gather(pages: impl Iterator<Item = Page>, unanswered_from: u32) -> Option<Self> {
        let most = pages.size_hint().1.unwrap_or_default();
        let mut standings = Self { units: Vec::with_capacity(most), ..Self::default() };
        let mut open: Option<Open> = None;
        for page in pages {
            if open.is_none_or(|open| open.id != page.unit) {
                if open.is_some_and(|open| open.id > page.unit) {
                    return None;
                }
                standings.close(open);
                open = None;
            }
            let open = open.get_or_insert_with(|| {
                standings.units.push(Unit::of(&page));
                Open {
                    id: page.unit,
                    at: standings.units.len() - 1,
                    pinned: false,
                    unanswered: false,
                }
            });
            standings.units[open.at].rate(&page);
            if page.is_part() {
                let mut part = Unit::of(&page);
                part.rate(&page);
                part.tokens = page.tokens;
                standings.units.push(part);
                standings.has_parts = true;
            } else {
                standings.units[open.at].tokens += page.tokens;
            }
            open.pinned |= page.pinned;
            open.unanswered |= page.id.0 >= unanswered_from;
        }
        standings.close(open);
        Some(standings)
    }

    /// Ends a unit: what may not leave counts by its size alone.
    fn close(&mut self, open: Option<Open>) {
        if let Some(Open { at, pinned, .. }) = open.filter(|open| open.pinned || open.unanswered) {
            let size = self.units.drain(at..).fold(Tokens::ZERO, |sum, unit| sum + unit.tokens);
            *(if pinned { &mut self.pinned } else { &mut self.unanswered }) += size;
        }
    }

    /// The indices of the parts of that unit.
    fn parts_of(&self, unit: Seq) -> impl Iterator<Item = usize> {
        let from = self.parts.partition_point(|(of, _)| *of < unit);
        self.parts[from..].iter().take_while(move |(of, _)| *of == unit).map(|(_, index)| *index)
    }
}

/// What leaves.
pub(crate) struct Leaving<'a> {
    standings: &'a Standings,
    leaves: Vec<bool>,
    /// What was decided on its own, each by its index; what leaves with it is not among them.
    decided: Vec<(usize, Cause)>,
    /// The size of the prompt that stays.
    pub(crate) total: Tokens,
}

impl<'a> Leaving<'a> {
    /// Nothing, of a prompt of `total` tokens.
    pub(crate) fn nothing(standings: &'a Standings, total: Tokens) -> Self {
        let leaves = vec![false; standings.units.len()];
        Self { standings, leaves, decided: Vec::new(), total }
    }

    /// Lets the unit of that index go, with all its parts. An index that names no unit is a
    /// policy's fault and lets nothing go.
    pub(crate) fn leave(&mut self, index: usize, cause: Cause) {
        let Some(unit) = self.standings.units.get(index) else { return };
        if self.mark(index) {
            self.decided.push((index, cause));
        }
        if !unit.part {
            for part in self.standings.parts_of(unit.id) {
                self.mark(part);
            }
        }
    }

    /// Whether it did not leave before.
    fn mark(&mut self, index: usize) -> bool {
        let known = self.leaves.get_mut(index).zip(self.standings.units.get(index));
        let Some((leaves, unit)) = known.filter(|(leaves, _)| !**leaves) else { return false };
        *leaves = true;
        self.total = self.total.saturating_sub(unit.tokens);
        true
    }

    /// Why they leave, as `policy` rates them; `early` where all had room.
    pub(crate) fn reasons(mut self, policy: &dyn Policy, view: &View<'_>, early: bool) -> Reasons {
        self.decided.sort_unstable_by_key(|(index, _)| *index);
        let indices: Vec<usize> = self.decided.iter().map(|(index, _)| *index).collect();
        let ratings = policy.rate(view, &indices);
        let terms = ratings.terms.iter().map(|name| (*name).to_owned()).collect();
        let mut rows = ratings.rows.into_iter();
        let scores = self.decided.iter().map(|&(index, cause)| Score {
            cause,
            page: self.standings.units[index].first,
            terms: rows.next().unwrap_or_default(),
        });
        Reasons { early, scores: scores.collect(), shared: ratings.shared, terms }
    }

    /// The pages of the table that leave, in prompt order. Linear in those, and in what stands between
    /// those of one unit, but not in the prompt.
    pub(crate) fn pages(&self, table: &PageTable) -> Vec<PageId> {
        let leave = self.standings.units.iter().zip(&self.leaves).filter(|(_, leaves)| **leaves);
        let mut pages: Vec<PageId> = leave
            .flat_map(|(unit, _)| {
                let pages = table.resident_between(unit.first, unit.last);
                let of_it = move |page: &&Page| page.unit == unit.id && page.is_part() == unit.part;
                pages.filter(of_it).map(|page| page.id)
            })
            .collect();
        pages.sort_unstable();
        pages
    }

    /// Lets the oldest units with gaps go until there are at most `most` gaps; the pages that leave.
    pub(crate) fn close_gaps(&mut self, table: &PageTable, most: usize) -> Vec<PageId> {
        let evicted = self.pages(table);
        let gaps: Vec<Seq> = table.gaps_after(&evicted).map(|page| page.unit).collect();
        let excess = gaps.len().saturating_sub(most);
        if excess == 0 {
            return evicted;
        }
        let closed: BTreeSet<Seq> = gaps.into_iter().take(excess).collect();
        for (index, unit) in self.standings.units.iter().enumerate() {
            if !unit.part && closed.contains(&unit.id) {
                self.leave(index, Cause::Gaps);
            }
        }
        self.pages(table)
    }
}

impl PageTable {
    /// The resident pages behind which parts of their content will be missing once those pages,
    /// which ascend, have left.
    pub(crate) fn gaps_after<'a>(
        &'a self,
        evicted: &'a [PageId],
    ) -> impl Iterator<Item = &'a Page> + 'a {
        let stays = |page: &Page| page.resident && evicted.binary_search(&page.id).is_err();
        // The first page of a content stays as long as any other, so that each gap has one before it.
        let pages = if self.has_parts() { Some(self.resident()) } else { None };
        pages.into_iter().flatten().filter(move |page| {
            let next = page.id.0.checked_add(1).and_then(|next| self.page(PageId(next)));
            page.range.is_some()
                && stays(page)
                && next.is_some_and(|next| page.goes_on_in(next) && next.is_part() && !stays(next))
        })
    }
}

impl Unit {
    /// The unit of `page`, without its pages yet.
    const fn of(page: &Page) -> Self {
        Self {
            id: page.unit,
            first: page.id,
            last: page.id,
            part: page.is_part(),
            tokens: Tokens::ZERO,
            importance: page.importance,
            tool_result: false,
            born: page.born,
            accesses: 0,
            last_access: page.last_access,
            credit: page.credit,
        }
    }

    /// Rates it with a page of it.
    fn rate(&mut self, page: &Page) {
        self.last = page.id;
        self.importance = self.importance.max(page.importance);
        self.tool_result |= page.kind == PageKind::ToolResult;
        self.born = self.born.max(page.born);
        self.accesses = self.accesses.saturating_add(page.accesses);
        self.last_access = self.last_access.max(page.last_access);
        self.credit = self.credit.max(page.credit);
    }
}

#[cfg(test)]
mod tests {
    use aosk_abi::{Admission, Ppm, Source};

    use super::*;

    fn page(number: u32, unit: u64, pinned: bool) -> Page {
        let admission = Admission {
            importance: Ppm::ONE,
            kind: PageKind::Message,
            page: PageId(number),
            pinned,
            range: None,
            source: Source { seq: Seq(number.into()), part: 0 },
            tokens: Tokens(1 << number),
            unit: Seq(unit),
        };
        Page::admitted(&admission, 0)
    }

    #[test]
    fn a_unit_is_whole_where_a_content_came_late_to_it() {
        let pages = [(0, 1), (1, 4), (2, 9), (3, 4), (4, 4), (5, 10)];
        let pages = pages.map(|(number, unit)| page(number, unit, unit == 1));
        let standings = Standings::of(pages.into_iter(), 5);
        let units = standings.units.iter().map(|unit| (unit.id.0, unit.tokens.0, unit.last.0));
        assert_eq!(units.collect::<Vec<_>>(), [(4, 0b1_1010, 4), (9, 0b100, 2)]);
        assert_eq!((standings.pinned.0, standings.unanswered.0), (1, 0b10_0000));
        // A late one that is not answered holds all of its unit.
        let standings = Standings::of(pages.into_iter(), 4);
        assert_eq!(standings.units.len(), 1);
        assert_eq!(standings.unanswered.0, 0b11_1010);
    }
}
