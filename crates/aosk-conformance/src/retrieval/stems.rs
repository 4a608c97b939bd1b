//! An embedder whose directions can be foretold.
//!
//! A real one stands in the tests of the crate that has it; here a check must know which of two texts
//! is nearer, and must be able to take the embedder down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aosk_abi::{Code, FailureKind, Hash, MicroDollars};
use aosk_ports::{CallError, Embedded, Embedder, Embedding};
use futures::future::BoxFuture;

/// Texts are alike where their words begin with the same four letters.
#[derive(Debug)]
pub struct Stems {
    id: String,
    dims: usize,
    made: usize,
    is_down: AtomicBool,
    calls: AtomicUsize,
}

impl Stems {
    /// One of that id and so many components.
    #[must_use]
    pub fn new(id: &str, dims: usize) -> Arc<Self> {
        Arc::new(Self {
            id: id.to_owned(),
            dims,
            made: dims,
            is_down: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
        })
    }

    /// One that makes vectors of another size than it says.
    #[must_use]
    pub fn lying(id: &str, dims: usize, made: usize) -> Arc<Self> {
        let (is_down, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Self { id: id.to_owned(), dims, made, is_down, calls })
    }

    /// Takes it down, or brings it back.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// How often it was asked.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// The direction of a text; it always has one.
    ///
    /// # Panics
    /// Never: a number is added for each word, and one for the text.
    #[must_use]
    pub fn direction(&self, text: &str) -> Embedding {
        let mut sum = vec![0.0; self.made];
        add(&mut sum, "", 0.01);
        for word in text.split_whitespace() {
            let stem: String = word.to_lowercase().chars().take(4).collect();
            add(&mut sum, &stem, 1.0);
        }
        Embedding::of(sum).expect("a direction")
    }
}

/// Adds the direction of a stem: its hash, drawn out.
fn add(sum: &mut [f32], stem: &str, weight: f32) {
    for (block, values) in sum.chunks_mut(32).enumerate() {
        let hash = Hash::of(format!("{stem}/{block}").as_bytes());
        for (value, byte) in values.iter_mut().zip(hash.as_bytes()) {
            *value += weight * (f32::from(*byte) - 127.5);
        }
    }
}

impl Embedder for Stems {
    fn id(&self) -> &str {
        &self.id
    }

    fn dims(&self) -> usize {
        self.dims
    }

    fn embed<'a>(&'a self, texts: &'a [Arc<str>]) -> BoxFuture<'a, Result<Embedded, CallError>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let refused = |kind, code, message: &str| CallError {
                kind,
                code,
                message: message.to_owned(),
                retry_after: Some(std::time::Duration::ZERO),
                usage: None,
            };
            if self.is_down.load(Ordering::Relaxed) {
                return Err(refused(
                    FailureKind::Transient,
                    Code::LlmUnreachable,
                    "the embedder is down",
                ));
            }
            if texts.iter().any(|text| text.contains("unspeakable")) {
                let (kind, code) = (FailureKind::Fatal, Code::LlmBadRequest);
                return Err(refused(kind, code, "a text is refused"));
            }
            let vectors = texts.iter().map(|text| self.direction(text)).collect();
            Ok(Embedded { vectors, tokens: None, cost: MicroDollars::ZERO })
        })
    }
}
