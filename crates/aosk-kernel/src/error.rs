//! Why the kernel could not do what was asked.

use aosk_abi::{Code, EncodeError, Pid};
use aosk_ports::{RenderError, StoreError};

use crate::image::FoldError;

/// An error of the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed; what was acknowledged is safe.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A journal does not fold.
    #[error("process {pid}: {source}")]
    Fold {
        /// Whose journal.
        pid: Pid,
        /// What is wrong with it.
        source: FoldError,
    },
    /// An event has no canonical form.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A request has no form in the device's dialect.
    #[error("the model's dialect cannot express the request: {0}")]
    Render(#[from] RenderError),
    /// The process cannot be spawned or resumed as asked.
    #[error("{message}")]
    Refused {
        /// The stable code.
        code: Code,
        /// What was wrong and what to do next.
        message: String,
    },
    /// The kernel is shutting down.
    #[error("the kernel is shutting down; start it again and resume the process")]
    Stopping,
}

impl Error {
    pub(crate) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// The error's stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Store(error) => error.code,
            Self::Fold { source, .. } => source.code(),
            Self::Encode(_) => Code::EventEncode,
            Self::Render(_) => Code::LlmBadRequest,
            Self::Refused { code, .. } => *code,
            Self::Stopping => Code::KernelStopping,
        }
    }
}
