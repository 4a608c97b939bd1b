//! The witness: what a machine claimed, kept where it cannot take it back.
//!
//! It listens to the kernel's notices. An event that was reported as committed must be in the
//! journal for ever after; one that was only made may be lost in a crash, and another may then
//! stand in its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_abi::{Event, Pid, Seq, What};
use aosk_kernel::{Notice, Observer};
use tokio::time::Instant;

use super::report::{Line, Violation};

/// What was seen and claimed in all lives. Clones are the same witness.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness(Arc<Mutex<Seen>>);

/// The eye of the witness on one machine.
#[derive(Debug, Clone)]
pub(super) struct Eye {
    witness: Witness,
    /// The number of the machine, from 1; two can run at once.
    pub(super) machine: u32,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How many machines were switched on.
    pub(super) machines: u32,
    /// The virtual time of the lives before this one, and when this one began.
    before: Duration,
    boot: Option<Instant>,
    /// What a machine made and did not report as durable yet.
    made: BTreeMap<(u32, Pid, Seq), Event>,
    /// The last event of each process that was reported as durable.
    pub(super) acknowledged: BTreeMap<Pid, Seq>,
    /// The events that were reported as durable, as far as they were shown.
    pub(super) claims: BTreeMap<(Pid, Seq), Event>,
    /// The texts of messages that the store said it has.
    pub(super) posted: BTreeMap<Pid, Vec<String>>,
    pub(super) violations: Vec<Violation>,
    pub(super) trace: Vec<Line>,
}

impl Witness {
    /// A life begins, in its runtime.
    pub(super) fn begin(&self) {
        let mut seen = self.lock();
        seen.boot = Some(Instant::now());
        seen.made.clear();
    }

    /// A machine is switched on.
    pub(super) fn watch(&self) -> Eye {
        let mut seen = self.lock();
        seen.machines += 1;
        let machine = seen.machines;
        seen.note(machine, None, "boots".to_owned());
        drop(seen);
        Eye { witness: self.clone(), machine }
    }

    /// A life ends, in its runtime. The virtual time of all so far.
    pub(super) fn end(&self) -> Duration {
        let mut seen = self.lock();
        seen.before = seen.now();
        seen.boot = None;
        seen.before
    }

    /// Something happened to the newest machine or to a process.
    pub(super) fn note(&self, pid: Option<Pid>, what: impl Into<String>) {
        let mut seen = self.lock();
        let machine = seen.machines;
        seen.note(machine, pid, what.into());
    }

    /// A promise was broken.
    pub(super) fn accuse(&self, pid: Option<Pid>, what: impl Into<String>) {
        self.lock().accuse(pid, what.into());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn now(&self) -> Duration {
        self.before + self.boot.map_or(Duration::ZERO, |boot| boot.elapsed())
    }

    fn note(&mut self, machine: u32, pid: Option<Pid>, what: String) {
        self.trace.push(Line { machine, at: self.now(), pid, what });
    }

    fn accuse(&mut self, pid: Option<Pid>, what: String) {
        let machine = self.machines;
        self.note(machine, pid, format!("BROKEN: {what}"));
        self.violations.push(Violation { machine, pid, what });
    }

    /// A machine says that everything of a process up to `last` is durable.
    fn claim(&mut self, machine: u32, pid: Pid, last: Seq) {
        let claimed = (machine, pid, Seq(0))..=(machine, pid, last);
        let places: Vec<_> = self.made.range(claimed).map(|(place, _)| *place).collect();
        for place in places {
            let Some(event) = self.made.remove(&place) else {
                continue;
            };
            let seq = place.2;
            let before = self.claims.insert((pid, seq), event);
            if before.is_some_and(|before| self.claims.get(&(pid, seq)) != Some(&before)) {
                self.accuse(Some(pid), format!("event {seq} was durable and is made anew"));
            }
        }
        let known = self.acknowledged.entry(pid).or_insert(last);
        *known = (*known).max(last);
    }
}

impl Eye {
    /// A process is taken up again: what was made of it and not acknowledged is forgotten.
    pub(super) fn forget(&self, pid: Pid) {
        let mut seen = self.witness.lock();
        seen.made.retain(|(machine, whose, _), _| (*machine, *whose) != (self.machine, pid));
    }
}

impl Observer for Eye {
    fn notice(&self, pid: Pid, notice: &Notice<'_>) {
        let (mut seen, machine) = (self.witness.lock(), self.machine);
        match notice {
            Notice::Happened { seq, event } => {
                seen.note(machine, Some(pid), format!("{seq:>4} {}", summary(event)));
                seen.made.insert((machine, pid, *seq), (*event).clone());
            }
            Notice::Committed { last, .. } => {
                seen.note(machine, Some(pid), format!("durable up to {last}"));
                seen.claim(machine, pid, *last);
            }
            Notice::Streaming(_) => {}
            Notice::Waiting(on) => seen.note(machine, Some(pid), format!("waits for {on:?}")),
        }
    }
}

/// An event in a line.
fn summary(event: &Event) -> String {
    let detail = match &event.what {
        What::Planned(plan) => format!(
            "{} step {} generation {} bytes {} admits {} evicts {}",
            plan.op,
            plan.step,
            plan.generation,
            plan.prompt_len,
            plan.admitted.len(),
            plan.evicted.len()
        ),
        What::LlmRequested(asked) => {
            format!("{} attempt {} reserves {}", asked.op, asked.attempt, asked.reserved)
        }
        What::LlmReturned(reply) => {
            format!("{} {:?} parts {} cost {}", reply.op, reply.stop, reply.parts.len(), reply.cost)
        }
        What::LlmFailed(failed) => {
            format!(
                "{} {} again {:?} cost {}",
                failed.op, failed.code, failed.retry_at, failed.cost
            )
        }
        What::ToolRequested(asked) => {
            format!("{} {} {:?} attempt {}", asked.op, asked.tool, asked.effect, asked.attempt)
        }
        What::ToolReturned(result) => format!("{} success {}", result.op, result.success),
        What::Interrupted(call) => call.op.to_string(),
        What::Cancelled(call) => call.op.to_string(),
        What::Told(told) => told.op.to_string(),
        What::Exited(exited) => exited.exit.name().to_owned(),
        What::Blocked(blocked) => format!("{:?}", blocked.on),
        What::Recovered(recovered) => format!("from epoch {}", recovered.from),
        What::SpendRaised(raised) => raised.limit.to_string(),
        What::PriorityChanged(changed) => changed.priority.get().to_string(),
        What::Restarted(restarted) => {
            format!("number {} after {}", restarted.number, restarted.exit.name())
        }
        What::SignalReceived(received) => received.signal.name().to_owned(),
        What::Spawned(_) | What::Unblocked(_) | What::MessageReceived(_) => String::new(),
    };
    format!("{} {detail}", event.kind())
}
