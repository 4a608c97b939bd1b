//! Quotas of processes, and those of their ancestors behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use aosk_abi::{Priority, Tokens};
use aosk_scheduler::{
    Amounts, Class, DispatchId, Error, Order, Owner, Place, PoolId, PoolOptions, Quota, Resource,
    Scheduler, Short, Units, Used, Wait,
};
use proptest::prelude::*;

use crate::machine::{MINUTE, Machine, TEN, costing, money, per_minute, seconds, tenant, used};

fn requests(limit: u64) -> Quota {
    Quota { requests: per_minute(limit), ..Quota::default() }
}

fn output(limit: u64) -> Quota {
    Quota { output: per_minute(limit), ..Quota::default() }
}

fn at_once(calls: u32) -> Quota {
    Quota { concurrency: Some(calls), ..Quota::default() }
}

fn place(priority: u64) -> Place {
    Place {
        tenant: tenant("a"),
        group: String::new(),
        class: Class::Normal,
        priority: Priority::new(priority).expect("0 to 99"),
    }
}

/// A machine with so many children of process 100, which may use so much.
fn family(options: PoolOptions, children: u32, quota: Quota) -> Machine {
    let mut machine = Machine::new(options);
    for key in 0..children {
        machine.scheduler.admit_under(key, &place(50), &[(100, quota)]).expect("new");
    }
    machine
}

/// How each who waits for a quota is told of it.
fn waits(machine: &Machine, key: u32) -> (Owner<u32>, Short) {
    match machine.scheduler.waits_for(&key) {
        Some(Wait::Quota { owner, short }) => (owner, short),
        other => panic!("{key} waits for {other:?}"),
    }
}

#[test]
fn a_family_never_makes_more_calls_than_its_parent_may() {
    let mut machine = family(PoolOptions::new(9), 5, requests(10));
    machine.admit(100, "a", 50);
    let mut begun: Vec<Duration> = Vec::new();
    let mut each = BTreeMap::new();
    while machine.now < 10 * MINUTE {
        for key in [0, 1, 2, 3, 4, 100] {
            if machine.scheduler.waiting(&key).is_none() {
                machine.wake(key, TEN);
            }
        }
        for (id, key) in machine.pick_all() {
            begun.push(machine.now);
            *each.entry(key).or_insert(0_u32) += 1;
            machine.charge(id, TEN);
        }
        if machine.scheduler.waiting(&0).is_some() {
            machine.now =
                machine.scheduler.next_wakeup(machine.now).expect("there is room some time");
        }
    }
    for (index, from) in begun.iter().enumerate() {
        for (more, to) in begun[index..].iter().enumerate() {
            let most = 10.0 * (1.0 + (*to - *from).as_secs_f64() / 60.0);
            assert!((more + 1) as f64 <= most + 1e-6, "{} calls in {:?}", more + 1, *to - *from);
        }
    }
    assert!(begun.len() >= 109, "{} calls: nothing of the quota is lost", begun.len());
    // Each a sixth, but for how the ten that went at once fell.
    assert!(each.values().all(|calls| *calls >= 15), "{each:?}");
}

#[test]
fn who_waits_for_an_ancestor_sees_whose_quota_it_is_and_when_there_is_room() {
    let mut machine = Machine::new(PoolOptions::new(9));
    // 1 and 2 are children of 3, which has no quota; 3 of 4; and 4 of 5.
    let (three, four, five) = ((3, Quota::default()), (4, output(60)), (5, requests(2)));
    for key in [1, 2] {
        machine.scheduler.admit_under(key, &place(50), &[three, four, five]).expect("new");
    }
    machine.admit(6, "a", 50);
    machine.wake(1, costing(0, 50, 0));
    let (first, _) = machine.pick().expect("room everywhere");
    assert_eq!(machine.scheduler.usage(&Owner::Process(3)), None, "it has no quota");
    for ancestor in [4, 5] {
        let (in_flight, _) = machine.scheduler.usage(&Owner::Process(ancestor)).expect("a quota");
        assert_eq!(in_flight, 1, "{ancestor}");
    }
    machine.wake(2, costing(0, 30, 0));
    machine.wake(6, TEN);
    assert_eq!(machine.call(), 6, "who is no kin is not held back");
    assert_eq!(machine.pick(), None);
    let (resource, until) = (Resource::Output, Some(seconds(20)));
    assert_eq!(waits(&machine, 2), (Owner::Process(4), Short { resource, until }));
    assert_eq!(machine.scheduler.next_wakeup(machine.now), until);
    // What the first did not use lets it go at once, and is given back to both above.
    machine.charge(first, used(0, 10, 0));
    assert_eq!(machine.call(), 2);
    machine.wake(1, TEN);
    assert_eq!(machine.pick(), None);
    let (resource, until) = (Resource::Requests, Some(seconds(30)));
    assert_eq!(waits(&machine, 1), (Owner::Process(5), Short { resource, until }));
    machine.now = seconds(30);
    assert_eq!(machine.call(), 1);
    let in_flight = |key| machine.scheduler.usage(&Owner::Process(key)).map(|usage| usage.0);
    assert_eq!((in_flight(4), in_flight(5)), (Some(0), Some(0)));
}

#[test]
fn no_call_that_is_not_made_or_refused_keeps_anything_of_an_ancestor() {
    let mut machine = family(PoolOptions::new(9), 2, Quota { ..requests(1) });
    machine.wake(0, costing(0, 0, 0));
    let (id, _) = machine.pick().expect("the first of a minute");
    machine.wake(1, TEN);
    assert_eq!(machine.pick(), None);
    machine.scheduler.withdraw(id).expect("in flight");
    let (id, key) = machine.pick().expect("its request came back");
    assert_eq!(key, 1);
    // A refusal used nothing but the request that was made.
    machine.scheduler.refused(id, Duration::ZERO).expect("in flight");
    assert_eq!(machine.scheduler.usage(&Owner::Process(100)).map(|usage| usage.0), Some(0));
    machine.wake(0, TEN);
    assert_eq!(machine.pick(), None);
    // Who takes its wish back leaves the line.
    machine.scheduler.block(&0).expect("known");
    assert_eq!(machine.scheduler.next_wakeup(machine.now), None);
    machine.now = MINUTE;
    assert_eq!(machine.pick(), None);
}

#[test]
fn a_quota_that_is_changed_holds_for_the_whole_family_at_once() {
    let mut machine = family(PoolOptions::new(9), 5, Quota::default());
    let parent = Owner::Process(100);
    machine.wake(0, TEN);
    let (free, _) = machine.pick().expect("nothing holds it");
    // The parent, which is no process here, has a quota from now on.
    machine.quota(&parent, requests(1));
    for key in 0..4 {
        machine.wake(key, TEN);
    }
    assert_eq!(machine.pick_all().len(), 1, "what began without a quota is not counted");
    machine.charge(free, TEN);
    assert_eq!(machine.pick_all(), []);
    machine.quota(&parent, requests(3));
    assert_eq!(machine.pick_all().len(), 2);
    machine.quota(&parent, requests(2));
    assert_eq!(machine.pick_all(), []);
    machine.quota(&parent, Quota::default());
    assert_eq!(machine.pick_all().len(), 1, "the last of four");
    assert_eq!(
        machine.scheduler.set_quota(&Owner::Process(7), requests(1), machine.now),
        Err(Error::UnknownProcess("7".into())),
        "nobody's ancestor"
    );
}

#[test]
fn a_call_that_no_window_of_an_ancestor_holds_is_refused_and_keeps_nobody_else() {
    let mut machine = family(PoolOptions::new(9), 2, output(10));
    let refused = machine.scheduler.wake(&0, machine.pool, costing(0, 11, 0), machine.now);
    let (resource, asked, limit) = (Resource::Output, 11, 10);
    assert_eq!(refused, Err(Error::NeverFits { level: "ancestor", resource, asked, limit }));
    let most = |output| Amounts { output: Tokens(output), ..Amounts::default() };
    let never = |output| machine.scheduler.never_fits(&0, machine.pool, &most(output));
    assert_eq!((never(11), never(10)), (Some((Owner::Process(100), resource)), None));
    // A limit that is lowered under a call that waits holds that one, and not its smaller sibling.
    machine.wake(0, costing(0, 10, 0));
    machine.quota(&Owner::Process(100), output(9));
    machine.wake(1, costing(0, 9, 0));
    assert_eq!(machine.call(), 1);
    assert_eq!(machine.pick(), None);
    assert_eq!(waits(&machine, 0), (Owner::Process(100), Short { resource, until: None }));
    machine.quota(&Owner::Process(100), output(100));
    assert_eq!(machine.call(), 0);
}

#[test]
fn a_large_call_is_not_overtaken_by_small_ones_for_ever() {
    for order in [Order::Fsp, Order::Fair, Order::Fifo, Order::RoundRobin, Order::Priority] {
        let mut machine = family(PoolOptions { order, ..PoolOptions::new(1) }, 4, output(100));
        let large = |machine: &mut Machine| {
            let step = aosk_scheduler::Step { estimate: Units(100), ..costing(0, 100, 0) };
            machine.wake(3, step);
        };
        let (mut calls, mut of_large) = (0, 0);
        large(&mut machine);
        while machine.now < 60 * MINUTE {
            for key in 0..3 {
                if machine.scheduler.waiting(&key).is_none() {
                    machine.wake(key, costing(0, 10, 0));
                }
            }
            while let Some((id, key)) = machine.pick() {
                calls += 1;
                let taken = if key == 3 { 100 } else { 10 };
                machine.charge(id, used(0, taken, 0));
                if key == 3 {
                    of_large += 1;
                    large(&mut machine);
                } else {
                    machine.wake(key, costing(0, 10, 0));
                }
            }
            machine.now = machine.scheduler.next_wakeup(machine.now).expect("room some time");
        }
        // A quarter of 6,100 tokens is fifteen large calls.
        assert!((12..=18).contains(&of_large), "{order:?}: {of_large} of {calls}");
        assert!(calls - of_large > 400, "{order:?}: {calls}");
    }
}

#[test]
fn kin_at_several_pools_go_in_turn_by_their_weights_and_a_paused_pool_keeps_nobody() {
    let mut scheduler: Scheduler<u32> = Scheduler::new();
    let pools = [(); 3].map(|()| scheduler.add_pool(PoolOptions::new(4)).expect("slots"));
    // 1 is twice as important as 0 and 2.
    for (key, priority) in [(0, 50), (1, 40), (2, 50)] {
        scheduler.admit_under(key, &place(priority), &[(100, requests(60))]).expect("new");
    }
    let mut counts = [0_u32; 3];
    let mut now = Duration::ZERO;
    let mut run = |counts: &mut [u32; 3], minutes: u32| {
        let end = now + minutes * MINUTE;
        while now < end {
            for key in 0..3 {
                if scheduler.waiting(&key).is_none() {
                    scheduler.wake(&key, pools[key as usize], TEN, now).expect("known");
                }
            }
            while let Some(dispatch) = scheduler.pick(now) {
                counts[dispatch.key as usize] += 1;
                scheduler.charge(dispatch.id, TEN).expect("in flight");
                scheduler.wake(&dispatch.key, dispatch.pool, TEN, now).expect("known");
            }
            now = scheduler.next_wakeup(now).expect("room some time");
        }
        if minutes == 40 {
            scheduler.pause(pools[0], now + 60 * MINUTE).expect("a pool");
        }
    };
    // The first sixty are begun at once, by whoever is asked first.
    run(&mut counts, 1);
    counts = [0; 3];
    run(&mut counts, 40);
    let [zero, one, two] = counts;
    assert!(zero.abs_diff(two) <= 2 && one.abs_diff(2 * zero) <= 4, "{counts:?}");
    run(&mut counts, 20);
    assert!(counts[0] - zero <= 1, "paused");
    assert!(counts.iter().sum::<u32>() >= 60 * 60 - 3, "the others use all of it: {counts:?}");
}

#[test]
fn what_a_family_used_outlives_those_who_leave_and_is_forgotten_when_it_has_drained() {
    let mut machine = family(PoolOptions::new(9), 2, requests(2));
    let parent = Owner::Process(100);
    machine.admit(100, "a", 50);
    for key in [0, 100] {
        machine.wake(key, TEN);
        assert_eq!(machine.call(), key);
    }
    // The parent ends and a child leaves memory: the other is held all the same.
    machine.scheduler.remove(&100).expect("known");
    machine.scheduler.dismiss(&0).expect("known");
    machine.wake(1, TEN);
    assert_eq!(machine.pick(), None);
    assert_eq!(waits(&machine, 1).0, parent);
    // Of an ended parent nothing is kept when the last child has gone, a call in flight included.
    machine.now = seconds(30);
    let (last, _) = machine.pick().expect("there is room again");
    machine.scheduler.dismiss(&1).expect("known");
    assert_eq!(machine.scheduler.limited().collect::<Vec<_>>(), [&100]);
    machine.charge(last, TEN);
    assert_eq!(machine.scheduler.limited().count(), 0);
    // A whole family that has only left memory comes back to what it had used.
    let mut machine = family(PoolOptions::new(9), 2, requests(1));
    machine.wake(0, TEN);
    assert_eq!(machine.call(), 0);
    for key in [0, 1] {
        machine.scheduler.dismiss(&key).expect("known");
    }
    machine.now = seconds(59);
    assert_eq!(machine.pick(), None);
    machine.scheduler.admit_under(1, &place(50), &[(100, requests(1))]).expect("dismissed");
    machine.wake(1, TEN);
    assert_eq!(machine.pick(), None);
    assert_eq!(waits(&machine, 1).1.until, Some(MINUTE));
    machine.scheduler.dismiss(&1).expect("known");
    assert!(machine.scheduler.has_kin(&100));
    machine.now = MINUTE;
    assert_eq!(machine.pick(), None);
    assert!(!machine.scheduler.has_kin(&100), "it has drained");
}

#[test]
fn a_process_that_was_dismissed_comes_back_to_its_own_quota_and_one_that_ended_to_a_new_one() {
    for gone in [false, true] {
        let mut machine = Machine::new(PoolOptions::new(1));
        machine.admit(0, "a", 50);
        machine.quota(&Owner::Process(0), requests(1));
        machine.wake(0, TEN);
        assert_eq!(machine.call(), 0);
        match gone {
            true => machine.scheduler.remove(&0).expect("known"),
            false => machine.scheduler.dismiss(&0).expect("known"),
        }
        machine.admit(0, "a", 50);
        machine.quota(&Owner::Process(0), requests(1));
        machine.wake(0, TEN);
        assert_eq!(machine.pick().is_some(), gone);
    }
}

#[test]
fn ancestors_below_at_and_above_the_most() {
    let chain: Vec<(u32, Quota)> = (1..=65).map(|key| (key, requests(1))).collect();
    for (many, fits) in [(63, true), (64, true), (65, false)] {
        let mut machine = Machine::new(PoolOptions::new(1));
        let admitted = machine.scheduler.admit_under(0, &place(50), &chain[..many]);
        assert_eq!(admitted.is_ok(), fits, "{admitted:?}");
        // It is the same whether the ancestors come one by one.
        let mut machine = Machine::new(PoolOptions::new(1));
        let mut above: Vec<(u32, Quota)> = Vec::new();
        let mut admitted = Ok(());
        for key in (0..=u32::try_from(many).expect("few")).rev() {
            admitted = machine.scheduler.admit_under(key, &place(50), &above);
            above = vec![(key, Quota::default())];
        }
        assert_eq!(admitted, if fits { Ok(()) } else { Err(Error::TooDeep("0".into())) });
    }
    let mut machine = Machine::new(PoolOptions::new(1));
    let zero = Quota { concurrency: Some(0), ..Quota::default() };
    let refused = machine.scheduler.admit_under(0, &place(50), &[(1, requests(1)), (2, zero)]);
    assert_eq!(refused, Err(Error::EmptyQuota(Resource::Concurrency)));
    assert!(!machine.scheduler.has_kin(&1) && !machine.scheduler.has_kin(&0), "nothing changed");
}

#[test]
fn calls_at_once_and_money_of_a_family_below_at_and_above_the_limit() {
    let mut machine = family(PoolOptions::new(9), 4, at_once(2));
    for key in 0..4 {
        machine.wake(key, TEN);
    }
    let flights = machine.pick_all();
    assert_eq!(flights.len(), 2);
    assert_eq!(waits(&machine, 3).1, Short { resource: Resource::Concurrency, until: None });
    machine.charge(flights[0].0, TEN);
    assert_eq!(machine.pick_all().len(), 1);
    let mut machine = family(PoolOptions::new(40), 40, money(20_000, None));
    for key in 0..40 {
        machine.wake(key, costing(0, 0, 10_000));
    }
    assert_eq!(machine.pick_all().len(), 2, "two calls of a cent on two cents");
    let warned: Vec<_> = machine.scheduler.take_warnings();
    let of: Vec<_> = warned.iter().map(|it| (it.owner.clone(), it.percent)).collect();
    assert_eq!(of, [(Owner::Process(100), 95)]);
}

/// A process of a random tree: its parent among those before it, its quota and how important it is.
type Sprout = (Option<usize>, Option<(u64, u64, u32)>, u64);

#[derive(Debug, Clone)]
enum Move {
    Wake { who: usize, pool: usize, output: u64 },
    Pick,
    End { which: usize, percent: u64 },
    Withdraw(usize),
    Block(usize),
    Dismiss(usize),
    Later(u64),
    Change { who: usize, requests: u64 },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let any = any::<usize>;
    prop::collection::vec(
        prop_oneof![
            8 => (any(), any(), 0..20_u64)
                .prop_map(|(who, pool, output)| Move::Wake { who, pool, output }),
            8 => Just(Move::Pick),
            5 => (any(), 0..=100_u64).prop_map(|(which, percent)| Move::End { which, percent }),
            1 => any().prop_map(Move::Withdraw),
            1 => any().prop_map(Move::Block),
            1 => any().prop_map(Move::Dismiss),
            3 => (0..20_000_u64).prop_map(Move::Later),
            1 => (any(), 1..8_u64).prop_map(|(who, requests)| Move::Change { who, requests }),
        ],
        1..300,
    )
}

/// What a process's kin began: when, what of requests and output it used or holds, under which limits.
#[derive(Default)]
struct Begun {
    calls: Vec<(u64, u64, u64, DispatchId)>,
    in_flight: u32,
}

struct Tree {
    scheduler: Scheduler<usize>,
    pools: Vec<PoolId>,
    sprouts: Vec<Sprout>,
    quotas: Vec<Quota>,
    begun: Vec<Begun>,
    flights: Vec<(DispatchId, usize, u64)>,
    asked: BTreeMap<usize, u64>,
    now: u64,
}

impl Tree {
    fn new(sprouts: Vec<Sprout>) -> Self {
        let quota = |of: &Option<(u64, u64, u32)>| {
            let limits = of.map(|(requests, output, calls)| Quota {
                requests: per_minute(requests),
                output: per_minute(output),
                concurrency: Some(calls),
                ..Quota::default()
            });
            limits.unwrap_or_default()
        };
        let quotas = sprouts.iter().map(|(_, of, _)| quota(of)).collect();
        let begun = sprouts.iter().map(|_| Begun::default()).collect();
        let (mut scheduler, flights, asked) = (Scheduler::new(), Vec::new(), BTreeMap::new());
        let pool = |slots| scheduler.add_pool(PoolOptions::new(slots)).expect("slots");
        let pools = [3, 1].map(pool).into();
        let mut tree = Self { scheduler, pools, sprouts, quotas, begun, flights, asked, now: 0 };
        // The youngest first: ancestors are known by their children before they come themselves.
        for key in (0..tree.sprouts.len()).rev() {
            tree.admit(key);
        }
        tree
    }

    /// Its ancestors, the nearest first.
    fn above(&self, key: usize) -> Vec<usize> {
        std::iter::successors(self.sprouts[key].0, |key| self.sprouts[*key].0).collect()
    }

    fn admit(&mut self, key: usize) {
        let above = self.above(key).into_iter().map(|key| (key, self.quotas[key]));
        let above: Vec<_> = above.collect();
        let place = place(self.sprouts[key].2);
        self.scheduler.admit_under(key, &place, &above).expect("not there");
        if self.quotas[key] != Quota::default() {
            let now = Duration::from_millis(self.now);
            self.scheduler.set_quota(&Owner::Process(key), self.quotas[key], now).expect("a quota");
        }
    }

    fn pick(&mut self) -> Result<bool, TestCaseError> {
        let now = Duration::from_millis(self.now);
        let Some(dispatch) = self.scheduler.pick(now) else { return Ok(false) };
        let output = self.asked[&dispatch.key];
        self.flights.push((dispatch.id, dispatch.key, output));
        for at in std::iter::once(dispatch.key).chain(self.above(dispatch.key)) {
            let (quota, begun) = (self.quotas[at], &mut self.begun[at]);
            begun.calls.push((self.now, 1, output, dispatch.id));
            begun.in_flight += 1;
            if let Some(most) = quota.concurrency {
                prop_assert!(begun.in_flight <= most, "{at}: {} at once", begun.in_flight);
            }
            for (rate, amount) in [(quota.requests, 1), (quota.output, 2)] {
                let Some(rate) = rate else { continue };
                let (mut sum, window) = (0, 60_000);
                for call in begun.calls.iter().rev() {
                    sum += if amount == 1 { call.1 } else { call.2 };
                    let most = rate.limit * window + (self.now - call.0) * rate.limit;
                    prop_assert!(sum * window <= most, "{at}: {sum} since {}", call.0);
                }
            }
        }
        Ok(true)
    }

    fn end(&mut self, which: usize, percent: Option<u64>) {
        let (id, key, output) = self.flights.swap_remove(which % self.flights.len());
        let took = percent.map_or(0, |percent| output * percent / 100);
        for at in std::iter::once(key).chain(self.above(key)) {
            self.begun[at].in_flight -= 1;
            for call in self.begun[at].calls.iter_mut().filter(|call| call.3 == id) {
                (call.1, call.2) = (u64::from(percent.is_some()), took);
            }
        }
        match percent {
            Some(_) => {
                let amounts = Some(Amounts { output: Tokens(took), ..Amounts::default() });
                self.scheduler.charge(id, Used { charge: TEN, amounts }).expect("in flight");
            }
            None => drop(self.scheduler.withdraw(id).expect("in flight")),
        }
    }

    fn step(&mut self, step: &Move) -> Result<(), TestCaseError> {
        let many = self.sprouts.len();
        match *step {
            Move::Wake { who, pool, output } => {
                let (key, now) = (who % many, Duration::from_millis(self.now));
                let (pool, step) = (self.pools[pool % 2], costing(0, output, 0));
                let woken = self.scheduler.wake(&key, pool, step, now);
                if woken.is_ok() {
                    self.asked.insert(key, output);
                }
            }
            Move::Pick => drop(self.pick()?),
            Move::End { which, percent } if !self.flights.is_empty() => {
                self.end(which, Some(percent));
            }
            Move::Withdraw(which) if !self.flights.is_empty() => self.end(which, None),
            Move::End { .. } | Move::Withdraw(_) => {}
            Move::Block(who) => self.scheduler.block(&(who % many)).expect("known"),
            Move::Dismiss(who) => {
                self.scheduler.dismiss(&(who % many)).expect("known");
                self.admit(who % many);
            }
            Move::Later(millis) => self.now += millis,
            Move::Change { who, requests } => {
                let (key, now) = (who % many, Duration::from_millis(self.now));
                let quota = self.quotas[key];
                // Only ever raised, so that what was let in before is within it.
                if let Some(rate) = quota.requests {
                    let quota = Quota { requests: per_minute(rate.limit + requests), ..quota };
                    self.quotas[key] = quota;
                    self.scheduler.set_quota(&Owner::Process(key), quota, now).expect("a quota");
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_quota_of_any_ancestor_is_passed_nobody_starves_and_all_comes_back(
        tree in prop::collection::vec(
            (any::<usize>(), prop::option::of((1..8_u64, 20..60_u64, 1..4_u32)), 0..100_u64, 0..4_u8),
            1..12,
        ),
        moves in moves()
    ) {
        let sprouts = tree.iter().enumerate().map(|(key, &(parent, quota, priority, root))| {
            ((key > 0 && root > 0).then(|| parent % key.max(1)), quota, priority)
        });
        let mut tree = Tree::new(sprouts.collect());
        for step in &moves {
            tree.step(step)?;
        }
        // As time goes by whoever waits is served, with every quota as it is: the least is a call a
        // minute, and 20 tokens of which a call takes no more.
        let waiting = |tree: &Tree| {
            (0..tree.sprouts.len()).filter(|key| tree.scheduler.waiting(key).is_some()).count()
        };
        for _ in 0..=2 * waiting(&tree) {
            while tree.pick()? || !tree.flights.is_empty() {
                if !tree.flights.is_empty() {
                    tree.end(0, Some(100));
                }
            }
            if waiting(&tree) == 0 {
                break;
            }
            let wakeup = tree.scheduler.next_wakeup(Duration::from_millis(tree.now));
            prop_assert!(wakeup.is_some(), "they wait for nothing");
            tree.now += 60_000;
        }
        prop_assert_eq!(waiting(&tree), 0);
        for key in 0..tree.sprouts.len() {
            let usage = tree.scheduler.usage(&Owner::Process(key));
            prop_assert_eq!(usage.unwrap_or_default().0, 0, "{}", key);
            prop_assert_eq!(tree.scheduler.waits_for(&key), None::<Wait<usize>>);
            tree.scheduler.remove(&key).expect("known");
        }
        tree.now += 600_000;
        prop_assert!(tree.scheduler.pick(Duration::from_millis(tree.now)).is_none());
        prop_assert_eq!(tree.scheduler.limited().count(), 0, "nothing is kept of who has ended");
    }
}
