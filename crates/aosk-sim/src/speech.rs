//! What the simulated model says.
//!
//! A reply is a function of the model's seed and the prompt's bytes alone, as it would be at
//! temperature 0: a call that is repeated after a crash is answered as before, so that a run can
//! be compared with the same run undisturbed. The longer the conversation, the likelier the model
//! answers, and after twenty turns it always does: half of all conversations have more than nine
//! turns, enough to fill a small window, and all of them end.

use std::sync::Arc;

use aosk_abi::{Role, StopReason, ToolSpec};
use aosk_ports::{Part, Request};
use serde_json::{Map, Value, json};

use crate::dice::{Chance, Dice};

/// Turns after which the model only answers.
const PATIENCE: u64 = 20;
/// One turn with tool calls in three makes several at once.
const SEVERAL: Chance = Chance::per_mille(333);
/// One reply in ten carries a block that only its provider understands.
const OPAQUE: Chance = Chance::per_mille(100);

/// An argument that may be left out is, every other time.
const LEFT_OUT: Chance = Chance::per_mille(500);
/// Agents whose names are known; some of them are not there.
const NEIGHBOURS: u64 = 8;
/// Waits are shorter than that, in seconds; one of 0 is none.
const LONGEST_WAIT: u64 = 60;

/// The names of those that agents begin; the last is not known to most of them.
const HELPERS: u64 = 3;
/// How those are addressed who were begun by others.
pub(crate) const HELPER: &str = "You are a helper.";

/// Names of tools that nobody has; a real endpoint may send any of them.
const UNKNOWN: [&str; 4] = ["", "no_such_tool", "nul\0in the name", "имя ☃"];
/// Arguments that no tool can take.
const MALFORMED: [&str; 6] =
    ["", "{", "{\"line\": \"cut o", "[1]", "null", "{\"line\": {\"a\": 0.5}}"];
/// What the model has to say.
const WORDS: [&str; 8] = ["done", "the", "agent", "结果", "テスト", "ответ", "🦀", "nul\0"];

/// What a reply holds.
#[derive(Debug)]
pub(crate) struct Speech {
    pub(crate) parts: Vec<Part>,
    pub(crate) stop: StopReason,
}

/// The reply to a request.
pub(crate) fn speak(dice: &mut Dice, request: &Request, odd: Chance) -> Speech {
    let turns = request.messages.iter().filter(|m| m.role == Role::Assistant).count() as u64;
    let mut parts = Vec::new();
    if dice.hits(OPAQUE) {
        let mut bytes = vec![0; dice.index(40)];
        dice.fill(&mut bytes);
        parts.push(Part::Opaque { format: "sim/thought".into(), bytes: bytes.into() });
    }
    let calls = request.may_call
        && !request.tools.is_empty()
        && dice.below(PATIENCE * PATIENCE) >= turns * turns;
    let odd = dice.hits(odd);
    if calls {
        let count = if dice.hits(SEVERAL) { 2 + dice.index(3) } else { 1 };
        if dice.below(4) == 0 {
            parts.push(text(dice));
        }
        parts.extend((0..count).map(|index| call(dice, request, turns, index)));
        let stop = if odd { spoil_call(dice, &mut parts) } else { StopReason::ToolCalls };
        return Speech { parts, stop };
    }
    if !odd {
        parts.push(text(dice));
        return Speech { parts, stop: StopReason::Stop };
    }
    match dice.below(5) {
        0 => Speech { parts: vec![text(dice)], stop: StopReason::Refusal },
        1 => Speech { parts: Vec::new(), stop: StopReason::Stop },
        2 => Speech { parts: Vec::new(), stop: StopReason::Length },
        3 => Speech { parts: vec![text(dice)], stop: StopReason::Other },
        _ => Speech { parts: vec![text(dice)], stop: StopReason::Length },
    }
}

/// Makes the last call of a reply one that cannot be carried out; why the model stopped then.
fn spoil_call(dice: &mut Dice, parts: &mut [Part]) -> StopReason {
    let Some(Part::ToolCall { id, name, arguments }) = parts.last_mut() else {
        return StopReason::ToolCalls;
    };
    match dice.below(4) {
        0 => *name = UNKNOWN[dice.index(UNKNOWN.len())].into(),
        1 => *arguments = MALFORMED[dice.index(MALFORMED.len())].into(),
        2 => *id = "".into(),
        _ => {
            let cut = arguments.chars().take(dice.index(12)).collect::<String>();
            *arguments = cut.into();
            return StopReason::Length;
        }
    }
    StopReason::ToolCalls
}

fn call(dice: &mut Dice, request: &Request, turns: u64, index: usize) -> Part {
    let tool = &request.tools[dice.index(request.tools.len())];
    Part::ToolCall {
        id: format!("call-{turns}-{index}").into(),
        name: tool.name.as_str().into(),
        arguments: Value::Object(arguments(dice, tool, has_kin(request))).to_string().into(),
    }
}

/// Whether who asks began others or was begun.
fn has_kin(request: &Request) -> bool {
    let says = |part: &Part| matches!(part, Part::Text(text) if **text == *HELPER);
    request.tools.iter().any(|tool| tool.name == "spawn")
        || request.messages.iter().take(1).any(|first| first.parts.iter().any(says))
}

/// Somebody of whom an agent may have heard; one that has kin talks to them most of the time.
fn somebody(dice: &mut Dice, has_kin: bool) -> String {
    match if has_kin { dice.below(4) } else { 0 } {
        0 => format!("agent {}", dice.below(NEIGHBOURS)),
        1 => "parent".to_owned(),
        _ => format!("helper {}", dice.below(HELPERS)),
    }
}

/// Arguments that a flat schema allows.
fn arguments(dice: &mut Dice, tool: &ToolSpec, has_kin: bool) -> Map<String, Value> {
    let properties = tool.parameters.get("properties").and_then(Value::as_object);
    let needed = tool.parameters.get("required").and_then(Value::as_array);
    let value = |(name, schema): (&String, &Value)| {
        let is_needed = needed.is_none_or(|needed| needed.iter().any(|it| it == name));
        if !is_needed && dice.hits(LEFT_OUT) {
            return None;
        }
        let value = match (&**name, schema.get("type").and_then(Value::as_str)) {
            ("to" | "from", _) => json!(somebody(dice, has_kin)),
            ("agent", _) => json!(format!("helper {}", dice.below(HELPERS))),
            ("seconds" | "timeout_s", _) => json!(dice.below(LONGEST_WAIT)),
            (_, Some("integer")) => json!(dice.below(6_000)),
            (_, Some("boolean")) => json!(dice.below(2) == 1),
            _ => json!(words(dice, 3)),
        };
        Some((name.clone(), value))
    };
    properties.into_iter().flatten().filter_map(value).collect()
}

fn text(dice: &mut Dice) -> Part {
    let count = 1 + dice.index(30);
    Part::Text(Arc::from(words(dice, count)))
}

fn words(dice: &mut Dice, count: usize) -> String {
    let words: Vec<_> = (0..count).map(|_| WORDS[dice.index(WORDS.len())]).collect();
    words.join(" ")
}
