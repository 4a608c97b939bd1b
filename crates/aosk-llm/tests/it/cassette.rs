//! Recording and playing.

use std::path::Path;

use aosk_abi::{CacheRules, Code, FailureKind, Role, StopReason, Tokens, Usage};
use aosk_llm::{Error, Models, Options, Recorder, Remote, Scripted};
use aosk_ports::{CallError, Delta, Device, DeviceInfo, Part, Prices, Reply, Request};

use crate::server::{Server, answer, events, json};
use crate::support::{CANARY, Heard, ask, call, device, question, request, said, text};

const CALL: &str = r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm","content":"x","tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#;
const END: &str = r#"{"choices":[{"index":0,"delta":{"content":"done"},"finish_reason":"stop"}]}"#;

async fn record(
    device: Remote,
    path: &Path,
    requests: &[&Request],
) -> Vec<Result<Reply, CallError>> {
    let recorder = Recorder::create(device, path).expect("a new file");
    let mut outcomes = Vec::new();
    for request in requests {
        let rendered = recorder.render(request).expect("a form");
        outcomes.push(recorder.call(&rendered, request, &()).await);
    }
    outcomes
}

#[tokio::test]
async fn what_was_recorded_is_played_by_prompt_each_reply_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.ndjson");
    let server = Server::start(vec![
        answer("429 Too Many Requests", &[("retry-after", "3")], ""),
        events(&[CALL]),
        events(&[END]),
    ])
    .await;
    let first = question();
    let mut second = question();
    second.messages.push(said([call("a", "f", "{}")]));
    let recorded = record(device(&server.base()).await, &path, &[&first, &first, &second]).await;
    let text = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(text.lines().count(), 4);
    assert!(!text.contains(CANARY));

    let played = Scripted::open(&path).expect("a cassette");
    assert_eq!(played.info().name, "scripted:gpt-4o-mini");
    assert_eq!(played.info().window, Tokens(128_000));
    // In another order than they were asked.
    let end = ask(&played, &second).await;
    let throttled = ask(&played, &first).await;
    let called = ask(&played, &first).await;
    let key = |outcome: &Result<Reply, CallError>| match outcome {
        Ok(reply) => Ok((reply.parts.clone(), reply.stop, reply.usage, reply.model.clone())),
        Err(error) => Err(error.clone()),
    };
    assert_eq!([&throttled, &called, &end].map(key), [0, 1, 2].map(|n| key(&recorded[n])));
    assert!(end.is_ok_and(|reply| reply.raw.is_none()));
    assert_eq!(called.expect("a reply").parts.len(), 3);

    let error = ask(&played, &first).await.expect_err("both were played");
    assert_eq!((error.kind, error.code), (FailureKind::Fatal, Code::LlmCassette));
    assert_eq!(error.usage, Some(Usage::default()), "nobody was asked");
    let words = ["scripted:gpt-4o-mini", "What is 17 * 23?", "0 replies are left"];
    assert!(words.iter().all(|word| error.message.contains(word)), "{error}");
    // The file is not written over.
    let again = Recorder::create(device(&server.base()).await, &path).map(|_| ());
    assert!(matches!(again, Err(Error::Cassette { .. })));
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), text);
}

#[tokio::test]
async fn a_cassette_renders_in_the_dialect_that_it_was_recorded_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.ndjson");
    let body = r#"{"type":"message","model":"m","content":[{"type":"thinking","thinking":"","signature":"S"},{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":6}}"#;
    let server = Server::start(vec![json("200 OK", body)]).await;
    let env = {
        let base = server.base();
        move |name: &str| (name == "ANTHROPIC_BASE_URL").then(|| base.clone())
    };
    let (spec, endpoint) = Models::embedded().select("claude-opus-5-5", &env).expect("a model");
    let device = Remote::connect(spec, endpoint, Options::default()).await.expect("a device");
    let rendered = device.render(&question()).expect("a form");
    let recorded = record(device, &path, &[&question()]).await.remove(0).expect("a reply");
    let played = Scripted::open(&path).expect("a cassette");
    assert_eq!(played.render(&question()).expect("a form").prompt, rendered.prompt);
    let reply = ask(&played, &question()).await.expect("a reply");
    assert_eq!((reply.parts, reply.usage), (recorded.parts, recorded.usage));
}

#[tokio::test]
async fn a_cassette_keeps_the_thoughts_that_its_endpoint_took_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let thought = br#"{"type":"thinking","thinking":"hm","signature":""}"#;
    let thought =
        Part::Opaque { format: "anthropic/thinking".into(), bytes: thought.as_slice().into() };
    let mut request = question();
    request.messages.push(said([thought, Part::Text("Well".into())]));
    let served = json("200 OK", r#"{"data":[{"id":"m"}]}"#);
    let server = Server::start(vec![served, answer("404 Not Found", &[], "")]).await;
    let base = server.base();
    let env = |name: &str| (name == "ANTHROPIC_BASE_URL").then(|| base.clone());
    let mut prompts = Vec::new();
    for model in ["local-anthropic", "claude-haiku-4-5"] {
        let (spec, endpoint) = Models::embedded().select(model, &env).expect("a model");
        let device = Remote::connect(spec, endpoint, Options::default()).await.expect("a device");
        let path = folder.path().join(model);
        let prompt = device.render(&request).expect("a form").prompt;
        Recorder::create(device, &path).expect("a new file");
        let played = Scripted::open(&path).expect("a cassette");
        assert_eq!(played.render(&request).expect("a form").prompt, prompt, "{model}");
        prompts.push(prompt);
    }
    assert_ne!(prompts[0], prompts[1]);
}

#[tokio::test]
async fn damaged_cassettes_are_refused_with_the_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.ndjson");
    let server = Server::start(vec![events(&[END])]).await;
    let device = device(&server.base()).await;
    record(device, &path, &[&question()]).await.remove(0).expect("a reply");
    let whole = std::fs::read_to_string(&path).expect("a file");
    let refused = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let error = Scripted::open(&path).map(|_| ()).expect_err("refused");
        assert_eq!(error.code(), Code::LlmCassette);
        error.to_string()
    };
    assert!(refused("").contains("empty"));
    assert!(
        refused(&whole.replace("\"cassette\":1", "\"cassette\":2"))
            .contains(":1: it has version 2")
    );
    assert!(refused(&whole[..whole.len() - 9]).contains("run.ndjson:2: "));
    assert!(refused(&whole.replace("\"stop\":\"stop\"", "\"stop\":\"halt\"")).contains(":2: "));
    assert!(refused(&whole.replace("\"reply\"", "\"replay\"")).contains(":2: "));
    assert!(refused(&whole.replace("\"slots\":64", "\"slots\":0")).contains(":1: `slots` is 0"));
    std::fs::remove_file(&path).expect("removed");
    assert!(Scripted::open(&path).is_err());
}

#[tokio::test]
async fn a_list_is_played_in_its_order() {
    let info = DeviceInfo {
        name: "test".to_owned(),
        model: "m".to_owned(),
        window: Tokens(1000),
        max_output: Tokens(100),
        prices: Prices::default(),
        slots: 1,
        cache: CacheRules::default(),
    };
    let reply = Reply {
        parts: vec![Part::Text("né".into()), call("a", "f", "{}")],
        stop: StopReason::ToolCalls,
        usage: None,
        model: "m".to_owned(),
        raw: None,
    };
    let device = Scripted::in_order(info, [Ok(reply)]);
    assert_eq!(device.info().name, "scripted:test");
    let request = request(vec![text(Role::User, "?")]);
    let rendered = device.render(&request).expect("a form");
    let heard = Heard::default();
    let reply = device.call(&rendered, &request, &heard).await.expect("a reply");
    assert_eq!(reply.parts.len(), 2);
    assert_eq!(
        heard.0.into_inner().expect("whole"),
        [Delta::FirstByte, Delta::Text { chars: 2 }, Delta::ToolCall { name: "f".to_owned() }]
    );
    let error = device.call(&rendered, &request, &()).await.expect_err("played");
    assert_eq!(error.code, Code::LlmCassette);
}
