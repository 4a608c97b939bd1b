//! The book of one process: its journal as it grew, folded event by event beside the disk.
//!
//! A book hears of an append at the moment at which it becomes durable, so a broken promise is
//! found at the event that broke it and each event is read once, however many lives follow. The
//! fold is the kernel's own, because it is what recovery uses; money, intents and contents are
//! counted here a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aosk_abi::{
    Code, ContentRef, Epoch, Event, Exit, Exited, Hash, MicroDollars, Op, Pid, Planned,
    ProcessState, Record, ReplyPart, Restarted, Seq, Step, Tenant, What,
};
use aosk_kernel::Image;
use aosk_ports::Append;

use super::purse::Purse;
use crate::promise::Promise;

/// Why a process may fail in a simulated world: its calls were throttled or broke off as often as
/// they may be tried, the endpoint refused it, or a single turn brought more than the window
/// holds.
const EXPLAINED: [Code; 5] = [
    Code::LlmThrottled,
    Code::LlmTransient,
    Code::LlmProtocol,
    Code::LlmBadRequest,
    Code::ContextOverflow,
];

/// Promises that were found broken.
pub(super) type Broken = Vec<(Promise, String)>;

/// What was intended, and how often it was begun.
#[derive(Debug, Default)]
struct Intent {
    tool: String,
    requested: u32,
    begun: u32,
}

/// The book of one process.
#[derive(Debug)]
pub(super) struct Book {
    tenant: Tenant,
    pid: Pid,
    /// The epoch that was granted last.
    epoch: Epoch,
    pub(super) next: Seq,
    pub(super) head: Hash,
    /// The fold of everything durable; `None` once something did not fold.
    pub(super) image: Option<Image>,
    pub(super) events: Vec<Event>,
    purse: Purse,
    calls: BTreeMap<Op, Intent>,
    tools: BTreeMap<Op, Intent>,
    /// The generations of prompts that were planned.
    planned: BTreeMap<Hash, u64>,
    plan: Option<Planned>,
    /// The step after which the program last began; its limit counts from there.
    began_at: Step,
    /// The longest prompt of each generation that was sent.
    sent: BTreeMap<u64, Arc<[u8]>>,
    /// Contents that the process's appends brought.
    brought: BTreeSet<Hash>,
    /// Messages that it took over. No two of a world are alike.
    heard: BTreeSet<Hash>,
}

impl Book {
    /// An empty book for the process of a first append.
    pub(super) fn new(append: &Append) -> Self {
        Self {
            tenant: append.tenant.clone(),
            pid: append.pid,
            epoch: append.epoch,
            next: Seq(0),
            head: append.prev,
            image: None,
            events: Vec::new(),
            purse: Purse::default(),
            calls: BTreeMap::new(),
            tools: BTreeMap::new(),
            planned: BTreeMap::new(),
            plan: None,
            began_at: Step(0),
            sent: BTreeMap::new(),
            brought: BTreeSet::new(),
            heard: BTreeSet::new(),
        }
    }

    /// The process was taken over.
    pub(super) fn claimed(&mut self, epoch: Epoch, broken: &mut Broken) {
        if epoch <= self.epoch {
            let before = self.epoch;
            broken.push((Promise::Fenced, format!("epoch {epoch} was granted after {before}")));
        }
        self.epoch = epoch;
    }

    /// An append became durable. `large` are the contents that the tenant's other appends brought.
    pub(super) fn append(&mut self, append: &Append, large: &BTreeSet<Hash>, broken: &mut Broken) {
        if append.epoch != self.epoch {
            let (epoch, granted) = (append.epoch, self.epoch);
            let what = format!("epoch {epoch} appends, and {granted} was granted");
            broken.push((Promise::Fenced, what));
        }
        self.brought.extend(append.contents.iter().map(aosk_abi::Content::hash));
        for record in &append.records {
            self.record(record, append.epoch, large, broken);
        }
        let Some(image) = &self.image else {
            return;
        };
        if image.row() != append.row {
            let what = format!("lists show {:?} instead of {:?}", append.row, image.row());
            broken.push((Promise::Lists, what));
        }
        if let Some(checkpoint) = &append.checkpoint
            && Image::from_checkpoint(checkpoint).as_ref() != Some(image)
        {
            let what = format!("the checkpoint at event {} is another fold", checkpoint.seq);
            broken.push((Promise::Fold, what));
        }
    }

    fn record(
        &mut self,
        record: &Record,
        epoch: Epoch,
        large: &BTreeSet<Hash>,
        broken: &mut Broken,
    ) {
        if record.seq != self.next || record.epoch != epoch {
            let (seq, next) = (record.seq, self.next);
            broken.push((Promise::Chain, format!("event {seq} stands where {next} belongs")));
        }
        if let Err(error) = record.verify(&self.tenant, self.pid, self.head) {
            broken.push((Promise::Chain, error.to_string()));
        }
        self.next = record.seq.next();
        self.head = record.hash;
        let event = match record.decode() {
            Ok(event) => event,
            Err(error) => return broken.push((Promise::Fold, error.to_string())),
        };
        let ended = self.image.as_ref().is_some_and(|image| image.state.is_final());
        self.fold(record, broken);
        if ended || matches!(event.what, What::Restarted(_)) {
            self.began_at = self.image.as_ref().map(|image| image.step).unwrap_or_default();
        }
        for content in contents(&event.what) {
            if !self.brought.contains(&content.hash) && !large.contains(&content.hash) {
                let (seq, hash) = (record.seq, content.hash);
                let what = format!("event {seq} names {hash}, which nobody brought");
                broken.push((Promise::Contents, what));
            }
        }
        self.hear(record.seq, &event, broken);
        self.events.push(event);
    }

    fn fold(&mut self, record: &Record, broken: &mut Broken) {
        let folded = match self.image.take() {
            None if record.seq == Seq(0) => Image::begin(&self.tenant, self.pid, record).map(Some),
            None => Ok(None),
            Some(mut image) => image.apply(record).map(|()| Some(image)),
        };
        match folded {
            Ok(image) => self.image = image,
            Err(error) => broken.push((Promise::Fold, format!("does not fold: {error}"))),
        }
    }

    fn hear(&mut self, seq: Seq, event: &Event, broken: &mut Broken) {
        if let Err(beyond) = self.purse.hear(&event.what) {
            broken.push((Promise::Limit, beyond));
        }
        match &event.what {
            What::Planned(plan) => {
                if let Some(last) = self.plan.replace(plan.clone())
                    && last.generation == plan.generation
                    && plan.prompt_len < last.prompt_len
                {
                    let what = format!("the prompt of {} is shorter than the one before", plan.op);
                    broken.push((Promise::Prefix, what));
                }
                self.planned.insert(plan.prompt, plan.generation);
            }
            What::MessageReceived(message) if !self.heard.insert(message.content.hash) => {
                let what = format!("event {seq} is a message that came before");
                broken.push((Promise::InboxOnce, what));
            }
            What::LlmRequested(asked) => {
                self.calls.entry(asked.op).or_default().requested += 1;
            }
            What::ToolRequested(asked) => {
                let intent = self.tools.entry(asked.op).or_default();
                intent.requested += 1;
                intent.tool.clone_from(&asked.tool);
            }
            What::Exited(Exited { exit, .. }) | What::Restarted(Restarted { exit, .. }) => {
                if let Exit::Failed { code, .. } = exit
                    && !EXPLAINED.iter().any(|known| known.as_str() == code)
                {
                    let what = format!("event {seq}: failed with {code}");
                    broken.push((Promise::Explained, what));
                }
            }
            _ => {}
        }
        if let Some(image) = &self.image {
            let (counted, spent) = (self.purse.spent(), image.account.spent());
            if counted != spent {
                let what = format!("event {seq}: spent {spent}, and the events say {counted}");
                broken.push((Promise::Counted, what));
            }
            let (steps, limit) = (image.step.0 - self.began_at.0, image.spawned.max_steps);
            if steps > limit {
                broken.push((Promise::Steps, format!("event {seq}: {steps} steps of {limit}")));
            }
        }
    }

    /// What is counted as spent.
    pub(super) fn spent(&self) -> MicroDollars {
        self.purse.spent()
    }

    /// How many tool calls were intended.
    pub(super) fn tool_calls(&self) -> usize {
        self.tools.len()
    }

    /// A model call leaves for the endpoint with that prompt; it can cost up to `ceiling`.
    pub(super) fn asked(
        &mut self,
        prompt: &Hash,
        bytes: &Arc<[u8]>,
        ceiling: MicroDollars,
        broken: &mut Broken,
    ) {
        let reserved = self.purse.reserved();
        if reserved < ceiling {
            let what = format!("{reserved} is reserved for a call that can cost {ceiling}");
            broken.push((Promise::Billed, what));
        }
        let intent = self.calls.values_mut().next_back();
        match intent.filter(|intent| intent.begun < intent.requested) {
            Some(intent) => intent.begun += 1,
            None => {
                let what = "a model call leaves without a durable intent".to_owned();
                broken.push((Promise::Intent, what));
            }
        }
        let Some(generation) = self.planned.get(prompt) else {
            let what = format!("the prompt {prompt} leaves, and no durable plan names it");
            return broken.push((Promise::Planned, what));
        };
        let longest = self.sent.entry(*generation).or_insert_with(|| bytes.clone());
        // A machine that was usurped may still send what it planned before.
        if bytes.starts_with(longest) {
            *longest = bytes.clone();
        } else if !longest.starts_with(bytes) {
            let what = format!("the prompt {prompt} does not begin with the one before");
            broken.push((Promise::Prefix, what));
        }
    }

    /// A tool is about to run under that operation; how often it has been by then.
    pub(super) fn ran(&mut self, op: Option<Op>, tool: &str, broken: &mut Broken) -> u32 {
        let intent = op.and_then(|op| self.tools.get_mut(&op));
        let Some(intent) = intent.filter(|intent| intent.tool == tool) else {
            broken.push((Promise::Intent, format!("{tool} runs without a durable intent")));
            return 1;
        };
        intent.begun += 1;
        let (begun, requested) = (intent.begun, intent.requested);
        if begun > requested {
            let what = format!("{tool} runs {begun} times on {requested} durable intents");
            broken.push((Promise::Intent, what));
        }
        begun
    }

    /// Whether the process could still take an item of the inbox.
    pub(super) fn may_take(&self, is_message: bool) -> bool {
        match self.image.as_ref().map(|image| &image.state) {
            Some(ProcessState::Exited { exit }) => is_message && exit.can_be_continued(),
            _ => true,
        }
    }

    /// Whether the journal says why the process does nothing.
    pub(super) fn says_why_it_waits(&self) -> bool {
        self.image.as_ref().is_none_or(|image| {
            matches!(
                image.state,
                ProcessState::Blocked { .. }
                    | ProcessState::Suspended { .. }
                    | ProcessState::Exited { .. }
            )
        })
    }
}

/// The contents that an event names.
pub(super) fn contents(what: &What) -> Vec<ContentRef> {
    let of_exit = |exit: &Exit| match exit {
        Exit::Completed { answer } => *answer,
        Exit::Refused { message } => *message,
        Exit::Failed { message, .. } => Some(*message),
        Exit::StepLimit { .. } | Exit::Killed => None,
    };
    let mut named = Vec::new();
    match what {
        What::Spawned(it) => named.extend([it.manifest, it.system, it.task, it.tools]),
        What::Exited(it) => named.extend(of_exit(&it.exit)),
        What::Restarted(it) => named.extend(of_exit(&it.exit)),
        What::MessageReceived(it) => named.push(it.content),
        What::Told(it) => named.push(it.content),
        What::Crashed(it) => named.push(it.message),
        What::LlmReturned(it) => {
            named.extend(it.raw);
            named.extend(it.parts.iter().map(|part| match part {
                ReplyPart::Text { content } | ReplyPart::Opaque { content, .. } => *content,
                ReplyPart::ToolCall { arguments, .. } => *arguments,
            }));
        }
        What::LlmFailed(it) => named.push(it.message),
        What::ToolReturned(it) => named.push(it.result),
        What::Interrupted(it) => named.push(it.result),
        What::Recovered(_)
        | What::Blocked(_)
        | What::Unblocked(_)
        | What::SpendRaised(_)
        | What::SignalReceived(_)
        | What::PriorityChanged(_)
        | What::Planned(_)
        | What::LlmRequested(_)
        | What::ToolRequested(_)
        | What::Cancelled(_) => {}
    }
    named
}
