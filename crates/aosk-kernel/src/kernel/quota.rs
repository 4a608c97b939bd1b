//! Quotas of a running kernel: seen and set from outside.

use aosk_abi::{Code, Limits, QuotaOwner};

use super::Kernel;
use crate::error::Error;
use crate::standing::{QuotaStanding, Standings};

impl Kernel {
    /// How quotas and devices stand now, and who waits for them. O(processes).
    #[must_use]
    pub fn standings(&self) -> Standings {
        let mut standings = self.shared.dispatcher.standings();
        let models = self.shared.connected_models();
        for device in &mut standings.devices {
            let mut infos = models.iter().map(|model| model.device.info());
            let info = infos.find(|info| info.name == device.name);
            device.model = info.map(|info| info.model.clone());
        }
        standings
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
        let same = before.spend.is_some_and(|before| before.per == spend.per);
        match same {
            true => self.shared.books.turn_to(owner, spend).await.map(drop),
            false => self.shared.books.change(owner, spend).await,
        }
    }
}
