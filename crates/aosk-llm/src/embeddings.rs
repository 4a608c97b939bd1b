//! Vectors from an endpoint that speaks OpenAI's embeddings.
//!
//! Requests are cut at 64 texts and 256 KiB: OpenAI takes 2,048 texts and 300,000 tokens, but a local
//! server works through a request while everybody else waits, and one that fails is made again whole.
//!
//! The number of components is part of the configuration and not learnt from the first reply: an index
//! of another size refuses every vector, and a server that was started with another model would be
//! found out only there. As with calls of a model, one attempt is made and the error says what helps;
//! while a server is down it is not asked, and its being down is said once.

use std::sync::Arc;

use aosk_abi::{Code, FailureKind, MicroDollars, Tokens, Usage};
use aosk_ports::{CallError, Embedded, Embedder, Embedding, Prices};
use futures::future::BoxFuture;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::complaint::Complaint;
use crate::embedders::EmbedderSpec;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::failure::{complained, error, quote, refused, unbilled};
use crate::http::{Http, Options};
use crate::outage::Outage;

/// The path below the endpoint's base.
const PATH: &str = "embeddings";

/// The most texts of a request.
const TEXTS: usize = 64;

/// The most bytes of the texts of a request; a single longer text goes by itself.
const BYTES: usize = 256 << 10;

/// Asks an endpoint for vectors.
#[derive(Debug)]
pub struct RemoteEmbedder {
    id: String,
    spec: EmbedderSpec,
    http: Http,
    outage: Outage,
}

#[derive(Serialize)]
struct Ask<'a> {
    model: &'a str,
    input: &'a [Arc<str>],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    usage: Option<Used>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Used {
    prompt_tokens: u64,
}

impl RemoteEmbedder {
    /// The embedder that `spec` describes at `endpoint`. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Client`] where no HTTP client can be made.
    pub fn new(spec: EmbedderSpec, endpoint: Endpoint, options: Options) -> Result<Self, Error> {
        // Of one model, a smaller number of components is another space.
        let id = format!("{}/{}", spec.id, spec.dims);
        Ok(Self { id, spec, http: Http::new(endpoint, options)?, outage: Outage::default() })
    }

    async fn ask(&self, texts: &[Arc<str>]) -> Result<Embedded, CallError> {
        let limit = self.http.options.total;
        timeout(limit, self.exchange(texts)).await.unwrap_or_else(|_| {
            Err(error(
                FailureKind::Transient,
                Code::LlmTransient,
                format!(
                    "{} made no vectors within {} s; it may pass",
                    self.http.endpoint.host(),
                    limit.as_secs()
                ),
            ))
        })
    }

    async fn exchange(&self, texts: &[Arc<str>]) -> Result<Embedded, CallError> {
        let endpoint = &self.http.endpoint;
        let ask = Ask {
            model: &self.spec.id,
            input: texts,
            encoding_format: "float",
            dimensions: self.spec.shorten.then_some(self.spec.dims),
        };
        let unsendable = |problem: serde_json::Error| {
            let message = format!("texts cannot be sent: {problem}");
            unbilled(FailureKind::Fatal, Code::LlmBadRequest, message)
        };
        let body = serde_json::to_vec(&ask).map_err(unsendable)?;
        let incoming = self.http.send(Method::POST, &endpoint.below(PATH), &[], Some(body)).await?;
        let (status, headers) = (incoming.status, incoming.headers);
        if !(200..300).contains(&status) {
            let complaint = incoming.body.read_complaint().await;
            return Err(refused(endpoint, &self.spec.id, status, &headers, &complaint));
        }
        let raw =
            incoming.body.read_all().await.map_err(|broken| broken.error(&endpoint.host()))?;
        let text = String::from_utf8_lossy(&raw);
        let answer: Answer = serde_json::from_str(&text).map_err(|problem| {
            if let Some(complaint) = Complaint::read(&text) {
                return complained(endpoint, &self.spec.id, &complaint);
            }
            let said = quote(endpoint, &text);
            let message = format!(
                "{} does not answer with vectors ({problem}): {said}; check that its model makes \
                 them",
                endpoint.below(PATH)
            );
            error(FailureKind::Fatal, Code::LlmProtocol, message)
        })?;
        self.take(answer, texts.len())
    }

    /// The vectors in the order of the texts, each as it was promised.
    fn take(&self, answer: Answer, texts: usize) -> Result<Embedded, CallError> {
        let wrong = |problem: String| {
            let message = format!("{} {problem}", self.http.endpoint.host());
            error(FailureKind::Fatal, Code::LlmEmbedding, message)
        };
        let mut vectors = vec![None; texts];
        for Item { index, embedding } in answer.data {
            let (found, wanted) = (embedding.len(), self.spec.dims);
            if found != wanted {
                let name = &self.spec.name;
                return Err(wrong(format!(
                    "made a vector of {found} components, but [embedders.{name:?}] says {wanted}: \
                     set `dims = {found}` there, or serve the model that was meant"
                )));
            }
            let vector = Embedding::of(embedding).ok_or_else(|| {
                wrong(format!("made a vector without a direction for text {index}"))
            })?;
            let place = vectors
                .get_mut(index)
                .ok_or_else(|| wrong(format!("made a vector for text {index} of {texts}")))?;
            if place.replace(vector).is_some() {
                return Err(wrong(format!("made two vectors for text {index}")));
            }
        }
        let whole: Option<Vec<Embedding>> = vectors.into_iter().collect();
        let vectors = whole.ok_or_else(|| wrong(format!("left out some of {texts} texts")))?;
        let tokens = answer.usage.map(|used| Tokens(used.prompt_tokens));
        Ok(Embedded { vectors, tokens, cost: self.cost(tokens) })
    }

    fn cost(&self, tokens: Option<Tokens>) -> MicroDollars {
        let input = self.spec.price;
        let prices = Prices {
            input,
            cached: input,
            cache_write: input,
            cache_write_long: input,
            output: input,
        };
        prices.cost(&Usage { input: tokens.unwrap_or_default(), ..Usage::default() })
    }
}

/// Whether an error is about the texts, so that other texts may fare better.
fn is_about_texts(error: &CallError) -> bool {
    error.kind == FailureKind::ContextLength || error.code == Code::LlmBadRequest
}

/// How many of `texts` go into the next request.
fn batch(texts: &[Arc<str>]) -> usize {
    let mut bytes = 0;
    let fitting = texts.iter().take(TEXTS).take_while(|text| {
        bytes += text.len();
        bytes <= BYTES
    });
    fitting.count().max(1)
}

impl Embedder for RemoteEmbedder {
    /// The model's id and the number of components.
    fn id(&self) -> &str {
        &self.id
    }

    fn dims(&self) -> usize {
        self.spec.dims
    }

    fn embed<'a>(&'a self, texts: &'a [Arc<str>]) -> BoxFuture<'a, Result<Embedded, CallError>> {
        Box::pin(async move {
            if texts.iter().any(|text| text.trim().is_empty()) {
                let message = "a text for a vector is blank: leave it out".to_owned();
                return Err(unbilled(FailureKind::Fatal, Code::LlmBadRequest, message));
            }
            if let Some(error) = self.outage.current() {
                return Err(error);
            }
            let mut all = Embedded {
                vectors: Vec::with_capacity(texts.len()),
                tokens: Some(Tokens::ZERO),
                cost: MicroDollars::ZERO,
            };
            let mut rest = texts;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(batch(rest));
                let made = self.ask(now).await.map_err(|error| {
                    if is_about_texts(&error) {
                        return error;
                    }
                    self.outage.failed(error, "searches go by words alone")
                })?;
                self.outage.over(&self.http.endpoint.host());
                all.vectors.extend(made.vectors);
                all.tokens = all.tokens.zip(made.tokens).map(|(sum, more)| sum + more);
                all.cost = MicroDollars(all.cost.0.saturating_add(made.cost.0));
                rest = later;
            }
            Ok(all)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_below_at_and_above_its_bounds() {
        let texts = |count: usize, bytes: usize| vec![Arc::<str>::from("x".repeat(bytes)); count];
        assert_eq!(batch(&texts(TEXTS - 1, 1)), TEXTS - 1);
        assert_eq!(batch(&texts(TEXTS, 1)), TEXTS);
        assert_eq!(batch(&texts(TEXTS + 1, 1)), TEXTS);
        assert_eq!(batch(&texts(2, BYTES / 2)), 2);
        assert_eq!(batch(&texts(2, BYTES / 2 + 1)), 1);
        assert_eq!(batch(&texts(2, BYTES + 1)), 1, "a long text goes by itself");
    }
}
