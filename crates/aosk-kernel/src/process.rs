//! A process in memory: its image, its texts and what of its journal is still to be written. The
//! only place where an image meets its journal.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use aosk_abi::{
    BlockedOn, Cancelled, Chain, Code, Content, Event, Exit, Exited, Hash, Interrupted,
    MessageReceived, Op, Pid, PriorityChanged, ProcessState, QuotaChanged, Record, RestartSpec,
    Restarted, Seq, Signal, SignalReceived, SpendRaised, Timestamp, ToolCall, ToolResult, What,
};
use aosk_ports::{Append, InboxId, InboxItem, StoreError, Ticket};

use crate::contents::Contents;
use crate::error::Error;
use crate::image::{Image, Pending, Saved};
use crate::load::Loaded;
use crate::observe::Notice;
use crate::shared::Shared;

/// Events that were made and not yet sent to the store, with their contents.
pub(crate) struct Batch {
    chain: Chain,
    contents: Vec<Content>,
    consumed: Vec<InboxId>,
    sent: Arc<Sent>,
    last_checkpoint: u64,
    saved: Saved,
    checkpoint_now: bool,
}

impl Batch {
    /// A batch that continues `chain`; the last checkpoint was taken before event number
    /// `last_checkpoint`, and the next may stand on what is `saved`.
    pub(crate) fn new(chain: Chain, last_checkpoint: u64, saved: Saved) -> Self {
        Self {
            chain,
            contents: Vec::new(),
            consumed: Vec::new(),
            sent: Arc::default(),
            last_checkpoint,
            saved,
            checkpoint_now: false,
        }
    }

    fn consume(&mut self, id: InboxId) {
        self.consumed.push(id);
    }

    /// The next write carries a checkpoint if enough happened since the last one.
    fn request_checkpoint(&mut self) {
        self.checkpoint_now = true;
    }

    /// Whether a checkpoint is due: when `fewest` events happened since the last, or, where one was
    /// asked for because the process leaves memory, 8 and a 64th of the history. A checkpoint has a
    /// few kilobytes at any length of the history, so either bounds what all of them together cost by
    /// a constant for each event, and the way back into memory has at most `fewest` to fold.
    fn checkpoint_due(&self, next: u64, fewest: u64) -> bool {
        let since = next.saturating_sub(self.last_checkpoint);
        let least = if self.checkpoint_now { 8.max(next / 64).min(fewest) } else { fewest };
        since > 0 && since >= least
    }
}

/// Appends on their way to the disk. It outlives a driver that falls over, so that the journal is
/// not read again before all that it sent is there or refused.
#[derive(Default)]
pub(crate) struct Sent(Mutex<Vec<Ticket>>);

impl Sent {
    fn push(&self, ticket: Ticket) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
    }

    /// Waits for every answer, also behind a refusal: as long as one is due, the store refuses what
    /// comes next with it, and the next stay of the process could begin before that. The last event
    /// that became durable, or the first refusal.
    pub(crate) async fn heard(&self) -> Result<Option<Seq>, StoreError> {
        let due = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut heard = Ok(None);
        for ticket in due {
            let answer = ticket.await;
            heard = heard.and_then(|_| answer.map(|committed| Some(committed.last)));
        }
        heard
    }
}

/// A process in memory.
pub(crate) struct Process {
    pub(crate) shared: Arc<Shared>,
    pub(crate) image: Image,
    pub(crate) contents: Contents,
    batch: Batch,
    /// Items of the inbox that were written down; they are shown again until that is durable.
    taken: HashSet<InboxId>,
    /// Those of them that say what came before, or nothing that can be.
    twice: Vec<InboxId>,
}

impl Process {
    /// A process whose journal ends where the image does.
    pub(crate) fn new(shared: Arc<Shared>, loaded: Loaded, contents: Contents) -> Self {
        let Loaded { image, first, saved } = loaded;
        let chain = Chain::after(image.tenant.clone(), image.pid, image.head);
        let batch = Batch::new(chain, first.0, saved);
        Self { shared, image, contents, batch, taken: HashSet::new(), twice: Vec::new() }
    }

    /// A process whose first record is still to be written.
    pub(crate) fn begun(
        shared: Arc<Shared>,
        image: Image,
        contents: Contents,
        (first, beside): (Record, impl IntoIterator<Item = Content>),
    ) -> Self {
        let chain = Chain::after(image.tenant.clone(), image.pid, Hash::ZERO);
        let mut batch = Batch::new(chain, 0, Saved::default());
        batch.chain.adopt(first);
        batch.contents.extend(beside);
        Self { shared, image, contents, batch, taken: HashSet::new(), twice: Vec::new() }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.image.pid
    }

    /// Makes an event.
    pub(crate) fn emit(&mut self, what: What) -> Result<(), Error> {
        self.emit_with(what, [])
    }

    /// Makes an event together with contents that it names.
    pub(crate) fn emit_with(
        &mut self,
        what: What,
        contents: impl IntoIterator<Item = Content>,
    ) -> Result<(), Error> {
        self.write(Event::new(self.shared.parts.clock.now(), what), contents)
    }

    /// Makes an event whose time other data already depend on.
    pub(crate) fn emit_at(&mut self, at: Timestamp, what: What) -> Result<(), Error> {
        self.write(Event::new(at, what), [])
    }

    fn write(
        &mut self,
        event: Event,
        contents: impl IntoIterator<Item = Content>,
    ) -> Result<(), Error> {
        let (image, chain) = (&mut self.image, &mut self.batch.chain);
        let record = chain.seal(image.next, image.epoch, &event)?;
        let (seq, hash) = (record.seq, record.hash);
        if let Err(source) = image.apply_event(&event, seq, hash) {
            chain.unseal();
            return Err(Error::Fold { pid: image.pid, source });
        }
        self.batch.contents.extend(contents);
        let notice = Notice::Happened { seq, event: &event };
        self.shared.parts.observer.notice(image.pid, &notice);
        Ok(())
    }

    /// Sends what was made to the store without waiting for it.
    pub(crate) fn flush(&mut self) {
        let batch = &mut self.batch;
        if batch.chain.records().is_empty() {
            return;
        }
        let next = self.image.next.0;
        let checkpoint = batch
            .checkpoint_due(next, self.shared.options.checkpoint_events)
            .then(|| self.image.to_checkpoint_on(&batch.saved))
            .flatten();
        let checkpoint = checkpoint.map(|(checkpoint, saved)| {
            (batch.last_checkpoint, batch.saved) = (next, saved);
            checkpoint
        });
        batch.checkpoint_now = false;
        let (prev, records) = batch.chain.take();
        let append = Append {
            tenant: self.image.tenant.clone(),
            pid: self.image.pid,
            epoch: self.image.epoch,
            prev,
            records,
            contents: std::mem::take(&mut batch.contents),
            row: self.image.row(),
            checkpoint,
            consumed: std::mem::take(&mut batch.consumed),
        };
        batch.sent.push(self.shared.parts.store.append(append));
    }

    /// What was sent to the store and has no answer yet.
    pub(crate) fn sent(&self) -> Arc<Sent> {
        self.batch.sent.clone()
    }

    /// Waits until everything that was made is durable.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        self.flush();
        let sent = self.sent();
        if let Some(last) = sent.heard().await? {
            let row = self.image.row();
            self.shared
                .parts
                .observer
                .notice(self.image.pid, &Notice::Committed { last, row: &row });
            if let Some(memory) = &self.shared.parts.memory {
                memory.committed(self.image.pid);
            }
        }
        self.let_go_of_what_came_twice().await;
        Ok(())
    }

    /// What came twice made no event that it could leave the inbox with. Whoever takes the process
    /// over meanwhile lets go of it, too: so an append never brings it along, for that would be
    /// refused where the other was faster.
    async fn let_go_of_what_came_twice(&mut self) {
        if self.twice.is_empty() {
            return;
        }
        let twice = std::mem::take(&mut self.twice);
        let (store, image) = (&self.shared.parts.store, &self.image);
        if let Err(error) = store.dismiss(&image.tenant, image.pid, image.next, &twice).await {
            tracing::warn!(pid = %image.pid, %error, "a message that came twice stays in the inbox for now");
            self.taken.retain(|id| !twice.contains(id));
        }
    }

    /// The next append carries a checkpoint if enough happened since the last one.
    pub(crate) fn request_checkpoint(&mut self) {
        self.batch.request_checkpoint();
    }

    /// Writes an inbox item into the journal; the item leaves the inbox in the same transaction.
    /// What a process that has ended cannot take stays where it is.
    pub(crate) fn take(&mut self, id: InboxId, item: InboxItem) -> Result<(), Error> {
        if !can_take(&self.image.state, &item) || !self.taken.insert(id) {
            return Ok(());
        }
        if let InboxItem::Mail { from, op, .. } = &item
            && self.image.mailbox.has_heard(*from, *op)
        {
            // Its sender did not know that it was here and posted it again.
            self.twice.push(id);
            return Ok(());
        }
        if let InboxItem::Quota { owner, limits } = &item
            && owner == BlockedOn::OWN
            && limits.check().is_err()
        {
            tracing::warn!(pid = %self.pid(), "a quota that no process can have is not taken");
            self.twice.push(id);
            return Ok(());
        }
        self.batch.consume(id);
        match item {
            InboxItem::Signal { signal } => {
                self.emit(What::SignalReceived(SignalReceived { signal }))?;
                if signal == Signal::Kill { self.end_killed() } else { Ok(()) }
            }
            InboxItem::Message { from, text } => {
                let from = self.shared.parts.secrets.text(&from).replace('\0', "\u{fffd}");
                let text = self.shared.parts.secrets.text(&text).into_owned();
                let content = self.contents.seal(text.into_bytes());
                let message = MessageReceived { from, content: content.reference(), op: None };
                self.emit_with(What::MessageReceived(message), [content])
            }
            InboxItem::Mail { from, op, text } => {
                let text = self.shared.parts.secrets.text(&text).into_owned();
                let content = self.contents.seal(text.into_bytes());
                let (from, content_ref) = (from.to_string(), content.reference());
                let message = MessageReceived { from, content: content_ref, op: Some(op) };
                self.emit_with(What::MessageReceived(message), [content])
            }
            InboxItem::Priority { priority } => {
                self.emit(What::PriorityChanged(PriorityChanged { priority }))?;
                self.shared.dispatcher.renice(self.pid(), priority);
                Ok(())
            }
            InboxItem::SpendLimit { limit } => self.emit(What::SpendRaised(SpendRaised { limit })),
            InboxItem::Quota { owner, limits } => {
                let owner = owner.replace('\0', "\u{fffd}");
                let is_own = owner == BlockedOn::OWN;
                self.emit(What::QuotaChanged(QuotaChanged { limits, owner }))?;
                if is_own {
                    self.shared.dispatcher.limit_process(self.pid(), &limits)?;
                }
                Ok(())
            }
        }
    }

    fn end_killed(&mut self) -> Result<(), Error> {
        let in_flight: Vec<Op> = self
            .image
            .pending
            .iter()
            .filter(|(op, pending)| match pending {
                // One that waits for its next attempt is not in flight, and nothing is reserved.
                Pending::Infer { .. } => self.image.account.reserved.contains_key(op),
                Pending::Tool { attempts, .. } => *attempts > 0,
                Pending::Tell { .. } | Pending::Exit { .. } => false,
            })
            .map(|(&op, _)| op)
            .collect();
        for op in in_flight {
            self.emit(What::Cancelled(Cancelled { op }))?;
        }
        self.emit(What::Exited(Exited { op: None, exit: Exit::Killed }))
    }

    /// Tells the process of a call that was cut off and must not be made again.
    pub(crate) fn interrupt(&mut self, op: Op, call: &ToolCall) -> Result<(), Error> {
        let result = ToolResult::failed(
            "interrupted",
            format!(
                "the call of {} was cut off by a restart; whether it took effect is not known, and \
                 it must not be repeated blindly",
                call.name
            ),
            "find out whether it took effect before you call it again",
        );
        let content = self.contents.seal(result.encode());
        let interrupted = Interrupted { op, result: content.reference() };
        self.emit_with(What::Interrupted(interrupted), [content])
    }

    /// Ends the program, or lets it begin again where the manifest asks for it.
    pub(crate) fn end(
        &mut self,
        op: Option<Op>,
        exit: Exit,
        restart: &RestartSpec,
        beside: impl IntoIterator<Item = Content>,
    ) -> Result<(), Error> {
        let at = self.shared.parts.clock.now();
        let restarts = self.image.restarts;
        let what = match restart.wait_ms(&exit, restarts) {
            Some(wait) => What::Restarted(Restarted {
                exit,
                number: restarts + 1,
                op,
                until: at.plus_millis(wait),
            }),
            None => What::Exited(Exited { op, exit }),
        };
        self.write(Event::new(at, what), beside)
    }

    /// Ends the program because the kernel found that it cannot go on.
    pub(crate) fn end_failed(
        &mut self,
        code: Code,
        message: &str,
        restart: &RestartSpec,
    ) -> Result<(), Error> {
        let message = self.contents.seal_aside(message.as_bytes());
        let exit = Exit::Failed { code: code.as_str().to_owned(), message: message.reference() };
        self.end(None, exit, restart, [message])
    }

    /// Why nothing is to be done for the process until something comes from outside.
    pub(crate) fn rest(&self) -> Option<Rest> {
        Rest::of(&self.image.state)
    }
}

impl Drop for Process {
    /// What happened before a panic happened all the same: a reply is paid for. To send it at once
    /// would cost every step an append of its own, for a case that should not be.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would end the program.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| self.flush()));
        }
    }
}

/// Why nothing is to be done for a process until something comes from outside.
pub(crate) enum Rest {
    /// It has ended.
    Exited(Exit),
    /// A signal suspended it.
    Suspended,
    /// It waits for what only somebody else can give.
    Parked(BlockedOn),
}

impl Rest {
    /// What a process in that state rests for, if it does.
    pub(crate) fn of(state: &ProcessState) -> Option<Self> {
        match state {
            ProcessState::Exited { exit } => Some(Self::Exited(exit.clone())),
            ProcessState::Suspended { .. } => Some(Self::Suspended),
            ProcessState::Blocked {
                on:
                    on @ (BlockedOn::Quota { .. }
                    | BlockedOn::Review { .. }
                    | BlockedOn::Limit { until: None, .. }),
                ..
            } => Some(Self::Parked(on.clone())),
            _ => None,
        }
    }
}

/// Whether a process in that state takes the item; what it does not take it never will.
pub(crate) fn can_take(state: &ProcessState, item: &InboxItem) -> bool {
    match state {
        ProcessState::Exited { exit } => {
            matches!(item, InboxItem::Message { .. }) && exit.can_be_continued()
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use aosk_abi::Tenant;

    use super::*;

    fn batch(last: u64) -> Batch {
        Batch::new(
            Chain::after(Tenant::local(), Pid::from_alias("agent"), Hash::ZERO),
            last,
            Saved::default(),
        )
    }

    #[test]
    fn checkpoints_come_at_a_fixed_distance_whatever_the_history() {
        for last in [0, 8_000, 8_000_000] {
            assert!(!batch(last).checkpoint_due(last + 255, 256));
            assert!(batch(last).checkpoint_due(last + 256, 256));
        }
    }

    #[test]
    fn a_requested_checkpoint_waits_for_enough_to_save() {
        for (last, least) in [(10, 8), (6_400, 101), (8_000_000, 256)] {
            let mut batch = batch(last);
            batch.request_checkpoint();
            assert!(!batch.checkpoint_due(last + least - 1, 256));
            assert!(batch.checkpoint_due(last + least, 256));
        }
    }
}
