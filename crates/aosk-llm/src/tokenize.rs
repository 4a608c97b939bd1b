//! Counting tokens by asking the server that has the vocabulary.
//!
//! llama.cpp answers `POST /tokenize` beside its slots, so a count does not wait for a reply that is
//! being made: 1 ms for a page on the same machine. Each text is asked for once, by its hash, four at
//! a time and before a plan is made, and no step waits longer for that than 2 s. What did not come in
//! time is estimated, and from then on the room is the estimator's, because sizes that were estimated
//! stay in the plans.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, FailureKind, Hash, Ppm, Tokens};
use aosk_ports::{CallError, Tokenizer};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::timeout;

use crate::calibration::Calibration;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::estimator::{Estimator, PER_MESSAGE};
use crate::exact::{FRAME, LEAST};
use crate::failure::{error, quote, refused};
use crate::http::{Http, Options};
use crate::outage::Outage;

/// How long a step waits for the counts of its texts.
const LIMIT: Duration = Duration::from_secs(2);

/// How many texts are asked for at once.
const AT_ONCE: usize = 4;

/// How many counts are kept: at 40 bytes, 5 MB in two halves.
const KEPT: usize = 1 << 16;

/// Asks a llama.cpp server for counts.
#[derive(Debug)]
pub struct RemoteTokenizer {
    http: Http,
    model: String,
    counts: Mutex<Counts>,
    calibration: Calibration,
    estimator: Estimator,
    /// Whether a size was given out that the server did not count.
    estimated: AtomicBool,
    outage: Outage,
}

/// Counts by the hash of the text. When one half is full, the other is forgotten.
#[derive(Debug, Default)]
struct Counts {
    new: HashMap<Hash, Tokens>,
    old: HashMap<Hash, Tokens>,
}

impl Counts {
    fn get(&self, hash: &Hash) -> Option<Tokens> {
        self.new.get(hash).or_else(|| self.old.get(hash)).copied()
    }

    fn insert(&mut self, hash: Hash, count: Tokens) {
        if self.new.len() >= KEPT {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(hash, count);
    }
}

#[derive(Deserialize)]
struct Tokenized {
    tokens: Vec<IgnoredAny>,
}

impl RemoteTokenizer {
    /// The tokenizer of the server at `endpoint`, which serves `model`. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Client`] where no HTTP client can be made.
    pub fn new(endpoint: Endpoint, model: &str) -> Result<Self, Error> {
        let options = Options {
            connect: LIMIT,
            first_byte: LIMIT,
            idle: LIMIT,
            total: LIMIT,
            ..Options::default()
        };
        Ok(Self {
            http: Http::new(endpoint, options)?,
            model: model.to_owned(),
            counts: Mutex::default(),
            calibration: Calibration::framed(FRAME, LEAST),
            estimator: Estimator::new(),
            estimated: AtomicBool::new(false),
            outage: Outage::default(),
        })
    }

    fn known(&self, hash: &Hash) -> Option<Tokens> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(hash)
    }

    async fn ask(&self, hash: Hash, text: Arc<str>) -> Result<(), CallError> {
        let endpoint = &self.http.endpoint;
        let url = endpoint.at_root("tokenize");
        let body = serde_json::json!({ "content": text.as_ref(), "add_special": false });
        let body = body.to_string();
        let incoming = self.http.send(Method::POST, &url, &[], Some(body.into_bytes())).await?;
        let (status, headers) = (incoming.status, incoming.headers);
        if !(200..300).contains(&status) {
            let complaint = incoming.body.read_complaint().await;
            return Err(refused(endpoint, &self.model, status, &headers, &complaint));
        }
        let raw =
            incoming.body.read_all().await.map_err(|broken| broken.error(&endpoint.host()))?;
        let found: Tokenized = serde_json::from_slice(&raw).map_err(|problem| {
            let said = quote(endpoint, &String::from_utf8_lossy(&raw));
            error(
                FailureKind::Fatal,
                Code::LlmProtocol,
                format!("{url} does not answer with tokens ({problem}): {said}"),
            )
        })?;
        let count = Tokens((found.tokens.len() as u64).max(u64::from(!text.is_empty())));
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, count);
        Ok(())
    }

    async fn learn(&self, texts: &[Arc<str>]) {
        let mut seen = HashSet::new();
        let unknown: Vec<(Hash, Arc<str>)> = texts
            .iter()
            .map(|text| (Hash::of(text.as_bytes()), text.clone()))
            .filter(|(hash, text)| !text.is_empty() && self.known(hash).is_none())
            .filter(|(hash, _)| seen.insert(*hash))
            .collect();
        if unknown.is_empty() || self.outage.current().is_some() {
            return;
        }
        let all = stream::iter(unknown)
            .map(|(hash, text)| self.ask(hash, text))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>();
        let host = self.http.endpoint.host();
        let answered = timeout(LIMIT, all).await.unwrap_or_else(|_| {
            let late = format!("{host} did not count the tokens within {} s", LIMIT.as_secs());
            Err(error(FailureKind::Transient, Code::LlmTransient, late))
        });
        match answered {
            Ok(()) => self.outage.over(&host),
            Err(problem) => drop(self.outage.failed(problem, "sizes are estimated")),
        }
    }
}

impl Tokenizer for RemoteTokenizer {
    /// `server/MODEL`, and the estimator's id behind a `+` once it gave a size.
    fn id(&self) -> String {
        let exact = format!("server/{}", self.model);
        match self.estimated.load(Ordering::Relaxed) {
            true => format!("{exact}+{}", self.estimator.id()),
            false => exact,
        }
    }

    fn prepare<'a>(&'a self, texts: &'a [Arc<str>]) -> BoxFuture<'a, ()> {
        Box::pin(self.learn(texts))
    }

    fn count(&self, text: &str) -> Tokens {
        if text.is_empty() {
            return Tokens::ZERO;
        }
        self.known(&Hash::of(text.as_bytes())).unwrap_or_else(|| {
            self.estimated.store(true, Ordering::Relaxed);
            self.estimator.count(text)
        })
    }

    fn per_message(&self) -> Tokens {
        PER_MESSAGE
    }

    fn error(&self) -> Ppm {
        let frame = self.calibration.room();
        match self.estimated.load(Ordering::Relaxed) {
            true => frame.max(self.estimator.error()),
            false => frame,
        }
    }

    fn observe(&self, counted: Tokens, reported: Tokens) {
        match self.estimated.load(Ordering::Relaxed) {
            true => self.estimator.observe(counted, reported),
            false => self.calibration.observe(counted, reported),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_bounded_and_the_latest_are_kept() {
        let mut counts = Counts::default();
        let hash = |n: usize| Hash::of(&n.to_le_bytes());
        for n in 0..2 * KEPT {
            counts.insert(hash(n), Tokens(n as u64));
        }
        assert_eq!(counts.get(&hash(0)), Some(Tokens(0)), "two halves hold as many");
        counts.insert(hash(2 * KEPT), Tokens(1));
        assert_eq!(counts.get(&hash(KEPT - 1)), None);
        assert_eq!(counts.get(&hash(KEPT)), Some(Tokens(KEPT as u64)));
        assert_eq!(counts.new.len() + counts.old.len(), KEPT + 1);
    }
}
