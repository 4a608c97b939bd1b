//! What was sent, what of it an endpoint was to have kept, and what would have been sent uncut.
//!
//! All of it follows from a journal alone, in tokens as its plans counted them: sizes are exact, and
//! what was to be expected of the cache follows from the rules that the plans name. It has no price: what an endpoint charged for a call is in the journal, what it
//! would have charged for another is not.

use std::collections::HashSet;

use aosk_abi::{Event, PageId, Planned, Source, Tokens, What};
use aosk_kernel::Warmth;
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
    /// How much of that the endpoint was to have kept, by the rules of its cache.
    pub(super) predicted: u64,
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
    /// How many pages brought a content that had left.
    again: usize,
    warmth: Warmth,
    sums: Sums,
}

impl Prompts {
    /// Takes the next event of the journal in.
    pub(super) fn hear(&mut self, event: &Event) {
        match &event.what {
            What::Planned(planned) => self.planned(planned),
            What::LlmRequested(_) => self.warmth.asked(event.at),
            What::LlmReturned(returned) => {
                self.answered(returned.usage.map(|usage| usage.cached));
            }
            // Another endpoint has read nothing yet.
            What::Routed(_) => self.warmth.lose(),
            What::LlmFailed(failed) if failed.next.is_some() => self.warmth.lose(),
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
        let first = self.resident.iter().position(|(id, _)| leaves(id));
        let standing = first.map(|first| Tokens(size(&self.resident[..first])));
        if first.is_some() {
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
        self.warmth.planned(planned, standing, pages);
    }

    /// The call was answered, and the endpoint said how much it had read from its cache.
    fn answered(&mut self, reported: Option<Tokens>) {
        let pages = size(&self.resident);
        self.sums.repeated += self.warmth.kept().0;
        self.warmth.answered(reported);
        self.sums.predicted = self.warmth.predicted().0;
        self.sums.calls += 1;
        self.sums.sent += pages + self.overhead;
        self.sums.uncut += self.whole + self.overhead;
    }
}

fn size(pages: &[(PageId, u64)]) -> u64 {
    pages.iter().map(|(_, tokens)| tokens).sum()
}

#[cfg(test)]
mod tests {
    use aosk_abi::{
        Admission, CacheLife, CacheRules, Changes, Hash, LlmRequested, LlmReturned, MicroDollars,
        Op, PageKind, Routed, Seq, Step, StopReason, Timestamp, Usage,
    };

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
            life: CacheLife::Short,
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
        prompts.answered(None);
        // All 150 tokens of pages stand there again.
        prompts.planned(&plan(&[(2, 2, 200)], &[], 360));
        prompts.answered(None);
        // Page 1 leaves: only the 100 tokens in front of it are as they were. A plan that was made
        // again before an answer came breaks no more than the first.
        prompts.planned(&plan(&[(3, 3, 30)], &[1], 340));
        prompts.planned(&plan(&[], &[2], 140));
        prompts.answered(None);
        prompts.planned(&plan(&[(4, 1, 50)], &[], 190));
        prompts.answered(None);
        let sums = Sums {
            calls: 4,
            sent: 160 + 360 + 140 + 190,
            repeated: 150 + 100 + 130,
            predicted: 0,
            uncut: 160 + 360 + 390 + 390,
        };
        assert_eq!((prompts.sums(), prompts.again()), (&sums, 1));
    }

    fn returned(usage: Usage) -> LlmReturned {
        LlmReturned {
            attempt: 1,
            cost: MicroDollars::ZERO,
            model: "m".to_owned(),
            op: Op(0),
            parts: Vec::new(),
            raw: None,
            stop: StopReason::Stop,
            took_ms: 1,
            used: Vec::new(),
            usage: Some(usage),
        }
    }

    #[test]
    fn what_is_to_be_expected_of_a_cache_follows_its_rules_and_what_it_said() {
        let mut prompts = Prompts::default();
        let mut call = |seconds: u64, plan: Planned, reported: u64| {
            let event = |what| Event::new(Timestamp::from_millis(seconds * 1_000), what);
            prompts.hear(&event(What::Planned(plan)));
            prompts.hear(&event(What::LlmRequested(LlmRequested {
                attempt: 1,
                device: "d".to_owned(),
                op: Op(0),
                reserved: MicroDollars::ZERO,
            })));
            let usage = Usage { cached: Tokens(reported), ..Usage::default() };
            prompts.hear(&event(What::LlmReturned(returned(usage))));
            let predicted = prompts.sums().predicted;
            if seconds == 310 {
                let model = "other".to_owned();
                prompts.hear(&event(What::Routed(Routed { model, op: Op(0) })));
            }
            predicted
        };
        let rules =
            CacheRules { minimum: Tokens(100), ttl_ms: Some(300_000), ..CacheRules::default() };
        let under = Changes { cache: Some(rules), ..Changes::default() };
        let first = Planned { under, ..plan(&[(0, 0, 90), (1, 1, 60)], &[], 160) };
        assert_eq!(call(0, first, 0), 0, "nothing was sent yet");
        let second = plan(&[(2, 2, 50)], &[], 210);
        assert_eq!(call(300, second, 150), 150, "all of it, at the end of its life");
        // Page 1 leaves: the 90 tokens in front of it are less than is kept.
        assert_eq!(call(301, plan(&[], &[1], 150), 0), 150);
        // Then 140 stand there again, of which the endpoint reads nothing: it has lost them.
        assert_eq!(call(302, plan(&[(3, 3, 10)], &[], 160), 0), 150 + 140);
        assert_eq!(call(310, plan(&[(4, 4, 10)], &[], 170), 150), 150 + 140 + 150);
        // Another endpoint has read nothing, and it keeps nothing for longer.
        assert_eq!(call(311, plan(&[(5, 5, 10)], &[], 180), 0), 440);
        assert_eq!(call(612, plan(&[(6, 6, 10)], &[], 190), 0), 440);
    }
}
