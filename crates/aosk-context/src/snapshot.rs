//! How a page table is kept in a checkpoint.
//!
//! One row per page, with one-letter keys and everything left out that is as usual: about 30 bytes
//! a page in CBOR. A checkpoint is read back as input like any other: a table that
//! breaks an invariant is refused.

use aosk_abi::{Admission, PageId, PageKind, Ppm, Seq, Source, Tokens};
use serde::{Deserialize, Serialize};

use crate::invariant::Violation;
use crate::page::Page;
use crate::residency::{Clock, Damage, checked};
use crate::table::PageTable;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    #[serde(rename = "g")]
    generation: u64,
    #[serde(rename = "a")]
    unanswered_from: u32,
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    turns: u32,
    /// The highest credit of a page that has left.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    inflation: u32,
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
    /// Absent: when the page before was.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    born: Option<u32>,
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    accesses: u32,
    /// Absent: as long ago as it was born.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    last_access: Option<u32>,
    /// What its credit has beyond what its accesses earn.
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    inflation: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Row {
    fn of(page: &Page, born_before: u32) -> Self {
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
            born: (page.born != born_before).then_some(page.born),
            accesses: page.accesses,
            last_access: (page.last_access != page.born).then_some(page.last_access),
            inflation: page.inflation(),
        }
    }

    fn page(self, id: PageId, born_before: u32) -> Page {
        let born = self.born.unwrap_or(born_before);
        let mut page = Page {
            id,
            kind: self.kind,
            source: Source { seq: self.seq, part: self.part },
            range: self.range,
            unit: self.unit.unwrap_or(self.seq),
            tokens: self.tokens,
            pinned: self.pinned,
            importance: self.importance.unwrap_or(Admission::DEFAULT_IMPORTANCE),
            resident: !self.swapped,
            born,
            accesses: self.accesses,
            last_access: self.last_access.unwrap_or(born),
            credit: 0,
        };
        page.credit = self.inflation.saturating_add(page.earned());
        page
    }
}

impl From<PageTable> for Snapshot {
    fn from(table: PageTable) -> Self {
        Self {
            generation: table.generation(),
            unanswered_from: table.unanswered_from(),
            turns: table.turns(),
            inflation: table.inflation(),
            pages: table
                .pages()
                .iter()
                .scan(0, |before, page| Some(Row::of(page, std::mem::replace(before, page.born))))
                .collect(),
        }
    }
}

impl TryFrom<Snapshot> for PageTable {
    type Error = Damage;

    fn try_from(snapshot: Snapshot) -> Result<Self, Damage> {
        let Snapshot { generation, unanswered_from, turns, inflation, pages: rows } = snapshot;
        let mut pages = Vec::with_capacity(rows.len());
        let mut born = 0;
        for (row, number) in rows.into_iter().zip(0_usize..) {
            let number = u32::try_from(number).map_err(|_| Violation::PageNumbersUsedUp)?;
            let page = row.page(PageId(number), born);
            born = page.born;
            pages.push(page);
        }
        checked(generation, unanswered_from, Clock { turns, inflation }, pages)
    }
}
