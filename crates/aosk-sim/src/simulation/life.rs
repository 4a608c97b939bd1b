//! One life of a machine: it boots, recovers, tends its agents, and ends.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::Duration;

use aosk_abi::{BlockedOn, Code, MicroDollars, Pid};
use aosk_kernel::{Error, Outcome, Stop};
use aosk_ports::{Inbox as _, Journal as _, ProcessFilter};
use futures::FutureExt as _;
use futures::future::{join, join_all, pending};
use tokio::time::{Instant, sleep, timeout};

use super::meddler::Meddler;
use super::watchman::walk;
use super::world::{Machine, World};
use crate::dice::Dice;
use crate::faults::FaultPlan;
use crate::power::Power;
use crate::promise::Promise;

/// A machine that has not brought its agents to their ends in this virtual time never will: the
/// longest calls take minutes.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How long the kernel may take to stop gracefully: calls in flight get 4 s, and the disk its time.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// A message that waits for a process that has ended continues it; by then it has.
const LULL: Duration = Duration::from_secs(1);
/// A kernel that is told what is posted takes it up at once, and one that is not looks four times a
/// second; a stalled disk takes its time.
const HEARD_WITHIN: Duration = Duration::from_secs(120);
/// For how long somebody meddles with the last machine of all.
const MEDDLING: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
/// A life that touches the world so often goes in circles: of 1,000 worlds the busiest life did so
/// 90,175 times.
const ENDLESS: u64 = 400_000;
/// Of a process that rests the kernel says so in this time.
const MOMENT: Duration = Duration::from_millis(100);
/// How long is waited before a store that failed is tried again.
const BREATH: Duration = Duration::from_secs(10);
/// The longest fuses are of two to this many touches; half of all lives have fewer than 500.
const LONGEST_FUSE: u64 = 11;

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Every process has ended.
    Done,
    /// The power went.
    Cut(&'static str),
    /// The kernel was stopped.
    Stopped(Stop),
    /// Nothing more happens, or the same again and again, and not every process has ended.
    Stuck,
}

/// Lives the life of that number, from 1. An immortal one ends only when everything has. How it
/// ended, and how often it touched the world.
pub(super) async fn live(
    world: &World,
    before: Duration,
    faults: &FaultPlan,
    life: u32,
) -> Result<(Ending, u64), Error> {
    let mut dice = Dice::keyed(world.seed, "life", &life.to_le_bytes());
    let power = power(world, &mut dice, life);
    world.witness.begin(&power);
    let mortal = world.scenario.is_mortal(life);
    let mut machine = world.boot(before, faults, power, mortal)?;
    let end = machine.dice.time(&world.scenario.lifetime);
    let way = machine.dice.below(5);
    let timed = mortal && world.scenario.script.is_none();
    let meddling = (!mortal).then(|| Instant::now() + machine.dice.time(&MEDDLING));
    let ending = match until(world, &machine, timed.then_some(end), meddling).await {
        Some(ending) => ending,
        None => match way {
            0 => stop(world, &machine, Stop::Graceful).await,
            1 => stop(world, &machine, Stop::Now).await,
            2 | 3 => usurped(world, &machine, before, faults).await?,
            _ => cut(&machine),
        },
    };
    let ending = if machine.power.touches() >= ENDLESS { Ending::Stuck } else { ending };
    world.witness.note(None, format!("ends: {ending:?}"));
    // The program is gone: what it had queued is not written any more.
    machine.power.cut("switched off");
    Ok((ending, machine.power.touches()))
}

/// The power of a life; where it has a fuse, short ones are as likely as long ones.
fn power(world: &World, dice: &mut Dice, life: u32) -> Power {
    let scenario = &world.scenario;
    let mortal = scenario.is_mortal(life);
    let fuse = match &scenario.script {
        Some(script) => script.get(life as usize - 1).copied(),
        None => {
            let length = 1 << dice.below(LONGEST_FUSE + 1);
            let fuse = 1 + dice.below(length);
            (mortal && dice.hits(scenario.fuse)).then_some(fuse)
        }
    };
    Power::fused(fuse.unwrap_or(ENDLESS))
}

/// Works until the machine's end, or until its time is over; `None` then. Somebody outside meddles
/// until `meddling`, or all the time.
async fn until(
    world: &World,
    machine: &Machine,
    time: Option<Duration>,
    meddling: Option<Instant>,
) -> Option<Ending> {
    let meddler = Meddler::new(world, machine).meddle(machine, meddling);
    let tended = async {
        match meddling {
            None => tokio::select! {
                biased;
                () = work(world, machine) => {}
                () = meddler => {}
            },
            Some(_) => {
                join(work(world, machine), meddler).await;
                // What came last may have brought somebody back.
                work(world, machine).await;
            }
        }
    };
    tokio::select! {
        biased;
        why = machine.power.out() => Some(Ending::Cut(why)),
        () = sleep(time.unwrap_or(PATIENCE)) => time.is_none().then_some(Ending::Stuck),
        () = tended => Some(Ending::Done),
        never = walk(world, machine) => match never {},
    }
}

/// Another machine takes over while this one does not know: nobody tells it to stop, and it goes
/// on until the fencing of its writes does. The power of both ends it.
async fn usurped(
    world: &World,
    rival: &Machine,
    before: Duration,
    faults: &FaultPlan,
) -> Result<Ending, Error> {
    let mut machine = world.usurp(rival, before, faults)?;
    let end = machine.dice.time(&world.scenario.lifetime);
    let ending = until(world, &machine, Some(end), None).await;
    Ok(ending.unwrap_or_else(|| cut(&machine)))
}

fn cut(machine: &Machine) -> Ending {
    let why = "at a random moment";
    machine.power.cut(why);
    Ending::Cut(why)
}

/// Recovers, and tends everybody until all have ended, and nothing brings one of them back.
async fn work(world: &World, machine: &Machine) {
    if let Err(error) = machine.kernel.recover().await {
        tolerate(world, None, &error);
    }
    tokio::select! {
        biased;
        () = tend_all(world, machine) => {}
        never = nurse(world, machine) => match never {},
    }
}

async fn tend_all(world: &World, machine: &Machine) {
    let mut idle = None;
    loop {
        let agents = world.agents().map(|agent| (World::pid(agent), Some(agent)));
        join_all(agents.map(|(pid, agent)| tend(world, machine, pid, agent))).await;
        let children = world.auditor.children().into_iter();
        join_all(children.map(|pid| tend(world, machine, pid, None))).await;
        sleep(LULL).await;
        let tenant = &world.tenant;
        let unfinished = machine.store.processes(tenant, ProcessFilter::Unfinished).await;
        let none = unfinished.is_ok_and(|unfinished| unfinished.is_empty());
        if !none || machine.kernel.residents() > 0 {
            idle = None;
            continue;
        }
        let since = idle.get_or_insert_with(Instant::now);
        if !machine.adopts || since.elapsed() >= HEARD_WITHIN || all_heard(world, machine) {
            return;
        }
    }
}

/// Whether nothing waits in the inbox that could be taken. Where the kernel gave an addressee up
/// and said so, somebody asks it to try again.
fn all_heard(world: &World, machine: &Machine) -> bool {
    let addressees = world.auditor.addressees();
    for &pid in &addressees {
        let said = machine.kernel.wait(pid).now_or_never().flatten();
        if let Some(Outcome::Broken { code, .. }) = said
            && weather(world, code)
        {
            machine.kernel.attend(pid);
        }
    }
    addressees.is_empty()
}

/// Brings one process to its end, whatever the store says meanwhile: that agent, or one that another
/// began, which also spawns it.
async fn tend(world: &World, machine: &Machine, pid: Pid, agent: Option<usize>) {
    loop {
        match machine.store.process(&world.tenant, pid).await {
            Ok(Some(receipt)) if receipt.row.state.is_final() => return,
            Ok(found) => {
                let begun = match machine.kernel.wait(pid).await {
                    // Nobody could be asked whether it is there.
                    Some(Outcome::Broken { .. }) if found.is_none() => {
                        sleep(BREATH).await;
                        Ok(())
                    }
                    None if found.is_none() => match agent {
                        Some(agent) => spawn(world, machine, agent).await,
                        None => return,
                    },
                    None => machine.kernel.resume(pid, None).await,
                    Some(outcome) => go_on(world, machine, pid, outcome).await,
                };
                if let Err(error) = begun {
                    tolerate(world, Some(pid), &error);
                    sleep(BREATH).await;
                }
            }
            Err(error) => {
                tolerate(world, Some(pid), &error.into());
                sleep(BREATH).await;
            }
        }
    }
}

/// Brings those on who were begun by others, one after the other, while somebody may wait for them.
async fn nurse(world: &World, machine: &Machine) -> Infallible {
    loop {
        for pid in world.auditor.children() {
            let there = machine.store.process(&world.tenant, pid).await;
            // Those that are to be born yet are brought in by whoever began them.
            if !there.is_ok_and(|there| there.is_some_and(|there| !there.row.state.is_final())) {
                continue;
            }
            let begun = match timeout(MOMENT, machine.kernel.wait(pid)).await {
                Err(_) => Ok(()),
                Ok(None) => machine.kernel.resume(pid, None).await,
                Ok(Some(outcome)) => go_on(world, machine, pid, outcome).await,
            };
            if let Err(error) = begun {
                tolerate(world, Some(pid), &error);
            }
        }
        sleep(BREATH).await;
    }
}

async fn spawn(world: &World, machine: &Machine, agent: usize) -> Result<(), Error> {
    match world.spawn(agent) {
        Ok(request) => match machine.kernel.spawn(request).await {
            // Two machines found that it was not there, and the other one was faster.
            Err(error)
                if error.code() == Code::StoreConflict && world.witness.machines_at_once() > 1 =>
            {
                Ok(())
            }
            begun => begun.map(drop),
        },
        Err(error) => {
            let what = format!("the manifest of agent {agent}: {error}");
            world.witness.accuse(None, Promise::Explained, what);
            pending().await
        }
    }
}

/// Goes on with a process that the kernel let go of.
async fn go_on(world: &World, machine: &Machine, pid: Pid, outcome: Outcome) -> Result<(), Error> {
    world.witness.note(Some(pid), format!("the kernel lets go: {outcome:?}"));
    match outcome {
        Outcome::Parked(BlockedOn::Quota { spent, needed, .. }) => {
            if machine.capped {
                // It may be the machine's own limit, which nobody raises.
                sleep(BREATH).await;
            }
            let raised = MicroDollars(spent.0.saturating_mul(2)) + needed;
            machine.kernel.resume(pid, Some(raised)).await
        }
        // What others reserved of the budget may have come back.
        Outcome::Suspended
        | Outcome::Parked(BlockedOn::Review { .. } | BlockedOn::Limit { .. }) => {
            sleep(BREATH).await;
            machine.kernel.resume(pid, None).await
        }
        // The life is about to end.
        Outcome::Stopped => pending().await,
        Outcome::Broken { code, message } => {
            if !weather(world, code) {
                let what = format!("given up with {code}: {message}");
                world.witness.accuse(Some(pid), broken_by(code), what);
            }
            sleep(BREATH).await;
            machine.kernel.resume(pid, None).await
        }
        Outcome::Exited(_) => match machine.store.process(&world.tenant, pid).await? {
            Some(receipt) if receipt.row.state.is_final() => Ok(()),
            // A message came, and the other machine goes on with it.
            Some(_) if world.witness.machines_at_once() > 1 => {
                sleep(BREATH).await;
                Ok(())
            }
            _ => {
                world.witness.accuse(Some(pid), Promise::Acknowledged, "ended, and has not");
                pending().await
            }
        },
        // Those for whom it waits rest.
        Outcome::Parked(BlockedOn::Child { .. }) => {
            sleep(BREATH).await;
            Ok(())
        }
        // Nobody is left who could send it one.
        Outcome::Parked(BlockedOn::Message { .. }) => {
            let id = machine.store.post(&world.tenant, pid, world.urge()).await?;
            world.auditor.told_posted(pid, id);
            sleep(BREATH).await;
            Ok(())
        }
        Outcome::Parked(_) => {
            let what = format!("let go of as {outcome:?}");
            world.witness.accuse(Some(pid), Promise::Explained, what);
            pending().await
        }
    }
}

/// Stops the kernel and waits until it has stopped.
async fn stop(world: &World, machine: &Machine, how: Stop) -> Ending {
    let began = Instant::now();
    machine.kernel.stop(how);
    tokio::select! {
        biased;
        why = machine.power.out() => return Ending::Cut(why),
        () = machine.kernel.quiet() => {}
        () = sleep(PATIENCE) => return Ending::Stuck,
    }
    let took = began.elapsed();
    let stalled = world.disk.with(|platter| platter.stalled_since(began));
    if took > STOP_WITHIN && !stalled {
        let what = format!("stopped only after {} ms", took.as_millis());
        world.witness.accuse(None, Promise::Stops, what);
    }
    Ending::Stopped(how)
}

/// Whether a faulty disk or wire explains the error, or another machine that took the process over.
fn weather(world: &World, code: Code) -> bool {
    match code {
        Code::StoreFull | Code::StoreIo => true,
        Code::LlmUnreachable => world.scenario.spare,
        Code::StoreStaleEpoch => world.witness.machines_at_once() > 1,
        _ => false,
    }
}

/// The promise that an error breaks which nothing explains.
pub(super) const fn broken_by(code: Code) -> Promise {
    match code {
        Code::ChainBroken => Promise::Chain,
        _ => Promise::Explained,
    }
}

/// Notes an error that somebody was answered with, and accuses whoever has no excuse for it.
pub(super) fn tolerate(world: &World, pid: Option<Pid>, error: &Error) {
    world.witness.note(pid, format!("error: {error}"));
    let races = matches!(error.code(), Code::KernelNotResumable | Code::KernelStopping);
    if !weather(world, error.code()) && !races {
        world.witness.accuse(pid, broken_by(error.code()), error.to_string());
    }
}
