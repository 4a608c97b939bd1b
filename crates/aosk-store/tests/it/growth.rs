//! What a step costs on the disk.

use aosk_abi::{
    Admission, CacheLife, Changes, ContentRef, Epoch, Event, Hash, LlmRequested, LlmReturned,
    MicroDollars, Op, PageId, PageKind, Pid, Planned, Record, ReplyPart, Seq, Source, Step,
    StopReason, Tenant, Timestamp, Tokens, Usage, What,
};
use aosk_conformance::Scribe;
use aosk_ports::{Append, JournalWriter};
use aosk_store::sizes;

use crate::child::pid;
use crate::support::{block_on, noise, open};

const AGENTS: u64 = 16;
pub(crate) const PAYLOAD: usize = 2048;

/// A step as the kernel writes it: a reply of incompressible text came in, the next plan was made,
/// the next call is about to leave.
pub(crate) fn step(scribe: &Scribe, n: u64, agent: u64) -> Append {
    let at = Timestamp::from_millis(1_790_000_000_000 + n * 1_234 + agent * 77);
    let content = scribe.key.seal(noise(n * 1000 + agent, PAYLOAD));
    let seq = scribe.next;
    let events = [
        What::LlmReturned(returned(n, content.reference())),
        What::Planned(planned(n + 1, seq, Hash::of(&noise(n + agent, 32)))),
        What::LlmRequested(LlmRequested {
            op: Op(n + 1),
            attempt: 1,
            device: "gpt-5-mini".to_owned(),
            reserved: MicroDollars(20_000 + n * 131),
        }),
    ];
    let mut append = scribe.append(&[]);
    let mut prev = scribe.head;
    append.records = (seq.0..)
        .zip(events)
        .map(|(seq, what)| {
            let event = Event::new(at, what);
            let record = Record::seal(&scribe.tenant, scribe.pid, Seq(seq), Epoch(1), prev, &event)
                .expect("no text holds U+0000");
            prev = record.hash;
            record
        })
        .collect();
    append.contents = vec![content];
    append
}

fn returned(n: u64, content: ContentRef) -> LlmReturned {
    LlmReturned {
        op: Op(n),
        attempt: 1,
        parts: vec![ReplyPart::Text { content }],
        stop: StopReason::Stop,
        usage: Some(Usage {
            input: Tokens(500 + n * 512),
            cached: Tokens(n * 512),
            output: Tokens(512),
            ..Usage::default()
        }),
        cost: MicroDollars(1_234 + n * 17 % 991),
        model: "gpt-5-mini-2025-08-07".to_owned(),
        raw: None,
        took_ms: 800 + n * 37 % 1_009,
        used: Vec::new(),
    }
}

fn planned(n: u64, seq: Seq, prompt: Hash) -> Planned {
    Planned {
        op: Op(n),
        step: Step(n),
        generation: 0,
        life: CacheLife::Short,
        tools: true,
        under: Changes::default(),
        prompt_tokens: Tokens(1_000 + n * 512),
        prompt,
        prompt_len: 2_000 + n * 2_100,
        tail: true,
        admitted: vec![Admission {
            page: PageId(u32::try_from(n).expect("small") + 4),
            kind: PageKind::Reply,
            source: Source { seq, part: 0 },
            range: None,
            unit: seq,
            tokens: Tokens(512),
            pinned: false,
            importance: Admission::DEFAULT_IMPORTANCE,
        }],
        evicted: Vec::new(),
        reasons: None,
        stubs: Vec::new(),
    }
}

#[test]
fn a_step_costs_its_payload_and_a_constant_whatever_the_history() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let total = || sizes(dir.path()).expect("measured").total;
    let mut scribes: Vec<(Pid, Scribe)> = Vec::new();
    for n in 0..AGENTS {
        let scribe = block_on(Scribe::new(&store, &Tenant::local(), pid(n)));
        scribes.push((scribe.pid, scribe));
    }
    let empty = total();
    let mut at = vec![empty];
    for n in 0..1000 {
        let mut last = None;
        for (agent, (_, scribe)) in (0..).zip(&mut scribes) {
            let append = step(scribe, n, agent);
            scribe.follow(&append);
            last = Some(store.append(append));
        }
        if (n + 1) % 100 == 0 {
            block_on(last.expect("an agent")).expect("acknowledged");
            at.push(total());
        }
    }
    let per_step = |bytes: u64| bytes as f64 / (AGENTS * 100) as f64;
    let first = per_step(at[1] - at[0]);
    let last = per_step(at[10] - at[9]);
    println!("bytes a step: {first:.0} in the first hundred, {last:.0} in the last; empty {empty}");
    assert!(last - PAYLOAD as f64 <= 700.0, "{last} bytes for {PAYLOAD} of payload");
    assert!((last / first - 1.0).abs() <= 0.05, "{first} at first, {last} at last");
}
