//! Stores that answer otherwise than they should, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aosk_abi::{Code, ContentKey, Epoch, Exit, Hash, Pid, Record, Seq, Signal, Tenant};
use aosk_kernel::{Outcome, Stop, load};
use aosk_ports::{
    Append, Budgets, Checkpoint, Draw, Drawn, Inbox, InboxId, InboxItem, Journal, JournalWriter,
    Leases, Posted, ProcessFilter, Receipt, Standing, StoreError, Ticket,
};
use aosk_sim::MemoryStore;
use futures::future::BoxFuture;

use crate::support::{Kit, Say, spawn};

/// A store that mistakes one process for another, or cannot look one up for a while.
struct Odd {
    store: MemoryStore,
    /// How many look-ups fail.
    blind: AtomicUsize,
    /// Whose checkpoints it gives.
    checkpoints_of: Option<Pid>,
    /// Whose events it gives.
    events_of: Option<Pid>,
}

impl Odd {
    fn of(store: MemoryStore) -> Self {
        Self { store, blind: AtomicUsize::new(0), checkpoints_of: None, events_of: None }
    }
}

impl Journal for Odd {
    fn content_key(&self, tenant: &Tenant) -> BoxFuture<'_, Result<ContentKey, StoreError>> {
        self.store.content_key(tenant)
    }

    fn process(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<Receipt>, StoreError>> {
        let blind = |left: usize| left.checked_sub(1);
        if self.blind.fetch_update(Ordering::SeqCst, Ordering::SeqCst, blind).is_ok() {
            return Box::pin(async { Err(StoreError::new(Code::StoreIo, "a sector is bad")) });
        }
        self.store.process(tenant, pid)
    }

    fn processes(
        &self,
        tenant: &Tenant,
        filter: ProcessFilter,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        self.store.processes(tenant, filter)
    }

    fn read(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.store.read(tenant, self.events_of.unwrap_or(pid), from, limit)
    }

    fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, StoreError>> {
        self.store.contents(tenant, pid, wanted)
    }

    fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<Checkpoint>, StoreError>> {
        self.store.checkpoint(tenant, self.checkpoints_of.unwrap_or(pid), at)
    }
}

impl Inbox for Odd {
    fn post(
        &self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> BoxFuture<'_, Result<InboxId, StoreError>> {
        self.store.post(tenant, pid, item)
    }

    fn pending(&self, tenant: &Tenant) -> BoxFuture<'_, Result<Vec<Posted>, StoreError>> {
        self.store.pending(tenant)
    }
}

impl Budgets for Odd {
    fn draw(&self, draw: Draw) -> BoxFuture<'_, Result<Drawn, StoreError>> {
        self.store.draw(draw)
    }
}

impl JournalWriter for Odd {
    fn append(&self, append: Append) -> Ticket {
        self.store.append(append)
    }

    fn dismiss(
        &self,
        tenant: &Tenant,
        pid: Pid,
        next: Seq,
        items: &[InboxId],
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.dismiss(tenant, pid, next, items)
    }

    fn claim(
        &self,
        tenant: &Tenant,
        pid: Pid,
        expected: Epoch,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        self.store.claim(tenant, pid, expected)
    }
}

impl Leases for Odd {
    fn standing(&self) -> Standing {
        self.store.standing()
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        self.store.changed()
    }

    fn renew(&self) -> BoxFuture<'_, Result<Standing, StoreError>> {
        self.store.renew()
    }

    fn take_over(
        &self,
        tenant: &Tenant,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        self.store.take_over(tenant, limit)
    }

    fn release(
        &self,
        tenant: &Tenant,
        pid: Pid,
        epoch: Epoch,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.release(tenant, pid, epoch)
    }
}

/// Two processes that ended, each with a checkpoint.
async fn two(kit: &mut Kit) -> (Pid, Pid) {
    kit.options.checkpoint_events = 4;
    let kernel = kit.kernel();
    let mut pids = Vec::new();
    for task in ["one", "other"] {
        pids.push(kernel.spawn(spawn(task)).await.unwrap());
    }
    for (pid, outcome) in kernel.wait_each(&pids).await {
        assert!(matches!(outcome, Outcome::Exited(_)));
        assert!(kit.store().checkpoint(&Tenant::local(), pid, None).await.unwrap().is_some());
    }
    (pids[0], pids[1])
}

fn calls() -> Vec<Say> {
    (0..4).map(|_| Say::Call("pure", "{}")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_another_process_is_ignored() {
    let mut kit = Kit::new(calls());
    let (one, other) = two(&mut kit).await;
    let odd = Odd { checkpoints_of: Some(other), ..Odd::of(kit.store()) };
    let image = load(&odd, &Tenant::local(), one, None).await.unwrap();
    assert!(image == kit.image(one).await, "folded from its own events");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_begins_with_a_foreign_event_is_refused() {
    let mut kit = Kit::new(calls());
    let (one, other) = two(&mut kit).await;
    let mut odd = Odd { checkpoints_of: Some(other), ..Odd::of(kit.store()) };
    odd.events_of = Some(other);
    // Only the first event, lest the second one tell.
    let error = load(&odd, &Tenant::local(), one, Some(Seq(0))).await.expect_err("foreign");
    assert_eq!(error.code(), Code::ChainBroken, "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_process_that_cannot_be_looked_up_is_looked_at_again() {
    let mut kit = Kit::new(vec![Say::Hang]);
    let kernel = kit.kernel();
    let pid = kernel.spawn(spawn("go")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    kernel.stop(Stop::Now);
    kernel.quiet().await;
    kit.options.adopts = true;
    let odd = Odd { blind: AtomicUsize::new(1), ..Odd::of(kit.store()) };
    let next = kit.kernel_on(odd);
    let kill = InboxItem::Signal { signal: Signal::Kill };
    kit.store().post(&Tenant::local(), pid, kill).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(next.wait(pid).await, Some(Outcome::Exited(Exit::Killed)));
}
