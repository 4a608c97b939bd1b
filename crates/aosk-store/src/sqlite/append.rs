//! Appends: what can be checked and encoded beforehand, and what only the transaction can tell.

use aosk_abi::{Code, Content, Epoch, Hash, Pid, Seq, Tenant};
use aosk_ports::{Append, Committed, InboxId, ProcessRow, StoreError};
use rusqlite::Connection;

use super::batch;
use super::checkpoint::Packed;
use super::content;
use super::fault::Fault;
use super::inbox;
use super::journal;
use super::process::{self, Place};
use super::tenant;
use crate::check::{self, is_inline};

/// An append that is consistent in itself, encoded. Whether it continues the journal is seen when
/// its turn comes.
#[derive(Debug)]
pub(super) struct Prepared {
    tenant: Tenant,
    pid: Pid,
    epoch: Epoch,
    prev: Hash,
    first: Seq,
    last: Seq,
    links: Vec<Hash>,
    head: Hash,
    batch: Vec<u8>,
    contents: Vec<Content>,
    row: ProcessRow,
    state: String,
    checkpoint: Option<Packed>,
    consumed: Vec<InboxId>,
}

impl Prepared {
    /// Checks and encodes an append. Takes microseconds for a step, and about 3 ms for each MiB of
    /// a checkpoint.
    pub(super) fn new(append: Append) -> Result<Self, StoreError> {
        let (first, last, head) = check::whole(&append)?;
        let Append { tenant, pid, epoch, prev, records, mut contents, row, checkpoint, consumed } =
            append;
        contents.sort_unstable_by_key(Content::hash);
        contents.dedup_by_key(|content| content.hash());
        let beside: Vec<&Content> = contents.iter().filter(|content| is_inline(content)).collect();
        let encoding = |error: std::io::Error| {
            StoreError::new(Code::StoreIo, format!("process {pid}: cannot compress: {error}"))
        };
        Ok(Self {
            batch: batch::encode(epoch, &records, &beside).map_err(encoding)?,
            links: records.iter().map(|record| record.hash).collect(),
            state: serde_json::to_string(&row.state).map_err(|error| encoding(error.into()))?,
            checkpoint: checkpoint.as_ref().map(Packed::new).transpose().map_err(encoding)?,
            tenant,
            pid,
            epoch,
            prev,
            first,
            last,
            head,
            contents,
            row,
            consumed,
        })
    }

    /// Writes the append, unless it does not continue the journal: then nothing is written.
    pub(super) fn apply(&self, connection: &Connection) -> Result<Committed, Fault> {
        let tenant = tenant::find_or_make(connection, &self.tenant)?;
        let found = process::find(connection, tenant.id, self.pid)?;
        let is_new = found.is_none();
        let mut place = found.unwrap_or_else(|| Place {
            tenant: tenant.id,
            pid: self.pid,
            epoch: self.epoch,
            next: Seq(0),
            head: self.prev,
            origin: self.prev,
            tail: Vec::new(),
            checkpoints: Vec::new(),
            finished: false,
        });
        if self.is_there(connection, &place)? {
            return Ok(Committed { last: self.last });
        }
        for content in &self.contents {
            if !content.is_sealed_with(&tenant.key) {
                return Err(check::foreign_content(self.pid, content.hash()).into());
            }
        }
        inbox::check(connection, tenant.id, self.pid, &self.consumed)?;

        self.store(connection, &mut place)?;
        process::write(connection, &place, is_new, &self.row, &self.state)?;
        inbox::remove(connection, place.tenant, place.pid, &self.consumed)?;
        Ok(Committed { last: self.last })
    }

    /// Stores the events, their contents and the checkpoint, and moves the place behind them.
    pub(super) fn store(&self, connection: &Connection, place: &mut Place) -> Result<(), Fault> {
        for content in self.contents.iter().filter(|content| !is_inline(content)) {
            content::write(connection, place.tenant, content)?;
        }
        journal::append(connection, place, &self.batch, self.last.next(), self.head)?;
        match &self.checkpoint {
            Some(checkpoint) => checkpoint.write(connection, place),
            None => Ok(()),
        }
    }

    /// Whether the journal holds these very records already.
    ///
    /// # Errors
    /// A refusal where it neither does nor is continued by them.
    fn is_there(&self, connection: &Connection, place: &Place) -> Result<bool, Fault> {
        let there = check::Reached { epoch: place.epoch, next: place.next, head: place.head };
        if !there.may_hold(self.pid, self.epoch, self.first, self.prev)? {
            return Ok(false);
        }
        let stored = journal::read(connection, &self.tenant, place, self.first, self.links.len())?;
        if stored.iter().map(|record| record.hash).eq(self.links.iter().copied()) {
            return Ok(true);
        }
        Err(check::taken(self.pid, self.first, self.last, place.next).into())
    }

    /// What it holds in memory, about.
    pub(super) fn size(&self) -> usize {
        let contents: usize = self.contents.iter().map(|content| content.bytes().len()).sum();
        self.batch.len() + contents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::{ContentKey, MicroDollars, ProcessState, Record, Timestamp, Usage};
    use aosk_ports::Checkpoint;

    const PID: Pid = Pid::from_bytes([9; 16]);

    fn append(first: u64, bodies: &[usize], contents: &[usize], saved: Option<usize>) -> Append {
        let (tenant, key, mut prev) =
            (Tenant::local(), ContentKey::from_bytes([1; 32]), Hash::ZERO);
        let mut records = Vec::new();
        for (body, index) in bodies.iter().zip(0_u64..) {
            let mut record = Record {
                seq: Seq(first.wrapping_add(index)),
                epoch: Epoch(1),
                kind: 1,
                version: 1,
                body: vec![b'x'; *body],
                hash: Hash::ZERO,
            };
            record.hash = record.link(&tenant, PID, prev);
            prev = record.hash;
            records.push(record);
        }
        let last = records.last().map_or(Seq(0), |record| record.seq);
        Append {
            tenant,
            pid: PID,
            epoch: Epoch(1),
            prev: Hash::ZERO,
            records: records.into(),
            contents: contents.iter().zip(0_u8..).map(|(&len, n)| key.seal(vec![n; len])).collect(),
            row: ProcessRow {
                name: String::new(),
                model: String::new(),
                state: ProcessState::New,
                steps: 0,
                usage: Usage::default(),
                spent: MicroDollars::ZERO,
                created: Timestamp::default(),
                updated: Timestamp::default(),
            },
            checkpoint: saved.map(|len| Checkpoint {
                seq: last,
                version: 1,
                bytes: vec![0; len],
                stretches: Vec::new(),
            }),
            consumed: Vec::new(),
        }
    }

    #[track_caller]
    fn refused(append: Append, code: Code) {
        let error = Prepared::new(append).expect_err("refused");
        assert_eq!(error.code, code, "{error}");
    }

    #[test]
    fn sizes_below_at_and_above_the_bounds() {
        let half = check::MAX_SMALL / 2;
        Prepared::new(append(0, &[half, half], &[], None)).expect("at the bound of bodies");
        refused(append(0, &[half, half + 1], &[], None), Code::EventEncode);

        let whole = check::MAX_CONTENT;
        Prepared::new(append(0, &[2], &[whole], Some(whole))).expect("at the bound of contents");
        refused(append(0, &[2], &[whole + 1], None), Code::EventEncode);
        refused(append(0, &[2], &[], Some(whole + 1)), Code::EventEncode);
    }

    #[test]
    fn small_contents_together_below_at_and_above_the_bound() {
        let key = ContentKey::from_bytes([1; 32]);
        let many = check::MAX_SMALL / Content::INLINE_MAX;
        let mut large = append(0, &[2], &[], None);
        large.contents = (0..many)
            .map(|n| {
                let mut bytes = vec![0; Content::INLINE_MAX];
                bytes[..8].copy_from_slice(&n.to_le_bytes());
                key.seal(bytes)
            })
            .collect();
        Prepared::new(large.clone()).expect("at the bound");
        large.contents.push(key.seal([1]));
        refused(large, Code::EventEncode);
    }

    #[test]
    fn the_last_number_there_is_numbers_no_event() {
        Prepared::new(append(u64::MAX - 2, &[2, 2], &[], None)).expect("consistent in itself");
        refused(append(u64::MAX - 1, &[2, 2], &[], None), Code::StoreConflict);
        refused(append(u64::MAX, &[2, 2], &[], None), Code::StoreConflict);
    }

    #[test]
    fn a_content_that_comes_twice_is_stored_once() {
        let one = Prepared::new(append(0, &[2], &[3000], None)).expect("fine").batch.len();
        let mut twice = append(0, &[2], &[3000], None);
        twice.contents.push(twice.contents[0].clone());
        assert_eq!(Prepared::new(twice).expect("fine").batch.len(), one);
    }
}
