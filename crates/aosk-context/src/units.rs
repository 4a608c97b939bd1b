//! The units of a prompt, gathered as pages come to it.
//!
//! To gather those of a hundred thousand pages anew for each plan takes longer than to price them: a
//! page is twice as large as a unit, and neither stays in the processor's caches. So the table keeps
//! them, at 48 bytes each, and a plan looks at nothing else but at the newest turn's pages.

use aosk_abi::{PageId, PageKind, Seq, Tokens};

use crate::ascent::Ascent;
use crate::page::Page;
use crate::policy::Unit;

/// Units of pages of which none stands behind one of a newer unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Units {
    /// Those without a pinned page, in prompt order: each without the parts that may leave before
    /// it, and behind it those parts.
    list: Vec<Unit>,
    /// The size of those with one.
    pinned: Tokens,
    /// The unit of the last page.
    open: Option<Open>,
}

/// The unit whose pages are being gathered, at that place in the list, its parts behind it; where it
/// is pinned it is not in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    id: Seq,
    at: usize,
    pinned: bool,
}

impl Units {
    /// The units of those pages, which must stand in the order of their units.
    pub(crate) fn of<'a>(pages: impl IntoIterator<Item = &'a Page>) -> Self {
        let mut units = Self::default();
        pages.into_iter().for_each(|page| units.push(page));
        units
    }

    pub(crate) fn list(&self) -> &[Unit] {
        &self.list
    }

    pub(crate) const fn pinned(&self) -> Tokens {
        self.pinned
    }

    /// Whether `page` may be the next: the last is of no newer unit.
    pub(crate) fn admits(&self, page: &Page) -> bool {
        self.open.is_none_or(|open| open.id <= page.unit)
    }

    /// Puts in the next page, which must be admitted: see [`Units::admits`].
    pub(crate) fn push(&mut self, page: &Page) {
        let next = Open { id: page.unit, at: self.list.len(), pinned: false };
        let mut open = self.open.filter(|open| open.id == page.unit).unwrap_or(next);
        if page.pinned && !open.pinned {
            open.pinned = true;
            self.pinned += size(self.list.drain(open.at..).as_slice());
        }
        self.open = Some(open);
        if open.pinned {
            self.pinned += page.tokens;
            return;
        }
        if open.at == self.list.len() {
            self.list.push(Unit::of(page));
        }
        self.list[open.at].rate(page);
        if page.is_part() {
            let mut part = Unit::of(page);
            part.rate(page);
            part.tokens = page.tokens;
            self.list.push(part);
        } else {
            self.list[open.at].tokens += page.tokens;
        }
    }

    /// Takes down that `page` was needed once more than the units know.
    pub(crate) fn access(&mut self, page: &Page) {
        let behind = self.list.partition_point(|unit| unit.first <= page.id);
        // Its part, where it is one, and its unit, which stands before all parts of it.
        for unit in self.list[..behind].iter_mut().rev().take_while(|unit| unit.id == page.unit) {
            if !unit.part || unit.first == page.id {
                unit.accesses = unit.accesses.saturating_add(1);
                unit.last_access = unit.last_access.max(page.last_access);
                unit.credit = unit.credit.max(page.credit);
            }
        }
    }

    /// Lets the units of `evicted`, which ascend, go, so that `last` is the last page; `false` where a
    /// part leaves before its unit, so that this must be gathered anew.
    pub(crate) fn evict(&mut self, evicted: &[PageId], last: Option<&Page>) -> bool {
        let mut leaves = Ascent::of(evicted);
        let (mut whole, mut goes) = (true, false);
        self.list.retain(|unit| {
            let leaves = leaves.has(&unit.first);
            if !unit.part {
                goes = leaves;
            }
            whole &= goes || !leaves;
            !leaves
        });
        self.open = last.map(|last| {
            let at = self.list.iter().rposition(|unit| !unit.part);
            let at = at.filter(|at| self.list[*at].id == last.unit);
            Open { id: last.unit, at: at.unwrap_or(self.list.len()), pinned: at.is_none() }
        });
        whole
    }

    /// How many stand before the first that has a page from that number on, and the units from there
    /// on once `coming` have come; `None` where one of these is of an older unit than the last.
    pub(crate) fn split(&self, from: u32, coming: &[Page]) -> Option<(&[Unit], Self)> {
        let mut at = self.list.partition_point(|unit| unit.first.0 < from);
        if let Some(astride) = self.list[..at].iter().rposition(|unit| !unit.part)
            && self.list[astride].last.0 >= from
        {
            at = astride;
        }
        if let Some(open) = self.open
            && coming.iter().any(|page| page.unit == open.id)
        {
            at = at.min(open.at);
        }
        let (before, behind) = self.list.split_at(at);
        let open = self.open.map(|open| Open { at: open.at.saturating_sub(at), ..open });
        let mut rest = Self { list: behind.to_vec(), pinned: self.pinned, open };
        for page in coming {
            if !rest.admits(page) {
                return None;
            }
            rest.push(page);
        }
        Some((before, rest))
    }
}

/// The size of those together.
pub(crate) fn size(units: &[Unit]) -> Tokens {
    units.iter().map(|unit| unit.tokens).sum()
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
            message: false,
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
        self.message |= page.kind == PageKind::Message;
        self.born = self.born.max(page.born);
        self.accesses = self.accesses.saturating_add(page.accesses);
        self.last_access = self.last_access.max(page.last_access);
        self.credit = self.credit.max(page.credit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_small() {
        assert!(size_of::<Unit>() <= 48, "{} bytes", size_of::<Unit>());
    }
}
