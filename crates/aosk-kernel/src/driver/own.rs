//! The kernel's own tools.
//!
//! They reach what no tool may: other processes, the clock's future, pages that have left. What they
//! do follows the same order as every effect. Those that take their time bring the process to rest: it
//! leaves memory and says what it waits for, and each time it comes back the call is looked at again,
//! from the journal and the store alone. So a wait survives whatever the kernel does not.

use std::time::Duration;

use aosk_abi::{Effect, Op, ToolCall, ToolResult, ToolSpec};
use serde_json::json;

use super::recall::{RECALL, recall_spec};
use super::tools::Arguments;
use super::{Driver, Ended};
use crate::error::Error;

/// The longest that a call may wait: 30 days. Who needs longer asks again.
const LONGEST: u64 = 30 * 24 * 60 * 60;

/// What the model has to mend.
pub(super) type Refused = Box<ToolResult>;

/// A tool that every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// Pages that had left come back.
    Recall,
    /// A message goes to another process.
    Send,
    /// A message of another process is awaited.
    Receive,
    /// A child begins.
    Spawn,
    /// The ends of children are awaited.
    Wait,
    /// Time passes.
    Sleep,
}

impl Own {
    /// The names that `tools` can give.
    pub(crate) const NAMES: &'static [&'static str] =
        &[RECALL, "send", "receive", "spawn", "wait", "sleep"];

    const ALL: [Self; 6] =
        [Self::Recall, Self::Send, Self::Receive, Self::Spawn, Self::Wait, Self::Sleep];

    /// The tool of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether it may bring the process to rest.
    pub(super) const fn waits(self) -> bool {
        matches!(self, Self::Receive | Self::Wait | Self::Sleep)
    }

    /// What a model is told of it, where the kernel can search pages or not.
    pub(crate) fn spec(self, searches: bool) -> ToolSpec {
        let timeout = json!({
            "type": "integer", "minimum": 1, "maximum": LONGEST,
            "description": "give up after so many seconds; without it the wait has no end",
        });
        let (description, properties, required, effect) = match self {
            Self::Recall => return recall_spec(searches),
            Self::Send => (
                "Sends a message to another agent. It waits there until the agent reads it.",
                json!({
                    "to": {
                        "type": "string",
                        "description": "the agent: its pid, its name, or `parent`",
                    },
                    "text": {"type": "string", "description": "the message"},
                }),
                &["to", "text"][..],
                Effect::Idempotent,
            ),
            Self::Receive => (
                "Reads the oldest message of another agent, and waits where there is none.",
                json!({
                    "from": {
                        "type": "string",
                        "description": "only of this agent: its pid, its name, or `parent`",
                    },
                    "timeout_s": timeout,
                }),
                &[][..],
                Effect::Pure,
            ),
            Self::Spawn => (
                "Begins another agent, which works beside this one. Answers with its pid.",
                json!({
                    "agent": {"type": "string", "description": "the name of the agent to begin"},
                    "task": {"type": "string", "description": "all that it needs to know"},
                }),
                &["agent", "task"][..],
                Effect::Idempotent,
            ),
            Self::Wait => (
                "Waits until agents that this one began have ended, and answers what they found.",
                json!({
                    "agent": {
                        "type": "string",
                        "description": "the pid or name of one; without it all that still work",
                    },
                    "timeout_s": timeout,
                }),
                &[][..],
                Effect::Pure,
            ),
            Self::Sleep => (
                "Waits for a time.",
                json!({
                    "seconds": {
                        "type": "integer", "minimum": 1, "maximum": LONGEST,
                        "description": "how long",
                    },
                }),
                &["seconds"][..],
                Effect::Pure,
            ),
        };
        ToolSpec {
            name: self.name().to_owned(),
            description: description.to_owned(),
            parameters: json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            }),
            effect,
        }
    }
}

impl Driver {
    /// The tool of the kernel's own that is called, if it is one that the agent has.
    pub(super) fn own(&self, call: &ToolCall) -> Option<Own> {
        Own::named(&call.name).filter(|own| self.means.specs.iter().any(|it| it.name == own.name()))
    }

    /// Answers a call that does not wait; `None` where the process goes no further meanwhile.
    pub(super) async fn answer(
        &mut self,
        own: Own,
        op: Op,
        call: &ToolCall,
        attempt: u32,
    ) -> Result<Option<()>, Error> {
        match own {
            Own::Send => self.send(op, call, attempt).await.map(Some),
            Own::Spawn => self.spawn(op, call).await.map(Some),
            _ => self.recall(op, call).await,
        }
    }

    /// Answers a call that may wait, or says how the process leaves memory for it.
    pub(super) async fn wait_in(
        &mut self,
        own: Own,
        op: Op,
        call: &ToolCall,
    ) -> Result<Option<Ended>, Error> {
        match own {
            Own::Receive => self.receive(op, call).await,
            Own::Wait => self.wait_for_children(op, call).await,
            _ => self.sleep(op, call).await,
        }
    }

    /// The result of a call that did not do what was asked.
    pub(super) fn refuse(&mut self, op: Op, refused: &ToolResult) -> Result<(), Error> {
        self.returned(op, refused, Duration::ZERO)
    }
}

/// An argument that is a text; `None` where it is left out.
pub(super) fn text<'a>(arguments: &'a Arguments, name: &str) -> Result<Option<&'a str>, Refused> {
    match arguments.get(name) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(format!("`{name}` is {other}, and must be a text"))),
    }
}

/// The same for one that must be there.
pub(super) fn needed<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, Refused> {
    match text(arguments, name)? {
        Some(text) if !text.trim().is_empty() => Ok(text),
        _ => Err(invalid(format!("`{name}` is missing or empty"))),
    }
}

/// A number of seconds in its bounds; `None` where it is left out.
pub(super) fn seconds(arguments: &Arguments, name: &str) -> Result<Option<u64>, Refused> {
    match arguments.get(name) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(seconds) if (1..=LONGEST).contains(&seconds) => Ok(Some(seconds)),
            _ => Err(invalid(format!(
                "`{name}` is {value}, and must be a whole number of seconds from 1 to {LONGEST}"
            ))),
        },
    }
}

pub(super) fn invalid(message: String) -> Refused {
    refused("invalid_arguments", message, "call it again with what is asked for")
}

pub(super) fn refused(code: &str, message: String, hint: &str) -> Refused {
    Box::new(ToolResult::failed(code, message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_its_own_name_and_a_schema_that_names_what_it_needs() {
        for own in Own::ALL {
            assert_eq!(Own::named(own.name()), Some(own));
            for searches in [false, true] {
                let spec = own.spec(searches);
                assert_eq!(spec.name, own.name());
                // What can be asked for in more than one way needs none of them.
                for needed in spec.parameters["required"].as_array().into_iter().flatten() {
                    let name = needed.as_str().expect("a name");
                    assert!(spec.parameters["properties"][name].is_object(), "{name}");
                }
            }
        }
        assert_eq!(Own::NAMES.len(), Own::ALL.len());
    }

    #[test]
    fn seconds_below_at_and_above_their_bounds() {
        let read = |text: &str| {
            seconds(&serde_json::from_str(text).expect("JSON"), "s").map_err(|it| it.to_text(500))
        };
        assert_eq!(read("{}"), Ok(None));
        for (value, holds) in [(0, false), (1, true), (LONGEST, true), (LONGEST + 1, false)] {
            assert_eq!(read(&format!("{{\"s\": {value}}}")).is_ok(), holds, "{value}");
        }
        for wrong in ["-1", "1.5", "\"1\""] {
            assert!(read(&format!("{{\"s\": {wrong}}}")).is_err(), "{wrong}");
        }
    }
}
