//! The meddler: somebody outside who sends messages and signals at any moment.

use std::ops::RangeInclusive;
use std::time::Duration;

use aosk_abi::{Code, MicroDollars, Priority, Signal};
use aosk_ports::{Inbox as _, InboxItem};
use tokio::time::{Instant, sleep};

use super::life::tolerate;
use super::world::{Machine, World};
use crate::dice::Dice;

/// How often somebody outside may meddle.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(4);

/// Somebody outside.
pub(super) struct Meddler<'a> {
    dice: Dice,
    /// Of its own, so that worlds without families stay as they are.
    kin: Dice,
    world: &'a World,
}

impl<'a> Meddler<'a> {
    pub(super) fn new(world: &'a World, machine: &Machine) -> Self {
        let number = machine.eye.machine.to_le_bytes();
        let (dice, kin) = ("meddler", "meddler with kin");
        let [dice, kin] = [dice, kin].map(|name| Dice::keyed(world.seed, name, &number));
        Self { dice, kin, world }
    }

    /// Meddles until then, or until it is dropped.
    pub(super) async fn meddle(mut self, machine: &Machine, end: Option<Instant>) {
        while end.is_none_or(|end| Instant::now() < end) {
            sleep(self.dice.time(&PAUSE)).await;
            let agent = self.dice.index(self.world.scenario.agents);
            let item = self.item();
            if !self.dice.hits(self.world.scenario.meddling)
                || self.world.scenario.absent.contains(&agent)
            {
                continue;
            }
            let children = self.world.auditor.children();
            let pid = match self.kin.below(2) {
                0 if !children.is_empty() => children[self.kin.index(children.len())],
                _ => World::pid(agent),
            };
            self.world.witness.note(Some(pid), format!("is sent {item:?}"));
            let elsewhere = self.dice.below(2) == 0;
            // Another program has a store of its own on the same disk.
            let store = if elsewhere { machine.store.beside() } else { machine.store.clone() };
            match store.post(&self.world.tenant, pid, item).await {
                Ok(id) => {
                    self.world.auditor.told_posted(pid, id);
                    if self.dice.below(4) == 0 {
                        // One that stops takes nothing up any more, and says so.
                        drop(machine.kernel.nudge());
                    }
                }
                Err(error) if error.code == Code::StoreUnknownProcess => {}
                Err(error) => tolerate(self.world, Some(pid), &error.into()),
            }
        }
    }

    fn item(&mut self) -> InboxItem {
        let signal = |signal| InboxItem::Signal { signal };
        match self.dice.below(40) {
            0 => signal(Signal::Kill),
            1..=7 => signal(Signal::Stop),
            8..=14 => signal(Signal::Cont),
            15..=18 => InboxItem::Priority { priority: self.priority() },
            19..=20 => InboxItem::SpendLimit { limit: MicroDollars(self.dice.below(40_000)) },
            _ => InboxItem::Message {
                from: "user\0".to_owned(),
                text: format!("message {} \0 你好", self.dice.below(u64::MAX)),
            },
        }
    }

    fn priority(&mut self) -> Priority {
        Priority::new(self.dice.below(100)).unwrap_or_default()
    }
}
