//! Tool calls by schema.

use aosk_abi::{StopReason, ToolCalls};
use aosk_ports::{Device, Message, Part, Reply, Request};

use crate::server::{Act, Server, send, stream_head};
use crate::support::{ask, call, device, question, result, said};

fn asked() -> Request {
    Request { tool_calls: ToolCalls::Constrained, ..question() }
}

async fn reply(text: &str, reason: &str) -> Reply {
    let chunk = serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]});
    let acts: Vec<Act> = vec![stream_head(), send(&chunk.to_string())];
    let server = Server::start(vec![acts]).await;
    ask(&device(&server.base()).await, &asked()).await.expect("a reply")
}

/// The texts of the messages as they are sent.
async fn sent(messages: Vec<Message>) -> Vec<(String, String)> {
    let device = device("http://127.0.0.1:9/v1").await;
    let mut request = asked();
    request.messages.extend(messages);
    let rendered = device.render(&request).expect("a form");
    let body: serde_json::Value = serde_json::from_slice(&rendered.body).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let messages = body["messages"].as_array().expect("messages");
    messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}

#[tokio::test]
async fn tools_are_described_in_the_prompt_and_enforced_behind_it() {
    let messages = sent(Vec::new()).await;
    assert_eq!(
        messages[0],
        (
            "system".to_owned(),
            concat!(
                "Be short.\n\nTools:\n",
                r#"{"tool":"calculator","arguments":{"expression":"<expression>"}} Evaluate an arithmetic expression."#,
                "\n",
                r#"{"tool":"final_answer","arguments":{"answer":"<answer>"}} End the task with the answer."#,
                "\nReply with one of these JSON objects."
            )
            .to_owned()
        )
    );
    let device = device("http://127.0.0.1:9/v1").await;
    let of = |request: &Request| {
        let body = device.render(request).expect("a form").body;
        String::from_utf8(body.to_vec()).expect("UTF-8")
    };
    let answer = r#"{"type":"object","properties":{"tool":{"const":"final_answer"},"arguments":{"additionalProperties":false,"properties":{"answer":{"type":"string"}},"required":["answer"],"type":"object"}},"required":["tool","arguments"],"additionalProperties":false}]}}}"#;
    let open = of(&asked());
    assert!(open.contains(concat!(
        r#""response_format":{"type":"json_schema","json_schema":{"name":"action","schema":{"anyOf":["#,
        r#"{"type":"object","properties":{"tool":{"const":"calculator"},"arguments":{"additionalProperties":false,"properties":{"expression":{"type":"string"}},"required":["expression"],"type":"object"}},"required":["tool","arguments"],"additionalProperties":false},"#,
    )));
    assert!(open.contains(answer) && !open.contains("\"tools\"") && !open.contains("tool_choice"));
    let masked = of(&Request { may_call: false, ..asked() });
    assert!(masked.contains(&format!(r#""anyOf":[{answer}"#)), "{masked}");
    // Without a tool there is nothing to choose between.
    let free = of(&Request { tools: [].into(), ..asked() });
    assert!(!free.contains("response_format") && !free.contains("Tools:"));
    // Without a system prompt the tools are one.
    let bare = of(&Request { messages: asked().messages.split_off(1), ..asked() });
    assert!(bare.starts_with(r#"{"messages":[{"role":"system","content":"Tools:\n"#), "{bare}");
}

#[tokio::test]
async fn a_reply_becomes_a_call_or_the_answer() {
    let text = r#"{"tool":"calculator","arguments":{"expression":"17 * 23"}}"#;
    let called = reply(text, "stop").await;
    assert_eq!(called.parts, [call("call_1", "calculator", r#"{"expression":"17 * 23"}"#)]);
    assert_eq!(called.stop, StopReason::ToolCalls);
    let text = r#"{"tool":"final_answer","arguments":{"answer":"It is 391.\n\"Sure\" 世"}}"#;
    let answered = reply(text, "stop").await;
    assert_eq!(answered.parts, [Part::Text("It is 391.\n\"Sure\" 世".into())]);
    assert_eq!(answered.stop, StopReason::Stop);
}

#[tokio::test]
async fn what_the_model_said_goes_back_letter_for_letter() {
    for text in [
        r#"{"tool":"calculator","arguments":{"expression":"17 * 23"}}"#,
        r#"{"tool": "calculator", "arguments": {"expression": "17 * 23"}}"#,
        r#"{"tool":"final_answer","arguments":{"answer":"391"}}"#,
        "{ \"tool\" : \"final_answer\",\n \"arguments\" : {\"answer\": \"3\\u00391\"} }",
        r#"{"tool":"calculator","arguments":{"expression":"17 *"#,
        r#"{"tool":"calculator","arguments":"#,
        r#"{"tool":"final_answer","arguments":{"answer":"It is 3"#,
        r#"{"tool":"calc"#,
        "I would rather talk.",
        " \n",
    ] {
        let reply = reply(text, "length").await;
        let messages = sent(vec![said(reply.parts.clone())]).await;
        let back = messages.last().expect("a message").clone();
        assert_eq!(back, ("assistant".to_owned(), text.to_owned()));
        // Compact replies, which are the rule, need no copy.
        let copies = reply.parts.iter().filter(|part| matches!(part, Part::Opaque { .. })).count();
        assert_eq!(reply.parts.len(), 1 + copies);
    }
    let compact = reply(r#"{"tool":"calculator","arguments":{}}"#, "stop").await;
    assert_eq!(compact.parts.len(), 1);
    let messages = sent(vec![said([call("a", "f", "{}")]), result("a", "f", "391")]).await;
    assert_eq!(messages[3], ("user".to_owned(), "Result of f: 391".to_owned()));
    assert_eq!(messages.len(), 4);
}

#[tokio::test]
async fn a_reply_that_was_cut_keeps_what_it_said() {
    let last = async |text: &str, reason: &str| {
        let mut reply = reply(text, reason).await;
        (reply.parts.pop().expect("a part"), reply.stop)
    };
    let cut = r#"{"tool":"write_file","arguments":{"path":"a","content":"bla"#;
    let arguments = r#"{"path":"a","content":"bla"#;
    assert_eq!(
        last(cut, "length").await,
        (call("call_1", "write_file", arguments), StopReason::Length)
    );
    // Nothing of the arguments is another matter than a call without arguments.
    for cut in [r#"{"tool":"now","arguments":"#, r#"{"tool":"now","arguments": "#] {
        assert_eq!(last(cut, "length").await, (call("call_1", "now", "{"), StopReason::Length));
    }
    for (text, answer) in [
        (r#"{"tool":"final_answer","arguments":{"answer":"It is 3"#, "It is 3"),
        (r#"{"tool":"final_answer","arguments":{"answer":"It\n"#, "It\n"),
        (r#"{"tool":"final_answer","arguments":{"answer":"It\"#, "It"),
        (r#"{"tool":"final_answer","arguments":{"answer":"It\u00e"#, "It"),
        (r#"{"tool":"final_answer","arguments":{"answer":"It\ud83d\ude0"#, "It"),
        (r#"{"tool":"final_answer","arguments":{"answer":"It\ud83d\ude00"#, "It😀"),
        (r#"{"tool":"final_answer","arguments":{"answer":""#, ""),
        (r#"{"tool":"final_answer","arguments":{"#, ""),
    ] {
        assert_eq!(
            last(text, "length").await,
            (Part::Text(answer.into()), StopReason::Length),
            "{text}"
        );
    }
    for text in [r#"{"tool":"calc"#, "{", "I would rather talk.", r#"{"answer":"x"}"#] {
        assert_eq!(last(text, "length").await, (Part::Text(text.into()), StopReason::Length));
        assert_eq!(last(text, "stop").await, (Part::Text(text.into()), StopReason::Stop));
    }
    assert_eq!(reply("", "stop").await.parts, []);
}
