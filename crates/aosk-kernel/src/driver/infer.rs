//! Model calls: plan, intent, one attempt, outcome; then again if it pays.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    BlockedOn, Content, FailureKind, LlmRequested, LlmReturned, Manifest, MicroDollars, Op, Pid,
    Planned, ReplyPart, Timestamp, ToolSpec, Usage, What,
};
use aosk_ports::{Delta, Demand, Part, Progress, RateLimits, Rendered, Reply, Request};

use super::failure::{Failed, stuck};
use super::turn::Turned;
use super::{Driver, Interruption, Wait};
use crate::dispatch::{Ear, Slot};
use crate::error::Error;
use crate::image::Pending;
use crate::kv_slots::KvSlot;
use crate::observe::{Notice, Observer};

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
    /// says afterwards. Answers how long and until when to sleep, where the wait for a quota is long
    /// and others want the place in memory.
    pub(super) async fn infer(&mut self, op: Op) -> Result<Option<(Duration, Timestamp)>, Error> {
        self.route(op).await?;
        if self.means.asked != self.process.image.model {
            let name = self.process.image.model.clone();
            let model = self.process.shared.model(&name).await?;
            self.ask(name, model);
        }
        self.process.shared.clone().leased().await?;
        let slot = match self.turn(op).await? {
            Turned::Go(slot) => slot,
            Turned::Rest => return Ok(None),
            Turned::Sleep(left, until) => return Ok(Some((left, until))),
        };
        self.note_warnings()?;
        self.note_tunings()?;
        // The turn may have come together with a signal.
        if self.hear()?.is_some() {
            slot.withdraw();
            return Ok(None);
        }
        self.attempt(op, slot).await.map(|()| None)
    }

    async fn attempt(&mut self, op: Op, slot: Slot) -> Result<(), Error> {
        let device = self.means.model.device.clone();
        let shared = self.process.shared.clone();
        // Held for as long as the call is in flight.
        let kv_slot = device
            .kv_slots()
            .and_then(|slots| shared.kv_slots.take(&device.info().name, slots, self.process.pid()));
        let call = match self.planned_call(op, kv_slot.as_ref().map(KvSlot::number)).await? {
            Ok(call) => call,
            Err(impossible) => {
                slot.withdraw();
                let restart = &self.means.manifest.restart;
                return self.process.end_failed(
                    impossible.code(),
                    &impossible.to_string(),
                    restart,
                );
            }
        };
        let prices = self.means.model.device.info().prices;
        let most =
            self.most(call.planned.prompt_tokens, call.request.max_output, call.planned.life);
        if !slot.covers(&most) {
            // The plan is kept, so the next turn is for what it takes.
            slot.withdraw();
            return Ok(());
        }
        let reserved = most.money;
        if let Some(on) = self.over_budget(reserved) {
            slot.withdraw();
            // What children leave over comes back when they end.
            return self.await_money(on).await;
        }
        let paid = shared.books.pay(&self.payer(), &device.info().name, reserved).await;
        let paid = match paid {
            Ok(Ok(paid)) => paid,
            // Others were faster; now the scheduler knows, and the next turn waits for it.
            Ok(Err(unpaid)) => {
                shared.budget.settle(reserved, MicroDollars::ZERO);
                slot.unpaid(unpaid.purse, unpaid.left);
                return Ok(());
            }
            Err(error) => {
                shared.budget.settle(reserved, MicroDollars::ZERO);
                slot.withdraw();
                return Err(error);
            }
        };
        let attempt = match self.intend_call(op, reserved).await {
            Ok(attempt) => attempt,
            Err(error) => {
                // Nothing was sent, so nothing is spent.
                shared.budget.settle(reserved, MicroDollars::ZERO);
                shared.books.settle(&paid, MicroDollars::ZERO);
                slot.withdraw();
                return Err(error);
            }
        };
        let clock = self.process.shared.parts.clock.clone();
        let started = clock.monotonic();
        let progress = Watching {
            observer: self.process.shared.parts.observer.clone(),
            pid: self.process.pid(),
            ear: slot.ear(),
        };
        let limit = call.rendered.timeout + OVERTIME;
        let answer = async {
            tokio::select! {
                biased;
                answer = device.call(&call.rendered, &call.request, &progress) => answer,
                () = clock.sleep(limit) => Err(stuck(&device.info().name, limit)),
            }
        };
        let answer = self.interruptible(answer, Wait::Flight).await?;
        self.cache.give_back(call.request.messages);
        let took = clock.monotonic().saturating_sub(started);
        match answer {
            Ok(Ok(reply)) => {
                let cost = reply.usage.map_or(reserved, |usage| prices.cost(&usage));
                shared.budget.settle(reserved, cost);
                shared.books.settle(&paid, cost);
                slot.settle(reply.usage.map(|usage| (usage, cost)));
                if let Some(usage) = reply.usage {
                    self.means.model.tokenizer.observe(call.planned.prompt_tokens, usage.input);
                }
                self.steps += 1;
                shared.dispatcher.well(&device.info().name)?;
                self.returned_reply(op, attempt, reply, cost, took)
            }
            Ok(Err(error)) => {
                let cost = self.cost_of(&error, reserved);
                shared.budget.settle(reserved, cost);
                shared.books.settle(&paid, cost);
                if error.kind == FailureKind::Transient {
                    shared.dispatcher.ill(&device.info().name)?;
                }
                // Before the slot goes to the next: that one would be throttled as well.
                let pause = self.pause(op, attempt, &error);
                match (error.kind, error.usage) {
                    (FailureKind::Throttled, Some(usage)) if usage == Usage::default() => {
                        slot.refused(pause);
                    }
                    (FailureKind::Throttled, usage) => {
                        self.process.shared.dispatcher.pause(&device.info().name, pause)?;
                        slot.settle(usage.map(|usage| (usage, cost)));
                    }
                    (_, usage) => slot.settle(usage.map(|usage| (usage, cost))),
                }
                let failed = Failed { op, attempt, error, cost, pause };
                self.failed_call(&failed, &call.planned).await
            }
            // The intent stays without an outcome: the call is made again when the process is
            // resumed, and what it may have cost stays spent.
            Err(Interruption::Stop) => Err(Error::Stopping),
            Err(Interruption::Rest) => Ok(()),
        }
    }

    /// Writes down that a call of this process took a budget past a share to warn of.
    fn note_warnings(&mut self) -> Result<(), Error> {
        let pid = self.process.pid();
        let warnings = self.process.shared.dispatcher.warnings_of(pid);
        warnings.into_iter().try_for_each(|it| self.process.emit(What::BudgetWarned(it)))
    }

    /// Writes down the setting that a call of this process is the first to go by.
    fn note_tunings(&mut self) -> Result<(), Error> {
        let pid = self.process.pid();
        let tunings = self.process.shared.dispatcher.tunings_of(pid);
        tunings.into_iter().try_for_each(|it| self.process.emit(What::Tuned(it)))
    }

    /// Writes the intent down; which attempt it is. The intent and its reservation are durable
    /// before the first byte leaves.
    async fn intend_call(&mut self, op: Op, reserved: MicroDollars) -> Result<u32, Error> {
        let attempt = 1 + match self.process.image.pending.get(&op) {
            Some(Pending::Infer { attempts, .. }) => *attempts,
            _ => 0,
        };
        let device = self.means.model.device.info().name.clone();
        self.process.emit(What::LlmRequested(LlmRequested { op, attempt, device, reserved }))?;
        self.process.commit().await?;
        // The commit may have waited for a server longer than the lease.
        self.process.shared.clone().leased().await?;
        Ok(attempt)
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

    fn returned_reply(
        &mut self,
        op: Op,
        attempt: u32,
        reply: Reply,
        cost: MicroDollars,
        took: Duration,
    ) -> Result<(), Error> {
        let used = self.used(&reply.parts);
        let mut contents = Vec::with_capacity(reply.parts.len() + 1);
        let mut parts = Vec::with_capacity(reply.parts.len());
        for (index, part) in reply.parts.iter().enumerate() {
            parts.extend(self.reply_part(op, index, part, &mut contents));
        }
        // A stream may cut a secret into deltas, where no search finds it: a reply whose parts held
        // one is kept without its wire form.
        let secrets = &self.process.shared.parts.secrets;
        let model = plain(&secrets.text(&reply.model));
        let holds_secret = secrets.finds(reply.model.as_bytes())
            || reply.parts.iter().any(|part| self.holds_secret(part));
        let raw = reply.raw.filter(|_| !holds_secret);
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
            model,
            raw,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            used,
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
            // Its provider signed it: with a secret taken out it would be refused in every later
            // call, and without it the reply still stands.
            Part::Opaque { format, bytes } if secrets.finds(bytes) => {
                tracing::warn!(%op, %format, "left out of a reply: the block holds a secret");
                None
            }
            Part::Opaque { format, bytes } => {
                Some(ReplyPart::Opaque { format: plain(format), content: seal(bytes.to_vec()) })
            }
            Part::ToolCall { id, name, arguments } => Some(ReplyPart::ToolCall {
                id: if id.is_empty() {
                    format!("call_{op}_{index}")
                } else {
                    plain(&secrets.text(id))
                },
                name: plain(&secrets.text(name)),
                arguments: seal(secrets.text(arguments).into_owned().into_bytes()),
            }),
            // The port promises that a reply holds none.
            Part::ToolResult { .. } => None,
        }
    }
}

/// What every call of an agent asks for.
pub(crate) fn demand_of<'a>(manifest: &'a Manifest, specs: &[ToolSpec]) -> Demand<'a> {
    Demand {
        sampling: &manifest.sampling,
        tool_calls: manifest.tool_calls,
        has_tools: !specs.is_empty(),
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
    ear: Ear,
}

impl Progress for Watching {
    fn delta(&self, delta: Delta) {
        self.observer.notice(self.pid, &Notice::Streaming(delta));
    }

    fn limits(&self, limits: &RateLimits) {
        self.ear.hear(limits);
    }
}
