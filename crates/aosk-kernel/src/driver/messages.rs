//! From pages to messages.
//!
//! Between two evictions a prompt only grows, and an eviction takes out whole messages: so each
//! message is made once, when its pages come, and a step costs what it adds and not what stands
//! there. The list is lent to the request and given back after the call.

use std::sync::Arc;

use aosk_abi::{Hash, PageId, Role, Seq, Source, Stub, ToolResult};
use aosk_context::{Page, PageTable, Plan};
use aosk_ports::{Message, Part};

use super::Driver;
use super::recall::{heading, is_recalled, stub_text};
use crate::image::Shape;

/// The messages of the last plan.
#[derive(Default)]
pub(super) struct MessageCache {
    /// Which table they stand for: its generation and its number of pages.
    table: (u64, usize),
    /// The pages that each message is made of.
    spans: Vec<Span>,
    /// Empty while they are lent.
    messages: Vec<Message>,
    /// What arrived last, as the model reads it.
    arrived: Vec<(Source, Arc<str>)>,
}

/// A page to be shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    page: PageId,
    source: Source,
    unit: Seq,
}

impl Shown {
    fn of(page: &Page) -> Self {
        Self { page: page.id, source: page.source, unit: page.unit }
    }

    fn is_recalled(self) -> bool {
        is_recalled(self.source, self.unit)
    }

    /// Whether `next` is another part of the same message.
    fn goes_on_in(&self, next: &Self) -> bool {
        self.source.seq == next.source.seq
            && self.source.seq != Seq(0)
            && self.page.0 + 1 == next.page.0
            && !self.is_recalled()
            && !next.is_recalled()
    }
}

/// Pages whose numbers follow each other; none for a stub, which stands where its first page would.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: PageId,
    len: usize,
}

impl Span {
    /// Whether one of its pages is among those, which ascend.
    fn is_among(self, pages: &[PageId]) -> bool {
        let next = pages.partition_point(|page| *page < self.first);
        pages.get(next).is_some_and(|page| ((page.0 - self.first.0) as usize) < self.len)
    }
}

impl MessageCache {
    /// Takes the messages of a request back.
    pub(super) fn give_back(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Keeps the texts of what arrived till their messages are made.
    pub(super) fn expect(&mut self, arrived: Vec<(Source, Arc<str>)>) {
        self.arrived = arrived;
    }

    fn stand_for(&self, table: &PageTable) -> bool {
        self.table == (table.generation(), table.pages().len())
            && self.messages.len() == self.spans.len()
    }

    /// Says in place of what it said before what has left.
    fn tell(&mut self, stubs: &[Stub]) {
        let spans = std::mem::take(&mut self.spans);
        let messages = std::mem::take(&mut self.messages);
        let mut stubs = stubs.iter().peekable();
        for (span, message) in spans.into_iter().zip(messages) {
            if span.len == 0 {
                continue;
            }
            while let Some(stub) = stubs.next_if(|stub| stub.first < span.first) {
                self.push_stub(stub);
            }
            self.spans.push(span);
            self.messages.push(message);
        }
        stubs.for_each(|stub| self.push_stub(stub));
    }

    fn push_stub(&mut self, stub: &Stub) {
        let text = Part::Text(stub_text(stub).into());
        self.spans.push(Span { first: stub.first, len: 0 });
        self.messages.push(Message { role: Role::User, parts: [text].into() });
    }

    fn remove(&mut self, evicted: &[PageId]) {
        if evicted.is_empty() {
            return;
        }
        let mut leaves = self.spans.iter().map(|span| span.is_among(evicted));
        self.messages.retain(|_| !leaves.next().unwrap_or(false));
        self.spans.retain(|span| !span.is_among(evicted));
    }
}

impl Driver {
    /// The messages of the prompt that `plan` leads to, lent; `stubs` are told of where pages leave.
    pub(super) fn messages_after(&mut self, plan: &Plan, stubs: &[Stub]) -> Vec<Message> {
        let mut cache = self.messages_now();
        let pages = &self.process.image.pages;
        let leave = !plan.evicted.is_empty();
        if leave {
            cache.remove(&plan.evicted);
            cache.tell(stubs);
        }
        let admitted = plan.admitted.iter().map(|admission| Shown {
            page: admission.page,
            source: admission.source,
            unit: admission.unit,
        });
        self.make(&mut cache, admitted);
        debug_assert_eq!(
            cache.messages,
            self.made_anew(
                pages.preview(plan).map(|page| Shown::of(&page)),
                if leave { stubs } else { &self.process.image.stubs },
            )
            .messages,
        );
        cache.table = (plan.generation, pages.pages().len() + plan.admitted.len());
        cache.arrived.clear();
        self.lend(cache)
    }

    /// The messages of the prompt as it stands, lent.
    pub(super) fn messages(&mut self) -> Vec<Message> {
        let cache = self.messages_now();
        self.lend(cache)
    }

    fn lend(&mut self, mut cache: MessageCache) -> Vec<Message> {
        let lent = std::mem::take(&mut cache.messages);
        self.cache = cache;
        lent
    }

    /// The cache, standing for the table as it is.
    fn messages_now(&mut self) -> MessageCache {
        let mut cache = std::mem::take(&mut self.cache);
        let pages = &self.process.image.pages;
        if !cache.stand_for(pages) {
            let arrived = std::mem::take(&mut cache.arrived);
            cache = self.made_anew(pages.resident().map(Shown::of), &self.process.image.stubs);
            cache.arrived = arrived;
            cache.table = (pages.generation(), pages.pages().len());
        }
        cache
    }

    fn made_anew(&self, pages: impl Iterator<Item = Shown>, stubs: &[Stub]) -> MessageCache {
        let mut cache = MessageCache::default();
        self.make(&mut cache, pages);
        cache.tell(stubs);
        cache
    }

    /// Appends the messages that those pages are.
    fn make(&self, cache: &mut MessageCache, pages: impl Iterator<Item = Shown>) {
        let pages: Vec<Shown> = pages.collect();
        for group in pages.chunk_by(Shown::goes_on_in) {
            let Some(message) = self.message(group, &cache.arrived) else {
                continue;
            };
            cache.messages.push(message);
            cache.spans.push(Span { first: group[0].page, len: group.len() });
        }
    }

    fn message(&self, group: &[Shown], arrived: &[(Source, Arc<str>)]) -> Option<Message> {
        let mut role = Role::User;
        let mut parts = Vec::with_capacity(group.len());
        for shown in group {
            let source = shown.source;
            let shape = self.process.image.transcript.get(source)?;
            if matches!(shape, Shape::Tools(_)) {
                continue;
            }
            let known = arrived.iter().find(|(place, _)| *place == source);
            let text = match known {
                Some((_, text)) => text.clone(),
                None => self.text(shape, shown.is_recalled()),
            };
            if shown.is_recalled() {
                parts.push(Part::Text(text));
                continue;
            }
            let (speaker, part) = match shape {
                Shape::System(_) | Shape::Tools(_) => (Role::System, Part::Text(text)),
                Shape::User(_) => (Role::User, Part::Text(text)),
                Shape::Reply(_) => (Role::Assistant, Part::Text(text)),
                Shape::Opaque { format, content } => {
                    let bytes = self.process.contents.bytes(&content.hash)?.clone();
                    (Role::Assistant, Part::Opaque { format: format.as_str().into(), bytes })
                }
                Shape::ToolCall { id, name, .. } => (
                    Role::Assistant,
                    Part::ToolCall {
                        id: id.as_str().into(),
                        name: name.as_str().into(),
                        arguments: text,
                    },
                ),
                Shape::ToolResult { id, name, failed, .. } => (
                    Role::Tool,
                    Part::ToolResult {
                        call: id.as_str().into(),
                        name: name.as_str().into(),
                        text,
                        failed: *failed,
                    },
                ),
            };
            role = speaker;
            parts.push(part);
        }
        (!parts.is_empty()).then(|| Message { role, parts: parts.into() })
    }

    /// What stands there as the model reads it; empty where that is no text. What is recalled has a
    /// line above it that says what it is.
    pub(super) fn text(&self, shape: &Shape, recalled: bool) -> Arc<str> {
        let text = match shape {
            Shape::ToolResult { content, .. } => self.result_text(content.hash),
            Shape::Opaque { content, .. } => {
                self.process.contents.exact_text(&content.hash).unwrap_or_default()
            }
            other => self.process.contents.text(&other.content().hash).unwrap_or_default(),
        };
        if recalled { (heading(shape) + &text).into() } else { text }
    }

    /// A tool's result as the model reads it.
    fn result_text(&self, hash: Hash) -> Arc<str> {
        let Some(bytes) = self.process.contents.bytes(&hash) else {
            return Arc::default();
        };
        match serde_json::from_slice::<ToolResult>(bytes) {
            Ok(result) => result.to_text(self.process.shared.options.result_budget).into(),
            // Redaction may have damaged the JSON; the model still sees what is there.
            Err(_) => String::from_utf8_lossy(bytes).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_leaves_with_any_of_its_pages_and_with_no_other() {
        let span = Span { first: PageId(5), len: 2 };
        let among =
            |pages: &[u32]| span.is_among(&pages.iter().copied().map(PageId).collect::<Vec<_>>());
        assert!(!among(&[]) && !among(&[4]) && !among(&[7]) && !among(&[1, 4, 7, 9]));
        assert!(among(&[5]) && among(&[6]) && among(&[1, 6, 9]));
    }
}
