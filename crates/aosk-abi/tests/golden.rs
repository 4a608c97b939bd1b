//! The bytes and hashes of events are for ever: a journal that was written once must verify in
//! every later version. The golden file holds one chain with each kind of event. It is compared
//! byte for byte; a line may be added for a new kind or version, and none may change.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use aosk_abi::{
    Admission, Blocked, BlockedOn, BudgetWarned, CacheLife, CacheRules, Cancelled, Cause, Changes,
    ChildBegun, ChildEnded, ContentKey, ContentRef, Crashed, DecodeError, Effect, Epoch, Event,
    Exit, Exited, FailureKind, Hash, Interrupted, Kind, Limits, LlmFailed, LlmRequested,
    LlmReturned, MessageReceived, MessageTaken, MicroDollars, Op, PageId, PageKind, Pid, Planned,
    Ppm, Priority, PriorityChanged, QuotaChanged, Reasons, RecallRank, RecallSearch, Recalled,
    Record, Recovered, ReplyPart, Restarted, Routed, Score, Seq, Signal, SignalReceived, Source,
    Spawned, SpendRaised, Step, StopReason, Stub, Tenant, Timestamp, Tokens, Told, ToolRequested,
    ToolReturned, Tuned, Unblocked, Usage, What,
};

const GOLDEN: &str = include_str!("golden/events-v1.txt");

fn text(text: &str) -> ContentRef {
    ContentKey::from_bytes([7; 32]).seal(text.as_bytes()).reference()
}

fn every_kind() -> Vec<What> {
    let page = |page, kind, seq, part| Admission {
        page: PageId(page),
        kind,
        source: Source { seq: Seq(seq), part },
        range: None,
        unit: Seq(seq),
        tokens: Tokens(12),
        pinned: false,
        importance: Admission::DEFAULT_IMPORTANCE,
    };
    let task = Admission {
        pinned: true,
        importance: Ppm(900_000),
        range: Some((0, 44)),
        ..page(0, PageKind::Task, 0, 2)
    };
    let rules = CacheRules {
        marked: true,
        minimum: Tokens(1_024),
        ttl_ms: Some(300_000),
        ..CacheRules::default()
    };
    vec![
        What::Spawned(Spawned {
            name: "prüfer".into(),
            alias: Some("agent-123".into()),
            parent: Some(Pid::from_parts(1_700_000_000_000, [1; 10])),
            program: "react".into(),
            model: "local".into(),
            priority: Priority::new(30).expect("in range"),
            max_steps: 20,
            max_tool_steps: Some(3),
            spend_limit: Some(MicroDollars(100_000)),
            manifest: text("{}"),
            system: text("You are helpful."),
            tools: text("[]"),
            task: text("Was ist 17 · 23?"),
        }),
        What::Planned(Planned {
            op: Op(0),
            step: Step(1),
            generation: 1,
            tools: true,
            under: Changes {
                cache: None,
                max_output: Some(Tokens(512)),
                policy: Some("truncate_oldest".into()),
                render: Some("1/openai".into()),
                tokenizer: Some("estimator/1.000".into()),
                window: Some(Tokens(4096)),
            },
            prompt_tokens: Tokens(77),
            prompt: Hash::of(b"prompt"),
            prompt_len: 6,
            tail: true,
            admitted: vec![task, page(1, PageKind::ToolResult, 3, 0)],
            evicted: vec![PageId(4), PageId(5)],
            reasons: None,
            stubs: Vec::new(),
            life: CacheLife::Short,
        }),
        What::LlmRequested(LlmRequested {
            op: Op(0),
            attempt: 1,
            device: "local".into(),
            reserved: MicroDollars(420),
        }),
        What::LlmFailed(LlmFailed {
            op: Op(0),
            attempt: 1,
            failure: FailureKind::Throttled,
            code: "AOSK-L006".into(),
            message: text("slow down"),
            next: None,
            retry_at: Some(Timestamp::from_millis(1_700_000_002_500)),
            cost: MicroDollars(0),
        }),
        What::Blocked(Blocked {
            on: BlockedOn::Quota {
                limit: MicroDollars(100_000),
                spent: MicroDollars(99_990),
                needed: MicroDollars(420),
            },
            op: None,
        }),
        What::SpendRaised(SpendRaised { limit: MicroDollars(200_000) }),
        What::Unblocked(Unblocked {}),
        What::Recovered(Recovered { from: Epoch(1), instance: "host/4711".into() }),
        What::LlmReturned(LlmReturned {
            op: Op(0),
            attempt: 2,
            parts: vec![
                ReplyPart::Text { content: text("Let me see.") },
                ReplyPart::Opaque {
                    format: "openai/reasoning_content".into(),
                    content: text("\0opaque"),
                },
                ReplyPart::ToolCall {
                    id: "call_1".into(),
                    name: "calculator".into(),
                    arguments: text("{\"expression\":\"17 * 23\"}"),
                },
            ],
            stop: StopReason::ToolCalls,
            usage: Some(Usage {
                input: Tokens(80),
                cached: Tokens(64),
                cache_write: Tokens(0),
                cache_write_long: Tokens(0),
                output: Tokens(21),
                reasoning: Tokens(5),
            }),
            cost: MicroDollars(33),
            model: "SmolLM2-135M-Instruct".into(),
            raw: Some(text("data: {}\n\n")),
            took_ms: 812,
            used: Vec::new(),
        }),
        What::ToolRequested(ToolRequested {
            op: Op(1),
            tool: "calculator".into(),
            effect: Effect::Pure,
            attempt: 1,
            isolation: "none".into(),
            to: None,
        }),
        What::ToolReturned(ToolReturned {
            op: Op(1),
            success: true,
            result: text("{\"data\":391,\"success\":true}"),
            took_ms: 1,
        }),
        What::Interrupted(Interrupted { op: Op(2), result: text("{\"success\":false}") }),
        What::MessageReceived(MessageReceived {
            from: "user".into(),
            content: text("and now?"),
            op: None,
        }),
        What::Told(Told { op: Op(3), content: text("Go on.") }),
        What::SignalReceived(SignalReceived { signal: Signal::Kill }),
        What::Cancelled(Cancelled { op: Op(4) }),
        What::Exited(Exited {
            op: Some(Op(5)),
            exit: Exit::Completed { answer: Some(text("391")) },
        }),
        What::PriorityChanged(PriorityChanged { priority: Priority::new(10).expect("in range") }),
        What::Restarted(Restarted {
            exit: Exit::StepLimit { limit: 20 },
            number: 2,
            op: Some(Op(6)),
            until: Timestamp::from_millis(1_700_000_009_000),
        }),
        What::Crashed(Crashed { message: text("it fell over") }),
        What::Planned(Planned {
            op: Op(8),
            step: Step(2),
            generation: 2,
            tools: true,
            under: Changes::default(),
            prompt_tokens: Tokens(60),
            prompt: Hash::of(b"stubs"),
            prompt_len: 5,
            tail: false,
            admitted: Vec::new(),
            evicted: vec![PageId(4), PageId(5)],
            reasons: None,
            stubs: vec![Stub { first: PageId(4), last: PageId(5), pages: 2, tokens: Tokens(800) }],
            life: CacheLife::Short,
        }),
        What::Recalled(Recalled { op: Op(7), pages: vec![PageId(4), PageId(5)], search: None }),
        What::ChildBegun(ChildBegun {
            op: Op(9),
            child: Pid::from_alias("child"),
            name: "helper".into(),
            granted: Some(MicroDollars(5_000)),
        }),
        What::Blocked(Blocked {
            on: BlockedOn::Child {
                children: vec![Pid::from_alias("child")],
                until: Some(Timestamp::from_millis(1_700_000_060_000)),
            },
            op: Some(Op(10)),
        }),
        What::ChildEnded(ChildEnded {
            child: Pid::from_alias("child"),
            exit: "completed".into(),
            answer: Some(text("42")),
            spent: MicroDollars(1_200),
        }),
        What::Blocked(Blocked {
            on: BlockedOn::Message { from: Some(Pid::from_alias("child")), until: None },
            op: Some(Op(11)),
        }),
        What::MessageReceived(MessageReceived {
            from: Pid::from_alias("child").to_string(),
            content: text("done"),
            op: Some(Op(3)),
        }),
        What::ToolRequested(ToolRequested {
            op: Op(12),
            tool: "send".into(),
            effect: Effect::Idempotent,
            attempt: 1,
            isolation: "none".into(),
            to: Some(Pid::from_alias("child")),
        }),
        What::MessageTaken(MessageTaken { op: Op(11), message: Seq(26) }),
        What::Routed(Routed { op: Op(13), model: "spare".into() }),
        What::Recalled(Recalled {
            op: Op(9),
            pages: vec![PageId(5), PageId(4)],
            search: Some(RecallSearch {
                query: text("where the harbour is"),
                ranks: vec![
                    RecallRank { words: Some(1), vector: Some(3) },
                    RecallRank { words: None, vector: Some(1) },
                ],
            }),
        }),
        What::QuotaChanged(QuotaChanged {
            owner: "pool gpt-5-mini".into(),
            limits: Limits {
                requests: Some("60/minute".parse().expect("a rate")),
                spend: Some("5/day".parse().expect("a budget")),
                ..Limits::default()
            },
        }),
        What::BudgetWarned(BudgetWarned {
            owner: "tenant local".into(),
            percent: 80,
            limit: MicroDollars(5_000_000),
            until: Some(Timestamp::from_millis(1_700_006_400_000)),
        }),
        What::Planned(Planned {
            op: Op(14),
            step: Step(3),
            generation: 3,
            tools: true,
            under: Changes::default(),
            prompt_tokens: Tokens(50),
            prompt: Hash::of(b"reasons"),
            prompt_len: 7,
            tail: false,
            admitted: Vec::new(),
            evicted: vec![PageId(6), PageId(7)],
            reasons: Some(Reasons {
                early: true,
                scores: vec![
                    Score { cause: Cause::Scored, page: PageId(6), terms: vec![1_200, 34] },
                    Score { cause: Cause::Gaps, page: PageId(7), terms: vec![0, 56] },
                ],
                shared: Vec::new(),
                terms: vec!["needs_ppm".into(), "tokens".into()],
            }),
            stubs: Vec::new(),
            life: CacheLife::Short,
        }),
        What::Tuned(Tuned {
            ahead_tokens: 16_384,
            aging_ms: 30_000,
            depth_percent: 87,
            device: "gpt-5-mini".into(),
            epochs: 3,
            guess_percent: Some(90),
            worth_milli: 812,
        }),
        What::Planned(Planned {
            op: Op(15),
            step: Step(4),
            generation: 3,
            tools: false,
            under: Changes { cache: Some(rules), ..Changes::default() },
            prompt_tokens: Tokens(55),
            prompt: Hash::of(b"cache"),
            prompt_len: 5,
            tail: false,
            admitted: Vec::new(),
            evicted: Vec::new(),
            reasons: None,
            stubs: Vec::new(),
            life: CacheLife::Short,
        }),
        What::LlmReturned(LlmReturned {
            op: Op(3),
            attempt: 1,
            parts: vec![ReplyPart::Text { content: text("As order ord_222222 says.") }],
            stop: StopReason::Stop,
            usage: None,
            cost: MicroDollars(7),
            model: "smol".into(),
            raw: None,
            took_ms: 12,
            used: vec![PageId(2), PageId(5)],
        }),
        What::Planned(Planned {
            op: Op(16),
            step: Step(5),
            generation: 3,
            tools: true,
            under: Changes {
                cache: Some(CacheRules { long_ttl_ms: Some(3_600_000), ..rules }),
                ..Changes::default()
            },
            prompt_tokens: Tokens(58),
            prompt: Hash::of(b"life"),
            prompt_len: 4,
            tail: false,
            admitted: Vec::new(),
            evicted: Vec::new(),
            reasons: None,
            stubs: Vec::new(),
            life: CacheLife::Long,
        }),
        What::LlmReturned(LlmReturned {
            op: Op(16),
            attempt: 1,
            parts: Vec::new(),
            stop: StopReason::Other,
            usage: Some(Usage {
                input: Tokens(58),
                cached: Tokens(40),
                cache_write: Tokens(15),
                cache_write_long: Tokens(15),
                output: Tokens(2),
                reasoning: Tokens(0),
            }),
            cost: MicroDollars(9),
            model: "smol".into(),
            raw: None,
            took_ms: 11,
            used: Vec::new(),
        }),
    ]
}

fn chain() -> (Tenant, Pid, Vec<Record>) {
    let (tenant, pid) = (Tenant::local(), Pid::from_alias("agent-123"));
    let mut prev = Hash::ZERO;
    let records = (0..)
        .zip(every_kind())
        .map(|(seq, what)| {
            let event = Event::new(Timestamp::from_millis(1_700_000_000_000 + seq), what);
            let epoch = Epoch(1 + u64::from(seq > 7));
            let record =
                Record::seal(&tenant, pid, Seq(seq), epoch, prev, &event).expect("encodable");
            prev = record.hash;
            record
        })
        .collect();
    (tenant, pid, records)
}

#[test]
fn event_bytes_and_hashes_never_change() {
    let (_, _, records) = chain();
    let lines: String = records
        .iter()
        .map(|r| {
            let body = String::from_utf8_lossy(&r.body);
            format!("{} {} {} {} {} {body}\n", r.seq, r.epoch, r.kind, r.version, r.hash)
        })
        .collect();
    assert!(lines == GOLDEN, "the bytes of events changed; they are now:\n{lines}");
}

#[test]
fn the_golden_file_holds_every_kind() {
    let mut kinds: Vec<u16> = every_kind().iter().map(|what| what.kind().code()).collect();
    let mut known: Vec<u16> = Kind::ALL.iter().map(|kind| kind.code()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    known.sort_unstable();
    assert_eq!(kinds, known);
}

#[test]
fn golden_events_decode_to_what_they_were() {
    let (tenant, pid, records) = chain();
    let mut prev = Hash::ZERO;
    for (record, what) in records.iter().zip(every_kind()) {
        record.verify(&tenant, pid, prev).expect("chained");
        assert_eq!(record.decode().expect("readable").what, what);
        prev = record.hash;
    }
}

#[test]
fn a_change_of_any_field_breaks_the_chain() {
    let (tenant, pid, records) = chain();
    let record = &records[2];
    let prev = records[1].hash;
    let mut body = record.clone();
    body.body[3] ^= 1;
    let changed = [
        Record { seq: Seq(3), ..record.clone() },
        Record { epoch: Epoch(2), ..record.clone() },
        Record { kind: record.kind + 1, ..record.clone() },
        Record { version: 2, ..record.clone() },
        body,
    ];
    assert!(record.verify(&tenant, pid, prev).is_ok());
    for bad in changed {
        assert!(bad.verify(&tenant, pid, prev).is_err(), "{bad:?}");
    }
    assert!(record.verify(&tenant, pid, Hash::ZERO).is_err());
    assert!(record.verify(&tenant, Pid::from_alias("other"), prev).is_err());
    assert!(record.verify(&"locale".parse().expect("tenant"), pid, prev).is_err());
}

#[test]
fn a_newer_version_or_an_unknown_kind_is_an_error_that_names_it() {
    let (_, _, records) = chain();
    let newer = Record { version: 2, ..records[0].clone() };
    assert!(matches!(newer.decode(), Err(DecodeError::NewerVersion { version: 2, .. })));
    let message = newer.decode().expect_err("newer").to_string();
    assert!(message.contains("spawned of version 2") && message.contains("upgrade"), "{message}");
    let unknown = Record { kind: 999, ..records[0].clone() };
    let message = unknown.decode().expect_err("unknown").to_string();
    assert!(message.contains("kind 999"), "{message}");
}

#[test]
fn a_body_with_an_unknown_field_is_damaged_and_not_half_understood() {
    let (_, _, records) = chain();
    let mut record = records[6].clone();
    record.body = br#"{"at":1,"extra":2}"#.to_vec();
    assert!(matches!(record.decode(), Err(DecodeError::Body { .. })));
    record.body = b"{}".to_vec();
    assert!(matches!(record.decode(), Err(DecodeError::Body { .. })), "an event has a time");
}
