//! Calls in flight when their process ends, ties, and extreme charges.

use std::time::Duration;

use aosk_abi::{Priority, Tenant};
use aosk_scheduler::{DispatchId, PoolId, Scheduler, Units};

use crate::fair;

const TEN: Units = Units(10);

/// One device of one slot; processes of the first tenant are 1 to 9, of the second 11 to 19.
struct Machine {
    scheduler: Scheduler<u32>,
    device: PoolId,
}

impl Machine {
    fn new(keys: &[u32]) -> Self {
        let mut scheduler = Scheduler::new();
        let device = scheduler.add_pool(fair(1)).expect("a slot");
        let mut machine = Self { scheduler, device };
        for &key in keys {
            machine.start(key);
        }
        machine
    }

    fn start(&mut self, key: u32) {
        let tenant: Tenant = format!("t{}", key / 10).parse().expect("a name");
        self.scheduler.admit(key, tenant, Priority::DEFAULT).expect("new");
        self.scheduler.wake(&key, self.device, TEN, Duration::ZERO).expect("known");
    }

    fn pick(&mut self) -> (DispatchId, u32) {
        let dispatch = self.scheduler.pick(Duration::ZERO).expect("someone waits");
        (dispatch.id, dispatch.key)
    }

    /// Runs `calls` calls of 10 units of processes that go on at once; gives their order.
    fn run(&mut self, calls: usize) -> Vec<u32> {
        (0..calls)
            .map(|_| {
                let (id, key) = self.pick();
                self.scheduler.charge(id, TEN).expect("in flight");
                self.scheduler.wake(&key, self.device, TEN, Duration::ZERO).expect("known");
                key
            })
            .collect()
    }
}

#[test]
fn a_call_of_a_removed_process_holds_its_slot_and_is_not_charged_to_its_successor() {
    for actual in [Units(0), Units(100_000)] {
        let mut machine = Machine::new(&[1, 2]);
        let (id, key) = machine.pick();
        assert_eq!(key, 1);
        machine.scheduler.remove(&1).expect("known");
        assert!(machine.scheduler.pick(Duration::ZERO).is_none(), "the slot was given away");
        machine.start(1);
        machine.scheduler.charge(id, actual).expect("in flight");
        assert_eq!(machine.run(4), [1, 2, 1, 2], "the successor starts where the queue is");
    }
}

#[test]
fn a_tenant_cannot_wipe_its_debt_by_restarting_its_processes() {
    let mut machine = Machine::new(&[1, 11]);
    let (id, key) = machine.pick();
    assert_eq!(key, 1);
    machine.scheduler.remove(&1).expect("known");
    machine.scheduler.charge(id, Units(100)).expect("in flight");
    machine.start(1);
    let order = machine.run(12);
    assert_eq!(order.iter().position(|&key| key == 1), Some(10), "{order:?}");
}

#[test]
fn many_processes_get_their_tenant_no_more() {
    let mut machine = Machine::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
    let order = machine.run(1_000);
    assert_eq!(order.iter().filter(|&&key| key == 11).count(), 500);
}

#[test]
fn the_same_calls_give_the_same_order_and_ties_go_to_who_came_first() {
    let orders = [[1, 2, 11], [1, 2, 11], [2, 11, 1]].map(|keys| Machine::new(&keys).run(12));
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0][..4], [1, 11, 2, 11]);
    assert_eq!(orders[2][..4], [2, 11, 1, 11]);
}

#[test]
fn the_greatest_charges_neither_panic_nor_starve() {
    let mut machine = Machine::new(&[1, 2]);
    for _ in 0..10 {
        let (id, key) = machine.pick();
        machine.scheduler.charge(id, Units(u64::MAX)).expect("in flight");
        machine
            .scheduler
            .wake(&key, machine.device, Units(u64::MAX), Duration::ZERO)
            .expect("known");
    }
    // All have the same debt, and go on taking turns.
    assert_eq!(machine.run(4), [1, 2, 1, 2]);
}

#[test]
fn a_free_call_that_is_repeated_for_ever_starves_nobody() {
    let mut machine = Machine::new(&[1, 2]);
    let mut before = 0;
    loop {
        let (id, key) = machine.pick();
        if key == 2 {
            break;
        }
        machine.scheduler.charge(id, Units(0)).expect("in flight");
        machine.scheduler.wake(&1, machine.device, Units(0), Duration::ZERO).expect("known");
        before += 1;
        assert!(before <= 2, "process 2 waits since the start");
    }
}

#[test]
fn a_tenant_that_sleeps_saves_nothing_up_by_removing_processes() {
    let mut machine = Machine::new(&[1, 2, 3, 4, 5, 11]);
    machine.run(12);
    for key in 1..=5 {
        machine.scheduler.block(&key).expect("known");
    }
    for key in 1..=4 {
        machine.run(100);
        machine.scheduler.remove(&key).expect("known");
    }
    machine.scheduler.wake(&5, machine.device, TEN, Duration::ZERO).expect("known");
    let ahead = machine.run(50).iter().take_while(|&&key| key == 5).count();
    // Two calls that it left unused, the one that the other has just made, and the tie.
    assert_eq!(ahead, 4);
}
