//! Model calls that failed: what they cost, and who is asked next, and when.

use std::time::Duration;

use aosk_abi::{Code, FailureKind, LlmFailed, MicroDollars, Op, Planned, What};
use aosk_ports::CallError;

use super::{Driver, demand_of};
use crate::error::Error;
use crate::image::Pending;
use crate::options::{Model, Retry};

/// An attempt that failed.
pub(super) struct Failed {
    pub(super) op: Op,
    pub(super) attempt: u32,
    pub(super) error: CallError,
    pub(super) cost: MicroDollars,
    /// How long to wait before the same model is asked again, if it is.
    pub(super) pause: Duration,
}

impl Driver {
    /// What a failed call is charged: what the endpoint said, else nothing where it was not reached,
    /// else all that was reserved, because a call that broke off may have been billed, however its
    /// end is called. Where surely nothing was, the device says that nothing was used.
    pub(super) fn cost_of(&self, error: &CallError, reserved: MicroDollars) -> MicroDollars {
        match (error.usage, error.kind, error.code) {
            // What a refused prompt would have used tells its size, not its price.
            (_, FailureKind::ContextLength, _) => MicroDollars::ZERO,
            (Some(usage), ..) => self.means.model.device.info().prices.cost(&usage),
            (None, _, Code::LlmUnreachable) => MicroDollars::ZERO,
            (None, ..) => reserved,
        }
    }

    /// Those that may be asked after this model failed for good: the other pools of its alias, unless
    /// the call comes from one of them, and what stands behind it on the list of the one that the
    /// process was spawned with.
    fn alternatives(&self, op: Op, error: &CallError) -> Vec<String> {
        if !is_of_the_model(error) {
            return Vec::new();
        }
        let (image, parts) = (&self.process.image, &self.process.shared.parts);
        let (first, current) = (&image.spawned.model, &image.model);
        let has_moved =
            matches!(image.pending.get(&op), Some(Pending::Infer { elsewhere: 1.., .. }));
        let pools = parts.spreads.get(first).map(Vec::as_slice).unwrap_or_default();
        let is_pool = pools.iter().any(|(name, _)| name == current);
        let others = pools.iter().map(|(name, _)| name).filter(|name| *name != current);
        let others = others.filter(|_| is_pool && !has_moved);
        let list = parts.alternatives.get(first).map(Vec::as_slice).unwrap_or_default();
        let at = list.iter().position(|name| name == current).map_or(0, |at| at + 1);
        others.chain(&list[at..]).cloned().collect()
    }

    /// The first of those models that can be asked. It is connected before anything is written
    /// down: a process that is bound to a model which cannot be asked would never go on.
    async fn first_fit(&mut self, names: Vec<String>) -> Option<String> {
        for name in names {
            let unfit = match self.process.shared.model(&name).await {
                Ok(Model { device, .. }) => {
                    let demand = demand_of(&self.means.manifest, &self.means.specs);
                    match device.accepts(&demand) {
                        Ok(()) => return Some(name),
                        Err(refused) => refused.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            let pid = self.process.pid();
            tracing::warn!(%pid, model = name, "cannot be asked instead: {unfit}");
        }
        None
    }

    /// How long to wait before the endpoint is asked again, if it is.
    pub(super) fn pause(&self, op: Op, attempt: u32, error: &CallError) -> Duration {
        let shared = &self.process.shared;
        if !matches!(error.kind, FailureKind::Throttled | FailureKind::Transient) {
            return Duration::ZERO;
        }
        let mut jitter = [0; 2];
        shared.parts.random.fill(&mut jitter);
        let next = self.made(op, attempt) + 1;
        let backoff = shared.options.retry.wait(next, u16::from_le_bytes(jitter));
        error.retry_after.map_or(backoff, Retry::believed)
    }

    /// How many attempts were made at the present model.
    fn made(&self, op: Op, attempt: u32) -> u32 {
        match self.process.image.pending.get(&op) {
            Some(Pending::Infer { elsewhere, .. }) => attempt.saturating_sub(*elsewhere),
            _ => attempt,
        }
    }

    /// Writes the failure down, and what follows from it: another attempt after a pause, another
    /// model, or the end of the call.
    pub(super) async fn failed_call(
        &mut self,
        failed: &Failed,
        planned: &Planned,
    ) -> Result<(), Error> {
        let Failed { op, attempt, ref error, cost, pause } = *failed;
        let retry = self.process.shared.options.retry;
        let overflows = match self.process.image.pending.get(&op) {
            Some(Pending::Infer { overflows, .. }) => *overflows,
            _ => 0,
        };
        let made = self.made(op, attempt);
        let passes = matches!(error.kind, FailureKind::Throttled | FailureKind::Transient);
        // Whoever has too much to do will have less: to wait for it is no failure, and no process
        // hears of it.
        let waits = error.kind == FailureKind::Throttled;
        let others = self.alternatives(op, error);
        let early = if others.is_empty() { retry.attempts } else { Retry::EARLY };
        let mut wait = match error.kind {
            FailureKind::ContextLength if overflows == 0 => {
                self.recalibrate(error, planned);
                Some(Duration::ZERO)
            }
            FailureKind::Throttled if others.is_empty() => Some(pause),
            _ => (passes && made < early.min(retry.attempts)).then_some(pause),
        };
        let mut next = None;
        if wait.is_none() {
            next = self.first_fit(others).await;
            // Another model is asked at once; where there is none, this one has all its attempts.
            wait = match next {
                Some(_) => Some(Duration::ZERO),
                None => (waits || passes && made < retry.attempts).then_some(pause),
            };
        }
        let given_up = passes && (wait.is_none() || next.is_some());
        let attempts =
            if given_up { format!(" (given up after {made} attempts)") } else { String::new() };
        let message =
            format!("{}{attempts}", self.process.shared.parts.secrets.text(&error.message));
        let message = self.process.contents.seal_aside(message.into_bytes());
        let now = self.process.shared.parts.clock.now();
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
pub(super) fn stuck(device: &str, limit: Duration) -> CallError {
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
