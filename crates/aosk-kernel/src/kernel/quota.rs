//! Quotas of a running kernel: seen and set from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use aosk_abi::{Code, Limits, QuotaOwner};
use futures::future::join_all;

use super::Kernel;
use crate::dispatch::Purse;
use crate::error::Error;
use crate::standing::{QuotaStanding, Serves, Standings};

/// How long [`Kernel::standings`] waits for servers: a screen is drawn each second.
const PATIENCE: Duration = Duration::from_millis(400);

impl Kernel {
    /// How quotas and devices stand now, and who waits for them. Servers that tell of their load are
    /// asked for it where what is known is old; who has not answered within 400 ms is shown as
    /// known. O(processes).
    pub async fn standings(&self) -> Standings {
        let dispatcher = &self.shared.dispatcher;
        let models = self.shared.connected_models();
        let asked: Vec<_> =
            models.iter().filter_map(|(_, model)| dispatcher.look(&model.device)).collect();
        if !asked.is_empty() {
            let patience = self.shared.parts.clock.sleep(PATIENCE);
            tokio::select! {
                _ = join_all(asked) => {}
                () = patience => {}
            }
        }
        let mut standings = dispatcher.standings();
        for device in &mut standings.devices {
            let its = models.iter().filter(|(_, it)| it.device.info().name == device.name);
            device.model = its.clone().next().map(|(_, it)| it.device.info().model.clone());
            device.serves = self.names_of(&device.name, &its.map(|(name, _)| name).collect());
        }
        standings
    }

    /// The names that lead to the device besides its own, where models of these names are asked there.
    fn names_of(&self, device: &str, models: &BTreeSet<&String>) -> Vec<Serves> {
        let parts = &self.shared.parts;
        let alone = models.iter().filter(|name| **name != device);
        let alone = alone.map(|name| Serves { alias: (*name).clone(), weight: Some(1) });
        let shares = parts.spreads.iter().filter_map(|(alias, pools)| {
            let (_, weight) = pools.iter().find(|(name, _)| models.contains(name))?;
            Some(Serves { alias: alias.clone(), weight: Some(*weight) })
        });
        let instead = parts.alternatives.iter();
        let instead = instead.filter(|(_, list)| list.iter().any(|it| models.contains(it)));
        let instead = instead.map(|(alias, _)| Serves { alias: alias.clone(), weight: None });
        let mut serves: Vec<Serves> = alone.chain(shares).chain(instead).collect();
        serves.sort_unstable();
        serves
    }

    /// How every quota stands now: those that are shared, by owner, then those of processes in
    /// memory, by pid. What a process may spend in all stands in its journal. O(processes).
    #[must_use]
    pub fn quotas(&self) -> Vec<QuotaStanding> {
        self.shared.dispatcher.quotas()
    }

    /// Sets what an owner and all below it may use, from now on; a limit that is left out no longer
    /// holds. What was used and reserved stays so: whoever waits in memory goes on where there is
    /// room now, and nobody is interrupted where there is none. A process that rests goes on when it
    /// hears of it through the inbox. It lasts as long as this kernel; whoever keeps the settings
    /// changes them too.
    ///
    /// # Errors
    /// [`Error::Refused`] for a limit that lets nothing through: nothing changes;
    /// [`Error::Store`] where what is left of a budget cannot be asked: then the limit holds, and
    /// what is left is asked again before the next call.
    pub async fn limit(&self, owner: &QuotaOwner, limits: Limits) -> Result<(), Error> {
        limits.check().map_err(|error| {
            Error::refused(Code::KernelSetup, format!("the quota of {owner}: {error}"))
        })?;
        let Some(spend) = limits.spend else {
            return self.shared.dispatcher.limit(owner, limits).map(drop);
        };
        let before = self.shared.dispatcher.limit(owner, limits)?;
        let purse = Purse::Shared(owner.clone());
        let same = before.spend.is_some_and(|before| before.per == spend.per);
        match same {
            true => self.shared.books.turn_to(&purse, spend).await.map(drop),
            false => self.shared.books.change(&purse, spend).await,
        }
    }
}
