//! The bytes that leave.

use aosk_abi::{CacheRules, Hash, Role, Sampling, Tokens, ToolCalls, ToolSpec};
use aosk_llm::Scripted;
use aosk_ports::{Device, DeviceInfo, Message, Part, Prices, Request};
use proptest::prelude::*;

use crate::support::{calculator, call, device_with, question, request, result, said, text};

fn plain() -> Scripted {
    let info = DeviceInfo {
        name: "test".to_owned(),
        model: "m".to_owned(),
        window: Tokens(1000),
        max_output: Tokens(100),
        prices: Prices::default(),
        slots: 1,
        cache: CacheRules::default(),
    };
    Scripted::in_order(info, [])
}

fn body(request: &Request) -> String {
    let rendered = plain().render(request).expect("a form");
    String::from_utf8(rendered.body.to_vec()).expect("UTF-8")
}

#[test]
fn a_whole_conversation_looks_like_this() {
    let request = Request {
        tail: Some("now".to_owned()),
        sampling: Sampling { temperature: Some(0.5), seed: Some(7), max_output_tokens: None },
        ..question()
    };
    let mut request = request;
    request.messages.extend([
        said([
            Part::Text("Let me see.".into()),
            call("a", "calculator", r#"{"expression":"17 * 23"}"#),
        ]),
        result("a", "calculator", "391"),
        said([Part::Text("391".into())]),
        Message {
            role: Role::User,
            parts: [Part::Text("a".into()), Part::Text("b".into())].into(),
        },
        said([call("b", "calculator", "{}")]),
    ]);
    assert_eq!(
        body(&request),
        concat!(
            r#"{"tools":[{"type":"function","function":{"name":"calculator","description":"Evaluate an arithmetic expression.","parameters":{"properties":{"expression":{"type":"string"}},"required":["expression"],"type":"object"}}}],"#,
            r#""messages":[{"role":"system","content":"Be short."},{"role":"user","content":"What is 17 * 23?"},"#,
            r#"{"role":"assistant","content":"Let me see.","tool_calls":[{"id":"a","type":"function","function":{"name":"calculator","arguments":"{\"expression\":\"17 * 23\"}"}}]},"#,
            r#"{"role":"tool","tool_call_id":"a","content":"391"},{"role":"assistant","content":"391"},"#,
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"b","type":"function","function":{"name":"calculator","arguments":"{}"}}]},"#,
            r#"{"role":"user","content":"now"}],"#,
            r#""model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":100,"temperature":0.5,"seed":7}"#,
        )
    );
}

#[test]
fn a_slot_stands_behind_the_prompt_and_does_not_change_it() {
    let free = plain().render(&question()).expect("a form");
    let bound = Request { slot: Some(3), ..question() };
    assert_eq!(plain().render(&bound).expect("a form").prompt, free.prompt);
    assert_eq!(
        body(&bound),
        body(&question()).trim_end_matches('}').to_owned() + r#","id_slot":3}"#
    );
}

#[tokio::test]
async fn endpoints_get_what_their_table_says_and_nothing_else() {
    let rendered = |device: &dyn Device, request: &Request| {
        let rendered = device.render(request).expect("a form");
        String::from_utf8(rendered.body.to_vec()).expect("UTF-8")
    };
    let openai = device_with("gpt-5-mini", "http://127.0.0.1:9/v1", Default::default()).await;
    let body = rendered(&openai, &question());
    assert!(body.contains(r#""model":"gpt-5-mini""#));
    assert!(body.contains(r#""max_completion_tokens":100"#) && !body.contains("\"max_tokens\""));
    assert!(body.ends_with(r#","prompt_cache_key":"conversation"}"#), "{body}");
    let warm = Sampling { temperature: Some(0.2), ..Sampling::default() };
    let error =
        openai.render(&Request { sampling: warm, ..question() }).expect_err("no temperature");
    assert!(error.to_string().contains("temperature = 0.2"), "{error}");

    let plain = plain();
    let masked = rendered(&plain, &Request { may_call: false, ..question() });
    let open = rendered(&plain, &question());
    assert!(masked.ends_with(r#""max_tokens":100,"tool_choice":"none"}"#), "{masked}");
    assert!(!open.contains("tool_choice") && !open.contains("cache"), "{open}");
    let free = Request { tools: [].into(), may_call: false, ..question() };
    assert!(!rendered(&plain, &free).contains("tool"));
}

#[test]
fn what_a_model_got_wrong_does_not_poison_the_conversation() {
    let sent = |name: &str, arguments: &str| {
        let body = body(&request(vec![said([call("a", name, arguments)])]));
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let function = &value["messages"][0]["tool_calls"][0]["function"];
        let text = |key: &str| function[key].as_str().expect("text").to_owned();
        (text("name"), text("arguments"))
    };
    assert_eq!(sent("f", r#"{ "x": 1 }"#).1, r#"{ "x": 1 }"#);
    assert_eq!(sent("f", "").1, "{}");
    assert_eq!(sent("f", "[1]").1, r#"{"malformed":"[1]"}"#);
    assert_eq!(sent("f", r#"{"x":"cut"#).1, r#"{"malformed":"{\"x\":\"cut"}"#);
    assert_eq!(sent("", "{}").0, "_");
    assert_eq!(sent("read file.é", "{}").0, "read_file__");
    assert_eq!(sent(&"x".repeat(64), "{}").0, "x".repeat(64));
    assert_eq!(sent(&"x".repeat(65), "{}").0, "x".repeat(64));
}

#[test]
fn what_has_no_form_is_refused() {
    let wrong = [
        Message { role: Role::User, parts: [call("a", "f", "{}")].into() },
        Message { role: Role::Tool, parts: [Part::Text("x".into())].into() },
        Message { role: Role::Assistant, parts: result("a", "f", "x").parts },
        Message { role: Role::System, parts: result("a", "f", "x").parts },
    ];
    for message in wrong {
        for tool_calls in [ToolCalls::Native, ToolCalls::Constrained] {
            let request = Request { tool_calls, messages: vec![message.clone()], ..question() };
            let error = plain().render(&request).expect_err("no form");
            assert!(error.to_string().contains("message cannot hold"), "{error}");
        }
    }
}

fn any_message() -> impl Strategy<Value = Message> {
    let word = || "[a-z\\[\\]{}\"\\\\,é世 \n]{0,12}";
    let part = prop_oneof![
        word().prop_map(|text| Part::Text(text.into())),
        (word(), word(), word()).prop_map(|(id, name, arguments)| call(&id, &name, &arguments)),
        word().prop_map(|text| Part::Opaque {
            format: "openai/reasoning_content".into(),
            bytes: text.into_bytes().into(),
        }),
    ];
    prop_oneof![
        word().prop_map(|words| text(Role::User, &words)),
        word().prop_map(|words| text(Role::System, &words)),
        prop::collection::vec(part, 0..4).prop_map(said),
        (word(), word(), word()).prop_map(|(id, name, words)| result(&id, &name, &words)),
    ]
}

proptest! {
    /// The invariant that keeps provider caches warm.
    #[test]
    fn a_longer_conversation_extends_the_bytes_of_a_shorter_one(
        messages in prop::collection::vec(any_message(), 0..10),
        cut in any::<prop::sample::Index>(),
        tails in any::<(Option<u8>, Option<u8>)>(),
        calls in any::<(bool, bool)>(),
        constrained in any::<bool>(),
        with_tools in any::<bool>(),
    ) {
        let tools: Vec<ToolSpec> = if with_tools { vec![calculator()] } else { Vec::new() };
        let of = |messages: &[Message], tail: Option<u8>, may_call| {
            let request = Request {
                tail: tail.map(|tail| tail.to_string()),
                may_call,
                tools: tools.clone().into(),
                tool_calls: if constrained { ToolCalls::Constrained } else { ToolCalls::Native },
                ..request(messages.to_vec())
            };
            plain().render(&request).expect("a form")
        };
        // A conversation begins with its system message or never gets one in front.
        let shorter = &messages[..cut.index(messages.len() + 1).max(1).min(messages.len())];
        let before = of(shorter, tails.0, calls.0);
        let after = of(&messages, tails.1, calls.1);
        prop_assert!(after.prompt_bytes.starts_with(&before.prompt_bytes));
        for rendered in [&before, &after] {
            prop_assert!(rendered.body.starts_with(&rendered.prompt_bytes));
            prop_assert_eq!(rendered.prompt_len, rendered.prompt_bytes.len() as u64);
            prop_assert_eq!(rendered.prompt, Hash::of(&rendered.prompt_bytes));
            prop_assert_eq!(rendered.render.as_str(), "1/openai");
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&rendered.body).is_ok());
        }
        // The same request gives the same bytes.
        prop_assert_eq!(&of(&messages, tails.1, calls.1).body, &after.body);
    }
}
