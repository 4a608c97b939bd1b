//! One life of a machine: it boots, recovers, tends its agents, and ends.

use std::time::Duration;

use aosk_abi::{BlockedOn, Code, MicroDollars, Pid, Signal};
use aosk_kernel::{Error, Outcome, Stop};
use aosk_ports::{Inbox as _, InboxItem, Journal as _};
use futures::future::{join_all, pending};
use tokio::time::{Instant, sleep};

use super::world::{Machine, World};
use crate::dice::Dice;
use crate::faults::FaultPlan;

/// A machine that has not brought its agents to their ends in this virtual time never will: the
/// longest calls take minutes.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How long the kernel may take to stop gracefully: calls in flight get 4 s, and the disk its time.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long is waited before a store that failed is tried again.
const BREATH: Duration = Duration::from_secs(10);
/// How often somebody outside may meddle.
const MEDDLING: Duration = Duration::from_secs(2);

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Every process has ended.
    Done,
    /// The power went.
    Cut(&'static str),
    /// The kernel was stopped.
    Stopped(Stop),
    /// Nothing more happens, and not every process has ended.
    Stuck,
}

/// Lives one life. An immortal one ends only when everything has.
pub(super) async fn live(
    world: &World,
    before: Duration,
    faults: &FaultPlan,
    mortal: bool,
) -> Result<Ending, Error> {
    world.witness.begin();
    let mut machine = world.boot(before, faults)?;
    let end = machine.dice.time(&world.scenario.lifetime);
    let way = machine.dice.below(5);
    let ending = match until(world, &machine, mortal.then_some(end)).await {
        Some(ending) => ending,
        None => match way {
            0 => stop(world, &machine, Stop::Graceful).await,
            1 => stop(world, &machine, Stop::Now).await,
            2 | 3 => usurped(world, &machine, before, faults).await?,
            _ => cut(&machine),
        },
    };
    world.witness.note(None, format!("ends: {ending:?}"));
    // The program is gone: what it had queued is not written any more.
    machine.power.cut("switched off");
    Ok(ending)
}

/// Works until the machine's end, or until its time is over; `None` then.
async fn until(world: &World, machine: &Machine, time: Option<Duration>) -> Option<Ending> {
    let meddler = Meddler {
        dice: Dice::keyed(world.seed, "meddler", &machine.eye.machine.to_le_bytes()),
        world,
    };
    tokio::select! {
        biased;
        why = machine.power.out() => Some(Ending::Cut(why)),
        () = sleep(time.unwrap_or(PATIENCE)) => time.is_none().then_some(Ending::Stuck),
        () = work(world, machine) => Some(Ending::Done),
        () = meddler.meddle(machine), if time.is_some() => None,
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
    let ending = until(world, &machine, Some(end)).await;
    Ok(ending.unwrap_or_else(|| cut(&machine)))
}

fn cut(machine: &Machine) -> Ending {
    let why = "at a random moment";
    machine.power.cut(why);
    Ending::Cut(why)
}

/// Recovers, and tends every agent until it has ended.
async fn work(world: &World, machine: &Machine) {
    if let Err(error) = machine.kernel.recover().await {
        tolerate(world, None, &error);
    }
    join_all((0..world.scenario.agents).map(|agent| tend(world, machine, agent))).await;
}

/// Brings one agent to its end, whatever the store says meanwhile.
async fn tend(world: &World, machine: &Machine, agent: usize) {
    let pid = World::pid(agent);
    loop {
        match machine.store.process(&world.tenant, pid).await {
            Ok(Some(receipt)) if receipt.row.state.is_final() => return,
            Ok(found) => {
                let begun = match machine.kernel.wait(pid).await {
                    None if found.is_none() => spawn(world, machine, agent).await,
                    None => resume(machine, pid, None).await,
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

async fn spawn(world: &World, machine: &Machine, agent: usize) -> Result<(), Error> {
    match world.spawn(agent) {
        Ok(request) => machine.kernel.spawn(request).await.map(drop),
        Err(error) => {
            world.witness.accuse(None, format!("the manifest of agent {agent}: {error}"));
            pending().await
        }
    }
}

async fn resume(machine: &Machine, pid: Pid, raise: Option<MicroDollars>) -> Result<(), Error> {
    machine.eye.forget(pid);
    machine.kernel.resume(pid, raise).await
}

/// Goes on with a process that the kernel let go of.
async fn go_on(world: &World, machine: &Machine, pid: Pid, outcome: Outcome) -> Result<(), Error> {
    world.witness.note(Some(pid), format!("the kernel lets go: {outcome:?}"));
    match outcome {
        Outcome::Parked(BlockedOn::Quota { spent, needed, .. }) => {
            let raised = MicroDollars(spent.0.saturating_mul(2)) + needed;
            resume(machine, pid, Some(raised)).await
        }
        Outcome::Suspended => {
            sleep(BREATH).await;
            resume(machine, pid, None).await
        }
        // The life is about to end.
        Outcome::Stopped => pending().await,
        Outcome::Broken { code, message } => {
            if !weather(code) {
                world.witness.accuse(Some(pid), format!("given up with {code}: {message}"));
            }
            sleep(BREATH).await;
            resume(machine, pid, None).await
        }
        Outcome::Exited(_) => match machine.store.process(&world.tenant, pid).await? {
            Some(receipt) if receipt.row.state.is_final() => Ok(()),
            _ => {
                world.witness.accuse(Some(pid), "is said to have ended and has not");
                pending().await
            }
        },
        Outcome::Parked(_) => {
            world.witness.accuse(Some(pid), format!("let go of as {outcome:?}"));
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
        _ = machine.kernel.quiet() => {}
        () = sleep(PATIENCE) => return Ending::Stuck,
    }
    let took = began.elapsed();
    if took > STOP_WITHIN {
        world.witness.accuse(None, format!("stopped only after {} ms", took.as_millis()));
    }
    Ending::Stopped(how)
}

/// Errors that a faulty disk explains.
fn weather(code: Code) -> bool {
    matches!(code, Code::StoreFull | Code::StoreIo)
}

fn tolerate(world: &World, pid: Option<Pid>, error: &Error) {
    world.witness.note(pid, format!("error: {error}"));
    let races = matches!(error.code(), Code::KernelNotResumable | Code::KernelStopping);
    if !weather(error.code()) && !races {
        world.witness.accuse(pid, format!("an error that nothing explains: {error}"));
    }
}

/// Somebody outside who sends messages and signals.
struct Meddler<'a> {
    dice: Dice,
    world: &'a World,
}

impl Meddler<'_> {
    async fn meddle(mut self, machine: &Machine) {
        loop {
            sleep(MEDDLING).await;
            if !self.dice.hits(self.world.scenario.meddling) {
                continue;
            }
            let pid = World::pid(self.dice.index(self.world.scenario.agents));
            let item = match self.dice.below(20) {
                0 => InboxItem::Signal { signal: Signal::Kill },
                1..=4 => InboxItem::Signal { signal: Signal::Stop },
                5..=8 => InboxItem::Signal { signal: Signal::Cont },
                _ => InboxItem::Message {
                    from: "user\0".to_owned(),
                    text: format!("message {} \0 你好", self.dice.below(u64::MAX)),
                },
            };
            self.world.witness.note(Some(pid), format!("is sent {item:?}"));
            let posted = machine.store.post(&self.world.tenant, pid, item.clone()).await;
            match (posted, item) {
                (Ok(_), InboxItem::Message { text, .. }) => {
                    self.world.witness.lock().posted.entry(pid).or_default().push(text);
                }
                (Ok(_), _) => {}
                (Err(error), _) if error.code == Code::StoreUnknownProcess => {}
                (Err(error), _) => tolerate(self.world, Some(pid), &error.into()),
            }
        }
    }
}
