//! The image: what a disk holds, and the rules by which it changes.
//!
//! This is the model against which real stores are judged, so it has no transactions, no cache and
//! no clever layout: an append is first checked against everything that the port promises and then
//! written down. Where the port leaves a store some freedom, the image takes the strict side: a
//! content of up to [`Content::INLINE_MAX`] bytes is found only beside an event of the append that
//! brought it, as in a store that keeps it in the append's row, although one map of all contents
//! would be shorter. A kernel that leans on the shorter way would pass here and fail there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aosk_abi::{
    Code, Content, ContentKey, Epoch, Hash, MicroDollars, Pid, Record, Seq, Tenant, Timestamp,
};
use aosk_ports::{
    Append, Checkpoint, Draw, Drawn, InboxId, InboxItem, ProcessFilter, ProcessRow, Receipt,
    StoreError, Stretch,
};

use crate::flaw::Flaw;

/// The bytes of contents by their address.
pub(crate) type Contents = BTreeMap<Hash, Arc<[u8]>>;

/// Everything that is durable.
#[derive(Debug, Default)]
pub(crate) struct Image {
    tenants: BTreeMap<Tenant, Shelf>,
    posted: i64,
}

/// What belongs to one tenant.
#[derive(Debug, Default)]
struct Shelf {
    processes: BTreeMap<Pid, Stored>,
    blobs: Contents,
    inbox: BTreeMap<InboxId, (Pid, InboxItem)>,
    /// What each drawer has drawn of a budget in a window.
    drawn: BTreeMap<(String, Timestamp), BTreeMap<u64, MicroDollars>>,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Stored {
    epoch: Epoch,
    /// The chain's link before the first event; a process that begins as the copy of another has
    /// one that is not zero.
    root: Hash,
    pub(crate) row: ProcessRow,
    pub(crate) records: Vec<Record>,
    /// The small contents of each append, under the append's last event.
    pub(crate) beside: BTreeMap<Seq, Contents>,
    pub(crate) checkpoints: BTreeMap<Seq, Checkpoint>,
    pub(crate) stretches: Vec<Stretch>,
}

impl Stored {
    fn next(&self) -> Seq {
        Seq(self.records.len() as u64)
    }

    fn head(&self) -> Hash {
        self.records.last().map_or(self.root, |record| record.hash)
    }

    fn holds(&self, record: &Record) -> bool {
        self.at(record.seq) == Some(record)
    }

    fn at(&self, seq: Seq) -> Option<&Record> {
        self.records.get(usize::try_from(seq.0).ok()?)
    }
}

impl Image {
    /// Whether an append can be committed, and is not in the journal already. `key` is that of its
    /// tenant.
    pub(crate) fn check(
        &self,
        key: &ContentKey,
        append: &Append,
        flaw: Option<Flaw>,
    ) -> Result<bool, StoreError> {
        let shelf = self.tenants.get(&append.tenant);
        let stored = shelf.and_then(|shelf| shelf.processes.get(&append.pid));
        let last = check_records(append, stored, flaw)?;
        if stored.is_some_and(|stored| last < stored.next()) && flaw != Some(Flaw::ForgottenPlace) {
            return Ok(false);
        }
        check_beside(append, last, key, shelf.map(|shelf| &shelf.inbox))?;
        Ok(true)
    }

    /// Writes an append down that was checked.
    pub(crate) fn put(&mut self, append: Append, flaw: Option<Flaw>) {
        let Some(last) = append.records.last().map(|record| record.seq) else {
            return;
        };
        let shelf = self.tenants.entry(append.tenant).or_default();
        let stored = shelf.processes.entry(append.pid).or_insert_with(|| Stored {
            epoch: append.epoch,
            root: append.prev,
            row: append.row.clone(),
            records: Vec::new(),
            beside: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            stretches: Vec::new(),
        });
        let (small, large): (Vec<_>, Vec<_>) = append
            .contents
            .into_iter()
            .partition(|content| content.bytes().len() <= Content::INLINE_MAX);
        let filed = |contents: Vec<Content>| {
            contents.into_iter().map(|content| (content.hash(), content.bytes().clone()))
        };
        if flaw != Some(Flaw::StaleRow) {
            stored.row = append.row;
        }
        stored.records.extend(append.records);
        if flaw != Some(Flaw::ForgottenContent) {
            stored.beside.insert(last, filed(small).collect());
        }
        shelf.blobs.extend(filed(large));
        if let Some(checkpoint) = append.checkpoint {
            let settled = checkpoint.settle(&mut stored.stretches);
            stored.checkpoints.insert(settled.seq, settled);
        }
        if flaw != Some(Flaw::RepeatedItem) {
            for id in &append.consumed {
                shelf.inbox.remove(id);
            }
        }
    }

    /// Forgets the newest append of each process, but for one that began it.
    pub(crate) fn forget_newest(&mut self) {
        for stored in self.tenants.values_mut().flat_map(|shelf| shelf.processes.values_mut()) {
            let before = stored.beside.keys().rev().nth(1).map(|seq| seq.0 + 1);
            let kept = before.and_then(|kept| usize::try_from(kept).ok());
            stored.records.truncate(kept.unwrap_or(usize::MAX));
        }
    }

    /// Alters the newest event of each process.
    pub(crate) fn alter_newest(&mut self) {
        for stored in self.tenants.values_mut().flat_map(|shelf| shelf.processes.values_mut()) {
            if let Some(byte) = stored.records.last_mut().and_then(|it| it.body.last_mut()) {
                *byte = b' ';
            }
        }
    }

    /// Empties the inbox.
    pub(crate) fn forget_items(&mut self) {
        self.tenants.values_mut().for_each(|shelf| shelf.inbox.clear());
    }

    /// Takes a process over.
    pub(crate) fn claim(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
        expected: Epoch,
    ) -> Result<Epoch, StoreError> {
        self.expect_epoch(tenant, pid, expected)?;
        let stored = self.stored_mut(tenant, pid)?;
        stored.epoch = stored.epoch.next();
        Ok(stored.epoch)
    }

    pub(crate) fn expect_epoch(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
        expected: Epoch,
    ) -> Result<(), StoreError> {
        let stored = self.stored_mut(tenant, pid)?;
        if stored.epoch != expected {
            return Err(StoreError::new(
                Code::StoreStaleEpoch,
                format!("process {pid} is in epoch {}, claimed in {expected}", stored.epoch),
            ));
        }
        Ok(())
    }

    pub(crate) fn stored_mut(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
    ) -> Result<&mut Stored, StoreError> {
        self.tenants
            .get_mut(tenant)
            .and_then(|shelf| shelf.processes.get_mut(&pid))
            .ok_or_else(|| unknown(tenant, pid))
    }

    /// Removes items of a process from the inbox.
    pub(crate) fn dismiss(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
        next: Seq,
        items: &[InboxId],
    ) -> Result<(), StoreError> {
        let there = self.stored(tenant, pid)?.next();
        if there != next {
            let message =
                format!("process {pid}: its next event was {next}, and is {there} by now");
            return Err(StoreError::new(Code::StoreConflict, message));
        }
        let shelf = self.tenants.get_mut(tenant).ok_or_else(|| unknown(tenant, pid))?;
        shelf.inbox.retain(|id, (whose, _)| *whose != pid || !items.contains(id));
        Ok(())
    }

    /// Puts an item into the inbox.
    pub(crate) fn post(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> Result<InboxId, StoreError> {
        let shelf = self
            .tenants
            .get_mut(tenant)
            .filter(|shelf| shelf.processes.contains_key(&pid))
            .ok_or_else(|| unknown(tenant, pid))?;
        self.posted += 1;
        let id = InboxId(self.posted);
        shelf.inbox.insert(id, (pid, item));
        Ok(id)
    }

    /// Sets what a drawer has drawn of a budget.
    pub(crate) fn draw(&mut self, draw: &Draw) -> Result<Drawn, StoreError> {
        if draw.budget.len() > 400 || draw.budget.contains('\0') {
            let message = "the name of a budget has more than 400 bytes, or U+0000";
            return Err(StoreError::new(Code::StoreConflict, message));
        }
        let shelf = self.tenants.entry(draw.tenant.clone()).or_default();
        let drawers = shelf.drawn.entry((draw.budget.clone(), draw.window)).or_default();
        let own = drawers.get(&draw.drawer).copied().unwrap_or_default();
        let others = drawers.iter().filter(|(drawer, _)| **drawer != draw.drawer);
        let others: MicroDollars = others.map(|(_, drawn)| *drawn).sum();
        let granted = draw.drawn <= own || others + draw.drawn <= draw.limit;
        if granted {
            drawers.insert(draw.drawer, draw.drawn);
        }
        Ok(Drawn { granted, others })
    }

    /// The items of all of a tenant's processes, oldest first.
    pub(crate) fn pending(&self, tenant: &Tenant) -> Vec<(Pid, InboxId, InboxItem)> {
        let items = self.tenants.get(tenant).into_iter().flat_map(|shelf| &shelf.inbox);
        items.map(|(id, (pid, item))| (*pid, *id, item.clone())).collect()
    }

    /// A process.
    pub(crate) fn process(&self, tenant: &Tenant, pid: Pid) -> Option<Receipt> {
        let stored = self.tenants.get(tenant)?.processes.get(&pid)?;
        Some(receipt(tenant, pid, stored))
    }

    /// A tenant's processes by pid.
    pub(crate) fn processes(&self, tenant: &Tenant, filter: ProcessFilter) -> Vec<Receipt> {
        let all = self.tenants.get(tenant).into_iter().flat_map(|shelf| &shelf.processes);
        all.filter(|(_, stored)| match filter {
            ProcessFilter::All => true,
            ProcessFilter::Unfinished => !stored.row.state.is_final(),
        })
        .map(|(pid, stored)| receipt(tenant, *pid, stored))
        .collect()
    }

    /// Up to `limit` records from `from` on.
    pub(crate) fn read(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let stored = self.stored(tenant, pid)?;
        let skip = usize::try_from(from.0).unwrap_or(usize::MAX);
        let mut prev = skip
            .checked_sub(1)
            .and_then(|index| stored.records.get(index))
            .map_or(stored.root, |record| record.hash);
        let mut records = Vec::new();
        for record in stored.records.iter().skip(skip).take(limit) {
            record
                .verify(tenant, pid, prev)
                .map_err(|error| StoreError::new(Code::ChainBroken, error.to_string()))?;
            prev = record.hash;
            records.push(record.clone());
        }
        Ok(records)
    }

    /// The bytes of contents, in the order asked.
    pub(crate) fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> Result<Vec<Arc<[u8]>>, StoreError> {
        let stored = self.stored(tenant, pid)?;
        let blobs = self.tenants.get(tenant).map(|shelf| &shelf.blobs);
        let find = |(seq, hash): &(Seq, Hash)| {
            let beside = stored.beside.range(seq..).next().and_then(|(_, small)| small.get(hash));
            let found = beside.or_else(|| blobs.and_then(|blobs| blobs.get(hash)));
            found.cloned().ok_or_else(|| {
                StoreError::new(
                    Code::StoreContentMissing,
                    format!("content {hash} is not stored with event {seq} of process {pid}"),
                )
            })
        };
        wanted.iter().map(find).collect()
    }

    /// The newest checkpoint at or before `at`.
    pub(crate) fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let stored = self.stored(tenant, pid)?;
        let newest = stored.checkpoints.range(..=at.unwrap_or(Seq(u64::MAX))).next_back();
        Ok(newest.map(|(_, checkpoint)| checkpoint.on(&stored.stretches)))
    }

    fn stored(&self, tenant: &Tenant, pid: Pid) -> Result<&Stored, StoreError> {
        self.tenants
            .get(tenant)
            .and_then(|shelf| shelf.processes.get(&pid))
            .ok_or_else(|| unknown(tenant, pid))
    }
}

fn unknown(tenant: &Tenant, pid: Pid) -> StoreError {
    StoreError::new(
        Code::StoreUnknownProcess,
        format!("tenant {tenant} has no process {pid}; `aosk ps --all` lists those there are"),
    )
}

fn receipt(tenant: &Tenant, pid: Pid, stored: &Stored) -> Receipt {
    Receipt {
        tenant: tenant.clone(),
        pid,
        epoch: stored.epoch,
        next: stored.next(),
        head: stored.head(),
        row: stored.row.clone(),
    }
}

/// Whether the records continue the journal, or stand in it already as they are; which is the
/// last.
fn check_records(
    append: &Append,
    stored: Option<&Stored>,
    flaw: Option<Flaw>,
) -> Result<Seq, StoreError> {
    let pid = append.pid;
    let conflict = |what: String| {
        StoreError::new(
            Code::StoreConflict,
            format!("{what}: the append does not continue the journal of process {pid}"),
        )
    };
    let (Some(first), Some(last)) = (append.records.first(), append.records.last()) else {
        return Err(conflict("it holds no event".to_owned()));
    };
    if let Some(stored) = stored
        && append.epoch != stored.epoch
        && flaw != Some(Flaw::ForgottenEpoch)
    {
        return Err(StoreError::new(
            Code::StoreStaleEpoch,
            format!(
                "epoch {} is not that of process {pid}, which is {}: another kernel owns it",
                append.epoch, stored.epoch
            ),
        ));
    }
    if stored.is_some_and(|stored| append.records.iter().all(|record| stored.holds(record))) {
        return Ok(last.seq);
    }
    if flaw == Some(Flaw::ForgottenPlace) {
        return Ok(last.seq);
    }
    let (next, head) = stored.map_or((Seq(0), append.prev), |at| (at.next(), at.head()));
    if first.seq != next {
        return Err(conflict(format!("it begins at event {} instead of {next}", first.seq)));
    }
    if append.prev != head {
        return Err(conflict(format!("it is linked to {} instead of {head}", append.prev)));
    }
    let (mut seq, mut prev) = (next, head);
    for record in &append.records {
        if record.seq != seq {
            return Err(conflict(format!("event {} stands where {seq} belongs", record.seq)));
        }
        if record.epoch != append.epoch {
            return Err(conflict(format!(
                "event {seq} has epoch {} in an append of epoch {}",
                record.epoch, append.epoch
            )));
        }
        record.verify(&append.tenant, pid, prev).map_err(|error| conflict(error.to_string()))?;
        (seq, prev) = (seq.next(), record.hash);
    }
    Ok(last.seq)
}

/// Whether what stands beside the records fits to them.
fn check_beside(
    append: &Append,
    last: Seq,
    key: &ContentKey,
    inbox: Option<&BTreeMap<InboxId, (Pid, InboxItem)>>,
) -> Result<(), StoreError> {
    let conflict = |what: String| Err(StoreError::new(Code::StoreConflict, what));
    if let Some(checkpoint) = &append.checkpoint
        && checkpoint.seq != last
    {
        let at = checkpoint.seq;
        return conflict(format!("a checkpoint at event {at} came with an append up to {last}"));
    }
    if let Some(Checkpoint { seq, stretches, .. }) = &append.checkpoint {
        let ascend = stretches.windows(2).all(|pair| pair[0].first < pair[1].first);
        if !ascend || stretches.iter().any(|stretch| stretch.first > *seq) {
            return conflict(format!("the stretches of a checkpoint do not ascend to event {seq}"));
        }
    }
    let alien = |content: &&Content| key.hash(content.bytes()) != content.hash();
    if let Some(content) = append.contents.iter().find(alien) {
        let (tenant, hash) = (&append.tenant, content.hash());
        return conflict(format!("content {hash} was not hashed with the key of tenant {tenant}"));
    }
    let mut taken = BTreeSet::new();
    let mut foreign = |id: &&InboxId| {
        let item = inbox.and_then(|inbox| inbox.get(id));
        !taken.insert(**id) || item.is_none_or(|(pid, _)| *pid != append.pid)
    };
    if let Some(InboxId(id)) = append.consumed.iter().find(|id| foreign(id)) {
        return conflict(format!("inbox item {id} does not wait for process {}", append.pid));
    }
    Ok(())
}
