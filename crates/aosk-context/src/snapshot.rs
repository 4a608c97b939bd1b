//! How a page table is kept in a checkpoint.
//!
//! One row per page, with one-letter keys and everything left out that is as usual: about 30 bytes
//! a page in CBOR. A checkpoint is read back as input like any other: a table that
//! breaks an invariant is refused.

use aosk_abi::{Admission, PageId, PageKind, Ppm, Seq, Source, Tokens};
use serde::{Deserialize, Serialize};

use crate::invariant::Violation;
use crate::page::Page;
use crate::residency::{Damage, checked};
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

impl TryFrom<Snapshot> for PageTable {
    type Error = Damage;

    fn try_from(snapshot: Snapshot) -> Result<Self, Damage> {
        let Snapshot { generation, unanswered_from, pages: rows } = snapshot;
        let mut pages = Vec::with_capacity(rows.len());
        for (row, number) in rows.into_iter().zip(0_usize..) {
            let number = u32::try_from(number).map_err(|_| Violation::PageNumbersUsedUp)?;
            pages.push(row.page(PageId(number)));
        }
        checked(generation, unanswered_from, pages)
    }
}
