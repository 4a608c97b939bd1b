//! Shrinking: the same failure in a smaller world.
//!
//! A seed that fails at the twentieth life of six agents tells nobody why. Because every part of
//! the world has dice of its own, most of it can be taken away without a change in the rest; what
//! can go while the same promise breaks goes. The search is greedy and draws nothing, so the seed
//! alone leads to the same small world again.

use std::fmt;

use super::report::{Report, outline};
use super::scenario::Scenario;
use super::simulate;
use crate::promise::Promise;

/// The most simulations that a search makes; each ends at the failure, so this is seconds.
const MOST: u32 = 400;

/// A failing simulation in the smallest world that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The world.
    pub scenario: Scenario,
    /// What happened in it.
    pub report: Report,
    /// How many simulations the search made.
    pub tries: u32,
}

/// Makes the world of a failing simulation smaller; `None` where the seed fails in nothing.
#[must_use]
pub fn shrink(seed: u64, scenario: &Scenario) -> Option<Shrunk> {
    let report = simulate(seed, scenario);
    let promise = report.violations.first()?.promise;
    let mut shrunk = Shrunk { scenario: scenario.clone(), report, tries: 1 };
    shrunk.accept(promise, |world, report| {
        // The same lives, cut where they ended, with nothing else that could end one.
        let last = report.touches.len().saturating_sub(1);
        world.script = Some(report.touches.iter().take(last).copied().collect());
    });
    while shrunk.round(promise) && shrunk.tries < MOST {}
    Some(shrunk)
}

impl Shrunk {
    /// Tries everything once; whether anything helped.
    fn round(&mut self, promise: Promise) -> bool {
        let before = self.scenario.clone();
        for agent in 0..self.scenario.agents {
            let present = self.scenario.agents - self.scenario.absent.len();
            if present > 1 && !self.scenario.absent.contains(&agent) {
                self.accept(promise, |world, _| {
                    world.absent.insert(agent);
                });
            }
        }
        for leave_out in self.scenario.knobs() {
            self.accept(promise, |world, _| leave_out(world));
        }
        while self.accept(promise, |world, _| world.max_steps = (world.max_steps / 2).max(1)) {}
        while self.accept(promise, |world, _| world.max_steps = (world.max_steps - 1).max(1)) {}
        self.lives(promise);
        self.scenario != before
    }

    /// Fewer lives, and each cut earlier.
    fn lives(&mut self, promise: Promise) {
        let Some(script) = self.scenario.script.clone() else {
            while self.accept(promise, |world, _| world.lives /= 2) {}
            while self.accept(promise, |world, _| world.lives = world.lives.saturating_sub(1)) {}
            return;
        };
        for life in (0..script.len()).rev() {
            self.accept(promise, |world, _| {
                if let Some(script) = &mut world.script {
                    script.remove(life);
                }
            });
        }
        let lives = self.scenario.script.as_ref().map_or(0, Vec::len);
        for life in 0..lives {
            let earlier = |by: fn(u64) -> u64| {
                move |world: &mut Scenario, _: &Report| {
                    let cut = world.script.as_mut().and_then(|script| script.get_mut(life));
                    if let Some(cut) = cut {
                        *cut = by(*cut).max(1);
                    }
                }
            };
            while self.accept(promise, earlier(|cut| cut / 2)) {}
            while self.accept(promise, earlier(|cut| cut - cut / 8)) {}
            while self.accept(promise, earlier(|cut| cut - 1)) {}
        }
    }

    /// Takes a smaller world if the same promise breaks in it; whether it does.
    fn accept(&mut self, promise: Promise, change: impl FnOnce(&mut Scenario, &Report)) -> bool {
        let mut scenario = self.scenario.clone();
        change(&mut scenario, &self.report);
        if scenario == self.scenario || self.tries >= MOST {
            return false;
        }
        self.tries += 1;
        let report = simulate(self.report.seed, &scenario);
        let same = report.violations.iter().any(|broken| broken.promise == promise);
        if same {
            (self.scenario, self.report) = (scenario, report);
        }
        same
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, tries) = (self.report.seed, self.tries);
        writeln!(f, "shrunk in {tries} simulations to {}", outline(&self.scenario))?;
        write!(f, "{}", self.report)?;
        write!(f, "to see it again: ./x sim --from {seed} --seeds 1")?;
        match self.scenario.flaw {
            Some(flaw) => writeln!(f, " --flaw {flaw}"),
            None => writeln!(f),
        }
    }
}
