//! What a kernel's journal says of how it kept the context.

use std::collections::BTreeMap;

use aosk_abi::{PageId, Record, Source, What};

use super::agent::Script;
use crate::report::Failure;

/// How the context was kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// How many calls needed an older part, and in how many of those it stood in the prompt.
    pub needs: usize,
    pub met: usize,
    /// How many pages left, and how many times some did.
    pub evicted: usize,
    pub epochs: usize,
}

/// Reads a journal of the script's agent.
pub fn kept(records: &[Record], script: &Script) -> Result<Kept, Failure> {
    let mut kept = Kept::default();
    let mut resident: BTreeMap<PageId, Source> = BTreeMap::new();
    // The event of each part, in the order in which they were read.
    let mut parts = Vec::new();
    let mut calls = 0;
    for record in records {
        match record.decode()?.what {
            What::Planned(planned) => {
                for id in &planned.evicted {
                    resident.remove(id);
                }
                kept.evicted += planned.evicted.len();
                kept.epochs += usize::from(!planned.evicted.is_empty());
                for page in &planned.admitted {
                    resident.insert(page.page, page.source);
                }
            }
            What::ToolReturned(_) => parts.push(record.seq),
            What::LlmReturned(_) => {
                if let Some(needed) = script.needs.get(calls).copied().flatten() {
                    let event = parts.get(needed).ok_or("a call came before what it needs")?;
                    kept.needs += 1;
                    let stands = resident.values().any(|source| source.seq == *event);
                    kept.met += usize::from(stands);
                }
                calls += 1;
            }
            _ => {}
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use aosk_abi::{
        Admission, CacheLife, Changes, ContentRef, Epoch, Event, Hash, LlmReturned, MicroDollars,
        Op, PageKind, Pid, Planned, Seq, Step, StopReason, Tenant, Timestamp, Tokens, ToolReturned,
    };

    use super::*;

    /// A plan that admits those pages of those events and lets those leave.
    fn plan(admitted: &[(u32, u64, u64)], evicted: &[u32], size: u64) -> What {
        let admission = |&(page, seq, tokens): &(u32, u64, u64)| Admission {
            importance: Admission::DEFAULT_IMPORTANCE,
            kind: PageKind::ToolResult,
            page: PageId(page),
            pinned: false,
            range: None,
            source: Source { seq: Seq(seq), part: 0 },
            tokens: Tokens(tokens),
            unit: Seq(seq),
        };
        What::Planned(Planned {
            admitted: admitted.iter().map(admission).collect(),
            evicted: evicted.iter().copied().map(PageId).collect(),
            generation: 0,
            life: CacheLife::Short,
            op: Op(0),
            prompt: Hash::ZERO,
            prompt_len: 0,
            prompt_tokens: Tokens(size),
            step: Step(1),
            reasons: None,
            stubs: Vec::new(),
            tail: false,
            tools: true,
            under: Changes::default(),
        })
    }

    fn answer() -> What {
        What::LlmReturned(LlmReturned {
            attempt: 1,
            cost: MicroDollars::ZERO,
            model: String::new(),
            op: Op(0),
            parts: Vec::new(),
            raw: None,
            stop: StopReason::Stop,
            took_ms: 0,
            used: Vec::new(),
            usage: None,
        })
    }

    fn tool() -> What {
        let result = ContentRef { hash: Hash::ZERO, len: 0 };
        What::ToolReturned(ToolReturned { op: Op(0), result, success: true, took_ms: 0 })
    }

    #[test]
    fn a_need_is_met_by_what_stands_in_the_prompt() {
        let (tenant, pid) = (Tenant::local(), Pid::from_alias("a"));
        let whats = [
            plan(&[(0, 0, 50)], &[], 60),
            answer(),
            tool(),
            plan(&[(1, 2, 50)], &[], 110),
            answer(),
            tool(),
            plan(&[(2, 5, 50)], &[0], 90),
            answer(),
            plan(&[], &[1], 60),
            answer(),
        ];
        let records: Vec<Record> = whats
            .into_iter()
            .zip(0..)
            .map(|(what, seq)| {
                let event = Event::new(Timestamp::from_millis(seq), what);
                Record::seal(&tenant, pid, Seq(seq), Epoch(1), Hash::ZERO, &event).expect("plain")
            })
            .collect();
        let needs = vec![None, None, Some(0), Some(0)];
        let script = Script { parts: Vec::new(), marks: Vec::new(), needs };
        let kept = kept(&records, &script).expect("a journal");
        assert_eq!((kept.needs, kept.met), (2, 1), "part 0 is the content of event 2");
        assert_eq!((kept.evicted, kept.epochs), (2, 2));
    }
}
