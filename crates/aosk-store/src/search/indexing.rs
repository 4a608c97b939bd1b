//! The index of a node, kept up with the journals while agents run.
//!
//! Nothing waits for it. It hears which processes committed something, gathers that for a fifth of
//! a second and reads it behind them, one process after the other. After each stretch it rests as
//! long as that took, so that on two cores, where four agents may be at work, it takes at most half
//! of one. What it did not hear (another node wrote it, it was down at the time) it finds in a
//! round over all processes, at its start and every ten minutes.
//!
//! What fails is tried again after a second, then after two, up to five minutes: a full disk or a
//! server that is away ends by itself, and whoever asks meanwhile hears why. A journal that is
//! damaged holds up no other.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, Pid, Tenant};
use aosk_ports::{Found, Journal, Memory, Query, Retriever, StoreError};
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use super::follower::Follower;
use super::index::SearchIndex;

/// How an index is opened. It may block, and is called again after it failed.
pub type OpenIndex = dyn Fn() -> Result<SearchIndex, StoreError> + Send + Sync;

/// For how long commits are gathered: an agent makes several in a step.
const GATHER: Duration = Duration::from_millis(200);

/// What is said once it has ended.
const ENDED: &str = "the search index was closed: its program ends";

/// How often all processes are looked at.
const EVERY: Duration = Duration::from_secs(600);

/// How many vectors are made at once. A model on this machine takes a second for them.
const VECTORS: usize = 16;

/// An index that follows the journals of a store in the background. Cheap to clone.
#[derive(Clone)]
pub struct Indexing(Arc<Inner>);

struct Inner {
    open: Arc<OpenIndex>,
    tenant: Tenant,
    state: Mutex<State>,
    /// Something is to be done.
    wake: Notify,
    end: Notify,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    /// `None` once it has ended: whoever keeps a handle keeps no store open.
    journal: Option<Arc<dyn Journal>>,
    index: Result<Arc<SearchIndex>, StoreError>,
    committed: BTreeSet<Pid>,
    is_round_due: bool,
}

/// What is to be done next.
enum Due {
    Round,
    Follow(BTreeSet<Pid>),
    Vectors,
}

impl Indexing {
    /// Begins to follow the tenant's processes in `journal`. Within a tokio runtime; returns at
    /// once, whatever becomes of the index.
    #[must_use]
    pub fn begin(journal: Arc<dyn Journal>, tenant: Tenant, open: Arc<OpenIndex>) -> Self {
        let index = Err(closed("the search index is about to be opened: ask again in a moment"));
        let state =
            State { journal: Some(journal), index, committed: BTreeSet::new(), is_round_due: true };
        let (state, task) = (Mutex::new(state), Mutex::default());
        let (wake, end) = (Notify::new(), Notify::new());
        let inner = Arc::new(Inner { open, tenant, state, wake, end, task });
        let working = Arc::clone(&inner);
        let work = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = working.end.notified() => {}
                () = working.work() => {}
            }
            let mut state = working.state();
            state.index = Err(closed(ENDED));
            state.journal = None;
        });
        *inner.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
        Self(inner)
    }

    /// Looks at all processes now: some may have been removed.
    pub fn sweep(&self) {
        self.0.state().is_round_due = true;
        self.0.wake.notify_one();
    }

    /// Ends after what is being written, and closes the index. What is not in it yet is followed
    /// the next time.
    pub async fn end(&self) {
        self.0.end.notify_one();
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(crash) = task.await
        {
            tracing::warn!("the search index was not closed in order: {crash}");
        }
    }
}

impl Memory for Indexing {
    fn committed(&self, pid: Pid) {
        self.0.state().committed.insert(pid);
        self.0.wake.notify_one();
    }

    fn follow<'a>(
        &'a self,
        tenant: &'a Tenant,
        pid: Pid,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let follower = self.0.follower()?;
            follower.follow(tenant, pid).await
        })
    }

    fn query(&self, query: Query) -> BoxFuture<'_, Result<Found, StoreError>> {
        Box::pin(async move {
            let index = self.0.state().index.clone()?;
            let mut found = index.query(query).await?;
            if !index.has_embedder() {
                // Whoever set none asked for words.
                found.words_only = None;
            }
            Ok(found)
        })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who reads the journals into the index.
    fn follower(&self) -> Result<Follower, StoreError> {
        let state = self.state();
        let journal = state.journal.clone().ok_or_else(|| closed(ENDED))?;
        Ok(Follower::new(journal, state.index.clone()?))
    }

    async fn work(&self) {
        let index = self.opened().await;
        self.state().index = Ok(index.clone());
        let Ok(follower) = self.follower().map(Follower::at_leisure) else { return };
        let (mut failing, mut stalled) = (Patience::default(), Patience::default());
        let mut round_at = Instant::now();
        let mut vectors_at = index.has_embedder().then(Instant::now);
        loop {
            let done = match self.due(round_at, vectors_at).await {
                Due::Round => {
                    round_at = Instant::now() + EVERY;
                    follower.round(&self.tenant).await.map(drop)
                }
                Due::Follow(pids) => self.follow_all(&follower, pids).await,
                Due::Vectors => {
                    let began = Instant::now();
                    let coverage = index.embed(VECTORS).await;
                    sleep(began.elapsed()).await;
                    match coverage {
                        Ok(coverage) => {
                            let pause =
                                coverage.stalled.map(|(_, least)| stalled.next().max(least));
                            if pause.is_none() {
                                stalled = Patience::default();
                            }
                            let again = pause.or((coverage.waiting > 0).then_some(Duration::ZERO));
                            vectors_at = again.map(|pause| Instant::now() + pause);
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            match done {
                Err(error) if !is_of_journal(error.code) => {
                    failing.tell("the search index falls behind", &error);
                    sleep(failing.next()).await;
                    round_at = Instant::now();
                }
                _ => {
                    failing = Patience::default();
                    // One that stalled waits out its time.
                    if index.has_embedder() {
                        vectors_at.get_or_insert_with(Instant::now);
                    }
                }
            }
        }
    }

    async fn opened(&self) -> Arc<SearchIndex> {
        let mut patience = Patience::default();
        loop {
            let open = self.open.clone();
            let opened = spawn_blocking(move || open()).await;
            let error = match opened {
                Ok(Ok(index)) => return Arc::new(index),
                Ok(Err(error)) => error,
                Err(crash) => closed(&format!("opening the search index failed inside: {crash}")),
            };
            patience.tell("agents cannot search what left their context", &error);
            self.state().index = Err(error);
            sleep(patience.next()).await;
        }
    }

    /// Waits until something is due.
    async fn due(&self, round_at: Instant, vectors_at: Option<Instant>) -> Due {
        loop {
            let now = Instant::now();
            if std::mem::take(&mut self.state().is_round_due) || round_at <= now {
                return Due::Round;
            }
            if !self.state().committed.is_empty() {
                sleep(GATHER).await;
                return Due::Follow(std::mem::take(&mut self.state().committed));
            }
            if vectors_at.is_some_and(|at| at <= now) {
                return Due::Vectors;
            }
            let until = vectors_at.map_or(round_at, |at| at.min(round_at));
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Follows each of these; the error that holds for all of them ends it.
    async fn follow_all(&self, follower: &Follower, pids: BTreeSet<Pid>) -> Result<(), StoreError> {
        for pid in pids {
            match follower.follow(&self.tenant, pid).await {
                // The next round says so.
                Err(error) if is_of_journal(error.code) => {}
                followed => drop(followed?),
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Indexing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = self.0.state().index.as_ref().err().map(|error| error.message.clone());
        f.debug_struct("Indexing").field("closed", &why).finish_non_exhaustive()
    }
}

/// Whether the fault lies in one process's journal, so that others may fare better.
const fn is_of_journal(code: Code) -> bool {
    matches!(
        code,
        Code::ChainBroken
            | Code::EventDamaged
            | Code::EventNewer
            | Code::StoreCorrupt
            | Code::StoreContentMissing
    )
}

fn closed(message: &str) -> StoreError {
    StoreError::new(Code::StoreClosed, message)
}

/// How long one waits who fails again and again.
#[derive(Debug, Default)]
struct Patience {
    failures: u32,
    is_told: bool,
}

impl Patience {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(300);

    /// The next wait, twice as long as the one before.
    fn next(&mut self) -> Duration {
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST);
        self.failures += 1;
        wait
    }

    /// Says it, once until it has passed.
    fn tell(&mut self, what: &str, error: &StoreError) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(%error, "{what}; it is tried again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let mut patience = Patience::default();
        let waits: Vec<u64> = (0..40).map(|_| patience.next().as_secs()).collect();
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(waits[10..].iter().all(|wait| *wait == 300));
    }
}
