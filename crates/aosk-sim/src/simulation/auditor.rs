//! The auditor: what becomes durable and what the world sees, held against what was promised.
//!
//! It listens at the disk, at the model, at the tools and to what kernels claim, and trusts
//! nothing that a kernel keeps in memory. It looks after every event; what can only be seen when
//! a machine is off, it sees in [`inspect`](Auditor::inspect).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aosk_abi::{
    Content, Effect, Epoch, Event, Exit, Hash, Op, Pid, ProcessState, Seq, Tenant, ToolResult, What,
};
use aosk_kernel::load;
use aosk_ports::{
    Append, Inbox as _, InboxId, InboxItem, Journal as _, ProcessFilter, Rendered, Request,
    StoreError, ToolContext,
};

use super::book::{Book, Broken, contents};
use super::life::broken_by;
use super::report::Report;
use super::witness::Witness;
use crate::disk::Watch;
use crate::ledger::Ledger;
use crate::model::SimModel;
use crate::promise::Promise;
use crate::store::MemoryStore;
use crate::tokens;

/// The auditor of a simulation. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Auditor {
    books: Arc<Mutex<Books>>,
    witness: Witness,
    model: Arc<SimModel>,
    ledger: Ledger,
}

#[derive(Debug, Default)]
struct Books {
    processes: BTreeMap<Pid, Book>,
    /// Contents that stand once for the whole tenant.
    large: BTreeSet<Hash>,
    /// What was posted and not dismissed.
    inbox: BTreeMap<InboxId, Item>,
    taken: BTreeSet<InboxId>,
    /// How often each process was read back.
    stays: BTreeMap<Pid, u64>,
    /// How many tools run for each process.
    running: BTreeMap<Pid, u32>,
}

/// An item of the inbox.
#[derive(Debug)]
struct Item {
    pid: Pid,
    is_message: bool,
}

/// A tool that runs.
pub(super) struct Run {
    auditor: Auditor,
    pid: Pid,
    /// Which time it is for the call, the first being 1.
    pub(super) times: u32,
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(running) = self.auditor.books().running.get_mut(&self.pid) {
            *running -= 1;
        }
    }
}

impl Auditor {
    pub(super) fn new(witness: &Witness, model: &Arc<SimModel>, ledger: &Ledger) -> Self {
        Self {
            books: Arc::default(),
            witness: witness.clone(),
            model: model.clone(),
            ledger: ledger.clone(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accuse(&self, pid: Pid, broken: Broken) {
        for (promise, what) in broken {
            self.witness.accuse(Some(pid), promise, what);
        }
    }

    /// A model call leaves a machine.
    pub(super) fn asked(&self, rendered: &Rendered, request: &Request) {
        let Ok(pid) = request.cache_key.parse::<Pid>() else {
            let what = format!("a call of {:?}, which is no process", request.cache_key);
            return self.witness.accuse(None, Promise::Intent, what);
        };
        let mut broken = Broken::new();
        let (prompt, window) = (tokens::of_request(request), self.model.window());
        let ceiling = self.model.prices().ceiling(prompt, request.max_output);
        let Rendered { prompt: hash, prompt_bytes: bytes, .. } = rendered;
        match self.books().processes.get_mut(&pid) {
            Some(book) => book.asked(hash, bytes, ceiling, &mut broken),
            None => broken.push((Promise::Intent, "a model call of no durable process".into())),
        }
        if prompt + request.max_output > window {
            let output = request.max_output;
            let what = format!("a prompt of {prompt} with a reply of {output} for {window} tokens");
            broken.push((Promise::Window, what));
        }
        let (calls, slots) = (self.model.in_flight() + 1, self.model.slots());
        let machines = self.witness.machines_at_once();
        if calls > slots * machines {
            let what = format!("{calls} calls of {machines} machines at once on {slots} slots");
            broken.push((Promise::Slots, what));
        }
        self.accuse(pid, broken);
    }

    /// A tool is about to run.
    pub(super) fn ran(&self, context: &ToolContext, tool: &str, effect: Effect) -> Run {
        let pid = context.pid;
        let op = context.idempotency_key.strip_prefix(&format!("{pid}-"));
        let op = op.and_then(|op| op.parse().ok()).map(Op);
        let mut broken = Broken::new();
        let times = match self.books().processes.get_mut(&pid) {
            Some(book) => book.ran(op, tool, &mut broken),
            None => {
                broken.push((Promise::Intent, format!("{tool} runs for no durable process")));
                1
            }
        };
        if effect == Effect::Unsafe && times > 1 {
            let what = format!("{tool} is called {times} times for one call of the model");
            broken.push((Promise::UnsafeOnce, what));
        }
        self.accuse(pid, broken);
        *self.books().running.entry(pid).or_default() += 1;
        Run { auditor: self.clone(), pid, times }
    }

    /// A kernel says that everything of a process up to `last` is durable, `made` among it.
    pub(super) fn acknowledged(&self, pid: Pid, last: Seq, made: &[(Seq, Event)]) {
        let books = self.books();
        let durable = |seq: Seq| {
            let book = books.processes.get(&pid)?;
            book.events.get(usize::try_from(seq.0).ok()?)
        };
        let lost = made.iter().find(|(seq, event)| durable(*seq) != Some(event));
        let lost = lost.map(|(seq, _)| *seq).or(durable(last).is_none().then_some(last));
        drop(books);
        if let Some(seq) = lost {
            let what = format!("event {seq} was acknowledged and is not there as it was");
            self.witness.accuse(Some(pid), Promise::Acknowledged, what);
        }
    }

    /// How often a process was read back: the number of its stay in some machine's memory.
    pub(super) fn stay(&self, pid: Pid) -> u64 {
        self.books().stays.get(&pid).copied().unwrap_or_default()
    }

    /// Somebody was told that an item is in the inbox.
    pub(super) fn told_posted(&self, pid: Pid, id: InboxId) {
        let books = self.books();
        let there = books.inbox.get(&id).is_some_and(|item| item.pid == pid);
        drop(books);
        if !there {
            let what = format!("the inbox item {} was acknowledged and is not there", id.0);
            self.witness.accuse(Some(pid), Promise::InboxKept, what);
        }
    }

    /// Where a process's journal ends, if neither it nor a call that is under way says why the
    /// process does nothing.
    pub(super) fn unexplained(&self, pid: Pid) -> Option<Seq> {
        let books = self.books();
        let book = books.processes.get(&pid)?;
        let busy = books.running.get(&pid).is_some_and(|&running| running > 0)
            || self.model.is_busy(&pid.to_string());
        (!busy && !book.says_why_it_waits()).then_some(book.next)
    }

    /// An effect that a journal reports has happened, once.
    fn reported(&self, new: &[Event], append: &Append, broken: &mut Broken) {
        for event in new {
            let What::ToolReturned(returned) = &event.what else {
                continue;
            };
            let result = append.contents.iter().find(|it| it.hash() == returned.result.hash);
            let result = result.and_then(|it| serde_json::from_slice(it.bytes()).ok());
            let result: Option<ToolResult> = result.filter(|_| returned.success);
            let key = result.as_ref().and_then(|result| result.data["key"].as_str());
            let Some(key) = key else { continue };
            let effects = self.ledger.effects(key);
            if effects != 1 {
                let what =
                    format!("{} reports an effect that happened {effects} times", returned.op);
                broken.push((Promise::IdempotentOnce, what));
            }
        }
    }

    /// Looks at a machine that is off: what its disk holds is what became durable. `done` says
    /// that every process is said to have ended, and that this is the last look.
    pub(super) async fn inspect(&self, tenant: &Tenant, store: &MemoryStore, done: bool) {
        if let Err(error) = self.inbox(tenant, store).await {
            self.witness.accuse(None, Promise::InboxKept, error.to_string());
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
        let books = self.books();
        let lost = |id: &&InboxId| !waiting.contains(id) && !books.taken.contains(id);
        let lost = books.inbox.keys().find(lost).map(|id| (*id, books.inbox[id].pid));
        drop(books);
        if let Some((InboxId(id), pid)) = lost {
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
        let calls = book.tool_calls();
        if keys > calls {
            let what = format!("{keys} idempotency keys for {calls} calls");
            broken.push((Promise::IdempotentOnce, what));
        }
        let (spent, billed) = (book.spent(), self.model.billed(&pid.to_string()));
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

    /// Whether every process has ended.
    pub(super) fn all_have_ended(&self) -> bool {
        let ended = |book: &Book| book.image.as_ref().is_some_and(|it| it.state.is_final());
        self.books().processes.values().all(ended)
    }

    /// Counts what the journals hold and how the processes ended.
    pub(super) fn count(&self, report: &mut Report) {
        for book in self.books().processes.values() {
            for event in &book.events {
                *report.events.entry(event.kind().name()).or_default() += 1;
            }
            if let Some(image) = &book.image {
                let end = match &image.state {
                    ProcessState::Exited { exit: Exit::Failed { code, .. } } => code,
                    ProcessState::Exited { exit } => exit.name(),
                    other => other.name(),
                };
                *report.exits.entry(end.to_owned()).or_default() += 1;
            }
        }
    }
}

impl Watch for Auditor {
    fn appended(&self, append: &Append) {
        let mut broken = Broken::new();
        let mut books = self.books();
        let Books { processes, large, inbox, taken, .. } = &mut *books;
        let big = |content: &&Content| content.bytes().len() > Content::INLINE_MAX;
        large.extend(append.contents.iter().filter(big).map(Content::hash));
        let book = processes.entry(append.pid).or_insert_with(|| Book::new(append));
        let known = book.events.len();
        book.append(append, large, &mut broken);
        let new = book.events.get(known..).unwrap_or_default();
        self.reported(new, append, &mut broken);
        for id in &append.consumed {
            let there = inbox.get(id).is_some_and(|item| item.pid == append.pid);
            if !there || !taken.insert(*id) {
                let what = format!("the inbox item {} is taken over a second time", id.0);
                broken.push((Promise::InboxOnce, what));
            }
        }
        drop(books);
        self.accuse(append.pid, broken);
    }

    fn claimed(&self, pid: Pid, epoch: Epoch) {
        self.witness.note(Some(pid), format!("is taken over with epoch {epoch}"));
        let mut broken = Broken::new();
        if let Some(book) = self.books().processes.get_mut(&pid) {
            book.claimed(epoch, &mut broken);
        }
        self.accuse(pid, broken);
    }

    fn read_back(&self, pid: Pid) {
        *self.books().stays.entry(pid).or_default() += 1;
    }

    fn dismissed(&self, pid: Pid, items: &[InboxId]) {
        let mut broken = Broken::new();
        let mut books = self.books();
        let Books { processes, inbox, .. } = &mut *books;
        for id in items {
            let Some(item) = inbox.get(id).filter(|item| item.pid == pid) else {
                continue;
            };
            if processes.get(&pid).is_none_or(|book| book.may_take(item.is_message)) {
                let what = format!("the inbox item {} is dismissed and could be taken", id.0);
                broken.push((Promise::InboxKept, what));
            }
            inbox.remove(id);
        }
        drop(books);
        self.accuse(pid, broken);
    }

    fn posted(&self, pid: Pid, id: InboxId, item: &InboxItem) {
        let is_message = matches!(item, InboxItem::Message { .. });
        self.books().inbox.insert(id, Item { pid, is_message });
    }
}
