//! What may leave a prompt, and what leaves with it.
//!
//! A unit leaves as a whole, but for the parts of contents that were cut: each of those may leave
//! before. What is left of the content says where parts are missing, and such gaps take room. Half
//! of the results of a coding agent may well have one, so there are only as many as there is room
//! for: beyond that, the oldest units with gaps leave whole.

use std::borrow::Cow;
use std::collections::BTreeSet;

use aosk_abi::{Cause, PageId, Reasons, Score, Seq, Tokens};

use crate::ascent::Ascent;
use crate::page::Page;
use crate::policy::{Policy, Unit, View};
use crate::table::PageTable;
use crate::units::{Units, size};

/// What may leave a prompt, and the size of what may not.
pub(crate) struct Standings<'a> {
    /// In prompt order: units, each without the parts that may leave before it, and those parts.
    pub(crate) units: Cow<'a, [Unit]>,
    pub(crate) pinned: Tokens,
    pub(crate) unanswered: Tokens,
    /// The parts that do not stand right behind their units: of which, and their indices.
    apart: Vec<(Seq, usize)>,
}

impl<'a> Standings<'a> {
    /// What stands in the prompt of `table` once `coming` have come, of which the model has answered
    /// what stands before `unanswered_from`; `coming` are not answered.
    pub(crate) fn of(table: &'a PageTable, coming: &[Page], unanswered_from: u32) -> Self {
        let sorted = || Self::sorted(table.resident().chain(coming).copied(), unanswered_from);
        let in_order = table.units().and_then(|units| units.split(unanswered_from, coming));
        let Some((before, rest)) = in_order else { return sorted() };
        let standings = Self {
            units: Cow::Borrowed(before),
            pinned: rest.pinned(),
            unanswered: size(rest.list()),
            apart: Vec::new(),
        };
        debug_assert_eq!(standings.whole(), sorted().whole(), "as they came, and at once");
        standings
    }

    /// The units, and the sizes of what is pinned and of what is not answered.
    fn whole(&self) -> (&[Unit], Tokens, Tokens) {
        (&self.units, self.pinned, self.unanswered)
    }

    /// What stands in a prompt of those pages, which may stand in any order of their units: a content
    /// may come late to its unit, with others between.
    fn sorted(pages: impl Iterator<Item = Page>, unanswered_from: u32) -> Self {
        let mut pages: Vec<Page> = pages.collect();
        pages.sort_by_key(|page| page.unit);
        let gathered = Units::of(&pages);
        let mut units = gathered.list().to_vec();
        let (mut unanswered, mut holds) = (Tokens::ZERO, false);
        units.retain(|unit| {
            if !unit.part {
                holds = unit.last.0 >= unanswered_from;
            }
            if holds {
                unanswered += unit.tokens;
            }
            !holds
        });
        units.sort_unstable_by_key(|unit| unit.first);
        let parts = units.iter().enumerate().filter(|(_, unit)| unit.part);
        let mut apart: Vec<(Seq, usize)> = parts.map(|(index, unit)| (unit.id, index)).collect();
        apart.sort_unstable();
        Self { units: Cow::Owned(units), pinned: gathered.pinned(), unanswered, apart }
    }

    /// The indices of the parts of the unit at that index, some of them twice.
    fn parts_of(&self, index: usize) -> impl Iterator<Item = usize> {
        let unit = self.units[index].id;
        let behind = (index + 1..self.units.len()).take_while(move |at| self.units[*at].id == unit);
        let from = self.apart.partition_point(|(of, _)| *of < unit);
        let apart = self.apart[from..].iter().take_while(move |(of, _)| *of == unit);
        behind.chain(apart.map(|(_, index)| *index))
    }
}

/// What leaves.
pub(crate) struct Leaving<'a> {
    standings: &'a Standings<'a>,
    leaves: Vec<bool>,
    /// The indices of what leaves.
    left: Vec<usize>,
    /// What was decided on its own, each by its index; what leaves with it is not among them.
    decided: Vec<(usize, Cause)>,
    /// The size of the prompt that stays.
    pub(crate) total: Tokens,
}

impl<'a> Leaving<'a> {
    /// Nothing, of a prompt of `total` tokens.
    pub(crate) fn nothing(standings: &'a Standings<'a>, total: Tokens) -> Self {
        let leaves = vec![false; standings.units.len()];
        Self { standings, leaves, left: Vec::new(), decided: Vec::new(), total }
    }

    /// Lets the unit of that index go, with all its parts. An index that names no unit is a
    /// policy's fault and lets nothing go.
    pub(crate) fn leave(&mut self, index: usize, cause: Cause) {
        let Some(unit) = self.standings.units.get(index) else { return };
        if self.mark(index) {
            self.decided.push((index, cause));
        }
        if !unit.part {
            for part in self.standings.parts_of(index) {
                self.mark(part);
            }
        }
    }

    /// Whether it did not leave before.
    fn mark(&mut self, index: usize) -> bool {
        let known = self.leaves.get_mut(index).zip(self.standings.units.get(index));
        let Some((leaves, unit)) = known.filter(|(leaves, _)| !**leaves) else { return false };
        *leaves = true;
        self.left.push(index);
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
    pub(crate) fn pages(&mut self, table: &PageTable) -> Vec<PageId> {
        self.left.sort_unstable();
        let resident = table.resident_ids();
        let mut places = Ascent::of(resident);
        let mut pages = Vec::with_capacity(self.left.len());
        for unit in self.left.iter().filter_map(|&index| self.standings.units.get(index)) {
            let from = places.place(&unit.first).unwrap_or(resident.len());
            let within = resident[from..].iter().take_while(|id| **id <= unit.last);
            let within = within.filter_map(|id| table.page(*id));
            let of_it = |page: &&Page| page.unit == unit.id && page.is_part() == unit.part;
            pages.extend(within.filter(of_it).map(|page| page.id));
        }
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

#[cfg(test)]
mod tests {
    use aosk_abi::{Admission, PageKind, Ppm, Source};

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
        let standings = Standings::sorted(pages.into_iter(), 5);
        let units = standings.units.iter().map(|unit| (unit.id.0, unit.tokens.0, unit.last.0));
        assert_eq!(units.collect::<Vec<_>>(), [(4, 0b1_1010, 4), (9, 0b100, 2)]);
        assert_eq!((standings.pinned.0, standings.unanswered.0), (1, 0b10_0000));
        // A late one that is not answered holds all of its unit.
        let standings = Standings::sorted(pages.into_iter(), 4);
        assert_eq!(standings.units.len(), 1);
        assert_eq!(standings.unanswered.0, 0b11_1010);
    }
}
