//! The store in memory.
//!
//! An append passes three places. It is *queued* in the store, which dies with its machine; it is
//! *written* to the disk's cache, in groups; and it is *durable* when the sync that covers its
//! group is done. Only then is it checked against the journal, visible to readers and
//! acknowledged. One sync covers everything that was queued while the last one ran, which is what
//! makes group commit fast in a real store and is what makes "durable" and "acknowledged" come
//! apart for many processes at once, so the model has it too.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, ContentKey, Epoch, Hash, Kind, MicroDollars, Pid, Record, Seq, Tenant};
use aosk_kernel::Image as Fold;
use aosk_ports::{
    Append, Budgets, Checkpoint, Committed, Draw, Drawn, Inbox, InboxId, InboxItem, Journal,
    JournalWriter, Leases, ProcessFilter, Receipt, Standing, StoreError, Ticket,
};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::disk::{Disk, Fate, Platter, StoreId};
use crate::faults::DiskFaults;
use crate::flaw::Flaw;
use crate::lease::Tenure;
use crate::power::Power;
use crate::queue::{Answer, Refused, Waiting};

/// A store on a simulated disk, for one life of a machine. Clones are the same store.
///
/// Appends need a tokio runtime, in whose tasks they are committed. With
/// [`DiskFaults::calm`] nothing is ever late or lost, and the store is a plain one in memory. A
/// store that is dropped while the power is on ends in order: what was queued is committed.
#[derive(Debug, Clone)]
pub struct MemoryStore(Arc<Handle>);

/// The last one to go closes the store; the task that writes holds none.
#[derive(Debug)]
struct Handle(Arc<Open>);

#[derive(Debug)]
struct Open {
    id: StoreId,
    disk: Disk,
    faults: DiskFaults,
    power: Power,
    flaw: Option<Flaw>,
    /// Whether it cannot tell that something was posted.
    mute: bool,
    tenure: Tenure,
    queue: Mutex<Queue>,
}

/// A read that is under way, until it is dropped.
struct Reading<'a>(&'a Open);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.disk.with(|platter| platter.end_read(self.0.id));
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task is at work on the queue.
    writing: bool,
}

impl MemoryStore {
    /// Opens a disk for one life of a machine, after every earlier store on it is dead or dropped.
    #[must_use]
    pub fn open(disk: &Disk, faults: DiskFaults, power: Power) -> Self {
        disk.settle();
        Self::connect(disk.clone(), faults, power, None)
    }

    /// A store on a disk that others may have open: one of several nodes, which looks for what the
    /// others left behind after that time.
    #[must_use]
    pub fn node(disk: &Disk, faults: DiskFaults, power: Power, others: Duration) -> Self {
        Self::connect(disk.clone(), faults, power, Some(others))
    }

    /// Lets the lease of this node stand otherwise. A node whose lease is lost owns nothing any more.
    pub fn stand(&self, standing: Standing) {
        let open = self.inner();
        if standing == Standing::Lost {
            open.disk.with(|platter| platter.owners.bury(open.id));
        }
        open.tenure.set(standing);
    }

    /// Another store on the same disk while this one lives, as another kernel would open it: with
    /// a queue of its own, so that what one kernel has rejected is nothing to the other.
    #[must_use]
    pub fn beside(&self) -> Self {
        let Open { disk, faults, power, tenure, .. } = self.inner();
        Self::connect(disk.clone(), faults.clone(), power.clone(), tenure.others)
    }

    fn connect(disk: Disk, faults: DiskFaults, power: Power, others: Option<Duration>) -> Self {
        let (id, mute, flaw) = disk.with(|platter| {
            let id = platter.admit();
            (id, platter.is_mute(id, &faults), platter.flaw)
        });
        let (tenure, queue) = (Tenure::new(others), Mutex::default());
        let open = Open { id, disk, faults, power, flaw, mute, tenure, queue };
        Self(Arc::new(Handle(Arc::new(open))))
    }

    /// Dies at this moment: what is not acknowledged is lost, but for a prefix of what the disk's
    /// cache holds. Open the disk again to see what is left.
    pub fn crash(&self) {
        self.inner().power.cut("the store was told to crash");
    }

    /// Whether an append or a change of a process, or a read, has no answer yet.
    pub(crate) fn is_busy(&self, pid: Pid) -> bool {
        let open = self.inner();
        open.queue().waiting.iter().any(|waiting| waiting.is_of(pid))
            || open.disk.with(|platter| {
                platter.is_changing() || platter.is_writing(pid) || platter.is_reading(open.id)
            })
    }

    fn inner(&self) -> &Open {
        &self.0.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
        self.0.disk.with(|platter| platter.release(self.0.id));
    }
}

impl Open {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a store with a flaw answers to an append before it is durable.
    fn answers_early(&self, append: &Append) -> Option<Committed> {
        let last = append.records.last()?;
        let early = match self.flaw? {
            Flaw::EarlyAnswer => true,
            Flaw::EagerTool => last.kind == Kind::ToolRequested.code(),
            Flaw::EagerCall => last.kind == Kind::LlmRequested.code(),
            _ => false,
        };
        early.then_some(Committed { last: last.seq })
    }

    /// Commits what is queued, sync after sync, until nothing is.
    async fn write(self: Arc<Self>) {
        loop {
            // Every task that is ready now may still put its append into this sync.
            tokio::task::yield_now().await;
            self.power.hold().await;
            let waiting = {
                let mut queue = self.queue();
                queue.writing = !queue.waiting.is_empty();
                std::mem::take(&mut queue.waiting)
            };
            if waiting.is_empty() {
                return;
            }
            let (time, fate) = self.disk.with(|platter| platter.next_sync(&self.faults));
            if matches!(fate, Fate::CrashBefore) {
                self.power.cut("before a commit");
            }
            self.power.hold().await;
            self.disk.with(|platter| platter.write(self.id, waiting));
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            self.power.hold().await;
            let (answers, refused) = self.finish(&fate);
            if matches!(fate, Fate::CrashAfter) {
                self.power.cut("after a commit");
            }
            self.power.hold().await;
            self.answer(answers, &refused);
        }
    }

    /// Ends a sync: the answers to what was written, and whose further appends are refused.
    fn finish(&self, fate: &Fate) -> (Vec<Answer>, Refused) {
        let mut refused = Refused::default();
        let answers = self.disk.with(|platter| {
            let written = platter.written(self.id);
            let finish = |waiting: Waiting| waiting.finish(platter, fate, &mut refused);
            written.into_iter().map(finish).collect()
        });
        (answers, refused)
    }

    /// Sends the answers. Nobody can queue anything meanwhile, so that exactly what was queued
    /// before a refusal was heard is refused with it.
    fn answer(&self, answers: Vec<Answer>, refused: &Refused) {
        let mut queue = self.queue();
        let behind = match self.flaw {
            Some(Flaw::ForgottenPlace) => Vec::new(),
            _ => refused.answer(&mut queue.waiting),
        };
        for answer in answers.into_iter().chain(behind) {
            if self.flaw == Some(Flaw::LostWakeup) && self.disk.with(Platter::forgets) {
                answer.forget();
            } else {
                answer.send();
            }
        }
    }

    /// Ends in order: commits what was written and what is queued.
    fn close(&self) {
        while self.power.is_on() {
            let (answers, refused) = self.finish(&Fate::Good);
            self.answer(answers, &refused);
            let queued = std::mem::take(&mut self.queue().waiting);
            if queued.is_empty() {
                return;
            }
            self.disk.with(|platter| platter.write(self.id, queued));
        }
    }

    /// Makes a durable change that is not an append.
    fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Platter) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        self.power.guard(Box::pin(async move {
            let (time, fate) = self.disk.with(|platter| platter.next_sync(&self.faults));
            if matches!(fate, Fate::CrashBefore) {
                self.power.cut("before a change");
            }
            self.power.hold().await;
            let number = self.disk.with(|platter| platter.begin(change.clone()));
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            self.power.hold().await;
            let outcome = self.disk.with(|platter| {
                platter.end(number);
                match &fate {
                    Fate::Bad { error, durable } => {
                        if *durable {
                            drop(change(platter));
                        }
                        Err(error.clone())
                    }
                    Fate::Good | Fate::CrashBefore | Fate::CrashAfter => change(platter),
                }
            });
            if matches!(fate, Fate::CrashAfter) {
                self.power.cut("after a change");
            }
            self.power.hold().await;
            outcome
        }))
    }

    /// Reads what is durable, in its time.
    fn view<'a, T: Send + 'a>(
        &'a self,
        view: impl FnOnce(&Platter) -> Result<T, StoreError> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        self.power.guard(Box::pin(async move {
            let (time, fails) = self.disk.with(|platter| platter.next_read(self.id, &self.faults));
            let _reading = Reading(self);
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            match fails {
                Some(error) => Err(error),
                None => self.disk.with(|platter| view(platter)),
            }
        }))
    }
}

fn closed() -> StoreError {
    let message = "the runtime of the simulated store ended; open its disk again";
    StoreError::new(Code::StoreClosed, message)
}

impl JournalWriter for MemoryStore {
    fn append(&self, mut append: Append) -> Ticket {
        let open = self.inner();
        if open.flaw == Some(Flaw::SwallowedItem) {
            open.disk.with(|platter| platter.swallow(&mut append));
        }
        if append.records.first().is_some_and(|record| record.seq == Seq(0)) {
            open.disk.with(|platter| platter.owners.take(&append.tenant, append.pid, open.id));
        }
        let early = open.answers_early(&append);
        let (ticket, answer) = oneshot::channel();
        let start = {
            let mut queue = open.queue();
            queue.waiting.push(Waiting::new(append, ticket));
            !std::mem::replace(&mut queue.writing, true)
        };
        if start {
            tokio::spawn(self.0.0.clone().write());
        }
        let answer: BoxFuture<'static, _> = match early {
            Some(committed) => Box::pin(async move { Ok(committed) }),
            None => Box::pin(async move { answer.await.unwrap_or_else(|_| Err(closed())) }),
        };
        Ticket::new(open.power.guard(answer))
    }

    fn dismiss(
        &self,
        tenant: &Tenant,
        pid: Pid,
        next: Seq,
        items: &[InboxId],
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (tenant, items) = (tenant.clone(), items.to_vec());
        self.inner().change(move |platter| platter.dismiss(&tenant, pid, next, &items))
    }

    fn claim(
        &self,
        tenant: &Tenant,
        pid: Pid,
        expected: Epoch,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        let (tenant, id) = (tenant.clone(), self.inner().id);
        self.inner().change(move |platter| {
            let epoch = platter.claim(&tenant, pid, expected)?;
            platter.owners.take(&tenant, pid, id);
            Ok(epoch)
        })
    }
}

impl Leases for MemoryStore {
    fn standing(&self) -> Standing {
        self.inner().tenure.standing()
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.inner().tenure.changed())
    }

    fn renew(&self) -> BoxFuture<'_, Result<Standing, StoreError>> {
        Box::pin(async { Ok(self.standing()) })
    }

    fn take_over(
        &self,
        tenant: &Tenant,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        let (tenant, id) = (tenant.clone(), self.inner().id);
        self.inner().change(move |platter| {
            let unfinished = platter.image.processes(&tenant, ProcessFilter::Unfinished);
            let orphans = unfinished
                .into_iter()
                .filter(|receipt| platter.owners.of(&tenant, receipt.pid).is_none());
            let mut taken = Vec::new();
            for receipt in orphans.take(limit).collect::<Vec<_>>() {
                let epoch = platter.claim(&tenant, receipt.pid, receipt.epoch)?;
                platter.owners.take(&tenant, receipt.pid, id);
                taken.push(Receipt { epoch, ..receipt });
            }
            Ok(taken)
        })
    }

    fn release(
        &self,
        tenant: &Tenant,
        pid: Pid,
        epoch: Epoch,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let tenant = tenant.clone();
        self.inner().change(move |platter| {
            platter.image.expect_epoch(&tenant, pid, epoch)?;
            platter.owners.give(&tenant, pid);
            Ok(())
        })
    }

    fn others(&self) -> Option<Duration> {
        self.inner().tenure.others
    }

    fn elsewhere(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let open = self.inner();
        let tenant = tenant.clone();
        open.view(move |platter| {
            let owner = platter.owners.of(&tenant, pid).filter(|owner| *owner != open.id);
            Ok(owner.filter(|_| open.tenure.others.is_some()).map(|id| format!("store {id}")))
        })
    }
}

impl Budgets for MemoryStore {
    fn draw(&self, draw: Draw) -> BoxFuture<'_, Result<Drawn, StoreError>> {
        let open = self.inner();
        let forgets = open.flaw == Some(Flaw::ForgottenDraw);
        open.change(move |platter| match forgets {
            true => Ok(Drawn { granted: true, others: MicroDollars::ZERO }),
            false => platter.image.draw(&draw),
        })
    }
}

impl Inbox for MemoryStore {
    fn post(
        &self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> BoxFuture<'_, Result<InboxId, StoreError>> {
        let tenant = tenant.clone();
        self.inner().change(move |platter| platter.post(&tenant, pid, item))
    }

    fn pending(
        &self,
        tenant: &Tenant,
    ) -> BoxFuture<'_, Result<Vec<(Pid, InboxId, InboxItem)>, StoreError>> {
        let tenant = tenant.clone();
        self.inner().view(move |platter| Ok(platter.image.pending(&tenant)))
    }

    fn posted(&self) -> Option<BoxFuture<'_, ()>> {
        let open = self.inner();
        if open.mute {
            return None;
        }
        let bell = open.disk.with(|platter| platter.bell(open.id));
        if open.flaw == Some(Flaw::DeafKernel) {
            return Some(Box::pin(pending()));
        }
        Some(open.power.guard(Box::pin(async move { bell.notified().await })))
    }
}

impl Journal for MemoryStore {
    fn content_key(&self, tenant: &Tenant) -> BoxFuture<'_, Result<ContentKey, StoreError>> {
        let tenant = tenant.clone();
        self.inner().view(move |platter| Ok(platter.content_key(&tenant)))
    }

    fn process(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<Receipt>, StoreError>> {
        let tenant = tenant.clone();
        let flaw = self.inner().flaw;
        self.inner().view(move |platter| {
            Ok(platter.image.process(&tenant, pid).map(|receipt| misread(receipt, flaw)))
        })
    }

    fn processes(
        &self,
        tenant: &Tenant,
        filter: ProcessFilter,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        let tenant = tenant.clone();
        self.inner().view(move |platter| Ok(platter.image.processes(&tenant, filter)))
    }

    fn read(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let tenant = tenant.clone();
        self.inner().view(move |platter| platter.image.read(&tenant, pid, from, limit))
    }

    fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, StoreError>> {
        let (tenant, wanted) = (tenant.clone(), wanted.to_vec());
        self.inner().view(move |platter| platter.image.contents(&tenant, pid, &wanted))
    }

    fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<Checkpoint>, StoreError>> {
        let tenant = tenant.clone();
        self.inner().view(move |platter| {
            platter.watch.read_back(pid);
            let found = platter.image.checkpoint(&tenant, pid, at)?;
            Ok(match platter.flaw {
                Some(flaw) => found.map(|found| altered(found, flaw)),
                None => found,
            })
        })
    }
}

/// The checkpoint as a flawed store gives it back.
fn altered(checkpoint: Checkpoint, flaw: Flaw) -> Checkpoint {
    let Some(mut fold) = Fold::from_checkpoint(&checkpoint) else {
        return checkpoint;
    };
    match flaw {
        Flaw::WrongCheckpoint => fold.account.settled += MicroDollars(1),
        Flaw::LostCost => fold.account.settled = MicroDollars::ZERO,
        Flaw::ForgottenCrash => fold.crashes = 0,
        _ => return checkpoint,
    }
    fold.to_checkpoint().unwrap_or(checkpoint)
}

/// What a list of a store with a flaw says of a process.
fn misread(mut receipt: Receipt, flaw: Option<Flaw>) -> Receipt {
    if flaw == Some(Flaw::UnpaidEnd) && receipt.row.state.is_final() {
        receipt.row.spent = MicroDollars::ZERO;
    }
    receipt
}
