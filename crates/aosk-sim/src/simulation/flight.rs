//! The flight recorder of a simulated machine, which outlives it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aosk_abi::Pid;
use aosk_ports::FlightRecorder;

use crate::dice::{Chance, Dice};
use crate::power::Power;

/// Whom machines are executing, and whom they were when they died. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Flight(Arc<Mutex<Tape>>);

#[derive(Debug, Default)]
struct Tape {
    /// How often each process was entered and not left.
    inside: BTreeMap<Pid, u32>,
    suspects: Vec<Pid>,
}

impl Flight {
    /// A machine starts after every earlier one is dead: whom they were executing is suspect.
    pub(super) fn begin(&self) {
        let mut tape = self.tape();
        let inside = std::mem::take(&mut tape.inside).into_keys();
        let new: Vec<_> = inside.filter(|pid| !tape.suspects.contains(pid)).collect();
        tape.suspects.extend(new);
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a machine that writes it. Now and then the machine falls over in the middle of a
/// step, and nothing is written any more.
pub(super) struct Recorder {
    pub(super) flight: Flight,
    pub(super) power: Power,
    pub(super) fall: Chance,
    pub(super) dice: Mutex<Dice>,
}

impl FlightRecorder for Recorder {
    fn enter(&self, pid: Pid) {
        if !self.power.is_on() {
            return;
        }
        *self.flight.tape().inside.entry(pid).or_default() += 1;
        if self.dice.lock().unwrap_or_else(PoisonError::into_inner).hits(self.fall) {
            self.power.cut("in the middle of a step");
        }
    }

    fn leave(&self, pid: Pid) {
        let mut tape = self.flight.tape();
        if let Some(times) = tape.inside.get_mut(&pid).filter(|_| self.power.is_on()) {
            *times -= 1;
            if *times == 0 {
                tape.inside.remove(&pid);
            }
        }
    }

    fn suspects(&self) -> Vec<Pid> {
        self.flight.tape().suspects.clone()
    }

    fn clear(&self, suspect: Pid) {
        if self.power.is_on() {
            self.flight.tape().suspects.retain(|pid| *pid != suspect);
        }
    }
}
