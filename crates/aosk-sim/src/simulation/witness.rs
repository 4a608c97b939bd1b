//! The witness: what machines claimed and what was found, in the order in which it happened.
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

use super::auditor::Auditor;
use super::report::{Line, Violation};
use super::summary::summary;
use crate::flaw::Flaw;
use crate::power::Power;
use crate::promise::Promise;

/// What was seen in all lives. Clones are the same witness.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How many machines were switched on, and how many of them in this life.
    machines: u32,
    at_once: usize,
    /// The virtual time of the lives before this one, and when this one began.
    before: Duration,
    boot: Option<Instant>,
    /// What this life lives on.
    power: Power,
    pub(super) violations: Vec<Violation>,
    pub(super) trace: Vec<Line>,
}

impl Witness {
    /// A life begins, in its runtime.
    pub(super) fn begin(&self, power: &Power) {
        let mut seen = self.lock();
        seen.power = power.clone();
        seen.boot = Some(Instant::now());
        seen.at_once = 0;
    }

    /// A machine is switched on.
    pub(super) fn watch(&self, auditor: &Auditor, power: &Power, flaw: Option<Flaw>) -> Eye {
        let mut seen = self.lock();
        seen.machines += 1;
        seen.at_once += 1;
        let machine = seen.machines;
        seen.note(machine, None, "boots".to_owned());
        drop(seen);
        Eye {
            witness: self.clone(),
            auditor: auditor.clone(),
            power: power.clone(),
            flaw,
            machine,
            processes: Arc::default(),
        }
    }

    /// A life ends, in its runtime. The virtual time of all so far.
    pub(super) fn end(&self) -> Duration {
        let mut seen = self.lock();
        seen.before = seen.now();
        seen.boot = None;
        seen.before
    }

    /// The virtual time since the first life began.
    pub(super) fn now(&self) -> Duration {
        self.lock().now()
    }

    /// How many machines run in this life.
    pub(super) fn machines_at_once(&self) -> usize {
        self.lock().at_once
    }

    /// Something happened to the newest machine or to a process.
    pub(super) fn note(&self, pid: Option<Pid>, what: impl Into<String>) {
        let mut seen = self.lock();
        let machine = seen.machines;
        seen.note(machine, pid, what.into());
    }

    /// A promise was broken. The life ends there: what comes of it would only hide it.
    pub(super) fn accuse(&self, pid: Option<Pid>, promise: Promise, what: impl Into<String>) {
        let (mut seen, what) = (self.lock(), what.into());
        let machine = seen.machines;
        seen.note(machine, pid, format!("BROKEN: {promise}: {what}"));
        seen.violations.push(Violation { machine, pid, promise, what });
        seen.power.cut("a promise was broken");
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
}

/// The eye of the witness on one machine.
#[derive(Debug, Clone)]
pub(super) struct Eye {
    witness: Witness,
    auditor: Auditor,
    power: Power,
    flaw: Option<Flaw>,
    /// The number of the machine, from 1; two can run at once.
    pub(super) machine: u32,
    processes: Arc<Mutex<BTreeMap<Pid, Glimpse>>>,
}

/// What a machine says of a process.
#[derive(Debug, Default)]
struct Glimpse {
    /// What it made and did not report as durable yet, each with the stay in which it did.
    made: Vec<(Seq, u64, Event)>,
    /// Whether it said what the process waits for, and the process has done nothing since.
    waits: bool,
}

impl Eye {
    /// Whether the machine said what the process waits for.
    pub(super) fn says_why_it_waits(&self, pid: Pid) -> bool {
        self.processes().get(&pid).is_some_and(|glimpse| glimpse.waits)
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<Pid, Glimpse>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, pid: Pid, what: String) {
        self.witness.lock().note(self.machine, Some(pid), what);
    }

    fn happened(&self, pid: Pid, seq: Seq, event: &Event) {
        self.note(pid, format!("{seq:>4} {}", summary(event)));
        let stay = self.auditor.stay(pid);
        let mut processes = self.processes();
        let glimpse = processes.entry(pid).or_default();
        // What comes from outside ends no wait.
        glimpse.waits &= is_from_outside(&event.what);
        glimpse.made.push((seq, stay, event.clone()));
    }

    fn committed(&self, pid: Pid, last: Seq) {
        self.note(pid, format!("durable up to {last}"));
        let made: Vec<_> = {
            let mut processes = self.processes();
            let glimpse = processes.entry(pid).or_default();
            let newest = glimpse.made.iter().rposition(|(seq, ..)| *seq == last);
            let durable = newest.map_or(0, |newest| newest + 1);
            let mut made: Vec<_> = glimpse.made.drain(..durable).collect();
            // What was made before the process was read back and is still not acknowledged is lost,
            // and is not what is reported here.
            let stay = made.last().map(|(_, stay, _)| *stay);
            made.retain(|(_, made, _)| Some(*made) == stay);
            made.into_iter().map(|(seq, _, event)| (seq, event)).collect()
        };
        // A kernel that does not wait for its intents does not ask whether they are durable.
        if !matches!(self.flaw, Some(Flaw::EagerTool | Flaw::EagerCall)) {
            self.auditor.acknowledged(pid, last, &made);
        }
    }
}

impl Observer for Eye {
    fn notice(&self, pid: Pid, notice: &Notice<'_>) {
        // What a machine without power still does is seen by nobody.
        if !self.power.is_on() {
            return;
        }
        match notice {
            Notice::Happened { seq, event } => self.happened(pid, *seq, event),
            Notice::Committed { last, .. } => self.committed(pid, *last),
            Notice::Streaming(_) => {}
            Notice::Waiting(on) => {
                self.processes().entry(pid).or_default().waits = true;
                self.note(pid, format!("waits for {on:?}"));
            }
        }
    }
}

/// Whether somebody outside made it happen.
const fn is_from_outside(what: &What) -> bool {
    matches!(
        what,
        What::SignalReceived(_)
            | What::MessageReceived(_)
            | What::PriorityChanged(_)
            | What::SpendRaised(_)
            | What::QuotaChanged(_)
    )
}
