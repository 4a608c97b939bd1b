//! Deeds: what a process set out to do, how often it was begun, and what came of it.
//!
//! The wire and the tools leave here what really came back, before the kernel sees it. An outcome
//! in the journal has to be one of those, of the same call; but for the few that a kernel gives by
//! itself, when a device or a tool never came back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aosk_abi::{
    Code, ContentKey, ContentRef, Effect, Event, FailureKind, Hash, LlmFailed, LlmRequested,
    LlmReturned, MicroDollars, Op, ReplyPart, Timestamp, ToolRequested, ToolResult, ToolReturned,
    What,
};
use aosk_kernel::Retry;
use aosk_ports::{Append, CallError, Part, Prices, Reply};

use super::book::Broken;
use super::family::{brought, ends_in};
use crate::promise::Promise;

/// What a failed result says where the kernel gave it because the tool gave none.
const GIVEN_UP: [&str; 2] = ["timeout", "tool_failed"];

/// The tool of the kernel's own that has an effect.
const SEND: &str = "send";

/// What a process set out to do.
#[derive(Debug)]
pub(super) struct Deeds {
    key: ContentKey,
    calls: BTreeMap<Op, Call>,
    tools: BTreeMap<Op, Errand>,
    /// Calls of the kernel's own tools that waited, took a message or began a child.
    own: BTreeSet<Op>,
    /// Results that tell of children that ended: whether it is so is asked where these are known.
    reports: BTreeSet<Hash>,
}

/// A model call.
#[derive(Debug, Default)]
struct Call {
    requested: u32,
    begun: u32,
    /// The attempts at models that were given up.
    elsewhere: u32,
    /// What its attempts came to, each at the prices of the model that was asked.
    answers: Vec<(Prices, Result<Reply, CallError>)>,
}

/// A tool call.
#[derive(Debug)]
struct Errand {
    tool: String,
    effect: Effect,
    requested: u32,
    begun: u32,
    results: Vec<Hash>,
}

impl Deeds {
    pub(super) const fn new(key: ContentKey) -> Self {
        Self {
            key,
            calls: BTreeMap::new(),
            tools: BTreeMap::new(),
            own: BTreeSet::new(),
            reports: BTreeSet::new(),
        }
    }

    /// Takes an event of an append in. `reserved` is what was set aside for the model call that it
    /// ends.
    pub(super) fn hear(
        &mut self,
        event: &Event,
        append: &Append,
        reserved: MicroDollars,
        broken: &mut Broken,
    ) {
        match &event.what {
            What::LlmRequested(asked) => self.requested(asked, broken),
            What::LlmReturned(reply) => self.returned(reply, reserved, broken),
            What::LlmFailed(failed) => self.failed(event, failed, reserved, broken),
            What::ToolRequested(asked) => self.tool_requested(asked, broken),
            What::ToolReturned(result) => self.tool_returned(result, append, broken),
            What::Blocked(blocked) => self.own.extend(blocked.op),
            What::MessageTaken(taken) => drop(self.own.insert(taken.op)),
            What::ChildBegun(begun) => drop(self.own.insert(begun.op)),
            What::Interrupted(call) => {
                let errand = self.tools.get(&call.op);
                if errand.is_none_or(|errand| errand.effect != Effect::Unsafe) {
                    let what =
                        format!("{} is reported as interrupted and can be repeated", call.op);
                    broken.push((Promise::Outcome, what));
                }
            }
            _ => {}
        }
    }

    fn requested(&mut self, asked: &LlmRequested, broken: &mut Broken) {
        let call = self.calls.entry(asked.op).or_default();
        if asked.attempt != call.requested + 1 {
            let (op, attempt, before) = (asked.op, asked.attempt, call.requested);
            let what = format!("{op} is attempt {attempt} after {before}");
            broken.push((Promise::Retried, what));
        }
        call.requested = asked.attempt;
    }

    fn returned(&mut self, reply: &LlmReturned, reserved: MicroDollars, broken: &mut Broken) {
        let key = &self.key;
        let call = self.calls.get(&reply.op).filter(|call| call.requested == reply.attempt);
        let Some(call) = call.filter(|call| call.begun > 0) else {
            let what = format!("{} returned and was never begun", reply.op);
            return broken.push((Promise::Outcome, what));
        };
        let said = call.answers.iter().filter_map(|(prices, answer)| {
            let said = answer.as_ref().ok().filter(|said| is_reply(said, reply, key))?;
            Some(said.usage.map_or(reserved, |usage| prices.cost(&usage)))
        });
        let costs: Vec<_> = said.collect();
        if costs.is_empty() {
            let what = format!("{} returned what its endpoint did not say", reply.op);
            broken.push((Promise::Outcome, what));
        } else if !costs.contains(&reply.cost) {
            let what = format!("{} is charged {}, not {costs:?}", reply.op, reply.cost);
            broken.push((Promise::Charged, what));
        }
    }

    fn failed(
        &mut self,
        event: &Event,
        failed: &LlmFailed,
        reserved: MicroDollars,
        broken: &mut Broken,
    ) {
        let op = failed.op;
        let call = self.calls.get_mut(&op).filter(|call| call.requested == failed.attempt);
        let Some(call) = call.filter(|call| call.begun > 0) else {
            let what = format!("{op} failed and was never begun");
            return broken.push((Promise::Outcome, what));
        };
        let said = call.answers.iter().filter_map(|(prices, answer)| {
            let error = answer.as_ref().err()?;
            let is_this =
                (error.kind, error.code.as_str()) == (failed.failure, failed.code.as_str());
            is_this.then(|| (cost_of(error, prices, reserved), error.retry_after))
        });
        let mut said: Vec<_> = said.collect();
        // Of a device that never came back the kernel says so itself.
        let silent = (failed.failure, &*failed.code)
            == (FailureKind::Transient, Code::LlmTransient.as_str())
            && call.answers.len() < call.begun as usize;
        said.extend(silent.then_some((reserved, None)));
        let again = failed.retry_at.filter(|_| failed.next.is_none());
        let in_time = |wanted: Option<Duration>| match (again, wanted) {
            (Some(until), Some(wanted)) => after(event.at, wanted) == until,
            _ => true,
        };
        let code = &failed.code;
        if said.is_empty() {
            let what = format!("{op} failed with {code}, which its endpoint did not say");
            broken.push((Promise::Outcome, what));
        } else if !said.iter().any(|(cost, _)| *cost == failed.cost) {
            let what = format!("{op} failed with {code} and is charged {}", failed.cost);
            broken.push((Promise::Charged, what));
        } else if !said.iter().any(|(_, wanted)| in_time(*wanted)) {
            let what = format!("{op} is tried again at {again:?}, and not when it was asked to be");
            broken.push((Promise::Retried, what));
        }
        let made = failed.attempt - call.elsewhere;
        let passes = matches!(failed.failure, FailureKind::Throttled | FailureKind::Transient);
        let most = Retry::default().attempts;
        let wrong = match failed.failure {
            FailureKind::ContextLength => false,
            // Whoever only has too much to do is waited for.
            FailureKind::Throttled => again.is_none() && failed.next.is_none(),
            _ if again.is_some() => !passes || made >= most,
            _ => passes && failed.next.is_none() && made < most,
        };
        if wrong {
            let what = format!("{op} failed {made} times, and again: {again:?}");
            broken.push((Promise::Retried, what));
        }
        if failed.next.is_some() {
            call.elsewhere = failed.attempt;
        }
    }

    fn tool_requested(&mut self, asked: &ToolRequested, broken: &mut Broken) {
        let errand = self.tools.entry(asked.op).or_insert_with(|| Errand {
            tool: asked.tool.clone(),
            effect: asked.effect,
            requested: 0,
            begun: 0,
            results: Vec::new(),
        });
        errand.requested += 1;
        if asked.effect == Effect::Unsafe && errand.requested > 1 {
            let what = format!("{} is asked for again as {}", asked.tool, asked.op);
            broken.push((Promise::UnsafeOnce, what));
        }
        if asked.attempt != errand.requested || (&asked.tool, asked.effect) != errand.is() {
            let what = format!("{} is another call than before: {asked:?}", asked.op);
            broken.push((Promise::Retried, what));
        }
    }

    fn tool_returned(&mut self, returned: &ToolReturned, append: &Append, broken: &mut Broken) {
        let (op, hash) = (returned.op, returned.result.hash);
        let result = brought(append, &returned.result);
        if result.as_ref().is_some_and(|result| !ends_in(result).is_empty()) {
            self.reports.insert(hash);
        }
        let fits = match self.tools.get(&op) {
            // What the kernel refused before anything was begun.
            None => !returned.success || self.own.contains(&op) || self.reports.contains(&hash),
            // Whether it was posted is asked where the inbox is known.
            Some(errand) if errand.tool == SEND => true,
            Some(errand) if errand.results.contains(&hash) => true,
            Some(errand) => {
                errand.begun > 0 && !returned.success && result.is_some_and(|it| is_given_up(&it))
            }
        };
        if !fits {
            let what = format!("{op} returned what its tool did not give");
            broken.push((Promise::Outcome, what));
        }
    }

    /// A model call leaves: for which operation, if one was intended.
    pub(super) fn ask(&mut self) -> Option<Op> {
        let (op, call) = self.calls.iter_mut().next_back()?;
        if call.begun >= call.requested {
            return None;
        }
        call.begun += 1;
        Some(*op)
    }

    /// What a model call came to, at those prices.
    pub(super) fn answered(&mut self, op: Op, prices: Prices, answer: Result<Reply, CallError>) {
        if let Some(call) = self.calls.get_mut(&op) {
            call.answers.push((prices, answer));
        }
    }

    /// A tool is about to run under that operation; how often it has been by then.
    pub(super) fn run(&mut self, op: Option<Op>, tool: &str, broken: &mut Broken) -> u32 {
        let errand = op.and_then(|op| self.tools.get_mut(&op));
        let Some(errand) = errand.filter(|errand| errand.tool == tool) else {
            broken.push((Promise::Intent, format!("{tool} runs without a durable intent")));
            return 1;
        };
        errand.begun += 1;
        let (begun, requested) = (errand.begun, errand.requested);
        if begun > requested {
            let what = format!("{tool} runs {begun} times on {requested} durable intents");
            broken.push((Promise::Intent, what));
        }
        begun
    }

    /// What a tool came to.
    pub(super) fn ran(&mut self, op: Option<Op>, result: &ToolResult) {
        let errand = op.and_then(|op| self.tools.get_mut(&op));
        if let (Some(errand), Ok(bytes)) = (errand, serde_json::to_vec(result)) {
            errand.results.push(self.key.hash(&bytes));
        }
    }

    /// How many tool calls were intended, the kernel's own left out.
    pub(super) fn errands(&self) -> usize {
        self.tools.values().filter(|errand| errand.tool != SEND).count()
    }

    /// Whether the call was to send a message.
    pub(super) fn is_send(&self, op: Op) -> bool {
        self.tools.get(&op).is_some_and(|errand| errand.tool == SEND)
    }
}

/// What a failed call is to be charged: what its endpoint said that it used, else nothing where that
/// was not reached or found the prompt too long, else all that was reserved.
fn cost_of(error: &CallError, prices: &Prices, reserved: MicroDollars) -> MicroDollars {
    match (error.usage, error.kind, error.code) {
        (_, FailureKind::ContextLength, _) | (None, _, Code::LlmUnreachable) => MicroDollars::ZERO,
        (Some(usage), ..) => prices.cost(&usage),
        (None, ..) => reserved,
    }
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.plus_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

impl Errand {
    const fn is(&self) -> (&String, Effect) {
        (&self.tool, self.effect)
    }
}

/// Whether the journal has a reply as the endpoint gave it. What the kernel may change is the id of
/// a call that has none and, in names, what an event cannot hold.
fn is_reply(said: &Reply, kept: &LlmReturned, key: &ContentKey) -> bool {
    let same = |bytes: &[u8], content: &ContentRef| key.hash(bytes) == content.hash;
    let name = |text: &str| text.replace('\0', "\u{fffd}");
    let part = |(said, kept): (&Part, &ReplyPart)| match (said, kept) {
        (Part::Text(text), ReplyPart::Text { content }) => same(text.as_bytes(), content),
        (Part::Opaque { format, bytes }, ReplyPart::Opaque { format: kept, content }) => {
            **format == **kept && same(bytes, content)
        }
        (
            Part::ToolCall { id, name: tool, arguments },
            ReplyPart::ToolCall { id: kept_id, name: kept_tool, arguments: kept_arguments },
        ) => {
            (id.is_empty() || **id == **kept_id)
                && name(tool) == *kept_tool
                && same(arguments.as_bytes(), kept_arguments)
        }
        _ => false,
    };
    (said.stop, said.usage, said.parts.len()) == (kept.stop, kept.usage, kept.parts.len())
        && said.model == kept.model
        && said.parts.iter().zip(&kept.parts).all(part)
}

/// Whether a result is one that the kernel gives for a tool that gave none.
fn is_given_up(result: &ToolResult) -> bool {
    result.error.as_ref().is_some_and(|error| GIVEN_UP.contains(&error.code.as_str()))
}
