//! Replies as they come over the wire, in the forms that the API's documentation and the servers
//! that copy it give them.

use aosk_abi::{Code, FailureKind, Role, StopReason, Tokens, Usage};
use aosk_ports::{Delta, Device, Part, Reply};
use proptest::prelude::*;

use crate::framing::any_framing;
use crate::server::{Act, Server, events, json, send, stream_head};
use crate::support::{Heard, ask, call, device, question, request, said, text};

async fn reply_to(acts: Vec<Act>) -> Reply {
    let server = Server::start(vec![acts]).await;
    ask(&device(&server.base()).await, &question()).await.expect("a reply")
}

/// An event whose delta is this.
fn delta(delta: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","model":"m-1","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
    )
}

fn finish(reason: &str) -> String {
    format!(
        r#"{{"model":"m-1","choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#
    )
}

async fn reply_of(deltas: &[&str], reason: &str) -> Reply {
    let mut all: Vec<String> = deltas.iter().map(|d| delta(d)).collect();
    all.push(finish(reason));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    reply_to(events(&all)).await
}

#[tokio::test]
async fn text_is_joined_and_the_raw_bytes_are_kept() {
    let server = Server::start(vec![events(&[
        &delta(r#"{"role":"assistant","content":null}"#),
        &delta(r#"{"content":"Hel"}"#),
        &delta(r#"{"content":"lo"}"#),
        &finish("stop"),
        r#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":16},"completion_tokens_details":{"reasoning_tokens":4}}}"#,
    ])])
    .await;
    let device = device(&server.base()).await;
    let request = question();
    let rendered = device.render(&request).expect("a form");
    let heard = Heard::default();
    let reply = device.call(&rendered, &request, &heard).await.expect("a reply");
    assert_eq!(reply.parts, [Part::Text("Hello".into())]);
    assert_eq!(reply.stop, StopReason::Stop);
    assert_eq!(reply.model, "m-1");
    let usage = Usage {
        input: Tokens(20),
        cached: Tokens(16),
        cache_write: Tokens(0),
        cache_write_long: Tokens(0),
        output: Tokens(9),
        reasoning: Tokens(4),
    };
    assert_eq!(reply.usage, Some(usage));
    let raw = String::from_utf8(reply.raw.expect("a wire").to_vec()).expect("UTF-8");
    assert!(raw.starts_with("data: {\"id\":\"c\"") && raw.ends_with("data: [DONE]\n\n"));
    let heard = heard.0.into_inner().expect("whole");
    assert_eq!(heard, [Delta::FirstByte, Delta::Text { chars: 3 }, Delta::Text { chars: 2 }]);
    // What left is what was rendered, with the key in its header alone.
    let asked = server.asked().remove(0);
    assert_eq!(asked.body, rendered.body.as_ref());
    let head = asked.head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/chat/completions "));
    assert!(head.contains("authorization: bearer sk-canary") && head.contains("application/json"));
}

#[tokio::test]
async fn calls_are_assembled_from_pieces_by_index() {
    let reply = reply_of(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"calculator","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"expr"}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"now","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"ession\":\"1+"}},{"index":1,"function":{"arguments":"{}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"1\"}"}}]}"#,
        ],
        "tool_calls",
    )
    .await;
    assert_eq!(
        reply.parts,
        [call("a", "calculator", r#"{"expression":"1+1"}"#), call("b", "now", "{}")]
    );
    assert_eq!(reply.stop, StopReason::ToolCalls);
}

#[tokio::test]
async fn calls_are_told_apart_where_servers_deviate() {
    let cases: &[(&[&str], &[Part])] = &[
        // Whole calls, all with index 0.
        (
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\":2}"}}]}"#,
            ],
            &[call("a", "f", r#"{"x":1}"#), call("b", "f", r#"{"x":2}"#)],
        ),
        // The same without ids.
        (
            &[
                r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"x\":1}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"x\":2}"}}]}"#,
            ],
            &[call("call_1", "f", r#"{"x":1}"#), call("call_2", "f", r#"{"x":2}"#)],
        ),
        // No index: two whole calls, the second in two pieces.
        (
            &[
                r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","function":{"name":"g","arguments":"{\"y\""}}]}"#,
                r#"{"tool_calls":[{"function":{"arguments":":2}"}}]}"#,
            ],
            &[call("a", "f", "{}"), call("b", "g", r#"{"y":2}"#)],
        ),
        // The name in every piece, and an empty id after the first.
        (
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"f","arguments":":1}"}}]}"#,
                r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"f","arguments":""}}]}"#,
            ],
            &[call("a", "f", r#"{"x":1}"#)],
        ),
        // A split name, and arguments as an object.
        (
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"read_"}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"name":"file","arguments":null}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":{"b":1,"a":2}}}]}"#,
            ],
            &[call("a", "read_file", ""), call("b", "g", r#"{"b":1,"a":2}"#)],
        ),
        // The form before `tool_calls`.
        (
            &[
                r#"{"function_call":{"name":"f","arguments":"{\"x\":"}}"#,
                r#"{"function_call":{"arguments":"1}"}}"#,
            ],
            &[call("call_1", "f", r#"{"x":1}"#)],
        ),
    ];
    for (deltas, parts) in cases {
        // A server that does not know `tool_calls` as a reason says `stop`.
        let reply = reply_of(deltas, "stop").await;
        assert_eq!(reply.parts, *parts, "{deltas:?}");
        assert_eq!(reply.stop, StopReason::ToolCalls);
    }
}

#[tokio::test]
async fn missing_ids_go_on_where_the_conversation_stands() {
    let server = Server::start(vec![events(&[
        &delta(r#"{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}"#),
        &finish("tool_calls"),
    ])])
    .await;
    let device = device(&server.base()).await;
    let mut request = question();
    for (ids, next) in
        [(&["x", "y"][..], "call_3"), (&["call_7"], "call_8"), (&["call_x"], "call_2")]
    {
        request.messages.truncate(2);
        let calls: Vec<Part> = ids.iter().map(|id| call(id, "f", "{}")).collect();
        request.messages.push(said(calls));
        let reply = ask(&device, &request).await.expect("a reply");
        assert_eq!(reply.parts, [call(next, "f", "{}")]);
    }
}

#[tokio::test]
async fn reasons_are_mapped() {
    for (reason, stop) in [
        ("stop", StopReason::Stop),
        ("length", StopReason::Length),
        ("content_filter", StopReason::Refusal),
        // It promises calls and brings none.
        ("tool_calls", StopReason::Other),
        ("eos", StopReason::Other),
    ] {
        let reply = reply_of(&[r#"{"content":"x"}"#], reason).await;
        assert_eq!((reply.stop, reply.parts), (stop, vec![Part::Text("x".into())]), "{reason}");
    }
    let reply = reply_of(&[r#"{"refusal":"I can"}"#, r#"{"refusal":"not."}"#], "stop").await;
    assert_eq!(
        (reply.stop, reply.parts),
        (StopReason::Refusal, vec![Part::Text("I cannot.".into())])
    );
    let reply = reply_of(
        &[r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":\"cut"}}]}"#],
        "length",
    )
    .await;
    assert_eq!(
        (reply.stop, reply.parts),
        (StopReason::Length, vec![call("a", "f", r#"{"x":"cut"#)])
    );
}

#[tokio::test]
async fn a_call_that_was_cut_in_front_of_its_arguments_is_not_one_without_arguments() {
    let whole = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}"#;
    let last = r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":""}}]}"#;
    let reply = reply_of(&[whole, last], "length").await;
    assert_eq!(
        (reply.stop, reply.parts),
        (StopReason::Length, vec![call("a", "f", ""), call("b", "g", "{")])
    );
    let empty = r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#;
    let reply = reply_of(&[whole, empty], "length").await;
    assert_eq!(reply.parts, [call("a", "f", ""), call("b", "g", "{}")]);
    let reply = reply_of(&[whole, last], "tool_calls").await;
    assert_eq!(reply.parts, [call("a", "f", ""), call("b", "g", "")]);
}

#[tokio::test]
async fn reasoning_is_an_opaque_block_that_only_an_endpoint_that_wants_it_gets_back() {
    let reply = reply_of(
        &[
            r#"{"reasoning_content":"Hm, "}"#,
            r#"{"reasoning_content":"23…"}"#,
            r#"{"content":"391"}"#,
        ],
        "stop",
    )
    .await;
    let block = Part::Opaque {
        format: "openai/reasoning_content".into(),
        bytes: "Hm, 23…".as_bytes().into(),
    };
    assert_eq!(reply.parts, [block, Part::Text("391".into())]);

    let request = request(vec![text(Role::User, "?"), said(reply.parts)]);
    let mut models = aosk_llm::Models::embedded();
    models
        .extend_toml("[models.thinker]\nprovider = \"openai\"\nwindow = 9000\nmax_output = 100\nprice = { input = 1, output = 1 }\nquirks = { echo = [\"reasoning_content\"] }", "t")
        .expect("a table");
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-x".to_owned());
    for (name, wanted) in [("thinker", true), ("gpt-5", false)] {
        let (spec, endpoint) = models.select(name, &env).expect("a model");
        let device = aosk_llm::Remote::connect(spec, endpoint, aosk_llm::Options::default())
            .await
            .expect("a device");
        let prompt = device.render(&request).expect("a form").prompt_bytes;
        let prompt = std::str::from_utf8(&prompt).expect("UTF-8");
        assert_eq!(prompt.contains(r#""content":"391","reasoning_content":"Hm, 23…"}"#), wanted);
        assert_eq!(prompt.contains("Hm"), wanted);
    }
}

#[tokio::test]
async fn usage_is_read_from_every_form_and_never_made_up() {
    let used = async |last: &str| {
        reply_to(events(&[&delta(r#"{"content":"x"}"#), &finish("stop"), last])).await.usage
    };
    let usage = |input, cached, output| Usage {
        input: Tokens(input),
        cached: Tokens(cached),
        output: Tokens(output),
        ..Usage::default()
    };
    // llama.cpp before it told cached tokens, and where it tells nothing else.
    let timings = r#""timings":{"cache_n":236,"prompt_n":4,"prompt_ms":30.9,"predicted_n":35}"#;
    let both = format!(
        r#"{{"choices":[],"usage":{{"prompt_tokens":240,"completion_tokens":35}},{timings}}}"#
    );
    assert_eq!(used(&both).await, Some(usage(240, 236, 35)));
    assert_eq!(used(&format!(r#"{{"choices":[],{timings}}}"#)).await, Some(usage(240, 236, 35)));
    let details = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":null,"completion_tokens_details":null}}"#;
    assert_eq!(used(details).await, Some(usage(9, 0, 1)));
    let write = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":5}}}"#;
    assert_eq!(used(write).await, Some(Usage { cache_write: Tokens(5), ..usage(9, 3, 1) }));
    assert_eq!(used(r#"{"choices":[],"usage":null}"#).await, None);
    // Who tells what cannot be tells nothing; the reply is none the worse for it.
    for nonsense in ["-1", "1.5", "1e300", "\"9\"", "{}", "[9]", "true"] {
        let of = |input: &str, output: &str| {
            format!(
                r#"{{"choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#
            )
        };
        assert_eq!(used(&of(nonsense, "7")).await, None, "{nonsense}");
        assert_eq!(used(&of("9", nonsense)).await, None, "{nonsense}");
    }
}

#[tokio::test]
async fn a_stream_may_end_without_done_but_not_without_a_reason() {
    let hello = delta(r#"{"content":"Hello"}"#);
    let end = finish("stop");
    let reply = reply_to(vec![stream_head(), send(&hello), send(&end)]).await;
    assert_eq!(reply.parts, [Part::Text("Hello".into())]);
    // A reason without a word is none, from gateways that write one into every chunk.
    let (unsaid, next) = (finish(""), delta(r#"{"content":" you"}"#));
    let reply =
        reply_to(vec![stream_head(), send(&hello), send(&unsaid), send(&next), send(&end)]).await;
    assert_eq!((reply.stop, reply.parts), (StopReason::Stop, vec![Part::Text("Hello you".into())]));

    let usage = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    let chunked =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = format!("data: {hello}\n\n");
    for acts in [
        vec![stream_head(), send(usage), send(&hello)],
        vec![stream_head(), send(usage), send(&hello), send(&unsaid)],
        // The body's own end is missing too.
        vec![
            Act::Send(chunked.into()),
            Act::Send(format!("{:x}\r\ndata: {usage}\n\n\r\n", usage.len() + 8).into()),
            Act::Send(format!("{:x}\r\n{event}\r\n", event.len()).into()),
        ],
    ] {
        let server = Server::start(vec![acts]).await;
        let error = ask(&device(&server.base()).await, &question()).await.expect_err("cut off");
        assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmTransient));
        // What was told on the way is not all of it: nobody may settle the call by that.
        assert_eq!(error.usage, None, "{error}");
    }
    // Complete but for the body's end: nothing is missing.
    let event = format!("data: {hello}\n\ndata: {end}\n\n");
    let reply = reply_to(vec![
        Act::Send(chunked.into()),
        Act::Send(format!("{:x}\r\n{event}\r\n", event.len()).into()),
    ])
    .await;
    assert_eq!(reply.stop, StopReason::Stop);
}

#[tokio::test]
async fn an_error_in_mid_stream_is_the_calls_error() {
    for (event, kind, code) in [
        (
            r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#,
            FailureKind::Transient,
            Code::LlmTransient,
        ),
        (
            r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#,
            FailureKind::Throttled,
            Code::LlmThrottled,
        ),
        (
            r#"{"error":{"message":"Provider returned error","code":502},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}"#,
            FailureKind::Transient,
            Code::LlmTransient,
        ),
        (r#"{"error":{"message":"no","code":"401"}}"#, FailureKind::Fatal, Code::LlmAuth),
        (
            r#"{"error":{"message":"Insufficient funds","type":"insufficient_quota"}}"#,
            FailureKind::Fatal,
            Code::LlmProviderQuota,
        ),
        (
            r#"{"error":{"message":"bad field","type":"invalid_request_error"}}"#,
            FailureKind::Fatal,
            Code::LlmBadRequest,
        ),
        (
            r#"{"object":"error","message":"This model's maximum context length is 8 tokens","code":400}"#,
            FailureKind::ContextLength,
            Code::LlmContextLength,
        ),
        (r#"{"error":"it broke"}"#, FailureKind::Transient, Code::LlmTransient),
        ("{not json", FailureKind::Transient, Code::LlmProtocol),
        (
            r#"{"choices":[{"index":0,"delta":{"content":5}}]}"#,
            FailureKind::Transient,
            Code::LlmProtocol,
        ),
    ] {
        let server = Server::start(vec![events(&[&delta(r#"{"content":"Hel"}"#), event])]).await;
        let error = ask(&device(&server.base()).await, &question()).await.expect_err("an error");
        assert_eq!((error.kind, error.code), (kind, code), "{event}: {error}");
    }
    let mut acts = vec![stream_head()];
    acts.push(Act::Send(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n".to_vec()));
    let server = Server::start(vec![acts]).await;
    let error = ask(&device(&server.base()).await, &question()).await.expect_err("not UTF-8");
    assert_eq!(error.code, Code::LlmProtocol);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = r#"{"id":"c","object":"chat.completion","model":"m-2","choices":[{"index":0,"message":{"role":"assistant","content":"Let me see.","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#;
    let reply = reply_to(json("200 OK", body)).await;
    assert_eq!(
        reply.parts,
        [Part::Text("Let me see.".into()), call("a", "f", "{}"), call("b", "f", "{}")]
    );
    assert_eq!((reply.stop, reply.model.as_str()), (StopReason::ToolCalls, "m-2"));
    assert_eq!(reply.raw.as_deref(), Some(body.as_bytes()));
    // The same in chunks that cut it anywhere.
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut acts = vec![Act::Send(head.into())];
    for piece in body.as_bytes().chunks(50) {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        acts.push(Act::Send(chunk));
    }
    acts.push(Act::Send(b"0\r\n\r\n".to_vec()));
    assert_eq!(reply_to(acts).await.parts, reply.parts);
}

#[tokio::test]
async fn a_server_that_closes_what_it_promised_to_keep_costs_no_call() {
    let event = format!("data: {}\n\ndata: [DONE]\n\n", finish("stop"));
    let body = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\
         Keep-Alive: timeout=5, max=100\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n",
        event.len()
    );
    let server = Server::start(vec![vec![Act::Send(body.into())]]).await;
    let device = device(&server.base()).await;
    for _ in 0..20 {
        ask(&device, &question()).await.expect("a reply");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_reply_is_the_same_however_it_is_framed_and_split(framing in any_framing()) {
        let (bytes, acts) = framing.play(&[
            delta(r#"{"content":"Grüße, 世界 "}"#),
            delta(r#"{"content":"👩‍💻!"}"#),
            finish("stop"),
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#.to_owned(),
            "[DONE]".to_owned(),
        ]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let reply = runtime.expect("a runtime").block_on(reply_to(acts));
        prop_assert_eq!(reply.parts, [Part::Text("Grüße, 世界 👩‍💻!".into())]);
        prop_assert_eq!(reply.usage.map(|usage| usage.output), Some(Tokens(4)));
        prop_assert_eq!(reply.raw.as_deref(), Some(bytes.as_slice()));
    }
}
