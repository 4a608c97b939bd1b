//! Tool calls: intent, effect, outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Effect, Op, ToolCall, ToolRequested, ToolResult, ToolReturned, What};
use aosk_ports::{Tool, ToolContext};
use tokio::task::JoinSet;

use super::{Driver, Ended, Interruption, Wait};
use crate::error::Error;
use crate::flight::Flight;
use crate::image::Pending;

/// What a tool says that reaches the host through its process's sandbox and in no other way; how
/// that confines is the sandbox's to say.
const SANDBOXED: &str = "workspace";

/// A tool's arguments, read.
pub(super) type Arguments = serde_json::Map<String, serde_json::Value>;

/// A call that is about to run.
struct Ready {
    op: Op,
    tool: Arc<dyn Tool>,
    arguments: Arguments,
}

impl Driver {
    /// Brings every call of `ops` to its outcome. They run at once; outcomes are journaled in the
    /// order in which they come.
    /// Calls of the kernel's own that wait come last, one at a time; answers how the process leaves
    /// memory for one.
    pub(super) async fn run_tools(&mut self, ops: &[Op]) -> Result<Option<Ended>, Error> {
        self.process.shared.clone().leased().await?;
        let calls = self.pending_calls(ops);
        self.load_arguments(&calls).await?;
        // Before any intent: a search may be cut off, and what was intended then counts as begun.
        let (mut ready, mut waiting, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (op, call, attempts, effect) in calls {
            match self.own(&call) {
                Some(own) if own.waits() => waiting.push((own, op, call)),
                Some(own) => {
                    if self.hear()?.is_some()
                        || self.answer(own, op, &call, attempts + 1).await?.is_none()
                    {
                        return Ok(None);
                    }
                }
                None => others.push((op, call, attempts, effect)),
            }
        }
        for (op, call, attempts, effect) in others {
            match (attempts, effect) {
                (1.., Some(Effect::Unsafe)) => self.process.interrupt(op, &call)?,
                _ => match self.check(&call) {
                    Ok((tool, arguments)) => {
                        self.intend(op, &call, tool.as_ref(), attempts + 1)?;
                        ready.push(Ready { op, tool, arguments });
                    }
                    Err(refused) => self.returned(op, &refused, Duration::ZERO)?,
                },
            }
        }
        if !ready.is_empty() {
            // The intent is durable before the effect begins.
            self.process.commit().await?;
            // The commit may have waited for a server longer than the lease.
            self.process.shared.clone().leased().await?;
            self.run_at_once(ready).await?;
        }
        for (own, op, call) in waiting {
            if self.hear()?.is_some() {
                return Ok(None);
            }
            let ended = self.wait_in(own, op, &call).await?;
            // The next call that waits has its turn when this one is over.
            if ended.is_some() || self.waits_in(op).is_some() {
                return Ok(ended);
            }
        }
        Ok(None)
    }

    fn pending_calls(&self, ops: &[Op]) -> Vec<(Op, ToolCall, u32, Option<Effect>)> {
        ops.iter()
            .filter_map(|op| match self.process.image.pending.get(op) {
                Some(Pending::Tool { call, attempts, effect, .. }) => {
                    Some((*op, call.clone(), *attempts, *effect))
                }
                _ => None,
            })
            .collect()
    }

    async fn load_arguments(
        &mut self,
        calls: &[(Op, ToolCall, u32, Option<Effect>)],
    ) -> Result<(), Error> {
        let wanted: Vec<_> = calls
            .iter()
            .filter_map(|(op, call, ..)| match self.process.image.pending.get(op) {
                Some(Pending::Tool { unit, .. }) => Some((*unit, call.arguments)),
                _ => None,
            })
            .collect();
        let (tenant, pid) = (self.process.image.tenant.clone(), self.process.image.pid);
        let store = self.process.shared.parts.store.clone();
        self.process.contents.load(store.as_ref(), &tenant, pid, wanted.into_iter()).await?;
        Ok(())
    }

    /// The tool and its arguments, or what the model has to mend.
    fn check(&self, call: &ToolCall) -> Result<(Arc<dyn Tool>, Arguments), Box<ToolResult>> {
        let name = &call.name;
        let offered = self.means.specs.iter().any(|spec| spec.name == *name);
        let tool =
            self.process.shared.parts.tools.get(name).filter(|_| offered).ok_or_else(|| {
                let names: Vec<_> =
                    self.means.specs.iter().map(|spec| spec.name.as_str()).collect();
                ToolResult::failed(
                    "unknown_tool",
                    format!("there is no tool named {name:?}"),
                    if names.is_empty() {
                        "answer without calling a tool".to_owned()
                    } else {
                        format!("call one of: {}", names.join(", "))
                    },
                )
            })?;
        Ok((tool.clone(), self.arguments(call)?))
    }

    /// The call's arguments, or what the model has to mend.
    pub(super) fn arguments(&self, call: &ToolCall) -> Result<Arguments, Box<ToolResult>> {
        let name = &call.name;
        let text = self.process.contents.text(&call.arguments.hash).unwrap_or_default();
        // Endpoints send an empty string for a call without arguments.
        let text = if text.trim().is_empty() { "{}" } else { &*text };
        serde_json::from_str(text).map_err(|error| {
            Box::new(ToolResult::failed(
                "invalid_arguments",
                format!("the arguments of {name} are not a JSON object: {error}"),
                "call it again with one complete JSON object that matches its schema; if the \
                 arguments were cut off, make them shorter",
            ))
        })
    }

    fn intend(
        &mut self,
        op: Op,
        call: &ToolCall,
        tool: &dyn Tool,
        attempt: u32,
    ) -> Result<(), Error> {
        let isolation = match tool.isolation() {
            SANDBOXED => self.means.sandbox.isolation(),
            own => own,
        };
        self.process.emit(What::ToolRequested(ToolRequested {
            op,
            tool: call.name.clone(),
            effect: tool.spec().effect,
            attempt,
            isolation: isolation.to_owned(),
            to: None,
        }))
    }

    pub(super) fn returned(
        &mut self,
        op: Op,
        result: &ToolResult,
        took: Duration,
    ) -> Result<(), Error> {
        let bytes = result.encode();
        let bytes = self.process.shared.parts.secrets.bytes(&bytes).into_owned();
        let content = self.process.contents.seal(bytes);
        let returned = ToolReturned {
            op,
            success: result.success,
            result: content.reference(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        self.process.emit_with(What::ToolReturned(returned), [content])
    }

    async fn run_at_once(&mut self, ready: Vec<Ready>) -> Result<(), Error> {
        let mut running = JoinSet::new();
        let mut ops = HashMap::new();
        for Ready { op, tool, arguments } in ready {
            let context = self.tool_context(op);
            // The call counts as executed until it returns: a tool may work on threads of its own.
            let flight = Flight::enter(self.process.shared.parts.recorder.clone(), context.pid);
            let (clock, limit) =
                (self.process.shared.parts.clock.clone(), self.process.shared.options.tool_timeout);
            let started = clock.monotonic();
            let task = running.spawn(async move {
                let _flight = flight;
                let result = tokio::select! {
                    biased;
                    result = tool.call(context, arguments) => result,
                    () = clock.sleep(limit) => timed_out(limit),
                };
                (result, clock.monotonic().saturating_sub(started))
            });
            ops.insert(task.id(), op);
        }
        loop {
            let next = self.interruptible(running.join_next_with_id(), Wait::Flight).await?;
            let (id, result, took) = match next {
                Ok(None) => return Ok(()),
                Ok(Some(Ok((id, (result, took))))) => (id, result, took),
                Ok(Some(Err(error))) => (error.id(), panicked(), Duration::ZERO),
                // The tasks end with the set; their intents say what recovery has to do.
                Err(Interruption::Stop) => return Err(Error::Stopping),
                Err(Interruption::Rest) => return Ok(()),
            };
            if let Some(op) = ops.remove(&id) {
                self.returned(op, &result, took)?;
                self.process.flush();
            }
        }
    }

    fn tool_context(&self, op: Op) -> ToolContext {
        ToolContext {
            tenant: self.process.image.tenant.clone(),
            pid: self.process.pid(),
            idempotency_key: format!("{}-{op}", self.process.pid()),
            now: self.process.image.updated,
            sandbox: self.means.sandbox.clone(),
        }
    }
}

fn timed_out(limit: Duration) -> ToolResult {
    ToolResult::failed(
        "timeout",
        format!(
            "the tool did not return within {} s and was given up; it may still take effect",
            limit.as_secs()
        ),
        "find out what it did, and ask for less at once",
    )
}

fn panicked() -> ToolResult {
    ToolResult::failed(
        "tool_failed",
        "the tool failed inside itself; this is a fault of the tool, not of the arguments",
        "go on without it or try other arguments",
    )
}
