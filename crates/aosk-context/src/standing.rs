//! What may leave a prompt, and what leaves with it.
//!
//! A unit leaves as a whole, but for the parts of contents that were cut: each of those may leave
//! before. What is left of the content says where parts are missing, and such gaps take room. Half
//! of the results of a coding agent may well have one, so there are only as many as there is room
//! for: beyond that, the oldest units with gaps leave whole.

use std::collections::{BTreeMap, BTreeSet};

use aosk_abi::{Cause, PageId, PageKind, Reasons, Score, Seq, Tokens};

use crate::page::Page;
use crate::policy::{Policy, Unit, View};
use crate::table::PageTable;

/// A unit of the prompt as it would be if nothing left, and what holds it there.
struct Standing {
    /// Without its parts, but rated with them.
    unit: Unit,
    parts: Vec<Unit>,
    pinned: bool,
    unanswered: bool,
}

/// What may leave a prompt, and the size of what may not.
pub(crate) struct Standings {
    /// In prompt order: units, each without the parts that may leave before it, and those parts.
    pub(crate) units: Vec<Unit>,
    pub(crate) pinned: Tokens,
    pub(crate) unanswered: Tokens,
    /// The parts among the units: of which, and their indices.
    parts: Vec<(Seq, usize)>,
}

impl Standings {
    /// What stands in a prompt of those pages, of which the model has answered those before
    /// `unanswered_from`.
    pub(crate) fn of(pages: impl Iterator<Item = Page>, unanswered_from: u32) -> Self {
        let mut all: BTreeMap<Seq, Standing> = BTreeMap::new();
        for page in pages {
            let standing = all.entry(page.unit).or_insert_with(|| Standing {
                unit: Unit::of(&page),
                parts: Vec::new(),
                pinned: false,
                unanswered: false,
            });
            standing.unit.rate(&page);
            if page.is_part() {
                let mut part = Unit::of(&page);
                part.rate(&page);
                part.tokens = page.tokens;
                standing.parts.push(part);
            } else {
                standing.unit.tokens += page.tokens;
            }
            standing.pinned |= page.pinned;
            standing.unanswered |= page.id.0 >= unanswered_from;
        }
        let mut standings = Self {
            units: Vec::new(),
            pinned: Tokens::ZERO,
            unanswered: Tokens::ZERO,
            parts: Vec::new(),
        };
        let mut has_parts = false;
        for Standing { unit, parts, pinned, unanswered } in all.into_values() {
            if pinned || unanswered {
                let size = parts.iter().fold(unit.tokens, |sum, part| sum + part.tokens);
                *(if pinned { &mut standings.pinned } else { &mut standings.unanswered }) += size;
            } else {
                has_parts |= !parts.is_empty();
                standings.units.push(unit);
                standings.units.extend(parts);
            }
        }
        standings.units.sort_unstable_by_key(|unit| unit.first);
        if has_parts {
            let places = standings.units.iter().enumerate().filter(|(_, unit)| unit.part);
            standings.parts = places.map(|(index, unit)| (unit.id, index)).collect();
            standings.parts.sort_unstable();
        }
        standings
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

    /// The pages of the table that leave, in prompt order.
    pub(crate) fn pages(&self, table: &PageTable) -> Vec<PageId> {
        let (mut units, mut parts) = (Vec::new(), Vec::new());
        for (unit, _) in
            self.standings.units.iter().zip(&self.leaves).filter(|(_, leaves)| **leaves)
        {
            if unit.part {
                parts.push(unit.first);
            } else {
                units.push(unit.id);
            }
        }
        units.sort_unstable();
        let leaves = |page: &&Page| {
            if page.is_part() {
                parts.binary_search(&page.id).is_ok()
            } else {
                units.binary_search(&page.unit).is_ok()
            }
        };
        table.resident().filter(leaves).map(|page| page.id).collect()
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
