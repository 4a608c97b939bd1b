//! Calls that fail before a reply begins.

use std::time::Duration;

use aosk_abi::{Code, FailureKind, Usage};
use aosk_llm::Options;
use aosk_ports::CallError;

use crate::server::{Act, Server, answer, events, json, send, stream_head};
use crate::support::{CANARY, ask, device, device_with, question};

async fn error_of(acts: Vec<Act>) -> CallError {
    let server = Server::start(vec![acts]).await;
    let error = ask(&device(&server.base()).await, &question()).await.expect_err("an error");
    assert!(error.message.contains(&server.address.to_string()), "{error}");
    assert_eq!(server.asked().len(), 1, "one attempt per call");
    error
}

#[tokio::test]
async fn a_refused_key_is_fatal_and_never_repeated_in_words() {
    let body = format!(
        r#"{{"error":{{"message":"Incorrect API key provided: {CANARY}. You can find your API key in your settings.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}}}"#
    );
    let mut long = "x".repeat(990);
    long.push_str(CANARY);
    let mut seen = Vec::new();
    for acts in [
        json("401 Unauthorized", &body),
        answer("403 Forbidden", &[("content-type", "text/html")], &format!("<p>{CANARY}</p>")),
        // The cut of a long body falls into the key.
        answer("400 Bad Request", &[], &long),
        // In a stream, in a whole reply, in JSON that is none, in a redirect.
        events(&[&body]),
        json("200 OK", &body),
        events(&[&format!("{{{CANARY}")]),
        answer("302 Found", &[("location", &format!("https://evil.test/{CANARY}?k={CANARY}"))], ""),
        answer("200 OK", &[("content-type", "text/html")], CANARY),
    ] {
        let error = error_of(acts).await;
        for piece in [CANARY, &CANARY[..12]] {
            assert!(!format!("{error} {error:?}").contains(piece), "{error}");
        }
        seen.push((error.kind, error.code));
    }
    let fatal = |code| (FailureKind::Fatal, code);
    assert_eq!(
        seen,
        [
            fatal(Code::LlmAuth),
            fatal(Code::LlmAuth),
            fatal(Code::LlmBadRequest),
            fatal(Code::LlmAuth),
            fatal(Code::LlmAuth),
            (FailureKind::Transient, Code::LlmProtocol),
            fatal(Code::LlmUnreachable),
            fatal(Code::LlmProtocol),
        ]
    );
    let server = Server::start(vec![events(&[])]).await;
    assert!(!format!("{:?}", device(&server.base()).await).contains("canary"));
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let body = r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#;
    for (headers, seconds) in [
        (&[("retry-after", "20")][..], Some(20.0)),
        (&[("retry-after-ms", "350")], Some(0.35)),
        (
            &[("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-reset-tokens", "6m0s")],
            Some(360.0),
        ),
        (
            &[
                ("date", "Sun, 06 Nov 1994 08:49:07 GMT"),
                ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ],
            Some(30.0),
        ),
        (&[], None),
    ] {
        let error = error_of(answer("429 Too Many Requests", headers, body)).await;
        assert_eq!((error.kind, error.code), (FailureKind::Throttled, Code::LlmThrottled));
        assert_eq!(error.retry_after, seconds.map(Duration::from_secs_f64));
    }
    let error = error_of(answer("503 Service Unavailable", &[("retry-after", "5")], "")).await;
    assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmTransient));
    assert_eq!(error.retry_after, Some(Duration::from_secs(5)));
    // An answer that is an error is no reply, but a gateway's patience says nothing of the model's.
    assert_eq!(error.usage, Some(Usage::default()));
    assert_eq!(error_of(answer("504 Gateway Timeout", &[], "")).await.usage, None);
    // An empty account does not fill up by waiting.
    let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let error = error_of(answer("429 Too Many Requests", &[("retry-after", "20")], body)).await;
    assert_eq!((error.kind, error.code), (FailureKind::Fatal, Code::LlmProviderQuota));
    assert_eq!(error.retry_after, None);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_told_apart_and_measured() {
    let body = r#"{"error":{"code":400,"message":"request (12031 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":12031,"n_ctx":8192}}"#;
    let error = error_of(json("400 Bad Request", body)).await;
    assert_eq!((error.kind, error.code), (FailureKind::ContextLength, Code::LlmContextLength));
    assert_eq!(error.usage.map(|usage| usage.input.0), Some(12_031));
}

#[tokio::test]
async fn only_what_surely_nobody_bills_counts_as_nothing() {
    let nothing = Some(Usage::default());
    let counting = r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#;
    let complaint = r#"{"error":{"message":"bad","type":"invalid_request_error"}}"#;
    for (acts, usage) in [
        (answer("302 Found", &[("location", "https://x.test")], ""), nothing),
        (answer("200 OK", &[("content-type", "text/html")], "<html>"), nothing),
        (answer("200 OK", &[], "hello"), nothing),
        (json("401 Unauthorized", complaint), nothing),
        (json("500 Internal Server Error", ""), nothing),
        // The model may have been at work.
        (json("408 Request Timeout", ""), None),
        (json("524 A Timeout Occurred", ""), None),
        (json("200 OK", complaint), None),
        (json("200 OK", "{"), None),
        (events(&[complaint]), None),
        (events(&[counting, complaint]), None),
        (events(&[counting, "{"]), None),
        (vec![stream_head(), send(counting)], None),
        (Vec::new(), None),
    ] {
        let error = error_of(acts.clone()).await;
        assert_eq!(error.usage, usage, "{error} {acts:?}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Server::start(vec![events(&[])]).await;
    for status in ["301 Moved Permanently", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let error = error_of(answer(status, &[("location", &other.base())], "")).await;
        assert_eq!((error.kind, error.code), (FailureKind::Fatal, Code::LlmUnreachable));
        assert!(error.message.contains(&other.base()), "{error}");
    }
    assert_eq!(other.asked().len(), 0, "nothing reached the other address");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named() {
    // A port that is taken, so that no other test gets it, and where nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let base = format!("http://{}/v1", socket.local_addr().expect("an address"));
    let error = ask(&device(&base).await, &question()).await.expect_err("nobody listens");
    assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmUnreachable));
    assert!(error.message.contains(&base) && error.message.contains("start the model server"));
    assert_eq!(error.usage, Some(Usage::default()), "nothing was sent");
    // A connection that closes before it answers is another matter.
    let error = error_of(Vec::new()).await;
    assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmTransient));
}

#[tokio::test]
async fn replies_at_and_past_the_largest_size() {
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let whole = 2 * "data: \n\n".len() + end.len() + "[DONE]".len();
    for (max_reply, fits) in [(whole - 1, false), (whole, true), (whole + 1, true)] {
        let server = Server::start(vec![vec![
            stream_head(),
            Act::Send(format!("data: {end}\n\ndata: [DONE]\n\n").into()),
        ]])
        .await;
        let options = Options { max_reply, ..Options::default() };
        let device = device_with("gpt-4o-mini", &server.base(), options).await;
        match ask(&device, &question()).await {
            Ok(reply) => assert!(fits && reply.raw.expect("a wire").len() == whole),
            Err(error) => {
                assert!(!fits, "{error}");
                assert_eq!((error.kind, error.code), (FailureKind::Transient, Code::LlmProtocol));
            }
        }
    }
}
