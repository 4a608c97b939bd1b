//! Servers on this machine, asked what they serve.

use aosk_abi::{Code, Tokens};
use aosk_llm::{Endpoint, Models, Options, Remote, Served, discover};
use aosk_ports::{CallError, Device, ServerLoad};

use crate::server::{Act, Asked, Server, answer, json};

/// A server that answers first about its models, then about its properties.
async fn serving(models: &str, props: Vec<Act>) -> Server {
    Server::start(vec![json("200 OK", models), props]).await
}

fn absent() -> Vec<Act> {
    json(
        "404 Not Found",
        r#"{"error":{"message":"File Not Found","type":"not_found_error","code":404}}"#,
    )
}

async fn connect(server: &Server, name: &str) -> Result<Remote, CallError> {
    let base = server.base();
    let env = move |name: &str| (name == "OPENAI_BASE_URL").then(|| base.clone());
    let (spec, endpoint) = Models::embedded().select(name, &env).expect("loopback");
    Remote::connect(spec, endpoint, Options::default()).await
}

const LLAMA: &str = r#"{"object":"list","data":[{"id":"/models/smol.gguf","object":"model","owned_by":"llamacpp","meta":{"n_ctx":32768,"n_ctx_train":8192}}]}"#;
const PROPS: &str =
    r#"{"default_generation_settings":{"n_ctx":8192},"total_slots":3,"model_path":"x"}"#;

#[tokio::test]
async fn llama_cpp_tells_the_window_of_a_slot_and_the_slots() {
    let server = serving(LLAMA, json("200 OK", PROPS)).await;
    let device = connect(&server, "local").await.expect("a device");
    let info = device.info();
    assert_eq!((info.name.as_str(), info.model.as_str()), ("local", "/models/smol.gguf"));
    assert_eq!((info.window, info.max_output, info.slots), (Tokens(8192), Tokens(1024), 3));
    let asked = server.asked();
    assert!(
        asked[0].head.starts_with("GET /v1/models ") && asked[1].head.starts_with("GET /props ")
    );
}

#[tokio::test]
async fn the_address_of_the_anthropic_dialect_ends_before_the_version_or_behind_it() {
    for version in ["", "/", "/v1", "/v1/"] {
        let server = serving(LLAMA, json("200 OK", PROPS)).await;
        let base = format!("http://{}{version}", server.address);
        let env = |name: &str| (name == "ANTHROPIC_BASE_URL").then(|| base.clone());
        let (spec, endpoint) = Models::embedded().select("local-anthropic", &env).expect("here");
        let device = Remote::connect(spec, endpoint, Options::default()).await.expect("a device");
        assert_eq!((device.info().window, device.info().slots), (Tokens(8192), 3));
        let asked = server.asked();
        assert!(asked[0].head.starts_with("GET /v1/models "), "{version}: {}", asked[0].head);
        assert!(asked[1].head.starts_with("GET /props "), "{version}: {}", asked[1].head);
    }
}

#[tokio::test]
async fn others_tell_less_and_the_table_fills_in() {
    // vLLM.
    let server = serving(r#"{"data":[{"id":"q","max_model_len":2048}]}"#, absent()).await;
    let device = connect(&server, "local").await.expect("a device");
    // A quarter of a small window is what a reply may take.
    assert_eq!(device.info().window, Tokens(2048));
    assert_eq!((device.info().max_output, device.info().slots), (Tokens(512), 4));
    // llama.cpp without its properties.
    let server = serving(LLAMA, absent()).await;
    let device = connect(&server, "local").await.expect("a device");
    assert_eq!(device.info().window, Tokens(32_768));
    // Ollama.
    let server = serving(r#"{"data":[{"id":"a:latest"},{"id":"b:7b"}]}"#, absent()).await;
    let device = connect(&server, "b:7b").await.expect("a device");
    assert_eq!((device.info().model.as_str(), device.info().window), ("b:7b", Tokens(4096)));
}

#[tokio::test]
async fn what_is_not_served_is_said_with_what_is() {
    let two = r#"{"data":[{"id":"a:latest"},{"id":"b:7b"}]}"#;
    let server = serving(two, absent()).await;
    let error = connect(&server, "local").await.expect_err("which one?");
    assert_eq!(error.code, Code::LlmUnknownModel);
    assert!(error.message.contains("a:latest, b:7b"), "{error}");
    let server = serving(two, absent()).await;
    let error = connect(&server, "b:8b").await.expect_err("not served");
    assert!(error.message.contains("did you mean \"b:7b\"?"), "{error}");
    let server = serving(r#"{"data":[]}"#, absent()).await;
    assert!(connect(&server, "local").await.expect_err("none").message.contains("serves no model"));
    let server = serving("<html>", absent()).await;
    assert_eq!(connect(&server, "local").await.expect_err("no list").code, Code::LlmProtocol);
    // A server with one model answers under any name.
    let server = serving(LLAMA, json("200 OK", PROPS)).await;
    let device = connect(&server, "smol").await.expect("a device");
    assert_eq!((device.info().model.as_str(), device.info().window), ("smol", Tokens(8192)));
}

#[tokio::test]
async fn a_server_can_be_asked_without_a_device() {
    let server = serving(LLAMA, json("200 OK", PROPS)).await;
    let endpoint = Endpoint::new("test", &server.base(), None).expect("valid");
    let found = discover(&endpoint, Options::default()).await.expect("an answer");
    let served = Served { id: "/models/smol.gguf".to_owned(), window: Some(Tokens(8192)) };
    assert_eq!((found.models, found.slots), (vec![served], Some(3)));
}

/// As vLLM documents it, with a histogram and a counter that say nothing of the load.
const VLLM: &str = "\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine=\"0\",model_name=\"q\"} 8.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine=\"0\",model_name=\"q\"} 2.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"q\"} 0.4375
# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"q\"} 12345.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine=\"0\",model_name=\"q\"} 1.2345e+06
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine=\"0\",model_name=\"q\"} 67890.0
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine=\"0\",le=\"0.001\",model_name=\"q\"} 0.0
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",engine=\"0\",num_gpu_blocks=\"2048\"} 1.0
";

#[tokio::test]
async fn vllm_tells_its_load_and_nobody_else_is_asked() {
    let models = json("200 OK", r#"{"data":[{"id":"q","max_model_len":2048}]}"#);
    let metrics = answer("200 OK", &[("content-type", "text/plain; version=0.0.4")], VLLM);
    // Slots come first or behind; vLLM has none, and what it says in their place are no slots.
    let server = Server::start(vec![models, absent(), metrics]).await;
    let device = connect(&server, "local").await.expect("a device");
    let load = device.load().expect("it can be asked").await;
    let expected = ServerLoad {
        slots: None,
        running: Some(8),
        waiting: Some(2),
        kv_tokens: Some(32_768),
        kv_used_milli: Some(438),
        read: Some(1_234_500),
        written: Some(67_890),
    };
    assert_eq!(load, Some(expected));
    let asked: Vec<String> = server.asked()[2..].iter().map(first_line).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for path in ["GET /slots ", "GET /metrics "] {
        assert!(asked.iter().any(|line| line.starts_with(path)), "{asked:?}");
    }
}

fn first_line(asked: &Asked) -> String {
    asked.head.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_server_that_tells_nothing_or_hangs_is_no_error_and_a_provider_is_asked_where_the_table_says()
 {
    let models = json("200 OK", r#"{"data":[{"id":"q","max_model_len":2048}]}"#);
    for answer in [absent(), json("200 OK", "{}"), vec![Act::Hang]] {
        let server = Server::start(vec![models.clone(), absent(), answer]).await;
        let device = connect(&server, "local").await.expect("a device");
        assert_eq!(device.load().expect("it can be asked").await, None);
    }
    // One that is not on this machine is asked only where its table says so.
    for (line, can) in [("", false), ("metrics = true\n", true), ("metrics = false\n", false)] {
        let mut models = Models::embedded();
        let table = format!(
            "[providers.far]\ndialect = \"openai\"\nbase_url = \"http://10.0.0.1/v1\"\n{line}\
             [models.m]\nprovider = \"far\"\nid = \"m\"\nslots = 4\nwindow = 1000\nmax_output = 100\n\
             price = {{ input = 0.0, output = 0.0 }}\n"
        );
        models.extend_toml(&table, "models.toml").expect("a table");
        let (spec, endpoint) = models.select("m", &|_| None).expect("an endpoint");
        let device = Remote::connect(spec, endpoint, Options::default()).await.expect("a device");
        assert_eq!(device.load().is_some(), can, "{line:?}");
    }
}
