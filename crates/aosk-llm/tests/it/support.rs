//! Short ways to devices, requests and calls.

use std::sync::{Arc, Mutex};

use aosk_abi::{CacheLife, Effect, Role, Sampling, Tokens, ToolCalls, ToolSpec};
use aosk_llm::{Models, Options, Remote};
use aosk_ports::{CallError, Delta, Device, Message, Part, Progress, Reply, Request};

/// A key that must never be seen again.
pub const CANARY: &str = "sk-canary-0123456789abcdef";

/// The model's device at `base`, with the canary key.
pub async fn device_with(model: &str, base: &str, options: Options) -> Remote {
    let models = Models::embedded();
    let base = base.to_owned();
    let env = move |name: &str| match name {
        "OPENAI_BASE_URL" => Some(base.clone()),
        "OPENAI_API_KEY" => Some(CANARY.to_owned()),
        _ => None,
    };
    let (spec, endpoint) = models.select(model, &env).expect("a model and its endpoint");
    Remote::connect(spec, endpoint, options).await.expect("a device")
}

pub async fn device(base: &str) -> Remote {
    device_with("gpt-4o-mini", base, Options::default()).await
}

pub fn text(role: Role, text: &str) -> Message {
    Message { role, parts: [Part::Text(text.into())].into() }
}

pub fn call(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

pub fn said(parts: impl Into<Arc<[Part]>>) -> Message {
    Message { role: Role::Assistant, parts: parts.into() }
}

pub fn result(call: &str, name: &str, text: &str) -> Message {
    result_that(false, call, name, text)
}

pub fn failed_result(call: &str, name: &str, text: &str) -> Message {
    result_that(true, call, name, text)
}

fn result_that(failed: bool, call: &str, name: &str, text: &str) -> Message {
    let (call, name, text) = (call.into(), name.into(), text.into());
    let part = Part::ToolResult { call, name, text, failed };
    Message { role: Role::Tool, parts: [part].into() }
}

pub fn calculator() -> ToolSpec {
    ToolSpec {
        name: "calculator".to_owned(),
        description: "Evaluate an arithmetic expression.".to_owned(),
        parameters: serde_json::json!({
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        }),
        effect: Effect::Pure,
    }
}

pub fn request(messages: Vec<Message>) -> Request {
    Request {
        messages,
        tail: None,
        tools: [].into(),
        may_call: true,
        tool_calls: ToolCalls::Native,
        max_output: Tokens(100),
        sampling: Sampling::default(),
        cache_key: "conversation".to_owned(),
        slot: None,
        settled: 0,
        lasting: 0,
        life: CacheLife::Short,
    }
}

/// A question with the calculator at hand.
pub fn question() -> Request {
    Request {
        tools: [calculator()].into(),
        ..request(vec![text(Role::System, "Be short."), text(Role::User, "What is 17 * 23?")])
    }
}

pub async fn ask(device: &dyn Device, request: &Request) -> Result<Reply, CallError> {
    let rendered = device.render(request).expect("a form");
    device.call(&rendered, request, &()).await
}

/// Hears everything.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<Delta>>);

impl Progress for Heard {
    fn delta(&self, delta: Delta) {
        self.0.lock().expect("whole").push(delta);
    }
}
