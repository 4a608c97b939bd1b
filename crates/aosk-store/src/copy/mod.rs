//! Copies of whole stores, from either backend to either.
//!
//! A copy reads one snapshot of its source, beside whoever works on it, and writes one transaction: a
//! target has all of it or nothing, so a copy that was cut off is begun again and never found half
//! done. (To go on where it stopped, a copy would need a mark in the target that says how far it came,
//! and everyone who opens a store would need to look for it.) It goes append by append, in the form in
//! which writers hand events to a store, so each backend stores them as its own: every chain is
//! computed anew on the way, every content hashed, and in the end every head of the target is
//! compared with the source's. Keys, epochs, checkpoints and the numbers of inbox items stay what they
//! are; leases do not come along, nor the time for which contents are held that nothing names yet.

mod gc;
mod place;

use std::collections::BTreeMap;
use std::path::Path;

use aosk_abi::{ChunkList, Code, Content, ContentKey, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{Append, Checkpoint, InboxId, Posted, Receipt, StoreError};

pub use gc::{Collected, collect};
pub(crate) use gc::{Pace, Sweep, collect_at};
pub use place::StorePlace;

use crate::check;
use crate::prune::{Kept, verified};
use crate::sqlite::Backup;

/// What a copy holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Tenants.
    pub tenants: u64,
    /// Events of all processes.
    pub events: u64,
    /// Contents that are stored once for their tenant, each chunk being one.
    pub blobs: u64,
    /// The bytes of these.
    pub blob_bytes: u64,
    /// Contents that stand in chunks.
    pub chunked: u64,
    /// Saved folds.
    pub checkpoints: u64,
    /// Items that wait in the inbox.
    pub items: u64,
    /// Records of removed processes.
    pub prunings: u64,
    /// The end of each process's chain, the same in source and target: the number of its events and
    /// the link after the last.
    pub heads: BTreeMap<(Tenant, Pid), (Seq, Hash)>,
}

/// A process as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    pub(crate) receipt: Receipt,
    /// The link before its first event.
    pub(crate) origin: Hash,
}

/// An append as it is stored: the link before it, its events, the contents beside them.
pub(crate) type Stored = (Hash, Vec<Record>, Vec<Vec<u8>>);

impl Whole {
    /// The append as it was made, in the form in which writers hand it to a store.
    pub(crate) fn append(&self, key: &ContentKey, (prev, records, contents): Stored) -> Append {
        let Receipt { tenant, pid, epoch, row, .. } = &self.receipt;
        Append {
            tenant: tenant.clone(),
            pid: *pid,
            epoch: records.first().map_or(*epoch, |record| record.epoch),
            prev,
            records: records.into(),
            contents: contents.into_iter().map(|bytes| key.seal(bytes)).collect(),
            row: row.clone(),
            checkpoint: None,
            consumed: Vec::new(),
        }
    }
}

/// A store that is read, all of it as it is at one moment.
pub(crate) trait Source {
    fn tenants(&mut self) -> Result<Vec<(Tenant, ContentKey)>, StoreError>;

    /// The tenant's processes, by pid.
    fn processes(&mut self, tenant: &Tenant) -> Result<Vec<Whole>, StoreError>;

    /// Some of the appends of a process as they were made, from the one on that begins with event
    /// `from`, linked after `prev`; none behind the last. The contents are those that stand beside the
    /// events.
    fn appends(&mut self, whole: &Whole, from: Seq, prev: Hash) -> Result<Vec<Append>, StoreError>;

    /// The checkpoints of a process, ascending, each with all that it stands on.
    fn checkpoints(&mut self, whole: &Whole) -> Result<Vec<Checkpoint>, StoreError>;

    /// The addresses of some of the tenant's blobs, ascending, behind `after`.
    fn blobs(&mut self, tenant: &Tenant, after: Option<Hash>) -> Result<Vec<Hash>, StoreError>;

    /// A blob.
    fn blob(&mut self, tenant: &Tenant, hash: Hash) -> Result<Content, StoreError>;

    /// The addresses of the tenant's contents in chunks, ascending.
    fn lists(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError>;

    /// The chunks of a content, checked against its address; `None` where it stands in none.
    fn list(&mut self, tenant: &Tenant, hash: Hash) -> Result<Option<ChunkList>, StoreError>;

    /// What is kept now though it may be named by nothing.
    fn held(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError>;

    fn inbox(&mut self, tenant: &Tenant) -> Result<Vec<Posted>, StoreError>;

    /// The first event of a process; `None` where it has none.
    fn first(&mut self, whole: &Whole) -> Result<Option<Record>, StoreError>;

    /// The records of removed processes, by number.
    fn prunings(&mut self) -> Result<Vec<Kept>, StoreError>;

    /// The blobs and lists that the last collection found to be named by nothing.
    fn suspects(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError>;

    /// How many bytes these blobs and lists take.
    fn stored_bytes(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<u64, StoreError>;
}

/// A store that is written. Nothing of it is there before [`finish`](Self::finish).
pub(crate) trait Target {
    fn tenant(&mut self, tenant: &Tenant, key: ContentKey) -> Result<(), StoreError>;

    fn blob(&mut self, tenant: &Tenant, blob: &Content) -> Result<(), StoreError>;

    /// The list of a content, after its chunks.
    fn list(&mut self, tenant: &Tenant, list: &ChunkList) -> Result<(), StoreError>;

    /// Begins a process.
    fn begin(&mut self, whole: &Whole) -> Result<(), StoreError>;

    /// Goes on with the process that was begun last.
    fn appends(&mut self, appends: Vec<Append>) -> Result<(), StoreError>;

    /// Ends the process that was begun last.
    fn end(&mut self, whole: &Whole) -> Result<(), StoreError>;

    fn post(&mut self, tenant: &Tenant, items: Vec<Posted>) -> Result<(), StoreError>;

    /// A record of removed processes.
    fn record(&mut self, kept: &Kept) -> Result<(), StoreError>;

    /// The tenant's processes as they are there now.
    fn processes(&mut self, tenant: &Tenant) -> Result<Vec<Receipt>, StoreError>;

    /// Makes all of it durable and seen.
    fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

/// Copies a store into a place that holds none. Blocks for as long as that takes; it must not be
/// called on a thread that drives futures.
///
/// # Errors
/// [`Code::StoreOpen`] where there is no source, or the target holds a store already;
/// [`Code::StoreOwned`] where somebody works on the target; damage of the source, which is not copied;
/// and what either place says. The target is then as it was.
pub fn copy(from: &StorePlace, to: &StorePlace) -> Result<Copied, StoreError> {
    let mut source = from.source()?;
    let mut target = to.target()?;
    let copied = run(&mut *source, &mut *target)?;
    target.finish()?;
    Ok(copied)
}

impl Backup {
    /// Copies the store in that place, whichever it is, as it is at one moment. Blocks as [`copy`]
    /// does.
    ///
    /// # Errors
    /// As [`Backup::of`] and [`copy`].
    pub fn of_place(from: &StorePlace, file: &Path) -> Result<Self, StoreError> {
        if let StorePlace::Sqlite(dir) = from {
            return Self::of(dir, file);
        }
        let backup = Self::begin(file)?;
        copy(from, &StorePlace::Backup(backup.path().to_owned()))?;
        Ok(backup)
    }
}

fn run(source: &mut dyn Source, target: &mut dyn Target) -> Result<Copied, StoreError> {
    let mut copied = Copied::default();
    for (tenant, key) in source.tenants()? {
        copied.tenants += 1;
        target.tenant(&tenant, key)?;
        let mut after = None;
        loop {
            let hashes = source.blobs(&tenant, after)?;
            let Some(last) = hashes.last() else { break };
            after = Some(*last);
            for hash in hashes {
                let blob = source.blob(&tenant, hash)?;
                copied.blobs += 1;
                copied.blob_bytes += blob.bytes().len() as u64;
                target.blob(&tenant, &blob)?;
            }
        }
        for hash in source.lists(&tenant)? {
            let Some(list) = source.list(&tenant, hash)? else { continue };
            for (chunk, place) in list.chunks().iter().zip(0..) {
                let bytes = source.blob(&tenant, chunk.address)?;
                if !list.holds(&key, place, bytes.bytes()) {
                    let what = check::wrong_chunk(hash, place);
                    return Err(StoreError::new(
                        Code::StoreCorrupt,
                        format!("{what}; the source is damaged and was not copied"),
                    ));
                }
            }
            copied.chunked += 1;
            target.list(&tenant, &list)?;
        }
        let processes = source.processes(&tenant)?;
        for whole in &processes {
            process(source, target, whole, &mut copied)?;
        }
        let mut items = source.inbox(&tenant)?;
        items.sort_by_key(|(_, InboxId(id), _)| *id);
        copied.items += items.len() as u64;
        target.post(&tenant, items)?;
        let there = target.processes(&tenant)?;
        if !there.iter().eq(processes.iter().map(|whole| &whole.receipt)) {
            return Err(StoreError::new(
                Code::StoreCorrupt,
                format!(
                    "tenant {tenant}: the copy lists other processes than its source; nothing was \
                     kept of it: copy again, and report this if it comes back"
                ),
            ));
        }
    }
    let kept = source.prunings()?;
    verified(&kept)?;
    copied.prunings = kept.len() as u64;
    kept.iter().try_for_each(|kept| target.record(kept))?;
    Ok(copied)
}

fn process(
    source: &mut dyn Source,
    target: &mut dyn Target,
    whole: &Whole,
    copied: &mut Copied,
) -> Result<(), StoreError> {
    let Receipt { tenant, pid, next: end, head, .. } = &whole.receipt;
    let mut saved = BTreeMap::new();
    let mut stands_on = Vec::new();
    for mut checkpoint in source.checkpoints(whole)? {
        let all = checkpoint.stretches.clone();
        checkpoint.stretches.retain(|stretch| !stands_on.contains(&stretch.first));
        stands_on.extend(all.iter().map(|stretch| stretch.first));
        saved.insert(checkpoint.seq, checkpoint);
    }
    copied.checkpoints += saved.len() as u64;
    target.begin(whole)?;
    let (mut next, mut prev) = (Seq(0), whole.origin);
    while next < *end {
        let mut appends = source.appends(whole, next, prev)?;
        for append in &mut appends {
            let (_, last, link) = check::whole(append)?;
            append.checkpoint = saved.remove(&last);
            copied.events += append.records.len() as u64;
            (next, prev) = (last.next(), link);
        }
        if appends.is_empty() {
            break;
        }
        target.appends(appends)?;
    }
    let left = saved.keys().next().copied();
    if (next, prev) != (*end, *head) || left.is_some() {
        let what = match left {
            Some(seq) => format!("its checkpoint at event {seq} is of no append"),
            None => format!("its chain ends at event {next} with {prev}, not at {end} with {head}"),
        };
        return Err(StoreError::new(
            Code::ChainBroken,
            format!("process {pid}: {what}; the source is damaged and was not copied"),
        ));
    }
    copied.heads.insert((tenant.clone(), *pid), (next, prev));
    target.end(whole)
}
