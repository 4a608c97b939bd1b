//! Delivery: what came into the inbox, and sleepers whose moment has come.
//!
//! An item is shown to its process again and again until the append that takes it over is durable;
//! the process knows which it took. A process that is not in memory is brought in for it. The
//! inbox is looked at when somebody or the store says that something was posted, and now and then
//! where the store cannot say, or while something waits in it. So a kernel that has nothing to do
//! does nothing at all, unless it is one node of several: then it looks for what others left behind,
//! and for parents that ended elsewhere.

use std::collections::HashMap;
use std::future::pending;
use std::time::Duration;

use aosk_abi::{Pid, ProcessState};
use aosk_ports::{InboxId, InboxItem, Posted, StoreError};

use super::Kernel;
use super::table::{Entry, Stay};
use crate::error::Error;
use crate::process::can_take;

impl Kernel {
    /// Delivers until the kernel stops.
    pub(super) async fn deliver(self) {
        let mut tried = Tried::default();
        self.hear_recorder().await;
        let clock = &self.shared.parts.clock;
        let mut round = self
            .shared
            .parts
            .store
            .others()
            .map(|every| (every, clock.monotonic().saturating_add(every)));
        loop {
            // Asked for before the inbox is read, so that nothing comes in between unnoticed.
            let posted = self.shared.parts.store.posted();
            self.run_errands();
            self.fill_places();
            self.wake_sleepers();
            let before = self.table().changes();
            let is_empty = match self.pending().await {
                Ok(items) => {
                    let is_empty = items.is_empty();
                    tried.keep(&items);
                    for posted in items {
                        self.hand_over(posted, before, &mut tried).await;
                    }
                    is_empty
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read the inbox");
                    false
                }
            };
            if let Some((every, due)) = &mut round
                && *due <= clock.monotonic()
            {
                self.end_orphans().await;
                // Where there may be more of them, the next batch is due at once.
                let more = self.shared.options.adopts && self.adopts_more().await;
                let wait = if more { Duration::ZERO } else { *every };
                *due = clock.monotonic().saturating_add(wait);
            }
            // What waits is shown again, and whoever is not told looks by himself.
            let poll = self.shared.options.inbox_poll;
            let look = (!is_empty || posted.is_none()).then_some(poll);
            let alarm = self.table().next_alarm();
            let due = alarm.into_iter().chain(round.map(|(_, due)| due)).min();
            let left = due.map(|due| due.saturating_sub(clock.monotonic()));
            let rest = async {
                match look.into_iter().chain(left).min() {
                    Some(left) => clock.sleep(left).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.shared.stop.wait(false) => return,
                () = self.nudge.notified() => {}
                () = self.shared.errands.bell.notified() => {}
                () = posted.unwrap_or_else(|| Box::pin(pending())) => {}
                () = rest => {}
            }
        }
    }

    /// Takes over a batch of what others left behind; whether there may be more.
    async fn adopts_more(&self) -> bool {
        match self.adopt().await {
            Ok((begun, more)) => {
                if !begun.is_empty() {
                    tracing::info!("goes on with {} agents that others left behind", begun.len());
                }
                more
            }
            Err(Error::Stopping) => false,
            Err(error) => {
                tracing::warn!(%error, "what others left behind cannot be taken over");
                false
            }
        }
    }

    fn wake_sleepers(&self) {
        let now = self.shared.parts.clock.monotonic();
        loop {
            let (pid, stay) = {
                let table = self.table();
                let Some(pid) = table.due(now) else {
                    return;
                };
                let Some(Entry::Asleep { epoch, until, .. }) = table.get(pid) else {
                    return;
                };
                (pid, Stay { epoch: *epoch, waited: Some(*until) })
            };
            self.line_up(pid, stay);
        }
    }

    /// Hands an item over that waited when the table had seen `before` changes.
    async fn hand_over(&self, (pid, id, item): Posted, before: u64, tried: &mut Tried) {
        if self.table().is_newer(pid, before) {
            // What entered it may have taken the item already; if not, it is shown again.
            return;
        }
        // Whether it is brought in for this item once and not again.
        let (stay, once) = match self.table().get(pid) {
            Some(Entry::Driven { inbox, .. }) => {
                // A driver that is on its way out leaves the item where it is.
                drop(inbox.send((id, item)));
                return;
            }
            Some(Entry::Lined { .. }) => return,
            Some(
                Entry::Asleep { epoch, .. }
                | Entry::Waiting { epoch, .. }
                | Entry::Resting { epoch },
            ) => (Stay { epoch: *epoch, waited: None }, false),
            // Under the epoch that it had: if another kernel has taken the process over meanwhile,
            // the store refuses what this one writes. To claim it would cut the other off.
            Some(Entry::Broken { epoch, outcome })
                if !outcome.is_lost() && tried.is_new(pid, id) =>
            {
                (Stay { epoch: *epoch, waited: None }, true)
            }
            None if self.shared.options.adopts && tried.is_new(pid, id) => (Stay::TAKE_OVER, true),
            Some(Entry::Broken { .. }) | None => return,
        };
        if stay == Stay::TAKE_OVER
            && (self.is_elsewhere(pid).await
                || !self.still_waits(id).await
                || self.dismisses(pid, id, &item).await)
        {
            return;
        }
        if once {
            tried.note(pid, id);
        }
        self.line_up(pid, stay);
    }

    /// What waits in the inbox.
    pub(super) async fn pending(&self) -> Result<Vec<Posted>, StoreError> {
        self.shared.parts.store.pending(&self.shared.options.tenant).await
    }

    /// Whether another node owns the process, which hears of the item itself.
    async fn is_elsewhere(&self, pid: Pid) -> bool {
        let tenant = &self.shared.options.tenant;
        match self.shared.parts.store.elsewhere(tenant, pid).await {
            Ok(owner) => owner.is_some(),
            Err(error) => {
                tracing::warn!(%error, %pid, "cannot look up who owns a process");
                true
            }
        }
    }

    /// Whether the item is in the inbox now. Nobody can take it meanwhile: its process is not here.
    async fn still_waits(&self, id: InboxId) -> bool {
        match self.pending().await {
            Ok(items) => items.iter().any(|(_, waiting, _)| *waiting == id),
            Err(error) => {
                tracing::warn!(%error, "cannot read the inbox");
                false
            }
        }
    }

    /// Removes an item that its process will never take, and says whether it did.
    async fn dismisses(&self, pid: Pid, id: InboxId, item: &InboxItem) -> bool {
        let (store, tenant) = (&self.shared.parts.store, &self.shared.options.tenant);
        let (state, next) = match store.process(tenant, pid).await {
            Ok(Some(receipt)) => (receipt.row.state, receipt.next),
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(%error, %pid, "cannot look up who an inbox item is for");
                return true;
            }
        };
        let ProcessState::Exited { exit } = &state else {
            return false;
        };
        if can_take(&state, item) {
            return false;
        }
        let (item, exit) = (kind(item), exit.name());
        match store.dismiss(tenant, pid, next, &[id]).await {
            Ok(()) => tracing::warn!(%pid, item, exit, "dismissed: the process has ended"),
            // Where the process has gone on meanwhile, the item is shown again.
            Err(error) => tracing::warn!(%error, %pid, item, "cannot remove an inbox item"),
        }
        true
    }
}

/// What an item is. What it says is nobody's but its process's.
const fn kind(item: &InboxItem) -> &'static str {
    match item {
        InboxItem::Signal { signal } => signal.name(),
        InboxItem::Message { .. } => "message",
        InboxItem::Mail { .. } => "message of another agent",
        InboxItem::Priority { .. } => "priority",
        InboxItem::SpendLimit { .. } => "spend limit",
        InboxItem::Quota { .. } => "quota",
    }
}

/// The newest item for which a process was brought in that could not be driven before.
#[derive(Default)]
struct Tried(HashMap<Pid, InboxId>);

impl Tried {
    fn is_new(&self, pid: Pid, id: InboxId) -> bool {
        self.0.get(&pid).is_none_or(|newest| id > *newest)
    }

    fn note(&mut self, pid: Pid, id: InboxId) {
        self.0.insert(pid, id);
    }

    /// Forgets those for whom nothing waits any more.
    fn keep(&mut self, items: &[Posted]) {
        if !self.0.is_empty() {
            self.0.retain(|pid, _| items.iter().any(|(whose, ..)| whose == pid));
        }
    }
}
