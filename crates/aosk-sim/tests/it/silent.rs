//! A store that never refuses: the check that waits for a refusal says so.

use std::future::pending;
use std::sync::Arc;

use aosk_abi::{ContentKey, Epoch, Hash, Pid, Record, Seq, Tenant};
use aosk_conformance::{Site, checks, run};
use aosk_ports::{
    Append, Budgets, Checkpoint, Draw, Drawn, Inbox, InboxId, InboxItem, Journal, JournalWriter,
    Leases, Posted, ProcessFilter, Receipt, Standing, Store, StoreError, Ticket,
};
use aosk_sim::{Disk, DiskFaults, MemoryStore, Power};
use futures::future::BoxFuture;

/// The store in memory, but that it answers nothing to an append with a broken link.
struct Silent(MemoryStore);

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl JournalWriter for Silent {
    fn append(&self, append: Append) -> Ticket {
        if append.prev == Hash::of(b"broken") {
            return Ticket::new(pending());
        }
        self.0.append(append)
    }

    fn dismiss(&self, tenant: &Tenant, pid: Pid, next: Seq, items: &[InboxId]) -> Answer<'_, ()> {
        self.0.dismiss(tenant, pid, next, items)
    }

    fn claim(&self, tenant: &Tenant, pid: Pid, expected: Epoch) -> Answer<'_, Epoch> {
        self.0.claim(tenant, pid, expected)
    }
}

impl Inbox for Silent {
    fn post(&self, tenant: &Tenant, pid: Pid, item: InboxItem) -> Answer<'_, InboxId> {
        self.0.post(tenant, pid, item)
    }

    fn pending(&self, tenant: &Tenant) -> Answer<'_, Vec<Posted>> {
        self.0.pending(tenant)
    }
}

impl Budgets for Silent {
    fn draw(&self, draw: Draw) -> Answer<'_, Drawn> {
        self.0.draw(draw)
    }
}

impl Journal for Silent {
    fn content_key(&self, tenant: &Tenant) -> Answer<'_, ContentKey> {
        self.0.content_key(tenant)
    }

    fn process(&self, tenant: &Tenant, pid: Pid) -> Answer<'_, Option<Receipt>> {
        self.0.process(tenant, pid)
    }

    fn processes(&self, tenant: &Tenant, filter: ProcessFilter) -> Answer<'_, Vec<Receipt>> {
        self.0.processes(tenant, filter)
    }

    fn read(&self, tenant: &Tenant, pid: Pid, from: Seq, limit: usize) -> Answer<'_, Vec<Record>> {
        self.0.read(tenant, pid, from, limit)
    }

    fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> Answer<'_, Vec<Arc<[u8]>>> {
        self.0.contents(tenant, pid, wanted)
    }

    fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> Answer<'_, Option<Checkpoint>> {
        self.0.checkpoint(tenant, pid, at)
    }
}

impl Leases for Silent {
    fn standing(&self) -> Standing {
        self.0.standing()
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        self.0.changed()
    }

    fn renew(&self) -> Answer<'_, Standing> {
        self.0.renew()
    }

    fn take_over(&self, tenant: &Tenant, limit: usize) -> Answer<'_, Vec<Receipt>> {
        self.0.take_over(tenant, limit)
    }

    fn release(&self, tenant: &Tenant, pid: Pid, epoch: Epoch) -> Answer<'_, ()> {
        self.0.release(tenant, pid, epoch)
    }
}

struct Quiet(Disk);

impl Site for Quiet {
    fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(Silent(MemoryStore::open(&self.0, DiskFaults::calm(), Power::on())))
    }
}

#[test]
#[should_panic(expected = "not refused while 100000 appends came behind it")]
fn a_store_that_never_refuses_fails_the_check_and_does_not_hang_it() {
    let check = checks::a_refusal_takes_the_later_appends_of_its_process_with_it_and_no_others;
    run(check, || Box::new(Quiet(Disk::new(1))));
}
