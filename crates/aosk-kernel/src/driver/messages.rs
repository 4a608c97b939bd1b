//! From pages to messages.
//!
//! Between two evictions a prompt only grows, and an eviction takes out whole messages or parts of
//! them: so each message is made once, when its pages come, and again when a part of it leaves. A step
//! costs what it adds and not what stands there. The list is lent to the request and given back after
//! the call.

use std::sync::Arc;

use aosk_abi::{Hash, PageId, Role, Seq, Source, Stub, ToolResult};
use aosk_context::{Page, PageTable, Plan};
use aosk_ports::{Message, Part};

use super::Driver;
use super::recall::{gap_text, heading, is_recalled, stub_text};
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
    arrived: Vec<Arrived>,
}

/// Where a content or a part of it stands, and its text.
type Arrived = (Source, Option<(u64, u64)>, Arc<str>);

/// A page to be shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    page: PageId,
    source: Source,
    unit: Seq,
    range: Option<(u64, u64)>,
}

impl Shown {
    fn of(page: &Page) -> Self {
        Self { page: page.id, source: page.source, unit: page.unit, range: page.range }
    }

    fn is_recalled(self) -> bool {
        is_recalled(self.source, self.unit)
    }

    /// Whether `next` is another part of the same message.
    fn goes_on_in(&self, next: &Self) -> bool {
        self.source.seq == next.source.seq
            && self.source.seq != Seq(0)
            && !self.is_recalled()
            && !next.is_recalled()
    }
}

/// The first and the last page of a message, between which no other message has one; no last page
/// for a stub, which stands where its first page would.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: PageId,
    last: Option<PageId>,
}

impl Span {
    /// Whether its first page is among those, which ascend: the others never stand without it.
    fn leaves(self, pages: &[PageId]) -> bool {
        self.last.is_some() && pages.binary_search(&self.first).is_ok()
    }

    /// Its last page, where one of its pages is among those, which ascend.
    fn touched(self, pages: &[PageId]) -> Option<PageId> {
        let next = pages.partition_point(|page| *page < self.first);
        self.last.filter(|last| pages.get(next).is_some_and(|page| page <= last))
    }
}

impl MessageCache {
    /// Takes the messages of a request back.
    pub(super) fn give_back(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Keeps the texts of what arrived till their messages are made.
    pub(super) fn expect(&mut self, arrived: Vec<Arrived>) {
        self.arrived = arrived;
    }

    /// How many messages are made of the first `pages` pages alone.
    pub(super) fn settled(&self, pages: usize) -> usize {
        let settled = |span: &&Span| (span.last.unwrap_or(span.first).0 as usize) < pages;
        self.spans.iter().take_while(settled).count()
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
            if span.last.is_none() {
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
        self.spans.push(Span { first: stub.first, last: None });
        self.messages.push(Message { role: Role::User, parts: [text].into() });
    }

    fn remove(&mut self, evicted: &[PageId]) {
        if evicted.is_empty() {
            return;
        }
        let mut leaves = self.spans.iter().map(|span| span.leaves(evicted));
        self.messages.retain(|_| !leaves.next().unwrap_or(false));
        self.spans.retain(|span| !span.leaves(evicted));
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
            self.remake(&mut cache, &plan.evicted);
            cache.tell(stubs);
        }
        let admitted = plan.admitted.iter().map(|admission| Shown {
            page: admission.page,
            source: admission.source,
            unit: admission.unit,
            range: admission.range,
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
            let last = group.last().map(|shown| shown.page);
            cache.spans.push(Span { first: group[0].page, last });
        }
    }

    /// Makes the messages anew of which a part is among `evicted`.
    fn remake(&self, cache: &mut MessageCache, evicted: &[PageId]) {
        let MessageCache { spans, messages, arrived, .. } = cache;
        for (span, message) in spans.iter_mut().zip(messages) {
            let Some(last) = span.touched(evicted) else {
                continue;
            };
            let left: Vec<Shown> = (span.first.0..=last.0)
                .filter_map(|id| self.process.image.pages.page(PageId(id)))
                .filter(|page| page.resident && evicted.binary_search(&page.id).is_err())
                .map(Shown::of)
                .collect();
            if let Some(left_of_it) = self.message(&left, arrived) {
                *message = left_of_it;
                span.last = left.last().map(|shown| shown.page);
            }
        }
    }

    fn message(&self, group: &[Shown], arrived: &[Arrived]) -> Option<Message> {
        let mut role = Role::User;
        let mut parts = Vec::with_capacity(group.len());
        for pages in group.chunk_by(|a, b| a.source == b.source) {
            let shown = pages[0];
            let source = shown.source;
            let shape = self.process.image.transcript.get(source)?;
            if matches!(shape, Shape::Tools(_)) {
                continue;
            }
            // Of what is cut the whole text arrived.
            let range = shown.range.filter(|_| shown.is_recalled());
            let known = arrived.iter().find(|(place, part, _)| (*place, *part) == (source, range));
            let text = match known {
                Some((_, _, text)) => text.clone(),
                None if shown.is_recalled() => self.recalled_text(shape, range),
                None => self.text(shape),
            };
            if shown.is_recalled() {
                parts.push(Part::Text(text));
                continue;
            }
            let text = if shown.range.is_some() { self.left_of(&text, pages) } else { text };
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

    /// What those pages are of a text, all of one content, and where others of it are missing.
    fn left_of(&self, text: &str, pages: &[Shown]) -> Arc<str> {
        let table = &self.process.image.pages;
        let mut left = String::with_capacity(text.len());
        let mut next = pages[0].page;
        for shown in pages {
            self.put_gap(&mut left, next, shown.page);
            left.push_str(shown.range.map_or(text, |range| part(text, range)));
            next = PageId(shown.page.0.saturating_add(1));
        }
        let mut end = next;
        while let Some(page) = table.page(end)
            && page.is_part()
            && page.source == pages[0].source
        {
            end = PageId(end.0.saturating_add(1));
        }
        self.put_gap(&mut left, next, end);
        left.into()
    }

    /// Says on a line of its own that the pages from `first` and before `end` are missing, if there
    /// are any.
    fn put_gap(&self, text: &mut String, first: PageId, end: PageId) {
        let Some(last) = end.0.checked_sub(1).filter(|last| *last >= first.0) else {
            return;
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&gap_text(first, PageId(last), self.recalls()));
        text.push('\n');
    }

    /// What stands there as the model reads it; empty where that is no text.
    pub(super) fn text(&self, shape: &Shape) -> Arc<str> {
        match shape {
            Shape::ToolResult { content, .. } => self.result_text(content.hash),
            Shape::Opaque { content, .. } => {
                self.process.contents.exact_text(&content.hash).unwrap_or_default()
            }
            other => self.process.contents.text(&other.content().hash).unwrap_or_default(),
        }
    }

    /// What is recalled, with a line above it that says what it is.
    pub(super) fn recalled_text(&self, shape: &Shape, range: Option<(u64, u64)>) -> Arc<str> {
        let text = self.text(shape);
        (heading(shape) + range.map_or(&*text, |range| part(&text, range))).into()
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

/// The part of a text in that range of bytes. A text may have become shorter since it was cut, where
/// this kernel shows less of a result than the one before; then it is what there is.
pub(super) fn part(text: &str, (start, length): (u64, u64)) -> &str {
    let place = |at: u64| text.floor_char_boundary(usize::try_from(at).unwrap_or(usize::MAX));
    &text[place(start)..place(start.saturating_add(length))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_leaves_with_its_first_page_and_is_touched_by_any_other() {
        let span = Span { first: PageId(5), last: Some(PageId(7)) };
        let among = |pages: &[u32]| {
            let pages: Vec<_> = pages.iter().copied().map(PageId).collect();
            (span.leaves(&pages), span.touched(&pages).is_some())
        };
        for others in [&[][..], &[4], &[8], &[1, 4, 8, 9]] {
            assert_eq!(among(others), (false, false), "{others:?}");
        }
        assert_eq!((among(&[5]), among(&[1, 5, 9])), ((true, true), (true, true)));
        assert_eq!((among(&[6]), among(&[1, 7, 9])), ((false, true), (false, true)));
        let stub = Span { first: PageId(5), last: None };
        assert!(!stub.leaves(&[PageId(5)]) && stub.touched(&[PageId(5)]).is_none());
    }

    #[test]
    fn a_part_of_a_text_that_became_shorter_is_what_there_is() {
        for (range, found) in [((0, 3), "aé"), ((3, 2), "bc"), ((3, 3), "bc"), ((9, 1), "")] {
            assert_eq!(part("aébc", range), found, "{range:?}");
        }
        assert_eq!(part("aé", (2, 9)), "é");
        assert_eq!(part("aébc", (3, u64::MAX)), "bc");
    }
}
