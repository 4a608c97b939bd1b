//! An append that is consistent in itself, encoded. Whether it continues the journal is seen when
//! its turn comes.

use aosk_abi::{Code, Content, Epoch, Hash, Pid, Seq, Tenant};
use aosk_ports::{Append, InboxId, ProcessRow, StoreError};

use super::batch::Row;
use super::checkpoint::Packed;
use crate::check::{self, is_inline};

/// The append.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) tenant: Tenant,
    pub(super) pid: Pid,
    pub(super) epoch: Epoch,
    pub(super) prev: Hash,
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// The link after each record.
    pub(super) links: Vec<Hash>,
    pub(super) batch: Row,
    pub(super) contents: Vec<Content>,
    pub(super) row: ProcessRow,
    pub(super) detail: String,
    pub(super) checkpoint: Option<Packed>,
    pub(super) consumed: Vec<InboxId>,
}

impl Prepared {
    /// Checks and encodes an append. Takes microseconds for a step, and about 3 ms for each MiB of
    /// a checkpoint.
    pub(super) fn new(append: Append) -> Result<Self, StoreError> {
        let (first, last, _) = check::whole(&append)?;
        let Append { tenant, pid, epoch, prev, records, mut contents, row, checkpoint, consumed } =
            append;
        contents.sort_unstable_by_key(Content::hash);
        contents.dedup_by_key(|content| content.hash());
        let beside: Vec<&Content> = contents.iter().filter(|content| is_inline(content)).collect();
        let encoding = |error: std::io::Error| {
            StoreError::new(Code::StoreIo, format!("process {pid}: cannot encode: {error}"))
        };
        Ok(Self {
            batch: Row::encode(&records, &beside),
            links: records.iter().map(|record| record.hash).collect(),
            detail: serde_json::to_string(&row.state).map_err(|error| encoding(error.into()))?,
            checkpoint: checkpoint.as_ref().map(Packed::new).transpose().map_err(encoding)?,
            tenant,
            pid,
            epoch,
            prev,
            first,
            last,
            contents,
            row,
            consumed,
        })
    }

    /// The link after its last record.
    pub(super) fn head(&self) -> Hash {
        self.links.last().copied().unwrap_or(self.prev)
    }

    /// The contents that are stored once for the tenant.
    pub(super) fn large(&self) -> impl Iterator<Item = &Content> {
        self.contents.iter().filter(|content| !is_inline(content))
    }

    /// What it holds in memory, about.
    pub(super) fn size(&self) -> usize {
        let contents: usize = self.contents.iter().map(|content| content.bytes().len()).sum();
        let saved = self.checkpoint.as_ref().map_or(0, Packed::size);
        self.batch.size() + contents + saved
    }
}
