//! The disk: what outlives a machine.
//!
//! Between a program and the platter stands a cache that nobody promised anything. What was written
//! and not synced when the power went may be there afterwards or not. A log on one disk keeps a
//! prefix of it; a log in segments, or a database behind a network, may keep a later write and lose
//! an earlier one. The store's contract knows only one order, that of one process's appends, and
//! only one unit, the append; so the dice keep any combination that has both. The cache belongs to
//! the disk and not to the store that was open on it, and its fate is decided when the disk is
//! opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, ContentKey, Epoch, Pid, Seq, Tenant};
use aosk_ports::{Append, Committed, InboxId, InboxItem, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::dice::{Chance, Dice};
use crate::faults::DiskFaults;
use crate::flaw::Flaw;
use crate::image::Image;
use crate::lease::Owners;
use crate::queue::Waiting;

/// One crash in two keeps writes in their order.
const ORDERED: Chance = Chance::per_mille(500);
/// Of the writes whose fate is open, one in two is kept.
const KEPT: Chance = Chance::per_mille(500);

/// How often a flawed store forgets to tell somebody something.
const FORGOTTEN: Chance = Chance::per_mille(5);

/// A simulated disk. Clones are the same disk; it survives every crash.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<Platter>>);

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Platter {
    seed: u64,
    /// What is durable.
    pub(crate) image: Image,
    /// Who is told what becomes durable.
    pub(crate) watch: Box<dyn Watch>,
    pub(crate) flaw: Option<Flaw>,
    /// Groups that each open store wrote and did not sync, oldest first.
    cache: BTreeMap<StoreId, Vec<Vec<Waiting>>>,
    /// Other changes that were begun, oldest first.
    changes: BTreeMap<u64, Change>,
    /// Which open store owns which process.
    pub(crate) owners: Owners,
    /// What tells the owners of open stores that something was posted.
    bells: BTreeMap<StoreId, Arc<Notify>>,
    /// How many reads of each store are under way.
    reading: BTreeMap<StoreId, u64>,
    opened: StoreId,
    begun: u64,
    dice: Dice,
    /// Of their own, so that one read more leaves the writes as they were.
    reads: Dice,
    full_until: Option<Instant>,
    /// When the last stall ends.
    stalled_until: Option<Instant>,
}

/// A durable change that is not an append and whose end nobody has seen yet.
struct Change(Box<dyn FnOnce(&mut Platter) + Send>);

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Change")
    }
}

/// An open store.
pub(crate) type StoreId = u64;

/// Hears what becomes durable, at the moment at which it does.
pub(crate) trait Watch: fmt::Debug + Send {
    /// An append is written down.
    fn appended(&self, append: &Append);
    /// A process is taken over.
    fn claimed(&self, pid: Pid, epoch: Epoch);
    /// An item is in the inbox.
    fn posted(&self, pid: Pid, id: InboxId, item: &InboxItem);
    /// Somebody begins to fold a process.
    fn read_back(&self, pid: Pid);
    /// Items are gone from the inbox that nobody will take over.
    fn dismissed(&self, pid: Pid, items: &[InboxId]);
}

impl Watch for () {
    fn appended(&self, _: &Append) {}
    fn claimed(&self, _: Pid, _: Epoch) {}
    fn posted(&self, _: Pid, _: InboxId, _: &InboxItem) {}
    fn read_back(&self, _: Pid) {}
    fn dismissed(&self, _: Pid, _: &[InboxId]) {}
}

/// How a sync will go.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Well.
    Good,
    /// With an error; the data may be durable all the same.
    Bad { error: StoreError, durable: bool },
    /// The power goes before anything is written.
    CrashBefore,
    /// The power goes when all is durable.
    CrashAfter,
}

impl Disk {
    /// An empty disk; the seed decides all that ever goes wrong with it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::watched(seed, Box::new(()), None)
    }

    /// An empty disk that tells what becomes durable, and may have a flaw.
    pub(crate) fn watched(seed: u64, watch: Box<dyn Watch>, flaw: Option<Flaw>) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            seed,
            image: Image::default(),
            watch,
            flaw,
            cache: BTreeMap::new(),
            changes: BTreeMap::new(),
            owners: Owners::default(),
            bells: BTreeMap::new(),
            reading: BTreeMap::new(),
            opened: 0,
            begun: 0,
            dice: Dice::new(seed, "disk"),
            reads: Dice::new(seed, "reads"),
            full_until: None,
            stalled_until: None,
        })))
    }

    /// Works on the platter.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Platter) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the last life's business: the dice decide what of it turns out to be durable.
    pub(crate) fn settle(&self) {
        self.with(Platter::settle);
    }
}

impl Platter {
    /// A number for a store that is opened.
    pub(crate) fn admit(&mut self) -> StoreId {
        self.opened += 1;
        self.opened
    }

    /// The key of a tenant's contents.
    pub(crate) fn content_key(&self, tenant: &Tenant) -> ContentKey {
        content_key(self.seed, tenant)
    }

    /// Whether that store cannot tell its owner what is posted.
    pub(crate) fn is_mute(&self, id: StoreId, faults: &DiskFaults) -> bool {
        Dice::keyed(self.seed, "mute", &id.to_le_bytes()).hits(faults.mute)
    }

    /// What tells the owner of a store that something was posted after this was first asked for.
    pub(crate) fn bell(&mut self, id: StoreId) -> Arc<Notify> {
        self.bells.entry(id).or_default().clone()
    }

    /// A store is closed.
    pub(crate) fn release(&mut self, id: StoreId) {
        self.bells.remove(&id);
        self.owners.bury(id);
    }

    /// Begins a read of a store: how long it takes, and how it will fail if it does.
    pub(crate) fn next_read(
        &mut self,
        id: StoreId,
        faults: &DiskFaults,
    ) -> (Duration, Option<StoreError>) {
        *self.reading.entry(id).or_default() += 1;
        let time = self.reads.time(&faults.read);
        let fails = self.reads.hits(faults.unreadable).then(|| {
            let message = "the simulated disk cannot be read at the moment; try again";
            StoreError::new(Code::StoreIo, message)
        });
        (time, fails)
    }

    /// Ends a read of a store, heard or not.
    pub(crate) fn end_read(&mut self, id: StoreId) {
        if let Some(reading) = self.reading.get_mut(&id) {
            *reading -= 1;
        }
    }

    /// Whether a read of a store is under way.
    pub(crate) fn is_reading(&self, id: StoreId) -> bool {
        self.reading.get(&id).is_some_and(|&reading| reading > 0)
    }

    /// Commits an append, or changes nothing.
    pub(crate) fn commit(&mut self, append: Append) -> Result<Committed, StoreError> {
        let key = self.content_key(&append.tenant);
        let fresh = self.image.check(&key, &append, self.flaw)?;
        let last = append.records.last().map(|record| record.seq).unwrap_or_default();
        if fresh {
            self.watch.appended(&append);
            self.image.put(append, self.flaw);
        }
        Ok(Committed { last })
    }

    /// Writes appends of a store to the cache, in groups of 1 to 8 as a busy writer does.
    pub(crate) fn write(&mut self, id: StoreId, waiting: Vec<Waiting>) {
        let mut groups = Vec::new();
        let mut waiting = waiting.into_iter().peekable();
        while waiting.peek().is_some() {
            let size = 1 + self.dice.index(8);
            groups.push(waiting.by_ref().take(size).collect());
        }
        self.cache.insert(id, groups);
    }

    /// Takes what a store wrote out of the cache.
    pub(crate) fn written(&mut self, id: StoreId) -> Vec<Waiting> {
        self.cache.remove(&id).unwrap_or_default().into_iter().flatten().collect()
    }

    /// Notes that a change was begun, and which, should nobody end it; its number.
    pub(crate) fn begin<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, StoreError> + Send + 'static,
    ) -> u64 {
        self.begun += 1;
        // A rejected change leaves no trace.
        let change = Change(Box::new(move |platter| drop(change(platter))));
        self.changes.insert(self.begun, change);
        self.begun
    }

    /// Notes that a change has come to its end.
    pub(crate) fn end(&mut self, number: u64) {
        self.changes.remove(&number);
    }

    /// Takes a process over.
    pub(crate) fn claim(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
        expected: Epoch,
    ) -> Result<Epoch, StoreError> {
        let epoch = self.image.claim(tenant, pid, expected)?;
        self.watch.claimed(pid, epoch);
        Ok(epoch)
    }

    /// Puts an item into the inbox.
    pub(crate) fn post(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> Result<InboxId, StoreError> {
        let id = self.image.post(tenant, pid, item.clone())?;
        self.watch.posted(pid, id, &item);
        self.bells.values().for_each(|bell| bell.notify_one());
        Ok(id)
    }

    /// Adds everything that waits for an append's process to what the append takes over.
    pub(crate) fn swallow(&self, append: &mut Append) {
        let waiting = self.image.pending(&append.tenant).into_iter();
        let of_process = waiting.filter(|(pid, ..)| *pid == append.pid).map(|(_, id, _)| id);
        let more: Vec<_> = of_process.filter(|id| !append.consumed.contains(id)).collect();
        append.consumed.extend(more);
    }

    /// Removes items of a process from the inbox.
    pub(crate) fn dismiss(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
        next: Seq,
        items: &[InboxId],
    ) -> Result<(), StoreError> {
        self.image.dismiss(tenant, pid, next, items)?;
        self.watch.dismissed(pid, items);
        Ok(())
    }

    /// Whether a flawed store forgets to tell somebody something.
    pub(crate) fn forgets(&mut self) -> bool {
        self.dice.hits(FORGOTTEN)
    }

    /// Whether changes are under way.
    pub(crate) fn is_changing(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Whether something of a process was written and is not synced.
    pub(crate) fn is_writing(&self, pid: Pid) -> bool {
        self.cache.values().flatten().flatten().any(|waiting| waiting.is_of(pid))
    }

    /// Whether the disk stalled at that time or later.
    pub(crate) fn stalled_since(&self, time: Instant) -> bool {
        self.stalled_until.is_some_and(|until| until >= time)
    }

    fn settle(&mut self) {
        for groups in std::mem::take(&mut self.cache).into_values() {
            if self.dice.hits(ORDERED) {
                let kept = self.dice.index(groups.len() + 1);
                self.keep(groups.into_iter().take(kept).flatten());
            } else {
                let mut lost = BTreeSet::new();
                for waiting in groups.into_iter().flatten() {
                    let append = waiting.abandon();
                    let process = (append.tenant.clone(), append.pid);
                    if lost.contains(&process) || !self.dice.hits(KEPT) {
                        lost.insert(process);
                    } else {
                        self.keep_append(append);
                    }
                }
            }
        }
        for change in std::mem::take(&mut self.changes).into_values() {
            if self.dice.hits(KEPT) {
                change.0(self);
            }
        }
        match self.flaw {
            Some(Flaw::LostAppend) => self.image.forget_newest(),
            Some(Flaw::AlteredEvent) => self.image.alter_newest(),
            Some(Flaw::LostItem) => self.image.forget_items(),
            _ => {}
        }
        (self.full_until, self.stalled_until) = (None, None);
        self.owners.clear();
        self.bells.clear();
        self.reading.clear();
    }

    fn keep(&mut self, waiting: impl Iterator<Item = Waiting>) {
        for waiting in waiting {
            self.keep_append(waiting.abandon());
        }
    }

    fn keep_append(&mut self, mut append: Append) {
        if self.flaw == Some(Flaw::TornAppend) {
            append.records.truncate(1);
            append.checkpoint = None;
        }
        // A rejected append leaves no trace.
        drop(self.commit(append));
    }

    /// How long the next sync takes and how it goes.
    pub(crate) fn next_sync(&mut self, faults: &DiskFaults) -> (Duration, Fate) {
        let mut time = self.dice.time(&faults.sync);
        if self.dice.hits(faults.stall) {
            let stall = self.dice.time(&faults.stall_for);
            time += stall;
            self.stalled_until = self.stalled_until.max(Some(Instant::now() + time));
        }
        if self.dice.hits(faults.crash_before) {
            return (time, Fate::CrashBefore);
        }
        if let Err(error) = self.room(faults) {
            return (time, Fate::Bad { error, durable: false });
        }
        if self.dice.hits(faults.io_error) {
            let error = StoreError::new(
                Code::StoreIo,
                "the simulated disk answered with an input/output error; whether the data are \
                 durable is unknown: append them again",
            );
            return (time, Fate::Bad { error, durable: self.dice.below(2) == 1 });
        }
        if self.dice.hits(faults.crash_after) {
            return (time, Fate::CrashAfter);
        }
        (time, Fate::Good)
    }

    /// Whether there is room to write; now and then there is none from now on for a while.
    fn room(&mut self, faults: &DiskFaults) -> Result<(), StoreError> {
        if faults.full != Chance::NEVER
            && self.full_until.is_none_or(|until| until <= Instant::now())
        {
            let hits = self.dice.hits(faults.full);
            self.full_until = hits.then(|| Instant::now() + self.dice.time(&faults.full_for));
        }
        match self.full_until {
            None => Ok(()),
            Some(until) => Err(StoreError::new(
                Code::StoreFull,
                format!(
                    "the simulated disk is full for {} ms; free space and try again",
                    until.saturating_duration_since(Instant::now()).as_millis()
                ),
            )),
        }
    }
}

/// The key of a tenant's contents: a function of the seed, as if it had been drawn at the tenant's
/// first use.
pub(crate) fn content_key(seed: u64, tenant: &Tenant) -> ContentKey {
    let mut bytes = [0; 32];
    Dice::keyed(seed, "content key", tenant.as_str().as_bytes()).fill(&mut bytes);
    ContentKey::from_bytes(bytes)
}
