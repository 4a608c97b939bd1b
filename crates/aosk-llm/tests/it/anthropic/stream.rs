//! Replies as they come over the wire, in the forms that the API's documentation gives them.

use aosk_abi::{CacheLife, Code, FailureKind, MicroDollars, StopReason, Tokens, Usage};
use aosk_llm::Remote;
use aosk_ports::{Delta, Device, Part, Request};
use proptest::prelude::*;

use super::{
    START, STOP, begun, device, device_of_its_own, device_with, ended, event, events, grown,
    opaque, reply_of, reply_to, stopped, text_block,
};
use crate::framing::{any_framing, pieces};
use crate::server::{Act, Server, json, stream_head};
use crate::support::{CANARY, Heard, ask, call, question};

#[tokio::test]
async fn text_is_joined_and_the_raw_bytes_are_kept() {
    let first = begun(0, r#"{"type":"text","text":""}"#);
    let (hello, end) = (
        grown(0, r#"{"type":"text_delta","text":"Hel"}"#),
        grown(0, r#"{"type":"text_delta","text":"lo!"}"#),
    );
    let (stop, done) = (stopped("end_turn"), ended(0));
    let all = [START, &first, r#"{"type": "ping"}"#, &hello, &end, &done, &stop, STOP];
    let server = Server::start(vec![events(&all)]).await;
    let device = device(&format!("http://{}", server.address)).await;
    let request = question();
    let rendered = device.render(&request).expect("a form");
    let heard = Heard::default();
    let reply = device.call(&rendered, &request, &heard).await.expect("a reply");
    assert_eq!(reply.parts, [Part::Text("Hello!".into())]);
    assert_eq!(reply.stop, StopReason::Stop);
    assert_eq!(reply.model, "claude-haiku-4-5-20251001");
    let raw: String = all.iter().map(|data| event(data)).collect();
    assert_eq!(reply.raw.as_deref(), Some(raw.as_bytes()));
    let heard = heard.0.into_inner().expect("whole");
    assert_eq!(heard, [Delta::FirstByte, Delta::Text { chars: 3 }, Delta::Text { chars: 3 }]);
    // What left is what was rendered, with the version and the key in their headers.
    let asked = server.asked().remove(0);
    assert_eq!(asked.body, rendered.body.as_ref());
    let head = asked.head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/messages http"), "{head}");
    assert!(head.contains(&format!("x-api-key: {CANARY}")), "{head}");
    assert!(head.contains("anthropic-version: 2023-06-01"), "{head}");
    assert!(!head.contains("authorization") && !head.contains("anthropic-beta"), "{head}");
}

#[tokio::test]
async fn keys_tokens_and_addresses_go_where_the_official_clients_send_them() {
    async fn head_of(device: impl AsyncFn(&str) -> Remote) -> String {
        let stop = stopped("end_turn");
        let server = Server::start(vec![events(&[START, &stop, STOP])]).await;
        ask(&device(&server.base()).await, &question()).await.expect("a reply");
        server.asked().remove(0).head.to_ascii_lowercase()
    }
    const TOKEN: (&str, &str) = ("ANTHROPIC_AUTH_TOKEN", "tok-1");
    const KEY: (&str, &str) = ("ANTHROPIC_API_KEY", CANARY);
    let head = head_of(async |base| device_with("claude-opus-5", base, &[TOKEN]).await).await;
    assert!(head.contains("authorization: bearer tok-1") && !head.contains("x-api-key"), "{head}");
    let head = head_of(async |base| device_with("claude-opus-5", base, &[TOKEN, KEY]).await).await;
    assert!(head.contains("x-api-key") && !head.contains("authorization"), "{head}");
    // The base of the other dialect means the same address.
    assert!(head.starts_with("post /v1/messages http"), "{head}");
    let head = head_of(async |base| device_with("claude-opus-5-5", base, &[KEY]).await).await;
    assert!(head.contains("anthropic-beta: thinking-binding-controls-2026-08-01"), "{head}");
}

#[tokio::test]
async fn tool_calls_are_put_together_from_pieces_of_their_json() {
    let input = |index, piece: &str| {
        let delta = serde_json::json!({"type": "input_json_delta", "partial_json": piece});
        grown(index, &delta.to_string())
    };
    let mut all = text_block(0, "Let me see.");
    all.extend([
        begun(1, r#"{"type":"tool_use","id":"toolu_01","name":"calculator","input":{}}"#),
        input(1, ""),
        input(1, "{\"expr"),
        input(1, "ession\": \"1+"),
        begun(2, r#"{"type":"tool_use","id":"toolu_02","name":"now","input":{}}"#),
        input(1, "1\"}"),
        input(2, ""),
        ended(1),
        ended(2),
        // Whole from the beginning, as some gateways send it; and without an id.
        begun(3, r#"{"type":"tool_use","name":"f","input":{"b": 1, "a": 2}}"#),
        ended(3),
    ]);
    let reply = reply_of(&all, "tool_use").await;
    assert_eq!(
        reply.parts,
        [
            Part::Text("Let me see.".into()),
            call("toolu_01", "calculator", r#"{"expression": "1+1"}"#),
            call("toolu_02", "now", "{}"),
            call("call_1", "f", r#"{"b": 1, "a": 2}"#),
        ]
    );
    assert_eq!(reply.stop, StopReason::ToolCalls);
    // Cut off, it stays what it is.
    let cut = [
        begun(0, r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#),
        input(0, "{\"x\":\"cu"),
    ];
    let reply = reply_of(&cut, "max_tokens").await;
    assert_eq!(
        (reply.parts, reply.stop),
        (vec![call("t", "f", "{\"x\":\"cu")], StopReason::Length)
    );
}

#[tokio::test]
async fn a_call_that_was_cut_in_front_of_its_arguments_is_not_one_without_arguments() {
    let head = |index, id: &str, input: &str| {
        let block = format!(r#"{{"type":"tool_use","id":"{id}","name":"f"{input}}}"#);
        [begun(index, &block), ended(index)]
    };
    let blank = grown(1, r#"{"type":"input_json_delta","partial_json":""}"#);
    let brought = grown(1, r#"{"type":"input_json_delta","partial_json":"{}"}"#);
    let whole = head(0, "a", r#","input":{}"#);
    for (input, delta, reason, arguments) in [
        (r#","input":{}"#, None, "max_tokens", "{"),
        (r#","input":{ }"#, Some(&blank), "max_tokens", "{"),
        ("", None, "model_context_window_exceeded", "{"),
        // What was written was not cut, and what came whole neither.
        (r#","input":{}"#, Some(&brought), "max_tokens", "{}"),
        (r#","input":{"x":1}"#, None, "max_tokens", r#"{"x":1}"#),
        (r#","input":{}"#, None, "tool_use", "{}"),
    ] {
        // The API ends a block also where the output ran out.
        let [begin, end] = head(1, "b", input);
        let mut all = whole.to_vec();
        all.push(begin);
        all.extend(delta.cloned());
        all.push(end);
        let reply = reply_of(&all, reason).await;
        assert_eq!(
            reply.parts,
            [call("a", "f", "{}"), call("b", "f", arguments)],
            "{input} {reason}"
        );
    }
}

#[tokio::test]
async fn what_is_newer_than_this_program_does_no_harm() {
    let mut all = vec![
        r#"{"type":"brand_new_event","x":[1]}"#.to_owned(),
        begun(0, r#"{"type":"server_thought","id":7,"name":[],"text":{"a":[]},"signature":true}"#),
        ended(0),
        // In pieces that nobody here can put together: not sent back in half.
        begun(1, r#"{"type":"server_tool_use","id":"srv","name":"web_search","input":{}}"#),
        grown(1, r#"{"type":"input_json_delta","partial_json":"{}"}"#),
        ended(1),
    ];
    all.extend(text_block(2, "Hi"));
    all.insert(8, grown(2, r#"{"type":"citations_delta","citation":{"type":"page"}}"#));
    let reply = reply_of(&all, "end_turn").await;
    assert_eq!(
        reply.parts,
        [
            opaque(
                "anthropic/server_thought",
                r#"{"type":"server_thought","id":7,"name":[],"text":{"a":[]},"signature":true}"#
            ),
            Part::Text("Hi".into()),
        ]
    );
}

#[tokio::test]
async fn reasons_are_mapped() {
    for (reason, stop) in [
        ("end_turn", StopReason::Stop),
        ("stop_sequence", StopReason::Stop),
        ("max_tokens", StopReason::Length),
        ("model_context_window_exceeded", StopReason::Length),
        ("refusal", StopReason::Refusal),
        ("pause_turn", StopReason::Other),
        // It promises calls and brings none.
        ("tool_use", StopReason::Other),
        ("brand_new", StopReason::Other),
    ] {
        let reply = reply_of(&text_block(0, "x"), reason).await;
        assert_eq!((reply.stop, reply.parts), (stop, vec![Part::Text("x".into())]), "{reason}");
    }
    assert_eq!(reply_of(&[], "end_turn").await.parts, []);
    // A reason without a word is none: the reply goes on.
    let start = START.replace(r#""stop_reason":null"#, r#""stop_reason":"""#);
    let mut all = vec![start, stopped("")];
    all.extend(text_block(0, "x"));
    let cut: Vec<&str> = all.iter().map(String::as_str).collect();
    let server = Server::start(vec![events(&cut)]).await;
    let error = ask(&device(&server.base()).await, &question()).await.expect_err("cut off");
    assert_eq!((error.kind, error.usage), (FailureKind::Transient, None), "{error}");
    all.push(stopped("max_tokens"));
    let said: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(reply_to(events(&said)).await.stop, StopReason::Length);
}

#[tokio::test]
async fn input_is_the_whole_prompt_with_what_was_cached() {
    let usage_of = async |start: &str, end: &str| {
        let start = format!(
            r#"{{"type":"message_start","message":{{"model":"m","content":[],"usage":{start}}}}}"#
        );
        let end = format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{end}}}"#
        );
        reply_to(events(&[&start, &end, STOP])).await.usage
    };
    let whole = Usage {
        input: Tokens(2_350),
        cached: Tokens(2_000),
        cache_write: Tokens(300),
        cache_write_long: Tokens(0),
        output: Tokens(90),
        reasoning: Tokens(60),
    };
    let start = r#"{"input_tokens":50,"cache_read_input_tokens":2000,"cache_creation_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":300,"ephemeral_1h_input_tokens":0},"output_tokens":2,"service_tier":"standard"}"#;
    let end = r#"{"output_tokens":90,"output_tokens_details":{"thinking_tokens":60}}"#;
    assert_eq!(usage_of(start, end).await, Some(whole));
    // Newer versions tell all of it again at the end, cumulatively.
    let end = r#"{"input_tokens":50,"cache_read_input_tokens":2000,"cache_creation_input_tokens":300,"output_tokens":90,"output_tokens_details":{"thinking_tokens":60}}"#;
    assert_eq!(usage_of(r#"{"input_tokens":1,"output_tokens":1}"#, end).await, Some(whole));
    // llama.cpp.
    let usage = usage_of(
        r#"{"cache_read_input_tokens":35,"input_tokens":1,"output_tokens":0}"#,
        r#"{"output_tokens":8}"#,
    )
    .await;
    let llama =
        Usage { input: Tokens(36), cached: Tokens(35), output: Tokens(8), ..Usage::default() };
    assert_eq!(usage, Some(llama));
    assert_eq!(usage_of("{}", r#"{"output_tokens":8}"#).await, None);
}

#[tokio::test]
async fn what_is_written_for_an_hour_is_told_apart_and_else_taken_as_asked_for() {
    let (short, long) = (CacheLife::Short, CacheLife::Long);
    let both =
        r#","cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200}"#;
    let five = r#","cache_creation":{"ephemeral_5m_input_tokens":100}"#;
    for (told, life, expected) in [
        (both, long, 200),
        (both, short, 200),
        (five, long, 200),
        (five, short, 0),
        ("", long, 300),
        ("", short, 0),
        (r#","cache_creation":null"#, long, 300),
        (r#","cache_creation":{"ephemeral_1h_input_tokens":301}"#, long, 300),
    ] {
        let start = format!(
            r#"{{"type":"message_start","message":{{"model":"m","content":[],"usage":{{"input_tokens":50,"cache_creation_input_tokens":300{told},"output_tokens":2}}}}}}"#
        );
        let end = stopped("end_turn");
        let server = Server::start(vec![events(&[&start, &end, STOP])]).await;
        let device = device_of_its_own(&server.base()).await;
        let reply = ask(&device, &Request { life, ..question() }).await.expect("a reply");
        let usage = Usage {
            input: Tokens(350),
            cache_write: Tokens(300),
            cache_write_long: Tokens(expected),
            output: Tokens(15),
            ..Usage::default()
        };
        assert_eq!(reply.usage, Some(usage), "{told} {life:?}");
        // A dollar for a million tokens of input, and twice as much for an hour.
        let written = (300 - expected) * 5 / 4 + expected * 2;
        let cost = device.info().prices.cost(&usage);
        assert_eq!(cost, MicroDollars(50 + written + 15 * 5), "{told} {life:?}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_reply_and_counts_in_full() {
    let block = begun(0, r#"{"type":"text","text":""}"#);
    let text = grown(0, r#"{"type":"text_delta","text":"Hel"}"#);
    let stop = stopped("end_turn");
    for all in [&[START][..], &[START, &block, &text], &[START, &block, &text, STOP]] {
        let server = Server::start(vec![events(all)]).await;
        let error = ask(&device(&server.base()).await, &question()).await.expect_err("cut off");
        assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmTransient));
        // `message_start` counts one token of output: nobody may settle the call by that.
        assert_eq!(error.usage, None, "{error}");
    }
    // Complete but for the last event: nothing is missing.
    let reply = reply_to(events(&[START, &block, &text, &stop])).await;
    assert_eq!(
        (reply.stop, reply.usage.map(|usage| usage.output)),
        (StopReason::Stop, Some(Tokens(15)))
    );
    // What comes behind the last event is no part of it.
    let mut acts = events(&[START, &block, &text, &stop, STOP]);
    acts.push(Act::Send(b"data: [DONE]\n\n".to_vec()));
    acts.push(Act::Hang);
    assert_eq!(reply_to(acts).await.stop, StopReason::Stop);
}

#[tokio::test]
async fn an_error_in_mid_stream_is_the_calls_error() {
    use FailureKind::{ContextLength, Fatal, Throttled, Transient};
    let of = |kind: &str, message: &str| {
        format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"req_1"}}"#
        )
    };
    for (data, kind, code) in [
        (of("overloaded_error", "Overloaded"), Transient, Code::LlmTransient),
        (of("api_error", "Internal server error"), Transient, Code::LlmTransient),
        (of("timeout_error", "Timed out"), Transient, Code::LlmTransient),
        (of("brand_new_error", "?"), Transient, Code::LlmTransient),
        (of("rate_limit_error", "Too many"), Throttled, Code::LlmThrottled),
        (of("invalid_request_error", "max_tokens: too large"), Fatal, Code::LlmBadRequest),
        (of("request_too_large", "Request exceeds"), Fatal, Code::LlmBadRequest),
        (of("authentication_error", "invalid x-api-key"), Fatal, Code::LlmAuth),
        (of("permission_error", "not allowed"), Fatal, Code::LlmAuth),
        (of("not_found_error", "model: claude-x"), Fatal, Code::LlmUnknownModel),
        (of("billing_error", "Pay"), Fatal, Code::LlmProviderQuota),
        (
            of("invalid_request_error", "prompt is too long: 213462 tokens > 200000 maximum"),
            ContextLength,
            Code::LlmContextLength,
        ),
        // llama.cpp complains in its own form.
        (
            r#"{"error":{"code":500,"message":"it broke","type":"server_error"}}"#.to_owned(),
            Transient,
            Code::LlmTransient,
        ),
        (r#"{"type":"content_block_start","index":0}"#.to_owned(), Transient, Code::LlmProtocol),
        (grown(7, r#"{"type":"text_delta","text":"x"}"#), Transient, Code::LlmProtocol),
        (r#"{"x":1}"#.to_owned(), Transient, Code::LlmProtocol),
        ("{not json".to_owned(), Transient, Code::LlmProtocol),
    ] {
        let acts = vec![
            stream_head(),
            Act::Send(event(START).into_bytes()),
            Act::Send(format!("data: {data}\n\n").into_bytes()),
        ];
        let server = Server::start(vec![acts]).await;
        let error = ask(&device(&server.base()).await, &question()).await.expect_err("an error");
        assert_eq!((error.kind, error.code), (kind, code), "{data}: {error}");
        let size = (kind == ContextLength).then_some(Tokens(213_462));
        assert_eq!(error.usage.map(|usage| usage.input), size, "{data}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let thinking = r#"{"type":"thinking", "thinking":"h\u006d", "signature":"S", "extra": 1}"#;
    let body = format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"m-2","content":[{thinking},{{"type":"text","text":"Let me see."}},{{"type":"tool_use","id":"a","name":"f","input":{{"x": 1}}}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{{"input_tokens":5,"output_tokens":6}}}}"#
    );
    let reply = reply_to(json("200 OK", &body)).await;
    assert_eq!(
        reply.parts,
        [
            opaque("anthropic/thinking", thinking),
            Part::Text("Let me see.".into()),
            call("a", "f", r#"{"x": 1}"#)
        ]
    );
    assert_eq!((reply.stop, reply.model.as_str()), (StopReason::ToolCalls, "m-2"));
    assert_eq!(reply.usage.map(|usage| (usage.input, usage.output)), Some((Tokens(5), Tokens(6))));
    assert_eq!(reply.raw.as_deref(), Some(body.as_bytes()));
    for (body, code) in [
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Code::LlmTransient,
        ),
        (r#"{"type":"message","content":[],"stop_reason":null}"#, Code::LlmProtocol),
        (r#"{"choices":[]}"#, Code::LlmProtocol),
    ] {
        let server = Server::start(vec![json("200 OK", body)]).await;
        let error = ask(&device(&server.base()).await, &question()).await.expect_err("an error");
        assert_eq!((error.kind, error.code), (FailureKind::Transient, code), "{body}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Nor does it matter where the model's words are cut into deltas.
    #[test]
    fn a_reply_is_the_same_however_it_is_framed_and_split(
        framing in any_framing(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let thought = "Grüße, 世界 👩‍💻 \"hm\"\n";
        let arguments = r#"{"expression": "17 * 23", "note": "世界\n"}"#;
        let deltas = |text: &str, key: &str, kind: &str| -> Vec<String> {
            let chars: Vec<char> = text.chars().collect();
            let piece = |at: std::ops::Range<usize>| {
                let piece: String = chars[at].iter().collect();
                serde_json::json!({"type": kind, key: piece}).to_string()
            };
            pieces(&cuts, chars.len()).map(piece).collect()
        };
        let mut all = vec![START.to_owned()];
        all.push(begun(0, r#"{"type":"thinking","thinking":"","signature":""}"#));
        all.extend(deltas(thought, "thinking", "thinking_delta").iter().map(|d| grown(0, d)));
        all.push(grown(0, r#"{"type":"signature_delta","signature":"S+/="}"#));
        all.push(ended(0));
        all.push(begun(1, r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#));
        all.extend(deltas(arguments, "partial_json", "input_json_delta").iter().map(|d| grown(1, d)));
        all.extend([ended(1), stopped("tool_use"), STOP.to_owned()]);
        let (bytes, acts) = framing.play(&all);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let reply = runtime.expect("a runtime").block_on(reply_to(acts));
        let block = serde_json::to_string(thought).expect("JSON");
        let block = format!(r#"{{"type":"thinking","thinking":{block},"signature":"S+/="}}"#);
        prop_assert_eq!(reply.parts, [opaque("anthropic/thinking", &block), call("t", "f", arguments)]);
        prop_assert_eq!(reply.usage.map(|usage| usage.output), Some(Tokens(15)));
        prop_assert_eq!(reply.raw.as_deref(), Some(bytes.as_slice()));
    }
}
