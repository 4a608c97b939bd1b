//! What a model does not take, told before an agent begins.

use aosk_abi::{Sampling, ToolCalls};
use aosk_llm::{Models, Options, Recorder, Remote, Scripted};
use aosk_ports::{Demand, Device, Request};

use crate::server::{Server, answer, json};
use crate::support::question;

async fn device(model: &str) -> Remote {
    let env = |name: &str| name.ends_with("_API_KEY").then(|| "k".to_owned());
    let (spec, endpoint) = Models::embedded().select(model, &env).expect("a model");
    Remote::connect(spec, endpoint, Options::default()).await.expect("a device")
}

fn warm(temperature: f64) -> Request {
    let sampling = Sampling { temperature: Some(temperature), ..Sampling::default() };
    Request { sampling, ..question() }
}

fn seeded() -> Request {
    Request { sampling: Sampling { seed: Some(7), ..Sampling::default() }, ..question() }
}

fn constrained() -> Request {
    Request { tool_calls: ToolCalls::Constrained, ..question() }
}

/// What the device says to a request before it is made, and that it says the same to it.
fn answer_of(device: &dyn Device, request: &Request) -> Option<String> {
    let demand = Demand {
        sampling: &request.sampling,
        tool_calls: request.tool_calls,
        has_tools: !request.tools.is_empty(),
    };
    let told = device.accepts(&demand).err();
    assert_eq!(told, device.render(request).err(), "the same in the middle of a run");
    told.map(|error| error.to_string())
}

#[tokio::test]
async fn what_a_model_does_not_take_is_refused_alike_before_it_begins_and_when_it_is_asked() {
    let without_tools = || Request { tools: [].into(), ..constrained() };
    let schema =
        "a schema for its replies: remove `tool_calls = \"constrained\"` from the manifest";
    let heat = |asked: &str| format!("a temperature{asked}` from the manifest's [sampling]");
    let seed = "a seed: remove `seed = 7` from the manifest's [sampling]";
    for (model, request, refused) in [
        ("gpt-5-mini", warm(0.2), Some(heat(": remove `temperature = 0.2"))),
        ("gpt-5-mini", seeded(), None),
        ("gpt-5-mini", constrained(), None),
        ("gpt-4.1", warm(2.0), None),
        ("claude-opus-5-5", warm(0.2), Some(heat(": remove `temperature = 0.2"))),
        ("claude-haiku-4-5", warm(0.99), None),
        ("claude-haiku-4-5", warm(1.0), None),
        ("claude-haiku-4-5", warm(1.01), Some(heat(" above 1: remove `temperature = 1.01"))),
        ("claude-haiku-4-5", seeded(), Some(seed.to_owned())),
        ("claude-haiku-4-5", constrained(), Some(schema.to_owned())),
        // Without a tool there is nothing to hold a reply to.
        ("claude-haiku-4-5", without_tools(), None),
        ("deepseek-flash", warm(2.0), None),
        ("deepseek-flash", constrained(), Some(schema.to_owned())),
        ("deepseek-flash", without_tools(), None),
        ("kimi-k3", warm(0.2), Some(heat(": remove `temperature = 0.2"))),
        ("kimi-k3", constrained(), None),
    ] {
        let device = device(model).await;
        let refused = refused
            .map(|what| format!("the model {model:?} does not take {what}, or name another model"));
        assert_eq!(answer_of(&device, &request), refused, "{model}");
    }
}

#[tokio::test]
async fn a_device_that_records_or_plays_takes_what_its_dialect_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.ndjson");
    let recorder = Recorder::create(device("claude-haiku-4-5").await, &path).expect("a new file");
    let played = Scripted::open(&path).expect("a cassette");
    for device in [&recorder as &dyn Device, &played] {
        assert!(
            answer_of(device, &seeded()).is_some() && answer_of(device, &constrained()).is_some()
        );
        assert_eq!(answer_of(device, &warm(0.5)), None);
    }
}

#[tokio::test]
async fn the_manual_names_the_models_that_refuse_and_no_others() {
    let manual = include_str!("../../../../docs/manifest.md");
    let (_, manual) = manual.split_once("## What models do not take").expect("a chapter");
    let row = |key: &str| {
        let start = format!("| {key} | ");
        let row = manual.lines().find_map(|line| line.strip_prefix(&start));
        row.unwrap_or_else(|| panic!("no row of {key}")).to_owned()
    };
    let names = |text: &str, model: &str| text.contains(&format!("`{model}`"));
    let temperature = row("`sampling.temperature`");
    let above = temperature.clone() + &row("`sampling.temperature` above 1");
    let (_, thoughts) = manual.split_once("### Thoughts and the tail").expect("a chapter");
    let models = Models::embedded();
    for model in models.names() {
        let spec = models.resolve(model).expect("a model");
        let served = json("200 OK", r#"{"data":[{"id":"m"}]}"#);
        let server = Server::start(vec![served, answer("404 Not Found", &[], "")]).await;
        let base = spec.provider.loopback.then(|| server.base());
        let env = |name: &str| match name {
            name if name.ends_with("_API_KEY") => Some("k".to_owned()),
            name if name.ends_with("_BASE_URL") => base.clone(),
            _ => None,
        };
        let bound = spec.quirks.bound_thinking;
        let (spec, endpoint) = models.select(model, &env).expect("an endpoint");
        let device = Remote::connect(spec, endpoint, Options::default()).await.expect("a device");
        let refuses = |request| answer_of(&device, &request).is_some();
        assert_eq!(names(&temperature, model), refuses(warm(0.2)), "{model}");
        assert_eq!(names(&above, model), refuses(warm(1.5)), "{model}");
        assert_eq!(names(&row("`sampling.seed`"), model), refuses(seeded()), "{model}");
        let schema = row("`tool_calls = \"constrained\"`");
        assert_eq!(names(&schema, model), refuses(constrained()), "{model}");
        assert_eq!(names(thoughts, model), bound, "{model}");
    }
}
