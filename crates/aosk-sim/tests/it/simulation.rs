//! The real kernel in the simulated world.

use std::collections::BTreeMap;

use aosk_sim::{Line, Report, Scenario, simulate};

/// What fifty seeds meet between them: kinds of events, ends of lives, ends of processes.
const MET: [&str; 31] = [
    "Cut(\"after a change\")",
    "Cut(\"after a commit\")",
    "Cut(\"after the effect of a tool\")",
    "Cut(\"at a random moment\")",
    "Cut(\"before a change\")",
    "Cut(\"before a commit\")",
    "Cut(\"before the effect of a tool\")",
    "Done",
    "Stopped(Graceful)",
    "Stopped(Now)",
    "blocked",
    "cancelled",
    "completed",
    "eviction",
    "exited",
    "interrupted",
    "killed",
    "llm_failed",
    "llm_requested",
    "llm_returned",
    "message_received",
    "planned",
    "recovered",
    "refused",
    "signal_received",
    "spawned",
    "spend_raised",
    "step limit",
    "told",
    "tool_requested",
    "tool_returned",
];

/// The seeds: `AOSK_SIM_SEEDS` is how many, from 0 on, or a range such as `17..18`.
fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("AOSK_SIM_SEEDS").unwrap_or_else(|_| "50".to_owned());
    let (first, end) = text.split_once("..").unwrap_or(("0", &text));
    let number = |text: &str| text.parse().expect("AOSK_SIM_SEEDS is a number or a range");
    number(first)..number(end)
}

fn clean(seed: u64, scenario: &Scenario) -> Report {
    let report = simulate(seed, scenario);
    assert!(report.is_clean(), "{report}");
    report
}

/// Adds what a simulation met to what others did.
fn collect(met: &mut BTreeMap<String, u64>, report: Report) {
    let evicts = |line: &Line| line.what.contains("planned") && !line.what.ends_with("evicts 0");
    let evictions = report.trace.iter().filter(|line| evicts(line)).count() as u64;
    let counted = [("eviction".to_owned(), evictions)];
    let events = report.events.into_iter().map(|(kind, n)| (kind.to_owned(), n));
    let ends = report.endings.into_iter().chain(report.exits);
    let ends = ends.map(|(end, n)| (end, u64::from(n)));
    for (what, n) in events.chain(ends).chain(counted) {
        *met.entry(what).or_default() += n;
    }
}

#[test]
fn every_promise_holds_through_crashes_full_disks_and_bad_replies() {
    let mut met = BTreeMap::new();
    for seed in seeds() {
        collect(&mut met, clean(seed, &Scenario::rough()));
    }
    // What was never met was never tested.
    if seeds().count() >= 50 {
        for what in MET {
            assert!(met.get(what).is_some_and(|&n| n > 0), "{what:?} never happened");
        }
    }
}

#[test]
fn a_calm_machine_ends_every_process_in_one_life() {
    for seed in 0..5 {
        let report = clean(seed, &Scenario::calm());
        assert_eq!(report.lives, 1);
    }
}

#[test]
fn a_seed_gives_one_simulation() {
    for seed in 0..10 {
        let (first, second) =
            (simulate(seed, &Scenario::rough()), simulate(seed, &Scenario::rough()));
        let differs = first.trace.iter().zip(&second.trace).find(|(a, b)| a != b);
        assert!(differs.is_none(), "seed {seed} goes two ways: {differs:#?}");
        assert!(first == second, "seed {seed} ends in two ways");
    }
}
