//! The page table: the fold over a process's plans.

use aosk_abi::{Conditions, PageId, Planned, Seq, Tokens};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::invariant::Change;
use crate::page::Page;
use crate::snapshot::Snapshot;

/// Which pages a process has, and which of them stand in the prompt.
///
/// Prompt order is the order of admission. A checkpoint keeps the table; reading one back checks
/// every invariant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Snapshot", into = "Snapshot")]
pub struct PageTable {
    pages: Vec<Page>,
    generation: u64,
    /// Pages from this number on came with or after the model's newest turn.
    unanswered_from: u32,
    // What follows is derived from the pages, so that a plan costs time in proportion to the
    // prompt and not to the history.
    resident: Vec<PageId>,
    tokens: Tokens,
    newest_unit: Option<Seq>,
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
        self.unanswered_from = change.unanswered_from(self);
        self.generation = change.generation;
        for id in change.evicted {
            if let Some(page) = self.pages.get_mut(id.0 as usize) {
                page.resident = false;
                self.tokens = self.tokens.saturating_sub(page.tokens);
            }
        }
        if !change.evicted.is_empty() {
            self.resident.retain(|id| change.evicted.binary_search(id).is_err());
        }
        for admission in change.admitted {
            self.push(admission.into());
        }
        Ok(())
    }

    /// The pages that stand in the prompt, in prompt order: the head, then the log.
    pub fn resident(&self) -> impl Iterator<Item = &Page> {
        self.resident.iter().filter_map(|id| self.page(*id))
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

    pub(crate) const fn unanswered_from(&self) -> u32 {
        self.unanswered_from
    }

    pub(crate) const fn newest_unit(&self) -> Option<Seq> {
        self.newest_unit
    }

    /// A table of pages that are known to keep the invariants.
    pub(crate) fn from_parts(generation: u64, unanswered_from: u32, pages: Vec<Page>) -> Self {
        let mut table = Self { generation, unanswered_from, ..Self::default() };
        for page in pages {
            table.push(page);
        }
        table
    }

    fn push(&mut self, page: Page) {
        if page.resident {
            self.resident.push(page.id);
            self.tokens += page.tokens;
        }
        self.newest_unit = self.newest_unit.max(Some(page.unit));
        self.pages.push(page);
    }
}
