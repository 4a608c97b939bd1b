//! The watchman: looks now and then whether somebody does nothing and does not say why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aosk_abi::{Pid, Seq};
use futures::future::join_all;
use tokio::time::{sleep, timeout};

use super::world::{Machine, World};
use crate::promise::Promise;

/// Between two rounds. Whatever a kernel can do without waiting for the world takes no time at all
/// here, so two rounds that see the same see somebody who waits.
const ROUND: Duration = Duration::from_secs(2);

/// Of a process that the kernel does not have in memory, the store answers in this time.
const LOOK: Duration = Duration::from_millis(100);

/// After so many rounds nothing is on its way any more that could end a circle of waits: a disk that
/// is full is full for a minute.
const ROUNDS: u32 = 60;

/// Walks its rounds until it is dropped. Where two machines run, either may have the process.
pub(super) async fn walk(world: &World, machine: &Machine) -> std::convert::Infallible {
    let (mut idle, mut told) = (BTreeMap::new(), BTreeSet::new());
    let mut circles = BTreeMap::<Vec<(Pid, Seq)>, u32>::new();
    loop {
        sleep(ROUND).await;
        if world.witness.machines_at_once() > 1 {
            continue;
        }
        let seen = world.auditor.circles().into_iter();
        let again = |circle| {
            let rounds = circles.get(&circle).map_or(1, |rounds| rounds + 1);
            (circle, rounds)
        };
        circles = seen.map(again).collect();
        for (circle, _) in circles.iter().filter(|(_, rounds)| **rounds == ROUNDS) {
            let what = format!("nobody is told of a circle of waits: {circle:?}");
            world.witness.accuse(None, Promise::Ends, what);
        }
        let all = world.agents().map(World::pid).chain(world.auditor.children());
        let looks = all.map(|pid| unexplained(world, machine, pid));
        let now: BTreeMap<Pid, Seq> = join_all(looks).await.into_iter().flatten().collect();
        for (pid, next) in &now {
            if idle.get(pid) == Some(next) && told.insert((*pid, *next)) {
                let what = format!("does nothing since event {next} and says nothing of it");
                world.witness.accuse(Some(*pid), Promise::Waits, what);
            }
        }
        idle = now;
    }
}

/// Where the journal of a process ends that runs, does nothing and does not say why.
async fn unexplained(world: &World, machine: &Machine, pid: Pid) -> Option<(Pid, Seq)> {
    let runs = timeout(LOOK, machine.kernel.wait(pid)).await.is_err();
    // Where all places in memory are taken, a process may wait for one.
    let waits = machine.store.is_busy(pid)
        || world.auditor.unborn(pid).into_iter().any(|child| machine.store.is_busy(child))
        || machine.eye.says_why_it_waits(pid)
        || machine.kernel.residents() >= machine.resident;
    let next = if runs && !waits { world.auditor.unexplained(pid) } else { None };
    next.map(|next| (pid, next))
}
