//! Virtual memory for the context window: which pages stand in the prompt, and in which order.
//!
//! A [`PageTable`] is a fold over the plans of one process's journal. [`PageTable::plan`] decides
//! and changes nothing; [`PageTable::apply`] does what a journaled plan says and decides nothing.
//! Replay therefore needs no policy, no tokenizer and no model. The crate does no I/O and reads no
//! clock. Its principles:
//!
//! 1. **Never over the window.** Prompt and reply fit together, the counting's stated error
//!    included; a demand that cannot be met is an [`Error`] with the numbers.
//! 2. **The prompt only grows between two generations.** Prompt order is the order of admission,
//!    so that each prompt begins with the one before it and an endpoint's cache stays warm. Pages
//!    leave rarely and many at once; leaving begins a new generation.
//! 3. **What is pinned never leaves, what the model has not answered never leaves, and pages of a
//!    unit leave together**: a tool call never stands without its result. Only the further pages of a
//!    content that was [`cut()`] may leave before the rest of their unit does.
//! 4. **Mechanism here, policy in a [`Policy`]**: a policy chooses among what may leave and cannot
//!    break an invariant. The default one, [`CostAware`], chooses by price.
//! 5. **Every plan and every fold is held to one set of checks**, in release builds too.
//!
//! ```
//! use aosk_abi::{Admission, PageKind, Ppm, Seq, Source, Tokens};
//! use aosk_context::{Arrival, Demand, PageTable, TruncateOldest};
//!
//! let task = Arrival {
//!     kind: PageKind::Task,
//!     source: Source { seq: Seq(0), part: 2 },
//!     range: None,
//!     unit: Seq(0),
//!     tokens: Tokens(40),
//!     pinned: true,
//!     importance: Admission::DEFAULT_IMPORTANCE,
//! };
//! let demand = Demand {
//!     window: Tokens(8_192),
//!     max_output: Tokens(1_024),
//!     overhead: Tokens(60),
//!     reserve: Tokens(0),
//!     gaps: 0,
//!     margin: Ppm(50_000),
//! };
//! let table = PageTable::default();
//! let plan = table.plan(&[task], &demand, &TruncateOldest)?;
//! assert_eq!(plan.prompt_tokens, Tokens(100));
//! assert_eq!(table.preview(&plan).map(|page| page.kind).collect::<Vec<_>>(), [PageKind::Task]);
//! # Ok::<(), aosk_context::Error>(())
//! ```

mod arrival;
mod ascent;
mod cache;
mod cut;
mod demand;
mod error;
mod invariant;
mod page;
mod pauses;
mod plan;
mod policy;
mod residency;
mod snapshot;
mod standing;
mod stub;
mod table;
mod terms;
mod units;
mod warmth;

pub use arrival::Arrival;
pub use cache::{CacheModel, Sent};
pub use cut::{OPENING, PAGE, cut};
pub use demand::Demand;
pub use error::{Error, Overflow};
pub use invariant::Violation;
pub use page::Page;
pub use pauses::CachePrices;
pub use plan::Plan;
pub use policy::{
    ClearToolResults, Compaction, CostAware, Gdsf, Hazard, Importance, Lfu, Lru, MaskObservations,
    POLICIES, Policy, Ratings, S3Fifo, TruncateOldest, Unit, View, Weights, policy_by_name,
};
pub use residency::{Damage, Entry, Residency};
pub use stub::{STUB, stub_room};
pub use table::PageTable;
pub use terms::Terms;
pub use warmth::Warmth;
