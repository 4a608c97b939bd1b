//! What of a page table changes after its pages were admitted.
//!
//! An admission never changes, so a checkpoint that comes every few hundred events need not write it
//! again: it keeps the admissions in an append-only list and, each time, the residency. That
//! is a dozen bytes: what is resident are runs of pages, because pages leave the prompt oldest first.

use aosk_abi::{Admission, PageId, Seq};
use serde::{Deserialize, Serialize};

use crate::invariant::{Violation, check_page};
use crate::page::Page;
use crate::table::PageTable;

/// A page table without its admissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residency {
    #[serde(rename = "g")]
    generation: u64,
    #[serde(rename = "a")]
    unanswered_from: u32,
    /// The resident pages: the first of each run and how many there are, ascending and apart.
    #[serde(rename = "r")]
    resident: Vec<(u32, u32)>,
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
        }
    }

    /// The admissions from the page with the number `from` on, as plans made them.
    pub fn admissions(&self, from: usize) -> impl Iterator<Item = Admission> {
        self.pages().iter().skip(from).map(|page| Admission {
            importance: page.importance,
            kind: page.kind,
            page: page.id,
            pinned: page.pinned,
            range: page.range,
            source: page.source,
            tokens: page.tokens,
            unit: page.unit,
        })
    }

    /// The table of all those admissions, in order from the first, as it stood.
    ///
    /// # Errors
    /// [`Damage`] where they break an invariant.
    pub fn restore(admissions: &[Admission], residency: &Residency) -> Result<Self, Damage> {
        let Residency { generation, unanswered_from, resident } = residency;
        let mut pages: Vec<Page> =
            admissions.iter().map(|it| Page { resident: false, ..Page::from(it) }).collect();
        let mut free = 0_u32;
        for &(first, len) in resident {
            let damage = Damage::Run { run: (first, len), pages: admissions.len() };
            let end = first.checked_add(len).filter(|_| first >= free && len > 0);
            let run = end.and_then(|end| pages.get_mut(first as usize..end as usize));
            let (Some(run), Some(end)) = (run, end) else {
                return Err(damage);
            };
            run.iter_mut().for_each(|page| page.resident = true);
            free = end;
        }
        checked(*generation, *unanswered_from, pages)
    }
}

/// The table of those pages, if they keep every invariant.
pub(crate) fn checked(
    generation: u64,
    unanswered_from: u32,
    pages: Vec<Page>,
) -> Result<PageTable, Damage> {
    let mut tokens = 0_u64;
    let mut units: Vec<(Seq, bool, PageId)> = Vec::new();
    let mut log_begun = false;
    for (page, number) in pages.iter().zip(0_usize..) {
        if u32::try_from(number).ok() != Some(page.id.0) {
            return Err(Violation::PageNumbersUsedUp.into());
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
        if units.last().is_none_or(|last| (last.0, last.1) != (page.unit, page.resident)) {
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
    Ok(PageTable::from_parts(generation, unanswered_from, pages))
}
