//! Vectors from a sentence model on this machine.
//!
//! The forward pass of BERT is a page of arithmetic over one library for matrices. A framework that
//! runs any network would bring a hundred crates and minutes of building for the same figures, and
//! those that run ONNX cannot read the form in which these models are published. So this runs one
//! architecture (BERT, mean pooling) and says of any other folder what is missing in it.
//!
//! The model reads 256 word pieces and was trained to drop the rest. A page has up to four times as
//! many, and what stands at its end is to be found too: a longer text is read in pieces of that
//! length, and its direction is their mean, each weighted by its length. A text that fits has exactly
//! the vector that the reference implementation gives it, which a test holds to six decimals.

mod bert;
mod config;
mod weights;

use std::path::Path;
use std::sync::Arc;

use aosk_abi::{Code, FailureKind, Hash, MicroDollars, Tokens};
use aosk_ports::{CallError, Embedded, Embedder, Embedding};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::exact::{read_bounded, tokenizer};
use crate::failure::unbilled;
use bert::Bert;
use config::Config;
use weights::Weights;

/// The largest file of weights, in bytes; MiniLM-L6 has 91 MB, a BERT of the base size 440 MB.
const WEIGHTS_MAX: u64 = 2 << 30;

/// The largest tokenizer or configuration, in bytes.
const TEXT_MAX: u64 = 64 << 20;

/// The longest text, in bytes: a hundred pages. Each kilobyte takes about a tenth of a second.
const LONGEST: usize = 512 << 10;

/// A sentence model in memory.
pub struct SentenceModel {
    inner: Arc<Inner>,
    /// As many texts at once as there are processors: each takes one whole.
    places: Arc<Semaphore>,
}

struct Inner {
    id: String,
    tokenizer: tokenizers::Tokenizer,
    bert: Bert,
    /// Tokens of one reading, with the two that stand around it.
    window: usize,
}

impl SentenceModel {
    /// Reads the model in `folder`, which holds `config.json`, `modules.json`,
    /// `1_Pooling/config.json`, `sentence_bert_config.json`, `tokenizer.json` and
    /// `model.safetensors`, as all-MiniLM-L6-v2 is published. It takes about 0.3 s and as much memory
    /// as the weights.
    ///
    /// # Errors
    /// [`Error::SentenceModel`] with the file where one is missing or damaged, or where the model is
    /// built otherwise than this program can run.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let bad = |(file, problem): (&str, String)| Error::SentenceModel {
            path: folder.join(file).display().to_string(),
            problem,
        };
        let read = |file: &'static str, max| {
            read_bounded(&folder.join(file), max).map_err(|problem| (file, problem))
        };
        let config = Config::read(&|file| read(file, TEXT_MAX)).map_err(bad)?;
        let text = read("tokenizer.json", TEXT_MAX).map_err(bad)?;
        let tokenizer = tokenizer(&text).map_err(|problem| bad(("tokenizer.json", problem)))?;
        let bytes = read("model.safetensors", WEIGHTS_MAX).map_err(bad)?;
        let weights = Weights::read(&bytes, &config)
            .map_err(|problem| bad(("model.safetensors", problem)))?;
        let entries = tokenizer.get_vocab_size(true);
        if entries > config.vocab_size {
            let problem = format!(
                "has {entries} entries, but the model knows {}: they do not belong together",
                config.vocab_size
            );
            return Err(bad(("tokenizer.json", problem)));
        }
        let hash = Hash::of(&bytes).to_string();
        let id = format!("sentence/1/{}", hash.get(..16).unwrap_or(&hash));
        let window = config.window();
        let bert = Bert::new(config, weights);
        let places = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            inner: Arc::new(Inner { id, tokenizer, bert, window }),
            places: Arc::new(Semaphore::new(places)),
        })
    }
}

impl Inner {
    /// The vector of a text and how many tokens it has.
    fn vector(&self, text: &str) -> Result<(Embedding, u64), CallError> {
        refuse(text)?;
        let failed = |problem: String| {
            let message = format!("the sentence model has no vector for a text: {problem}");
            unbilled(FailureKind::Fatal, Code::LlmEmbedding, message)
        };
        let encoded = self.tokenizer.encode_fast(text, false);
        let encoded = encoded.map_err(|error| failed(error.to_string()))?;
        let ids = encoded.get_ids();
        let around =
            self.tokenizer.encode_fast("", true).map_err(|error| failed(error.to_string()))?;
        let [begin, end] = around.get_ids() else {
            return Err(failed(
                "its tokenizer does not put one token before and one behind".into(),
            ));
        };
        let mut sum = vec![0.0; self.bert.dims()];
        // A text of blanks alone has been refused; one of control characters is the bare frame.
        let pieces = ids.chunks(self.window - 2).chain(ids.is_empty().then_some(&[][..]));
        for piece in pieces {
            let window: Vec<u32> =
                std::iter::once(*begin).chain(piece.iter().copied()).chain([*end]).collect();
            let mean = Embedding::of(self.bert.mean(&window))
                .ok_or_else(|| failed("its weights hold values that are no numbers".into()))?;
            for (total, value) in sum.iter_mut().zip(mean.values()) {
                *total += value * window.len() as f32;
            }
        }
        let vector = Embedding::of(sum)
            .ok_or_else(|| failed("the directions of its pieces cancel out".into()))?;
        Ok((vector, ids.len() as u64))
    }
}

/// Refuses what has no meaning to be found by, and what would take minutes.
fn refuse(text: &str) -> Result<(), CallError> {
    let problem = if text.trim().is_empty() {
        "a text for a vector is blank: leave it out".to_owned()
    } else if text.len() > LONGEST {
        format!(
            "a text for a vector has {} bytes, and at most {LONGEST} are read: cut it into pages",
            text.len()
        )
    } else {
        return Ok(());
    };
    Err(unbilled(FailureKind::Fatal, Code::LlmBadRequest, problem))
}

impl Embedder for SentenceModel {
    /// `sentence/1/` and the start of the hash of the weights.
    fn id(&self) -> &str {
        &self.inner.id
    }

    fn dims(&self) -> usize {
        self.inner.bert.dims()
    }

    fn embed<'a>(&'a self, texts: &'a [Arc<str>]) -> BoxFuture<'a, Result<Embedded, CallError>> {
        Box::pin(async move {
            let mut vectors = Vec::with_capacity(texts.len());
            let mut tokens = 0;
            for text in texts {
                let (inner, text) = (self.inner.clone(), text.clone());
                // Nobody closes the semaphore, so a permit always comes.
                let place = self.places.clone().acquire_owned().await.ok();
                let computed = tokio::task::spawn_blocking(move || {
                    let _place = place;
                    inner.vector(&text)
                });
                let (vector, count) = computed.await.map_err(|crash| {
                    let message = format!("the sentence model crashed: {crash}");
                    unbilled(FailureKind::Fatal, Code::LlmEmbedding, message)
                })??;
                vectors.push(vector);
                tokens += count;
            }
            Ok(Embedded { vectors, tokens: Some(Tokens(tokens)), cost: MicroDollars::ZERO })
        })
    }
}

impl std::fmt::Debug for SentenceModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentenceModel").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_at_and_past_the_bounds() {
        assert!(refuse("x").is_ok() && refuse(&"x".repeat(LONGEST)).is_ok());
        for text in ["", " \n\t", &"x".repeat(LONGEST + 1)] {
            assert_eq!(refuse(text).expect_err("refused").code, Code::LlmBadRequest);
        }
    }
}
