//! Servers and providers that speak chat completions each in their own way: a reply of each, in the
//! form that its documentation gives, and the request that its table entry makes of it.

use aosk_abi::{Role, StopReason, Tokens, Usage};
use aosk_llm::{Models, Options, Remote};
use aosk_ports::{Device, Part, Reply};

use crate::server::{Server, answer, events, json};
use crate::support::{ask, question, said, text};

/// The reply of `model`, whose provider's address stands in `variable`, and its device. A server of
/// this machine is asked first what it serves.
async fn reply_of(model: &str, variable: &str, chunks: &[&str]) -> (Reply, Remote) {
    let spec = Models::embedded().resolve(model).expect("a model");
    let mut scripts = vec![events(chunks)];
    if spec.provider.loopback {
        let served = json("200 OK", r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#);
        scripts.splice(0..0, [served, answer("404 Not Found", &[], "")]);
    }
    let server = Server::start(scripts).await;
    let base = server.base();
    let env = |name: &str| (name == variable).then(|| base.clone());
    let (spec, endpoint) = Models::embedded().select(model, &env).expect("an endpoint");
    let device = Remote::connect(spec, endpoint, Options::default()).await.expect("a device");
    let reply = ask(&device, &question()).await.expect("a reply");
    assert_eq!(reply.stop, StopReason::Stop);
    assert_eq!(reply.parts.last(), Some(&Part::Text("391".into())), "{reply:?}");
    (reply, device)
}

fn thought(field: &str, words: &str) -> Part {
    Part::Opaque { format: format!("openai/{field}").into(), bytes: words.as_bytes().into() }
}

fn usage(input: u64, cached: u64, cache_write: u64, output: u64, reasoning: u64) -> Option<Usage> {
    Some(Usage {
        input: Tokens(input),
        cached: Tokens(cached),
        cache_write: Tokens(cache_write),
        cache_write_long: Tokens(0),
        output: Tokens(output),
        reasoning: Tokens(reasoning),
    })
}

/// Whether the thoughts of `reply` go back with it.
fn echoes(device: &Remote, reply: Reply) -> bool {
    let mut request = question();
    request.messages.extend([said(reply.parts), text(Role::User, "Sure?")]);
    let rendered = device.render(&request).expect("a form");
    let body = std::str::from_utf8(&rendered.body).expect("UTF-8").to_owned();
    body.contains(r#""content":"391","reasoning_content":"17 * 20 first""#)
}

#[tokio::test]
async fn deepseek_tells_hits_in_fields_of_its_own_and_wants_its_thoughts_back() {
    let chunk = |delta: &str, rest: &str| {
        format!(
            r#"{{"id":"d","object":"chat.completion.chunk","created":1,"model":"deepseek-flash","system_fingerprint":"fp","choices":[{{"index":0,"delta":{delta},"logprobs":null,{rest}}}"#
        )
    };
    let open = r#""finish_reason":null}]"#;
    let first = chunk(r#"{"role":"assistant","content":null,"reasoning_content":""}"#, open);
    let think = chunk(r#"{"content":null,"reasoning_content":"17 * 20 first"}"#, open);
    let say = chunk(r#"{"content":"391","reasoning_content":null}"#, open);
    let end = |usage: &str| {
        let rest = format!(r#""finish_reason":"stop"}}],"usage":{usage}"#);
        chunk(r#"{"content":"","reasoning_content":null}"#, &rest)
    };
    let all = r#"{"prompt_tokens":100,"completion_tokens":30,"total_tokens":130,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":20},"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}"#;
    let few = r#"{"prompt_tokens":100,"completion_tokens":30,"total_tokens":130,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}"#;
    for (told, used) in [(all, usage(100, 64, 0, 30, 20)), (few, usage(100, 64, 0, 30, 0))] {
        let chunks = [first.as_str(), &think, &say, &end(told)];
        let (reply, device) = reply_of("deepseek-flash", "DEEPSEEK_BASE_URL", &chunks).await;
        assert_eq!(reply.usage, used);
        assert_eq!(reply.parts[0], thought("reasoning_content", "17 * 20 first"));
        assert!(echoes(&device, reply));
    }
}

#[tokio::test]
async fn kimi_tells_its_usage_in_the_choice_and_hits_beside_the_counts() {
    let think = r#"{"id":"k","model":"kimi-k3","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":"17 * 20 first"},"finish_reason":null}]}"#;
    let say = r#"{"id":"k","model":"kimi-k3","choices":[{"index":0,"delta":{"content":"391"},"finish_reason":null}]}"#;
    let counts =
        r#"{"prompt_tokens":100,"completion_tokens":30,"total_tokens":130,"cached_tokens":64}"#;
    let in_choice = format!(
        r#"{{"id":"k","model":"kimi-k3","choices":[{{"index":0,"delta":{{}},"finish_reason":"stop","usage":{counts}}}]}}"#
    );
    let end =
        r#"{"id":"k","model":"kimi-k3","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let behind = format!(r#"{{"id":"k","model":"kimi-k3","choices":[],"usage":{counts}}}"#);
    for tail in [&[in_choice.as_str()][..], &[end, &behind]] {
        let chunks = [&[think, say], tail].concat();
        let (reply, device) = reply_of("kimi-k3", "MOONSHOT_BASE_URL", &chunks).await;
        assert_eq!(reply.usage, usage(100, 64, 0, 30, 0));
        assert!(echoes(&device, reply));
    }
}

#[tokio::test]
async fn qwen_tells_hits_and_what_it_wrote_in_the_details() {
    let think = r#"{"model":"qwen3.7-plus","choices":[{"index":0,"delta":{"content":null,"role":"assistant","reasoning_content":"17 * 20 first"},"finish_reason":null}],"usage":null}"#;
    let say = r#"{"model":"qwen3.7-plus","choices":[{"index":0,"delta":{"content":"391","reasoning_content":null},"finish_reason":"stop"}],"usage":null}"#;
    let end = |details: &str| {
        format!(
            r#"{{"model":"qwen3.7-plus","choices":[],"usage":{{"prompt_tokens":3000,"completion_tokens":30,"total_tokens":3030,"prompt_tokens_details":{details},"completion_tokens_details":{{"reasoning_tokens":20}}}}}}"#
        )
    };
    for (details, used) in [
        (r#"{"cached_tokens":2048}"#, usage(3_000, 2_048, 0, 30, 20)),
        (
            r#"{"cached_tokens":1024,"cache_creation":{"ephemeral_5m_input_tokens":1500},"cache_creation_input_tokens":1500,"cache_type":"ephemeral"}"#,
            usage(3_000, 1_024, 1_500, 30, 20),
        ),
    ] {
        let chunks = [think, say, &end(details)];
        let (reply, device) = reply_of("qwen3.7-plus", "DASHSCOPE_BASE_URL", &chunks).await;
        assert_eq!(reply.usage, used);
        assert!(!echoes(&device, reply));
    }
}

#[tokio::test]
async fn vllm_tells_hits_only_where_it_was_started_to() {
    let first = r#"{"id":"v","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#;
    let think = |field: &str| {
        format!(
            r#"{{"id":"v","model":"m","choices":[{{"index":0,"delta":{{"{field}":"17 * 20 first"}},"logprobs":null,"finish_reason":null}}]}}"#
        )
    };
    let say = r#"{"id":"v","model":"m","choices":[{"index":0,"delta":{"content":"391"},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}"#;
    let end = |details: &str| {
        format!(
            r#"{{"id":"v","model":"m","choices":[],"usage":{{"prompt_tokens":100,"total_tokens":130,"completion_tokens":30,"prompt_tokens_details":{details}}}}}"#
        )
    };
    for (field, details, cached) in
        [("reasoning_content", "null", 0), ("reasoning", r#"{"cached_tokens":96}"#, 96)]
    {
        let chunks = [first, &think(field), say, &end(details)];
        let (reply, _) = reply_of("vllm", "VLLM_BASE_URL", &chunks).await;
        assert_eq!(reply.usage, usage(100, cached, 0, 30, 0));
        assert_eq!(reply.parts[0], thought(field, "17 * 20 first"));
    }
}

#[tokio::test]
async fn ollama_tells_counts_and_nothing_of_its_cache() {
    let think = r#"{"id":"o","object":"chat.completion.chunk","model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"17 * 20 first"},"finish_reason":null}]}"#;
    let say = r#"{"id":"o","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"391"},"finish_reason":null}]}"#;
    let end = r#"{"id":"o","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}"#;
    let behind = r#"{"id":"o","model":"m","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":30,"total_tokens":130}}"#;
    let (reply, device) = reply_of("ollama", "OLLAMA_BASE_URL", &[think, say, end, behind]).await;
    assert_eq!(reply.usage, usage(100, 0, 0, 30, 0));
    assert_eq!(reply.parts[0], thought("reasoning", "17 * 20 first"));
    assert_eq!((device.info().model.as_str(), device.info().slots), ("m", 1));
}
