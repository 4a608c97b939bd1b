//! How devices stand, and who waits for them.

use std::cmp::Reverse;
use std::time::Duration;

use aosk_abi::{MicroDollars, Usage};

use super::flow::LastMinute;
use super::quota::{ago, at, standing};
use super::{Dispatcher, Pool, Queue};
use crate::standing::{
    CircuitStanding, DeviceStanding, ProcessStanding, ServerStanding, Standings,
};

/// What a device has given since the kernel began.
#[derive(Debug, Default)]
pub(super) struct Given {
    answered: u64,
    pub(super) refused: u64,
    usage: Usage,
    cost: MicroDollars,
    last_minute: LastMinute,
    took: Duration,
}

impl Given {
    pub(super) fn add(&mut self, usage: &Usage, cost: MicroDollars, took: Duration, now: Duration) {
        self.answered += 1;
        self.usage += *usage;
        self.cost += cost;
        self.last_minute.add(usage.output.0, now);
        self.took = self.took.saturating_add(took);
    }

    /// Tokens that come out of one call in a second, in thousandths.
    fn speed_milli(&self) -> u64 {
        let tokens = u128::from(self.usage.output.0) * 1_000_000;
        let speed = tokens.checked_div(self.took.as_millis()).unwrap_or(0);
        u64::try_from(speed).unwrap_or(u64::MAX)
    }
}

impl Dispatcher {
    /// How everything stands.
    pub(crate) fn standings(&self) -> Standings {
        let quotas = self.quotas();
        let mut queue = self.lock();
        let processes = queue.processes();
        Standings { quotas, devices: self.devices(&mut queue), processes }
    }

    fn devices(&self, queue: &mut Queue) -> Vec<DeviceStanding> {
        let (now, wall) = (self.clock.monotonic(), self.clock.now());
        let Queue { scheduler, devices, .. } = queue;
        let device = |(name, pool): (&String, &mut Pool)| {
            // Its pool is there.
            let load = scheduler.load(pool.id).ok()?;
            let heard = scheduler.heard(pool.id, now).ok()?;
            let given = &mut pool.given;
            Some(DeviceStanding {
                name: name.clone(),
                model: None,
                slots: pool.slots,
                depth: load.depth,
                in_flight: load.in_flight,
                waiting: load.waiting,
                circuit: pool.health.open().map(|open| CircuitStanding {
                    failures: pool.health.failures(),
                    since: ago(open.since, now, wall),
                    until: at(open.until, now, wall),
                }),
                serves: Vec::new(),
                server: pool.reading.last().map(|(told, rates)| ServerStanding {
                    at: ago(told.at, now, wall),
                    slots: told.load.slots,
                    running: told.load.running,
                    waiting: told.load.waiting,
                    kv_tokens: told.load.kv_tokens,
                    kv_used_milli: told.load.kv_used_milli,
                    read_per_s_milli: rates.read,
                    written_per_s_milli: rates.written,
                }),
                paused: (load.opens_at > now).then(|| at(load.opens_at, now, wall)),
                spoke: pool.spoke,
                answered: given.answered,
                refused: given.refused,
                usage: given.usage,
                cost: given.cost,
                output_last_minute: given.last_minute.sum(now),
                speed_milli: given.speed_milli(),
                heard: heard.iter().map(|gauge| standing(gauge, now, wall)).collect(),
            })
        };
        let mut standings: Vec<_> = devices.iter_mut().filter_map(device).collect();
        standings.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        standings
    }
}

impl Queue {
    /// Who waits for a device or asks it.
    fn processes(&self) -> Vec<ProcessStanding> {
        let stands = self.scheduler.stands().filter(|stand| stand.waits || stand.in_flight > 0);
        let named = stands.filter_map(|stand| Some((stand, self.names.get(stand.pool.index())?)));
        let mut processes: Vec<ProcessStanding> = named
            .map(|(stand, name)| ProcessStanding {
                pid: *stand.key,
                device: name.clone(),
                waits: stand.waits,
                in_flight: stand.in_flight,
                lag: stand.lag,
            })
            .collect();
        if processes.len() > Standings::MOST {
            processes.sort_unstable_by_key(|process| Reverse(process.lag));
            processes.truncate(Standings::MOST);
        }
        processes.sort_unstable_by_key(|process| process.pid);
        processes
    }
}
