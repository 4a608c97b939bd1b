//! The disk: what outlives a machine.
//!
//! Between a program and the platter stands a cache that nobody promised anything. A group that
//! was written and not synced when the power went may be there afterwards or not; because a disk
//! writes in order, what is there is a prefix. So the cache belongs to the disk and not to the
//! store that was open on it, and its fate is decided by the dice when the disk is opened again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, ContentKey, Tenant};
use aosk_ports::{Append, Committed, StoreError};
use tokio::time::Instant;

use crate::dice::{Chance, Dice};
use crate::faults::DiskFaults;
use crate::image::Image;
use crate::queue::Waiting;

/// A simulated disk. Clones are the same disk; it survives every crash.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<Platter>>);

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Platter {
    seed: u64,
    /// What is durable.
    pub(crate) image: Image,
    /// Groups that each open store wrote and did not sync, oldest first.
    pub(crate) cache: BTreeMap<StoreId, Vec<Vec<Waiting>>>,
    opened: StoreId,
    dice: Dice,
    full_until: Option<Instant>,
}

/// An open store.
pub(crate) type StoreId = u64;

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
        Self(Arc::new(Mutex::new(Platter {
            seed,
            image: Image::default(),
            cache: BTreeMap::new(),
            opened: 0,
            dice: Dice::new(seed, "disk"),
            full_until: None,
        })))
    }

    /// Works on the platter.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Platter) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the last life's business: of what each store wrote, some prefix turns out to be
    /// durable.
    pub(crate) fn settle(&self) {
        self.with(|platter| {
            for groups in std::mem::take(&mut platter.cache).into_values() {
                let kept = platter.dice.index(groups.len() + 1);
                for waiting in groups.into_iter().take(kept).flatten() {
                    waiting.settle(platter);
                }
            }
            platter.full_until = None;
        });
    }
}

impl Platter {
    /// A number for a store that is opened.
    pub(crate) fn admit(&mut self) -> StoreId {
        self.opened += 1;
        self.opened
    }

    /// The key of a tenant's contents: a function of the seed, as if it had been drawn at the
    /// tenant's first use.
    pub(crate) fn content_key(&self, tenant: &Tenant) -> ContentKey {
        let mut bytes = [0; 32];
        Dice::keyed(self.seed, "content key", tenant.as_str().as_bytes()).fill(&mut bytes);
        ContentKey::from_bytes(bytes)
    }

    /// Commits an append, or changes nothing.
    pub(crate) fn commit(&mut self, append: Append) -> Result<Committed, StoreError> {
        let key = self.content_key(&append.tenant);
        self.image.commit(&key, append)
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

    /// How long the next sync takes and how it goes.
    pub(crate) fn next_sync(&mut self, faults: &DiskFaults) -> (Duration, Fate) {
        let time = self.dice.time(&faults.sync);
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
