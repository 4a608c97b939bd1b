//! How a model's tokens are counted, as the table says.

use std::path::PathBuf;
use std::sync::Arc;

use aosk_ports::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::estimator::Estimator;
use crate::exact::Exact;
use crate::tokenize::RemoteTokenizer;

/// What counts the tokens of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counting {
    /// The vocabulary of GPT-4o and everything later from OpenAI.
    O200k,
    /// The vocabulary of GPT-4 and GPT-3.5.
    Cl100k,
    /// The server itself, if it is llama.cpp's.
    Server,
    /// Nothing: sizes are estimated.
    Estimate,
    /// The `tokenizer.json` of an open model, by its absolute path.
    File(PathBuf),
}

impl Counting {
    /// What is wrong with it, and what to give.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Self::File(path) if !path.is_absolute() => {
                Some(format!("`tokenizer` names the file {path:?}: give an absolute path"))
            }
            _ => None,
        }
    }

    /// A tokenizer that has observed nothing, for `model` at `endpoint`. A vocabulary is built at its
    /// first use, which takes some tenths of a second.
    pub(crate) fn tokenizer(
        &self,
        endpoint: &Endpoint,
        model: &str,
    ) -> Result<Arc<dyn Tokenizer>, Error> {
        Ok(match self {
            Self::O200k => Arc::new(Exact::o200k()),
            Self::Cl100k => Arc::new(Exact::cl100k()),
            Self::Server => Arc::new(RemoteTokenizer::new(endpoint.clone(), model)?),
            Self::Estimate => Arc::new(Estimator::new()),
            Self::File(path) => Arc::new(Exact::open(path)?),
        })
    }
}
