//! Pages: what the table knows of a unit of context.
//!
//! A page is 88 bytes and holds no text: the text stands in the journal at [`Page::source`], once.
//! The unit that it stands in takes 48 more while it is resident. A hundred thousand processes of sixty
//! pages each take half a gigabyte to eight tenths of one, by how many pages a unit has.
//!
//! A swapped page that is needed again is admitted again, under a new number and with the same
//! source: it stands at the end of the prompt, where it invalidates nothing that an endpoint has
//! cached, and its bytes are the same because they are the same bytes. It keeps its age and its
//! accesses; the number that it had before goes on naming the same content.

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
    /// How many turns of the model there had been when its content first came.
    pub born: u32,
    /// How often it was needed since.
    pub accesses: u32,
    /// How many turns there had been when it was admitted or last needed.
    pub last_access: u32,
    /// What greedy-dual ageing holds it worth: see [`crate::Gdsf`].
    pub credit: u32,
}

impl Page {
    /// Whether the page belongs to the head of the prompt: system, tools and task. The head is
    /// pinned, comes first and never moves.
    #[must_use]
    pub const fn in_head(&self) -> bool {
        in_head(self.kind)
    }

    /// Whether it may leave before the rest of its unit does: it holds a part of a content that was
    /// cut, and not the first.
    #[must_use]
    pub const fn is_part(&self) -> bool {
        is_part((self.range, self.source, self.unit))
    }

    /// Whether `next` holds the part that follows in the same content.
    pub(crate) fn goes_on_in(&self, next: &Self) -> bool {
        follows((self.range, self.source, self.unit), (next.range, next.source, next.unit))
    }

    /// What an access is worth to greedy-dual ageing: 2^16 x its accesses so far / its tokens.
    pub(crate) fn earned(&self) -> u32 {
        let accesses = u64::from(self.accesses).saturating_add(1);
        u32::try_from((accesses << 16) / self.tokens.0.max(1)).unwrap_or(u32::MAX)
    }

    /// What its credit has beyond what its accesses earn.
    pub(crate) fn inflation(&self) -> u32 {
        self.credit.saturating_sub(self.earned())
    }

    /// The page that `admission` becomes, after that many turns of the
    /// model.
    pub(crate) const fn admitted(admission: &Admission, turn: u32) -> Self {
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
            born: turn,
            accesses: 0,
            last_access: turn,
            credit: 0,
        }
    }
}

pub(crate) const fn in_head(kind: PageKind) -> bool {
    matches!(kind, PageKind::System | PageKind::Tools | PageKind::Task)
}

/// See [`Page::is_part`]. What was recalled is older than its unit: it stands there by itself, as
/// whoever asked for it was told.
pub(crate) const fn is_part((range, source, unit): Place) -> bool {
    matches!(range, Some((1.., _))) && unit.0 <= source.seq.0
}

/// Where a content or a part of it stands, and in which unit.
pub(crate) type Place = (Option<(u64, u64)>, Source, Seq);

pub(crate) const fn place(admission: &Admission) -> Place {
    (admission.range, admission.source, admission.unit)
}

/// Whether the second place is of the part that follows the first in the same content and unit.
pub(crate) fn follows(first: Place, second: Place) -> bool {
    let ((Some((start, length)), source, unit), (Some((next, _)), other, its)) = (first, second)
    else {
        return false;
    };
    (source, unit) == (other, its) && start.checked_add(length) == Some(next)
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
        assert!(size_of::<Page>() <= 88, "{} bytes", size_of::<Page>());
    }
}
