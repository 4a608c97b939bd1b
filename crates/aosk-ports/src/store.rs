//! Stores: the journal and what stands beside it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aosk_abi::{
    Code, Content, ContentKey, Epoch, Hash, Limits, MicroDollars, Op, Pid, Priority, ProcessState,
    Record, Records, Seq, Signal, Tenant, Timestamp, Usage,
};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::budgets::Budgets;
use crate::window;

/// One process's events, committed together or not at all, with the contents that they name.
#[derive(Debug, Clone)]
pub struct Append {
    /// Whose process.
    pub tenant: Tenant,
    /// Which.
    pub pid: Pid,
    /// The fencing token of the writer; the records carry the same.
    pub epoch: Epoch,
    /// The chain's link before the first record.
    pub prev: Hash,
    /// At least one, consecutive; the first continues the journal.
    pub records: Records,
    /// The contents that the records name. One of up to [`Content::INLINE_MAX`] bytes comes with
    /// the append whose record is the first of the process to name it; a larger one may be left out
    /// where an event in a journal of the tenant names it. Bringing one twice stores it once.
    pub contents: Vec<Content>,
    /// What lists show of the process from now on.
    pub row: ProcessRow,
    /// The fold after the last record, now and then; its `seq` is that record's.
    pub checkpoint: Option<Checkpoint>,
    /// Inbox items of this process that the records took over; removed in the same transaction.
    /// An item that is not there (any more) rejects the append, lest it be taken over twice.
    pub consumed: Vec<InboxId>,
}

/// What lists show of a process: a view of its fold, written with every append so that readers
/// need not fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRow {
    /// The agent's name.
    pub name: String,
    /// The model it asks.
    pub model: String,
    /// Where it stands.
    pub state: ProcessState,
    /// Steps begun.
    pub steps: u64,
    /// Tokens used; not told apart by how long what was written to a cache is kept.
    pub usage: Usage,
    /// Money spent; calls whose end is unknown count with what was reserved for them.
    pub spent: MicroDollars,
    /// When it was spawned.
    pub created: Timestamp,
    /// When its last event happened.
    pub updated: Timestamp,
}

/// A process as stores list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Whose.
    pub tenant: Tenant,
    /// Which.
    pub pid: Pid,
    /// The fencing token that the next append must carry.
    pub epoch: Epoch,
    /// The place of the next event.
    pub next: Seq,
    /// The chain's link after the last event.
    pub head: Hash,
    /// What lists show.
    pub row: ProcessRow,
}

/// A saved fold.
///
/// What of a fold never changes again is kept in stretches, each written once: an append brings the
/// checkpoint with the stretches that are new, and whoever reads it back gets all that it stands on.
/// So a checkpoint costs in proportion to what happened since the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event that it includes.
    pub seq: Seq,
    /// The version of its encoding.
    pub version: u16,
    /// The encoded fold, or what of it stands in no stretch.
    pub bytes: Vec<u8>,
    /// In an append: the new ones, ascending, none of which begins behind `seq`. Read back: all that
    /// begin at `seq` or before.
    pub stretches: Vec<Stretch>,
}

/// What never changes again of a process's fold, over a stretch of its events.
///
/// A stretch that begins where one is stored, or before, takes the place of that one and of all
/// behind it: whoever wrote it could not read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The first event that it is made of.
    pub first: Seq,
    /// Encoded as the checkpoint that brought it.
    pub bytes: Vec<u8>,
}

impl Checkpoint {
    /// Adds the stretches that it brings to those `stored`, as a store does, and answers what
    /// whoever reads it back gets.
    pub fn settle(&self, stored: &mut Vec<Stretch>) -> Self {
        for new in &self.stretches {
            stored.retain(|there| there.first < new.first);
            stored.push(new.clone());
        }
        self.on(stored)
    }

    /// The checkpoint with those of the stored stretches that it stands on.
    #[must_use]
    pub fn on(&self, stored: &[Stretch]) -> Self {
        let stretches = stored.iter().filter(|it| it.first <= self.seq).cloned().collect();
        Self { stretches, ..self.clone() }
    }
}

/// The answer to an append: its last event is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The last event of the append.
    pub last: Seq,
}

/// Awaits the durability of an append. Dropping it cancels nothing.
#[must_use = "an append is acknowledged only when its ticket resolves"]
pub struct Ticket(BoxFuture<'static, Result<Committed, StoreError>>);

impl Ticket {
    /// A ticket that resolves with `future`, which must make progress by itself.
    pub fn new(
        future: impl Future<Output = Result<Committed, StoreError>> + Send + 'static,
    ) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for Ticket {
    type Output = Result<Committed, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

/// Which processes a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessFilter {
    /// All.
    All,
    /// Those that have not exited.
    Unfinished,
}

/// The number of an inbox item, unique in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId(pub i64);

/// Something from outside for a process. Not fenced: anyone may post, the owner takes it over.
///
/// Stores keep it as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case", deny_unknown_fields)]
pub enum InboxItem {
    /// A signal.
    Signal {
        /// Which.
        signal: Signal,
    },
    /// A message of the user. It continues the conversation of a process that has ended.
    Message {
        /// The sender: `user`, or what a program calls itself.
        from: String,
        /// What it says, UTF-8.
        text: String,
    },
    /// A message of another process. It waits in the mailbox until its reader takes it, and opens
    /// nothing that has ended.
    Mail {
        /// The sender.
        from: Pid,
        /// The sender's operation: one message has one, however often it is posted, and later ones
        /// have greater ones.
        op: Op,
        /// What it says, UTF-8.
        text: String,
    },
    /// Another priority.
    Priority {
        /// How important the process is from now on.
        priority: Priority,
    },
    /// Another spend limit.
    SpendLimit {
        /// What the process may spend in all.
        limit: MicroDollars,
    },
    /// Its quota is another, or one that it shares with others was changed.
    Quota {
        /// Whose: `pool NAME`, `tenant NAME`, `group NAME`, `process` for its own, or `process PID`
        /// for that of one from whom it descends.
        owner: String,
        /// What the owner may use from now on.
        limits: Limits,
    },
}

/// An item that waits in the inbox, and for whom.
pub type Posted = (Pid, InboxId, InboxItem);

/// Why a store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {message}")]
pub struct StoreError {
    /// The stable code.
    pub code: Code,
    /// What was wrong, whose fault it is and what to do next.
    pub message: String,
}

impl StoreError {
    /// An error with its code and words.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The read half: safe for anyone at any time, also while another kernel writes.
///
/// A call that names a process that is not in the store answers [`Code::StoreUnknownProcess`];
/// only [`process`](Self::process) answers `None`.
pub trait Journal: Send + Sync {
    /// The key under which a tenant's contents are hashed; made at the tenant's first use.
    fn content_key(&self, tenant: &Tenant) -> BoxFuture<'_, Result<ContentKey, StoreError>>;

    /// The process, or `None` where there is none.
    fn process(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<Receipt>, StoreError>>;

    /// The tenant's processes, by pid, which for new pids is by spawn time.
    fn processes(
        &self,
        tenant: &Tenant,
        filter: ProcessFilter,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>>;

    /// Up to `limit` events from `from` on, in order. Empty past the end. The chain is verified as
    /// it is read.
    fn read(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// A place before which every event of the process happened before `time`: where whoever wants
    /// those from `time` on begins to read, past some older ones. At most the end of the journal.
    ///
    /// The clocks that stamped the journal must never have gone back by more than
    /// [`CLOCK_STEP`](crate::CLOCK_STEP). Where one did, an event that was stamped before it went
    /// back can stand before the place. O(log n).
    ///
    /// Codes: those of [`read`](Self::read); [`Code::StoreCorrupt`] for a body that tells no time.
    fn since(
        &self,
        tenant: &Tenant,
        pid: Pid,
        time: Timestamp,
    ) -> BoxFuture<'_, Result<Seq, StoreError>> {
        let tenant = tenant.clone();
        Box::pin(async move { window::since(self, &tenant, pid, time).await })
    }

    /// Up to `limit` events that happened at `from` or later and before `until`, in the order of the
    /// journal: what an auditor asks for.
    ///
    /// What comes back is always within the times. Nothing is left out while no clock went back by
    /// more than [`CLOCK_STEP`](crate::CLOCK_STEP): see [`since`](Self::since). Reads the events of
    /// the window and of that much time at either side, whatever the length of the journal.
    ///
    /// Codes: as [`since`](Self::since).
    fn events_between(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let tenant = tenant.clone();
        Box::pin(
            async move { window::events_between(self, &tenant, pid, from..until, limit).await },
        )
    }

    /// The bytes of contents that the process's events name, in the order asked. Each is asked for
    /// by the event that brought it along, the first that names it: contents of up to
    /// [`Content::INLINE_MAX`] bytes stand beside it.
    fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, StoreError>>;

    /// The newest checkpoint at or before `at`; of all where that is `None`.
    fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<Checkpoint>, StoreError>>;
}

/// The inbox: unfenced, for everyone who does not own the process.
pub trait Inbox: Send + Sync {
    /// Posts an item, durably.
    fn post(
        &self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> BoxFuture<'_, Result<InboxId, StoreError>>;

    /// The items that wait for any of the tenant's processes, oldest first.
    fn pending(&self, tenant: &Tenant) -> BoxFuture<'_, Result<Vec<Posted>, StoreError>>;

    /// Resolves when anyone, in any program, may have posted since the last time that it did; what
    /// was posted before the first call is not told. One task waits at a time. `None` where the
    /// store cannot tell: then whoever takes items over looks now and then.
    fn posted(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }
}

/// The write half: only for the kernel that owns the store.
pub trait JournalWriter: Send + Sync {
    /// Queues an append. Appends of one process are committed in the order of the calls; those of
    /// many processes are committed in groups. A stale epoch, a gap or a broken chain rejects this
    /// append and every queued later one of the same process, and no other process's.
    ///
    /// The first append of a process (its records start at 0) creates it with the append's epoch.
    /// An append whose records are all in the journal already, with the same hashes, is
    /// acknowledged again and changes nothing; so a writer may repeat what it has no answer to.
    ///
    /// Codes: [`Code::StoreStaleEpoch`] for any epoch but the process's; [`Code::StoreConflict`]
    /// for a gap, other records in a place that is taken, a broken chain, no records, a consumed
    /// item that is not there, a content of another tenant's key; [`Code::EventEncode`] for more
    /// bytes than a store takes at once.
    fn append(&self, append: Append) -> Ticket;

    /// Removes items of a process that it will never take over, because it has ended for good.
    /// Those that are not there (any more) are what is wanted.
    ///
    /// Whoever dismisses decides on a journal that ends before `next`; where it goes on meanwhile
    /// the process may take them after all, so nothing is removed: [`Code::StoreConflict`].
    fn dismiss(
        &self,
        tenant: &Tenant,
        pid: Pid,
        next: Seq,
        items: &[InboxId],
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes a process over that is in the epoch `expected`: from now on only appends with the
    /// returned epoch are accepted, which is the next one.
    ///
    /// Whoever has read the process decides on what was read; where somebody else was faster, the
    /// epoch is another by now, and the answer is [`Code::StoreStaleEpoch`]. Of two who claim the
    /// same epoch one succeeds.
    fn claim(
        &self,
        tenant: &Tenant,
        pid: Pid,
        expected: Epoch,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>>;
}

/// Whether a node may act for the processes that it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may, for so long by the monotonic clock; nobody else can before a margin after that.
    Held {
        /// What is left; [`Duration::MAX`] where no lease ends by itself.
        left: Duration,
    },
    /// Its lease is about to end, or has ended. It begins no effect until it is held again; what it
    /// appends is still accepted while nobody has taken over.
    Lapsed,
    /// Others have taken its processes over. It is over for good; the node ends.
    Lost,
}

/// Who owns which process, among the nodes of one store.
///
/// A process is acquired by its first append and by [`JournalWriter::claim`]; it is owned until it is
/// released, claimed by another, or its node dies. Owning is what makes effects happen once: a node
/// begins none unless it [`Standing::Held`]s. The journal itself needs no lease to be safe: every
/// append carries the epoch, and a take-over raises it.
pub trait Leases: Send + Sync {
    /// Where this node stands now. Cheap, asks nobody: look before every effect.
    fn standing(&self) -> Standing;

    /// Resolves when the standing changes other than by the passing of time: held again, lost.
    fn changed(&self) -> BoxFuture<'static, ()>;

    /// Renews the lease now. A store does so in time by itself.
    fn renew(&self) -> BoxFuture<'_, Result<Standing, StoreError>>;

    /// Takes up to `limit` unfinished processes of the tenant over that no living node owns: their
    /// node died or ended, or released them. Each comes back in its next epoch, as the journal has
    /// it; they are in the order of pids. Of several nodes that ask at once each gets other ones.
    ///
    /// Codes: [`Code::StoreLease`] where this node itself was taken for dead.
    fn take_over(
        &self,
        tenant: &Tenant,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>>;

    /// Gives a process up that this node owns in `epoch`. What it still appends in that epoch is
    /// accepted until somebody takes the process over.
    ///
    /// Codes: [`Code::StoreUnknownProcess`], [`Code::StoreStaleEpoch`] where another owns it.
    fn release(
        &self,
        tenant: &Tenant,
        pid: Pid,
        epoch: Epoch,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// After what time it is worth asking again for what other nodes left behind; `None` where there
    /// can be no other node, as on a file.
    fn others(&self) -> Option<Duration> {
        None
    }

    /// What another node calls itself that is alive and owns the process; `None` where this one
    /// does or nobody. Whoever wants the process reads its epoch first and this after it: where the
    /// owner changed in between, the claim of that epoch is refused.
    fn elsewhere(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let _ = (tenant, pid);
        Box::pin(async { Ok(None) })
    }
}

/// A whole store, as a kernel has it.
pub trait Store: Journal + Inbox + JournalWriter + Leases + Budgets {}

impl<T: Journal + Inbox + JournalWriter + Leases + Budgets> Store for T {}
