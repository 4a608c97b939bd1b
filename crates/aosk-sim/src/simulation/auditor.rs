//! The auditor: what becomes durable and what the world sees, held against what was promised.
//!
//! It listens at the disk, at the models, at the tools and to what kernels claim, and trusts
//! nothing that a kernel keeps in memory. It looks after every event; what can only be seen when
//! a machine is off, it sees in [`inspect`](Auditor::inspect).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aosk_abi::{
    BlockedOn, Content, ContentKey, Effect, Epoch, Event, Exit, Hash, Manifest, Op, Pid,
    ProcessState, Seq, ToolResult, What,
};
use aosk_ports::{
    Append, CallError, Device as _, InboxId, InboxItem, Prices, Rendered, Reply, Request,
    ToolContext,
};

use super::book::{Book, Broken, Sent, Sky};
use super::family::{Families, Terms, circles};
use super::mail::Mail;
use super::report::Report;
use super::till::Till;
use super::witness::Witness;
use crate::disk::Watch;
use crate::ledger::Ledger;
use crate::model::SimModel;
use crate::promise::Promise;
use crate::tokens;

/// The auditor of a simulation. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Auditor {
    books: Arc<Mutex<Books>>,
    pub(super) witness: Witness,
    /// The model that agents are spawned with, and those that may be asked instead.
    pub(super) models: Arc<[Arc<SimModel>]>,
    pub(super) ledger: Ledger,
    seed: u64,
    key: ContentKey,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) processes: BTreeMap<Pid, Book>,
    /// What the agents, and those that they began, are to be spawned with.
    wanted: BTreeMap<Pid, Terms>,
    pub(super) families: Families,
    /// Contents that stand once for the whole tenant.
    large: BTreeSet<Hash>,
    pub(super) mail: Mail,
    /// How often each process was read back.
    stays: BTreeMap<Pid, u64>,
    /// How many tools run for each process.
    running: BTreeMap<Pid, u32>,
}

/// A model call that left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pid: Pid,
    op: Option<Op>,
}

/// A tool that runs.
pub(super) struct Run {
    auditor: Auditor,
    pid: Pid,
    op: Option<Op>,
    /// Which time it is for the call, the first being 1.
    pub(super) times: u32,
}

impl Run {
    /// What it came to.
    pub(super) fn came_to(&self, result: &ToolResult) {
        if let Some(book) = self.auditor.books().processes.get_mut(&self.pid) {
            book.deeds.ran(self.op, result);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(running) = self.auditor.books().running.get_mut(&self.pid) {
            *running -= 1;
        }
    }
}

impl Auditor {
    pub(super) fn new(
        seed: u64,
        key: ContentKey,
        witness: &Witness,
        models: &Arc<[Arc<SimModel>]>,
        ledger: &Ledger,
    ) -> Self {
        Self {
            books: Arc::default(),
            witness: witness.clone(),
            models: models.clone(),
            ledger: ledger.clone(),
            seed,
            key,
        }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn accuse(&self, pid: Pid, broken: Broken) {
        for (promise, what) in broken {
            self.witness.accuse(Some(pid), promise, what);
        }
    }

    /// What an agent is to be spawned with.
    pub(super) fn wants(&self, pid: Pid, manifest: &Manifest) {
        self.books().wanted.insert(pid, Terms::of(manifest));
    }

    /// A model call leaves a machine; `again` is what the request renders to now.
    pub(super) fn asked(
        &self,
        model: &SimModel,
        (till, treasury): (&Till, Option<&Till>),
        (rendered, again): (&Rendered, Option<&Rendered>),
        request: &Request,
    ) -> Option<Asked> {
        let Ok(pid) = request.cache_key.parse::<Pid>() else {
            let what = format!("a call of {:?}, which is no process", request.cache_key);
            self.witness.accuse(None, Promise::Intent, what);
            return None;
        };
        let mut broken = Broken::new();
        let (prompt, window) = (tokens::of_request(request), model.window());
        let ceiling = model.prices().ceiling(prompt, request.max_output, request.life);
        let machines = self.witness.machines_at_once();
        let (device, alone) = (&*model.info().name, machines < 2);
        let sent = Sent { device, ceiling, rendered, alone, till };
        let mut op = None;
        match self.books().processes.get_mut(&pid) {
            Some(book) => op = book.asked(&sent, &mut broken),
            None => broken.push((Promise::Intent, "a model call of no durable process".into())),
        }
        let parts = |it: &Rendered| (it.prompt, it.prompt_len, it.body.clone());
        if again.map(parts) != Some(parts(rendered)) {
            let what = "what leaves is not what the request renders to".to_owned();
            broken.push((Promise::Planned, what));
        }
        if let Err(beyond) = till.begin(ceiling) {
            broken.push((Promise::Limit, beyond));
        }
        if let Some(Err(beyond)) = treasury.map(|treasury| treasury.begin(ceiling)) {
            broken.push((Promise::Shared, beyond));
        }
        if prompt + request.max_output > window {
            let output = request.max_output;
            let what = format!("a prompt of {prompt} with a reply of {output} for {window} tokens");
            broken.push((Promise::Window, what));
        }
        let (calls, slots) = (model.in_flight() + 1, model.slots());
        if calls > slots * machines {
            let what = format!("{calls} calls of {machines} machines at once on {slots} slots");
            broken.push((Promise::Slots, what));
        }
        self.accuse(pid, broken);
        Some(Asked { pid, op })
    }

    /// What a model call came to, before a machine hears of it.
    pub(super) fn answered(
        &self,
        asked: Asked,
        prices: &Prices,
        answer: &Result<Reply, CallError>,
    ) {
        if let (Some(op), Some(book)) = (asked.op, self.books().processes.get_mut(&asked.pid)) {
            book.deeds.answered(op, *prices, answer.clone());
        }
    }

    /// A tool is about to run.
    pub(super) fn ran(&self, context: &ToolContext, tool: &str, effect: Effect) -> Run {
        let pid = context.pid;
        let op = context.idempotency_key.strip_prefix(&format!("{pid}-"));
        let op = op.and_then(|op| op.parse().ok()).map(Op);
        let alone = self.witness.machines_at_once() < 2;
        let mut broken = Broken::new();
        let times = match self.books().processes.get_mut(&pid) {
            Some(book) => {
                book.begins(tool, alone, &mut broken);
                book.deeds.run(op, tool, &mut broken)
            }
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
        Run { auditor: self.clone(), pid, op, times }
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
        let there = books.mail.holds(pid, id);
        drop(books);
        if !there {
            let what = format!("the inbox item {} was acknowledged and is not there", id.0);
            self.witness.accuse(Some(pid), Promise::InboxKept, what);
        }
    }

    /// Those for whom something waits in the inbox that they could take.
    pub(super) fn addressees(&self) -> BTreeSet<Pid> {
        let books = self.books();
        let can_take = |pid: &Pid, item: &InboxItem| {
            books.processes.get(pid).is_some_and(|book| book.may_take(item))
        };
        let waiting = books.mail.waiting().filter(|(pid, _, item)| can_take(pid, item));
        waiting.map(|(pid, ..)| pid).collect()
    }

    /// The processes that others began, born or not.
    pub(super) fn children(&self) -> Vec<Pid> {
        self.books().families.children()
    }

    /// Those that a process begins at the moment.
    pub(super) fn unborn(&self, parent: Pid) -> Vec<Pid> {
        self.books().families.unborn(parent)
    }

    /// The circles of waits that nothing in the inbox ends, each by its processes and the ends of
    /// their journals.
    pub(super) fn circles(&self) -> BTreeSet<Vec<(Pid, Seq)>> {
        let books = self.books();
        let waiting: BTreeSet<Pid> = books.mail.waiting().map(|(pid, ..)| pid).collect();
        circles(&books.processes, |pid| waiting.contains(&pid))
    }

    /// Where a process's journal ends, if neither it nor a call that is under way says why the
    /// process does nothing.
    pub(super) fn unexplained(&self, pid: Pid) -> Option<Seq> {
        let books = self.books();
        let book = books.processes.get(&pid)?;
        let busy = books.running.get(&pid).is_some_and(|&running| running > 0)
            || self.models.iter().any(|model| model.is_busy(&pid.to_string()));
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
            if *key != format!("{}-{}", append.pid, returned.op) {
                let what = format!("{} reports what happened under {key}", returned.op);
                broken.push((Promise::IdempotentOnce, what));
            }
            let effects = self.ledger.effects(key);
            if effects != 1 {
                let what =
                    format!("{} reports an effect that happened {effects} times", returned.op);
                broken.push((Promise::IdempotentOnce, what));
            }
        }
    }

    /// Whether every process has ended.
    pub(super) fn all_have_ended(&self) -> bool {
        let ended = |book: &Book| book.image.as_ref().is_some_and(|it| it.state.is_final());
        self.books().processes.values().all(ended)
    }

    /// Counts what the journals hold and how the processes ended.
    pub(super) fn count(&self, report: &mut Report) {
        let books = self.books();
        report.turns.insert("circle", books.families.told() as u64);
        for book in books.processes.values() {
            for event in &book.events {
                *report.events.entry(event.kind().name()).or_default() += 1;
                if let Some(turn) = turn(&event.what) {
                    *report.turns.entry(turn).or_default() += 1;
                }
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
        let (now, alone) = (self.witness.now(), self.witness.machines_at_once() < 2);
        let mut books = self.books();
        let Books { processes, wanted, families, large, mail, .. } = &mut *books;
        let big = |content: &&Content| content.bytes().len() > Content::INLINE_MAX;
        large.extend(append.contents.iter().filter(big).map(Content::hash));
        let Some(terms) = wanted.get(&append.pid).cloned() else {
            drop(books);
            let what = "a process of which nobody asked";
            return self.witness.accuse(Some(append.pid), Promise::Explained, what);
        };
        let book = processes.entry(append.pid).or_insert_with(|| {
            let models = self.models.iter().map(|model| model.info().name.clone());
            Book::new(append, terms.clone(), models.collect(), self.key)
        });
        let known = book.events.len();
        let before = book.image.as_ref().map(|image| image.state.clone());
        book.append(append, &Sky { seed: self.seed, now, alone, large }, &mut broken);
        let new = book.events.get(known..).unwrap_or_default();
        self.reported(new, append, &mut broken);
        for event in new {
            if let What::ToolReturned(returned) = &event.what
                && returned.success
                && book.deeds.is_send(returned.op)
                && !mail.was_sent(append.pid, returned.op)
            {
                let what = format!("{} reports a message that nobody posted", returned.op);
                broken.push((Promise::InboxKept, what));
            }
        }
        mail.take(append, new, &mut broken);
        let (new, mut told) = (new.to_vec(), false);
        for event in &new {
            match &event.what {
                What::Spawned(spawned) => families.born(append.pid, spawned, &mut broken),
                What::ChildBegun(begun) => {
                    let heir = families.begins(append.pid, &terms, begun, &mut broken);
                    wanted.extend(heir.map(|heir| (begun.child, heir)));
                }
                What::ChildEnded(ended) => {
                    families.ended(append.pid, ended, processes.get(&ended.child), &mut broken);
                }
                What::ToolReturned(returned) => {
                    let (result, key) = (&returned.result, &self.key);
                    told |= families.returned(append, result, before.as_ref(), key, &mut broken);
                }
                _ => {}
            }
        }
        // A second machine does not wait until the first has told somebody.
        if told && alone {
            families.heals(processes);
        }
        families.stands(append.pid, processes);
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
        let Books { processes, mail, .. } = &mut *books;
        let may_take =
            |item: &InboxItem| processes.get(&pid).is_none_or(|book| book.may_take(item));
        mail.dismiss(pid, items, may_take, &mut broken);
        drop(books);
        self.accuse(pid, broken);
    }

    fn posted(&self, pid: Pid, id: InboxId, item: &InboxItem) {
        let mut books = self.books();
        books.mail.post(pid, id, item);
        let InboxItem::Mail { from, op, .. } = item else {
            return;
        };
        let is_intent = |event: &Event| match &event.what {
            What::ToolRequested(asked) => asked.op == *op && asked.to == Some(pid),
            _ => false,
        };
        let sender = books.processes.get(from);
        let is_intended = sender.is_some_and(|book| book.events.iter().any(is_intent));
        drop(books);
        if !is_intended {
            let what = format!("the message {op} is posted and was never intended");
            self.witness.accuse(Some(*from), Promise::Intent, what);
        }
    }
}

/// What an event brings that has no kind of its own.
fn turn(what: &What) -> Option<&'static str> {
    match what {
        What::Planned(plan) if !plan.evicted.is_empty() => Some("eviction"),
        What::LlmFailed(failed) if failed.next.is_some() => Some("another model"),
        What::Blocked(blocked) => match blocked.on {
            BlockedOn::Review { .. } => Some("review"),
            BlockedOn::Quota { .. } => Some("quota"),
            BlockedOn::Limit { .. } => Some("budget"),
            _ => None,
        },
        _ => None,
    }
}
