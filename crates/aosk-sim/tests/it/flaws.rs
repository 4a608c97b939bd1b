//! Mistakes that are made on purpose are found, and made small.

use std::ops::ControlFlow;
use std::thread::available_parallelism;

use aosk_sim::{Flaw, PATIENCE, Promise, Report, Scenario, shrink, simulate, sweep};

/// Within so many seeds each flaw has to be found.
const SEEDS: u64 = 1000;

fn flawed(flaw: Flaw, seed: u64) -> Scenario {
    Scenario { flaw: Some(flaw), ..Scenario::of(seed) }
}

fn breaks(report: &Report, flaw: Flaw) -> bool {
    report.violations.iter().any(|broken| broken.promise == flaw.breaks())
}

/// The first seed in which the promise that the flaw breaks is seen to be broken.
fn found(flaw: Flaw) -> Option<u64> {
    let mut found = None;
    let threads = available_parallelism().map_or(1, usize::from);
    sweep(
        0..SEEDS,
        threads,
        PATIENCE,
        |seed| simulate(seed, &flawed(flaw, seed)),
        |report| {
            if breaks(&report, flaw) {
                found = Some(report.seed);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        },
    );
    found
}

#[test]
fn every_flaw_is_found_within_a_thousand_seeds() {
    let mut missed = Vec::new();
    for &flaw in Flaw::ALL {
        match found(flaw) {
            Some(seed) => println!("{flaw} is found at seed {seed}: {}", flaw.breaks()),
            None => missed.push(flaw),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_promise_is_broken_by_some_flaw() {
    let unbroken = |promise: &&Promise| Flaw::ALL.iter().all(|flaw| flaw.breaks() != **promise);
    let untried: Vec<_> = Promise::ALL.iter().filter(unbroken).collect();
    assert!(untried.is_empty(), "no flaw breaks {untried:?}");
}

#[test]
fn a_failure_is_shrunk_to_the_same_failure_in_a_smaller_world() {
    for flaw in [Flaw::EagerTool, Flaw::RepeatedItem, Flaw::BoldTool] {
        let seed = found(flaw).expect("is found");
        let whole = simulate(seed, &flawed(flaw, seed));
        let shrunk = shrink(seed, &flawed(flaw, seed)).expect("fails");
        let promise = whole.violations[0].promise;
        assert!(shrunk.report.violations.iter().any(|broken| broken.promise == promise));
        assert_eq!(
            simulate(seed, &shrunk.scenario),
            shrunk.report,
            "what is shown is what happens"
        );
        assert_eq!(shrink(seed, &flawed(flaw, seed)), Some(shrunk.clone()), "it repeats");
        // With less in it a world may come further before it fails, so its trace may be longer.
        assert_ne!(shrunk.scenario, flawed(flaw, seed), "something can go");
        assert!(shrunk.report.trace.len() <= 150, "{shrunk}");
        let command = format!("./x sim --from {seed} --seeds 1 --flaw {flaw}");
        assert!(shrunk.to_string().contains(&command), "{shrunk}");
    }
    assert!(shrink(0, &Scenario::calm()).is_none(), "nothing fails, nothing is shrunk");
}
