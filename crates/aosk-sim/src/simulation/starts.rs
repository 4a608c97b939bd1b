//! Starts: how often a process began, how often it fell over, and how far it may go each time.

use aosk_abi::{BlockedOn, Event, Exited, Manifest, Restarted, Signal, Step, What};

use super::book::Broken;
use crate::promise::Promise;

/// From so many crashes in a row on a process waits for a person.
const CRASHES: u64 = 2;

/// How often a process began.
#[derive(Debug)]
pub(super) struct Starts {
    /// What the agent was spawned with.
    terms: Manifest,
    /// The step after which the program last began; its limit counts from there.
    began_at: Step,
    restarts: u64,
    /// How often in a row the kernel fell over while it executed the process, as far as is certain.
    crashes: u64,
    /// Whether the event before was the last crash that the process may have in a row.
    owes_review: bool,
}

impl Starts {
    pub(super) const fn new(terms: Manifest) -> Self {
        Self { terms, began_at: Step(0), restarts: 0, crashes: 0, owes_review: false }
    }

    /// Takes an event in, after which the process stands at that step; `begins` says that with it
    /// the program begins again.
    pub(super) fn hear(&mut self, event: &Event, step: Step, begins: bool, broken: &mut Broken) {
        if begins {
            self.began_at = step;
        }
        let (steps, limit) = (step.0 - self.began_at.0, self.terms.max_steps);
        if steps > limit {
            broken.push((Promise::Steps, format!("{steps} steps of {limit}")));
        }
        self.restart(event, broken);
        self.crash(&event.what, broken);
    }

    fn restart(&mut self, event: &Event, broken: &mut Broken) {
        let (exit, number, wait) = match &event.what {
            What::Exited(Exited { exit, .. }) => (exit, None, None),
            What::Restarted(Restarted { exit, number, until, .. }) => {
                (exit, Some(*number), Some(until.millis_since(event.at)))
            }
            _ => return,
        };
        let due = self.terms.restart.wait_ms(exit, self.restarts);
        if due != wait || number.is_some_and(|number| number != self.restarts + 1) {
            let (name, restarts) = (exit.name(), self.restarts);
            let what = format!("{name} after {restarts} restarts: waits {wait:?} ms, not {due:?}");
            broken.push((Promise::Restarts, what));
        }
        self.restarts += u64::from(number.is_some());
    }

    fn crash(&mut self, what: &What, broken: &mut Broken) {
        let reviewed =
            matches!(what, What::Blocked(it) if matches!(it.on, BlockedOn::Review { .. }));
        if self.owes_review && !reviewed {
            let crashes = self.crashes;
            let what = format!("goes on after {crashes} crashes in a row");
            broken.push((Promise::Reviewed, what));
        }
        match what {
            What::Crashed(_) => self.crashes += 1,
            What::LlmReturned(_) | What::Unblocked(_) => self.crashes = 0,
            What::SignalReceived(received) if received.signal == Signal::Cont => self.crashes = 0,
            _ => {}
        }
        self.owes_review = matches!(what, What::Crashed(_)) && self.crashes >= CRASHES;
    }
}
