//! A bandit that chooses among settings of a pool.

use std::time::Duration;

use aosk_scheduler::{
    Choice, EPOCH, Ended, Error, Knobs, PoolId, PoolOptions, Scheduler, Tuner, Units,
};
use proptest::prelude::*;

fn options() -> PoolOptions {
    PoolOptions { window: Units(1_000), aging: Duration::from_secs(60), ..PoolOptions::new(16) }
}

fn base() -> Knobs {
    Knobs { aging: Duration::from_secs(30), ..Knobs::of(&options()) }
}

/// Serves as many epochs, in each of which a call waits as long as the setting says; the choices.
fn serve(tuner: &mut Tuner, epochs: u64, waits: impl Fn(&Knobs) -> u64) -> Vec<Choice> {
    let mut choices = Vec::new();
    for _ in 0..epochs * EPOCH {
        let waited = Duration::from_millis(waits(&tuner.knobs()));
        let call = Ended { waited, took: Duration::from_millis(1_000), charge: Units(100) };
        choices.extend(tuner.see(&call));
    }
    assert_eq!(choices.len() as u64, epochs, "one an epoch");
    choices
}

#[test]
fn the_setting_under_which_calls_wait_least_is_found_and_kept_and_left_when_that_changes() {
    for seed in 0..8 {
        let mut tuner = Tuner::new(&options(), base(), seed);
        assert_eq!(tuner.knobs(), base(), "it begins as the pool was set up");
        let late = |knobs: &Knobs| if knobs.aging == options().aging { 500 } else { 1_000 };
        let choices = serve(&mut tuner, 200, late);
        let kept = choices[100..].iter().filter(|it| it.knobs.aging == options().aging).count();
        assert!(kept >= 90, "{kept} of 100 with seed {seed}");
        // 1,000 of 1,500 ms were no wait.
        let best = choices[100..].iter().map(|it| it.worth_milli).max();
        assert!((665..=667).contains(&best.unwrap_or(0)), "{best:?}");
        let other = |knobs: &Knobs| if knobs.window == Units(0) { 0 } else { 1_000 };
        let choices = serve(&mut tuner, 1_200, other);
        let kept = choices[1_100..].iter().filter(|it| it.knobs.window == Units(0)).count();
        assert!(kept >= 90, "{kept} of 100 with seed {seed}");
    }
}

/// Serves 300 epochs by an endpoint of which calls take that many milliseconds, with fewer at once and
/// with all of them, but in the first, which is quick; how many of the last 100 epochs held calls back,
/// and how many in all.
fn held_back(fewer_ms: u64, all_ms: u64) -> (usize, usize) {
    let mut tuner = Tuner::new(&options(), base(), 1);
    let mut held = Vec::new();
    for epoch in 0..300 {
        let is_fewer = tuner.knobs().depth_percent < 100;
        held.push(is_fewer);
        let (waited, took) = match (epoch, is_fewer) {
            (0, _) => (0, 500),
            (_, true) => (1_140, fewer_ms),
            (_, false) => (1_000, all_ms),
        };
        let (waited, took) = (Duration::from_millis(waited), Duration::from_millis(took));
        for _ in 0..EPOCH {
            tuner.see(&Ended { waited, took, charge: Units(100) });
        }
    }
    let count = |held: &[bool]| held.iter().filter(|is_fewer| **is_fewer).count();
    (count(&held[200..]), count(&held))
}

#[test]
fn to_hold_calls_back_is_tried_where_the_endpoint_slows_down_and_kept_where_that_pays() {
    let (late, _) = held_back(500, 1_000);
    assert!(late >= 80, "{late} of 100");
    let (late, all) = held_back(1_000, 1_000);
    assert!(late <= 10 && all > 0, "{late} of 100, {all} in all");
    // At 87 % of the slots an endpoint has to have slowed down by 100/87: from 500 to above 574.7 ms.
    assert_eq!(held_back(400, 574).1, 0);
    assert!(held_back(400, 575).1 > 0);
}

#[test]
fn the_same_calls_and_seed_give_the_same_choices() {
    let waits = |knobs: &Knobs| knobs.window.0 % 7 * 100 + u64::from(knobs.depth_percent);
    let choices = |seed| serve(&mut Tuner::new(&options(), base(), seed), 50, waits);
    assert_eq!(choices(3), choices(3));
    assert_ne!(choices(3), choices(4), "the seed says what is tried first");
}

#[test]
fn a_setting_out_of_range_is_refused_and_changes_nothing() {
    let mut scheduler = Scheduler::<u32>::new();
    let pool = scheduler.add_pool(options()).expect("slots");
    let before = scheduler.clone();
    let knobs = Knobs { depth_percent: 0, ..base() };
    assert!(matches!(scheduler.tune(pool, knobs), Err(Error::Knob { knob: "depth_percent", .. })));
    assert_eq!(scheduler, before);
    let mut other = Scheduler::<u32>::new();
    let unknown: Result<(), Error> = other.tune(pool, base());
    assert!(matches!(unknown, Err(Error::UnknownPool(PoolId { .. }))));
    scheduler.tune(pool, Knobs { depth_percent: 50, ..base() }).expect("in range");
    assert_eq!(scheduler.load(pool).expect("known").depth, 8);
}

proptest! {
    #[test]
    fn whatever_the_calls_no_choice_is_out_of_range(
        seed in any::<u64>(), slots in 1..64_usize, window in any::<u64>(), aging in any::<u64>(),
        calls in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..20),
    ) {
        let options = PoolOptions {
            window: Units(window),
            aging: Duration::from_nanos(aging),
            ..PoolOptions::new(slots)
        };
        let mut tuner = Tuner::new(&options, Knobs::of(&options), seed);
        for (waited, took, charge) in calls.into_iter().cycle().take(20 * EPOCH as usize) {
            let (waited, took) = (Duration::from_nanos(waited), Duration::from_nanos(took));
            if let Some(choice) = tuner.see(&Ended { waited, took, charge: Units(charge) }) {
                prop_assert!(choice.worth_milli <= 1_000);
                prop_assert_eq!(choice.knobs.check(&options), Ok(()));
            }
            prop_assert_eq!(tuner.knobs().check(&options), Ok(()));
        }
    }
}
