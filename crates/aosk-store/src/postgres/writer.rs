//! The writer: one task that commits what many callers enqueue, group by group.
//!
//! A commit costs a sync of the server's log, 0.2 to 8 ms by disk and hour, and one round trip or
//! two; a step's rows cost far less. So whatever waits when a commit ends goes into the next one: alone an
//! agent pays one sync a step, and 64 agents share one.
//!
//! **A refusal is one process's.** Later appends of the same process that were enqueued before its
//! refusal was heard are refused with it: they were made in the belief that it would hold.
//!
//! **A server that is away is waited for.** The group whose answer was lost is judged again once
//! the server is back, under the locks of a new transaction: what was committed is found there and
//! acknowledged, so nothing is lost and nothing is written twice. A store that is closed meanwhile
//! waits [`GRACE`] longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aosk_abi::{Pid, Tenant};
use aosk_ports::{Append, Committed, StoreError};
use deadpool_postgres::{Object, Pool};
use futures::channel::oneshot;

use super::append::Prepared;
use super::fault::Fault;
use super::group::{self, Entry, Outcomes};
use super::guesses::Guesses;
use super::host::{Berth, host};
use super::lease::Tenure;
use super::lone::Ready;
use super::queue::{Depth, Queue};
use super::session::{Backoff, CLASHES, Sessions};
use super::tenant::{self, TenantRow};
use crate::check::{closed, follows};

/// What may wait for the writer. Past it, callers wait too, with their thread: the writer needs
/// nothing of theirs to go on, and each process awaits its tickets, so this much is only ever
/// reached on a server that has all but stopped.
const QUEUE: Depth = Depth { appends: 1 << 16, bytes: 64 << 20 };

/// What one transaction takes. Longer ones would let the first wait for the last.
const GROUP: Depth = Depth { appends: 1024, bytes: 8 << 20 };

/// How long a store that is being closed still waits for a server that is away.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Whose append it is.
pub(super) type Key = (Tenant, Pid);

/// An append and the one who waits for it.
pub(super) struct Item {
    key: Key,
    append: Result<Prepared, StoreError>,
    sender: oneshot::Sender<Result<Committed, StoreError>>,
}

/// The callers' end of the writer.
#[derive(Clone)]
pub(super) struct Desk(Arc<Queue<Item>>);

impl Desk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Queue::new(QUEUE)))
    }

    /// Enqueues an append; waits only while the queue is full.
    pub(super) fn enqueue(
        &self,
        append: Append,
    ) -> oneshot::Receiver<Result<Committed, StoreError>> {
        let (sender, answer) = oneshot::channel();
        let key = (append.tenant.clone(), append.pid);
        // Encoded here, on the caller's thread, because there are many callers and one writer. A
        // refusal is told in its turn, so that it takes the later ones of its process with it.
        let append = Prepared::new(append);
        let bytes = append.as_ref().map_or(0, Prepared::size);
        if let Err(item) = self.0.push(bytes, Item { key, append, sender }) {
            tell(item, Err(closed()));
        }
        answer
    }

    /// What waits.
    pub(super) fn depth(&self) -> Depth {
        self.0.depth()
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.0.close();
    }

    /// Takes nothing more and refuses what waits.
    fn abandon(&self) {
        self.close();
        while let Some((_, items)) = self.0.take_now(GROUP)
            && !items.is_empty()
        {
            items.into_iter().for_each(|item| tell(item, Err(closed())));
        }
    }
}

fn tell(item: Item, answer: Result<Committed, StoreError>) {
    // Nobody listens to a ticket that was dropped.
    let _ = item.sender.send(answer);
}

/// The task.
pub(super) struct Writer {
    clerk: Clerk,
    hand: Hand,
    berth: Berth,
    /// Dropped with the writer, which says that everything is written.
    _done: oneshot::Sender<()>,
}

/// What is being committed.
#[derive(Default)]
struct Hand {
    /// The number of the first item.
    first: u64,
    items: Vec<Item>,
}

impl Writer {
    /// A writer for that desk, and what ends with it.
    pub(super) fn new(
        sessions: Arc<Sessions>,
        tenure: Arc<Tenure>,
        desk: Desk,
    ) -> Result<(Self, oneshot::Receiver<()>), StoreError> {
        let berth = Berth::default();
        let steps = sessions.steps(berth.clone())?;
        let (refused, guesses) = (HashMap::new(), Guesses::default());
        let clerk = Clerk { sessions, steps, ready: None, tenure, desk, refused, guesses };
        let (done, ends) = oneshot::channel();
        Ok((Self { clerk, hand: Hand::default(), berth, _done: done }, ends))
    }

    /// Commits until the desk is closed and empty.
    pub(super) async fn run(mut self) {
        self.serve().await;
    }

    /// The same; may be dropped and begun again, with [`moved`](Self::moved) between.
    pub(super) async fn serve(&mut self) {
        let Self { clerk, hand, berth, .. } = self;
        host(berth, clerk.serve(hand)).await;
    }

    /// The writer after it was interrupted: what became of what it has in hand is not known.
    pub(super) fn moved(mut self) -> Self {
        self.clerk.guesses.doubt();
        self.clerk.ready = None;
        self
    }
}

impl Drop for Writer {
    /// Nobody writes any more: a writer that fell leaves nobody waiting.
    fn drop(&mut self) {
        self.clerk.desk.abandon();
    }
}

/// Who commits what the writer has in hand.
struct Clerk {
    sessions: Arc<Sessions>,
    /// Where the connection for it comes from, and the connection.
    steps: Pool,
    ready: Option<Ready>,
    tenure: Arc<Tenure>,
    desk: Desk,
    /// Processes with a refused append, and the number of the last item that is refused with it.
    refused: HashMap<Key, (u64, StoreError)>,
    guesses: Guesses,
}

impl Clerk {
    async fn serve(&mut self, hand: &mut Hand) {
        // The first agent need not wait for a log-in and for plans. Where there is no server, the first append
        // says so.
        self.ready = Ready::on(&self.steps).await.ok();
        loop {
            while !hand.items.is_empty() {
                let outcomes = self.outcomes(hand.first, &hand.items).await;
                hand.first += outcomes.len() as u64;
                let rest = hand.items.split_off(outcomes.len());
                let answered = std::mem::replace(&mut hand.items, rest);
                self.answer(answered, outcomes, hand.first - 1);
            }
            let (first, items) = self.desk.0.take(GROUP).await;
            if items.is_empty() {
                return;
            }
            *hand = Hand { first, items };
        }
    }

    /// The answers to the first items of a group, however long they take.
    async fn outcomes(&mut self, first: u64, items: &[Item]) -> Outcomes {
        let (mut backoff, mut clashes, mut closed_at) = (Backoff::new(), 0, None);
        let same = |error: StoreError| vec![Err(error); items.len()];
        loop {
            match self.attempt(first, items).await {
                Ok(outcomes) => {
                    self.sessions.line.up();
                    return outcomes;
                }
                Err(Fault::Clash(_)) if clashes < CLASHES => clashes += 1,
                Err(Fault::Lost(what)) => {
                    self.sessions.line.down(&what);
                    if self.desk.0.is_closed() {
                        let since = *closed_at.get_or_insert_with(Instant::now);
                        if since.elapsed() >= GRACE {
                            return same(closed());
                        }
                    }
                    backoff.pause().await;
                }
                Err(fault) => return same(fault.at(&self.sessions.address)),
            }
        }
    }

    /// One attempt at a group, in one transaction.
    async fn attempt(&mut self, first: u64, items: &[Item]) -> Result<Outcomes, Fault> {
        let ready = match self.ready.take() {
            Some(ready) if !ready.client.is_closed() => ready,
            closed => {
                // The pool gives the next one only when it has this one back.
                drop(closed);
                Ready::on(&self.steps).await?
            }
        };
        let lost = self.tenure.check().err();
        let mut entries = Vec::with_capacity(items.len());
        for (item, number) in items.iter().zip(first..) {
            let refused = self.refused.get(&item.key).filter(|(until, _)| number <= *until);
            let before = refused.map(|(_, error)| follows(error));
            let work = match (before.or_else(|| lost.clone()), &item.append) {
                (Some(error), _) => Err(error),
                (None, Err(error)) => Err(error.clone()),
                (None, Ok(append)) => {
                    Ok((append, self.tenant(&ready.client, &append.tenant).await?))
                }
            };
            entries.push(Entry { key: &item.key, work });
        }
        match group::run(&ready, &entries, self.tenure.node(), &mut self.guesses).await {
            Ok(outcomes) => {
                self.ready = Some(ready);
                Ok(outcomes)
            }
            Err(fault) => {
                // In the middle of a transaction: nobody else may get it.
                drop(Object::take(ready.client));
                Err(fault)
            }
        }
    }

    async fn tenant(&self, client: &Object, name: &Tenant) -> Result<TenantRow, Fault> {
        if let Some(row) = self.sessions.known(name) {
            return Ok(row);
        }
        let row = tenant::find_or_make(client, name).await?;
        self.sessions.know(name, row);
        Ok(row)
    }

    /// Answers items of which the last has the number `last`.
    fn answer(&mut self, items: Vec<Item>, outcomes: Outcomes, last: u64) {
        self.refused.retain(|_, (until, _)| *until > last);
        if outcomes.iter().all(Result::is_ok) {
            items.into_iter().zip(outcomes).for_each(|(item, outcome)| tell(item, outcome));
            return;
        }
        // Nothing is enqueued between the number and the answers, so whatever was enqueued before a
        // refusal was heard is counted, and nothing after.
        let queue = Arc::clone(&self.desk.0);
        queue.still(|until| {
            for (item, outcome) in items.into_iter().zip(outcomes) {
                if let Err(error) = &outcome {
                    let entry = self.refused.entry(item.key.clone());
                    entry.or_insert_with(|| (until, error.clone())).0 = until;
                }
                tell(item, outcome);
            }
        });
    }
}
