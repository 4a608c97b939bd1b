//! The book of one process: its journal as it grew, folded event by event beside the disk.
//!
//! A book hears of an append at the moment at which it becomes durable, so a broken promise is
//! found at the event that broke it and each event is read once, however many lives follow. The
//! fold is the kernel's own, because it is what recovery uses; money, intents and contents are
//! counted here a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    BlockedOn, Code, ContentKey, Epoch, Event, Exit, Exited, Hash, MicroDollars, Op, Pid, Planned,
    ProcessState, Record, Restarted, Seq, Tenant, Timestamp, What,
};
use aosk_kernel::Image;
use aosk_ports::{Append, InboxItem, Rendered, Stretch};

use super::deeds::Deeds;
use super::family::Terms;
use super::named::contents;
use super::purse::Purse;
use super::route::Route;
use super::starts::Starts;
use super::till::Till;
use crate::clock::can_be_over;
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

/// What is true of the world while an append becomes durable.
pub(super) struct Sky<'a> {
    pub(super) seed: u64,
    /// The virtual time.
    pub(super) now: Duration,
    /// Whether no other machine runs.
    pub(super) alone: bool,
    /// The contents that the tenant's other appends brought.
    pub(super) large: &'a BTreeSet<Hash>,
}

/// What a model call sends.
pub(super) struct Sent<'a> {
    /// The name of the model that it comes to.
    pub(super) device: &'a str,
    /// What it can cost.
    pub(super) ceiling: MicroDollars,
    pub(super) rendered: &'a Rendered,
    /// Whether no other machine runs.
    pub(super) alone: bool,
    pub(super) till: &'a Till,
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
    /// How it ended, and what it had spent by then; more than once where it was continued.
    pub(super) ends: Vec<(Exit, MicroDollars)>,
    /// What its checkpoints stand on.
    stretches: Vec<Stretch>,
    pub(super) events: Vec<Event>,
    purse: Purse,
    pub(super) deeds: Deeds,
    route: Route,
    starts: Starts,
    /// The generations of prompts that were planned.
    planned: BTreeMap<Hash, u64>,
    plan: Option<Planned>,
    /// The longest prompt of each generation that was sent.
    sent: BTreeMap<u64, Arc<[u8]>>,
    /// Contents that the process's appends brought.
    brought: BTreeSet<Hash>,
    /// Messages that it took over. No two of a world are alike.
    heard: BTreeSet<Hash>,
    /// Since when, in virtual time, the process stands where it does.
    since: Duration,
    /// When its waits began, by the kernel's clock and in virtual time: one may go on behind another.
    waits: BTreeMap<Timestamp, Duration>,
}

impl Book {
    /// An empty book for the process of a first append, which was to be spawned with these terms
    /// and may ask these models, in this order.
    pub(super) fn new(append: &Append, terms: Terms, models: Vec<String>, key: ContentKey) -> Self {
        Self {
            tenant: append.tenant.clone(),
            pid: append.pid,
            epoch: append.epoch,
            next: Seq(0),
            head: append.prev,
            image: None,
            ends: Vec::new(),
            stretches: Vec::new(),
            events: Vec::new(),
            purse: Purse::new(terms.limit),
            deeds: Deeds::new(key),
            route: Route::new(models),
            starts: Starts::new(terms.manifest),
            planned: BTreeMap::new(),
            plan: None,
            sent: BTreeMap::new(),
            brought: BTreeSet::new(),
            heard: BTreeSet::new(),
            since: Duration::ZERO,
            waits: BTreeMap::new(),
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

    /// An append became durable.
    pub(super) fn append(&mut self, append: &Append, sky: &Sky<'_>, broken: &mut Broken) {
        if append.epoch != self.epoch {
            let (epoch, granted) = (append.epoch, self.epoch);
            let what = format!("epoch {epoch} appends, and {granted} was granted");
            broken.push((Promise::Fenced, what));
        }
        self.brought.extend(append.contents.iter().map(aosk_abi::Content::hash));
        for record in &append.records {
            self.record(record, append, sky, broken);
        }
        if append.row.spent != self.purse.spent() {
            let (claimed, counted) = (append.row.spent, self.purse.spent());
            let what = format!("the kernel says {claimed}, and the events say {counted}");
            broken.push((Promise::Counted, what));
        }
        let Some(image) = &self.image else {
            return;
        };
        if image.row() != append.row {
            let what = format!("lists show {:?} instead of {:?}", append.row, image.row());
            broken.push((Promise::Lists, what));
        }
        if let ProcessState::Exited { exit } = &image.state {
            self.ends.push((exit.clone(), self.purse.spent()));
        }
        let settled = append.checkpoint.as_ref().map(|it| it.settle(&mut self.stretches));
        if let Some(checkpoint) = &settled
            && Image::from_checkpoint(checkpoint).as_ref() != Some(image)
        {
            let what = format!("the checkpoint at event {} is another fold", checkpoint.seq);
            broken.push((Promise::Fold, what));
        }
    }

    fn record(&mut self, record: &Record, append: &Append, sky: &Sky<'_>, broken: &mut Broken) {
        if record.seq != self.next || record.epoch != append.epoch {
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
        let before = self.image.as_ref().map(|image| image.state.clone());
        self.waited(before.as_ref(), &event, sky, broken);
        self.fold(record, broken);
        if self.image.as_ref().map(|image| &image.state) != before.as_ref() {
            self.since = self.stands_since(sky.now);
        }
        for content in contents(&event.what) {
            if !self.brought.contains(&content.hash) && !sky.large.contains(&content.hash) {
                let (seq, hash) = (record.seq, content.hash);
                let what = format!("event {seq} names {hash}, which nobody brought");
                broken.push((Promise::Contents, what));
            }
        }
        let has_ended = before.is_some_and(|state| state.is_final());
        let begins = has_ended || matches!(event.what, What::Restarted(_));
        let step = self.image.as_ref().map(|image| image.step).unwrap_or_default();
        self.starts.hear(&event, step, begins, broken);
        self.route.hear(&event.what, begins, broken);
        let reserved = ended(&event.what).map(|op| self.purse.reserved_for(op));
        self.deeds.hear(&event, append, reserved.unwrap_or_default(), broken);
        let is_child = self.image.as_ref().is_some_and(|image| image.spawned.parent.is_some());
        if has_ended && is_child && matches!(event.what, What::MessageReceived(_)) {
            self.purse.give_back();
        }
        self.hear(record.seq, &event, broken);
        self.events.push(event);
    }

    /// Since when the process stands where it does. One that was stopped in a wait and goes on waits
    /// as long as it would have.
    fn stands_since(&mut self, now: Duration) -> Duration {
        let Some(ProcessState::Blocked { since, .. }) = self.image.as_ref().map(|it| &it.state)
        else {
            return now;
        };
        *self.waits.entry(*since).or_insert(now)
    }

    /// A process that waits for a moment does nothing before it comes.
    fn waited(
        &self,
        state: Option<&ProcessState>,
        event: &Event,
        sky: &Sky<'_>,
        broken: &mut Broken,
    ) {
        let Some(ProcessState::Blocked { on: BlockedOn::Timer { until }, since }) = state else {
            return;
        };
        let acts = matches!(
            event.what,
            What::Planned(_) | What::LlmRequested(_) | What::Told(_) | What::ToolReturned(_)
        );
        let wait = Duration::from_millis(until.millis_since(*since));
        // Two machines at once have two clocks.
        if acts
            && sky.alone
            && self.since.saturating_add(wait) > sky.now
            && !can_be_over(sky.seed, self.since, sky.now, *until)
        {
            let what = format!("a {} event comes before {until:?}", event.kind());
            broken.push((Promise::Retried, what));
        }
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
            // What agents say to each other may well be alike.
            What::MessageReceived(message)
                if message.op.is_none() && !self.heard.insert(message.content.hash) =>
            {
                let what = format!("event {seq} is a message that came before");
                broken.push((Promise::InboxOnce, what));
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
        }
    }

    /// What is counted as spent.
    pub(super) fn spent(&self) -> MicroDollars {
        self.purse.spent()
    }

    /// A model call leaves: for which operation, if one was intended.
    pub(super) fn asked(&mut self, sent: &Sent<'_>, broken: &mut Broken) -> Option<Op> {
        let reserved = self.purse.reserved();
        if reserved < sent.ceiling {
            let ceiling = sent.ceiling;
            let what = format!("{reserved} is reserved for a call that can cost {ceiling}");
            broken.push((Promise::Billed, what));
        }
        if let (None, Some(limit)) = (self.purse.limit(), sent.till.each)
            && self.spent() > limit
            && sent.alone
        {
            let spent = self.spent();
            let what = format!("a call brings a process without a limit to {spent} of {limit}");
            broken.push((Promise::Limit, what));
        }
        let op = self.deeds.ask();
        if op.is_none() {
            let what = "a model call leaves without a durable intent".to_owned();
            broken.push((Promise::Intent, what));
        }
        self.begins("a model call", sent.alone, broken);
        if sent.alone && !self.route.leads_to(sent.device) {
            let what = format!("a call comes to {:?}, which was not asked", sent.device);
            broken.push((Promise::Fallback, what));
        }
        self.prompt(sent, op, broken);
        op
    }

    fn prompt(&mut self, sent: &Sent<'_>, op: Option<Op>, broken: &mut Broken) {
        let Rendered { prompt, prompt_bytes: bytes, .. } = sent.rendered;
        let newest = |plan: &Planned| plan.prompt == *prompt && Some(plan.op) == op;
        let generation = self.planned.get(prompt);
        // A machine that was usurped may still send what it planned before.
        let planned = !sent.alone || self.plan.as_ref().is_some_and(newest);
        let Some(generation) = generation.filter(|_| planned) else {
            let what = format!("the prompt {prompt} leaves, and is not the newest plan's");
            return broken.push((Promise::Planned, what));
        };
        let longest = self.sent.entry(*generation).or_insert_with(|| bytes.clone());
        if bytes.starts_with(longest) {
            *longest = bytes.clone();
        } else if !longest.starts_with(bytes) {
            let what = format!("the prompt {prompt} does not begin with the one before");
            broken.push((Promise::Prefix, what));
        }
    }

    /// An effect begins; a machine that was usurped may not know yet that it must not.
    pub(super) fn begins(&self, what: &str, alone: bool, broken: &mut Broken) {
        let state = self.image.as_ref().map(|image| &image.state);
        let rests = match state {
            Some(ProcessState::Exited { .. } | ProcessState::Suspended { .. }) => true,
            Some(ProcessState::Blocked { on, .. }) => {
                matches!(
                    on,
                    BlockedOn::Quota { .. }
                        | BlockedOn::Review { .. }
                        | BlockedOn::Limit { until: None, .. }
                )
            }
            _ => false,
        };
        if rests && alone {
            let what = format!("{what} begins for a process that is {state:?}");
            broken.push((Promise::Rests, what));
        }
    }

    /// Whether the process could still take an item of the inbox.
    pub(super) fn may_take(&self, item: &InboxItem) -> bool {
        match self.image.as_ref().map(|image| &image.state) {
            Some(ProcessState::Exited { exit }) => {
                matches!(item, InboxItem::Message { .. }) && exit.can_be_continued()
            }
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

/// The model call that an event ends.
const fn ended(what: &What) -> Option<Op> {
    match what {
        What::LlmReturned(reply) => Some(reply.op),
        What::LlmFailed(failed) => Some(failed.op),
        _ => None,
    }
}
