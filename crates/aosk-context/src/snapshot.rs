//! How a page table is kept in a checkpoint.
//!
//! One row per page, with one-letter keys and everything left out that is as usual: about 30 bytes
//! a page in CBOR. A checkpoint is read back as input like any other: a table that
//! breaks an invariant is refused.

use std::collections::BTreeMap;

use aosk_abi::{Admission, PageId, PageKind, Ppm, Seq, Source, Tokens};
use serde::{Deserialize, Serialize};

use crate::invariant::{Violation, check_page};
use crate::page::Page;
use crate::table::PageTable;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    #[serde(rename = "g")]
    generation: u64,
    #[serde(rename = "a")]
    unanswered_from: u32,
    #[serde(rename = "p")]
    pages: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(rename = "k")]
    kind: PageKind,
    #[serde(rename = "s")]
    seq: Seq,
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    part: u16,
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    range: Option<(u64, u64)>,
    /// Absent: the event of the page itself.
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    unit: Option<Seq>,
    #[serde(rename = "t")]
    tokens: Tokens,
    #[serde(rename = "pin", default, skip_serializing_if = "is_default")]
    pinned: bool,
    /// Absent: the importance of a page that nobody rated.
    #[serde(rename = "i", default, skip_serializing_if = "is_default")]
    importance: Option<Ppm>,
    #[serde(rename = "out", default, skip_serializing_if = "is_default")]
    swapped: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl From<&Page> for Row {
    fn from(page: &Page) -> Self {
        Self {
            kind: page.kind,
            seq: page.source.seq,
            part: page.source.part,
            range: page.range,
            unit: (page.unit != page.source.seq).then_some(page.unit),
            tokens: page.tokens,
            pinned: page.pinned,
            importance: (page.importance != Admission::DEFAULT_IMPORTANCE)
                .then_some(page.importance),
            swapped: !page.resident,
        }
    }
}

impl Row {
    fn page(self, id: PageId) -> Page {
        Page {
            id,
            kind: self.kind,
            source: Source { seq: self.seq, part: self.part },
            range: self.range,
            unit: self.unit.unwrap_or(self.seq),
            tokens: self.tokens,
            pinned: self.pinned,
            importance: self.importance.unwrap_or(Admission::DEFAULT_IMPORTANCE),
            resident: !self.swapped,
        }
    }
}

impl From<PageTable> for Snapshot {
    fn from(table: PageTable) -> Self {
        Self {
            generation: table.generation(),
            unanswered_from: table.unanswered_from(),
            pages: table.pages().iter().map(Row::from).collect(),
        }
    }
}

/// Why a snapshot is no page table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the page table of the checkpoint is damaged: {0}")]
    Violation(#[from] Violation),
    #[error(
        "the page table of the checkpoint is damaged: its resident pages have more than 2^64 tokens"
    )]
    Tokens,
    #[error(
        "the page table of the checkpoint is damaged: the first unanswered page is {found} of \
         {pages}"
    )]
    Unanswered { found: u32, pages: usize },
}

impl TryFrom<Snapshot> for PageTable {
    type Error = Damage;

    fn try_from(snapshot: Snapshot) -> Result<Self, Damage> {
        let Snapshot { generation, unanswered_from, pages: rows } = snapshot;
        let mut pages = Vec::with_capacity(rows.len());
        let mut tokens = 0_u64;
        let mut units: BTreeMap<Seq, bool> = BTreeMap::new();
        let mut log_begun = false;
        for (row, number) in rows.into_iter().zip(0_usize..) {
            let number = u32::try_from(number).map_err(|_| Violation::PageNumbersUsedUp)?;
            let page = row.page(PageId(number));
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
            if *units.entry(page.unit).or_insert(page.resident) != page.resident {
                return Err(Violation::UnitTorn { unit: page.unit, page: page.id }.into());
            }
            if page.resident {
                tokens = tokens.checked_add(page.tokens.0).ok_or(Damage::Tokens)?;
            }
            pages.push(page);
        }
        if unanswered_from as usize > pages.len() {
            return Err(Damage::Unanswered { found: unanswered_from, pages: pages.len() });
        }
        Ok(Self::from_parts(generation, unanswered_from, pages))
    }
}
