//! What came of a wish.
//!
//! That it was taken out of the inbox does not say that it was heard: what a process will never
//! take, because it ended meanwhile, its owner removes. So the journal is asked. Nor does a process
//! that heard it go on where its daemon finds no model for it, which the daemon knows.

use std::time::{Duration, Instant};

use aosk_abi::{Pid, ProcessState, Tenant};
use aosk_ports::InboxId;
use aosk_store::{Owner, owner};

use super::Told;
use super::wish::Wish;
use crate::config::Settings;
use crate::daemon::{self, Broken, Hearer};
use crate::error::Error;
use crate::exit::Exit;
use crate::journal;
use crate::print::Screen;
use crate::reader::Reading;
use crate::text::one_line;

/// How long one waits to say what came of it. Who works on a process takes over what comes within
/// milliseconds, between two calls.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often one looks meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of a wish that was posted.
pub(super) struct Report<'a> {
    pub(super) wish: &'a Wish,
    pub(super) told: &'a [Told],
    /// All that was posted.
    pub(super) ids: &'a [InboxId],
    pub(super) reader: &'a dyn Reading,
    pub(super) settings: &'a Settings,
}

/// For whom something waits in the inbox, and who cannot go on.
pub(super) struct Waiting {
    pids: Vec<Pid>,
    broken: Vec<Broken>,
}

impl Report<'_> {
    /// Waits a moment until nothing is to be waited for any more. `None` where a daemon that was
    /// told is gone, and something still waits: another has to be told.
    pub(super) async fn waiting(&self, hearer: &Hearer) -> Result<Option<Waiting>, Error> {
        let began = Instant::now();
        loop {
            let pending = self.reader.pending(&Tenant::local()).await?;
            let mut pids = Vec::new();
            for told in self.told {
                let own = &self.ids[told.items.clone()];
                if pending.iter().any(|(_, id, _)| own.contains(id))
                    && self.wish.may_be_heard_in(&self.state(told).await?)
                {
                    pids.push(told.receipt.pid);
                }
            }
            let late = began.elapsed() > PATIENCE;
            let Hearer::Daemon(os_pid) = hearer else {
                if pids.is_empty() || late {
                    return Ok(Some(Waiting { pids, broken: Vec::new() }));
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if pids.is_empty() && !(self.wish.sets_going() && self.is_still_ready().await?) {
                return Ok(Some(Waiting { pids, broken: Vec::new() }));
            }
            if !pids.is_empty()
                && owner(&self.settings.data_dir)?.is_none_or(|owner| owner.os_pid != *os_pid)
            {
                return Ok(None);
            }
            let broken = daemon::broken(self.settings).await?;
            let is_broken = |told: &Told| broken.iter().any(|one| one.pid == told.receipt.pid);
            // What a process broke of before may be over as soon as it hears.
            if late || (pids.is_empty() && self.told.iter().all(is_broken)) {
                return Ok(Some(Waiting { pids, broken }));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether one of them has something to do and was not seen to do it.
    async fn is_still_ready(&self) -> Result<bool, Error> {
        for told in self.told {
            let state = self.state(told).await?;
            if matches!(state, ProcessState::New | ProcessState::Ready) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn state(&self, told: &Told) -> Result<ProcessState, Error> {
        let now = self.reader.process(&Tenant::local(), told.receipt.pid).await?;
        Ok(now.map_or_else(|| told.receipt.row.state.clone(), |now| now.row.state))
    }

    /// Says for each process what came of the wish, or when that will be. The worst decides how
    /// the command ends.
    pub(super) async fn say(
        &self,
        waiting: &Waiting,
        hearer: &Hearer,
        screen: &Screen,
    ) -> Result<Exit, Error> {
        let mut worst = Exit::Done;
        for told in self.told {
            let (exit, said) = self.came_of_it(told, waiting, hearer).await?;
            let name = one_line(&told.receipt.row.name);
            screen.out.line(&format!("{} ({name}) {said}", told.short))?;
            worst = worst.max(exit);
        }
        Ok(worst)
    }

    async fn came_of_it(
        &self,
        told: &Told,
        waiting: &Waiting,
        hearer: &Hearer,
    ) -> Result<(Exit, String), Error> {
        let (pid, short, same) = (told.receipt.pid, &told.short, &self.settings.same_store);
        let broken = waiting.broken.iter().find(|one| one.pid == pid);
        let cannot = |head: &str, Broken { code, message, .. }: &Broken| {
            let message = one_line(message);
            let said = format!("{head}, and the daemon cannot go on with it: {code}: {message}");
            (Exit::of(code).max(Exit::Failed), said)
        };
        if waiting.pids.contains(&pid) {
            return Ok(match broken {
                Some(broken) => cannot("has not heard it", broken),
                None => (Exit::Done, later(hearer)),
            });
        }
        let since = journal::read(self.reader, pid, told.receipt.next).await?;
        let state = self.state(told).await?;
        if !since.iter().any(|entry| self.wish.is_heard_in(&entry.event.what)) {
            let how = match &state {
                ProcessState::Exited { exit } => exit.name(),
                state => state.name(),
            };
            return Ok(match self.wish {
                Wish::Limit(..) => (Exit::Done, format!("went on by itself ({how})")),
                _ => (Exit::Failed, format!("ended meanwhile ({how}) and did not hear it")),
            });
        }
        Ok(match broken.filter(|_| self.wish.sets_going()) {
            Some(broken) => cannot("has heard it", broken),
            None => self.wish.done(&state, short, same),
        })
    }
}

/// When what waits in the inbox is heard.
fn later(hearer: &Hearer) -> String {
    match hearer {
        Hearer::Daemon(os_pid) => {
            format!("hears it when the daemon (process {os_pid}) has it in memory")
        }
        Hearer::Run(Owner { os_pid, command, .. }) => format!(
            "hears it later: process {os_pid} ({command}) owns the store and does not work on it"
        ),
        Hearer::Node(label) => {
            format!("hears it when node {} has it in memory", one_line(label))
        }
        Hearer::Nobody => "hears it when it is taken up".to_owned(),
    }
}
