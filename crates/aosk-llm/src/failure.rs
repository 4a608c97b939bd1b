//! What a refused call means for the caller.
//!
//! The status alone does not say: 400 is a malformed request or a prompt that is too long, 429 a
//! full minute or an empty account. The first of each pair is worth replanning or waiting for,
//! the second is not, so the complaint's words are read too. Every message names the endpoint, what
//! it said and what to do next, and passes through the key's mask before it is cut, because a cut
//! could leave half a key behind.

use aosk_abi::{Code, FailureKind, Tokens, Usage};
use aosk_ports::CallError;
use reqwest::header::HeaderMap;

use crate::complaint::Complaint;
use crate::endpoint::Endpoint;
use crate::retry_after::retry_after;

/// The longest quotation of an endpoint's words in a message, in characters.
const QUOTE_MAX: usize = 1_000;

/// Phrases of context-length errors, lower-cased: OpenAI (two), llama.cpp (two, the second of a text
/// for a vector), vLLM (two), Ollama, Gemini, Anthropic (two).
const TOO_LONG: [&str; 10] = [
    "maximum context length",
    "exceeds the context window",
    "exceeds the available context size",
    "is too large to process",
    "longer than the maximum model length",
    "model's context length is only",
    "exceeds maximum context length",
    "exceeds the maximum number of tokens allowed",
    "prompt is too long",
    "exceed context limit",
];

/// Phrases of an account without money, lower-cased: Anthropic says both with status 400 and the
/// type `invalid_request_error`.
const NO_MONEY: [&str; 2] =
    ["credit balance is too low", "reached your specified api usage limits"];

/// An error of `kind` with `code`; nothing known of usage or time. A call without a usage may have
/// been billed, so it counts with all that was reserved for it.
pub(crate) fn error(kind: FailureKind, code: Code, message: String) -> CallError {
    CallError { kind, code, message, retry_after: None, usage: None }
}

/// The same for a call that no model can have begun to answer, so that nobody bills it.
pub(crate) fn unbilled(kind: FailureKind, code: Code, message: String) -> CallError {
    CallError { usage: Some(Usage::default()), ..error(kind, code, message) }
}

/// The error of an answer with an error status. Providers bill replies, and this is none, so
/// nothing was used; except that behind a gateway which gave up waiting the reply may go on.
pub(crate) fn refused(
    endpoint: &Endpoint,
    model: &str,
    status: u16,
    headers: &HeaderMap,
    body: &str,
) -> CallError {
    let complaint = Complaint::read(body)
        .unwrap_or_else(|| Complaint { message: body.trim().to_owned(), ..Complaint::default() });
    let mut error = classify(endpoint, model, Some(status), &complaint);
    if matches!(error.kind, FailureKind::Throttled | FailureKind::Transient) {
        error.retry_after = retry_after(headers);
    }
    if error.usage.is_none() && !matches!(status, 408 | 504 | 524) {
        error.usage = Some(Usage::default());
    }
    error
}

/// The error of a complaint in the middle of a stream, or in a reply with status 200. The model may
/// have been at work, so nothing is said of usage but where the complaint itself tells.
pub(crate) fn complained(endpoint: &Endpoint, model: &str, complaint: &Complaint) -> CallError {
    classify(endpoint, model, complaint.status, complaint)
}

fn classify(
    endpoint: &Endpoint,
    model: &str,
    status: Option<u16>,
    complaint: &Complaint,
) -> CallError {
    let lower = complaint.message.to_lowercase();
    let has = |words: &[&str]| complaint.words.iter().any(|word| words.contains(&word.as_str()));
    let said = match status {
        Some(status) => format!(
            "{} answered {status}: {}",
            endpoint.host(),
            quote(endpoint, &complaint.message)
        ),
        None => format!("{} reported: {}", endpoint.host(), quote(endpoint, &complaint.message)),
    };
    let make = |kind, code, next: &str| error(kind, code, format!("{said}; {next}"));

    let refuses_prompt = matches!(status, None | Some(400 | 413 | 422 | 500));
    if has(&["context_length_exceeded", "exceed_context_size_error"])
        || (refuses_prompt && TOO_LONG.iter().any(|phrase| lower.contains(phrase)))
    {
        let error = make(
            FailureKind::ContextLength,
            Code::LlmContextLength,
            "the prompt is longer than the endpoint's window: give a smaller `window` in the \
             manifest's [context]",
        );
        // The size lets the kernel plan anew with the right measure.
        let input = complaint.prompt_tokens.map(Tokens);
        return CallError {
            usage: input.map(|input| Usage { input, ..Usage::default() }),
            ..error
        };
    }
    if status == Some(402)
        || has(&["insufficient_quota", "billing_hard_limit_reached", "billing_error"])
        || NO_MONEY.iter().any(|phrase| lower.contains(phrase))
    {
        return make(
            FailureKind::Fatal,
            Code::LlmProviderQuota,
            "the account's money is used up: add credit with the provider",
        );
    }
    if has(&["model_not_found"]) {
        return unknown_model(&said, model);
    }
    match status {
        Some(401 | 403) => refused_key(&said, endpoint),
        Some(404) => unknown_model(&said, model),
        Some(429) => throttled(&said),
        Some(529) => overloaded(&said),
        Some(408 | 409 | 425) | Some(500..) => transient(&said),
        Some(400..) => make(
            FailureKind::Fatal,
            Code::LlmBadRequest,
            "the request itself is refused, so it is not repeated",
        ),
        _ if has(&["rate_limit_exceeded", "rate_limit_error", "tokens", "requests"]) => {
            throttled(&said)
        }
        _ if has(&["invalid_api_key", "authentication_error", "permission_error"]) => {
            refused_key(&said, endpoint)
        }
        _ if has(&["not_found_error"]) => unknown_model(&said, model),
        _ if has(&["invalid_request_error", "request_too_large"]) => make(
            FailureKind::Fatal,
            Code::LlmBadRequest,
            "the request itself is refused, so it is not repeated",
        ),
        _ => transient(&said),
    }
}

fn unknown_model(said: &str, model: &str) -> CallError {
    error(
        FailureKind::Fatal,
        Code::LlmUnknownModel,
        format!(
            "{said}; it does not serve {model:?} at this address: check the model's `id` in the \
             table of models, and that the base URL is the one that the provider names"
        ),
    )
}

fn refused_key(said: &str, endpoint: &Endpoint) -> CallError {
    let next = if endpoint.key().is_some() {
        "it refuses the key: check that the key is valid and belongs to this endpoint"
    } else {
        "no key was sent: set the provider's key"
    };
    error(FailureKind::Fatal, Code::LlmAuth, format!("{said}; {next}"))
}

fn throttled(said: &str) -> CallError {
    error(FailureKind::Throttled, Code::LlmThrottled, format!("{said}; it limits the rate"))
}

/// Anthropic's and others' word for too much to do: nothing is wrong with the call.
fn overloaded(said: &str) -> CallError {
    error(FailureKind::Throttled, Code::LlmThrottled, format!("{said}; it has too much to do"))
}

fn transient(said: &str) -> CallError {
    error(FailureKind::Transient, Code::LlmTransient, format!("{said}; it may pass"))
}

/// An endpoint's words, without the key, on one line, cut with the cut stated.
pub(crate) fn quote(endpoint: &Endpoint, text: &str) -> String {
    let masked = endpoint.mask(text);
    let line: String = masked.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.trim().is_empty() {
        return "(nothing)".to_owned();
    }
    let length = line.chars().count();
    if length <= QUOTE_MAX {
        return line;
    }
    let kept: String = line.chars().take(QUOTE_MAX).collect();
    format!("{kept}… ({QUOTE_MAX} of {length} characters)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn endpoint() -> Endpoint {
        Endpoint::new("test", "https://api.test/v1", Secret::new("sk-canary")).expect("valid")
    }

    #[test]
    fn the_words_decide_where_the_status_does_not() {
        use FailureKind::{ContextLength, Fatal, Throttled, Transient};
        let long =
            "This model's maximum context length is 4096 tokens. However, you requested 5000";
        let llama =
            "request (9 tokens) exceeds the available context size (8 tokens), try increasing it";
        let cases: &[(u16, String, FailureKind, Code)] = &[
            (400, format!(r#"{{"error":{{"message":"{long}","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}}}"#), ContextLength, Code::LlmContextLength),
            (400, format!(r#"{{"object":"error","message":"{long}","type":"BadRequestError","param":null,"code":400}}"#), ContextLength, Code::LlmContextLength),
            (400, format!(r#"{{"error":{{"code":400,"message":"{llama}","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}}}"#), ContextLength, Code::LlmContextLength),
            (400, r#"[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}]"#.into(), ContextLength, Code::LlmContextLength),
            (400, r#"{"error":{"message":"Invalid schema for function 'x'","type":"invalid_request_error","param":"tools","code":null}}"#.into(), Fatal, Code::LlmBadRequest),
            (422, r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#.into(), Fatal, Code::LlmBadRequest),
            (401, r#"{"error":{"message":"Incorrect API key provided: sk-canary.","type":"invalid_request_error","code":"invalid_api_key"}}"#.into(), Fatal, Code::LlmAuth),
            (403, "<html>forbidden</html>".into(), Fatal, Code::LlmAuth),
            (404, r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#.into(), Fatal, Code::LlmUnknownModel),
            (400, r#"{"error":{"message":"no such model","code":"model_not_found"}}"#.into(), Fatal, Code::LlmUnknownModel),
            (404, r#"{"error":"model 'x' not found"}"#.into(), Fatal, Code::LlmUnknownModel),
            (429, r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#.into(), Throttled, Code::LlmThrottled),
            (429, r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#.into(), Fatal, Code::LlmProviderQuota),
            (402, r#"{"error":{"message":"Insufficient Balance"}}"#.into(), Fatal, Code::LlmProviderQuota),
            (408, String::new(), Transient, Code::LlmTransient),
            (500, "oops".into(), Transient, Code::LlmTransient),
            (503, r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#.into(), Transient, Code::LlmTransient),
            (529, r#"{"error":{"message":"Overloaded"}}"#.into(), Throttled, Code::LlmThrottled),
        ];
        for (status, body, kind, code) in cases {
            let error = refused(&endpoint(), "x", *status, &HeaderMap::new(), body);
            assert_eq!((error.kind, error.code), (*kind, *code), "{status} {body}");
            assert!(error.message.contains("api.test") && !error.message.contains("sk-canary"));
        }
    }

    #[test]
    fn a_long_complaint_is_cut_and_says_so_and_the_key_is_masked_before() {
        let at = quote(&endpoint(), &"x".repeat(QUOTE_MAX));
        assert_eq!(at.len(), QUOTE_MAX);
        let above = quote(&endpoint(), &"x".repeat(QUOTE_MAX + 1));
        assert!(above.ends_with("… (1000 of 1001 characters)"), "{above}");
        // The key lies across the cut.
        let across =
            quote(&endpoint(), &format!("{}sk-canary and more", "x".repeat(QUOTE_MAX - 4)));
        assert!(!across.contains("sk-c") && across.contains("[key"), "{across}");
    }
}
