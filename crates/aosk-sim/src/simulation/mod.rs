//! Whole machines with the real kernel on them, life after life, from one seed.
//!
//! A simulation boots a kernel over the faulty disk, model and tools, lets it run in virtual time
//! until the power goes, looks at what the disk holds, and boots the next one; until every process
//! has ended. It is the kernel of the binary, wired to other devices, so a promise that holds here
//! in every life is one that the binary's kernel keeps wherever its devices keep theirs.

mod auditor;
mod book;
mod deeds;
mod devices;
mod family;
mod flight;
mod inspection;
mod life;
mod mail;
mod meddler;
mod named;
mod purse;
mod report;
mod route;
mod scenario;
mod shrink;
mod starts;
mod summary;
mod till;
mod watchman;
mod wire;
mod witness;
mod world;

pub use report::{Line, Report, Violation};
pub use scenario::Scenario;
pub use shrink::{Shrunk, shrink};

use crate::dice::Chance;
use crate::faults::{DiskFaults, FaultPlan, ToolFaults};
use crate::power::Power;
use crate::promise::Promise;
use crate::store::MemoryStore;
use life::{Ending, live};
use world::World;

/// Runs a scenario from a seed to its end, and says what was found. The same seed and scenario
/// give the same report.
#[must_use]
pub fn simulate(seed: u64, scenario: &Scenario) -> Report {
    let world = World::new(seed, scenario.clone());
    let mut report = Report { seed, ..Report::default() };
    loop {
        report.lives += 1;
        let mortal = scenario.is_mortal(report.lives);
        let scripted = scenario.script.is_some();
        let faults =
            if mortal && !scripted { scenario.faults.clone() } else { spared(&scenario.faults) };
        let life = in_virtual_time(async {
            let life = live(&world, report.elapsed, &faults, report.lives).await;
            (life, world.witness.end())
        });
        let ending = match life {
            Some((Ok((ending, touches)), elapsed)) => {
                report.elapsed = elapsed;
                report.touches.push(touches);
                ending
            }
            Some((Err(error), _)) => {
                let what = format!("the kernel does not start: {error}");
                world.witness.accuse(None, Promise::Explained, what);
                Ending::Stuck
            }
            None => {
                world.witness.accuse(None, Promise::Ends, "the host gave no runtime");
                Ending::Stuck
            }
        };
        *report.endings.entry(format!("{ending:?}")).or_default() += 1;
        if ending == Ending::Stuck {
            let what = "nothing more happens, or nothing new, and not every process has ended";
            world.witness.accuse(None, Promise::Ends, what);
        }
        // Somebody may have brought a process back at the last moment; then there is another life.
        in_virtual_time(inspect(&world, false));
        let done = ending == Ending::Done
            && (!mortal || world.auditor.all_have_ended() && world.auditor.addressees().is_empty());
        if done {
            in_virtual_time(inspect(&world, true));
        }
        // What is broken stays broken: the first life in which it is says most.
        if done || !world.witness.lock().violations.is_empty() {
            break;
        }
    }
    world.auditor.count(&mut report);
    let mut seen = world.witness.lock();
    report.violations = std::mem::take(&mut seen.violations);
    report.trace = std::mem::take(&mut seen.trace);
    report
}

/// Looks at what a machine left.
async fn inspect(world: &World, done: bool) {
    let store = MemoryStore::open(&world.disk, DiskFaults::calm(), Power::on());
    world.auditor.inspect(&world.tenant, &store, done).await;
}

/// The same weather without crashes.
fn spared(faults: &FaultPlan) -> FaultPlan {
    let (crash_before, crash_after) = (Chance::NEVER, Chance::NEVER);
    FaultPlan {
        disk: DiskFaults { crash_before, crash_after, ..faults.disk.clone() },
        tools: ToolFaults { crash_before, crash_after, ..faults.tools.clone() },
        model: faults.model.clone(),
        fall: Chance::NEVER,
    }
}

/// Runs on one thread in virtual time. What still runs at the end is dropped where it stands.
fn in_virtual_time<T>(work: impl Future<Output = T>) -> Option<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    Some(runtime.ok()?.block_on(work))
}
