//! What was sent, what of it an endpoint could have kept, and what would have been sent uncut.
//!
//! All of it follows from the plans of a journal alone, so it is exact, in tokens as the plans
//! counted them. It has no price: what an endpoint charged for a call is in the journal, what it
//! would have charged for another is not.

use std::collections::HashSet;

use aosk_abi::{PageId, Planned, Source, Tokens, What};
use serde::Serialize;

/// The prompts of the model calls that were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    /// How many calls.
    pub(super) calls: u64,
    /// The sizes of their prompts together.
    pub(super) sent: u64,
    /// How much of that stood at the beginning of the prompt before: what a cache that forgets
    /// nothing would have read.
    pub(super) repeated: u64,
    /// The sizes together if no page had ever left.
    pub(super) uncut: u64,
}

/// The prompt as one plan after the other left it.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    resident: Vec<(PageId, u64)>,
    contents: HashSet<(Source, Option<(u64, u64)>)>,
    /// The size of every content that ever came, each once.
    whole: u64,
    /// What the newest prompt holds besides pages: tail and framing.
    overhead: u64,
    /// How much of the newest prompt stood at the beginning of the one last answered.
    kept: u64,
    /// How many pages brought a content that had left.
    again: usize,
    sums: Sums,
}

impl Prompts {
    /// Takes the next event of the journal in.
    pub(super) fn hear(&mut self, what: &What) {
        match what {
            What::Planned(planned) => self.planned(planned),
            What::LlmReturned(_) => self.answered(),
            _ => {}
        }
    }

    /// The sums so far.
    pub(super) const fn sums(&self) -> &Sums {
        &self.sums
    }

    /// How many pages brought a content that had left: what faults cost.
    pub(super) const fn again(&self) -> usize {
        self.again
    }

    fn planned(&mut self, planned: &Planned) {
        let leaves = |id: &PageId| planned.evicted.contains(id);
        if let Some(first) = self.resident.iter().position(|(id, _)| leaves(id)) {
            self.kept = self.kept.min(size(&self.resident[..first]));
            self.resident.retain(|(id, _)| !leaves(id));
        }
        for page in &planned.admitted {
            self.resident.push((page.page, page.tokens.0));
            if self.contents.insert((page.source, page.range)) {
                self.whole += page.tokens.0;
            } else {
                self.again += 1;
            }
        }
        let pages = Tokens(size(&self.resident));
        self.overhead = planned.prompt_tokens.saturating_sub(pages).0;
    }

    fn answered(&mut self) {
        let pages = size(&self.resident);
        self.sums.calls += 1;
        self.sums.sent += pages + self.overhead;
        self.sums.repeated += self.kept;
        self.sums.uncut += self.whole + self.overhead;
        self.kept = pages;
    }
}

fn size(pages: &[(PageId, u64)]) -> u64 {
    pages.iter().map(|(_, tokens)| tokens).sum()
}

#[cfg(test)]
mod tests {
    use aosk_abi::{Admission, Changes, Hash, Op, PageKind, Seq, Step};

    use super::*;

    /// A plan that admits pages of the contents at those places and lets those leave.
    fn plan(admitted: &[(u32, u64, u64)], evicted: &[u32], prompt_tokens: u64) -> Planned {
        let admission = |&(page, seq, tokens): &(u32, u64, u64)| Admission {
            importance: Admission::DEFAULT_IMPORTANCE,
            kind: PageKind::Message,
            page: PageId(page),
            pinned: false,
            range: None,
            source: Source { seq: Seq(seq), part: 0 },
            tokens: Tokens(tokens),
            unit: Seq(seq),
        };
        Planned {
            admitted: admitted.iter().map(admission).collect(),
            evicted: evicted.iter().copied().map(PageId).collect(),
            generation: 0,
            op: Op(0),
            prompt: Hash::ZERO,
            prompt_len: 0,
            prompt_tokens: Tokens(prompt_tokens),
            step: Step(1),
            reasons: None,
            stubs: Vec::new(),
            tail: false,
            tools: true,
            under: Changes::default(),
        }
    }

    #[test]
    fn what_leaves_breaks_the_prefix_where_it_stood_and_what_comes_again_is_not_new() {
        let mut prompts = Prompts::default();
        prompts.planned(&plan(&[(0, 0, 100), (1, 1, 50)], &[], 160));
        prompts.answered();
        // All 150 tokens of pages stand there again.
        prompts.planned(&plan(&[(2, 2, 200)], &[], 360));
        prompts.answered();
        // Page 1 leaves: only the 100 tokens in front of it are as they were. A plan that was made
        // again before an answer came breaks no more than the first.
        prompts.planned(&plan(&[(3, 3, 30)], &[1], 340));
        prompts.planned(&plan(&[], &[2], 140));
        prompts.answered();
        prompts.planned(&plan(&[(4, 1, 50)], &[], 190));
        prompts.answered();
        let sums = Sums {
            calls: 4,
            sent: 160 + 360 + 140 + 190,
            repeated: 150 + 100 + 130,
            uncut: 160 + 360 + 390 + 390,
        };
        assert_eq!((prompts.sums(), prompts.again()), (&sums, 1));
    }
}
