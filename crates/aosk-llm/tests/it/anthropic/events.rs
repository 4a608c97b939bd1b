//! Every event that the API streams, in the form that its documentation gives.

use aosk_abi::{Code, FailureKind, StopReason, Tokens, Usage};
use aosk_ports::{CallError, Delta, Device, Part, Reply};

use super::{device, events, opaque};
use crate::server::Server;
use crate::support::{Heard, call, question};

const MESSAGE_START: &str = r#"{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-haiku-4-5-20251001","content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null,"container":null,"usage":{"input_tokens":50,"cache_creation_input_tokens":300,"cache_read_input_tokens":2000,"cache_creation":{"ephemeral_5m_input_tokens":300,"ephemeral_1h_input_tokens":0},"output_tokens":2,"service_tier":"standard","inference_geo":"global"}}}"#;
const MESSAGE_DELTA: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,"stop_details":null,"container":null},"usage":{"input_tokens":50,"cache_creation_input_tokens":300,"cache_read_input_tokens":2000,"output_tokens":90,"output_tokens_details":{"thinking_tokens":60}},"context_management":{"applied_edits":[]}}"#;
const MESSAGE_STOP: &str = r#"{"type":"message_stop"}"#;

const SEARCH_RESULT: &str = r#"{"type":"web_search_tool_result","tool_use_id":"srvtoolu_01","content":[{"type":"web_search_result","title":"23","url":"https://example.test/","encrypted_content":"E","page_age":null}]}"#;
const REDACTED: &str = r#"{"type":"redacted_thinking","data":"EmwKAhgBEgy/va3"}"#;

/// What comes between `message_start` and `message_delta`: of which types, in full, what becomes of
/// it, and what is heard on the way.
struct Fixture {
    of: &'static [&'static str],
    events: &'static [&'static str],
    parts: Vec<Part>,
    heard: Vec<Delta>,
}

fn fixtures() -> Vec<Fixture> {
    let chars = |chars| Delta::Text { chars };
    let named = |name: &str| Delta::ToolCall { name: name.to_owned() };
    let said = |text: &str| Part::Text(text.into());
    vec![
        Fixture {
            of: &["content_block_start", "text", "content_block_delta", "text_delta"],
            events: &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"","citations":null}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"It is "}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"391."}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
            ],
            parts: vec![said("It is 391.")],
            heard: vec![chars(6), chars(4)],
        },
        Fixture {
            of: &["ping", "content_block_stop"],
            events: &[
                r#"{"type":"ping"}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"391"}}"#,
                r#"{"type":"ping"}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"ping"}"#,
            ],
            parts: vec![said("391")],
            heard: vec![chars(3)],
        },
        Fixture {
            of: &["citations_delta"],
            events: &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"","citations":[]}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"17","document_index":0,"document_title":null,"start_char_index":0,"end_char_index":2}}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"391"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
            ],
            parts: vec![said("391")],
            heard: vec![chars(3)],
        },
        Fixture {
            of: &["tool_use", "input_json_delta"],
            events: &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_01","name":"calculator","input":{},"caller":{"type":"direct"}}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"expression\": \"17 *"}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":" 23\"}"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
            ],
            parts: vec![call("toolu_01", "calculator", r#"{"expression": "17 * 23"}"#)],
            heard: vec![named("calculator")],
        },
        Fixture {
            of: &["thinking", "thinking_delta", "signature_delta"],
            events: &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"17 * 20"}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" first"}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"391"}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
            ],
            parts: vec![
                opaque(
                    "anthropic/thinking",
                    r#"{"type":"thinking","thinking":"17 * 20 first","signature":"EqQBCgIYAhIM"}"#,
                ),
                said("391"),
            ],
            heard: vec![chars(7), chars(6), chars(3)],
        },
        Fixture {
            of: &["redacted_thinking"],
            events: &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"EmwKAhgBEgy/va3"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"391"}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
            ],
            parts: vec![opaque("anthropic/redacted_thinking", REDACTED), said("391")],
            heard: vec![chars(3)],
        },
        // Nobody here asks for a tool of the provider's. Its call comes in pieces that cannot be put
        // together without knowing it.
        Fixture {
            of: &["server_tool_use"],
            events: &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"srvtoolu_01","name":"web_search","input":{}}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\": \"17 * 23\"}"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
            ],
            parts: vec![],
            heard: vec![],
        },
        // What comes whole is kept.
        Fixture {
            of: &["web_search_tool_result"],
            events: &[
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_01","content":[{"type":"web_search_result","title":"23","url":"https://example.test/","encrypted_content":"E","page_age":null}]}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
            ],
            parts: vec![opaque("anthropic/web_search_tool_result", SEARCH_RESULT)],
            heard: vec![],
        },
    ]
}

/// What a stream of these events comes to, and what is heard of it behind the first byte.
async fn outcome(all: &[&str]) -> (Result<Reply, CallError>, Vec<Delta>) {
    let server = Server::start(vec![events(all)]).await;
    let device = device(&server.base()).await;
    let request = question();
    let rendered = device.render(&request).expect("a form");
    let heard = Heard::default();
    let outcome = device.call(&rendered, &request, &heard).await;
    let heard = heard.0.into_inner().expect("whole");
    assert_eq!(heard.first(), Some(&Delta::FirstByte));
    (outcome, heard[1..].to_vec())
}

#[tokio::test]
async fn every_event_of_the_documentation_is_understood() {
    for fixture in fixtures() {
        let Fixture { of, events, parts, heard } = fixture;
        for kind in of {
            let written = format!(r#""type":"{kind}""#);
            assert!(
                events.iter().any(|event| event.contains(&written)),
                "{kind} is in its fixture"
            );
        }
        let all = [&[MESSAGE_START], events, &[MESSAGE_DELTA, MESSAGE_STOP]].concat();
        let (reply, on_the_way) = outcome(&all).await;
        let reply = reply.expect("a reply");
        assert_eq!((reply.parts, on_the_way), (parts, heard), "{of:?}");
        let usage = Usage {
            input: Tokens(2_350),
            cached: Tokens(2_000),
            cache_write: Tokens(300),
            cache_write_long: Tokens(0),
            output: Tokens(90),
            reasoning: Tokens(60),
        };
        // A call is one whatever the model says of why it stopped.
        let calls = of.contains(&"tool_use");
        let stop = if calls { StopReason::ToolCalls } else { StopReason::Stop };
        assert_eq!((reply.stop, reply.usage), (stop, Some(usage)), "{of:?}");
        assert_eq!(reply.model, "claude-haiku-4-5-20251001");
    }
    // And the one that ends a stream without a reply, wherever it comes.
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_01"}"#;
    for Fixture { events, .. } in fixtures() {
        for cut in 0..=events.len() {
            let all = [&[MESSAGE_START], &events[..cut], &[error]].concat();
            let error = outcome(&all).await.0.expect_err("an error");
            let expected = (FailureKind::Transient, Code::LlmTransient, None);
            assert_eq!((error.kind, error.code, error.usage), expected);
            assert!(error.message.contains("Overloaded"), "{error}");
        }
    }
}
