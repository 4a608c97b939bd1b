//! What all drivers of a kernel share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aosk_abi::Code;
use aosk_ports::{Standing, StoreError};
use tokio::sync::Notify;

use crate::books::Books;
use crate::budget::Budget;
use crate::dispatch::Dispatcher;
use crate::errands::Errands;
use crate::error::Error;
use crate::kv_slots::KvSlots;
use crate::options::{Model, Options, Parts};

/// How a kernel is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Not at all.
    Run,
    /// Between two steps; calls and tools in flight get [`Options::grace`].
    Graceful,
    /// At once; what is in flight is given up as in a crash.
    Now,
}

/// What all drivers of a kernel share.
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) options: Options,
    /// The models that are connected.
    pub(crate) models: Mutex<HashMap<String, Model>>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) budget: Budget,
    pub(crate) books: Books,
    pub(crate) errands: Errands,
    pub(crate) kv_slots: Arc<KvSlots>,
    pub(crate) stop: StopSign,
    /// How many processes wait for a place in memory.
    pub(crate) lined: AtomicUsize,
}

impl Shared {
    /// The model of that name, connected at its first use.
    pub(crate) async fn model(&self, name: &str) -> Result<Model, Error> {
        if let Some(model) = self.connected(name) {
            return Ok(model);
        }
        // A name for several is known by the first that can be had.
        let mut refused = None;
        for (pool, _) in self.parts.spreads.get(name).into_iter().flatten() {
            match Box::pin(self.model(pool)).await {
                Ok(model) => return Ok(model),
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        let Some(connect) = &self.parts.connect else {
            return Err(Error::refused(
                Code::LlmUnknownModel,
                format!("the model {name:?} is not connected to this kernel"),
            ));
        };
        let model = connect.connect(name).await?;
        self.dispatcher.add(model.device.info())?;
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever came first counts: what one connection learns about tokens serves all.
        Ok(models.entry(name.to_owned()).or_insert(model).clone())
    }

    /// The models that are connected, with the names under which they are asked for.
    pub(crate) fn connected_models(&self) -> Vec<(String, Model)> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().map(|(name, model)| (name.clone(), model.clone())).collect()
    }

    fn connected(&self, name: &str) -> Option<Model> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Waits until this node may act for its processes: no effect begins before that.
    ///
    /// # Errors
    /// [`Error::Stopping`]; [`Error::Store`] where others have taken its processes over.
    pub(crate) async fn leased(&self) -> Result<(), Error> {
        let store = &self.parts.store;
        loop {
            if let Standing::Held { .. } = store.standing() {
                return Ok(());
            }
            // Asked for before the standing is looked at again, so that no change is missed.
            let changed = store.changed();
            match store.standing() {
                Standing::Held { .. } => return Ok(()),
                Standing::Lost => return Err(lost().into()),
                Standing::Lapsed => tokio::select! {
                    biased;
                    () = self.stop.wait(false) => return Err(Error::Stopping),
                    () = changed => {}
                },
            }
        }
    }

    /// Whether processes wait for a place in memory.
    pub(crate) fn others_wait(&self) -> bool {
        self.lined.load(Ordering::Relaxed) > 0
    }
}

/// The error of a node that is taken for dead.
fn lost() -> StoreError {
    StoreError::new(
        Code::StoreLease,
        "this node was not heard for the length of its lease and others have taken its processes \
         over; they go on there, and this one begins nothing any more: start it again",
    )
}

/// The request to stop. Not a `watch` channel: that wakes those who wait in random order, and a
/// simulated run must repeat.
pub(crate) struct StopSign {
    /// The request, and when the first was made, by the monotonic clock: the grace is one for all.
    shown: Mutex<(Stop, Duration)>,
    changed: Notify,
}

impl StopSign {
    pub(crate) fn new() -> Self {
        Self { shown: Mutex::new((Stop::Run, Duration::ZERO)), changed: Notify::new() }
    }

    /// Asks to stop. A harder stop replaces a softer one, never the other way round.
    pub(crate) fn show(&self, stop: Stop, now: Duration) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match (shown.0, stop) {
            (Stop::Run, Stop::Graceful | Stop::Now) => *shown = (stop, now),
            (Stop::Graceful, Stop::Now) => shown.0 = stop,
            _ => return,
        }
        drop(shown);
        self.changed.notify_waiters();
    }

    /// What is asked for, and since when.
    pub(crate) fn shown(&self) -> (Stop, Duration) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_run(&self) -> bool {
        self.shown().0 == Stop::Run
    }

    /// Completes when any stop is asked for, or, where `hard`, when a stop at once is.
    pub(crate) async fn wait(&self, hard: bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.shown().0 {
                Stop::Now => return,
                Stop::Graceful if !hard => return,
                Stop::Graceful | Stop::Run => changed.await,
            }
        }
    }
}
