//! What the messages of a conversation are made of.
//!
//! A page names a place in the journal; the transcript says what stands there: who speaks, which
//! content, and the ids that bind a tool's result to its call.

use aosk_abi::{ContentRef, Source};

/// What stands at one place of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// The system prompt.
    System(ContentRef),
    /// The tools' schemas; not a message of its own.
    Tools(ContentRef),
    /// The task or a message.
    User(ContentRef),
    /// Text of the model.
    Reply(ContentRef),
    /// An opaque block of the model.
    Opaque {
        /// Dialect and type.
        format: String,
        /// The block.
        content: ContentRef,
    },
    /// A tool call of the model.
    ToolCall {
        /// The model's id of the call.
        id: String,
        /// The tool.
        name: String,
        /// The arguments.
        arguments: ContentRef,
    },
    /// A tool's result.
    ToolResult {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// The result as JSON.
        content: ContentRef,
        /// Whether the tool did not do what was asked.
        failed: bool,
    },
}

impl Shape {
    /// The content that stands there.
    #[must_use]
    pub const fn content(&self) -> &ContentRef {
        match self {
            Self::System(content)
            | Self::Tools(content)
            | Self::User(content)
            | Self::Reply(content)
            | Self::Opaque { content, .. }
            | Self::ToolCall { arguments: content, .. }
            | Self::ToolResult { content, .. } => content,
        }
    }
}

/// Places of the journal and what stands there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript(Vec<(Source, Shape)>);

impl Transcript {
    /// What stands there; `None` where no event put anything.
    #[must_use]
    pub fn get(&self, source: Source) -> Option<&Shape> {
        let index = self.0.binary_search_by_key(&source, |(place, _)| *place).ok()?;
        self.0.get(index).map(|(_, shape)| shape)
    }

    /// Appends; places come in the order of the journal.
    pub(super) fn push(&mut self, source: Source, shape: Shape) {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < source));
        self.0.push((source, shape));
    }

    /// How many places there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was put behind the first `len` places.
    pub(super) fn since(&self, len: usize) -> &[(Source, Shape)] {
        self.0.get(len..).unwrap_or_default()
    }

    /// A transcript of these places; `None` where they do not ascend.
    pub(super) fn of(places: Vec<(Source, Shape)>) -> Option<Self> {
        places.is_sorted_by(|a, b| a.0 < b.0).then_some(Self(places))
    }

    /// Everything, in the order of the journal.
    pub fn iter(&self) -> impl Iterator<Item = (Source, &Shape)> {
        self.0.iter().map(|(source, shape)| (*source, shape))
    }
}
