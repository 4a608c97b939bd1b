//! What endpoints say and refuse.

use std::time::Duration;

use aosk_scheduler::{
    DispatchId, Error, Heard, Nonsense, Owner, PoolOptions, Quota, RateLimit, Resource,
};

use crate::machine::{Machine, TEN, costing, per_minute, seconds, used};

fn said(limit: i64, remaining: i64, resets_in: u64) -> RateLimit {
    let resets_in = Some(seconds(resets_in));
    RateLimit { limit: Some(limit), remaining: Some(remaining), resets_in }
}

/// Processes 0 to 9 in a pool of ten; the first makes a call.
fn machine() -> (Machine, DispatchId) {
    let mut machine = Machine::new(PoolOptions::new(10));
    for key in 0..10 {
        machine.admit(key, "a", 50);
    }
    machine.wake(0, costing(100, 0, 0));
    let (id, _) = machine.pick().expect("a free slot");
    (machine, id)
}

fn hear(machine: &mut Machine, id: DispatchId, resource: Resource, said: RateLimit) -> Heard {
    machine.scheduler.hear(id, resource, said, machine.now).expect("in flight")
}

#[test]
fn what_an_endpoint_says_holds_all_who_use_the_pool_and_drains_until_its_reset() {
    let (mut machine, id) = machine();
    assert_eq!(hear(&mut machine, id, Resource::Requests, said(60, 2, 58)), Heard::Taken);
    for key in 1..6 {
        machine.wake(key, TEN);
    }
    assert_eq!(machine.pick_all().len(), 2);
    assert_eq!(machine.scheduler.next_wakeup(machine.now), Some(seconds(1)));
    machine.now = seconds(1);
    assert_eq!(machine.pick_all().len(), 1);
    machine.now = seconds(1_000);
    assert_eq!(machine.pick_all().len(), 2);
}

#[test]
fn what_was_reserved_since_the_answer_was_sent_is_added_to_it() {
    let (mut machine, id) = machine();
    machine.wake(1, costing(700, 0, 0));
    let (later, _) = machine.pick().expect("a free slot");
    assert_eq!(hear(&mut machine, id, Resource::Input, said(1_000, 900, 6)), Heard::Taken);
    machine.wake(2, costing(300, 0, 0));
    assert_eq!(machine.pick(), None, "900 left, 700 of them reserved");
    // The call that the answer did not know of ends: what it did not use stays held until the next
    // answer, for nobody knows whether the endpoint had counted it.
    machine.charge(later, used(1, 0, 0));
    assert_eq!(machine.pick(), None);
    machine.now = seconds(6);
    assert!(machine.pick().is_some());
}

#[test]
fn a_call_that_may_still_be_on_its_way_is_added_too_until_its_own_answer_comes() {
    let (mut machine, id) = machine();
    machine.wake(1, costing(700, 0, 0));
    let (slow, _) = machine.pick().expect("a free slot");
    machine.wake(2, costing(100, 0, 0));
    let (fast, _) = machine.pick().expect("a free slot");
    hear(&mut machine, id, Resource::Input, said(1_000, 1_000, 6));
    assert_eq!(hear(&mut machine, fast, Resource::Input, said(1_000, 900, 6)), Heard::Taken);
    machine.wake(3, costing(300, 0, 0));
    assert_eq!(machine.pick(), None, "the 700 may not be counted in the 900 that are left");
    assert_eq!(hear(&mut machine, slow, Resource::Input, said(1_000, 900, 6)), Heard::Taken);
    assert!(machine.pick().is_some(), "only the 100 that came after it may not be");
}

#[test]
fn calls_that_began_together_are_counted_once_in_whatever_order_they_arrive() {
    for order in 0..256_usize {
        let arrives = |nth: u32| order / 4_usize.pow(nth) % 4;
        let arrivals: Vec<usize> = (0..4).map(arrives).collect();
        if (0..4).any(|call| !arrivals.contains(&call)) {
            continue;
        }
        let (mut machine, id) = machine();
        machine.charge(id, used(0, 0, 0));
        let mut flights = Vec::new();
        for key in 1..5 {
            machine.wake(key, costing(200, 0, 0));
            flights.push(machine.pick().expect("a free slot").0);
        }
        for (before, call) in (1..).zip(&arrivals) {
            let left = 1_000 - 200 * before;
            let reset = 10 - u64::try_from(left).expect("some is left") / 100;
            let heard =
                hear(&mut machine, flights[*call], Resource::Input, said(1_000, left, reset));
            assert_eq!(heard, Heard::Taken);
        }
        machine.wake(5, costing(201, 0, 0));
        assert_eq!(machine.pick(), None, "{arrivals:?}: 200 are left");
        machine.scheduler.block(&5).expect("it waits");
        machine.wake(5, costing(200, 0, 0));
        assert!(machine.pick().is_some(), "{arrivals:?}: 200 are left");
    }
}

#[test]
fn an_older_answer_that_says_that_less_is_left_is_believed() {
    let (mut machine, old) = machine();
    machine.wake(1, costing(100, 0, 0));
    let (new, _) = machine.pick().expect("a free slot");
    hear(&mut machine, new, Resource::Input, said(1_000, 900, 6));
    // Somebody else with the same key used the rest.
    assert_eq!(hear(&mut machine, old, Resource::Input, said(1_000, 0, 60)), Heard::Taken);
    machine.wake(2, costing(100, 0, 0));
    assert_eq!(machine.pick(), None);
    // And one that says that all is left knows no more than the newer one.
    let (mut machine, old) = self::machine();
    machine.wake(1, costing(900, 0, 0));
    let (new, _) = machine.pick().expect("a free slot");
    hear(&mut machine, new, Resource::Input, said(1_000, 100, 54));
    assert_eq!(hear(&mut machine, old, Resource::Input, said(1_000, 1_000, 0)), Heard::Whole);
    machine.wake(2, costing(200, 0, 0));
    assert_eq!(machine.pick(), None, "100 are left");
}

#[test]
fn an_endpoint_can_only_tighten() {
    let (mut machine, id) = machine();
    let quota = Quota { requests: per_minute(2), ..Quota::default() };
    machine.quota(&Owner::Pool(machine.pool), quota);
    assert_eq!(hear(&mut machine, id, Resource::Requests, said(1_000, 999, 1)), Heard::Taken);
    for key in 1..6 {
        machine.wake(key, TEN);
    }
    assert_eq!(machine.pick_all().len(), 2);
}

#[test]
fn nonsense_is_ignored_and_named() {
    let (mut machine, id) = machine();
    let day = 24 * 3600;
    let cases = [
        (said(-1, 0, 1), Heard::Ignored(Nonsense::Negative)),
        (said(0, 0, 1), Heard::Ignored(Nonsense::Negative)),
        (said(10, -1, 1), Heard::Ignored(Nonsense::Negative)),
        (said(10, 11, 1), Heard::Ignored(Nonsense::MoreThanTheLimit)),
        (said(10, 0, day + 1), Heard::Ignored(Nonsense::TooFar)),
        (RateLimit { limit: None, ..said(1, 0, 1) }, Heard::Ignored(Nonsense::Incomplete)),
        (RateLimit { resets_in: None, ..said(1, 0, 1) }, Heard::Ignored(Nonsense::Incomplete)),
        (said(10, 10, 0), Heard::Whole),
    ];
    for (said, expected) in cases {
        assert_eq!(hear(&mut machine, id, Resource::Requests, said), expected, "{said:?}");
        machine.wake(1, TEN);
        assert_eq!(machine.call(), 1, "{said:?} held somebody back");
    }
    let heard = hear(&mut machine, id, Resource::Money, said(10, 0, 1));
    assert_eq!(heard, Heard::Ignored(Nonsense::Resource));
    assert_eq!(hear(&mut machine, id, Resource::Requests, said(10, 0, day)), Heard::Taken);
    machine.charge(id, TEN);
    let late = machine.scheduler.hear(id, Resource::Requests, said(10, 0, 1), machine.now);
    assert_eq!(late, Err(Error::UnknownDispatch(id)));
}

#[test]
fn a_refusal_halves_the_depth_once_for_calls_that_began_together_and_success_brings_it_back() {
    let (mut machine, first) = machine();
    for key in 1..8 {
        machine.wake(key, TEN);
    }
    let mut flights: Vec<DispatchId> =
        machine.pick_all().into_iter().map(|flight| flight.0).collect();
    flights.push(first);
    let depth = |machine: &Machine| machine.scheduler.load(machine.pool).map(|load| load.depth);
    for id in flights {
        machine.scheduler.refused(id, seconds(3)).expect("in flight");
        assert_eq!(depth(&machine), Ok(5));
    }
    machine.wake(0, TEN);
    assert_eq!(machine.pick(), None, "the endpoint asked for a pause");
    machine.now = seconds(3);
    for step in 0..45 {
        // 5 calls at a depth of 5, then 6 at 6, and so on: 5, 11, 18, 26, 35.
        let expected = 5 + [5, 11, 18, 26, 35].iter().filter(|at| step >= **at).count();
        assert_eq!(depth(&machine), Ok(expected), "after {step}");
        machine.call();
        machine.wake(0, TEN);
    }
    for _ in 0..5 {
        let (id, _) = machine.pick().expect("a free slot");
        machine.scheduler.refused(id, Duration::ZERO).expect("in flight");
        machine.wake(0, TEN);
    }
    assert_eq!(depth(&machine), Ok(1), "never below one");
}
