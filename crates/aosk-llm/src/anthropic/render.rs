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
//! a written one a quarter more or twice as much, so a mark behind the tail would make every call pay for
//! writing what no call reads.
//!
//! Neighbours of one role are one message, as the API demands. Text that is empty or all white space
//! is left out, because the API refuses it and nothing is said in it. It refuses a message that ends
//! with a thought as well; one does where its reply was cut off or the text behind it was evicted.
//! And it refuses a thought without a signature; after a fallback those of a server on this machine
//! stand in the conversation. Both stay out.

use aosk_abi::Role;
use aosk_ports::{Message, Part, RenderError, Rendered, Request};

use super::prompt::{Place, Prompt};
use super::wire::ThinkingBlock;
use super::{BLOCK_FORMAT, THINKING, is_thought};
use crate::json::{write_string, write_value};
use crate::quirks::Quirks;
use crate::sendable::{self, no_form};
use crate::speech::Speech;

/// The version of these bytes and their dialect; changes whenever the prompt bytes of any request
/// would.
const RENDER: &str = "2/anthropic";

/// The headers of every call.
const HEADERS: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

/// The same for a model whose thinking is bound to what stood before it.
const BOUND_HEADERS: &[(&str, &str)] = &[
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "thinking-binding-controls-2026-08-01"),
];

/// The headers of a call.
pub(crate) const fn headers(quirks: &Quirks) -> &'static [(&'static str, &'static str)] {
    if quirks.bound_thinking { BOUND_HEADERS } else { HEADERS }
}

/// The bytes of `request`, which `speech` accepts.
pub(crate) fn render(speech: &Speech, request: &Request) -> Result<Rendered, RenderError> {
    let prompt = prompt(&speech.quirks, request)?;
    let bytes = prompt.bytes().into();
    let tail = request.tail.as_deref().filter(|tail| is_said(tail)).map(text_block);
    let mut body = prompt.close(request.life, tail.as_deref());
    settings(&mut body, speech, request);
    body.push('}');
    Ok(speech.rendered(RENDER, bytes, body))
}

fn settings(out: &mut String, speech: &Speech, request: &Request) {
    out.push_str(",\"model\":");
    write_string(out, &speech.model);
    out.push_str(&format!(",\"stream\":true,\"max_tokens\":{}", request.max_output));
    if let Some(temperature) = request.sampling.temperature {
        out.push_str(",\"temperature\":");
        write_value(out, &temperature.into());
    }
    if !request.tools.is_empty() && !request.may_call {
        out.push_str(",\"tool_choice\":{\"type\":\"none\"}");
    }
    if speech.quirks.bound_thinking {
        // A block whose past was changed, by eviction or by the tail that is gone, would refuse
        // every further call; dropped, it costs the thought alone. With a tail that is each
        // thought, one turn later.
        out.push_str(
            ",\"thinking\":{\"type\":\"adaptive\",\"block_binding\":{\
             \"prefix_mismatch_behavior\":\"drop_block\"}}",
        );
    }
}

fn prompt(quirks: &Quirks, request: &Request) -> Result<Prompt, RenderError> {
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
    for (index, message) in request.messages.iter().enumerate() {
        match message.role {
            Role::System if index == 0 => {
                texts(&mut prompt, Place::System, "system", message)?;
            }
            Role::System => {
                return Err(RenderError(
                    "a system message can only be the first in the anthropic dialect".to_owned(),
                ));
            }
            Role::User => texts(&mut prompt, Place::User, "user", message)?,
            Role::Assistant => assistant(&mut prompt, quirks, message)?,
            Role::Tool => results(&mut prompt, message)?,
        }
        if index + 1 == request.settled {
            prompt.settle();
        }
        if index + 1 == request.lasting {
            prompt.outlast();
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

/// A block of the assistant's.
struct Said {
    block: String,
    /// Whether it may bear a mark.
    bears: bool,
    is_thought: bool,
}

impl Said {
    fn aloud(block: String) -> Self {
        Self { block, bears: true, is_thought: false }
    }
}

fn assistant(prompt: &mut Prompt, quirks: &Quirks, message: &Message) -> Result<(), RenderError> {
    let mut said = Vec::new();
    for part in message.parts.iter() {
        match part {
            Part::Text(text) if is_said(text) => said.push(Said::aloud(text_block(text))),
            Part::Text(_) => {}
            Part::ToolCall { id, name, arguments } => {
                let mut block = String::from("{\"type\":\"tool_use\",\"id\":");
                write_string(&mut block, &sendable::id(id));
                block.push_str(",\"name\":");
                write_string(&mut block, &sendable::name(name));
                block.push_str(",\"input\":");
                block.push_str(&sendable::arguments(arguments));
                block.push('}');
                said.push(Said::aloud(block));
            }
            Part::Opaque { format, bytes } => {
                // A block of another dialect means nothing here.
                let Some(kind) = format.strip_prefix(BLOCK_FORMAT) else {
                    continue;
                };
                let block = std::str::from_utf8(bytes)
                    .ok()
                    .filter(|block| crate::json::is_object(block) && block.ends_with('}'))
                    .ok_or_else(|| {
                        RenderError(format!("an opaque block of format {format:?} is no object"))
                    })?;
                if kind == THINKING && !quirks.unsigned_thinking && !is_signed(block) {
                    continue;
                }
                let is_thought = is_thought(kind);
                said.push(Said { block: block.to_owned(), bears: false, is_thought });
            }
            Part::ToolResult { .. } => return Err(no_form("assistant", part)),
        }
    }
    let end = said.iter().rposition(|said| !said.is_thought).map_or(0, |last| last + 1);
    for Said { block, bears, .. } in &said[..end] {
        prompt.push(Place::Assistant, *bears, block);
    }
    Ok(())
}

fn is_signed(thinking: &str) -> bool {
    serde_json::from_str::<ThinkingBlock>(thinking)
        .is_ok_and(|block| block.signature.is_some_and(|signature| !signature.is_empty()))
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
