//! Tool calls for models that call tools badly: every reply is one JSON object of a given schema.
//!
//! A model of 135 million parameters ignores the endpoint's tool interface most of the time, but
//! a grammar leaves it no choice: it emits `{"tool":"calculator","arguments":{"expression":"6*7"}}`
//! or `{"tool":"final_answer","arguments":{"answer":"42"}}`. The tool stands before its
//! arguments, because the server builds the grammar in the order of the schema and the model must
//! choose first. Answers have the shape of calls, so there is one shape to learn.
//!
//! The tools are described in the system message. What the model said goes back letter for letter
//! as the assistant's text, results come as user messages, and no message's form depends on
//! another, so the prompt stays a prefix of the next one here too. The schema stands behind the
//! messages and may change with the turn: where no tool may be called it offers the answer alone.

use std::sync::Arc;

use aosk_abi::{StopReason, ToolSpec};
use aosk_ports::{Part, RenderError};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::exchange::CUT_ARGUMENTS;
use crate::json::{write_string, write_value};
use crate::sendable::no_form;

/// The tool that ends the task.
const FINAL: &str = "final_answer";

/// The format of the opaque block that keeps a reply's text where its parts do not give it back.
const TEXT_FORMAT: &str = "constrained/text";

/// How a reply begins, white space aside.
const HEAD: [&str; 3] = ["{", "\"tool\"", ":"];

/// What stands between the tool's name and its arguments.
const NECK: [&str; 3] = [",", "\"arguments\"", ":"];

/// What stands before the text of an answer.
const ANSWER: [&str; 3] = ["{", "\"answer\"", ":"];

/// The text that tells the model of its tools.
pub(super) fn describe(tools: &[ToolSpec]) -> String {
    let mut out = String::from("Tools:\n");
    for tool in tools {
        let mut arguments = String::from("{");
        let properties = tool.parameters.get("properties").and_then(Value::as_object);
        let mut names: Vec<&String> = properties.into_iter().flat_map(|map| map.keys()).collect();
        names.sort_unstable();
        for (index, name) in names.into_iter().enumerate() {
            if index > 0 {
                arguments.push(',');
            }
            write_string(&mut arguments, name);
            arguments.push(':');
            write_string(&mut arguments, &format!("<{name}>"));
        }
        arguments.push('}');
        out.push_str(&action(&tool.name, &arguments));
        out.push(' ');
        out.push_str(&tool.description);
        out.push('\n');
    }
    out.push_str(&answer("<answer>"));
    out.push_str(" End the task with the answer.\nReply with one of these JSON objects.");
    out
}

/// The `response_format` of a turn.
pub(super) fn response_format(out: &mut String, tools: &[ToolSpec], may_call: bool) {
    out.push_str(
        "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"action\",\"schema\":{\"anyOf\":[",
    );
    if may_call {
        for tool in tools {
            choice(out, &tool.name, &closed(&tool.parameters));
            out.push(',');
        }
    }
    let parameters = serde_json::json!({
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": false,
    });
    choice(out, FINAL, &parameters);
    out.push_str("]}}}");
}

fn choice(out: &mut String, tool: &str, parameters: &Value) {
    out.push_str("{\"type\":\"object\",\"properties\":{\"tool\":{\"const\":");
    write_string(out, tool);
    out.push_str("},\"arguments\":");
    write_value(out, parameters);
    out.push_str("},\"required\":[\"tool\",\"arguments\"],\"additionalProperties\":false}");
}

/// The schema of an object that is silent about further members forbids them here: a grammar that
/// allows any member lets a small model invent them without end.
fn closed(parameters: &Value) -> Value {
    let mut parameters = parameters.clone();
    if let Some(map) = parameters.as_object_mut()
        && !map.contains_key("additionalProperties")
    {
        map.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    parameters
}

/// What the model said, from the parts that [`parse`] made of it.
pub(super) fn said(parts: &[Part]) -> Result<String, RenderError> {
    let exact = parts.iter().find_map(|part| match part {
        Part::Opaque { format, bytes } if format.as_ref() == TEXT_FORMAT => Some(bytes),
        _ => None,
    });
    if let Some(bytes) = exact {
        return String::from_utf8(bytes.to_vec())
            .map_err(|_| RenderError(format!("a block of format {TEXT_FORMAT} is not UTF-8")));
    }
    let mut actions = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => actions.push(answer(text)),
            Part::ToolCall { name, arguments, .. } => actions.push(action(name, arguments)),
            Part::Opaque { .. } => {}
            Part::ToolResult { .. } => return Err(no_form("assistant", part)),
        }
    }
    Ok(actions.join("\n"))
}

/// The result of a call as the model reads it.
pub(super) fn result(tool: &str, text: &str) -> String {
    format!("Result of {tool}: {text}")
}

fn action(tool: &str, arguments: &str) -> String {
    let mut out = String::from("{\"tool\":");
    write_string(&mut out, tool);
    out.push_str(",\"arguments\":");
    out.push_str(arguments);
    out.push('}');
    out
}

fn answer(text: &str) -> String {
    let mut arguments = String::from("{\"answer\":");
    write_string(&mut arguments, text);
    arguments.push('}');
    action(FINAL, &arguments)
}

#[derive(Deserialize)]
struct Action<'a> {
    tool: String,
    #[serde(borrow)]
    arguments: &'a RawValue,
}

#[derive(Deserialize)]
struct Answer {
    answer: String,
}

/// The parts of a reply whose text is `text`, and why it stopped. `id` is given to a tool call.
///
/// A reply that was cut off still becomes a call (with arguments that are not JSON) or the answer
/// as far as it goes, so that the model hears what it got wrong. Text that is no action at all,
/// from an endpoint that does not enforce schemas, is an answer.
pub(super) fn parse(text: &str, stop: StopReason, id: &str) -> (Vec<Part>, StopReason) {
    if text.is_empty() {
        return (Vec::new(), stop);
    }
    let (part, stop) = match serde_json::from_str::<Action<'_>>(text) {
        Ok(action) if action.tool == FINAL => {
            match serde_json::from_str::<Answer>(action.arguments.get()) {
                Ok(answer) => (Part::Text(answer.answer.into()), StopReason::Stop),
                Err(_) => (Part::Text(text.into()), stop),
            }
        }
        Ok(action) => (call(id, &action.tool, action.arguments.get()), StopReason::ToolCalls),
        Err(_) => match cut_action(text) {
            Some((tool, rest)) if tool == FINAL => {
                (Part::Text(cut_answer(rest).unwrap_or_default().into()), stop)
            }
            Some((tool, "")) => (call(id, &tool, CUT_ARGUMENTS), stop),
            Some((tool, rest)) => (call(id, &tool, rest), stop),
            None => (Part::Text(text.into()), stop),
        },
    };
    let mut parts = vec![part];
    if said(&parts).is_ok_and(|said| said != text) {
        let bytes: Arc<[u8]> = text.as_bytes().into();
        parts.insert(0, Part::Opaque { format: TEXT_FORMAT.into(), bytes });
    }
    (parts, stop)
}

fn call(id: &str, tool: &str, arguments: &str) -> Part {
    Part::ToolCall { id: id.into(), name: tool.into(), arguments: arguments.into() }
}

/// The tool of an action whose end is missing, and what there is of its arguments.
fn cut_action(text: &str) -> Option<(String, &str)> {
    let rest = skip(text, &HEAD)?.trim_start();
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let tool = values.next()?.ok()?;
    Some((tool, skip(&rest[values.byte_offset()..], &NECK)?.trim_start()))
}

/// The text of an answer whose end is missing.
fn cut_answer(arguments: &str) -> Option<String> {
    let inner = skip(arguments, &ANSWER)?.trim_start().strip_prefix('"')?;
    // A cut escape has at most 11 characters (two halves of a surrogate pair, less one).
    let mut ends = inner.char_indices().rev().map(|(index, _)| index).take(12);
    std::iter::once(inner.len())
        .chain(&mut ends)
        .find_map(|end| serde_json::from_str(&format!("\"{}\"", &inner[..end])).ok())
}

/// `text` behind `tokens`, which white space may separate.
fn skip<'a>(text: &'a str, tokens: &[&str]) -> Option<&'a str> {
    tokens.iter().try_fold(text, |rest, token| rest.trim_start().strip_prefix(token))
}
