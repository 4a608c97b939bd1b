//! The inspection of a machine that is off.

use std::collections::{BTreeMap, BTreeSet};

use aosk_abi::{Pid, Seq, Tenant};
use aosk_kernel::load;
use aosk_ports::{Inbox as _, InboxId, Journal as _, ProcessFilter, StoreError};

use super::auditor::Auditor;
use super::book::Broken;
use super::life::broken_by;
use super::named::contents;
use crate::promise::Promise;
use crate::store::MemoryStore;

impl Auditor {
    /// Looks at a machine that is off: what its disk holds is what became durable. `done` says
    /// that every process is said to have ended, and that this is the last look.
    pub(super) async fn inspect(&self, tenant: &Tenant, store: &MemoryStore, done: bool) {
        if let Err(error) = self.inbox(tenant, store).await {
            self.witness.accuse(None, Promise::InboxKept, error.to_string());
        }
        if done {
            for pid in self.addressees() {
                let what = "something waits in the inbox, and nobody takes it";
                self.witness.accuse(Some(pid), Promise::InboxKept, what);
            }
        }
        let pids: Vec<Pid> = self.books().processes.keys().copied().collect();
        for pid in pids {
            match self.lists(tenant, pid, store).await {
                Ok(()) => {}
                Err(error) => self.witness.accuse(Some(pid), Promise::Acknowledged, error.message),
            }
            self.effects(pid);
            if done {
                self.whole(tenant, pid, store).await;
            }
        }
        match store.processes(tenant, ProcessFilter::All).await {
            Ok(receipts) => {
                for receipt in receipts {
                    if done && !receipt.row.state.is_final() {
                        let what = format!("is left behind {}", receipt.row.state.name());
                        self.witness.accuse(Some(receipt.pid), Promise::Ends, what);
                    }
                }
            }
            Err(error) => self.witness.accuse(None, Promise::Lists, error.to_string()),
        }
    }

    /// Every item that was posted was taken over or waits.
    async fn inbox(&self, tenant: &Tenant, store: &MemoryStore) -> Result<(), StoreError> {
        let waiting: BTreeSet<InboxId> =
            store.pending(tenant).await?.into_iter().map(|(_, id, _)| id).collect();
        let lost = self.books().mail.lost(&waiting);
        if let Some((pid, InboxId(id))) = lost {
            let what = format!("the inbox item {id} is neither taken over nor waiting");
            self.witness.accuse(Some(pid), Promise::InboxKept, what);
        }
        Ok(())
    }

    /// The disk lists a process as its book has it, and its journal ends where the book does.
    async fn lists(
        &self,
        tenant: &Tenant,
        pid: Pid,
        store: &MemoryStore,
    ) -> Result<(), StoreError> {
        let receipt = store.process(tenant, pid).await?;
        let mut broken = Broken::new();
        let books = self.books();
        if let Some(book) = books.processes.get(&pid) {
            match receipt {
                None => broken.push((Promise::Acknowledged, "was durable and is gone".into())),
                Some(receipt) => {
                    if (receipt.next, receipt.head) != (book.next, book.head) {
                        let (durable, found) = (book.next, receipt.next);
                        let what = format!("{durable} events were durable, and {found} are left");
                        broken.push((Promise::Acknowledged, what));
                    }
                    if let Some(image) = &book.image
                        && image.row() != receipt.row
                    {
                        let (row, fold) = (receipt.row, image.row());
                        broken.push((Promise::Lists, format!("lists show {row:?}, not {fold:?}")));
                    }
                }
            }
        }
        drop(books);
        self.accuse(pid, broken);
        Ok(())
    }

    /// What the tools did is what the journal intended, once for each call; the model bills no
    /// more than was counted.
    fn effects(&self, pid: Pid) {
        let mut broken = Broken::new();
        let books = self.books();
        let Some(book) = books.processes.get(&pid) else {
            return;
        };
        let mut keys = 0;
        self.ledger.each(pid, |key, entry| {
            keys += 1;
            if entry.clash {
                let what = format!("the key {key} came from two calls");
                broken.push((Promise::IdempotentOnce, what));
            }
            if entry.effects > 1 {
                let what = format!("{} acted {} times under {key}", entry.tool, entry.effects);
                broken.push((Promise::UnsafeOnce, what));
            }
        });
        let calls = book.deeds.errands();
        if keys > calls {
            let what = format!("{keys} idempotency keys for {calls} calls");
            broken.push((Promise::IdempotentOnce, what));
        }
        let billed = self.models.iter().map(|model| model.billed(&pid.to_string())).sum();
        let spent = book.spent();
        if spent < billed {
            let what = format!("spent {spent}, and {billed} will be billed");
            broken.push((Promise::Billed, what));
        }
        drop(books);
        self.accuse(pid, broken);
    }

    /// What recovery would load is the fold of every event, and every content can be read.
    async fn whole(&self, tenant: &Tenant, pid: Pid, store: &MemoryStore) {
        let loaded = load(store, tenant, pid, None).await;
        let (same, named) = {
            let books = self.books();
            let Some(book) = books.processes.get(&pid) else {
                return;
            };
            let same = loaded.as_ref().is_ok_and(|loaded| Some(loaded) == book.image.as_ref());
            let named = (0..).map(Seq).zip(&book.events).flat_map(|(seq, event)| {
                contents(&event.what).into_iter().map(move |content| (seq, content))
            });
            (same, named.collect::<Vec<_>>())
        };
        match loaded {
            Ok(_) if same => {}
            Ok(_) => {
                let what = "the kernel loads another state";
                self.witness.accuse(Some(pid), Promise::Fold, what);
            }
            Err(error) => {
                let what = format!("cannot be loaded: {error}");
                self.witness.accuse(Some(pid), broken_by(error.code()), what);
            }
        }
        let mut brought = BTreeMap::new();
        for (seq, content) in named {
            brought.entry(content.hash).or_insert(seq);
        }
        let wanted: Vec<_> = brought.into_iter().map(|(hash, seq)| (seq, hash)).collect();
        if let Err(error) = store.contents(tenant, pid, &wanted).await {
            self.witness.accuse(Some(pid), Promise::Contents, error.to_string());
        }
    }
}
