//! From chunks to a reply.
//!
//! The dialect splits a reply anywhere: a call's name comes once, its arguments in pieces of a few
//! characters, several calls interleave by index. Servers differ in all of it: no index, no id, an
//! empty id after the first piece, the name in every piece, whole calls that all have index 0.
//! The rules that tell a new call from a further piece stand in [`Assembly::place`].

use std::sync::Arc;

use aosk_abi::{StopReason, Usage};
use aosk_ports::{Delta as Heard, Part, Progress, Request};

use super::constrained;
use super::render::{FIELD_FORMAT, is_constrained};
use super::wire::{CallDelta, Chunk, Delta, Timings, WireUsage, usage};
use crate::call_id::CallIds;
use crate::complaint::Complaint;
use crate::exchange::{self, CUT_ARGUMENTS, Fault, Next};
use crate::json::is_object;

/// What ends a stream.
const DONE: &str = "[DONE]";

/// A reply that is coming in.
#[derive(Default)]
pub(crate) struct Assembly {
    text: String,
    refusal: String,
    reasoning_content: String,
    reasoning: String,
    calls: Vec<Call>,
    finish: Option<String>,
    model: String,
    usage: Option<WireUsage>,
    timings: Option<Timings>,
}

#[derive(Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Assembly {
    /// Takes in one JSON text of a reply.
    fn take(&mut self, data: &str, progress: &dyn Progress) -> Result<(), Fault> {
        let chunk: Chunk = serde_json::from_str(data)?;
        // An error in mid-stream has no `choices`; older servers give it without `error` around.
        if (chunk.error.is_some() || chunk.choices.is_none())
            && let Some(complaint) = Complaint::read(data)
        {
            return Err(Fault::Complained(complaint));
        }
        if let Some(model) = chunk.model {
            self.model = model;
        }
        self.usage = chunk.usage.or(self.usage);
        self.timings = chunk.timings.or(self.timings);
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index == 0) {
            self.usage = choice.usage.or(self.usage);
            if let Some(delta) = choice.delta {
                self.delta(delta, progress);
            }
            // Some gateways write an empty reason into every chunk.
            let reason = choice.finish_reason.filter(|reason| !reason.is_empty());
            self.finish = reason.or(self.finish.take());
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta, progress: &dyn Progress) {
        for (piece, whole) in [
            (delta.content, &mut self.text),
            (delta.refusal, &mut self.refusal),
            (delta.reasoning_content, &mut self.reasoning_content),
            (delta.reasoning, &mut self.reasoning),
        ] {
            if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                progress.delta(Heard::Text { chars: piece.chars().count() });
                whole.push_str(&piece);
            }
        }
        let old_form = delta.function_call.map(|function| CallDelta {
            index: Some(0),
            id: None,
            function: Some(function),
        });
        for piece in delta.tool_calls.into_iter().flatten().chain(old_form) {
            self.call(piece, progress);
        }
    }

    fn call(&mut self, piece: CallDelta, progress: &dyn Progress) {
        let id = piece.id.unwrap_or_default();
        let function = piece.function.unwrap_or_default();
        let arguments = function.arguments();
        let name = function.name.unwrap_or_default();
        let place = self.place(piece.index, &id, &name, &arguments);
        let call = &mut self.calls[place];
        if call.id.is_empty() {
            call.id = id;
        }
        // Equal to what is there: a server that repeats the name in every piece.
        if !name.is_empty() && name != call.name {
            call.name.push_str(&name);
            progress.delta(Heard::ToolCall { name: call.name.clone() });
        }
        call.arguments.push_str(&arguments);
    }

    /// The place of the call that a piece belongs to. A piece begins a new call
    /// - if its index is new, or, where there is no index, if it names a tool;
    /// - if it has another id than the call of its index;
    /// - if it has no id but a name and arguments, and the call of its index is complete.
    fn place(&mut self, index: Option<u64>, id: &str, name: &str, arguments: &str) -> usize {
        let present = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None if name.is_empty() => self.calls.len().checked_sub(1),
            None => None,
        };
        if let Some(place) = present {
            let call = &self.calls[place];
            let another = !id.is_empty() && !call.id.is_empty() && call.id != id;
            let again = id.is_empty()
                && !name.is_empty()
                && !arguments.is_empty()
                && is_object(&call.arguments);
            if !another && !again {
                return place;
            }
        }
        self.calls.push(Call { index, ..Call::default() });
        self.calls.len() - 1
    }
}

impl exchange::Assembly for Assembly {
    const SPEECH: &'static str = "OpenAI's chat completions";

    fn event(&mut self, data: &str, progress: &dyn Progress) -> Result<Next, Fault> {
        if data.trim() == DONE {
            return Ok(Next::End);
        }
        self.take(data, progress).map(|()| Next::More)
    }

    fn whole(&mut self, body: &str, progress: &dyn Progress) -> Result<(), Fault> {
        self.take(body, progress)
    }

    fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Only once the reply is complete: vLLM and others count along in every chunk where they are
    /// asked to, and a call that broke off would look cheaper than it was.
    fn usage(&self, _: &Request) -> Option<Usage> {
        self.finish.as_ref().and_then(|_| usage(self.usage, self.timings))
    }

    fn take_model(&mut self) -> String {
        std::mem::take(&mut self.model)
    }

    fn finish(self, request: &Request) -> (Vec<Part>, StopReason) {
        let mut ids = CallIds::after(request);
        let mut parts = Vec::new();
        for (field, text) in
            [("reasoning_content", self.reasoning_content), ("reasoning", self.reasoning)]
        {
            if !text.is_empty() {
                let bytes: Arc<[u8]> = text.into_bytes().into();
                parts.push(Part::Opaque { format: format!("{FIELD_FORMAT}{field}").into(), bytes });
            }
        }
        let reason = self.finish.as_deref().unwrap_or_default();
        if !self.refusal.is_empty() || matches!(reason, "content_filter" | "refusal") {
            let text = self.text + &self.refusal;
            if !text.is_empty() {
                parts.push(Part::Text(text.into()));
            }
            return (parts, StopReason::Refusal);
        }
        let stop = match reason {
            // Some servers say `stop` where they mean that their calls are complete.
            "stop" | "tool_calls" | "function_call" if !self.calls.is_empty() => {
                StopReason::ToolCalls
            }
            "stop" => StopReason::Stop,
            "length" => StopReason::Length,
            _ => StopReason::Other,
        };
        if is_constrained(request) && self.calls.is_empty() {
            let (said, stop) = constrained::parse(&self.text, stop, &ids.next());
            parts.extend(said);
            return (parts, stop);
        }
        if !self.text.is_empty() {
            parts.push(Part::Text(self.text.into()));
        }
        let mut calls = self.calls.into_iter().peekable();
        while let Some(call) = calls.next() {
            let id = if call.id.is_empty() { ids.next() } else { call.id };
            let is_cut = stop == StopReason::Length && calls.peek().is_none();
            let arguments = if is_cut && call.arguments.trim().is_empty() {
                CUT_ARGUMENTS.to_owned()
            } else {
                call.arguments
            };
            parts.push(Part::ToolCall {
                id: id.into(),
                name: call.name.into(),
                arguments: arguments.into(),
            });
        }
        (parts, stop)
    }
}
