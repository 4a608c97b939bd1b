//! Pages: what the table knows of a unit of context.
//!
//! A page is 72 bytes and holds no text: the text stands in the journal at [`Page::source`], once.
//! A hundred thousand processes of sixty pages each take less than half a gigabyte.

use aosk_abi::{Admission, PageId, PageKind, Ppm, Seq, Source, Tokens};

/// A page of a process's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Its number, in order of admission from 0.
    pub id: PageId,
    /// What it holds.
    pub kind: PageKind,
    /// Where its content stands.
    pub source: Source,
    /// The part of the source that it covers, in bytes: start and length. `None`: all of it.
    pub range: Option<(u64, u64)>,
    /// Pages of one unit leave together.
    pub unit: Seq,
    /// Its size under the tokenizer of the plan that admitted it.
    pub tokens: Tokens,
    /// Never evicted.
    pub pinned: bool,
    /// How much it matters, from 0 to [`Ppm::ONE`].
    pub importance: Ppm,
    /// Whether it stands in the prompt; if not, it is swapped: only its source has it.
    pub resident: bool,
}

impl Page {
    /// Whether the page belongs to the head of the prompt: system, tools and task. The head is
    /// pinned, comes first and never moves.
    #[must_use]
    pub const fn in_head(&self) -> bool {
        in_head(self.kind)
    }
}

impl From<&Admission> for Page {
    fn from(admission: &Admission) -> Self {
        Self {
            id: admission.page,
            kind: admission.kind,
            source: admission.source,
            range: admission.range,
            unit: admission.unit,
            tokens: admission.tokens,
            pinned: admission.pinned,
            importance: admission.importance,
            resident: true,
        }
    }
}

pub(crate) const fn in_head(kind: PageKind) -> bool {
    matches!(kind, PageKind::System | PageKind::Tools | PageKind::Task)
}

/// Whether the model itself said it; such a page answers all that was in the prompt before.
pub(crate) const fn is_turn(kind: PageKind) -> bool {
    matches!(kind, PageKind::Reply | PageKind::ToolCall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_small() {
        assert!(size_of::<Page>() <= 72, "{} bytes", size_of::<Page>());
    }
}
