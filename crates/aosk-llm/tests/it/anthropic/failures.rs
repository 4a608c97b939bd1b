//! Calls that fail before a reply begins.

use std::time::Duration;

use aosk_abi::{Code, FailureKind, Usage};
use aosk_ports::CallError;

use super::device;
use crate::server::{Act, Server, answer, json};
use crate::support::{CANARY, ask, question};

async fn error_of(acts: Vec<Act>) -> CallError {
    let server = Server::start(vec![acts]).await;
    let error = ask(&device(&server.base()).await, &question()).await.expect_err("an error");
    assert!(error.message.contains(&server.address.to_string()), "{error}");
    assert_eq!(server.asked().len(), 1, "one attempt per call");
    error
}

fn complaint(kind: &str, message: &str) -> String {
    format!(
        r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"req_011"}}"#
    )
}

#[tokio::test]
async fn every_error_of_the_api_is_told_apart() {
    use FailureKind::{ContextLength, Fatal, Throttled, Transient};
    let bad = "invalid_request_error";
    for (status, kind, message, failure, code) in [
        (400, bad, "messages: roles must alternate", Fatal, Code::LlmBadRequest),
        (
            400,
            bad,
            "prompt is too long: 213462 tokens > 200000 maximum",
            ContextLength,
            Code::LlmContextLength,
        ),
        (
            400,
            bad,
            "input length and `max_tokens` exceed context limit: 213462 + 8192 > 200000, decrease",
            ContextLength,
            Code::LlmContextLength,
        ),
        (
            400,
            bad,
            "Your credit balance is too low to access the Anthropic API.",
            Fatal,
            Code::LlmProviderQuota,
        ),
        (
            400,
            bad,
            "You have reached your specified API usage limits.",
            Fatal,
            Code::LlmProviderQuota,
        ),
        (401, "authentication_error", "invalid x-api-key", Fatal, Code::LlmAuth),
        (402, "billing_error", "payment", Fatal, Code::LlmProviderQuota),
        (403, "permission_error", "not for this key", Fatal, Code::LlmAuth),
        (404, "not_found_error", "model: claude-9", Fatal, Code::LlmUnknownModel),
        (409, "conflict_error", "changed meanwhile", Transient, Code::LlmTransient),
        (413, "request_too_large", "Request exceeds the maximum size", Fatal, Code::LlmBadRequest),
        (
            429,
            "rate_limit_error",
            "This request would exceed the rate limit",
            Throttled,
            Code::LlmThrottled,
        ),
        (500, "api_error", "Internal server error", Transient, Code::LlmTransient),
        (504, "timeout_error", "Timed out", Transient, Code::LlmTransient),
        (529, "overloaded_error", "Overloaded", Throttled, Code::LlmThrottled),
    ] {
        let error = error_of(json(&format!("{status} X"), &complaint(kind, message))).await;
        assert_eq!((error.kind, error.code), (failure, code), "{status} {message}: {error}");
        assert!(error.message.contains(message), "{error}");
        let used = error.usage.map(|usage| usage.input.0);
        let expected = match failure {
            ContextLength => Some(213_462),
            // Behind a gateway that gave up waiting, the reply may go on.
            _ if status == 504 => None,
            _ => Some(0),
        };
        assert_eq!(used, expected, "{status} {message}");
    }
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let body = complaint("rate_limit_error", "too many");
    let now = ("date", "Sun, 06 Nov 1994 08:49:07 GMT");
    let used_up = [
        now,
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:08Z"),
        ("anthropic-ratelimit-output-tokens-remaining", "0"),
        ("anthropic-ratelimit-output-tokens-reset", "1994-11-06T08:49:52Z"),
    ];
    for (headers, seconds) in
        [(&[("retry-after", "17")][..], Some(17)), (&used_up, Some(45)), (&[now], None)]
    {
        let error = error_of(answer("429 Too Many Requests", headers, &body)).await;
        assert_eq!((error.kind, error.code), (FailureKind::Throttled, Code::LlmThrottled));
        assert_eq!(error.retry_after, seconds.map(Duration::from_secs));
        assert_eq!(error.usage, Some(Usage::default()));
    }
    let body = complaint("overloaded_error", "Overloaded");
    let error = error_of(answer("529 Overloaded", &[("retry-after", "3")], &body)).await;
    assert_eq!(
        (error.kind, error.retry_after),
        (FailureKind::Throttled, Some(Duration::from_secs(3)))
    );
}

#[tokio::test]
async fn a_refused_key_is_never_repeated_in_words() {
    for acts in [
        json("401 Unauthorized", &complaint("authentication_error", &format!("bad {CANARY}"))),
        answer("302 Found", &[("location", &format!("https://evil.test/{CANARY}"))], ""),
        answer("200 OK", &[("content-type", "text/html")], CANARY),
    ] {
        let error = error_of(acts).await;
        assert_eq!(error.kind, FailureKind::Fatal, "{error}");
        assert!(!format!("{error} {error:?}").contains(&CANARY[..12]), "{error}");
    }
    let server = Server::start(vec![Vec::new()]).await;
    assert!(!format!("{:?}", device(&server.base()).await).contains("canary"));
}
