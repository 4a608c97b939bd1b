//! Orders inside a group, and what may go before its turn.

use std::time::Duration;

use aosk_abi::Tokens;
use aosk_scheduler::{Class, Error, Order, PoolOptions, Slice, Step, Units, Warm, Weight};

use crate::fair;
use crate::machine::{Machine, TEN, seconds, tenant};

fn ordered(order: Order, keys: u32) -> Machine {
    let mut machine = Machine::new(PoolOptions { order, ..PoolOptions::new(1) });
    for key in 0..keys {
        machine.admit(key, "a", 50);
    }
    machine
}

/// Whoever was called waits again at once.
fn rounds(machine: &mut Machine, calls: usize) -> Vec<u32> {
    (0..calls)
        .map(|_| {
            let key = machine.call();
            machine.wake(key, TEN);
            key
        })
        .collect()
}

#[test]
fn first_come_first_served_and_each_in_its_turn() {
    let mut fifo = ordered(Order::Fifo, 3);
    for key in [2, 0, 1] {
        fifo.wake(key, Units(1_000 - u64::from(key)));
    }
    assert_eq!(rounds(&mut fifo, 5), [2, 0, 1, 2, 0]);
    let mut turns = ordered(Order::RoundRobin, 3);
    turns.wake(0, TEN);
    assert_eq!(rounds(&mut turns, 3), [0, 0, 0]);
    turns.wake(1, TEN);
    turns.wake(2, TEN);
    assert_eq!(rounds(&mut turns, 6), [1, 2, 0, 1, 2, 0]);
}

#[test]
fn who_gets_another_priority_while_it_waits_stands_where_that_says() {
    let mut machine = ordered(Order::Priority, 4);
    for key in 0..4 {
        machine.wake(key, TEN);
    }
    let priority = |n| aosk_abi::Priority::new(n).expect("in range");
    machine.scheduler.renice(&2, priority(10)).expect("known");
    machine.scheduler.renice(&0, priority(90)).expect("known");
    assert_eq!([machine.call(), machine.call(), machine.call(), machine.call()], [2, 1, 3, 0]);
}

#[test]
fn the_more_important_go_first_and_the_others_every_other_time_after_their_wait() {
    let mut machine = ordered(Order::Priority, 0);
    machine.admit(1, "a", 10);
    machine.admit(2, "a", 90);
    machine.admit(3, "a", 91);
    for key in [3, 2, 1] {
        machine.wake(key, TEN);
    }
    machine.now = seconds(30) - Duration::from_nanos(1);
    assert_eq!(rounds(&mut machine, 3), [1, 1, 1]);
    machine.now = seconds(30);
    assert_eq!(rounds(&mut machine, 5), [3, 1, 2, 1, 1]);
}

#[test]
fn short_calls_pass_long_ones_and_a_long_one_goes_when_it_has_waited() {
    let mut machine = ordered(Order::Fsp, 100);
    machine.wake(0, Units(10_000));
    for key in 1..100 {
        machine.wake(key, TEN);
    }
    assert_eq!(machine.call(), 1, "short ones came later and go first");
    machine.now = seconds(30);
    assert_eq!(machine.call(), 0);
    assert_eq!(machine.call(), 2);
}

#[test]
fn a_long_call_is_passed_by_a_bounded_service_even_before_it_is_old() {
    let mut machine = ordered(Order::Fsp, 1_000);
    machine.wake(0, Units(1_000));
    // A new process comes for each that goes: none of them has any debt.
    machine.wake(1, TEN);
    let before = (2..1_000).take_while(|&key| {
        machine.wake(key, TEN);
        machine.call() != 0
    });
    // It would end at 3 · 1,000 in virtual time; each short call takes 10 of two or three who wait.
    assert!(before.count() <= 3 * 1_000 * 3 / 10);
}

#[test]
fn a_slice_goes_on_until_its_steps_or_its_time_are_over() {
    let sliced = |steps, time| {
        let mut machine = Machine::new(PoolOptions { slice: Slice { steps, time }, ..fair(1) });
        for key in 0..2 {
            machine.admit(key, "a", 50);
            machine.wake(key, TEN);
        }
        machine
    };
    assert_eq!(rounds(&mut sliced(1, Duration::MAX), 4), [0, 1, 0, 1]);
    let mut machine = sliced(3, Duration::MAX);
    assert_eq!(rounds(&mut machine, 9), [0, 0, 0, 1, 1, 1, 0, 0, 0]);
    let mut machine = sliced(100, seconds(5));
    assert_eq!(rounds(&mut machine, 4), [0, 0, 0, 0]);
    machine.now = seconds(5);
    assert_eq!(rounds(&mut machine, 2), [1, 1]);
    let empty = PoolOptions { slice: Slice { steps: 0, time: Duration::MAX }, ..fair(1) };
    assert_eq!(machine.scheduler.add_pool(empty), Err(Error::EmptySlice));
}

#[test]
fn a_more_important_process_ends_a_slice_between_two_steps() {
    let slice = Slice { steps: 100, time: Duration::MAX };
    for (order, next) in [(Order::Priority, 2), (Order::Fair, 1)] {
        let mut machine = Machine::new(PoolOptions { slice, order, ..PoolOptions::new(1) });
        for (key, priority) in [(0, 50), (1, 50), (2, 49)] {
            machine.admit(key, "a", priority);
        }
        machine.wake(0, TEN);
        machine.wake(1, TEN);
        assert_eq!(rounds(&mut machine, 3), [0, 0, 0]);
        machine.wake(2, TEN);
        assert_eq!(machine.call(), next, "whoever is next in the order");
    }
}

#[test]
fn a_deadline_and_a_warm_cache_go_first_inside_the_window_and_not_beyond() {
    let warm = |tokens, until| {
        let warm = Some(Warm { tokens: Tokens(tokens), until: seconds(until) });
        Step { estimate: TEN, warm, ..Step::default() }
    };
    let urgent = Step { estimate: TEN, deadline: Some(seconds(9)), ..Step::default() };
    // Processes 1 to 5 have been charged 10 times their number; the window is 30 units.
    let machine = |window| {
        let mut machine = Machine::new(PoolOptions { window: Units(window), ..fair(1) });
        for key in 0..6 {
            machine.admit(key, "a", 50);
            machine.wake(key, TEN);
        }
        for _ in 0..6 {
            let (id, key) = machine.pick().expect("all wait");
            machine.charge(id, Units(u64::from(10 * key)));
        }
        machine
    };
    let first = |mut machine: Machine, key, step: Step| {
        machine.wake(0, TEN);
        machine.wake(key, step);
        machine.pick().map(|flight| flight.1)
    };
    for (window, key, goes) in [(0, 1, 0), (30, 2, 2), (30, 3, 3), (30, 4, 0)] {
        assert_eq!(first(machine(window), key, urgent), Some(goes), "deadline, {window} {key}");
        assert_eq!(first(machine(window), key, warm(9, 9)), Some(goes), "warm, {window} {key}");
    }
    let mut late = machine(30);
    late.now = seconds(10);
    assert_eq!(first(late, 1, urgent), Some(0), "a deadline that has passed");
    let mut cold = machine(30);
    cold.now = seconds(9);
    assert_eq!(first(cold, 1, warm(9, 9)), Some(0), "a cache that is gone");
    let mut two = machine(30);
    two.wake(0, warm(1, 9));
    two.wake(1, warm(2, 9));
    assert_eq!(two.pick().map(|flight| flight.1), Some(1), "the warmer");
}

#[test]
fn the_system_goes_first_until_it_has_used_a_fifth_and_takes_what_nobody_wants() {
    let mut machine = Machine::new(PoolOptions::new(1));
    machine.admit_to(0, "a", "", Class::System);
    machine.wake(0, TEN);
    assert_eq!(rounds(&mut machine, 3), [0, 0, 0], "nobody else waits");
    for key in 1..4 {
        machine.admit_to(key, ["a", "b", "c"][key as usize - 1], "", Class::Normal);
        machine.wake(key, TEN);
    }
    let order = rounds(&mut machine, 1_000);
    assert_eq!(order[0], 0);
    let shares: Vec<usize> =
        (0..4).map(|key| order.iter().filter(|who| **who == key).count()).collect();
    assert_eq!(shares[0], 200, "{shares:?}");
    assert!(shares[1..].iter().all(|share| share.abs_diff(267) <= 1), "{shares:?}");
}

#[test]
fn the_systems_fifth_is_settled_by_what_its_calls_used() {
    let mut machine = Machine::new(PoolOptions::new(4));
    machine.admit_to(0, "a", "", Class::System);
    machine.wake(0, TEN);
    for key in 1..9 {
        machine.admit_to(key, "a", "", Class::Normal);
        machine.wake(key, TEN);
    }
    let (mut system, mut all) = (0, 0);
    for round in 0..2_000_u64 {
        for (id, key) in machine.pick_all() {
            // Said to cost 10, the system's calls cost 100.
            let used = if key == 0 { 100 } else { 1 + round % 19 };
            machine.charge(id, Units(used));
            machine.wake(key, TEN);
            (system, all) = (system + if key == 0 { used } else { 0 }, all + used);
        }
    }
    assert!(system * 5 <= all + 5 * 100 && system * 6 >= all, "{system} of {all}");
}

#[test]
fn tenants_and_groups_share_by_their_weights_level_by_level() {
    let mut machine = Machine::new(PoolOptions::new(1));
    let weight = |number| Weight::new(number).expect("a weight");
    machine.scheduler.weigh_tenant(&tenant("a"), weight(1));
    machine.scheduler.weigh_tenant(&tenant("b"), weight(3));
    machine.scheduler.weigh_group(&tenant("b"), "g", weight(2));
    machine.scheduler.weigh_group(&tenant("b"), "h", weight(1));
    let places = [("a", ""), ("a", ""), ("b", "g"), ("b", "h"), ("b", "h")];
    for (key, (owner, group)) in (0..).zip(places) {
        machine.admit_to(key, owner, group, Class::Normal);
        machine.wake(key, TEN);
    }
    let count = |order: &[u32], keys: &[u32]| order.iter().filter(|it| keys.contains(it)).count();
    let order = rounds(&mut machine, 1_200);
    let shares = [&[0, 1][..], &[2], &[3, 4]].map(|keys| count(&order, keys));
    for (share, due) in shares.into_iter().zip([300, 600, 300]) {
        assert!(share.abs_diff(due) <= 1, "{shares:?}");
    }
    // From now on both tenants weigh the same.
    machine.scheduler.weigh_tenant(&tenant("a"), weight(3));
    let order = rounds(&mut machine, 1_200);
    assert!(count(&order, &[0, 1]).abs_diff(600) <= 1, "{order:?}");
}

#[test]
fn a_neighbour_who_floods_with_a_hundred_to_one_takes_no_more_than_its_share() {
    let mut machine = Machine::new(PoolOptions::new(4));
    for key in 0..101 {
        machine.admit(key, if key == 100 { "quiet" } else { "noisy" }, 50);
    }
    for key in 0..100 {
        machine.wake(key, TEN);
    }
    let mut flights = machine.pick_all();
    for round in 0..500 {
        // The quiet one comes now and then: the next slot that is free is its own.
        if round % 7 == 0 {
            machine.wake(100, TEN);
        }
        let (id, key) = flights.remove(0);
        machine.charge(id, TEN);
        if key != 100 {
            machine.wake(key, TEN);
        }
        flights.extend(machine.pick_all());
        assert_eq!(machine.scheduler.waiting(&100), None, "round {round}");
    }
}

#[test]
fn whoever_was_served_is_ahead_by_that_and_whoever_waits_is_not() {
    let mut machine = Machine::new(PoolOptions { order: Order::Fair, ..PoolOptions::new(1) });
    machine.admit(0, "a", 0);
    machine.admit(1, "a", 0);
    machine.admit(2, "a", 0);
    machine.wake(0, TEN);
    machine.wake(1, TEN);
    let (id, key) = machine.pick().expect("a slot");
    machine.charge(id, Units(30));
    machine.wake(key, TEN);
    let stands: Vec<_> = machine.scheduler.stands().map(|it| (*it.key, it.waits, it.lag)).collect();
    assert_eq!(stands, [(0, true, -30), (1, true, 0)], "who has not called stands nowhere");
}
