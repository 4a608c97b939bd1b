//! Whole machines with the real kernel on them, life after life, from one seed.
//!
//! A simulation boots a kernel over the faulty disk, model and tools, lets it run in virtual time
//! until the power goes, looks at what the disk holds, and boots the next one; until every process
//! has ended. It is the kernel of the binary, wired to other devices, so a promise that holds here
//! in every life is one that the binary's kernel keeps wherever its devices keep theirs.

mod audit;
mod case;
mod life;
mod report;
mod scenario;
mod witness;
mod world;

pub use report::{Line, Report, Violation};
pub use scenario::Scenario;

use crate::dice::Chance;
use crate::faults::{DiskFaults, FaultPlan, ToolFaults};
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
        let mortal = report.lives <= scenario.lives;
        let faults = if mortal { scenario.faults.clone() } else { spared(&scenario.faults) };
        let ending = in_virtual_time(async {
            let ending = live(&world, report.elapsed, &faults, mortal).await;
            (ending, world.witness.end())
        });
        let ending = match ending {
            Some((Ok(ending), elapsed)) => {
                report.elapsed = elapsed;
                ending
            }
            Some((Err(error), _)) => {
                world.witness.accuse(None, format!("the kernel does not start: {error}"));
                Ending::Stuck
            }
            None => {
                world.witness.accuse(None, "the host gave no runtime");
                Ending::Stuck
            }
        };
        *report.endings.entry(format!("{ending:?}")).or_default() += 1;
        if ending == Ending::Stuck {
            world.witness.accuse(None, "nothing more happens and not every process has ended");
        }
        let done = ending == Ending::Done;
        // What is broken stays broken: the first life in which it is says most.
        in_virtual_time(audit::audit(&world, done, &mut report));
        if done || !world.witness.lock().violations.is_empty() {
            break;
        }
    }
    let mut seen = world.witness.lock();
    report.violations = std::mem::take(&mut seen.violations);
    report.trace = std::mem::take(&mut seen.trace);
    report
}

/// The same weather without crashes.
fn spared(faults: &FaultPlan) -> FaultPlan {
    let (crash_before, crash_after) = (Chance::NEVER, Chance::NEVER);
    FaultPlan {
        disk: DiskFaults { crash_before, crash_after, ..faults.disk.clone() },
        tools: ToolFaults { crash_before, crash_after, ..faults.tools.clone() },
        model: faults.model.clone(),
    }
}

/// Runs on one thread in virtual time. What still runs at the end is dropped where it stands.
fn in_virtual_time<T>(work: impl Future<Output = T>) -> Option<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    Some(runtime.ok()?.block_on(work))
}
