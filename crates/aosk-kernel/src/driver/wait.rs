//! Waits in a tool call: for a moment, a message, a child.
//!
//! A wait is an event, and what ends it is looked for again each time the process comes into memory.
//!
//! **A circle of waits that have no end never ends.** Whoever is about to close one hears of it
//! instead: the wait is made durable first and then every link of the chain is read from the store, so
//! of two that close a circle at once the later sees the earlier. One of those in a circle hears of it:
//! the others look when its answer is durable. A process that a message is on its
//! way to is not stuck, though its list entry says that it waits; so the inbox is read, and then the
//! entries once more: where no journal has grown in between, all of them waited at that moment.

use std::time::Duration;

use aosk_abi::{Blocked, BlockedOn, Op, Pid, ProcessState, Timestamp, ToolCall, ToolResult, What};
use aosk_ports::{InboxItem, Receipt};
use tokio::sync::MutexGuard;

use super::own::{invalid, seconds};
use super::{Driver, Ended, left_of};
use crate::error::Error;
use crate::image::Waits;
use crate::observe::Notice;
use crate::shared::Shared;

impl Driver {
    /// Lets time pass.
    pub(super) async fn sleep(&mut self, op: Op, call: &ToolCall) -> Result<Option<Ended>, Error> {
        if self.waits_in(op).is_some() {
            return self.rest(op, None).await;
        }
        let asked = self.arguments(call).and_then(|arguments| {
            seconds(&arguments, "seconds")?
                .ok_or_else(|| invalid("`seconds` is missing".to_owned()))
        });
        match asked {
            Ok(seconds) => {
                let until = self.until(seconds);
                self.rest(op, Some(BlockedOn::Timer { until })).await
            }
            Err(refused) => self.refuse(op, &refused).map(|()| None),
        }
    }

    /// The wait in that call, if it has begun.
    pub(super) fn waits_in(&self, op: Op) -> Option<&Waits> {
        self.process.image.waits.as_ref().filter(|waits| waits.op == op)
    }

    /// The moment that many seconds from now.
    pub(super) fn until(&self, seconds: u64) -> Timestamp {
        self.process.shared.parts.clock.now().plus_millis(seconds.saturating_mul(1000))
    }

    /// Brings the process to rest in a call that has nothing to answer yet: on `begun`, or where it
    /// waits already. A wait that is over is answered.
    pub(super) async fn rest(
        &mut self,
        op: Op,
        begun: Option<BlockedOn>,
    ) -> Result<Option<Ended>, Error> {
        if let Some(on) = begun {
            self.process.emit(What::Blocked(Blocked { on, op: Some(op) }))?;
        }
        let Some(Waits { on, since, spoken_to, .. }) = self.waits_in(op).cloned() else {
            return Ok(None);
        };
        if spoken_to {
            let told = ToolResult::failed(
                "interrupted",
                "the user has written while this waited; the message follows",
                "heed the message, and call this again if it is still needed",
            );
            return self.refuse(op, &told).map(|()| None);
        }
        let left = on.until().map(|until| {
            let now = self.process.shared.parts.clock.now();
            let is_over = self.waited == Some(until);
            (if is_over { Duration::ZERO } else { left_of(until, since, now) }, until)
        });
        if let Some((Duration::ZERO, until)) = left {
            let waited = Duration::from_millis(until.millis_since(since));
            return self.returned(op, &over(&on, waited), waited).map(|()| None);
        }
        if !endless(&on).is_empty() {
            let shared = self.process.shared.clone();
            // Held until the answer is durable: who looks next must not see the circle that it breaks.
            let _desk = self.at_desk(&shared).await;
            if let Some(circle) = self.circle(&on).await? {
                let told = ToolResult::failed(
                    "deadlock",
                    format!("this would wait for ever: {circle}"),
                    "do without it, or send what the others wait for first; a timeout ends a wait",
                );
                self.refuse(op, &told)?;
                return self.process.commit().await.map(|()| None);
            }
        }
        Ok(match (left, on) {
            // The driver waits for moments by itself.
            (_, BlockedOn::Timer { .. }) => None,
            (Some((left, until)), _) => Some(Ended::Asleep(left, until)),
            (None, on) => Some(Ended::Waiting(on)),
        })
    }

    /// Waits until it is this process's turn to look at who waits for whom, or at a mailbox, and says
    /// so where that is not at once: the one before may wait for a disk.
    pub(super) async fn at_desk<'a>(&self, shared: &'a Shared) -> MutexGuard<'a, ()> {
        if let Ok(desk) = shared.errands.desk.try_lock() {
            return desk;
        }
        let waits = Notice::Waiting(BlockedOn::Tool { calls: 1 });
        shared.parts.observer.notice(self.process.pid(), &waits);
        shared.errands.desk.lock().await
    }

    /// The circle of waits without an end that the process is about to close, in words.
    pub(super) async fn circle(&mut self, on: &BlockedOn) -> Result<Option<String>, Error> {
        let shared = self.process.shared.clone();
        self.process.commit().await?;
        let Some(found) = self.chain(on).await? else {
            return Ok(None);
        };
        let tenant = &shared.options.tenant;
        let coming = shared.parts.store.pending(tenant).await?;
        let is_spoken_to = |pid: Pid, state: &ProcessState| {
            coming.iter().any(|(to, _, item)| *to == pid && may_wake(state, item))
        };
        let me = &self.process.image;
        if is_spoken_to(me.pid, &me.state) {
            return Ok(None);
        }
        for receipt in &found {
            let again = shared.parts.store.process(tenant, receipt.pid).await?;
            let has_moved = again.is_none_or(|again| again.next != receipt.next);
            if has_moved || is_spoken_to(receipt.pid, &receipt.row.state) {
                return Ok(None);
            }
        }
        let link = |receipt: &Receipt| format!("{:?} ({})", receipt.row.name, receipt.pid);
        let chain: Vec<_> = found.iter().map(link).collect();
        let own = format!("{:?} ({})", me.spawned.name, me.pid);
        Ok(Some(format!(
            "{own} waits for {}, which waits for {own}",
            chain.join(", which waits for ")
        )))
    }

    /// Who stands between the process and itself, each waiting for the next without an end.
    async fn chain(&self, on: &BlockedOn) -> Result<Option<Vec<Receipt>>, Error> {
        let (me, shared) = (self.process.pid(), &self.process.shared);
        let mut seen = std::collections::BTreeSet::new();
        let mut ways: Vec<(Pid, Vec<Receipt>)> =
            endless(on).iter().map(|pid| (*pid, Vec::new())).collect();
        while let Some((pid, mut way)) = ways.pop() {
            if pid == me {
                return Ok(Some(way));
            }
            if !seen.insert(pid) {
                continue;
            }
            let Some(receipt) = shared.parts.store.process(&shared.options.tenant, pid).await?
            else {
                continue;
            };
            let ProcessState::Blocked { on, .. } = &receipt.row.state else {
                continue;
            };
            let next = endless(on).to_vec();
            way.push(receipt);
            ways.extend(next.into_iter().map(|pid| (pid, way.clone())));
        }
        Ok(None)
    }
}

/// Those without whom a wait has no end.
fn endless(on: &BlockedOn) -> &[Pid] {
    if on.until().is_none() { on.awaited() } else { &[] }
}

/// Whether an item of the inbox may end the wait of a process in that state.
fn may_wake(state: &ProcessState, item: &InboxItem) -> bool {
    match (state, item) {
        (
            ProcessState::Blocked { on: BlockedOn::Message { from, .. }, .. },
            InboxItem::Mail { from: sender, .. },
        ) => from.is_none_or(|from| from == *sender),
        (
            _,
            InboxItem::Mail { .. }
            | InboxItem::Priority { .. }
            | InboxItem::SpendLimit { .. }
            | InboxItem::Quota { .. },
        ) => false,
        (_, InboxItem::Signal { .. } | InboxItem::Message { .. }) => true,
    }
}

/// The answer to a wait whose end has come by itself.
fn over(on: &BlockedOn, waited: Duration) -> ToolResult {
    let seconds = waited.as_secs();
    let what = match on {
        BlockedOn::Message { .. } => "no message came",
        BlockedOn::Child { .. } => "they have not all ended",
        _ => return ToolResult::ok(format!("{seconds} s have passed")),
    };
    ToolResult::failed(
        "timeout",
        format!("{what} within {seconds} s"),
        "go on without it, or wait again",
    )
}
