//! The real kernel in the simulated world.

use aosk_sim::{Report, Scenario, simulate};

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

#[test]
fn every_promise_holds_through_crashes_full_disks_and_bad_replies() {
    for seed in seeds() {
        let report = clean(seed, &Scenario::rough());
        println!("{report}");
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
    assert_eq!(
        simulate(3, &Scenario::rough()),
        simulate(3, &Scenario::rough())
    );
}
#[test]
fn coverage_probe() {
    let mut ev = std::collections::BTreeMap::new();
    let mut en = std::collections::BTreeMap::new();
    let mut ex = std::collections::BTreeMap::new();
    let mut lives = 0;
    let mut secs = 0.0;
    let mut gens = 0;
    let mut replan = 0;
    let t = std::time::Instant::now();
    for seed in 0..50 {
        let r = simulate(seed, &Scenario::rough());
        for (k, v) in r.events {
            *ev.entry(k).or_insert(0) += v;
        }
        for (k, v) in r.endings {
            *en.entry(k).or_insert(0) += v;
        }
        for (k, v) in r.exits {
            *ex.entry(k).or_insert(0) += v;
        }
        lives += r.lives;
        secs += r.elapsed.as_secs_f64();
        gens += r
            .trace
            .iter()
            .filter(|l| l.what.contains("planned") && !l.what.contains("evicts 0"))
            .count();
        replan += r
            .trace
            .iter()
            .filter(|l| l.what.contains("AOSK-L005"))
            .count();
        for l in &r.trace {
            if l.what.starts_with("error") && !l.what.contains("S004") && !l.what.contains("S011") {
                *en.entry(
                    l.what
                        .chars()
                        .take(200)
                        .map(|c| if c.is_ascii_digit() { '#' } else { c })
                        .collect(),
                )
                .or_insert(0) += 1;
            }
        }
    }
    println!(
        "{ev:#?} {en:#?} {ex:#?} lives {lives} virtual {secs} evictions {gens} ctxlen {replan} real {:?}",
        t.elapsed()
    );
}
