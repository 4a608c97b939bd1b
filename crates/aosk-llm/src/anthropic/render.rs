//! From a request to the bytes that leave.
//!
//! ```text
//! {"tools":[…],"system":[…],"messages":[{…},…,{"role":"user","content":[b₁,…,bₙ   ,tail]}],"model":…}
//! └──────────────── prompt bytes, in the body with up to 4 marks ──────────────┘
//! ```
//!
//! The prompt bytes are those of the blocks *without* marks, and the prompt's hash covers them: a
//! conversation that only grew has prompt bytes that only grew, although its marks moved. Taking the
//! marks out of a body that left gives its prompt bytes back. The tail is the last block of the last
//! message, behind the last mark. A cached token costs a tenth to a fortieth of a fresh one here, and
//! a written one a quarter more, so a mark behind the tail would make every call pay for writing what
//! no call reads.
//!
//! Neighbours of one role are one message, as the API demands. Text that is empty or all white space
//! is left out, because the API refuses it and nothing is said in it.

use std::time::Duration;

use aosk_abi::{Hash, Role, ToolCalls};
use aosk_ports::{Message, Part, RenderError, Rendered, Request};

use super::BLOCK_FORMAT;
use super::prompt::{Place, Prompt};
use crate::json::{write_string, write_value};
use crate::models::Quirks;
use crate::sendable::{self, no_form};

/// The version of these bytes and their dialect; changes whenever the prompt bytes of any request
/// would.
const RENDER: &str = "1/anthropic";

/// The headers of every call.
const HEADERS: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

/// The same for a model whose thinking is bound to what stood before it.
const BOUND_HEADERS: &[(&str, &str)] = &[
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "thinking-binding-controls-2026-08-01"),
];

/// Renders requests for one model of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Renderer {
    /// What the endpoint calls the model.
    pub model: String,
    /// Where it leaves the common path.
    pub quirks: Quirks,
    /// The bound of a call's time.
    pub timeout: Duration,
}

impl Renderer {
    /// The headers of a call.
    pub const fn headers(&self) -> &'static [(&'static str, &'static str)] {
        if self.quirks.bound_thinking { BOUND_HEADERS } else { HEADERS }
    }

    /// The bytes of `request`.
    pub fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        if request.tool_calls == ToolCalls::Constrained && !request.tools.is_empty() {
            return Err(RenderError(
                "the anthropic dialect holds no reply to a schema: remove `tool_calls = \
                 \"constrained\"` from the manifest, or name a model of the openai dialect"
                    .to_owned(),
            ));
        }
        let prompt = prompt(request)?;
        let prompt_bytes = prompt.bytes().into();
        let hash = Hash::of(prompt.bytes());
        let prompt_len = prompt.bytes().len() as u64;
        let tail = request.tail.as_deref().filter(|tail| is_said(tail)).map(text_block);
        let mut body = prompt.close(tail.as_deref());
        self.settings(&mut body, request)?;
        body.push('}');
        Ok(Rendered {
            render: RENDER.to_owned(),
            body: body.into_bytes().into(),
            prompt: hash,
            prompt_len,
            prompt_bytes,
            timeout: self.timeout,
        })
    }

    fn settings(&self, out: &mut String, request: &Request) -> Result<(), RenderError> {
        out.push_str(",\"model\":");
        write_string(out, &self.model);
        out.push_str(&format!(",\"stream\":true,\"max_tokens\":{}", request.max_output));
        if let Some(temperature) = request.sampling.temperature {
            if !self.quirks.temperature {
                return Err(sendable::no_temperature(&self.model, temperature));
            }
            out.push_str(",\"temperature\":");
            write_value(out, &temperature.into());
        }
        if let Some(seed) = request.sampling.seed {
            return Err(RenderError(format!(
                "the anthropic dialect has no seed: remove `seed = {seed}` from the manifest's \
                 [sampling]"
            )));
        }
        if !request.tools.is_empty() && !request.may_call {
            out.push_str(",\"tool_choice\":{\"type\":\"none\"}");
        }
        if self.quirks.bound_thinking {
            // A block whose past was changed, by eviction or by the tail that is gone, would refuse
            // every further call; dropped, it costs the thought alone.
            out.push_str(
                ",\"thinking\":{\"type\":\"adaptive\",\"block_binding\":{\
                 \"prefix_mismatch_behavior\":\"drop_block\"}}",
            );
        }
        Ok(())
    }
}

fn prompt(request: &Request) -> Result<Prompt, RenderError> {
    let mut prompt = Prompt::default();
    for tool in request.tools.iter() {
        let mut block = String::from("{\"name\":");
        write_string(&mut block, &tool.name);
        block.push_str(",\"description\":");
        write_string(&mut block, &tool.description);
        block.push_str(",\"input_schema\":");
        write_value(&mut block, &tool.parameters);
        block.push('}');
        prompt.push(Place::Tools, true, &block);
    }
    let mut messages = request.messages.as_slice();
    if let Some((first, rest)) = messages.split_first()
        && first.role == Role::System
    {
        texts(&mut prompt, Place::System, "system", first)?;
        messages = rest;
    }
    for message in messages {
        match message.role {
            Role::System => {
                return Err(RenderError(
                    "a system message can only be the first in the anthropic dialect".to_owned(),
                ));
            }
            Role::User => texts(&mut prompt, Place::User, "user", message)?,
            Role::Assistant => assistant(&mut prompt, message)?,
            Role::Tool => results(&mut prompt, message)?,
        }
    }
    Ok(prompt)
}

fn texts(
    prompt: &mut Prompt,
    place: Place,
    role: &str,
    message: &Message,
) -> Result<(), RenderError> {
    for part in message.parts.iter() {
        let Part::Text(text) = part else {
            return Err(no_form(role, part));
        };
        if is_said(text) {
            prompt.push(place, true, &text_block(text));
        }
    }
    Ok(())
}

fn assistant(prompt: &mut Prompt, message: &Message) -> Result<(), RenderError> {
    for part in message.parts.iter() {
        match part {
            Part::Text(text) if is_said(text) => {
                prompt.push(Place::Assistant, true, &text_block(text));
            }
            Part::Text(_) => {}
            Part::ToolCall { id, name, arguments } => {
                let mut block = String::from("{\"type\":\"tool_use\",\"id\":");
                write_string(&mut block, &sendable::id(id));
                block.push_str(",\"name\":");
                write_string(&mut block, &sendable::name(name));
                block.push_str(",\"input\":");
                block.push_str(&sendable::arguments(arguments));
                block.push('}');
                prompt.push(Place::Assistant, true, &block);
            }
            // A block of another dialect means nothing here.
            Part::Opaque { format, .. } if !format.starts_with(BLOCK_FORMAT) => {}
            Part::Opaque { format, bytes } => {
                let block = std::str::from_utf8(bytes)
                    .ok()
                    .filter(|block| crate::json::is_object(block) && block.ends_with('}'))
                    .ok_or_else(|| {
                        RenderError(format!("an opaque block of format {format:?} is no object"))
                    })?;
                prompt.push(Place::Assistant, false, block);
            }
            Part::ToolResult { .. } => return Err(no_form("assistant", part)),
        }
    }
    Ok(())
}

fn results(prompt: &mut Prompt, message: &Message) -> Result<(), RenderError> {
    for part in message.parts.iter() {
        let Part::ToolResult { call, text, failed, .. } = part else {
            return Err(no_form("tool", part));
        };
        let mut block = String::from("{\"type\":\"tool_result\",\"tool_use_id\":");
        write_string(&mut block, &sendable::id(call));
        block.push_str(",\"content\":");
        write_string(&mut block, text);
        if *failed {
            block.push_str(",\"is_error\":true");
        }
        block.push('}');
        prompt.push(Place::User, true, &block);
    }
    Ok(())
}

fn text_block(text: &str) -> String {
    let mut block = String::from("{\"type\":\"text\",\"text\":");
    write_string(&mut block, text);
    block.push('}');
    block
}

/// Whether there is anything in it.
fn is_said(text: &str) -> bool {
    !text.trim().is_empty()
}
