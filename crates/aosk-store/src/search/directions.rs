//! The embedder of an index, and what is said when it fails.
//!
//! An embedder that is down is no reason not to search: the words are still there. It is said once to
//! the log, and with each answer to whoever asked; when it answers again that is said as well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aosk_abi::{Code, FailureKind};
use aosk_ports::{CallError, Embedder, Embedding};

use super::shelf::{Row, Waiting};

/// How long an embedder that failed, and does not say for how long, is left alone.
const PAUSE: Duration = Duration::from_secs(10);

/// Asks the embedder.
pub(super) struct Directions {
    embedder: Arc<dyn Embedder>,
    is_failing: AtomicBool,
    /// Until when it is left alone, and why.
    rests: Mutex<Option<(Instant, Arc<str>)>>,
}

/// Why there is no vector, and for how long at least.
pub(super) type Stalled = (Arc<str>, Duration);

impl Directions {
    pub(super) fn new(embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder, is_failing: AtomicBool::new(false), rests: Mutex::default() }
    }

    pub(super) fn id(&self) -> &str {
        self.embedder.id()
    }

    pub(super) fn dims(&self) -> usize {
        self.embedder.dims()
    }

    /// The direction of a text.
    pub(super) async fn of(&self, text: Arc<str>) -> Result<Embedding, Stalled> {
        self.rested()?;
        match self.ask(&[text]).await {
            Ok(mut vectors) => vectors.pop().ok_or_else(|| self.failed(&self.odd("no vector"))),
            Err(error) if is_about_texts(&error) => Err((error.message.into(), Duration::ZERO)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Vectors for what waits, as far as the embedder got. A text for which it has none, because it
    /// is blank or not to be embedded, gets none and waits no more.
    pub(super) async fn of_all(
        &self,
        waiting: Vec<Waiting>,
    ) -> (Vec<(Row, Option<Embedding>)>, Option<Stalled>) {
        let (blank, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|it| it.text.trim().is_empty());
        let mut made: Vec<_> = blank.into_iter().map(|it| (it.row, None)).collect();
        if rest.is_empty() {
            return (made, None);
        }
        if let Err(stalled) = self.rested() {
            return (made, Some(stalled));
        }
        let texts: Vec<Arc<str>> = rest.iter().map(|it| it.text.clone()).collect();
        match self.ask(&texts).await {
            Ok(vectors) => {
                made.extend(rest.iter().map(|it| it.row).zip(vectors.into_iter().map(Some)));
                return (made, None);
            }
            Err(error) if !is_about_texts(&error) => return (made, Some(self.failed(&error))),
            Err(_) => {}
        }
        // One of the texts is refused: which one is found by asking for each.
        for Waiting { row, text } in rest {
            match self.ask(&[text]).await {
                Ok(vectors) => made.push((row, vectors.into_iter().next())),
                Err(error) if is_about_texts(&error) => {
                    tracing::warn!(%error, "a page has no vector and is found by its words alone");
                    made.push((row, None));
                }
                Err(error) => return (made, Some(self.failed(&error))),
            }
        }
        (made, None)
    }

    async fn ask(&self, texts: &[Arc<str>]) -> Result<Vec<Embedding>, CallError> {
        let vectors = self.embedder.embed(texts).await?.vectors;
        if vectors.len() != texts.len() {
            let count = format!("{} vectors for {} texts", vectors.len(), texts.len());
            return Err(self.odd(&count));
        }
        if let Some(vector) = vectors.iter().find(|it| it.values().len() != self.dims()) {
            let found = vector.values().len();
            return Err(self.odd(&format!("{found} components where it has {}", self.dims())));
        }
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!(embedder = self.id(), "the embedder answers again");
        }
        *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(vectors)
    }

    fn odd(&self, what: &str) -> CallError {
        let message = format!("the embedder {} made {what}", self.id());
        CallError {
            kind: FailureKind::Fatal,
            code: Code::LlmEmbedding,
            message,
            retry_after: None,
            usage: None,
        }
    }

    fn rested(&self) -> Result<(), Stalled> {
        let rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rests {
            Some((until, why)) if Instant::now() < *until => {
                Err((why.clone(), until.saturating_duration_since(Instant::now())))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, error: &CallError) -> Stalled {
        let (why, pause): (Arc<str>, _) =
            (error.to_string().into(), error.retry_after.unwrap_or(PAUSE));
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "searches go by words alone until the embedder answers again");
        }
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        *rests = Some((Instant::now() + pause, why.clone()));
        (why, pause)
    }
}

/// Whether other texts may fare better.
fn is_about_texts(error: &CallError) -> bool {
    error.kind == FailureKind::ContextLength || error.code == Code::LlmBadRequest
}
