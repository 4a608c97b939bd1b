//! Everything at once, at random: trees, weights, quotas that change, estimates off by a hundred,
//! cancelled and killed calls, refusals, and a clock that jumps both ways.

use std::collections::BTreeMap;
use std::time::Duration;

use aosk_abi::{MicroDollars, Priority, Tokens};
use aosk_scheduler::{
    Amounts, Class, DispatchId, Guess, Knobs, Order, Owner, Place, PoolId, PoolOptions, Quota,
    Scheduler, Slice, Step, Units, Used, Wait, Weight,
};
use proptest::prelude::*;

use crate::machine::{MINUTE, money, per_minute, tenant};

#[derive(Debug, Clone)]
enum Move {
    Wake {
        who: usize,
        pool: usize,
        estimate: u64,
        output: u64,
        money: u64,
    },
    Block(usize),
    Restart(usize),
    Pick,
    /// A hundredth of the estimate to a hundred times as much.
    End {
        which: usize,
        hundredths: u64,
    },
    Refuse {
        which: usize,
    },
    Later(u64),
    Earlier(u64),
    Weigh(usize, u32),
    Renice(usize, u64),
    Tune {
        pool: usize,
        depth_percent: u8,
        window: u64,
        aging: u64,
    },
    Limit {
        who: usize,
        output: u64,
        money: u64,
        calls: u32,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let any = any::<usize>;
    prop::collection::vec(
        prop_oneof![
            8 => (any(), any(), 0..500_u64, 0..20_u64, 0..20_u64).prop_map(
                |(who, pool, estimate, output, money)| {
                    Move::Wake { who, pool, estimate, output, money }
                }
            ),
            1 => any().prop_map(Move::Block),
            1 => any().prop_map(Move::Restart),
            8 => Just(Move::Pick),
            6 => (any(), prop_oneof![Just(1), 50..200_u64, Just(10_000)])
                .prop_map(|(which, hundredths)| Move::End { which, hundredths }),
            1 => any().prop_map(|which| Move::Refuse { which }),
            2 => (0..30_000_u64).prop_map(Move::Later),
            1 => (0..30_000_u64).prop_map(Move::Earlier),
            1 => (any(), 1..1_000_u32).prop_map(|(who, weight)| Move::Weigh(who, weight)),
            1 => (any(), 0..100_u64).prop_map(|(who, number)| Move::Renice(who, number)),
            1 => (any(), 1..=100_u8, 0..=50_u64, 0..=30_u64).prop_map(
                |(pool, depth_percent, window, aging)| {
                    Move::Tune { pool, depth_percent, window, aging }
                }
            ),
            1 => (any(), 20..60_u64, 20..60_u64, 1..4_u32).prop_map(
                |(who, output, money, calls)| Move::Limit { who, output, money, calls }
            ),
        ],
        1..400,
    )
}

struct Flight {
    id: DispatchId,
    key: usize,
    output: u64,
    money: u64,
    estimate: u64,
}

/// Every third is a root, its next the child of that, and the third the child of the second.
fn above(key: usize) -> Vec<(usize, Quota)> {
    (key - key % 3..key).rev().map(|key| (key, Quota::default())).collect()
}

struct World {
    scheduler: Scheduler<usize>,
    pools: Vec<PoolId>,
    places: Vec<Place>,
    owners: Vec<Owner<usize>>,
    now: u64,
    flights: Vec<Flight>,
    /// What each owner may spend in all, and what of its calls is spent or in flight.
    budgets: Vec<Option<u64>>,
    gone: Vec<u64>,
}

impl World {
    fn new(order: Order, places: &[(usize, usize, bool, u64)]) -> Self {
        let mut scheduler = Scheduler::new();
        let slice = Slice { steps: 2, time: MINUTE };
        let options = PoolOptions { order, slice, window: Units(50), ..PoolOptions::new(3) };
        let pools = vec![
            scheduler.add_pool(options).expect("slots"),
            scheduler.add_pool(PoolOptions { slots: 1, ..options }).expect("slots"),
        ];
        let places: Vec<Place> = places
            .iter()
            .map(|&(owner, group, is_system, priority)| Place {
                tenant: tenant(["a", "b", "c"][owner]),
                group: ["", "g"][group].to_owned(),
                class: if is_system { Class::System } else { Class::Normal },
                priority: Priority::new(priority).expect("0 to 99"),
            })
            .collect();
        for (key, place) in places.iter().enumerate() {
            scheduler.admit_under(key, place, &above(key)).expect("new");
        }
        let mut owners: Vec<Owner<usize>> =
            ["a", "b", "c"].map(|it| Owner::Tenant(tenant(it))).into();
        owners.push(Owner::Group(tenant("a"), "g".into()));
        owners.push(Owner::Pool(pools[0]));
        owners.extend((0..places.len().min(2)).map(Owner::Process));
        let (budgets, gone) = (vec![None; owners.len()], vec![0; owners.len()]);
        Self { scheduler, pools, places, owners, now: 0, flights: Vec::new(), budgets, gone }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn owns(&self, owner: usize, key: usize, pool: PoolId) -> bool {
        let place = &self.places[key];
        match &self.owners[owner] {
            Owner::Tenant(name) => *name == place.tenant,
            Owner::Group(tenant, name) => *tenant == place.tenant && *name == place.group,
            Owner::Pool(id) => *id == pool,
            Owner::Process(other) => {
                *other == key || above(key).iter().any(|above| above.0 == *other)
            }
        }
    }

    fn pick(&mut self, steps: &BTreeMap<usize, (u64, u64, u64)>) -> Option<PoolId> {
        let dispatch = self.scheduler.pick(self.now())?;
        let (estimate, output, money) = steps[&dispatch.key];
        for owner in 0..self.owners.len() {
            // Only what began under a budget counts towards it.
            if self.budgets[owner].is_some() && self.owns(owner, dispatch.key, dispatch.pool) {
                self.gone[owner] += money;
            }
        }
        let key = dispatch.key;
        self.flights.push(Flight { id: dispatch.id, key, output, money, estimate });
        Some(dispatch.pool)
    }

    fn end(&mut self, which: usize, hundredths: u64) {
        let flight = self.flights.swap_remove(which % self.flights.len());
        let (output, money) = (Tokens(flight.output / 2), MicroDollars(flight.money));
        let amounts = Some(Amounts { input: Tokens(0), output, money });
        let charge = Units(flight.estimate * hundredths / 100);
        self.scheduler.charge(flight.id, Used { charge, amounts }).expect("in flight");
    }

    fn step(&mut self, step: Move, steps: &mut BTreeMap<usize, (u64, u64, u64)>) {
        let key = |who: usize| who % self.places.len();
        match step {
            Move::Wake { who, pool, estimate, output, money } => {
                let (key, pool) = (key(who), self.pools[pool % 2]);
                let money = MicroDollars(money);
                let most = Amounts { input: Tokens(0), output: Tokens(output), money };
                let step = Step { estimate: Units(estimate), most, ..Step::default() };
                if self.scheduler.wake(&key, pool, step, self.now()).is_ok() {
                    steps.insert(key, (estimate, output, money.0));
                }
            }
            Move::Block(who) => self.scheduler.block(&key(who)).expect("known"),
            Move::Restart(who) => {
                let key = key(who);
                self.scheduler.remove(&key).expect("known");
                let (place, above) = (&self.places[key], above(key));
                self.scheduler.admit_under(key, place, &above).expect("removed");
            }
            Move::Pick => drop(self.pick(steps)),
            Move::End { which, hundredths } if !self.flights.is_empty() => {
                self.end(which, hundredths);
            }
            Move::Refuse { which } if !self.flights.is_empty() => {
                let flight = self.flights.swap_remove(which % self.flights.len());
                let until = self.now() + Duration::from_secs(1);
                self.scheduler.refused(flight.id, until).expect("in flight");
                // Nothing was spent; it is given back, which the model may leave out.
            }
            Move::End { .. } | Move::Refuse { .. } => {}
            Move::Later(millis) => self.now += millis,
            Move::Earlier(millis) => self.now = self.now.saturating_sub(millis),
            Move::Weigh(who, weight) => {
                let weight = Weight::new(weight).expect("a weight");
                let place = &self.places[key(who)];
                self.scheduler.weigh_tenant(&place.tenant, weight);
                self.scheduler.weigh_group(&place.tenant, &place.group, weight);
            }
            Move::Renice(who, number) => {
                let priority = Priority::new(number).expect("0 to 99");
                self.scheduler.renice(&key(who), priority).expect("known");
            }
            Move::Tune { pool, depth_percent, window, aging } => {
                let (window, aging) = (Units(window), Duration::from_secs(aging));
                let knobs = Knobs { depth_percent, window, aging, guess: Guess::Mean };
                self.scheduler.tune(self.pools[pool % 2], knobs).expect("in range");
            }
            Move::Limit { who, output, money: limit, calls } => {
                let owner = who % self.owners.len();
                // Money is only ever raised, so that what was let in before is within it.
                let limit = limit.max(self.budgets[owner].unwrap_or(0));
                self.budgets[owner] = Some(limit);
                let quota = Quota {
                    output: per_minute(output),
                    concurrency: Some(calls),
                    ..money(limit, None)
                };
                self.scheduler.set_quota(&self.owners[owner], quota, self.now()).expect("a quota");
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_overspent_nobody_starves_and_reservations_return_to_zero(
        order in prop::sample::select(vec![
            Order::Fsp, Order::Fair, Order::Fifo, Order::RoundRobin, Order::Priority,
        ]),
        places in prop::collection::vec((0..3_usize, 0..2_usize, any::<bool>(), 0..100_u64), 1..12),
        moves in moves()
    ) {
        let mut world = World::new(order, &places);
        let mut steps = BTreeMap::new();
        let mut refunds = vec![0; world.owners.len()];
        for step in moves {
            if let Move::Refuse { which } = step && !world.flights.is_empty() {
                let flight = &world.flights[which % world.flights.len()];
                let (key, money) = (flight.key, flight.money);
                for (owner, refund) in refunds.iter_mut().enumerate() {
                    // Of either pool: an upper bound of what came back.
                    *refund += u64::from(world.pools.iter().any(|pool| world.owns(owner, key, *pool))) * money;
                }
            }
            world.step(step, &mut steps);
            for (owner, id) in world.owners.iter().enumerate() {
                // The last of a family that has ended takes what it used with it.
                if matches!(id, Owner::Process(_)) && world.scheduler.usage(id).is_none() {
                    (world.budgets[owner], world.gone[owner], refunds[owner]) = (None, 0, 0);
                }
            }
            for (owner, budget) in world.budgets.iter().enumerate() {
                if let Some(budget) = budget {
                    let spent = world.gone[owner] - refunds[owner].min(world.gone[owner]);
                    prop_assert!(spent <= *budget, "{spent} of {budget}");
                }
            }
        }
        // With every quota lifted all who wait are served, in a bounded number of calls.
        for (id, quota) in world.owners.clone().iter().zip(std::iter::repeat(Quota::default())) {
            world.scheduler.set_quota(id, quota, world.now()).expect("a quota");
        }
        world.now += 10_000_000;
        let waiting = |world: &World| {
            (0..world.places.len()).filter(|key| world.scheduler.waiting(key).is_some()).count()
        };
        for _ in 0..=waiting(&world) {
            while world.pick(&steps).is_some() {}
            while !world.flights.is_empty() {
                world.end(0, 100);
            }
        }
        prop_assert_eq!(waiting(&world), 0);
        for (index, owner) in world.owners.iter().enumerate() {
            let (in_flight, money) = world.scheduler.usage(owner).unwrap_or_default();
            prop_assert_eq!(in_flight, 0);
            prop_assert!(money.0 <= world.gone[index], "{money} of {}", world.gone[index]);
        }
        for pool in &world.pools {
            let load = world.scheduler.load(*pool).expect("known");
            prop_assert_eq!((load.in_flight, load.waiting), (0, 0));
        }
        for key in 0..world.places.len() {
            prop_assert_eq!(world.scheduler.waits_for(&key), None::<Wait<usize>>);
        }
    }
}
