//! Words for the units of a process's context.

use serde::{Deserialize, Serialize};

use crate::amount::{Ppm, Tokens};
use crate::id::{PageId, Seq};

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// The system prompt.
    System,
    /// The schemas of the tools.
    Tools,
    /// The task.
    Task,
    /// A message to the agent, or a note of the kernel.
    Message,
    /// Text or an opaque block of the model.
    Reply,
    /// A tool call of the model.
    ToolCall,
    /// The result of a tool call.
    ToolResult,
}

/// Where a page's content stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The event that carries it.
    pub seq: Seq,
    /// Which of the event's parts; 0 where it has one. Of a `Spawned` event: 0 system, 1 tools,
    /// 2 task.
    pub part: u16,
}

/// The admission of a page to a process's context, as a plan records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// How much it matters, from 0 to [`Ppm::ONE`].
    #[serde(default = "half", skip_serializing_if = "is_half")]
    pub importance: Ppm,
    /// What it holds.
    pub kind: PageKind,
    /// The number that the page has from now on.
    pub page: PageId,
    /// Never evicted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// The part of the source that it covers, in bytes: start and length. Absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(u64, u64)>,
    /// Where its content stands.
    pub source: Source,
    /// Its size under the plan's tokenizer.
    pub tokens: Tokens,
    /// Pages of one unit are evicted together: a tool call never stays without its result.
    pub unit: Seq,
}

impl Admission {
    /// The importance of a page that nobody rated.
    pub const DEFAULT_IMPORTANCE: Ppm = Ppm(500_000);
}

/// A range of pages of which some have left the prompt, as the prompt tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stub {
    /// The first page that has left.
    pub first: PageId,
    /// The last one; resident pages may stand between the two.
    pub last: PageId,
    /// How many have left.
    pub pages: u32,
    /// Their size together.
    pub tokens: Tokens,
}

const fn half() -> Ppm {
    Admission::DEFAULT_IMPORTANCE
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_half(importance: &Ppm) -> bool {
    *importance == Admission::DEFAULT_IMPORTANCE
}
