//! Quotas at every level: never passed, shared by children, given back, and never a silent stop.

use std::time::Duration;

use aosk_abi::MicroDollars;
use aosk_scheduler::{
    Class, Error, Owner, PoolOptions, Quota, Rate, Resource, Short, Units, Wait, Warning,
};

use crate::machine::{MINUTE, Machine, TEN, costing, money, per_minute, seconds, tenant, used};

fn many(keys: u32, slots: usize) -> Machine {
    let mut machine = Machine::new(PoolOptions::new(slots));
    for key in 0..keys {
        machine.admit(key, "a", 50);
    }
    machine
}

#[test]
fn forty_calls_of_a_cent_at_once_on_two_cents_are_two() {
    for window in [None, Some(MINUTE)] {
        let mut machine = many(40, 40);
        machine.quota(&Owner::Tenant(tenant("a")), money(20_000, window));
        for key in 0..40 {
            machine.wake(key, costing(0, 0, 10_000));
        }
        let flights = machine.pick_all();
        assert_eq!(flights.len(), 2);
        let until = window.map(|_| MINUTE);
        let short = Short { resource: Resource::Money, until };
        let owner = Owner::Tenant(tenant("a"));
        assert_eq!(machine.scheduler.waits_for(&39), Some(Wait::Quota { owner, short }));
        assert_eq!(machine.scheduler.next_wakeup(machine.now), until);
        // What they did not use lets the next ones in.
        for (id, _) in flights {
            machine.charge(id, used(0, 0, 1_000));
        }
        assert_eq!(machine.pick_all().len(), 1, "2,000 spent, 18,000 left");
    }
}

#[test]
fn a_spent_budget_goes_on_when_it_is_raised_and_warns_before() {
    let mut machine = many(1, 1);
    let owner = Owner::Process(0);
    machine.quota(&owner, money(100, None));
    let mut heard = Vec::new();
    for spend in [79, 1, 14, 1, 5] {
        machine.wake(0, costing(0, 0, spend));
        let (id, _) = machine.pick().expect("within the budget");
        machine.charge(id, used(0, 0, spend));
        heard.extend(machine.scheduler.take_warnings());
    }
    let limit = MicroDollars(100);
    let warning = |percent| Warning { owner: owner.clone(), by: 0, percent, limit, until: None };
    assert_eq!(heard, [warning(80), warning(95)]);
    machine.wake(0, costing(0, 0, 1));
    assert_eq!(machine.pick(), None);
    assert_eq!(machine.scheduler.next_wakeup(machine.now), None, "no time makes room");
    machine.quota(&owner, money(101, None));
    assert!(machine.pick().is_some());
    assert_eq!(machine.scheduler.usage(&owner), Some((1, MicroDollars(101))));
}

#[test]
fn a_day_ends_at_its_edge_and_a_call_counts_in_the_day_in_which_it_began() {
    let mut machine = many(2, 2);
    let day = seconds(86_400);
    machine.quota(&Owner::Tenant(tenant("a")), money(10, Some(day)));
    machine.now = seconds(86_399);
    machine.wake(0, costing(0, 0, 10));
    let (yesterdays, _) = machine.pick().expect("10 of 10");
    machine.wake(1, costing(0, 0, 10));
    assert_eq!(machine.pick(), None);
    machine.now = day;
    assert!(machine.pick().is_some());
    machine.charge(yesterdays, used(0, 0, 0));
    assert_eq!(machine.scheduler.usage(&Owner::Tenant(tenant("a"))).map(|it| it.1.0), Some(10));
}

#[test]
fn a_rate_says_when_it_has_room_and_lets_in_at_that_time_and_not_before() {
    let mut machine = many(3, 3);
    machine.quota(&Owner::Pool(machine.pool), Quota { input: per_minute(60), ..Quota::default() });
    machine.wake(0, costing(60, 0, 0));
    assert!(machine.pick().is_some());
    machine.wake(1, costing(10, 0, 0));
    assert_eq!(machine.pick(), None);
    assert_eq!(machine.scheduler.next_wakeup(machine.now), Some(seconds(10)));
    machine.now = seconds(10) - Duration::from_nanos(1);
    assert_eq!(machine.pick(), None);
    machine.now = seconds(10);
    assert!(machine.pick().is_some());
}

#[test]
fn children_share_what_their_parent_may_use() {
    let mut machine = Machine::new(PoolOptions::new(100));
    for key in 0..20 {
        machine.admit_to(key, "a", if key % 2 == 0 { "g" } else { "h" }, Class::Normal);
        machine.wake(key, TEN);
    }
    let requests = |limit| Quota { requests: per_minute(limit), ..Quota::default() };
    machine.quota(&Owner::Tenant(tenant("a")), requests(10));
    machine.quota(&Owner::Group(tenant("a"), "g".into()), requests(3));
    machine.quota(&Owner::Process(1), Quota { concurrency: Some(1), ..Quota::default() });
    let keys: Vec<u32> = machine.pick_all().into_iter().map(|flight| flight.1).collect();
    assert_eq!(keys.len(), 10);
    assert_eq!(keys.iter().filter(|key| **key % 2 == 0).count(), 3);
}

#[test]
fn calls_at_once_below_at_and_above_the_limit() {
    let mut machine = many(4, 10);
    machine.quota(&Owner::Tenant(tenant("a")), Quota { concurrency: Some(3), ..Quota::default() });
    for key in 0..4 {
        machine.wake(key, TEN);
    }
    let flights = machine.pick_all();
    assert_eq!(flights.len(), 3);
    machine.charge(flights[1].0, TEN);
    assert_eq!(machine.pick_all().len(), 1);
}

#[test]
fn a_process_without_quota_does_not_hold_its_siblings_back() {
    let mut machine = many(2, 2);
    machine.quota(&Owner::Process(0), Quota { requests: per_minute(1), ..Quota::default() });
    machine.wake(0, TEN);
    assert_eq!(machine.call(), 0);
    machine.wake(0, TEN);
    machine.wake(1, TEN);
    assert_eq!(machine.call(), 1);
    assert_eq!(machine.pick(), None);
    // Whoever is held back can still take its wish back.
    machine.scheduler.block(&0).expect("known");
    machine.now = MINUTE;
    assert_eq!(machine.pick(), None);
    assert_eq!(machine.scheduler.load(machine.pool).map(|load| load.waiting), Ok(0));
}

#[test]
fn a_call_whose_use_is_not_known_counts_as_all_that_it_reserved() {
    let mut machine = many(1, 1);
    machine.quota(&Owner::Process(0), money(100, None));
    machine.wake(0, costing(0, 0, 60));
    let (id, _) = machine.pick().expect("within the budget");
    machine.charge(id, TEN);
    machine.wake(0, costing(0, 0, 60));
    assert_eq!(machine.pick(), None);
}

#[test]
fn a_call_that_used_more_than_it_said_is_a_debt() {
    let mut machine = many(1, 1);
    machine.quota(&Owner::Process(0), Quota { output: per_minute(60), ..Quota::default() });
    machine.wake(0, costing(0, 10, 0));
    let (id, _) = machine.pick().expect("room");
    machine.charge(id, used(0, 180, 0));
    machine.wake(0, costing(0, 10, 0));
    assert_eq!(machine.pick(), None);
    assert_eq!(machine.scheduler.next_wakeup(machine.now), Some(seconds(130)));
}

#[test]
fn what_claims_more_than_a_call_can_use_is_charged_the_greatest_and_said() {
    let mut machine = Machine::new(PoolOptions { greatest: Units(100), ..PoolOptions::new(1) });
    machine.admit(0, "a", 50);
    for (said, is_plausible) in [(99, true), (100, true), (101, false)] {
        machine.wake(0, TEN);
        let (id, _) = machine.pick().expect("it waits");
        let said = Units(said);
        let expected = match is_plausible {
            true => aosk_scheduler::Settled::Exactly,
            false => aosk_scheduler::Settled::Implausible { said, charged: Units(100) },
        };
        assert_eq!(machine.charge(id, said), expected);
    }
}

#[test]
fn quotas_of_nothing_and_calls_larger_than_a_window_are_refused() {
    let mut machine = many(1, 1);
    let zero = Some(Rate { limit: 0, window: MINUTE });
    let instant = Some(Rate { limit: 1, window: Duration::ZERO });
    let none = Quota::default();
    let bad = [
        (Resource::Requests, Quota { requests: zero, ..none }),
        (Resource::Input, Quota { input: instant, ..none }),
        (Resource::Output, Quota { output: zero, ..none }),
        (Resource::Money, money(0, None)),
        (Resource::Money, money(1, Some(Duration::ZERO))),
        (Resource::Concurrency, Quota { concurrency: Some(0), ..none }),
    ];
    for (resource, quota) in bad {
        let set = machine.scheduler.set_quota(&Owner::Process(0), quota, machine.now);
        assert_eq!(set, Err(Error::EmptyQuota(resource)));
    }
    machine.quota(&Owner::Tenant(tenant("a")), Quota { output: per_minute(10), ..none });
    let asked = |output| costing(0, output, 0);
    let refused = machine.scheduler.wake(&0, machine.pool, asked(11), machine.now);
    let (resource, limit) = (Resource::Output, 10);
    assert_eq!(refused, Err(Error::NeverFits { level: "tenant", resource, asked: 11, limit }));
    assert_eq!(machine.scheduler.waiting(&0), None);
    machine.wake(0, asked(10));
    // A limit that is lowered under a call that waits holds it until it is raised again.
    machine.quota(&Owner::Tenant(tenant("a")), Quota { output: per_minute(9), ..none });
    assert_eq!(machine.pick(), None);
    assert_eq!(machine.scheduler.next_wakeup(machine.now), None);
    machine.quota(&Owner::Tenant(tenant("a")), Quota { output: per_minute(10), ..none });
    assert!(machine.pick().is_some());
}

#[test]
fn who_or_what_is_not_there_is_named() {
    let mut machine = many(1, 1);
    let mut other = many(1, 1);
    let foreign = other.scheduler.add_pool(PoolOptions::new(1)).expect("slots");
    let quota = Quota { concurrency: Some(1), ..Quota::default() };
    let set = machine.scheduler.set_quota(&Owner::Pool(foreign), quota, machine.now);
    assert_eq!(set, Err(Error::UnknownPool(foreign)));
    let woken = machine.scheduler.wake(&0, foreign, TEN, machine.now);
    assert_eq!(woken, Err(Error::UnknownPool(foreign)));
    let set = machine.scheduler.set_quota(&Owner::Process(9), quota, machine.now);
    assert_eq!(set, Err(Error::UnknownProcess("9".into())));
}

#[test]
fn a_clock_that_goes_back_lets_nothing_more_through() {
    let mut machine = many(3, 3);
    machine.quota(&Owner::Process(0), Quota { requests: per_minute(1), ..Quota::default() });
    machine.now = seconds(100);
    machine.wake(0, TEN);
    assert_eq!(machine.call(), 0);
    for now in [0, 40, 159] {
        machine.now = seconds(now);
        machine.scheduler.block(&0).expect("known");
        machine.wake(0, TEN);
        assert_eq!(machine.pick(), None, "at {now}");
    }
    machine.now = seconds(160);
    assert!(machine.pick().is_some());
}

#[test]
fn whoever_takes_a_wish_back_that_had_no_room_leaves_the_others_none_of_its_wait() {
    let mut machine = many(2, 2);
    machine.quota(&Owner::Tenant(tenant("a")), money(100, Some(seconds(86_400))));
    machine.wake(0, costing(0, 0, 60));
    let (first, _) = machine.pick().expect("60 of 100");
    machine.wake(0, costing(0, 0, 41));
    machine.wake(1, costing(0, 0, 40));
    assert_eq!(machine.pick(), None, "41 is first and does not fit");
    machine.scheduler.block(&0).expect("known");
    assert_eq!(machine.pick().map(|flight| flight.1), Some(1), "40 does");
    machine.charge(first, used(0, 0, 60));
}

#[test]
fn a_call_that_is_not_made_gives_its_request_back_and_one_that_was_made_does_not() {
    let mut machine = many(2, 2);
    machine.quota(
        &Owner::Tenant(tenant("a")),
        Quota { requests: per_minute(1), input: per_minute(100), ..Quota::default() },
    );
    machine.wake(0, costing(100, 0, 0));
    let (id, _) = machine.pick().expect("the first of a minute");
    assert!(machine.scheduler.is_limited(id));
    machine.scheduler.withdraw(id).expect("in flight");
    machine.wake(1, costing(100, 0, 0));
    let (id, _) = machine.pick().expect("nothing was used");
    machine.charge(id, used(0, 0, 0));
    machine.wake(0, costing(1, 0, 0));
    assert_eq!(machine.pick(), None, "one request a minute");
}

#[test]
fn what_others_spent_of_a_budget_is_gone_until_its_window_ends() {
    let mut machine = many(1, 1);
    let owner = Owner::Tenant(tenant("a"));
    machine.quota(&owner, money(100, Some(MINUTE)));
    let now = machine.now;
    for left in [40, 90] {
        machine.scheduler.leave(&owner, MicroDollars(left), now).expect("known");
    }
    machine.wake(0, costing(0, 0, 41));
    assert_eq!(machine.pick(), None);
    machine.scheduler.block(&0).expect("known");
    machine.wake(0, costing(0, 0, 40));
    let (id, _) = machine.pick().expect("40 are left");
    machine.wake(0, costing(0, 0, 60));
    assert_eq!(machine.pick(), None);
    // Whoever keeps the books says when the next window begins, and what is left of it.
    machine.scheduler.begin_window(&owner, MicroDollars(60)).expect("known");
    machine.charge(id, used(0, 0, 0));
    let (id, _) = machine.pick().expect("60 are left of the next");
    assert_eq!(machine.scheduler.usage(&owner), Some((1, MicroDollars(100))));
    machine.charge(id, used(0, 0, 60));
    machine.now = MINUTE;
    machine.wake(0, costing(0, 0, 100));
    assert!(machine.pick().is_some(), "another window");
}

#[test]
fn a_share_that_was_spent_before_is_not_warned_of_and_a_new_limit_is() {
    let mut machine = many(1, 9);
    let owner = Owner::Tenant(tenant("a"));
    machine.quota(&owner, money(100, Some(MINUTE)));
    machine.scheduler.begin_window(&owner, MicroDollars(15)).expect("a tenant");
    let spend = |machine: &mut Machine, amount| {
        machine.wake(0, costing(0, 0, amount));
        let (id, _) = machine.pick().expect("within the budget");
        machine.charge(id, used(0, 0, amount));
        let warnings = machine.scheduler.take_warnings();
        warnings.iter().map(|warning| warning.percent).collect::<Vec<_>>()
    };
    assert_eq!(spend(&mut machine, 9), [0_u8; 0], "85 were spent before, 94 are now");
    assert_eq!(spend(&mut machine, 1), [95]);
    // Other limits of the same owner say nothing of its money.
    let same = Quota { requests: per_minute(100), ..money(100, Some(MINUTE)) };
    machine.quota(&owner, same);
    assert_eq!(spend(&mut machine, 1), [0_u8; 0]);
    machine.quota(&owner, money(120, Some(MINUTE)));
    assert_eq!(spend(&mut machine, 1), [80], "97 of 120");
    machine.now = MINUTE;
    assert_eq!(spend(&mut machine, 96), [80], "another window");
}

#[test]
fn gauges_tell_what_is_used_what_is_reserved_and_when_it_comes_back() {
    let mut machine = many(2, 9);
    let owner = Owner::Group(tenant("a"), String::new());
    assert_eq!(machine.scheduler.gauges(&owner, Duration::ZERO), []);
    let quota = Quota {
        requests: per_minute(6),
        output: per_minute(600),
        concurrency: Some(3),
        ..money(100, Some(MINUTE))
    };
    machine.quota(&owner, quota);
    machine.wake(0, costing(7, 300, 40));
    let (id, _) = machine.pick().expect("room");
    let read = |machine: &Machine| {
        let gauges = machine.scheduler.gauges(&owner, machine.now);
        gauges.iter().map(|it| (it.resource, it.used, it.reserved, it.resets)).collect::<Vec<_>>()
    };
    let (ten, thirty) = (Some(seconds(10)), Some(seconds(30)));
    let (requests, output) = (Resource::Requests, Resource::Output);
    let (cash, calls) = (Resource::Money, Resource::Concurrency);
    assert_eq!(
        read(&machine),
        [
            (requests, 1, 0, ten),
            (output, 0, 300, thirty),
            (cash, 0, 40, Some(MINUTE)),
            (calls, 1, 0, None)
        ]
    );
    machine.charge(id, used(7, 100, 10));
    let after = |requests_left, output_left| {
        [(requests, requests_left), (output, output_left), (cash, 10), (calls, 0)]
    };
    let seen =
        |machine: &Machine| read(machine).iter().map(|it| (it.0, it.1 + it.2)).collect::<Vec<_>>();
    assert_eq!(seen(&machine), after(1, 100));
    machine.now = seconds(5);
    assert_eq!(seen(&machine), after(1, 50), "half a request has drained");
    machine.now = MINUTE;
    assert!(seen(&machine).iter().all(|(_, left)| *left == 0));
    assert!(machine.scheduler.gauges(&owner, machine.now).iter().all(|it| it.resets.is_none()));
    assert_eq!(machine.scheduler.limited().count(), 0, "no process has a quota of its own");
}
