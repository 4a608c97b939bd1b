//! The page table: the fold over a process's plans.

use aosk_abi::{Admission, Conditions, PageId, Planned, Seq, Source, Tokens};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::invariant::Change;
use crate::page::{Page, is_turn};
use crate::snapshot::Snapshot;
use crate::units::Units;

/// Which pages a process has, and which of them stand in the prompt.
///
/// Prompt order is the order of admission. A checkpoint keeps the table; reading one back checks
/// every invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Snapshot", into = "Snapshot")]
pub struct PageTable {
    pages: Vec<Page>,
    generation: u64,
    /// Pages from this number on came with or after the model's newest turn.
    unanswered_from: u32,
    turns: u32,
    /// The highest credit of a page that has left.
    inflation: u32,
    // What follows is derived from the pages, so that a plan costs time in proportion to the
    // prompt and not to the history.
    resident: Vec<PageId>,
    /// Their units; `None` where one stands behind one of a newer unit, which is rare.
    units: Option<Units>,
    tokens: Tokens,
    newest_unit: Option<Seq>,
    newest_source: Option<Source>,
    log_tokens: u128,
    has_parts: bool,
    gaps: usize,
}

impl Default for PageTable {
    /// A table without pages.
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            generation: 0,
            unanswered_from: 0,
            turns: 0,
            inflation: 0,
            resident: Vec::new(),
            units: Some(Units::default()),
            tokens: Tokens::ZERO,
            newest_unit: None,
            newest_source: None,
            log_tokens: 0,
            has_parts: false,
            gaps: 0,
        }
    }
}

impl PageTable {
    /// Does what a journaled plan says: admits and evicts exactly the pages that it names, under
    /// the conditions that hold after its changes.
    ///
    /// # Errors
    /// [`Error::Invariant`] where the plan contradicts the table, which then stays as it was.
    pub fn apply(&mut self, planned: &Planned, under: &Conditions) -> Result<(), Error> {
        let change = Change {
            admitted: &planned.admitted,
            evicted: &planned.evicted,
            generation: planned.generation,
            prompt_tokens: planned.prompt_tokens,
            max_output: under.max_output,
            window: under.window,
        };
        change.check(self)?;
        let turn = change.admitted.iter().any(|page| is_turn(page.kind));
        self.unanswered_from = change.unanswered_from(self);
        self.generation = change.generation;
        for id in change.evicted {
            if let Some(page) = self.pages.get_mut(id.0 as usize) {
                page.resident = false;
                self.tokens = self.tokens.saturating_sub(page.tokens);
                self.inflation = self.inflation.max(page.credit);
            }
        }
        if !change.evicted.is_empty() {
            self.resident.retain(|id| change.evicted.binary_search(id).is_err());
            self.gaps = self.gaps_after(&[]).count();
            let last = self.resident.last().and_then(|last| self.pages.get(last.0 as usize));
            if !self.units.as_mut().is_some_and(|units| units.evict(change.evicted, last)) {
                let in_order = self.resident().is_sorted_by_key(|page| page.unit);
                self.units = in_order.then(|| Units::of(self.resident()));
            }
        }
        for admission in change.admitted {
            let page = self.admit(admission);
            self.push(page);
        }
        self.turns = self.turns.saturating_add(u32::from(turn));
        Ok(())
    }

    /// Takes down that the page was needed: recalled, or seen to be used. Whoever folds a journal
    /// calls it for the events that say so.
    ///
    /// # Errors
    /// [`Error::UnknownPage`] where there is no such page; nothing changes.
    pub fn access(&mut self, id: PageId) -> Result<(), Error> {
        let (turns, inflation, pages) = (self.turns, self.inflation, self.pages.len());
        let page =
            self.pages.get_mut(id.0 as usize).ok_or(Error::UnknownPage { page: id, pages })?;
        page.accesses = page.accesses.saturating_add(1);
        page.last_access = turns;
        page.credit = inflation.saturating_add(page.earned());
        if page.resident
            && let Some(units) = &mut self.units
        {
            units.access(page);
        }
        Ok(())
    }

    /// The page that an admission becomes. Content that was admitted before keeps its age.
    pub(crate) fn admit(&self, admission: &Admission) -> Page {
        let mut page = Page::admitted(admission, self.turns);
        // Sources nearly always come in their order, so that the search is for what comes again. The
        // parts of a content that comes for the first time share one source.
        if self.newest_source >= Some(page.source)
            && !page.is_part()
            && let Some(before) = self
                .pages
                .iter()
                .rev()
                .find(|old| (old.source, old.range) == (page.source, page.range))
        {
            (page.born, page.accesses) = (before.born, before.accesses);
        }
        page.credit = self.inflation.saturating_add(page.earned());
        page
    }

    /// The pages that stand in the prompt, in prompt order: the head, then the log.
    pub fn resident(&self) -> impl Iterator<Item = &Page> + Clone {
        self.resident.iter().filter_map(|id| self.page(*id))
    }

    /// The numbers of the resident pages, ascending.
    pub(crate) fn resident_ids(&self) -> &[PageId] {
        &self.resident
    }

    /// The units of the resident pages, of which all stand side by side and those of older units
    /// before them; `None` where a resident page stands behind one of a newer unit.
    pub(crate) const fn units(&self) -> Option<&Units> {
        self.units.as_ref()
    }

    /// Every page, resident or swapped; a page's number is its place.
    #[must_use]
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// The page with that number.
    #[must_use]
    pub fn page(&self, id: PageId) -> Option<&Page> {
        self.pages.get(id.0 as usize)
    }

    /// How many times pages have left the prompt. Within one generation the prompt only grows.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The size of the resident pages together.
    #[must_use]
    pub const fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// The tokens of the resident pages in front of that one. O(resident pages).
    #[must_use]
    pub fn tokens_before(&self, page: PageId) -> Tokens {
        let before = self.resident().take_while(|resident| resident.id < page);
        before.fold(Tokens::ZERO, |sum, resident| sum + resident.tokens)
    }

    /// How many gaps resident contents have: runs of parts that have left.
    #[must_use]
    pub const fn gaps(&self) -> usize {
        self.gaps
    }

    /// Whether any content was cut.
    #[must_use]
    pub const fn has_parts(&self) -> bool {
        self.has_parts
    }

    /// How many turns of the model have come to the prompt: the clock by which pages age. A call
    /// that is planned again, or repeated with a page that it asked for, is none.
    #[must_use]
    pub const fn turns(&self) -> u32 {
        self.turns
    }

    /// Whether the model has answered the page: it came before the model's newest turn.
    #[must_use]
    pub const fn has_answered(&self, page: PageId) -> bool {
        page.0 < self.unanswered_from
    }

    /// What a turn has added to the log on average, in tokens: how fast room is used up.
    pub(crate) fn tokens_per_turn(&self) -> f64 {
        self.log_tokens as f64 / f64::from(self.turns.max(1))
    }

    pub(crate) const fn inflation(&self) -> u32 {
        self.inflation
    }

    pub(crate) const fn unanswered_from(&self) -> u32 {
        self.unanswered_from
    }

    pub(crate) const fn newest_unit(&self) -> Option<Seq> {
        self.newest_unit
    }

    /// A table of pages that are known to keep the invariants.
    pub(crate) fn from_parts(
        generation: u64,
        unanswered_from: u32,
        turns: u32,
        inflation: u32,
        pages: Vec<Page>,
    ) -> Self {
        let mut table = Self { generation, unanswered_from, turns, inflation, ..Self::default() };
        for page in pages {
            table.push(page);
        }
        table.gaps = table.gaps_after(&[]).count();
        table
    }

    fn push(&mut self, page: Page) {
        if page.resident {
            match self.units.as_mut().filter(|units| units.admits(&page)) {
                Some(units) => units.push(&page),
                None => self.units = None,
            }
            self.resident.push(page.id);
            self.tokens += page.tokens;
        }
        self.newest_unit = self.newest_unit.max(Some(page.unit));
        self.newest_source = self.newest_source.max(Some(page.source));
        if !page.in_head() {
            self.log_tokens += u128::from(page.tokens.0);
        }
        self.has_parts |= page.is_part();
        self.pages.push(page);
    }
}
