//! The simulated model: odd, faulty, and the same each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{
    CacheLife, Code, MicroDollars, Role, Sampling, StopReason, Tokens, ToolCalls, ToolSpec,
};
use aosk_ports::{CallError, Device as _, Message, Part, Reply, Request};
use aosk_sim::{Chance, FaultPlan, Ledger, ModelFaults, Power, SimModel, SimTool, ToolFaults};
use tokio::time::Instant;

use crate::in_virtual_time;

fn message(role: Role, parts: impl Into<Arc<[Part]>>) -> Message {
    Message { role, parts: parts.into() }
}

fn tools() -> Arc<[ToolSpec]> {
    use aosk_ports::Tool as _;
    SimTool::all(0, &Ledger::new(), &Power::on(), &ToolFaults::calm())
        .iter()
        .map(|tool| tool.spec().clone())
        .collect()
}

fn request(messages: Vec<Message>, key: &str) -> Request {
    Request {
        messages,
        tail: None,
        tools: tools(),
        may_call: true,
        tool_calls: ToolCalls::Native,
        max_output: Tokens(256),
        sampling: Sampling::default(),
        cache_key: key.to_owned(),
        slot: None,
        settled: 0,
        lasting: 0,
        life: CacheLife::Short,
    }
}

fn task(key: &str) -> Request {
    request(vec![message(Role::User, [Part::Text(format!("the task of {key}").into())])], key)
}

async fn call(model: &SimModel, request: &Request) -> Result<Reply, CallError> {
    let rendered = model.render(request).expect("renders");
    model.call(&rendered, request, &()).await
}

/// Holds a conversation to its end; what happened, counted by name.
async fn converse(model: &SimModel, key: &str, seen: &mut BTreeMap<String, u32>) {
    let mut messages = task(key).messages;
    for _ in 0..60 {
        let reply = match call(model, &request(messages.clone(), key)).await {
            Ok(reply) => reply,
            Err(error) => {
                let wait = if error.retry_after.is_some() { " wait" } else { "" };
                *seen.entry(format!("{}{wait}", error.code)).or_default() += 1;
                continue;
            }
        };
        *seen.entry(format!("{:?}", reply.stop)).or_default() += 1;
        let usage = match reply.usage {
            None => "no usage",
            Some(usage) if usage.input > Tokens(1 << 40) => "huge usage",
            Some(usage) if usage.cached > Tokens::ZERO => "cached",
            Some(_) => "fresh",
        };
        *seen.entry(usage.to_owned()).or_default() += 1;
        let results: Vec<_> = reply
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::ToolCall { id, name, arguments } => {
                    let parsed = serde_json::from_str::<serde_json::Value>(arguments);
                    let known = tools().iter().any(|tool| tool.name == name.as_ref());
                    let kind = match (parsed.is_ok_and(|value| value.is_object()), known) {
                        (true, true) => "good call",
                        (false, _) => "malformed call",
                        (true, false) => "unknown tool",
                    };
                    *seen.entry(kind.to_owned()).or_default() += 1;
                    Some(Part::ToolResult {
                        call: id.clone(),
                        name: name.clone(),
                        text: "ok".into(),
                        failed: false,
                    })
                }
                _ => None,
            })
            .collect();
        if results.len() > 1 {
            *seen.entry("several calls".to_owned()).or_default() += 1;
        }
        if reply.stop == StopReason::Stop {
            return;
        }
        messages.push(message(Role::Assistant, reply.parts));
        messages.push(message(Role::Tool, results));
    }
    panic!("the conversation {key} does not end: {seen:?}");
}

fn history(seed: u64, faults: &ModelFaults, conversations: u64) -> BTreeMap<String, u32> {
    in_virtual_time(async {
        let model = SimModel::new(seed, Tokens(100_000), 4, faults.clone());
        let mut seen = BTreeMap::new();
        for n in 0..conversations {
            converse(&model, &n.to_string(), &mut seen).await;
        }
        seen
    })
}

#[test]
fn every_conversation_ends_and_meets_every_trouble() {
    // A call that never comes back would be waited for for ever.
    let rough = ModelFaults { stuck: Chance::NEVER, ..FaultPlan::rough().model };
    let seen = history(1, &rough, 300);
    for kind in [
        "AOSK-L005",
        "AOSK-L006",
        "AOSK-L006 wait",
        "AOSK-L004",
        "AOSK-L007",
        "AOSK-L008",
        "Length",
        "Other",
        "Refusal",
        "Stop",
        "ToolCalls",
        "cached",
        "fresh",
        "good call",
        "huge usage",
        "malformed call",
        "no usage",
        "several calls",
        "unknown tool",
    ] {
        assert!(seen.contains_key(kind), "never met {kind:?}: {seen:?}");
    }
    assert_eq!(history(1, &rough, 300), seen, "the seed repeats it");
    let calm = history(1, &FaultPlan::calm().model, 300);
    let kinds: Vec<_> = calm.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["Stop", "ToolCalls", "cached", "fresh", "good call", "several calls"]);
}

#[test]
fn a_hanging_call_ends_with_its_time_and_holds_no_slot_afterwards() {
    in_virtual_time(async {
        let faults = ModelFaults { hang: Chance::ALWAYS, ..ModelFaults::calm() };
        let model = SimModel::new(1, Tokens(10_000), 1, faults);
        let (request, start) = (task("a"), Instant::now());
        let error = call(&model, &request).await.expect_err("hangs");
        assert_eq!(error.code, Code::LlmTransient);
        assert_eq!(start.elapsed(), model.render(&request).expect("renders").timeout);
        let short = tokio::time::timeout(Duration::from_secs(1), call(&model, &request)).await;
        assert!(short.is_err());
        drop(call(&model, &request).await);
        assert_eq!((model.conversation("a").calls, model.peak()), (3, 1));
    });
}

#[test]
fn a_prompt_past_the_window_is_refused_each_time_and_one_within_it_once() {
    in_virtual_time(async {
        let faults = ModelFaults { context_length: Chance::ALWAYS, ..ModelFaults::calm() };
        let request = task("a");
        let least = SimModel::count(&request) + request.max_output;
        let code = async |model: &SimModel| call(model, &request).await.err().map(|e| e.code);

        let fits = SimModel::new(1, least, 1, faults.clone());
        assert_eq!(code(&fits).await, Some(Code::LlmContextLength));
        assert_eq!(code(&fits).await, None);
        let short = SimModel::new(1, Tokens(least.0 - 1), 1, ModelFaults::calm());
        assert_eq!(code(&short).await, Some(Code::LlmContextLength));
        assert_eq!(code(&short).await, Some(Code::LlmContextLength));
        let overflows = |model: &SimModel| model.conversation("a").overflows;
        assert_eq!((overflows(&fits), overflows(&short)), (0, 2));
    });
}

#[test]
fn a_reply_that_breaks_off_is_billed_whatever_the_failure_is_called() {
    in_virtual_time(async {
        let faults = ModelFaults { disconnect: Chance::ALWAYS, ..ModelFaults::calm() };
        let model = SimModel::new(1, Tokens(10_000), 1, faults);
        let mut codes = BTreeMap::new();
        for n in 0..100 {
            let key = n.to_string();
            let error = call(&model, &task(&key)).await.expect_err("breaks off");
            assert_eq!(error.usage, None, "who breaks off says nothing of what was used");
            assert!(model.conversation(&key).billed > MicroDollars::ZERO);
            *codes.entry(error.code.as_str()).or_insert(0) += 1;
        }
        let names: Vec<_> = codes.keys().copied().collect();
        assert_eq!(names, ["AOSK-L004", "AOSK-L006", "AOSK-L007"], "{codes:?}");
    });
}
