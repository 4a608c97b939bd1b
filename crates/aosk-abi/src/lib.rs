//! The words of the Agent OS Kernel.
//!
//! Every other crate speaks in these types, so this one does no I/O, runs nothing asynchronously
//! and holds no mechanism. Its principles:
//!
//! 1. **Event bytes are for ever.** A [`Record`] is canonical JSON plus a header, hashed into a
//!    chain; it is stored as bytes and never serialised a second time. See [`record`](Record).
//! 2. **No floats, no NUL.** Money is [`MicroDollars`], shares are [`Ppm`], times are
//!    [`Timestamp`] in milliseconds; free text is a [`Content`] that events name by hash.
//! 3. **The tenant is in every key**, from the first day.
//! 4. **Types make the wrong thing impossible**: [`Priority`] has no order, [`Seq`] cannot be
//!    mixed with [`Op`], a state that cannot hold a field does not have it.
//!
//! ```
//! use aosk_abi::{Epoch, Event, Hash, Pid, Record, Seq, Tenant, Timestamp, What, Recovered};
//!
//! let tenant = Tenant::local();
//! let pid = Pid::from_alias("agent-123");
//! let event = Event::new(
//!     Timestamp::from_millis(1_700_000_000_000),
//!     What::Recovered(Recovered { from: Epoch(1), instance: "node-a".into() }),
//! );
//! let record = Record::seal(&tenant, pid, Seq(4), Epoch(2), Hash::ZERO, &event)?;
//! assert!(record.verify(&tenant, pid, Hash::ZERO).is_ok());
//! assert_eq!(record.decode()?, event);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod amount;
mod canonical;
mod chunk;
mod code;
mod condition;
mod content;
mod event;
mod id;
mod inference;
mod manifest;
mod page;
mod priority;
mod process;
mod quota;
mod reason;
mod record;
mod records;
mod restart;
mod signal;
mod syscall;
mod tool;

pub use amount::{MicroDollars, Ppm, Timestamp, Tokens};
pub use canonical::{CanonicalError, to_canonical_json};
pub use chunk::{Chunk, ChunkList, Chunker, Cut, TooLong};
pub use code::Code;
pub use condition::{CacheLife, CacheRules, Changes, Conditions};
pub use content::{Content, ContentKey, ContentRef, Hash, HashParseError};
pub use event::{
    Blocked, BudgetWarned, Cancelled, ChildBegun, ChildEnded, Crashed, Event, Exited, Interrupted,
    Kind, LlmFailed, LlmRequested, LlmReturned, MessageReceived, MessageTaken, Planned,
    PriorityChanged, QuotaChanged, RecallRank, RecallSearch, Recalled, Recovered, Restarted,
    Routed, SignalReceived, Spawned, SpendRaised, Told, ToolRequested, ToolReturned, Tuned,
    Unblocked, What,
};
pub use id::{Epoch, IdError, Op, PageId, Pid, Seq, Step, Tenant};
pub use inference::{FailureKind, ReplyPart, Role, StopReason, Usage};
pub use manifest::{
    ContextSpec, Manifest, ManifestError, QuotaSpec, ReactSpec, Sampling, ToolCalls,
};
pub use page::{Admission, PageKind, Source, Stub};
pub use priority::{Priority, PriorityError};
pub use process::{BlockedOn, Exit, ProcessState, Scarce};
pub use quota::{
    GroupSpec, Limits, OrderSpec, Period, PoolSpec, QuotaError, QuotaOwner, Rate, Sharing, Spend,
    TenantSpec,
};
pub use reason::{Cause, Reasons, Score};
pub use record::{DecodeError, EncodeError, Record, VerifyError};
pub use records::{Chain, Records};
pub use restart::{RestartSpec, RestartWhen};
pub use signal::Signal;
pub use syscall::{Input, ReplySummary, Syscall, ToolCall};
pub use tool::{Effect, ToolError, ToolResult, ToolSpec};
