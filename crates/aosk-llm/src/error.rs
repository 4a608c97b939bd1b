//! What can be wrong before the first call: tables, names, endpoints, keys, cassettes.

use aosk_abi::Code;

/// Why a device cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A table of models is malformed.
    #[error("{path}{}: {message}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    Table {
        /// The file, or `models.toml` for the built-in table.
        path: String,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong, and what to do.
        message: String,
    },
    /// No table has the model.
    #[error("no model is called {name:?}; {hint}")]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// What to do instead.
        hint: String,
    },
    /// No address is configured for the model's provider.
    #[error("no endpoint for the model {model:?}: {hint}")]
    NoEndpoint {
        /// The model.
        model: String,
        /// What to set.
        hint: String,
    },
    /// The address cannot be used.
    #[error("{origin} is {url:?}: {problem}")]
    BadEndpoint {
        /// The variable or table that it comes from.
        origin: String,
        /// The address; without its user name and password.
        url: String,
        /// What is wrong, and what to give.
        problem: String,
    },
    /// The provider wants a key and there is none, or none that can be one.
    #[error("no usable key for {host}: {hint}")]
    NoKey {
        /// Whom it is for.
        host: String,
        /// What to set.
        hint: String,
    },
    /// A model's tokenizer cannot be used.
    #[error("the tokenizer {path} {problem}")]
    Tokenizer {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A sentence model cannot be used.
    #[error("the sentence model: {path} {problem}")]
    SentenceModel {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client cannot be set up.
    #[error(
        "cannot set up the HTTP client for {host}: {problem}; check the system's CA certificates"
    )]
    Client {
        /// Whom it is for.
        host: String,
        /// What failed.
        problem: String,
    },
    /// A cassette cannot be read or written.
    #[error("cassette {path}{}: {message}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    Cassette {
        /// The file.
        path: String,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Table { .. } => Code::LlmModelTable,
            Self::UnknownModel { .. } => Code::LlmUnknownModel,
            Self::NoEndpoint { .. } | Self::BadEndpoint { .. } => Code::CliNoEndpoint,
            Self::NoKey { .. } => Code::LlmAuth,
            Self::Client { .. } => Code::LlmUnreachable,
            Self::Cassette { .. } => Code::LlmCassette,
            Self::Tokenizer { .. } => Code::LlmTokenizer,
            Self::SentenceModel { .. } => Code::LlmSentenceModel,
        }
    }
}
