//! The bytes that leave.

use aosk_abi::{CacheLife, CacheRules, Hash, Role, Sampling, Tokens, ToolResult, ToolSpec};
use aosk_llm::Remote;
use aosk_ports::{Device, Message, Part, Request};
use proptest::prelude::*;

use super::{device, device_of_its_own, device_with, opaque};
use crate::support::{calculator, call, failed_result, question, request, result, said, text};

const MARK: &str = r#","cache_control":{"type":"ephemeral"}"#;

const LONG_MARK: &str = r#","cache_control":{"type":"ephemeral","ttl":"1h"}"#;

const NOWHERE: &str = "http://127.0.0.1:9";

async fn plain() -> Remote {
    device(NOWHERE).await
}

fn body(device: &Remote, request: &Request) -> String {
    let rendered = device.render(request).expect("a form");
    String::from_utf8(rendered.body.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn a_whole_conversation_looks_like_this() {
    let mut request = Request {
        tail: Some("now".to_owned()),
        sampling: Sampling { temperature: Some(0.5), ..Sampling::default() },
        ..question()
    };
    let failed = ToolResult::failed("no_number", "x is no number", "give one").to_text(999);
    request.messages.extend([
        said([
            opaque("anthropic/thinking", r#"{"type":"thinking","thinking":"hm","signature":"S"}"#),
            opaque("openai/reasoning_content", "not from here"),
            Part::Text("Let me see.".into()),
            call("a", "calculator", r#"{"expression": "17 * 23"}"#),
            call("b", "calculator", "{}"),
        ]),
        result("a", "calculator", "Error (no number of mine): 391"),
        failed_result("b", "calculator", &failed),
        text(Role::User, "Hurry."),
    ]);
    assert_eq!(
        body(&plain().await, &request),
        concat!(
            r#"{"tools":[{"name":"calculator","description":"Evaluate an arithmetic expression.","input_schema":{"properties":{"expression":{"type":"string"}},"required":["expression"],"type":"object"},"cache_control":{"type":"ephemeral"}}],"#,
            r#""system":[{"type":"text","text":"Be short.","cache_control":{"type":"ephemeral"}}],"#,
            r#""messages":[{"role":"user","content":[{"type":"text","text":"What is 17 * 23?","cache_control":{"type":"ephemeral"}}]},"#,
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"S"},{"type":"text","text":"Let me see."},"#,
            r#"{"type":"tool_use","id":"a","name":"calculator","input":{"expression": "17 * 23"}},{"type":"tool_use","id":"b","name":"calculator","input":{}}]},"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"Error (no number of mine): 391"},"#,
            r#"{"type":"tool_result","tool_use_id":"b","content":"Error (no_number): x is no number. Hint: give one.","is_error":true},"#,
            r#"{"type":"text","text":"Hurry.","cache_control":{"type":"ephemeral"}},{"type":"text","text":"now"}]}],"#,
            r#""model":"claude-haiku-4-5","stream":true,"max_tokens":100,"temperature":0.5}"#,
        )
    );
}

#[tokio::test]
async fn models_get_what_their_table_says_and_nothing_else() {
    let plain = plain().await;
    let open = body(&plain, &question());
    assert!(open.ends_with(r#""stream":true,"max_tokens":100}"#), "{open}");
    let masked = body(&plain, &Request { may_call: false, ..question() });
    assert!(masked.ends_with(r#""max_tokens":100,"tool_choice":{"type":"none"}}"#), "{masked}");
    assert!(masked.contains(r#"{"tools":[{"name":"calculator""#), "masked, not removed");
    let free = Request { tools: [].into(), may_call: false, ..question() };
    assert!(!body(&plain, &free).contains("tool"));

    let bound = device_with("claude-opus-5-5", NOWHERE, &[]).await;
    let sent = body(&bound, &question());
    assert!(
        sent.ends_with(concat!(
            r#""max_tokens":100,"thinking":{"type":"adaptive","#,
            r#""block_binding":{"prefix_mismatch_behavior":"drop_block"}}}"#
        )),
        "{sent}"
    );
}

#[tokio::test]
async fn what_a_model_got_wrong_does_not_poison_the_conversation() {
    let plain = plain().await;
    let sent = |id: &str, name: &str, arguments: &str| {
        let body = body(&plain, &request(vec![said([call(id, name, arguments)])]));
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let block = value["messages"][0]["content"][0].clone();
        (block["id"].to_string(), block["name"].to_string(), block["input"].to_string())
    };
    assert_eq!(sent("call.1 é", "", "").0, r#""call_1__""#);
    assert_eq!(sent("", "f", "").0, r#""_""#);
    assert_eq!(sent("a", "read file.é", "").1, r#""read_file__""#);
    assert_eq!(sent("a", &"x".repeat(65), "").1, format!("{:?}", "x".repeat(64)));
    assert_eq!(sent("a", "f", "").2, "{}");
    assert_eq!(sent("a", "f", "[1]").2, r#"{"malformed":"[1]"}"#);
    assert_eq!(sent("a", "f", r#"{"x":"cut"#).2, r#"{"malformed":"{\"x\":\"cut"}"#);
    // The API refuses empty text, and nothing is said in it.
    let blank = said([Part::Text(" \n".into()), call("a", "f", "{}")]);
    assert!(!body(&plain, &request(vec![blank])).contains(r#""type":"text""#));
}

#[tokio::test]
async fn what_has_no_form_is_refused() {
    let plain = plain().await;
    let wrong = [
        Message { role: Role::User, parts: [call("a", "f", "{}")].into() },
        Message { role: Role::Tool, parts: [Part::Text("x".into())].into() },
        Message { role: Role::Assistant, parts: result("a", "f", "x").parts },
        Message { role: Role::System, parts: result("a", "f", "x").parts },
        said([opaque("anthropic/thinking", "[1]")]),
        said([opaque("anthropic/thinking", "{} ")]),
    ];
    for message in wrong {
        let error = plain.render(&request(vec![message])).expect_err("no form");
        assert!(
            error.to_string().contains("cannot hold") || error.to_string().contains("no object"),
            "{error}"
        );
    }
    let late = request(vec![text(Role::User, "a"), text(Role::System, "b")]);
    let error = plain.render(&late).expect_err("no form");
    assert!(error.to_string().contains("can only be the first"), "{error}");
}

/// The blocks that bear a mark, as their place in the body says it.
fn marked(body: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let mut found = Vec::new();
    let mut look = |place: String, blocks: &serde_json::Value| {
        for (index, block) in blocks.as_array().into_iter().flatten().enumerate() {
            if block.get("cache_control").is_some() {
                found.push(format!("{place}.{index}"));
            }
        }
    };
    look("tools".to_owned(), &value["tools"]);
    look("system".to_owned(), &value["system"]);
    for (index, message) in value["messages"].as_array().into_iter().flatten().enumerate() {
        look(format!("messages.{index}"), &message["content"]);
    }
    found
}

#[tokio::test]
async fn each_call_marks_where_the_one_before_it_ended() {
    let plain = plain().await;
    let mut request = Request { tail: Some("now".to_owned()), ..question() };
    let marks = |request: &Request| marked(&body(&plain, request));
    assert_eq!(marks(&request), ["tools.0", "system.0", "messages.0.0"]);
    // What is told of the endpoint says that nothing else is kept.
    let keeps = CacheRules {
        marked: true,
        minimum: Tokens(4_096),
        ttl_ms: Some(300_000),
        ..CacheRules::default()
    };
    assert_eq!(plain.info().cache, keeps);
    // A turn of 12 parallel calls: more blocks than a provider looks back.
    let ids: Vec<String> = (0..12).map(|n| format!("c{n}")).collect();
    request.messages.push(said(ids.iter().map(|id| call(id, "f", "{}")).collect::<Vec<_>>()));
    request.messages.extend(ids.iter().map(|id| result(id, "f", "x")));
    assert_eq!(marks(&request), ["tools.0", "system.0", "messages.0.0", "messages.2.11"]);
    request.messages.extend([said([call("d", "f", "{}")]), result("d", "f", "x")]);
    request.messages.push(text(Role::User, "Hurry."));
    assert_eq!(marks(&request), ["tools.0", "system.0", "messages.2.11", "messages.4.1"]);
    // What only its provider understands bears no mark, be it a thought or not.
    request.messages.push(said([
        Part::Text("Well".into()),
        opaque("anthropic/thinking", r#"{"type":"thinking","thinking":"","signature":"S"}"#),
        opaque("anthropic/server_thought", r#"{"type":"server_thought"}"#),
    ]));
    assert_eq!(marks(&request), ["tools.0", "system.0", "messages.4.1", "messages.5.0"]);
    assert_eq!(marks(&Request { messages: Vec::new(), ..request.clone() }), ["tools.0"]);
    let bare = Request { messages: Vec::new(), tools: [].into(), tail: None, ..request };
    assert_eq!(marks(&bare), [""; 0]);
}

#[tokio::test]
async fn what_had_settled_when_pages_last_left_is_marked_instead_of_the_tools() {
    let plain = plain().await;
    let mut request = question();
    for name in ["a", "b", "c"] {
        request.messages.extend([said([call(name, "f", "{}")]), result(name, "f", "x")]);
    }
    let marks = |settled| marked(&body(&plain, &Request { settled, ..request.clone() }));
    let always = ["system.0", "messages.4.0", "messages.6.0"];
    assert_eq!(marks(0), [&["tools.0"][..], &always].concat());
    assert_eq!(marks(4), ["system.0", "messages.2.0", "messages.4.0", "messages.6.0"]);
    // Where it ends with what is marked in any case there is nothing to add.
    assert_eq!(marks(6), always);
    assert_eq!(marks(8), always);
    // Nothing of the log had settled.
    assert_eq!(marks(1), marks(0));
    let of =
        |settled| plain.render(&Request { settled, ..request.clone() }).expect("a form").prompt;
    assert_eq!(of(4), of(0), "marks are no content");
}

#[tokio::test]
async fn an_hour_is_asked_for_with_every_mark_and_in_no_other_byte() {
    let plain = plain().await;
    let mut request = Request { tail: Some("now".to_owned()), ..question() };
    request.messages.extend([said([call("a", "f", "{}")]), result("a", "f", "x")]);
    let short = plain.render(&request).expect("a form");
    let long = Request { life: CacheLife::Long, ..request };
    let long = plain.render(&long).expect("a form");
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).expect("UTF-8");
    assert_eq!(text(&short.body).matches(MARK).count(), 4);
    assert_eq!(text(&long.body), text(&short.body).replace(MARK, LONG_MARK));
    assert_eq!(long.prompt, short.prompt);
    assert_eq!(long.prompt_bytes, short.prompt_bytes);
    assert_eq!(long.render, short.render);
}

#[tokio::test]
async fn only_the_providers_own_address_is_asked_for_an_hour() {
    let hour = Some(3_600_000);
    for (own, asked) in [
        ("http://127.0.0.1:9", hour),
        ("http://127.0.0.1:9/", hour),
        ("http://127.0.0.1:9/v1", hour),
    ] {
        assert_eq!(device_of_its_own(own).await.info().cache.long_ttl_ms, asked, "{own}");
    }
    // What the environment puts in its place may not know such a mark.
    assert_eq!(plain().await.info().cache.long_ttl_ms, None);
    let own = "https://api.anthropic.com/v1/";
    let device = device_with("claude-opus-5-5", own, &[("ANTHROPIC_API_KEY", "k")]).await;
    assert_eq!(device.info().cache.long_ttl_ms, hour);
    assert_eq!(device.info().cache.ttl_ms, Some(300_000));
}

#[tokio::test]
async fn what_an_hour_was_asked_for_is_marked_while_it_stands() {
    let plain = plain().await;
    let mut request = question();
    for name in ["a", "b", "c", "d"] {
        request.messages.extend([said([call(name, "f", "{}")]), result(name, "f", "x")]);
    }
    let marks =
        |settled, lasting| marked(&body(&plain, &Request { settled, lasting, ..request.clone() }));
    let (system, before, end) = ("system.0", "messages.6.0", "messages.8.0");
    assert_eq!(marks(0, 0), ["tools.0", system, before, end]);
    assert_eq!(marks(0, 4), [system, "messages.2.0", before, end], "in place of the tools");
    assert_eq!(marks(4, 6), ["messages.2.0", "messages.4.0", before, end], "and of the system");
    assert_eq!(marks(6, 4), ["messages.2.0", "messages.4.0", before, end]);
    assert_eq!(marks(4, 4), [system, "messages.2.0", before, end]);
    // Where it ends with what is marked in any case nothing gives way.
    assert_eq!(marks(0, 8), ["tools.0", system, before, end]);
    assert_eq!(marks(4, 8), [system, "messages.2.0", before, end]);
    assert_eq!(marks(4, 10), [system, "messages.2.0", before, end]);
}

fn any_message() -> impl Strategy<Value = Message> {
    let word = || "[a-z\\[\\]{}\"\\\\,é世 \n]{0,12}";
    let part = prop_oneof![
        word().prop_map(|text| Part::Text(text.into())),
        (word(), word(), word()).prop_map(|(id, name, arguments)| call(&id, &name, &arguments)),
        Just(opaque("anthropic/redacted_thinking", r#"{"type":"redacted_thinking","data":"x"}"#)),
        Just(opaque("openai/reasoning_content", "x")),
    ];
    prop_oneof![
        word().prop_map(|words| text(Role::User, &words)),
        prop::collection::vec(part, 0..4).prop_map(said),
        (word(), word(), word()).prop_map(|(id, name, words)| result(&id, &name, &words)),
    ]
}

proptest! {
    /// The invariant that keeps provider caches warm, although the marks move.
    #[test]
    fn a_longer_conversation_extends_the_bytes_of_a_shorter_one(
        messages in prop::collection::vec(any_message(), 0..10),
        cut in any::<prop::sample::Index>(),
        system in any::<bool>(),
        with_tools in any::<bool>(),
        tails in any::<(Option<u8>, Option<u8>)>(),
        calls in any::<(bool, bool)>(),
        told in any::<(prop::sample::Index, prop::sample::Index)>(),
        long in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let device = runtime.expect("a runtime").block_on(plain());
        let tools: Vec<ToolSpec> = if with_tools { vec![calculator()] } else { Vec::new() };
        let mut log = if system { vec![text(Role::System, "Be short.")] } else { Vec::new() };
        log.extend(messages);
        let of = |messages: &[Message], tail: Option<u8>, may_call| {
            let request = Request {
                tail: tail.map(|tail| format!("tail {tail}")),
                may_call,
                tools: tools.clone().into(),
                settled: told.0.index(messages.len() + 1),
                lasting: told.1.index(messages.len() + 1),
                life: if long { CacheLife::Long } else { CacheLife::Short },
                ..request(messages.to_vec())
            };
            device.render(&request).expect("a form")
        };
        let before = of(&log[..cut.index(log.len() + 1).max(usize::from(system))], tails.0, calls.0);
        let after = of(&log, tails.1, calls.1);
        prop_assert!(after.prompt_bytes.starts_with(&before.prompt_bytes));
        for (rendered, tail) in [(&before, tails.0), (&after, tails.1)] {
            prop_assert_eq!(rendered.prompt_len, rendered.prompt_bytes.len() as u64);
            prop_assert_eq!(rendered.prompt, Hash::of(&rendered.prompt_bytes));
            prop_assert_eq!(rendered.render.as_str(), "2/anthropic");
            let body = std::str::from_utf8(&rendered.body).expect("UTF-8");
            // All of them are for one life.
            let mark = if long { LONG_MARK } else { MARK };
            let bare = body.replace(mark, "");
            prop_assert!(bare.as_bytes().starts_with(&rendered.prompt_bytes));
            let marks = body.matches(mark).count();
            prop_assert!(marks <= 4 && marks == marked(body).len());
            // Nothing of the tail is in the prompt, and no mark behind it.
            if let Some(tail) = tail {
                let (_, behind) = body.rsplit_once(&format!("tail {tail}")).expect("a tail");
                prop_assert!(!behind.contains(mark));
                prop_assert!(!rendered.prompt_bytes.windows(5).any(|bytes| bytes == b"tail "));
            }
            // Neighbours of one role are one message, and no message is empty.
            let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let messages = value["messages"].as_array().expect("messages");
            prop_assert!(messages.windows(2).all(|pair| pair[0]["role"] != pair[1]["role"]));
            let filled = |message: &serde_json::Value| {
                message["content"].as_array().is_some_and(|content| !content.is_empty())
            };
            prop_assert!(messages.iter().all(filled));
        }
        // The same request gives the same bytes.
        prop_assert_eq!(&of(&log, tails.1, calls.1).body, &after.body);
    }
}
