//! The audit: what the disk holds after a life, held against what was promised.
//!
//! It reads the store as anybody may and trusts nothing that the kernel keeps in memory. A promise
//! that it finds broken goes to the witness; what it looks for in a single journal is in
//! [`Case`].

use std::collections::BTreeSet;

use aosk_abi::{Code, Exit, Pid, ProcessState};
use aosk_ports::{Journal as _, ProcessFilter};

use super::case::Case;
use super::report::Report;
use super::world::World;
use crate::faults::DiskFaults;
use crate::power::Power;
use crate::store::MemoryStore;

/// Why a process may fail in a simulated world: its calls were throttled or broke off as often as
/// they may be tried, or a single turn brought more than the window holds.
const EXPLAINED: [Code; 3] = [Code::LlmThrottled, Code::LlmTransient, Code::ContextOverflow];

/// Looks at everything; broken promises go to the witness. `done` says that every process is
/// said to have ended.
pub(super) async fn audit(world: &World, done: bool, report: &mut Report) {
    let store = MemoryStore::open(&world.disk, DiskFaults::calm(), Power::on());
    let receipts = match store.processes(&world.tenant, ProcessFilter::All).await {
        Ok(receipts) => receipts,
        Err(error) => return world.witness.accuse(None, format!("unreadable: {error}")),
    };
    report.events.clear();
    report.exits.clear();
    let mut wanted: BTreeSet<Pid> = world.witness.lock().acknowledged.keys().copied().collect();
    for receipt in receipts {
        wanted.remove(&receipt.pid);
        let pid = receipt.pid;
        match Case::open(world, &store, receipt).await {
            Ok(case) => {
                for event in &case.events {
                    *report.events.entry(event.kind().name()).or_default() += 1;
                }
                let state = &case.receipt.row.state;
                let end = match state {
                    ProcessState::Exited { exit: Exit::Failed { code, .. } } => code,
                    ProcessState::Exited { exit } => exit.name(),
                    other => other.name(),
                };
                *report.exits.entry(end.to_owned()).or_default() += 1;
                if let ProcessState::Exited { exit: Exit::Failed { code, .. } } = state
                    && !EXPLAINED.iter().any(|known| known.as_str() == code)
                {
                    case.accuse(format!("failed with {code}, which nothing explains"));
                }
                if done && !state.is_final() {
                    case.accuse(format!("is left behind {}", state.name()));
                }
                case.examine(&store).await;
            }
            Err(broken) => world.witness.accuse(Some(pid), broken),
        }
    }
    for pid in wanted {
        world.witness.accuse(Some(pid), "was acknowledged and is gone");
    }
    // Slots live in the memory of a machine, and one that was usurped does not know it.
    let at_once = 1 + usize::from(world.witness.lock().machines > report.lives);
    let (peak, slots) = (world.model.peak(), at_once * world.scenario.slots);
    if peak > slots {
        world.witness.accuse(None, format!("{peak} calls at once on a device of {slots} slots"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use aosk_abi::{Effect, Seq, Timestamp};
    use aosk_ports::ToolContext;
    use aosk_sandbox::NoFiles;

    use super::super::in_virtual_time;
    use super::super::life::{Ending, live};
    use super::super::scenario::Scenario;
    use super::*;
    use crate::image::Stored;

    /// What the audit says of a world in which nothing went wrong, after somebody spoilt it.
    fn verdict(spoil: impl FnOnce(&World)) -> String {
        let scenario = Scenario { agents: 3, ..Scenario::calm() };
        let faults = scenario.faults.clone();
        let world = World::new(1, scenario);
        let life = in_virtual_time(live(&world, Duration::ZERO, &faults, false)).expect("runtime");
        assert_eq!(life.expect("boots"), Ending::Done);
        spoil(&world);
        let mut report = Report { lives: 1, ..Report::default() };
        in_virtual_time(audit(&world, true, &mut report)).expect("runtime");
        let violations = std::mem::take(&mut world.witness.lock().violations);
        violations.into_iter().map(|violation| violation.what).collect::<Vec<_>>().join("; ")
    }

    fn on_disk(world: &World, spoil: impl FnOnce(&mut Stored)) {
        world.disk.with(|platter| {
            spoil(platter.image.stored_mut(&world.tenant, World::pid(1)).expect("there"));
        });
    }

    /// A call that the journal knows nothing of.
    fn stray_call(world: &World, key: &str) {
        let context = ToolContext {
            tenant: world.tenant.clone(),
            pid: World::pid(1),
            idempotency_key: key.to_owned(),
            now: Timestamp::default(),
            sandbox: Arc::new(NoFiles),
        };
        world.ledger.begin(&context, "send_line", Effect::Unsafe, "{}");
    }

    #[test]
    fn a_world_in_order_is_not_accused() {
        assert_eq!(verdict(|_| {}), "");
    }

    #[test]
    fn damage_to_a_disk_is_noticed() {
        type Spoil = fn(&mut Stored);
        let cases: [(&str, Spoil); 5] = [
            ("was acknowledged and is not there", |stored| drop(stored.records.pop())),
            ("breaks the chain", |stored| stored.records[2].body.push(b' ')),
            ("lists show", |stored| stored.row.steps += 1),
            ("is not stored with event", |stored| stored.beside.clear()),
            ("is not the fold of the events", |stored| {
                let (_, last) = stored.checkpoints.iter_mut().next_back().expect("has some");
                last.bytes.truncate(10);
            }),
        ];
        for (expected, spoil) in cases {
            let said = verdict(|world| on_disk(world, spoil));
            assert!(said.contains(expected), "{expected:?} is not in {said:?}");
        }
    }

    #[test]
    fn effects_that_no_intent_explains_are_noticed() {
        let said = verdict(|world| {
            for n in 0..99 {
                stray_call(world, &format!("stray-{n}"));
            }
        });
        assert!(said.contains("tool runs on") && said.contains("idempotency keys for"), "{said}");
        let said = verdict(|world| {
            stray_call(world, "twice");
            world.ledger.act("twice");
            world.ledger.act("twice");
        });
        assert!(said.contains("send_line acted 2 times under twice"), "{said}");
    }

    #[test]
    fn a_process_that_is_gone_or_left_behind_is_noticed() {
        let said = verdict(|world| {
            let lost = Pid::from_alias("lost");
            world.witness.lock().acknowledged.insert(lost, Seq(0));
        });
        assert_eq!(said, "was acknowledged and is gone");
        let said = verdict(|world| on_disk(world, |stored| stored.row.state = ProcessState::Ready));
        assert!(said.contains("is left behind ready"), "{said}");
    }
}
