//! Slots, pauses and bad calls against a plain model: counts, times and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aosk_abi::{Priority, Tenant};
use aosk_scheduler::{DispatchId, Error, Load, PoolId, PoolOptions, Scheduler, Settled, Units};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Move {
    Admit(u8),
    Remove(u8),
    Wake(u8, usize),
    Block(u8),
    Pick,
    Charge(usize, u64),
    ChargeAgain(usize),
    Slots(usize, usize),
    Pause(usize, u64),
    Later(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let key = || 0..12_u8;
    let device = || 0..3_usize;
    prop::collection::vec(
        prop_oneof![
            2 => key().prop_map(Move::Admit),
            1 => key().prop_map(Move::Remove),
            4 => (key(), device()).prop_map(|(key, device)| Move::Wake(key, device)),
            1 => key().prop_map(Move::Block),
            4 => Just(Move::Pick),
            3 => (any::<usize>(), any::<u64>()).prop_map(|(at, units)| Move::Charge(at, units)),
            1 => any::<usize>().prop_map(Move::ChargeAgain),
            1 => (device(), 0..4_usize).prop_map(|(device, slots)| Move::Slots(device, slots)),
            1 => (device(), 0..200_u64).prop_map(|(device, until)| Move::Pause(device, until)),
            1 => (0..20_u64).prop_map(Move::Later),
        ],
        1..300,
    )
}

#[derive(Default)]
struct Model {
    now: u64,
    devices: Vec<Load>,
    /// Each process and what it waits for.
    processes: BTreeMap<u8, Option<PoolId>>,
    flights: Vec<(DispatchId, PoolId)>,
    ended: Vec<DispatchId>,
}

impl Model {
    fn is_wanted(load: &Load) -> bool {
        load.waiting > 0 && load.in_flight < load.slots
    }

    fn settle_waiting(&mut self) {
        for (index, load) in self.devices.iter_mut().enumerate() {
            let waits = |device: &&Option<PoolId>| device.is_some_and(|it| it.index() == index);
            load.waiting = self.processes.values().filter(waits).count();
        }
    }

    /// Expects `result` to be what the model says; a refused call must change nothing.
    fn expect(
        before: &Scheduler<u8>,
        after: &Scheduler<u8>,
        result: Result<(), Error>,
        expected: Result<(), Error>,
    ) -> Result<bool, TestCaseError> {
        prop_assert_eq!(&result, &expected);
        prop_assert!(result.is_ok() || before == after, "a refused call changed something");
        Ok(result.is_ok())
    }
}

fn check(scheduler: &Scheduler<u8>, ids: &[PoolId], model: &Model) -> Result<(), TestCaseError> {
    let now = Duration::from_secs(model.now);
    for (&id, load) in ids.iter().zip(&model.devices) {
        prop_assert_eq!(scheduler.load(id), Ok(*load));
    }
    for key in 0..12 {
        let waits = model.processes.get(&key).copied().flatten();
        prop_assert_eq!(scheduler.waiting(&key), waits);
    }
    let opens = model.devices.iter().filter(|load| Model::is_wanted(load)).map(|it| it.opens_at);
    prop_assert_eq!(scheduler.next_wakeup(now), opens.filter(|at| *at > now).min());
    Ok(())
}

fn unknown(key: u8) -> Error {
    Error::UnknownProcess(key.to_string())
}

proptest! {
    #[test]
    fn no_call_beyond_the_slots_none_held_back_and_each_slot_freed_once(moves in moves()) {
        let mut scheduler: Scheduler<u8> = Scheduler::new();
        let ids = [2, 1].map(|slots| scheduler.add_pool(PoolOptions::new(slots)).expect("slots"));
        let stranger = {
            let mut other: Scheduler<u8> = Scheduler::new();
            [1, 1, 1].map(|slots| other.add_pool(PoolOptions::new(slots)).expect("slots"))[2]
        };
        let id_of = |device: usize| ids.get(device).copied().unwrap_or(stranger);
        let mut model = Model::default();
        for id in ids {
            model.devices.push(scheduler.load(id).expect("known"));
        }
        for step in moves {
            let before = scheduler.clone();
            match step {
                Move::Admit(key) => {
                    let tenant: Tenant = format!("t{}", key % 3).parse().expect("a name");
                    let expected = match model.processes.contains_key(&key) {
                        true => Err(Error::AlreadyAdmitted(key.to_string())),
                        false => Ok(()),
                    };
                    let result = scheduler.admit(key, tenant, Priority::DEFAULT);
                    if Model::expect(&before, &scheduler, result, expected)? {
                        model.processes.insert(key, None);
                    }
                }
                Move::Remove(key) => {
                    let expected = model.processes.remove(&key).map(drop).ok_or(unknown(key));
                    let result = scheduler.remove(&key);
                    Model::expect(&before, &scheduler, result, expected)?;
                }
                Move::Wake(key, device) => {
                    let id = id_of(device);
                    let expected = match model.processes.get(&key) {
                        None => Err(unknown(key)),
                        Some(Some(waits)) => {
                            Err(Error::AlreadyWaiting { key: key.to_string(), pool: *waits })
                        }
                        Some(None) if id == stranger => Err(Error::UnknownPool(id)),
                        Some(None) => Ok(()),
                    };
                    let result = scheduler.wake(&key, id, Units(10), Duration::from_secs(model.now));
                    if Model::expect(&before, &scheduler, result, expected)? {
                        model.processes.insert(key, Some(id));
                    }
                }
                Move::Block(key) => {
                    let waits = model.processes.get_mut(&key).ok_or(unknown(key));
                    let expected = waits.map(|waits| *waits = None);
                    let result = scheduler.block(&key);
                    Model::expect(&before, &scheduler, result, expected)?;
                }
                Move::Pick => {
                    let now = Duration::from_secs(model.now);
                    let open: BTreeSet<usize> = (0..ids.len())
                        .filter(|&index| Model::is_wanted(&model.devices[index]))
                        .filter(|&index| model.devices[index].opens_at <= now)
                        .collect();
                    let Some(dispatch) = scheduler.pick(now) else {
                        prop_assert!(open.is_empty(), "{open:?} stood idle");
                        continue;
                    };
                    prop_assert!(open.contains(&dispatch.pool.index()), "{dispatch:?}");
                    let waits = model.processes.insert(dispatch.key, None).flatten();
                    prop_assert_eq!(waits, Some(dispatch.pool), "it waited for another device");
                    model.devices[dispatch.pool.index()].in_flight += 1;
                    model.flights.push((dispatch.id, dispatch.pool));
                }
                Move::Charge(which, units) => {
                    if !model.flights.is_empty() {
                        let which = which % model.flights.len();
                        let (id, device) = model.flights.swap_remove(which);
                        prop_assert_eq!(scheduler.charge(id, Units(units)), Ok(Settled::Exactly));
                        model.devices[device.index()].in_flight -= 1;
                        model.ended.push(id);
                    }
                }
                Move::ChargeAgain(which) => {
                    if !model.ended.is_empty() {
                        let id = model.ended[which % model.ended.len()];
                        prop_assert_eq!(scheduler.charge(id, Units(7)), Ok(Settled::Again));
                        prop_assert_eq!(&before, &scheduler, "settled twice");
                    }
                }
                Move::Slots(device, slots) => {
                    let expected = match model.devices.get_mut(device) {
                        _ if slots == 0 => Err(Error::NoSlots),
                        None => Err(Error::UnknownPool(stranger)),
                        Some(load) => {
                            (load.slots, load.depth) = (slots, slots);
                            Ok(())
                        }
                    };
                    let result = scheduler.set_slots(id_of(device), slots);
                    Model::expect(&before, &scheduler, result, expected)?;
                }
                Move::Pause(device, until) => {
                    let until = Duration::from_secs(until);
                    let expected = match model.devices.get_mut(device) {
                        None => Err(Error::UnknownPool(stranger)),
                        Some(load) => {
                            load.opens_at = load.opens_at.max(until);
                            Ok(())
                        }
                    };
                    let result = scheduler.pause(id_of(device), until);
                    Model::expect(&before, &scheduler, result, expected)?;
                }
                Move::Later(seconds) => model.now += seconds,
            }
            model.settle_waiting();
            check(&scheduler, &ids, &model)?;
        }
        for (id, _) in model.flights {
            scheduler.charge(id, Units(1)).expect("in flight");
        }
        for id in ids {
            prop_assert_eq!(scheduler.load(id).map(|load| load.in_flight), Ok(0));
        }
    }
}

#[test]
fn a_pause_ends_at_its_time_and_is_never_shortened() {
    let mut scheduler = Scheduler::new();
    let device = scheduler.add_pool(PoolOptions::new(1)).expect("a slot");
    scheduler.admit(1, Tenant::local(), Priority::DEFAULT).expect("new");
    scheduler.wake(&1, device, Units(10), Duration::ZERO).expect("known");
    let second = Duration::from_secs(1);
    scheduler.pause(device, 5 * second).expect("known");
    scheduler.pause(device, 3 * second).expect("known");
    let just_before = 5 * second - Duration::from_nanos(1);
    assert!(scheduler.pick(just_before).is_none());
    assert_eq!(scheduler.next_wakeup(just_before), Some(5 * second));
    assert_eq!(scheduler.next_wakeup(5 * second), None);
    assert!(scheduler.pick(5 * second).is_some());
}

#[test]
fn a_device_without_slots_and_a_foreign_call_are_refused() {
    let mut scheduler: Scheduler<u8> = Scheduler::new();
    assert_eq!(scheduler.add_pool(PoolOptions::new(0)), Err(Error::NoSlots));
    let mut other = Scheduler::new();
    let device = other.add_pool(PoolOptions::new(1)).expect("a slot");
    other.admit(1, Tenant::local(), Priority::DEFAULT).expect("new");
    other.wake(&1, device, Units(1), Duration::ZERO).expect("known");
    let id = other.pick(Duration::ZERO).expect("a free slot").id;
    assert_eq!(scheduler.charge(id, Units(1)), Err(Error::UnknownDispatch(id)));
}

#[test]
fn a_storm_of_a_hundred_thousand_wakes_loses_nobody_and_gives_each_one_call() {
    const MANY: u32 = 100_000;
    let mut scheduler = Scheduler::new();
    let pool = scheduler.add_pool(PoolOptions::new(64)).expect("slots");
    for key in 0..MANY {
        let tenant: Tenant = format!("t{}", key % 1_000).parse().expect("a name");
        scheduler.admit(key, tenant, Priority::DEFAULT).expect("new");
    }
    // Twice: whoever has slept wakes like whoever comes.
    for storm in 1..=2_u64 {
        let now = Duration::from_secs(storm);
        for key in 0..MANY {
            scheduler.wake(&key, pool, Units(u64::from(key % 7) + 1), now).expect("known");
        }
        assert_eq!(scheduler.load(pool).expect("known").waiting, MANY as usize);
        let mut called = vec![0_u8; MANY as usize];
        let mut flights = Vec::new();
        loop {
            while let Some(dispatch) = scheduler.pick(now) {
                called[dispatch.key as usize] += 1;
                flights.push(dispatch.id);
            }
            assert!(flights.len() <= 64);
            if flights.is_empty() {
                break;
            }
            for id in flights.drain(..) {
                scheduler.charge(id, Units(5)).expect("in flight");
            }
        }
        assert!(called.iter().all(|calls| *calls == 1), "storm {storm}");
        let load = scheduler.load(pool).expect("known");
        assert_eq!((load.waiting, load.in_flight), (0, 0));
    }
}
