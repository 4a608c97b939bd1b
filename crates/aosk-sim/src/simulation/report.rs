//! What a simulation found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aosk_abi::{Hash, Pid};

use super::scenario::Scenario;
use crate::promise::Promise;

/// What a simulation found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed; the same seed and scenario give the same report.
    pub seed: u64,
    /// How many lives the machine had.
    pub lives: u32,
    /// How often each life touched the world before it ended.
    pub touches: Vec<u64>,
    /// The virtual time of all lives.
    pub elapsed: Duration,
    /// How lives ended, and how often.
    pub endings: BTreeMap<String, u32>,
    /// How processes ended (the error's code for those that failed), and how often.
    pub exits: BTreeMap<String, u32>,
    /// How many events of each kind are in the journals.
    pub events: BTreeMap<&'static str, u64>,
    /// How often what has no kind of event of its own happened: an eviction, a change of the model,
    /// a wait for a person's look.
    pub turns: BTreeMap<&'static str, u64>,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// What happened, in order.
    pub trace: Vec<Line>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The newest machine when it was found.
    pub machine: u32,
    /// Whose; `None` where it is the machine's.
    pub pid: Option<Pid>,
    /// Which.
    pub promise: Promise,
    /// How.
    pub what: String,
}

/// A line of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which machine, by number; two run at once where one was usurped.
    pub machine: u32,
    /// The virtual time since the first life began.
    pub at: Duration,
    /// Whose; `None` where it is the machine's.
    pub pid: Option<Pid>,
    /// What happened.
    pub what: String,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// The hash of the whole trace, byte for byte.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let lines: Vec<_> = self.trace.iter().map(|line| format!("{line:?}")).collect();
        Hash::of(lines.join("\n").as_bytes())
    }

    /// How many events the journals hold.
    #[must_use]
    pub fn total_events(&self) -> u64 {
        self.events.values().sum()
    }
}

/// What was simulated, as far as it decides what can happen.
pub(super) fn outline(scenario: &Scenario) -> String {
    let Scenario { agents, absent, max_steps, window, slots, .. } = scenario;
    let present = agents - absent.len();
    let ends = match &scenario.script {
        Some(cuts) => format!("cut at touches {cuts:?}"),
        None => format!("up to {} lives", scenario.lives),
    };
    format!("{present} agents, {max_steps} steps, window {window}, {slots} slots, {ends}")
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:3} {:10.3} s  ", self.machine, self.at.as_secs_f64())?;
        match self.pid {
            None => write!(f, "machine   "),
            Some(pid) => write!(f, "{}  ", &pid.to_string()[..8]),
        }?;
        f.write_str(&self.what)
    }
}

impl fmt::Display for Report {
    /// The outcome; where a promise was broken, also what happened to the machine, to the
    /// processes concerned, and to all of them on a machine that itself broke one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} lives, {:.0} s, {} events; lives ended {:?}, processes {:?}",
            self.seed,
            self.lives,
            self.elapsed.as_secs_f64(),
            self.total_events(),
            self.endings,
            self.exits
        )?;
        if self.is_clean() {
            return Ok(());
        }
        for Violation { machine, pid, promise, what } in &self.violations {
            let whose = pid.map_or_else(|| "machine".to_owned(), |pid| pid.to_string());
            writeln!(f, "BROKEN on machine {machine}: {promise}: {whose}: {what}")?;
        }
        let concerned = |line: &&Line| {
            line.pid.is_none()
                || self.violations.iter().any(|broken| match broken.pid {
                    None => broken.machine == line.machine,
                    whose => whose == line.pid,
                })
        };
        for line in self.trace.iter().filter(concerned) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}
