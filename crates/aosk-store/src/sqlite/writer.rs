//! The writer: one thread that commits what many callers enqueue, group by group.
//!
//! A commit costs a sync of the log, 0.2 to 8 ms by disk and hour; a step's rows cost 20 µs. So
//! whatever waits when a commit ends goes into the next one: alone an agent pays one sync a step,
//! and 64 agents share one.
//!
//! **The database is the only truth.** Epochs, heads and places are read in the transaction that
//! changes them, never kept in memory, so a group that fails leaves nothing to take back.
//!
//! **Acknowledged means synced.** Tickets resolve after `COMMIT` returned under
//! `synchronous=FULL`, in the order of the calls.
//!
//! **Chunks of long contents go aside**: each in a transaction and on a connection of its own, between two
//! groups. Through the writer's cache 100 MB of them would take its 32 MiB and every page that the next
//! steps need.
//!
//! **A refusal is one process's.** Checks come before writes, so a refused append leaves nothing of
//! itself in the transaction. Later appends of the same process that were enqueued before its
//! refusal was heard are refused with it: they were made in the belief that it would hold.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use aosk_abi::{Pid, Tenant};
use aosk_ports::StoreError;
use futures::channel::oneshot;
use rusqlite::{Connection, TransactionBehavior};

use super::fault::Fault;
use super::files::Files;
use super::log::Mover;
use super::queue::Queue;
use super::schema::{Access, open_shared};
use crate::check::{closed, follows};

/// What may wait for the writer. Past it, callers wait too, with their thread: the writer needs
/// nothing of theirs to go on, and each process awaits its tickets, so this much is only ever
/// reached on a disk that has all but stopped.
const QUEUE_BYTES: usize = 64 << 20;

/// What one transaction takes: some 3,000 steps. Longer ones would let the first wait for the last.
const GROUP_BYTES: usize = 8 << 20;

/// How many groups pass between two looks at the log's length. A look takes locks, a few
/// per cent of the steps per second of 64 agents; the log outgrows its bound by as many groups at most.
const LOG_GROUPS: u64 = 8;

/// Whose append a piece of work is.
pub(super) type Key = (Tenant, Pid);

/// The answer to a piece of work, at the moment when it is durable.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, StoreError>>;

/// The handle of the writer. Dropping it commits what is enqueued and ends the thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue<Item>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on the owner's connection to the database in `path`.
    pub(super) fn start(connection: Connection, files: Files) -> std::io::Result<Self> {
        let path = files.database().to_owned();
        let queue = Arc::new(Queue::new(QUEUE_BYTES));
        let thread = std::thread::Builder::new().name("aosk-store-writer".to_owned()).spawn({
            let queue = Abandon(Arc::clone(&queue));
            move || {
                let mover = Mover::new(path.clone());
                let refused = HashMap::new();
                Thread { connection, aside: None, files, path, refused, mover }.run(&queue.0);
            }
        })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Enqueues work of `bytes`; waits only while the queue is full. `append_of` names the process
    /// whose append it is.
    pub(super) fn enqueue<T: Send + 'static>(
        &self,
        append_of: Option<Key>,
        bytes: usize,
        work: impl FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<T> {
        self.push(bytes, append_of.map_or(Turn::Group, Turn::Append), work)
    }

    /// Enqueues work of `bytes` that is no part of any group.
    pub(super) fn enqueue_aside<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<T> {
        self.push(bytes, Turn::Aside, work)
    }

    fn push<T: Send + 'static>(
        &self,
        bytes: usize,
        turn: Turn,
        work: impl FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<T> {
        let (sender, answer) = oneshot::channel();
        let item = Item { turn, work: Box::new(Task { work, result: None, sender }) };
        if let Err(refused) = self.queue.push(bytes, item) {
            refused.work.finish(Some(closed()));
        }
        answer
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its hook; its callers got `StoreClosed`.
            let _ = thread.join();
        }
    }
}

/// Refuses everything once the thread is gone, so that no caller waits for ever.
struct Abandon(Arc<Queue<Item>>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

struct Item {
    turn: Turn,
    work: Box<dyn Work>,
}

/// Where a piece of work is done.
#[derive(Debug)]
enum Turn {
    /// In the transaction of its group.
    Group,
    /// There too; it is an append of that process.
    Append(Key),
    /// In a transaction of its own, behind the group.
    Aside,
}

impl Item {
    const fn append_of(&self) -> Option<&Key> {
        match &self.turn {
            Turn::Append(key) => Some(key),
            Turn::Group | Turn::Aside => None,
        }
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Item").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// A piece of work and the one who waits for it.
trait Work: Send {
    fn run(&mut self, connection: &Connection) -> Result<(), Fault>;
    fn finish(self: Box<Self>, failed: Option<StoreError>);
}

struct Task<T, F> {
    work: F,
    result: Option<T>,
    sender: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnMut(&Connection) -> Result<T, Fault> + Send> Work for Task<T, F> {
    fn run(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.result = Some((self.work)(connection)?);
        Ok(())
    }

    fn finish(self: Box<Self>, failed: Option<StoreError>) {
        let result = match failed {
            Some(error) => Err(error),
            None => self.result.ok_or_else(closed),
        };
        // Nobody listens to a ticket that was dropped.
        let _ = self.sender.send(result);
    }
}

struct Thread {
    /// For what goes aside; opened when the first comes. It closes before the other one, which knows
    /// whether the log may be moved then.
    aside: Option<Connection>,
    connection: Connection,
    files: Files,
    path: PathBuf,
    /// Processes with a refused append, and the number of the last item that is refused with it.
    refused: HashMap<Key, (u64, StoreError)>,
    mover: Mover,
}

impl Thread {
    fn run(mut self, queue: &Queue<Item>) {
        let mut groups: u64 = 0;
        loop {
            let (mut group, last) = queue.take(GROUP_BYTES);
            if group.is_empty() {
                return;
            }
            let first = last + 1 - group.len() as u64;
            let mut outcomes = match self.commit(&mut group, first) {
                Ok(outcomes) => outcomes,
                Err(fault) => vec![Some(fault.at(&self.path)); group.len()],
            };
            for (item, outcome) in group.iter_mut().zip(&mut outcomes) {
                if matches!(item.turn, Turn::Aside) {
                    *outcome = self.beside(&mut *item.work).err();
                }
            }
            self.refused.retain(|_, (until, _)| *until > last);
            if outcomes.iter().all(Option::is_none) {
                group.into_iter().for_each(|item| item.work.finish(None));
            } else {
                // Nothing is enqueued between the number and the answers, so whatever was enqueued
                // before a refusal was heard is counted, and nothing after.
                queue.still(|until| self.answer(group, outcomes, until));
            }
            groups += 1;
            if groups.is_multiple_of(LOG_GROUPS) {
                self.mover.run(&self.connection);
            }
        }
    }

    /// Runs work in a transaction of its own.
    fn beside(&mut self, work: &mut dyn Work) -> Result<(), StoreError> {
        let mut connection = match self.aside.take() {
            Some(connection) => connection,
            None => open_shared(&self.files, Access::Post)?,
        };
        let done = (|| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            work.run(&transaction)?;
            transaction.commit().map_err(Fault::from)
        })();
        self.aside = Some(connection);
        done.map_err(|fault| fault.at(&self.path))
    }

    /// Answers a group with refusals; `until` is the last item that is refused with them.
    fn answer(&mut self, group: Vec<Item>, outcomes: Vec<Option<StoreError>>, until: u64) {
        for (item, outcome) in group.into_iter().zip(outcomes) {
            if let (Some(key), Some(error)) = (item.append_of(), &outcome) {
                self.refused.entry(key.clone()).or_insert_with(|| (until, error.clone())).0 = until;
            }
            item.work.finish(outcome);
        }
    }

    /// Runs a group in one transaction. The outcomes hold once this returns `Ok`; an error is the
    /// whole group's.
    fn commit(&mut self, group: &mut [Item], first: u64) -> Result<Vec<Option<StoreError>>, Fault> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut refused_here: HashMap<Key, StoreError> = HashMap::new();
        let mut outcomes = Vec::with_capacity(group.len());
        for (number, item) in (first..).zip(group) {
            if matches!(item.turn, Turn::Aside) {
                outcomes.push(None);
                continue;
            }
            let barred = item.append_of().and_then(|key| {
                let before =
                    self.refused.get(key).filter(|(until, _)| number <= *until).map(|(_, e)| e);
                before.or_else(|| refused_here.get(key))
            });
            if let Some(error) = barred {
                outcomes.push(Some(follows(error)));
                continue;
            }
            match item.work.run(&transaction) {
                Ok(()) => outcomes.push(None),
                Err(Fault::Refused(error)) => {
                    if let Some(key) = item.append_of() {
                        refused_here.insert(key.clone(), error.clone());
                    }
                    outcomes.push(Some(error));
                }
                Err(fault) => return Err(fault),
            }
        }
        transaction.commit()?;
        Ok(outcomes)
    }
}
