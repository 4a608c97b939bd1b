//! The bounds that stand with `Scheduler`, on random loads whose estimates are off by anything.

use std::collections::BTreeMap;
use std::time::Duration;

use aosk_abi::{Priority, Tenant, Tokens};
use aosk_scheduler::{
    Class, DispatchId, Knobs, Order, Place, PoolId, PoolOptions, Quota, Scheduler, Slice, Step,
    Units, Warm, Weight,
};
use proptest::prelude::*;

use crate::fair;

/// The greatest estimate or charge of these tests.
const U: u64 = 500;

fn tenant(number: usize) -> Tenant {
    format!("t{number}").parse().expect("a name")
}

fn priority(number: u64) -> Priority {
    Priority::new(number).expect("0 to 99")
}

/// Flows that always wait, each with as many calls in flight as the device gives it, and perhaps a
/// family among them that always wants to and has room for one call at a time.
struct Backlog {
    family: std::ops::Range<usize>,
    scheduler: Scheduler<usize>,
    device: PoolId,
    weights: Vec<u128>,
    flights: Vec<(DispatchId, usize)>,
    charged: Vec<u128>,
}

impl Backlog {
    /// One process a tenant, or all of one tenant.
    fn new(options: PoolOptions, priorities: &[u64], apart: bool) -> Self {
        let mut scheduler = Scheduler::new();
        let device = scheduler.add_pool(options).expect("slots");
        let mut weights = Vec::new();
        for (key, &number) in priorities.iter().enumerate() {
            let owner = tenant(if apart { key } else { 0 });
            scheduler.admit(key, owner, priority(number)).expect("new");
            weights.push(if apart { 1 } else { Weight::of(priority(number)).get().into() });
        }
        let charged = vec![0; priorities.len()];
        let family = priorities.len()..priorities.len();
        Self { family, scheduler, device, weights, flights: Vec::new(), charged }
    }

    /// Lets a family in, of the tenant of the first flow.
    fn bear(&mut self, priorities: &[u64]) {
        self.family.end += priorities.len();
        let parent = (usize::MAX, Quota { concurrency: Some(1), ..Quota::default() });
        for (key, &number) in self.family.clone().zip(priorities) {
            let (class, priority) = (Class::Normal, priority(number));
            let place = Place { tenant: tenant(0), group: String::new(), class, priority };
            self.scheduler.admit_under(key, &place, &[parent]).expect("new");
        }
    }

    /// Starts all calls that fit, then ends one of them.
    fn turn(&mut self, estimate: u64, actual: u64, which: usize) {
        let Self { family, scheduler, device, flights, charged, .. } = self;
        loop {
            for key in 0..family.end {
                if scheduler.waiting(&key).is_none() {
                    // Warm by turns, so that the window matters where there is one.
                    let tokens = Tokens((actual ^ key as u64) % 8);
                    let warm = Some(Warm { tokens, until: Duration::MAX });
                    let step = Step { estimate: Units(estimate), warm, ..Step::default() };
                    scheduler.wake(&key, *device, step, Duration::ZERO).expect("known");
                }
            }
            let Some(dispatch) = scheduler.pick(Duration::ZERO) else {
                break;
            };
            let kin = |flight: &(DispatchId, usize)| family.contains(&flight.1);
            assert!(!family.contains(&dispatch.key) || !flights.iter().any(kin), "one at a time");
            flights.push((dispatch.id, dispatch.key));
        }
        let (id, key) = flights.swap_remove(which % flights.len());
        scheduler.charge(id, Units(actual)).expect("in flight");
        if let Some(charged) = charged.get_mut(key) {
            *charged += u128::from(actual.max(1));
        }
    }
}

fn flows() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..=99_u64, 2..6)
}

/// A part of each range, in hundredths.
#[derive(Debug, Clone, Copy)]
struct Setting {
    depth: u8,
    window: u64,
    aging: u32,
}

impl Setting {
    fn of(self, options: &PoolOptions) -> Knobs {
        Knobs {
            depth_percent: self.depth,
            window: Units(options.window.0 * self.window / 100),
            aging: options.aging * self.aging / 100,
            ..Knobs::of(options)
        }
    }
}

/// Settings of what may be tuned, one a turn over and over; often it stays as it is.
fn settings() -> impl Strategy<Value = Vec<Option<Setting>>> {
    let setting = (1..=100_u8, 0..=100_u64, 0..=100_u32)
        .prop_map(|(depth, window, aging)| Setting { depth, window, aging });
    prop::collection::vec(prop::option::of(setting), 1..50)
}

fn calls(count: usize) -> impl Strategy<Value = Vec<(u64, u64, usize)>> {
    let size = || prop_oneof![3 => 0..=U, 1 => Just(0), 1 => Just(U)];
    prop::collection::vec((size(), size(), any::<usize>()), 1..count)
}

proptest! {
    #[test]
    fn service_differs_by_no_more_than_the_bound(
        slots in 1..6_usize, priorities in flows(), apart in any::<bool>(), calls in calls(400),
        window in prop_oneof![Just(0), Just(U)], steps in 1..4_u32, settings in settings(),
        family in prop::collection::vec(0..=99_u64, 0..4)
    ) {
        let slice = Slice { steps, time: Duration::MAX };
        let options = PoolOptions { window: Units(window), slice, ..fair(slots) };
        let mut backlog = Backlog::new(options, &priorities, apart);
        // Whoever no quota holds back has its share, whoever else one does; a tenant is charged for all.
        if !apart {
            backlog.bear(&family);
        }
        let ahead = u128::from(window) + u128::from(steps - 1) * u128::from(U);
        for ((estimate, actual, which), setting) in calls.into_iter().zip(settings.iter().cycle()) {
            if let Some(setting) = setting {
                let knobs = setting.of(&options);
                backlog.scheduler.tune(backlog.device, knobs).expect("in range");
            }
            backlog.turn(estimate, actual, which);
            let flows = || backlog.charged.iter().zip(&backlog.weights);
            for (f, (served_f, weight_f)) in flows().enumerate() {
                for (g, (served_g, weight_g)) in flows().enumerate() {
                    // S_f/w_f − S_g/w_g <= D·U·(1/w_f + 1/w_g) + (d + (s − 1)·U)/w_f, times both
                    // weights; 1 unit of rounding on either side.
                    let bound = (slots as u128 * u128::from(U) + 1) * (weight_f + weight_g)
                        + ahead * weight_g;
                    prop_assert!(
                        served_f * weight_g <= served_g * weight_f + bound,
                        "{f}: {served_f} at {weight_f}, {g}: {served_g} at {weight_g}"
                    );
                }
            }
        }
    }
}

#[test]
fn shares_come_to_the_weights_within_the_bound_and_under_a_thousandth() {
    // Estimates are off by a factor of up to 100 either way, and wrong for each flow alike.
    let priorities = [50, 50, 40, 40, 30, 30];
    for slots in [1, 8] {
        let mut backlog = Backlog::new(fair(slots), &priorities, false);
        let mut state = 1_u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (estimate, actual) = ((state >> 20) % U, (state >> 40) % (U / 5));
            backlog.turn(estimate, actual, (state >> 50) as usize);
        }
        let total = backlog.charged.iter().sum::<u128>() as f64;
        let weights: Vec<f64> = backlog.weights.iter().map(|&weight| weight as f64).collect();
        let sum: f64 = weights.iter().sum();
        let least = weights.iter().copied().fold(f64::MAX, f64::min);
        for (&charged, weight) in backlog.charged.iter().zip(&weights) {
            let off = (charged as f64 / total / (weight / sum) - 1.0).abs();
            let bound = (slots as u64 * U) as f64 * (1.0 / weight + 1.0 / least) * sum / total;
            assert!(off <= bound, "{off} exceeds {bound} with {slots} slots");
            assert!(off <= 0.001, "{off} with {slots} slots");
        }
    }
}

#[test]
fn processes_that_make_one_call_at_a_time_get_their_shares() {
    // Twelve processes of weights 1 : 2 : 4 in three tenants on four slots; a call takes as long
    // as it is charged, and all are estimated alike. Nobody is due more than one slot.
    let mut scheduler = Scheduler::new();
    let device = scheduler.add_pool(fair(4)).expect("slots");
    for key in 0..12_usize {
        let number = 50 - 10 * (key % 12 / 4) as u64;
        scheduler.admit(key, tenant(key % 3), priority(number)).expect("new");
        scheduler.wake(&key, device, Units(50), Duration::ZERO).expect("known");
    }
    let mut ends = BTreeMap::new();
    let (mut now, mut state, mut charged) = (0_u64, 7_u64, [0_u64; 12]);
    for _ in 0..100_000 {
        while let Some(dispatch) = scheduler.pick(Duration::ZERO) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let actual = 1 + (state >> 33) % 99;
            ends.insert((now + actual, dispatch.id), (dispatch.key, actual));
        }
        let ((at, id), (key, actual)) = ends.pop_first().expect("a call is in flight");
        now = at;
        scheduler.charge(id, Units(actual)).expect("in flight");
        scheduler.wake(&key, device, Units(50), Duration::ZERO).expect("known");
        charged[key] += actual;
    }
    let total: u64 = charged.iter().sum();
    for (key, &charged) in charged.iter().enumerate() {
        let weight = |key: usize| f64::from(1 << (key / 4));
        let siblings = (0..12).filter(|other| other % 3 == key % 3);
        let due = weight(key) / siblings.map(weight).sum::<f64>() / 3.0;
        let off = (charged as f64 / total as f64 / due - 1.0).abs();
        assert!(off <= 0.01, "process {key} is off by {off}");
    }
}

#[derive(Debug, Clone)]
enum Move {
    Wake(usize, u64),
    Block(usize),
    Restart(usize),
    Pick(u64),
    End(usize),
    Tune(Setting),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let units = || prop_oneof![3 => 0..=U, 1 => Just(0), 1 => Just(U)];
    prop::collection::vec(
        prop_oneof![
            8 => (any::<usize>(), units()).prop_map(|(who, units)| Move::Wake(who, units)),
            1 => any::<usize>().prop_map(Move::Block),
            1 => any::<usize>().prop_map(Move::Restart),
            8 => units().prop_map(Move::Pick),
            7 => any::<usize>().prop_map(Move::End),
            1 => (1..=100_u8, 0..=100_u64, 0..=100_u32)
                .prop_map(|(depth, window, aging)| Move::Tune(Setting { depth, window, aging })),
        ],
        1..500,
    )
}

/// What happened while a process waited.
#[derive(Default)]
struct Wait {
    /// Siblings that were dispatched: their weights, and what their calls will be charged.
    siblings: BTreeMap<(usize, u64), u128>,
    sibling_charges: u128,
    others: std::collections::BTreeSet<usize>,
    other_charges: u128,
}

impl Wait {
    /// Whether everything that was started meanwhile is within the bounds.
    fn check(&self, weight: u128, slots: u128) -> Result<(), TestCaseError> {
        let (n, m, u) = (self.siblings.len() as u128, self.others.len() as u128, u128::from(U));
        let weights: u128 = self.siblings.values().sum();
        // One unit of rounding a flow on either side.
        let x = (u * weights).div_ceil(weight) + 3 * n * u + 2 * n;
        prop_assert!(self.sibling_charges <= x, "{} > {x} of siblings", self.sibling_charges);
        let all = self.sibling_charges + self.other_charges;
        let bound = (m + 1) * x + m * (5 * slots + 3) * u + 2 * m;
        prop_assert!(all <= bound, "{all} > {bound} of all");
        Ok(())
    }
}

proptest! {
    #[test]
    fn nobody_waits_longer_than_the_bound(
        slots in 1..5_usize,
        owners in prop::collection::vec((0..3_usize, 0..=40_u64), 1..10),
        moves in moves()
    ) {
        let mut scheduler = Scheduler::new();
        let device = scheduler.add_pool(fair(slots)).expect("slots");
        let mut waits: BTreeMap<usize, Wait> = BTreeMap::new();
        let mut flights: Vec<(DispatchId, usize, u64)> = Vec::new();
        let mut births = vec![0_u64; owners.len()];
        for (key, (owner, number)) in owners.iter().enumerate() {
            scheduler.admit(key, tenant(*owner), priority(*number)).expect("new");
        }
        let weight_of = |key: usize| u128::from(Weight::of(priority(owners[key].1)).get());
        for step in moves {
            match step {
                Move::Wake(who, estimate) => {
                    let key = who % owners.len();
                    let flies = flights.iter().any(|flight| flight.1 == key);
                    if !flies && scheduler.waiting(&key).is_none() {
                        scheduler.wake(&key, device, Units(estimate), Duration::ZERO).expect("known");
                        waits.insert(key, Wait::default());
                    }
                }
                Move::Block(who) => {
                    scheduler.block(&(who % owners.len())).expect("known");
                    waits.remove(&(who % owners.len()));
                }
                Move::Restart(who) => {
                    let key = who % owners.len();
                    // The old process may be in flight: the new one makes one call at a time too.
                    if !flights.iter().any(|flight| flight.1 == key) {
                        scheduler.remove(&key).expect("known");
                        let (owner, number) = owners[key];
                        scheduler.admit(key, tenant(owner), priority(number)).expect("removed");
                        waits.remove(&key);
                        births[key] += 1;
                    }
                }
                Move::Pick(actual) => {
                    let Some(dispatch) = scheduler.pick(Duration::ZERO) else { continue };
                    let key = dispatch.key;
                    let wait = waits.remove(&key).expect("only who waits is dispatched");
                    wait.check(weight_of(key), slots as u128)?;
                    flights.push((dispatch.id, key, actual));
                    for (&other, wait) in &mut waits {
                        let charge = u128::from(actual.max(1));
                        if owners[other].0 == owners[key].0 {
                            wait.siblings.insert((key, births[key]), weight_of(key));
                            wait.sibling_charges += charge;
                        } else {
                            wait.others.insert(owners[key].0);
                            wait.other_charges += charge;
                        }
                        wait.check(weight_of(other), slots as u128)?;
                    }
                }
                Move::Tune(setting) => {
                    scheduler.tune(device, setting.of(&fair(slots))).expect("in range");
                }
                Move::End(which) => {
                    if !flights.is_empty() {
                        let (id, _, actual) = flights.swap_remove(which % flights.len());
                        scheduler.charge(id, Units(actual)).expect("in flight");
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn whoever_has_waited_the_aging_goes_within_twice_those_before_it(
        order in prop::sample::select(vec![Order::Fsp, Order::Priority]),
        sizes in prop::collection::vec((1..U, 0..100_u64), 2..30), settings in settings()
    ) {
        let mut scheduler = Scheduler::new();
        let options = PoolOptions { order, ..PoolOptions::new(1) };
        let pool = scheduler.add_pool(options).expect("slots");
        for (key, &(size, number)) in sizes.iter().enumerate() {
            scheduler.admit(key, tenant(0), priority(number)).expect("new");
            scheduler.wake(&key, pool, Units(size), Duration::ZERO).expect("known");
        }
        let now = options.aging;
        for decision in 1..=2 * sizes.len() {
            if let Some(setting) = settings[decision % settings.len()] {
                scheduler.tune(pool, setting.of(&options)).expect("in range");
            }
            let dispatch = scheduler.pick(now).expect("someone waits");
            scheduler.charge(dispatch.id, Units(1)).expect("in flight");
            // A short and important one comes at every step.
            let comer = 1_000 + decision;
            scheduler.admit(comer, tenant(0), priority(0)).expect("new");
            scheduler.wake(&comer, pool, Units(1), now).expect("known");
            for key in 0..sizes.len() {
                let is_due = 2 * (key + 1) <= decision;
                prop_assert!(!is_due || scheduler.waiting(&key).is_none(), "{key} at {decision}");
            }
        }
    }
}
