//! From a request to the bytes that leave.
//!
//! The body begins with what the provider's cache is addressed by, tools and messages, and ends
//! with the rest:
//!
//! ```text
//! {"tools":[…],"messages":[m₁,m₂,…,mₙ   ,tail],"model":…,"stream":true,…}
//! └────────── prompt bytes ────────┘
//! ```
//!
//! Each message prints by itself, as a function of nothing but itself, so a conversation that only
//! grew has prompt bytes that only grew, and the hash of a plan can be checked against the body
//! that left. What varies between the turns of one conversation (the tail, whether tools may be
//! called, the sampling) stands behind. One cached token costs a tenth of a fresh one with the
//! large providers, so a byte that moves in front of the log costs up to ten times the whole prompt.

use std::sync::Arc;

use aosk_abi::{Role, ToolCalls};
use aosk_ports::{Message, Part, RenderError, Rendered, Request};

use super::constrained;
use crate::json::{write_string, write_value};
use crate::quirks::Quirks;
use crate::sendable::{self, no_form};
use crate::speech::Speech;
use crate::table::MaxOutputField;

/// The version of these bytes and their dialect; changes whenever the prompt bytes of any request
/// would.
pub(crate) const RENDER: &str = "1/openai";

/// The prefix of opaque blocks that are fields of an assistant message.
pub(crate) const FIELD_FORMAT: &str = "openai/";

/// The bytes of `request`, which `speech` accepts.
pub(crate) fn render(speech: &Speech, request: &Request) -> Result<Rendered, RenderError> {
    let mut body = prompt(&speech.quirks, request)?;
    let prompt: Arc<[u8]> = body.as_bytes().into();
    if let Some(tail) = &request.tail {
        separate(&mut body);
        text_message(&mut body, "user", &[tail.as_str()]);
    }
    body.push(']');
    settings(&mut body, speech, request);
    body.push('}');
    Ok(speech.rendered(RENDER, prompt, body))
}

fn prompt(quirks: &Quirks, request: &Request) -> Result<String, RenderError> {
    let mut out = String::with_capacity(4096);
    out.push('{');
    let constrained = is_constrained(request);
    if !request.tools.is_empty() && !constrained {
        out.push_str("\"tools\":[");
        for (index, tool) in request.tools.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str("{\"type\":\"function\",\"function\":{\"name\":");
            write_string(&mut out, &tool.name);
            out.push_str(",\"description\":");
            write_string(&mut out, &tool.description);
            out.push_str(",\"parameters\":");
            write_value(&mut out, &tool.parameters);
            out.push_str("}}");
        }
        out.push_str("],");
    }
    out.push_str("\"messages\":[");
    let mut messages = request.messages.as_slice();
    if constrained {
        // The tools of a constrained conversation are text, at the end of the system message.
        let tools = constrained::describe(&request.tools);
        let mut texts = Vec::new();
        if let Some((first, rest)) = messages.split_first()
            && first.role == Role::System
        {
            texts = plain_texts(first)?;
            messages = rest;
        }
        let system = texts.iter().copied().chain([tools.as_str()]).collect::<Vec<_>>();
        text_message(&mut out, "system", &[system.join("\n\n").as_str()]);
    }
    for message in messages {
        push_message(quirks, &mut out, message, constrained)?;
    }
    Ok(out)
}

fn push_message(
    quirks: &Quirks,
    out: &mut String,
    message: &Message,
    constrained: bool,
) -> Result<(), RenderError> {
    match message.role {
        Role::System => {
            separate(out);
            text_message(out, "system", &plain_texts(message)?);
        }
        Role::User => {
            separate(out);
            text_message(out, "user", &plain_texts(message)?);
        }
        Role::Assistant if constrained => {
            separate(out);
            text_message(out, "assistant", &[constrained::said(&message.parts)?.as_str()]);
        }
        Role::Assistant => {
            separate(out);
            assistant(quirks, out, &message.parts)?;
        }
        Role::Tool => {
            for part in message.parts.iter() {
                let Part::ToolResult { call, name, text, .. } = part else {
                    return Err(no_form("tool", part));
                };
                separate(out);
                if constrained {
                    text_message(out, "user", &[constrained::result(name, text).as_str()]);
                    continue;
                }
                out.push_str("{\"role\":\"tool\",\"tool_call_id\":");
                write_string(out, call);
                out.push_str(",\"content\":");
                write_string(out, text);
                out.push('}');
            }
        }
    }
    Ok(())
}

fn assistant(quirks: &Quirks, out: &mut String, parts: &[Part]) -> Result<(), RenderError> {
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    let mut fields = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => texts.push(text.as_ref()),
            Part::ToolCall { id, name, arguments } => calls.push((id, name, arguments)),
            Part::Opaque { format, bytes } => {
                // A block of another dialect, or one that this endpoint does not want back.
                let Some(field) = format
                    .strip_prefix(FIELD_FORMAT)
                    .filter(|field| quirks.echo.iter().any(|wanted| wanted == field))
                else {
                    continue;
                };
                let text = std::str::from_utf8(bytes).map_err(|_| {
                    RenderError(format!("an opaque block of format {format:?} is not UTF-8"))
                })?;
                fields.push((field, text));
            }
            Part::ToolResult { .. } => return Err(no_form("assistant", part)),
        }
    }
    out.push_str("{\"role\":\"assistant\",\"content\":");
    if texts.is_empty() && !calls.is_empty() {
        out.push_str("null");
    } else {
        content(out, &texts);
    }
    for (field, text) in fields {
        out.push(',');
        write_string(out, field);
        out.push(':');
        write_string(out, text);
    }
    if !calls.is_empty() {
        out.push_str(",\"tool_calls\":[");
        for (index, (id, name, arguments)) in calls.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str("{\"id\":");
            write_string(out, id);
            out.push_str(",\"type\":\"function\",\"function\":{\"name\":");
            write_string(out, &sendable::name(name));
            out.push_str(",\"arguments\":");
            write_string(out, &sendable::arguments(arguments));
            out.push_str("}}");
        }
        out.push(']');
    }
    out.push('}');
    Ok(())
}

fn settings(out: &mut String, speech: &Speech, request: &Request) {
    let quirks = &speech.quirks;
    out.push_str(",\"model\":");
    write_string(out, &speech.model);
    out.push_str(",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    let field = match quirks.max_output_field {
        MaxOutputField::MaxTokens => "max_tokens",
        MaxOutputField::MaxCompletionTokens => "max_completion_tokens",
    };
    out.push_str(&format!(",\"{field}\":{}", request.max_output));
    if let Some(temperature) = request.sampling.temperature {
        out.push_str(",\"temperature\":");
        write_value(out, &temperature.into());
    }
    if let Some(seed) = request.sampling.seed {
        out.push_str(&format!(",\"seed\":{seed}"));
    }
    if is_constrained(request) {
        out.push_str(",\"response_format\":");
        constrained::response_format(out, &request.tools, request.may_call);
    } else if !request.tools.is_empty() && !request.may_call {
        out.push_str(",\"tool_choice\":\"none\"");
    }
    if quirks.prompt_cache_key {
        out.push_str(",\"prompt_cache_key\":");
        write_string(out, &request.cache_key);
    }
    if quirks.cache_prompt {
        out.push_str(",\"cache_prompt\":true");
    }
    if let Some(slot) = request.slot {
        out.push_str(&format!(",\"id_slot\":{slot}"));
    }
}

/// Whether replies are held to a schema. Without a tool there is nothing to choose between.
pub(crate) fn is_constrained(request: &Request) -> bool {
    request.tool_calls == ToolCalls::Constrained && !request.tools.is_empty()
}

/// Puts a comma between messages.
fn separate(out: &mut String) {
    if !out.ends_with('[') {
        out.push(',');
    }
}

fn text_message(out: &mut String, role: &str, texts: &[&str]) {
    out.push_str("{\"role\":\"");
    out.push_str(role);
    out.push_str("\",\"content\":");
    content(out, texts);
    out.push('}');
}

/// One text is a string, several are a list of text parts; so no separator is invented.
fn content(out: &mut String, texts: &[&str]) {
    match texts {
        [] => out.push_str("\"\""),
        [text] => write_string(out, text),
        texts => {
            out.push('[');
            for (index, text) in texts.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str("{\"type\":\"text\",\"text\":");
                write_string(out, text);
                out.push('}');
            }
            out.push(']');
        }
    }
}

fn plain_texts(message: &Message) -> Result<Vec<&str>, RenderError> {
    let role = if message.role == Role::System { "system" } else { "user" };
    message
        .parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Ok(text.as_ref()),
            other => Err(no_form(role, other)),
        })
        .collect()
}
