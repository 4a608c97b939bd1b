//! Model calls: plan, intent, one attempt, outcome; then again if it pays.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aosk_abi::{
    Blocked, BlockedOn, Code, Content, FailureKind, LlmFailed, LlmRequested, LlmReturned,
    MicroDollars, Op, Pid, Planned, ReplyPart, What,
};
use aosk_ports::{CallError, Delta, Part, Progress, Rendered, Reply, Request};

use super::{Driver, Interruption};
use crate::dispatch::Slot;
use crate::error::Error;
use crate::image::Pending;
use crate::observe::{Notice, Observer};
use crate::options::Retry;

/// The longest tool name that is journaled as the model wrote it, in characters. Real names have
/// at most 64; what is longer is a malformed call and its beginning is enough to say so.
const NAME_SHOWN: usize = 128;

/// How long a device may exceed the time that it set itself before the kernel gives its call up.
const OVERTIME: Duration = Duration::from_secs(10);

/// A planned call: what will be sent, and the plan that says so.
pub(super) struct Call {
    pub(super) planned: Planned,
    pub(super) request: Request,
    pub(super) rendered: Rendered,
}

impl Driver {
    /// Makes one attempt of the model call `op`. Whether another is to be made is what the image
    /// says afterwards.
    pub(super) async fn infer(&mut self, op: Op) -> Result<(), Error> {
        if self.means.asked != self.process.image.model {
            let name = self.process.image.model.clone();
            self.means.model = self.process.shared.model(&name).await?;
            self.means.asked = name;
        }
        match self.turn().await? {
            Some(slot) => self.attempt(op, slot).await,
            None => Ok(()),
        }
    }

    /// A slot of the device; `None` where the process was killed while it waited.
    async fn turn(&mut self) -> Result<Option<Slot>, Error> {
        let device = self.means.model.device.info().name.clone();
        let estimate = self.process.image.pages.tokens().0 + self.max_output().0;
        let mut turn =
            self.process.shared.dispatcher.queue(self.process.pid(), &device, estimate)?;
        if let Poll::Ready(slot) = futures::poll!(&mut turn) {
            return slot.map(Some);
        }
        // What was made so far becomes durable while the process waits for its turn.
        self.process.commit().await?;
        let waiting = Notice::Waiting(BlockedOn::Slot { device });
        self.process.shared.parts.observer.notice(self.process.pid(), &waiting);
        match self.interruptible(turn, Duration::ZERO).await? {
            Ok(slot) => slot.map(Some),
            Err(Interruption::Stop) => Err(Error::Stopping),
            Err(Interruption::Killed) => Ok(None),
        }
    }

    async fn attempt(&mut self, op: Op, slot: Slot) -> Result<(), Error> {
        let call = match self.planned_call(op).await? {
            Ok(call) => call,
            Err(impossible) => {
                let restart = &self.means.manifest.restart;
                return self.process.end_failed(
                    impossible.code(),
                    &impossible.to_string(),
                    restart,
                );
            }
        };
        let prices = self.means.model.device.info().prices;
        let reserved =
            prices.ceiling(self.padded(call.planned.prompt_tokens), call.request.max_output);
        if let Some(on) = self.over_budget(reserved) {
            return self.process.emit(What::Blocked(Blocked { on }));
        }
        let attempt = 1 + match self.process.image.pending.get(&op) {
            Some(Pending::Infer { attempts, .. }) => *attempts,
            _ => 0,
        };
        let device = self.means.model.device.clone();
        let name = device.info().name.clone();
        self.process.emit(What::LlmRequested(LlmRequested {
            op,
            attempt,
            device: name,
            reserved,
        }))?;
        // The intent and its reservation are durable before the first byte leaves.
        self.process.commit().await?;

        let clock = self.process.shared.parts.clock.clone();
        let started = clock.monotonic();
        let progress = Watching {
            observer: self.process.shared.parts.observer.clone(),
            pid: self.process.pid(),
        };
        let limit = call.rendered.timeout + OVERTIME;
        let answer = async {
            tokio::select! {
                biased;
                answer = device.call(&call.rendered, &call.request, &progress) => answer,
                () = clock.sleep(limit) => Err(stuck(&device.info().name, limit)),
            }
        };
        let grace = self.process.shared.options.grace;
        let answer = self.interruptible(answer, grace).await?;
        let took = clock.monotonic().saturating_sub(started);
        match answer {
            Ok(Ok(reply)) => {
                let cost = reply.usage.map_or(reserved, |usage| prices.cost(&usage));
                self.process.shared.budget.settle(reserved, cost);
                slot.settle(reply.usage.map(|usage| usage.input.0 + usage.output.0));
                if let Some(usage) = reply.usage {
                    self.means.model.tokenizer.observe(call.planned.prompt_tokens, usage.input);
                }
                self.steps += 1;
                self.returned_reply(op, attempt, reply, cost, took)
            }
            Ok(Err(error)) => {
                let cost = self.cost_of(&error, reserved);
                self.process.shared.budget.settle(reserved, cost);
                slot.settle(error.usage.map(|usage| usage.input.0 + usage.output.0));
                self.failed_call(op, attempt, &error, cost, &call.planned)
            }
            // The intent stays without an outcome: the call is made again when the process is
            // resumed, and what it may have cost stays spent.
            Err(Interruption::Stop) => Err(Error::Stopping),
            Err(Interruption::Killed) => Ok(()),
        }
    }

    /// The model to ask after this one failed for good: the next on the list of the one that the
    /// process was spawned with.
    fn alternative(&self, error: &CallError) -> Option<String> {
        let image = &self.process.image;
        let list = self.process.shared.parts.alternatives.get(&image.spawned.model)?;
        let at = list.iter().position(|name| *name == image.model).map_or(0, |at| at + 1);
        list.get(at).filter(|_| is_of_the_model(error)).cloned()
    }

    /// Takes `reserved` out of the run's budget, or says what the process has to wait for.
    fn over_budget(&self, reserved: MicroDollars) -> Option<BlockedOn> {
        let (account, shared) = (&self.process.image.account, &self.process.shared);
        if let Some(limit) = account.exceeds(reserved, shared.options.process_limit) {
            return Some(BlockedOn::Quota { limit, spent: account.spent(), needed: reserved });
        }
        let exhausted = shared.budget.reserve(reserved).err()?;
        let (limit, spent) = (exhausted.limit, exhausted.spent);
        Some(BlockedOn::Quota { limit, spent, needed: reserved })
    }

    /// What a failed call is charged: what the endpoint said, else nothing where it refused, else
    /// all that was reserved, because a call that broke off may have been billed.
    fn cost_of(&self, error: &CallError, reserved: MicroDollars) -> MicroDollars {
        match (error.usage, error.kind, error.code) {
            // What a refused prompt would have used tells its size, not its price.
            (_, FailureKind::ContextLength, _) => MicroDollars::ZERO,
            (Some(usage), ..) => self.means.model.device.info().prices.cost(&usage),
            (None, FailureKind::Transient, code) if code != Code::LlmUnreachable => reserved,
            (None, ..) => MicroDollars::ZERO,
        }
    }

    fn returned_reply(
        &mut self,
        op: Op,
        attempt: u32,
        reply: Reply,
        cost: MicroDollars,
        took: Duration,
    ) -> Result<(), Error> {
        let mut contents = Vec::with_capacity(reply.parts.len() + 1);
        let mut parts = Vec::with_capacity(reply.parts.len());
        for (index, part) in reply.parts.iter().enumerate() {
            parts.extend(self.reply_part(op, index, part, &mut contents));
        }
        // A stream may cut a secret into deltas, where no search finds it: a reply whose parts held
        // one is kept without its wire form.
        let raw = reply.raw.filter(|_| !reply.parts.iter().any(|part| self.holds_secret(part)));
        let raw = raw.map(|raw| {
            let clean = self.process.shared.parts.secrets.bytes(&raw).into_owned();
            let content = self.process.contents.seal_aside(clean);
            let reference = content.reference();
            contents.push(content);
            reference
        });
        let returned = LlmReturned {
            op,
            attempt,
            parts,
            stop: reply.stop,
            usage: reply.usage,
            cost,
            model: plain(&reply.model),
            raw,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        self.process.emit_with(What::LlmReturned(returned), contents)
    }

    fn holds_secret(&self, part: &Part) -> bool {
        let secrets = &self.process.shared.parts.secrets;
        match part {
            Part::Text(text) => secrets.finds(text.as_bytes()),
            Part::Opaque { bytes, .. } => secrets.finds(bytes),
            Part::ToolCall { id, name, arguments } => {
                [id, name, arguments].iter().any(|text| secrets.finds(text.as_bytes()))
            }
            Part::ToolResult { .. } => false,
        }
    }

    fn reply_part(
        &mut self,
        op: Op,
        index: usize,
        part: &Part,
        contents: &mut Vec<Content>,
    ) -> Option<ReplyPart> {
        let mut seal = |bytes: Vec<u8>| {
            let content = self.process.contents.seal(bytes);
            let reference = content.reference();
            contents.push(content);
            reference
        };
        let secrets = &self.process.shared.parts.secrets;
        match part {
            Part::Text(text) => Some(ReplyPart::Text {
                content: seal(secrets.text(text).into_owned().into_bytes()),
            }),
            Part::Opaque { format, bytes } => Some(ReplyPart::Opaque {
                format: plain(format),
                content: seal(secrets.bytes(bytes).into_owned()),
            }),
            Part::ToolCall { id, name, arguments } => Some(ReplyPart::ToolCall {
                id: if id.is_empty() { format!("call_{op}_{index}") } else { plain(id) },
                name: plain(&secrets.text(name)),
                arguments: seal(secrets.text(arguments).into_owned().into_bytes()),
            }),
            // The port promises that a reply holds none.
            Part::ToolResult { .. } => None,
        }
    }

    fn failed_call(
        &mut self,
        op: Op,
        attempt: u32,
        error: &CallError,
        cost: MicroDollars,
        planned: &Planned,
    ) -> Result<(), Error> {
        let retry = self.process.shared.options.retry;
        let now = self.process.shared.parts.clock.now();
        let (overflows, elsewhere) = match self.process.image.pending.get(&op) {
            Some(Pending::Infer { overflows, elsewhere, .. }) => (*overflows, *elsewhere),
            _ => (0, 0),
        };
        let next = self.alternative(error);
        let attempts =
            if next.is_some() { retry.attempts.min(Retry::EARLY) } else { retry.attempts };
        let made = attempt.saturating_sub(elsewhere);
        let wait = match error.kind {
            FailureKind::Throttled | FailureKind::Transient if made < attempts => {
                let mut jitter = [0; 2];
                self.process.shared.parts.random.fill(&mut jitter);
                let backoff = retry.wait(made + 1, u16::from_le_bytes(jitter));
                Some(error.retry_after.unwrap_or(backoff))
            }
            FailureKind::ContextLength if overflows == 0 => {
                self.recalibrate(error, planned);
                Some(Duration::ZERO)
            }
            _ => None,
        };
        if let (FailureKind::Throttled, Some(wait)) = (error.kind, wait) {
            let device = &self.means.model.device.info().name;
            self.process.shared.dispatcher.pause(device, wait)?;
        }
        // Another model is asked at once.
        let next = next.filter(|_| wait.is_none());
        let wait = wait.or(next.is_some().then_some(Duration::ZERO));
        let attempts = match error.kind {
            FailureKind::Throttled | FailureKind::Transient if wait.is_none() || next.is_some() => {
                format!(" (given up after {made} attempts)")
            }
            _ => String::new(),
        };
        let message =
            format!("{}{attempts}", self.process.shared.parts.secrets.text(&error.message));
        let message = self.process.contents.seal_aside(message.into_bytes());
        let failed = LlmFailed {
            op,
            attempt,
            failure: error.kind,
            code: error.code.as_str().to_owned(),
            message: message.reference(),
            next,
            retry_at: wait
                .map(|wait| now.plus_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))),
            cost,
        };
        self.process.emit_with(What::LlmFailed(failed), [message])
    }
}

/// Whether the failure says something of the model or its provider, and not of the request: then
/// another one may do.
const fn is_of_the_model(error: &CallError) -> bool {
    !matches!(error.kind, FailureKind::ContextLength)
        && !matches!(error.code, Code::LlmBadRequest | Code::LlmContextLength)
}

/// The failure of a call that never came back.
fn stuck(device: &str, limit: Duration) -> CallError {
    CallError {
        kind: FailureKind::Transient,
        code: Code::LlmTransient,
        message: format!(
            "{device} did not come back within {} s, which is longer than it allows itself; its \
             driver is at fault",
            limit.as_secs()
        ),
        retry_after: None,
        usage: None,
    }
}

/// A name from outside as an event body can carry it.
fn plain(text: &str) -> String {
    text.chars().take(NAME_SHOWN).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

/// Passes a reply's progress on to the observer.
struct Watching {
    observer: Arc<dyn Observer>,
    pid: Pid,
}

impl Progress for Watching {
    fn delta(&self, delta: Delta) {
        self.observer.notice(self.pid, &Notice::Streaming(delta));
    }
}
