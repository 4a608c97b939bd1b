//! What moves the settings of devices, where that is wanted, and who writes it down.
//!
//! A setting is chosen when a call ends and holds from then on. It is told in the journal of the
//! process whose call is the first to go by it, before that call leaves. Nothing is ever decided by
//! reading it again: a kernel that begins anew begins with each device as it was set up, and a journal
//! that is played again takes what it says.

use std::time::Duration;

use aosk_abi::{Pid, Tuned};
use aosk_scheduler::{Choice, Ended, Guess, PoolId, Tuner};

use super::{Dispatcher, Queue};

/// What moves the setting of a device.
pub(super) struct Tuning {
    tuner: Tuner,
    /// What was chosen and goes with the next call.
    chosen: Option<Choice>,
}

impl Tuning {
    pub(super) const fn new(tuner: Tuner) -> Self {
        Self { tuner, chosen: None }
    }

    /// By what the length of a reply is guessed.
    pub(super) fn guess(&self) -> Guess {
        self.tuner.knobs().guess
    }
}

impl Dispatcher {
    /// The settings that a process's calls were the first to go by and that stand in no journal yet.
    pub(crate) fn tunings_of(&self, pid: Pid) -> Vec<Tuned> {
        let mut queue = self.lock();
        let of = |it: &mut (Pid, Tuned)| it.0 == pid;
        queue.tuned.extract_if(.., of).map(|(_, tuned)| tuned).collect()
    }
}

impl Queue {
    /// A call on a device has ended.
    pub(super) fn sees(&mut self, pool: PoolId, call: &Ended) {
        let name = &self.names[pool.index()];
        let tuning = self.devices.get_mut(name).and_then(|device| device.tuning.as_mut());
        let Some(tuning) = tuning else { return };
        if let Some(choice) = tuning.tuner.see(call) {
            // The tuner has the pool's own ranges, so none is refused; one that was would not hold,
            // and is not told.
            let holds = self.scheduler.tune(pool, choice.knobs).is_ok();
            tuning.chosen = holds.then_some(choice);
        }
    }

    /// A call of the process goes to a device: what was chosen since the last one is told with it.
    pub(super) fn goes(&mut self, pid: Pid, pool: PoolId) {
        let name = &self.names[pool.index()];
        let tuning = self.devices.get_mut(name).and_then(|device| device.tuning.as_mut());
        if let Some(Choice { knobs, worth_milli, epochs }) = tuning.and_then(|it| it.chosen.take())
        {
            let tuned = Tuned {
                ahead_tokens: knobs.window.0,
                aging_ms: millis(knobs.aging),
                depth_percent: knobs.depth_percent,
                device: name.clone(),
                epochs,
                guess_percent: knobs.guess.percent(),
                worth_milli,
            };
            self.tuned.push((pid, tuned));
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
