//! From events to a reply.
//!
//! A reply is a list of blocks. Each is begun, grows by deltas and ends; the index says which one a
//! delta belongs to. Text and tool calls become parts that the kernel understands. Thinking is
//! signed by the provider, and a signature holds for the very text: such a block is put together
//! once, when it comes in, and from then on it is bytes that nobody looks into.

use std::sync::Arc;

use aosk_abi::{StopReason, Usage};
use aosk_ports::{Delta as Heard, Part, Progress, Request};
use serde_json::value::RawValue;

use super::wire::{
    BlockDelta, BlockStart, CallBlock, Delta, Kind, Message, MessageDelta, Start, TextBlock,
    ThinkingBlock, WireUsage,
};
use super::{BLOCK_FORMAT, THINKING, is_thought};
use crate::call_id::CallIds;
use crate::complaint::Complaint;
use crate::exchange::{self, CUT_ARGUMENTS, Fault, Next};
use crate::json::write_string;

/// A reply that is coming in.
#[derive(Default)]
pub(crate) struct Assembly {
    blocks: Vec<Block>,
    stop: Option<String>,
    model: String,
    usage: WireUsage,
}

struct Block {
    index: u64,
    content: Content,
}

enum Content {
    Text(String),
    Call {
        id: String,
        name: String,
        /// What the block began with: an empty object where the deltas bring the arguments.
        begun: String,
        arguments: String,
    },
    Thinking {
        thinking: String,
        signature: Option<String>,
        /// The block as it came, while nothing was added to it.
        whole: Option<String>,
    },
    /// Of a type that has no deltas here: `redacted_thinking`, and what is newer than this program.
    Other {
        kind: String,
        block: String,
    },
    /// Of a type that this program does not know, in pieces that it cannot put together.
    Unknown,
}

impl Assembly {
    fn start(&mut self, message: Message) {
        self.model = message.model.unwrap_or_default();
        self.usage.update(message.usage.unwrap_or_default());
        self.stop_for(message.stop_reason);
    }

    /// Some gateways write an empty reason where there is none yet.
    fn stop_for(&mut self, reason: Option<String>) {
        self.stop = reason.filter(|reason| !reason.is_empty()).or(self.stop.take());
    }

    fn begin(
        &mut self,
        index: u64,
        block: &RawValue,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let Kind { kind } = serde_json::from_str(block.get())?;
        let kind = kind.ok_or_else(|| Fault::Malformed("a block has no type".to_owned()))?;
        let content = match kind.as_str() {
            "text" => {
                let block: TextBlock = serde_json::from_str(block.get())?;
                let text = block.text.unwrap_or_default();
                hear(&text, progress);
                Content::Text(text)
            }
            "tool_use" => {
                let block: CallBlock = serde_json::from_str(block.get())?;
                let name = block.name.unwrap_or_default();
                progress.delta(Heard::ToolCall { name: name.clone() });
                Content::Call {
                    id: block.id.unwrap_or_default(),
                    name,
                    begun: block.input.map_or_else(String::new, |input| input.get().to_owned()),
                    arguments: String::new(),
                }
            }
            THINKING => {
                let whole = Some(block.get().to_owned());
                let block: ThinkingBlock = serde_json::from_str(block.get())?;
                let thinking = block.thinking.unwrap_or_default();
                hear(&thinking, progress);
                Content::Thinking { thinking, signature: block.signature, whole }
            }
            _ => Content::Other { kind, block: block.get().to_owned() },
        };
        self.blocks.push(Block { index, content });
        Ok(())
    }

    fn grow(&mut self, index: u64, delta: Delta, progress: &dyn Progress) -> Result<(), Fault> {
        // The last one: there are gateways that count every block as the first.
        let block = self.blocks.iter_mut().rev().find(|block| block.index == index);
        let Some(block) = block else {
            return Err(Fault::Malformed(format!("block {index} grows and was not begun")));
        };
        match (&mut block.content, delta) {
            (Content::Text(whole), Delta::Text { text }) => {
                hear(&text, progress);
                whole.push_str(&text);
            }
            (Content::Call { arguments, .. }, Delta::Input { partial_json }) => {
                arguments.push_str(&partial_json);
            }
            (Content::Thinking { thinking, whole, .. }, Delta::Thinking { thinking: piece }) => {
                hear(&piece, progress);
                thinking.push_str(&piece);
                *whole = None;
            }
            (Content::Thinking { signature, whole, .. }, Delta::Signature { signature: all }) => {
                *signature = Some(all);
                *whole = None;
            }
            (content @ Content::Other { .. }, _) => *content = Content::Unknown,
            // A delta that means nothing for its block, such as a citation of a text.
            _ => {}
        }
        Ok(())
    }
}

impl exchange::Assembly for Assembly {
    const SPEECH: &'static str = "Anthropic's messages";

    fn event(&mut self, data: &str, progress: &dyn Progress) -> Result<Next, Fault> {
        let kind: Kind = serde_json::from_str(data)?;
        match kind.kind.as_deref() {
            Some("message_start") => self.start(serde_json::from_str::<Start>(data)?.message),
            Some("content_block_start") => {
                let start: BlockStart = serde_json::from_str(data)?;
                self.begin(start.index, &start.content_block, progress)?;
            }
            Some("content_block_delta") => {
                let grown: BlockDelta = serde_json::from_str(data)?;
                self.grow(grown.index, grown.delta, progress)?;
            }
            Some("message_delta") => {
                let delta: MessageDelta = serde_json::from_str(data)?;
                self.stop_for(delta.delta.stop_reason);
                self.usage.update(delta.usage.unwrap_or_default());
            }
            Some("message_stop") => return Ok(Next::End),
            Some("error") | None => return Err(complaint(data)),
            // `ping`, `content_block_stop`, and what is newer than this program.
            Some(_) => {}
        }
        Ok(Next::More)
    }

    fn whole(&mut self, body: &str, progress: &dyn Progress) -> Result<(), Fault> {
        let kind: Kind = serde_json::from_str(body)?;
        if kind.kind.as_deref() != Some("message") {
            return Err(complaint(body));
        }
        let mut message: Message = serde_json::from_str(body)?;
        let blocks = std::mem::take(&mut message.content);
        self.start(message);
        for (index, block) in (0..).zip(blocks) {
            self.begin(index, &block, progress)?;
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.stop.is_some()
    }

    /// Only once the reply is complete: what stands in `message_start` counts next to no output, and
    /// a call that broke off would look cheaper than it was.
    fn usage(&self, request: &Request) -> Option<Usage> {
        self.stop.as_ref().and_then(|_| self.usage.usage(request.life))
    }

    fn take_model(&mut self) -> String {
        std::mem::take(&mut self.model)
    }

    fn finish(self, request: &Request) -> (Vec<Part>, StopReason) {
        let mut ids = CallIds::after(request);
        let is_cut =
            matches!(self.stop.as_deref(), Some("max_tokens" | "model_context_window_exceeded"));
        let mut calls = false;
        let mut parts = Vec::new();
        let mut blocks = self.blocks.into_iter().peekable();
        while let Some(block) = blocks.next() {
            match block.content {
                Content::Text(text) if text.is_empty() => {}
                Content::Text(text) => parts.push(Part::Text(text.into())),
                Content::Call { id, name, begun, arguments } => {
                    calls = true;
                    let id = if id.is_empty() { ids.next() } else { id };
                    let brought = !arguments.trim().is_empty();
                    // A block is ended also where the output ran out, so its end says nothing.
                    let arguments = if brought {
                        arguments
                    } else if is_cut && blocks.peek().is_none() && is_bare(&begun) {
                        CUT_ARGUMENTS.to_owned()
                    } else {
                        begun
                    };
                    parts.push(Part::ToolCall {
                        id: id.into(),
                        name: name.into(),
                        arguments: arguments.into(),
                    });
                }
                Content::Thinking { whole: Some(block), .. } => parts.push(opaque(THINKING, block)),
                Content::Thinking { thinking, signature, whole: None } => {
                    parts.push(opaque(THINKING, signed(&thinking, signature.as_deref())));
                }
                Content::Other { kind, block } => parts.push(opaque(&kind, block)),
                Content::Unknown => {}
            }
        }
        // A thought that nothing follows cannot go back: cut off, it bears no signature, and a
        // message may not end with one. It would fill the window for nothing.
        while parts.last().is_some_and(is_opaque_thought) {
            parts.pop();
        }
        let stop = match self.stop.as_deref() {
            _ if is_cut => StopReason::Length,
            Some("end_turn" | "stop_sequence" | "tool_use") if calls => StopReason::ToolCalls,
            Some("end_turn" | "stop_sequence") => StopReason::Stop,
            Some("refusal") => StopReason::Refusal,
            // `pause_turn` belongs to tools that run at the provider, and none is ever asked for.
            _ => StopReason::Other,
        };
        (parts, stop)
    }
}

fn complaint(data: &str) -> Fault {
    match Complaint::read(data) {
        Some(complaint) => Fault::Complained(complaint),
        None => Fault::Malformed("it is neither a message nor an event of one".to_owned()),
    }
}

fn hear(text: &str, progress: &dyn Progress) {
    if !text.is_empty() {
        progress.delta(Heard::Text { chars: text.chars().count() });
    }
}

fn opaque(kind: &str, block: String) -> Part {
    let bytes: Arc<[u8]> = block.into_bytes().into();
    Part::Opaque { format: format!("{BLOCK_FORMAT}{kind}").into(), bytes }
}

fn is_opaque_thought(part: &Part) -> bool {
    matches!(part, Part::Opaque { format, .. }
        if format.strip_prefix(BLOCK_FORMAT).is_some_and(is_thought))
}

/// Whether a call's block began without arguments: with nothing, or an object without members.
fn is_bare(begun: &str) -> bool {
    matches!(begun.split_whitespace().collect::<String>().as_str(), "" | "{}")
}

/// A thinking block that came in pieces, as the API's documentation prints one.
fn signed(thinking: &str, signature: Option<&str>) -> String {
    let mut block = String::from("{\"type\":\"thinking\",\"thinking\":");
    write_string(&mut block, thinking);
    if let Some(signature) = signature {
        block.push_str(",\"signature\":");
        write_string(&mut block, signature);
    }
    block.push('}');
    block
}
