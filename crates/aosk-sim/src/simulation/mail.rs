//! Mail: what was posted for the processes, and what became of it.

use std::collections::{BTreeMap, BTreeSet};

use aosk_abi::{Event, MessageReceived, Op, Pid, Signal, What};
use aosk_ports::{Append, InboxId, InboxItem};

use super::book::Broken;
use crate::promise::Promise;

/// What was posted and not dismissed.
#[derive(Debug, Default)]
pub(super) struct Mail {
    posted: BTreeMap<InboxId, (Pid, InboxItem)>,
    taken: BTreeSet<InboxId>,
    /// Messages of processes that ever were in the inbox, by their senders' operations.
    sent: BTreeSet<(Pid, Op)>,
    /// The newest message of each sender that a process took over.
    heard: BTreeMap<(Pid, Pid), Op>,
}

impl Mail {
    /// An item is in the inbox.
    pub(super) fn post(&mut self, pid: Pid, id: InboxId, item: &InboxItem) {
        self.posted.insert(id, (pid, item.clone()));
        if let InboxItem::Mail { from, op, .. } = item {
            self.sent.insert((*from, *op));
        }
    }

    /// Whether that message of a process ever was in the inbox.
    pub(super) fn was_sent(&self, from: Pid, op: Op) -> bool {
        self.sent.contains(&(from, op))
    }

    /// Whether a process took that message over already.
    fn has_heard(&self, pid: Pid, item: &InboxItem) -> bool {
        match item {
            InboxItem::Mail { from, op, .. } => {
                self.heard.get(&(pid, *from)).is_some_and(|newest| newest >= op)
            }
            _ => false,
        }
    }

    /// Whether an item of a process is there, or was.
    pub(super) fn holds(&self, pid: Pid, id: InboxId) -> bool {
        self.posted.get(&id).is_some_and(|(whose, _)| *whose == pid)
    }

    /// An append took items over; `events` are its own. Each item has its event among them, and
    /// each event that only an item can bring has its item.
    pub(super) fn take(&mut self, append: &Append, events: &[Event], broken: &mut Broken) {
        let mut events: Vec<&Event> = events.iter().collect();
        for id in &append.consumed {
            let item = self.posted.get(id).filter(|(pid, _)| *pid == append.pid);
            let Some((_, item)) = item.filter(|_| self.taken.insert(*id)) else {
                let what = format!("the inbox item {} is taken over a second time", id.0);
                broken.push((Promise::InboxOnce, what));
                continue;
            };
            // A message that comes again leaves no event.
            if self.has_heard(append.pid, item) {
                continue;
            }
            if let InboxItem::Mail { from, op, .. } = item {
                self.heard.insert((append.pid, *from), *op);
            }
            match events.iter().position(|event| tells(&event.what, item, append)) {
                Some(at) => drop(events.remove(at)),
                None => {
                    let what = format!("the inbox item {} is taken over without its event", id.0);
                    broken.push((Promise::InboxKept, what));
                }
            }
        }
        if let Some(event) = events.into_iter().find(|event| is_mail(&event.what)) {
            let what = format!("a {} event came out of no inbox item", event.kind());
            broken.push((Promise::InboxOnce, what));
        }
    }

    /// Items of a process are gone from the inbox; `may_take` says whether it could take one.
    pub(super) fn dismiss(
        &mut self,
        pid: Pid,
        items: &[InboxId],
        may_take: impl Fn(&InboxItem) -> bool,
        broken: &mut Broken,
    ) {
        for id in items {
            let Some((_, item)) = self.posted.get(id).filter(|(whose, _)| *whose == pid) else {
                continue;
            };
            if may_take(item) && !self.has_heard(pid, item) {
                let what = format!("the inbox item {} is dismissed and could be taken", id.0);
                broken.push((Promise::InboxKept, what));
            }
            self.posted.remove(id);
        }
    }

    /// An item that was neither taken over nor is among those that wait.
    pub(super) fn lost(&self, waiting: &BTreeSet<InboxId>) -> Option<(Pid, InboxId)> {
        let lost = |id: &InboxId| !waiting.contains(id) && !self.taken.contains(id);
        let lost = self.posted.iter().find(|(id, _)| lost(id));
        lost.map(|(id, (pid, _))| (*pid, *id))
    }

    /// The items that nobody has taken over.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Pid, InboxId, &InboxItem)> {
        let waits = self.posted.iter().filter(|(id, _)| !self.taken.contains(id));
        waits.map(|(id, (pid, item))| (*pid, *id, item))
    }
}

/// Whether an event of an append says what came with an item.
fn tells(what: &What, item: &InboxItem, append: &Append) -> bool {
    let says = |event: &MessageReceived, text: &str| {
        let brought = append.contents.iter().find(|it| it.hash() == event.content.hash);
        brought.is_some_and(|content| content.bytes()[..] == *text.as_bytes())
    };
    match (what, item) {
        (What::SignalReceived(event), InboxItem::Signal { signal }) => event.signal == *signal,
        (What::MessageReceived(event), InboxItem::Message { from, text }) => {
            // A name in an event holds no NUL; a text is a content and may hold any.
            event.from == from.replace('\0', "\u{fffd}") && event.op.is_none() && says(event, text)
        }
        (What::MessageReceived(event), InboxItem::Mail { from, op, text }) => {
            event.from == from.to_string() && event.op == Some(*op) && says(event, text)
        }
        (What::PriorityChanged(event), InboxItem::Priority { priority }) => {
            event.priority == *priority
        }
        (What::SpendRaised(event), InboxItem::SpendLimit { limit }) => event.limit == *limit,
        (What::QuotaChanged(event), InboxItem::Quota { owner, limits }) => {
            event.owner == owner.replace('\0', "\u{fffd}") && event.limits == *limits
        }
        _ => false,
    }
}

/// Whether only an item of the inbox can bring an event. Who resumes a process may continue it and
/// raise its limit without one.
const fn is_mail(what: &What) -> bool {
    match what {
        What::MessageReceived(_) | What::PriorityChanged(_) | What::QuotaChanged(_) => true,
        What::SignalReceived(received) => !matches!(received.signal, Signal::Cont),
        _ => false,
    }
}
