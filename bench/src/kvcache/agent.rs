//! The agent: what it does is a script, so that every way of keeping its context meets the same one.
//!
//! A model of 135 million parameters would take another path after every change of its prompt, and
//! then paths would be compared. So the server is asked as ever and evaluates every prompt, and its
//! reply, a few tokens, is put aside for the next line of the script.
//!
//! What a call needs it names, as coding agents do that copy an identifier out of an old page: each part
//! has a mark, and a call that needs a part repeats its mark, if the part stands in the prompt. A model cannot
//! copy what it does not see; then the call goes without.

use std::sync::{Arc, Mutex, PoisonError};

use aosk_abi::{Code, Effect, FailureKind, StopReason, ToolResult, ToolSpec, Usage};
use aosk_llm::Remote;
use aosk_ports::{
    CallError, Demand, Device, DeviceInfo, Message, Part, Progress, RenderError, Rendered, Reply,
    Request, Tokenizer, Tool, ToolContext,
};
use futures::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value, json};

/// The tool that it calls in every turn but the last.
pub const TOOL: &str = "read";

/// How often a turn needs something older than the newest result: as often as recorded runs of
/// coding agents do.
const NEEDS_PERCENT: u64 = 75;

/// How many times likelier something is needed that was needed before; in recorded runs 3 to 9.
const AGAIN: f64 = 6.0;

/// Words that most vocabularies have as one token.
const WORDS: [&str; 16] = [
    "river", "stone", "table", "green", "seven", "north", "paper", "light", "water", "round",
    "small", "house", "early", "field", "glass", "train",
];

/// What an agent reads, turn by turn, and what of it it needs again.
#[derive(Debug)]
pub struct Script {
    /// The results of the tool; as many turns call it.
    pub parts: Vec<String>,
    /// What each of them alone holds.
    pub marks: Vec<String>,
    /// For each call of the model: the part that it needs, if that is not the newest.
    pub needs: Vec<Option<usize>>,
}

impl Script {
    /// A script of that many turns, whose results have about that many words, half to one and a
    /// half times as many.
    pub fn new(seed: u64, turns: usize, words: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = move |bound: u64| random.next_u64() % bound.max(1);
        let mut marked = ChaCha8Rng::seed_from_u64(seed);
        marked.set_stream(1);
        let marks: Vec<String> =
            (0..turns).map(|_| format!("rec_{:06x}", marked.next_u64() >> 40)).collect();
        let parts = (0..turns)
            .map(|part| {
                let length = words / 2 + below(words + 1);
                let words = (0..length)
                    .map(|_| WORDS[usize::try_from(below(WORDS.len() as u64)).unwrap_or_default()]);
                let mark = &marks[part];
                format!("Part {part}, {mark}: {}.", words.collect::<Vec<_>>().join(" "))
            })
            .collect();
        let mut needed = vec![false; turns];
        let needs = (0..=turns)
            .map(|call| {
                // The newest result always stands in the prompt: the model has not answered it.
                let older = call.saturating_sub(1);
                if older == 0 || below(100) >= NEEDS_PERCENT {
                    return None;
                }
                let weight =
                    |part: usize| (if needed[part] { AGAIN } else { 1.0 }) / (call - part) as f64;
                let whole: f64 = (0..older).map(weight).sum();
                let mut left = below(1 << 32) as f64 / f64::from(u32::MAX) * whole;
                let chosen = (0..older).find(|part| {
                    left -= weight(*part);
                    left <= 0.0
                });
                let chosen = chosen.unwrap_or(older - 1);
                needed[chosen] = true;
                Some(chosen)
            })
            .collect();
        Self { parts, marks, needs }
    }

    /// What the agent says in that call, to that prompt.
    pub fn says(&self, call: usize, prompt: &[Message]) -> (Part, StopReason) {
        let needed = self.needs.get(call).copied().flatten();
        let mark = needed.and_then(|part| self.marks.get(part)).filter(|mark| {
            let mut parts = prompt.iter().flat_map(|message| message.parts.iter());
            parts.any(|part| matches!(part, Part::ToolResult { text, .. } if text.contains(*mark)))
        });
        if call < self.parts.len() {
            let arguments = match mark {
                Some(mark) => json!({ "part": call, "after": mark }),
                None => json!({ "part": call }),
            };
            let part = Part::ToolCall {
                id: format!("call-{call}").into(),
                name: TOOL.into(),
                arguments: arguments.to_string().into(),
            };
            (part, StopReason::ToolCalls)
        } else {
            let all = mark.map_or_else(
                || "That was all.".to_owned(),
                |mark| format!("That was all, see {mark}."),
            );
            (Part::Text(all.into()), StopReason::Stop)
        }
    }

    /// What the model is told of the tool.
    pub fn spec() -> ToolSpec {
        ToolSpec {
            name: TOOL.to_owned(),
            description: "Reads a part of the archive.".to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "part": {"type": "integer"},
                    "after": {"type": "string", "description": "the record that led there"},
                },
                "required": ["part"],
            }),
            effect: Effect::Pure,
        }
    }
}

/// The tool.
pub struct Archive {
    spec: ToolSpec,
    parts: Vec<String>,
}

impl Archive {
    /// The tool that reads the script's parts.
    pub fn of(script: &Script) -> Self {
        Self { spec: Script::spec(), parts: script.parts.clone() }
    }
}

impl Tool for Archive {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn isolation(&self) -> &'static str {
        "none"
    }

    fn call(
        &self,
        _: ToolContext,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'static, ToolResult> {
        let part = arguments.get("part").and_then(Value::as_u64);
        let part = part.and_then(|part| self.parts.get(usize::try_from(part).ok()?)).cloned();
        Box::pin(async move {
            part.map_or_else(
                || ToolResult::failed("not_found", "there is no such part", "read another one"),
                ToolResult::ok,
            )
        })
    }
}

/// A model that is asked in earnest and whose replies are put aside for the script's.
pub struct Led {
    model: Remote,
    script: Arc<Script>,
    used: Mutex<Vec<Usage>>,
}

impl Led {
    /// The model behind that endpoint.
    pub fn new(model: Remote, script: Arc<Script>) -> Self {
        Self { model, script, used: Mutex::default() }
    }

    /// What counts the model's tokens.
    pub fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>, aosk_llm::Error> {
        self.model.tokenizer()
    }

    /// What each call used, as the server reported.
    pub fn used(&self) -> Vec<Usage> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Device for Led {
    fn info(&self) -> &DeviceInfo {
        self.model.info()
    }

    fn accepts(&self, demand: &Demand<'_>) -> Result<(), RenderError> {
        self.model.accepts(demand)
    }

    fn render(&self, request: &Request) -> Result<Rendered, RenderError> {
        self.model.render(request)
    }

    fn kv_slots(&self) -> Option<usize> {
        self.model.kv_slots()
    }

    fn call<'a>(
        &'a self,
        rendered: &'a Rendered,
        request: &'a Request,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let reply = self.model.call(rendered, request, progress).await?;
            let usage = reply.usage.ok_or_else(|| CallError {
                kind: FailureKind::Fatal,
                code: Code::LlmBadRequest,
                message: "the server reports no usage, which is what is measured".to_owned(),
                retry_after: None,
                usage: None,
            })?;
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let (part, stop) = self.script.says(used.len(), &request.messages);
            used.push(usage);
            Ok(Reply { parts: vec![part], stop, raw: None, ..reply })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aosk_abi::Role;

    use super::*;

    #[test]
    fn a_call_needs_only_what_was_read_before_and_the_same_seed_needs_the_same() {
        for turns in [2, 3, 40] {
            let script = Script::new(7, turns, 110);
            assert_eq!((script.parts.len(), script.needs.len()), (turns, turns + 1));
            for (call, needed) in script.needs.iter().enumerate() {
                // Part `call - 1` is the newest when that call is made.
                assert!(needed.is_none_or(|part| part + 1 < call), "{call}: {needed:?}");
            }
            for part in &script.parts {
                let words = part.split_whitespace().count() - 3;
                assert!((55..=165).contains(&words), "{words}");
            }
            let again = Script::new(7, turns, 110);
            assert_eq!((again.parts, again.needs), (script.parts, script.needs));
            let marks: BTreeSet<&String> = script.marks.iter().collect();
            assert_eq!(marks.len(), turns, "no two are alike");
        }
        let many = Script::new(7, 400, 2).needs.iter().flatten().count();
        assert!((240..360).contains(&many), "three in four: {many}");
    }

    #[test]
    fn every_turn_but_the_last_reads_the_next_part() {
        let script = Script::new(1, 3, 4);
        let stops: Vec<StopReason> = (0..4).map(|call| script.says(call, &[]).1).collect();
        assert_eq!(stops[..3], [StopReason::ToolCalls; 3]);
        assert_eq!(stops[3], StopReason::Stop);
    }

    #[test]
    fn a_call_repeats_the_mark_of_what_it_needs_where_that_stands_in_its_prompt() {
        let script = Script { needs: vec![None, None, Some(0), Some(0)], ..Script::new(1, 3, 4) };
        let result = |part: usize| Message {
            role: Role::Tool,
            parts: [Part::ToolResult {
                call: "call".into(),
                name: TOOL.into(),
                text: script.parts[part].as_str().into(),
                failed: false,
            }]
            .into(),
        };
        let said = |call, prompt: &[Message]| match script.says(call, prompt).0 {
            Part::ToolCall { arguments, .. } => arguments.to_string(),
            other => format!("{other:?}"),
        };
        let mark = script.marks[0].as_str();
        for call in [2, 3] {
            assert!(said(call, &[result(0), result(1)]).contains(mark), "{call}");
            assert!(!said(call, &[result(1)]).contains(mark), "{call}");
        }
        assert!(!said(1, &[result(0)]).contains(mark), "it needs nothing");
    }
}
