//! `tune`: searches the constants of the default policy on half of the runs and judges them on the
//! other half.
//!
//! From where it stands it tries random steps in up to three constants at once and keeps what is
//! better; after a hundred steps in vain it takes larger ones again. What is made less is the sum, over
//! the sets, of what `Part::miss` says of each. A point of recall or of the room's use is worth as
//! much as it is to hold the bars at the least J, not what an agent would pay for it.
//!
//! A set of few runs is given with several rooms: one need more or less of the dialogues moves their J
//! by 0.5 %, and constants that were searched at one room had the luck of that room.

use std::path::Path;

use aosk_context::{POLICIES, Policy, Weights};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::Serialize;

use super::optimum::optimum;
use super::replay::{Outcome, replay};
use super::trace::{self, Run};
use super::weights::{FIELDS, parse};
use super::{Budget, Market};
use crate::report::{Failure, result, say};

/// What to search on and for how long.
#[derive(clap::Args)]
pub struct Args {
    /// Runs and the room of their prompts, as in FILE@32000 or FILE@0.5x; several separated by
    /// commas.
    #[arg(long, value_delimiter = ',', required = true)]
    sets: Vec<String>,
    /// How many steps are tried.
    #[arg(long, default_value_t = 2_000)]
    tries: usize,
    /// Where the search begins, as `NAME=VALUE`, separated by commas; else at the constants in use.
    #[arg(long, value_delimiter = ',')]
    weights: Vec<String>,
    #[command(flatten)]
    common: crate::report::Common,
}

#[derive(Serialize)]
struct Row {
    /// 0 is searched on, 1 is judged.
    half: u8,
    score_before: f64,
    score: f64,
    weights: serde_json::Map<String, serde_json::Value>,
    sets: Vec<Set>,
}

#[derive(Serialize)]
struct Set {
    budget: String,
    j_over_best_other: f64,
    recall: f64,
    recall_gdsf: f64,
    util: f64,
}

/// Half of the runs of a set, and what other policies come to on it.
struct Part {
    budget: Budget,
    runs: Vec<Run>,
    optimum: f64,
    best: f64,
    gdsf: Shares,
}

/// Recall and use of the room in percent, and J over the optimum.
#[derive(Clone, Copy)]
struct Shares {
    j: f64,
    recall: f64,
    util: f64,
}

/// Searches, and prints a row for each half.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (mut search, mut judge) = (Vec::new(), Vec::new());
    for set in &args.sets {
        let (file, budget) =
            set.rsplit_once('@').ok_or_else(|| format!("{set:?} is no FILE@BUDGET"))?;
        let budget = budget.parse()?;
        let (one, other): (Vec<Run>, Vec<Run>) =
            trace::read(Path::new(file))?.into_iter().partition(|run| run.half() == 0);
        search.push(Part::of(one, budget)?);
        judge.push(Part::of(other, budget)?);
    }
    let begin = parse(&args.weights)?;
    let mut weights = begin;
    let before = score(&search, &weights)?.0;
    let mut least = before;
    let mut rng = ChaCha8Rng::seed_from_u64(args.common.seed);
    let (mut reach, mut vain) = (0.3, 0);
    for tried in 1..=args.tries {
        let next = step(&weights, reach, &mut rng);
        let score = score(&search, &next)?.0;
        if score < least {
            (weights, least) = (next, score);
            (reach, vain) = (f64::min(reach * 1.25, 0.6), 0);
            let found: Vec<String> =
                values(&weights).map(|(name, value)| format!("{name}={value}")).collect();
            say(&format!("{tried}: {least:.5} {}", found.join(",")));
        } else {
            vain += 1;
            reach = if vain % 100 == 0 { 0.3 } else { f64::max(reach * 0.985, 0.02) };
        }
    }
    for (half, parts) in [(0, &search), (1, &judge)] {
        let (now, sets) = score(parts, &weights)?;
        let named = values(&weights).map(|(name, value)| (name.to_owned(), value.into()));
        let row = Row {
            half,
            score_before: score(parts, &begin)?.0,
            score: now,
            weights: named.collect(),
            sets,
        };
        result(&row, args.common.json)?;
    }
    Ok(())
}

/// The weights by their names, to four places.
fn values(weights: &Weights) -> impl Iterator<Item = (&'static str, f64)> {
    let mut weights = *weights;
    FIELDS.iter().map(move |field| (field.name, (*(field.of)(&mut weights) * 1e4).round() / 1e4))
}

/// Weights a random step of about `reach` away, in shares of each.
fn step(weights: &Weights, reach: f64, rng: &mut ChaCha8Rng) -> Weights {
    let mut next = *weights;
    let mut even = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
    for _ in 0..3 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (even() * FIELDS.len() as f64) as usize;
        let away = reach * (even() + even() + even() + even() - 2.0);
        if let Some(field) = FIELDS.get(index) {
            let value = (field.of)(&mut next);
            let moved = *value * (1.0 + away);
            if (field.least..=field.most).contains(&moved) {
                *value = moved;
            }
        }
    }
    next
}

/// What is to be made less, and what it is made of.
fn score(parts: &[Part], weights: &Weights) -> Result<(f64, Vec<Set>), Failure> {
    let mut sum = 0.0;
    let mut sets = Vec::with_capacity(parts.len());
    for part in parts {
        let shares = part.play(weights)?;
        sum += part.miss(&shares);
        let Shares { j, recall, util } = shares;
        sets.push(Set {
            budget: part.budget.to_string(),
            j_over_best_other: j / part.best,
            recall,
            recall_gdsf: part.gdsf.recall,
            util,
        });
    }
    Ok((sum, sets))
}

impl Part {
    fn of(runs: Vec<Run>, budget: Budget) -> Result<Self, Failure> {
        let market = Market::default();
        let optimum =
            runs.iter().map(|run| optimum(run, budget.of(run), &market).price).sum::<f64>();
        let none = Shares { j: f64::INFINITY, recall: 0.0, util: 0.0 };
        let mut part = Self { budget, runs, optimum, best: f64::INFINITY, gdsf: none };
        part.gdsf = part.play(&aosk_context::Gdsf)?;
        for policy in POLICIES.iter().skip(1) {
            let shares = part.play(*policy)?;
            if shares.util >= 0.9 * part.gdsf.util {
                part.best = part.best.min(shares.j);
            }
        }
        Ok(part)
    }

    /// What is to be made less: J over the least of the other policies, which counts far more above
    /// nine tenths; and the recall that `gdsf` has more. Where the room is fixed in tokens that is to
    /// be exceeded a little, because what holds on one half of the runs barely may not hold on the
    /// other, and the room's use is to be that of `gdsf` and at least 90 %.
    fn miss(&self, shares: &Shares) -> f64 {
        let ratio = shares.j / self.best;
        let lack = |least: f64, found: f64| (least - found).max(0.0);
        match self.budget {
            Budget::Tokens(_) => {
                let used = lack(f64::max(self.gdsf.util - 0.4, 90.1), shares.util)
                    + lack(shares.util, self.gdsf.util + 0.4);
                let recall = lack(self.gdsf.recall + 0.25, shares.recall);
                0.3 * ratio + 6.0 * lack(ratio, 0.91) + 0.2 * (recall + used)
            }
            Budget::Share(_) => {
                let used = lack(self.gdsf.util, shares.util);
                let recall = lack(self.gdsf.recall, shares.recall);
                0.4 * ratio + 1.2 * lack(ratio, 0.9) + 0.04 * recall + 0.08 * used
            }
        }
    }

    fn play(&self, policy: &dyn Policy) -> Result<Shares, Failure> {
        let market = Market::default();
        let mut outcome = Outcome::default();
        for run in &self.runs {
            outcome.add(&replay(run, self.budget.of(run), &market, policy)?);
        }
        let Outcome { price, needs, faults, used, full_steps, .. } = outcome;
        Ok(Shares {
            j: (price + market.fault * faults as f64) / self.optimum,
            recall: 100.0 * (1.0 - faults as f64 / needs.max(1) as f64),
            util: 100.0 * used / full_steps.max(1) as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_the_seed_and_stay_within_the_bounds() {
        let walk = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut weights = Weights::DEFAULT;
            for _ in 0..2_000 {
                weights = step(&weights, 0.6, &mut rng);
                for field in &FIELDS {
                    let value = *(field.of)(&mut weights);
                    assert!((field.least..=field.most).contains(&value), "{}", field.name);
                }
            }
            weights
        };
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1), walk(2));
    }
}
