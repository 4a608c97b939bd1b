//! Counting tokens with the model's own vocabulary.
//!
//! The vocabularies of OpenAI's families are part of the program, 5 MB of it, so that no count needs a
//! network; those of open models come in a `tokenizer.json`, which the model's folder holds. A
//! vocabulary is built at its first use and once a program.
//!
//! A text is counted exactly. A prompt is not: how an endpoint writes roles, calls and the list of
//! tools between the texts is its own business. That is a few tokens a message, which is why the room
//! begins at 5 % instead of an estimator's 35 %. It is learnt from what the endpoint reports: after twenty
//! calls none of which took more than was known, less than 1 % is kept on top of that.

use std::path::Path;

use aosk_abi::{Hash, Ppm, Tokens};
use aosk_ports::Tokenizer;
use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

use crate::calibration::Calibration;
use crate::error::Error;
use crate::estimator::PER_MESSAGE;

/// The room for what an endpoint puts around the texts, before it was observed.
pub(crate) const FRAME: u64 = 50_000;

/// What of it is kept at least once it was: two tokens in a thousand, a message's frame in a prompt of 2,500.
pub(crate) const LEAST: u64 = 2_000;

/// The largest `tokenizer.json`, in bytes; the largest in use (of 262,000 entries) has 33 MB.
const FILE_MAX: u64 = 128 << 20;

/// The most blanks in a row that are counted at once. The expressions that cut a text look behind such
/// a run and remember each blank of it: at a million of them they give up. No token is nearly as long, so
/// a cut there costs one token at most.
const RUN: usize = 10_000;

/// Counts the tokens of texts with a vocabulary, and learns what stands around them.
pub struct Exact {
    id: String,
    vocabulary: Vocabulary,
    calibration: Calibration,
}

enum Vocabulary {
    Openai(&'static CoreBPE),
    File(Box<tokenizers::Tokenizer>),
}

impl Vocabulary {
    fn count(&self, text: &str) -> usize {
        match self {
            Self::Openai(bpe) => bpe.count_ordinary(text),
            // A vocabulary may lack an entry for what it does not know. No token is shorter than a
            // byte, so the text has no more of them than that.
            Self::File(tokenizer) => {
                tokenizer.encode_fast(text, false).map_or(text.len(), |encoding| encoding.len())
            }
        }
    }
}

/// `text` in parts, none of which holds more than [`RUN`] blanks in a row.
fn without_long_runs(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut run = 0;
        let end = text.char_indices().find_map(|(at, c)| {
            run = if c.is_whitespace() { run + 1 } else { 0 };
            (run > RUN).then_some(at)
        });
        let (part, rest) = text.split_at(end.unwrap_or(text.len()));
        text = rest;
        (!part.is_empty()).then_some(part)
    })
}

impl Exact {
    /// The vocabulary of GPT-4o and everything later from OpenAI, of 200,000 entries.
    #[must_use]
    pub fn o200k() -> Self {
        Self::of("o200k".to_owned(), Vocabulary::Openai(o200k_base_singleton()))
    }

    /// The vocabulary of GPT-4 and GPT-3.5 and of OpenAI's embedding models, of 100,000 entries.
    #[must_use]
    pub fn cl100k() -> Self {
        Self::of("cl100k".to_owned(), Vocabulary::Openai(cl100k_base_singleton()))
    }

    /// The vocabulary of a `tokenizer.json` in the format of Hugging Face's `tokenizers`. Its id
    /// holds the hash of the file, so that a journal tells which one counted.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the file cannot be read, is larger than 128 MiB or is no tokenizer.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = read_bounded(path, FILE_MAX).map_err(|problem| bad(path, problem))?;
        let tokenizer = tokenizer(&bytes).map_err(|problem| bad(path, problem))?;
        let hash = Hash::of(&bytes).to_string();
        let id = format!("tokenizer.json/{}", hash.get(..16).unwrap_or(&hash));
        Ok(Self::of(id, Vocabulary::File(Box::new(tokenizer))))
    }

    fn of(id: String, vocabulary: Vocabulary) -> Self {
        Self { id, vocabulary, calibration: Calibration::framed(FRAME, LEAST) }
    }
}

fn bad(path: &Path, problem: String) -> Error {
    Error::Tokenizer { path: path.display().to_string(), problem }
}

/// A file's bytes, or why there are none.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| format!("cannot be read: {error}");
    let length = std::fs::metadata(path).map_err(told)?.len();
    if length > max {
        return Err(format!("has {length} bytes, and at most {max} are read: name another file"));
    }
    std::fs::read(path).map_err(told)
}

/// The tokenizer of a `tokenizer.json`, which neither cuts a text nor fills it up: both are settings
/// for batches of the model's training.
pub(crate) fn tokenizer(bytes: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|error| format!("is no tokenizer.json: {error}"))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| format!("cannot be used: {error}"))?;
    Ok(tokenizer)
}

impl Tokenizer for Exact {
    /// `o200k`, `cl100k`, or `tokenizer.json/` and the start of the file's hash.
    fn id(&self) -> String {
        self.id.clone()
    }

    fn count(&self, text: &str) -> Tokens {
        let count: usize = without_long_runs(text).map(|part| self.vocabulary.count(part)).sum();
        // A vocabulary that drops white space makes no token of a blank.
        Tokens((count as u64).max(u64::from(!text.is_empty())))
    }

    fn per_message(&self) -> Tokens {
        PER_MESSAGE
    }

    fn error(&self) -> Ppm {
        self.calibration.room()
    }

    fn observe(&self, counted: Tokens, reported: Tokens) {
        self.calibration.observe(counted, reported);
    }
}

impl std::fmt::Debug for Exact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exact").field("id", &self.id).finish_non_exhaustive()
    }
}
