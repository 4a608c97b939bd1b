//! The real kernel in the simulated world.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::thread::available_parallelism;

use aosk_sim::{PATIENCE, Report, Scenario, regressions, shrink, simulate, sweep};

/// What a hundred seeds meet between them: kinds of events, ends of lives, ends of processes.
const MET: [&str; 47] = [
    "AOSK-L004",
    "Cut(\"after a change\")",
    "Cut(\"after a commit\")",
    "Cut(\"after the effect of a tool\")",
    "Cut(\"at a random moment\")",
    "Cut(\"at an await\")",
    "Cut(\"before a change\")",
    "Cut(\"before a commit\")",
    "Cut(\"before the effect of a tool\")",
    "Cut(\"in the middle of a step\")",
    "Done",
    "Stopped(Graceful)",
    "Stopped(Now)",
    "another model",
    "blocked",
    "budget",
    "budget_warned",
    "cancelled",
    "child_begun",
    "child_ended",
    "circle",
    "completed",
    "crashed",
    "eviction",
    "exited",
    "interrupted",
    "killed",
    "llm_failed",
    "llm_requested",
    "llm_returned",
    "message_received",
    "message_taken",
    "planned",
    "priority_changed",
    "quota",
    "recovered",
    "refused",
    "restarted",
    "review",
    "signal_received",
    "spawned",
    "spend_raised",
    "step limit",
    "told",
    "tool_requested",
    "tool_returned",
    "unblocked",
];

/// The seeds: `AOSK_SIM_SEEDS` is how many, from 0 on, or a range such as `17..18`.
fn seeds() -> Range<u64> {
    let text = std::env::var("AOSK_SIM_SEEDS").unwrap_or_else(|_| "1000".to_owned());
    let (first, end) = text.split_once("..").unwrap_or(("0", &text));
    let number = |text: &str| text.parse().expect("AOSK_SIM_SEEDS is a number or a range");
    number(first)..number(end)
}

fn threads() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn clean(report: &Report) {
    let seed = report.seed;
    if !report.is_clean() {
        match shrink(seed, &Scenario::of(seed)) {
            Some(shrunk) => panic!("{shrunk}"),
            None => panic!("{report}"),
        }
    }
}

/// Adds what a simulation met to what others did.
fn collect(met: &mut BTreeMap<String, u64>, report: Report) {
    let counted = report.events.into_iter().chain(report.turns);
    let counted = counted.map(|(what, n)| (what.to_owned(), n));
    let ends = report.endings.into_iter().chain(report.exits);
    let ends = ends.map(|(end, n)| (end, u64::from(n)));
    for (what, n) in counted.chain(ends) {
        *met.entry(what).or_default() += n;
    }
}

#[test]
fn every_promise_holds_through_crashes_full_disks_and_bad_replies() {
    let mut met = BTreeMap::new();
    sweep(
        regressions().map(|(seed, _)| seed).chain(seeds()),
        threads(),
        PATIENCE,
        |seed| simulate(seed, &Scenario::of(seed)),
        |report| {
            clean(&report);
            collect(&mut met, report);
            ControlFlow::Continue(())
        },
    );
    // What was never met was never tested.
    if seeds().count() >= 100 {
        for what in MET {
            assert!(met.get(what).is_some_and(|&n| n > 0), "{what:?} never happened: {met:?}");
        }
    }
}

#[test]
fn a_calm_machine_ends_every_process_in_one_life() {
    for seed in 0..5 {
        let report = simulate(seed, &Scenario::calm());
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.lives, 1);
    }
}

#[test]
fn a_seed_gives_one_trace_byte_for_byte() {
    for seed in 0..20 {
        let run = || simulate(seed, &Scenario::of(seed));
        let (first, second) = (run(), std::thread::scope(|scope| scope.spawn(run).join()));
        let second = second.expect("simulates");
        let differs = first.trace.iter().zip(&second.trace).find(|(a, b)| a != b);
        assert!(differs.is_none(), "seed {seed} goes two ways: {differs:#?}");
        assert_eq!(first.digest(), second.digest());
        assert!(first == second, "seed {seed} ends in two ways");
    }
}
