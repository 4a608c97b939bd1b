//! What of a page table changes after its pages were admitted.
//!
//! How a page entered never changes, so a checkpoint that comes every few hundred events need not
//! write it again: it keeps the entries in an append-only list and, each time, the residency. That
//! is some dozens of bytes: what is resident are runs of pages, because most pages leave the prompt
//! oldest first, and few pages are ever needed again.

use aosk_abi::{Admission, PageId, Seq};
use serde::{Deserialize, Serialize};

use crate::invariant::{Violation, check_page};
use crate::page::Page;
use crate::table::PageTable;

/// How a page entered the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What the plan said of it.
    pub admission: Admission,
    /// [`Page::born`].
    pub born: u32,
    /// What its credit had beyond what its accesses earn.
    pub inflation: u32,
}

/// A page table without how its pages entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    #[serde(rename = "g")]
    generation: u64,
    #[serde(rename = "a")]
    unanswered_from: u32,
    /// The resident pages: the first of each run and how many there are, ascending and apart.
    #[serde(rename = "r")]
    resident: Vec<(u32, u32)>,
    #[serde(flatten)]
    clock: Clock,
    /// The pages that were needed since they came, or came again: number, accesses, turn of the
    /// last one, and what their credit has beyond what accesses earn.
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    touched: Vec<(u32, u32, u32, u32)>,
}

/// By what pages age.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clock {
    #[serde(rename = "n", default)]
    pub(crate) turns: u32,
    /// The highest credit of a page that has left.
    #[serde(rename = "l", default)]
    pub(crate) inflation: u32,
}

/// Why what a checkpoint holds is no page table.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The pages contradict an invariant.
    #[error("the page table of the checkpoint is damaged: {0}")]
    Violation(#[from] Violation),
    /// The sizes do not add up.
    #[error(
        "the page table of the checkpoint is damaged: its resident pages have more than 2^64 tokens"
    )]
    Tokens,
    /// The model cannot have left that page unanswered.
    #[error(
        "the page table of the checkpoint is damaged: the first unanswered page is {found} of \
         {pages}"
    )]
    Unanswered {
        /// The page.
        found: u32,
        /// How many pages there are.
        pages: usize,
    },
    /// The runs of resident pages overlap, or reach past the pages.
    #[error("the page table of the checkpoint is damaged: {run:?} is no run of {pages} pages")]
    Run {
        /// Its first page and how many it has.
        run: (u32, u32),
        /// How many pages there are.
        pages: usize,
    },
    /// It says something of a page that there is not.
    #[error("the page table of the checkpoint is damaged: there is no page {page} among {pages}")]
    Page {
        /// The page.
        page: u32,
        /// How many pages there are.
        pages: usize,
    },
    /// A page was needed, or came, later than now.
    #[error(
        "the page table of the checkpoint is damaged: page {page} was needed after the last of \
         {turns} turns"
    )]
    Turns {
        /// The page.
        page: PageId,
        /// How many turns there were.
        turns: u32,
    },
}

impl PageTable {
    /// What changes after pages were admitted. Linear in the resident pages.
    #[must_use]
    pub fn residency(&self) -> Residency {
        let mut resident: Vec<(u32, u32)> = Vec::new();
        for page in self.resident() {
            match resident.last_mut() {
                Some((first, len)) if *first + *len == page.id.0 => *len += 1,
                _ => resident.push((page.id.0, 1)),
            }
        }
        Residency {
            generation: self.generation(),
            unanswered_from: self.unanswered_from(),
            resident,
            clock: Clock { turns: self.turns(), inflation: self.inflation() },
            touched: self
                .pages()
                .iter()
                .filter(|page| page.accesses > 0 || page.last_access != page.born)
                .map(|page| (page.id.0, page.accesses, page.last_access, page.inflation()))
                .collect(),
        }
    }

    /// How the pages from the number `from` on entered.
    pub fn entries(&self, from: usize) -> impl Iterator<Item = Entry> {
        self.pages().iter().skip(from).map(|page| Entry {
            admission: Admission {
                importance: page.importance,
                kind: page.kind,
                page: page.id,
                pinned: page.pinned,
                range: page.range,
                source: page.source,
                tokens: page.tokens,
                unit: page.unit,
            },
            born: page.born,
            inflation: page.inflation(),
        })
    }

    /// The table of all those entries, in order from the first, as it stood.
    ///
    /// # Errors
    /// [`Damage`] where they break an invariant.
    pub fn restore(entries: &[Entry], residency: &Residency) -> Result<Self, Damage> {
        let Residency { generation, unanswered_from, resident, clock, touched } = residency;
        let mut pages: Vec<Page> = entries
            .iter()
            .map(|entry| {
                let mut page = Page::admitted(&entry.admission, entry.born);
                page.resident = false;
                page.credit = entry.inflation.saturating_add(page.earned());
                page
            })
            .collect();
        for &(number, accesses, last_access, inflation) in touched {
            let Some(page) = pages.get_mut(number as usize) else {
                return Err(Damage::Page { page: number, pages: entries.len() });
            };
            (page.accesses, page.last_access) = (accesses, last_access);
            page.credit = inflation.saturating_add(page.earned());
        }
        let mut free = 0_u32;
        for &(first, len) in resident {
            let damage = Damage::Run { run: (first, len), pages: entries.len() };
            let end = first.checked_add(len).filter(|_| first >= free && len > 0);
            let run = end.and_then(|end| pages.get_mut(first as usize..end as usize));
            let (Some(run), Some(end)) = (run, end) else {
                return Err(damage);
            };
            run.iter_mut().for_each(|page| page.resident = true);
            free = end;
        }
        checked(*generation, *unanswered_from, *clock, pages)
    }
}

/// The table of those pages, if they keep every invariant.
pub(crate) fn checked(
    generation: u64,
    unanswered_from: u32,
    clock: Clock,
    pages: Vec<Page>,
) -> Result<PageTable, Damage> {
    let Clock { turns, inflation } = clock;
    let mut tokens = 0_u64;
    let mut units: Vec<(Seq, bool, PageId)> = Vec::new();
    let (mut log_begun, mut opening) = (false, false);
    for (page, number) in pages.iter().zip(0_usize..) {
        if u32::try_from(number).ok() != Some(page.id.0) {
            return Err(Violation::PageNumbersUsedUp.into());
        }
        if page.born.max(page.last_access) > turns {
            return Err(Damage::Turns { page: page.id, turns });
        }
        check_page(page.id, page.importance, page.in_head(), page.pinned)?;
        if page.in_head() && log_begun {
            return Err(Violation::HeadNotFirst(page.id).into());
        }
        log_begun |= !page.in_head();
        if page.pinned && !page.resident {
            return Err(Violation::PinnedLeaves(page.id).into());
        }
        if !page.resident && page.id.0 >= unanswered_from {
            return Err(Violation::UnansweredLeaves(page.id).into());
        }
        if !page.resident && generation == 0 {
            return Err(Violation::Generation { found: 0, expected: 1 }.into());
        }
        if page.is_part() {
            let before = number.checked_sub(1).and_then(|before| pages.get(before));
            if !before.is_some_and(|before| before.goes_on_in(page)) {
                return Err(Violation::PartAlone(page.id).into());
            }
            // It may have left before its unit, and not the other way round.
            if page.resident && !opening {
                return Err(Violation::UnitTorn { unit: page.unit, page: page.id }.into());
            }
        } else {
            opening = page.resident;
        }
        if !page.is_part()
            && units.last().is_none_or(|last| (last.0, last.1) != (page.unit, page.resident))
        {
            units.push((page.unit, page.resident, page.id));
        }
        if page.resident {
            tokens = tokens.checked_add(page.tokens.0).ok_or(Damage::Tokens)?;
        }
    }
    // Pages of a unit nearly always stand side by side, so this list is all but sorted, which takes
    // a fifth of the time of a map.
    units.sort_unstable();
    if let Some(torn) =
        units.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1)
    {
        return Err(Violation::UnitTorn { unit: torn[1].0, page: torn[1].2 }.into());
    }
    if unanswered_from as usize > pages.len() {
        return Err(Damage::Unanswered { found: unanswered_from, pages: pages.len() });
    }
    Ok(PageTable::from_parts(generation, unanswered_from, turns, inflation, pages))
}
