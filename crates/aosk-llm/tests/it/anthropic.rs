//! Anthropic's dialect.

mod events;
mod failures;
mod render;
mod stream;
mod thinking;

use aosk_llm::{Models, Options, Remote};
use aosk_ports::{Part, Reply};

use crate::server::{Act, Server, stream_head};
use crate::support::{CANARY, ask, question};

/// The model's device at `base`, with what the variables besides its address say.
async fn device_with(model: &str, base: &str, variables: &[(&str, &str)]) -> Remote {
    let env = |name: &str| {
        let set = variables.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        set.or((name == "ANTHROPIC_BASE_URL").then_some(base)).map(str::to_owned)
    };
    let (spec, endpoint) = Models::embedded().select(model, &env).expect("a model");
    Remote::connect(spec, endpoint, Options::default()).await.expect("a device")
}

/// The device at its provider's own address, which takes marks for an hour.
async fn device_of_its_own(base: &str) -> Remote {
    let mut models = Models::embedded();
    let table = format!("[providers.anthropic]\nbase_url = {base:?}");
    models.extend_toml(&table, "my.toml").expect("a table");
    let env = |name: &str| (name == "ANTHROPIC_API_KEY").then(|| CANARY.to_owned());
    let (spec, endpoint) = models.select("claude-haiku-4-5", &env).expect("a model");
    Remote::connect(spec, endpoint, Options::default()).await.expect("a device")
}

async fn device(base: &str) -> Remote {
    device_with("claude-haiku-4-5", base, &[("ANTHROPIC_API_KEY", CANARY)]).await
}

/// An event with its name, as the API sends it.
fn event(data: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(data).expect("JSON");
    format!("event: {}\ndata: {data}\n\n", value["type"].as_str().expect("a type"))
}

/// A stream of these events, and nothing behind them.
fn events(all: &[&str]) -> Vec<Act> {
    let events = all.iter().map(|data| Act::Send(event(data).into_bytes()));
    [stream_head()].into_iter().chain(events).collect()
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","content":[],"model":"claude-haiku-4-5-20251001","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

/// The event that says why the model stopped, after 15 tokens.
fn stopped(reason: &str) -> String {
    format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":15}}}}"#
    )
}

fn begun(index: u64, block: &str) -> String {
    format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#)
}

fn grown(index: u64, delta: &str) -> String {
    format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#)
}

fn ended(index: u64) -> String {
    format!(r#"{{"type":"content_block_stop","index":{index}}}"#)
}

fn text_block(index: u64, text: &str) -> Vec<String> {
    let piece = serde_json::json!({"type": "text_delta", "text": text}).to_string();
    vec![begun(index, r#"{"type":"text","text":""}"#), grown(index, &piece), ended(index)]
}

fn opaque(format: &str, block: &str) -> Part {
    Part::Opaque { format: format.into(), bytes: block.as_bytes().into() }
}

async fn reply_to(acts: Vec<Act>) -> Reply {
    let server = Server::start(vec![acts]).await;
    ask(&device(&server.base()).await, &question()).await.expect("a reply")
}

async fn reply_of(between: &[String], reason: &str) -> Reply {
    let stop = stopped(reason);
    let between = between.iter().map(String::as_str);
    let all: Vec<&str> = [START].into_iter().chain(between).chain([stop.as_str(), STOP]).collect();
    reply_to(events(&all)).await
}
