//! `recall`: page faults.
//!
//! What left the window is named by stubs and stands in the store as it was. An agent that needs it
//! asks for it by number, or [by what it says](query); the pages come back at the end of the
//! prompt, behind the result of that call, where they invalidate nothing that an endpoint has
//! cached. They are the same bytes: not the call's result, which only says what follows.

mod query;

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use aosk_abi::{
    Content, Effect, Op, PageId, RecallSearch, Recalled, Seq, Source, Stub, Tokens, ToolCall,
    ToolResult, ToolSpec, What,
};
use aosk_context::Page;
use serde_json::json;

use super::Driver;
use super::tools::Arguments;
use crate::error::Error;
use crate::image::Shape;

/// The tool that every kernel has.
pub(crate) const RECALL: &str = "recall";

/// What a model is told of it; whether it `searches` is the kernel's to say.
pub(crate) fn recall_spec(searches: bool) -> ToolSpec {
    let mut description = "Reads earlier pages of this conversation that were moved out to make \
                           room. Their numbers stand in brackets where they stood."
        .to_owned();
    let mut parameters = json!({
        "type": "object",
        "properties": {
            "page": {
                "type": "integer", "minimum": 0,
                "description": "the page, or the first of several",
            },
            "to": {"type": "integer", "minimum": 0, "description": "the last of several"},
        },
        "additionalProperties": false,
    });
    if searches {
        description += " Give `page`, or a `query` to find those that answer it.";
        parameters["properties"]["query"] =
            json!({"type": "string", "description": "what the pages are about, in words"});
        parameters["properties"]["k"] = json!({
            "type": "integer", "minimum": 1, "maximum": query::MOST,
            "description": format!("how many pages a query finds; {} unless given", query::USUAL),
        });
    } else {
        parameters["required"] = json!(["page"]);
    }
    ToolSpec { name: RECALL.to_owned(), description, parameters, effect: Effect::Pure }
}

/// What a page is asked for by.
const NUMBER: &str = "the number of a page";

/// What a call asks for.
#[derive(Debug, PartialEq)]
enum Asked {
    Pages(RangeInclusive<u32>),
    Query(query::Wanted),
}

/// Pages that come back, and what the call is answered.
struct Chosen {
    pages: Vec<PageId>,
    /// How they were found, with the text of the query.
    search: Option<(RecallSearch, Content)>,
    answer: ToolResult,
}

/// A content and which part of it: what makes two pages the same.
type Piece = (Source, Option<(u64, u64)>);

fn piece(page: &Page) -> Piece {
    (page.source, page.range)
}

/// What stands in the context or is on its way, and what the rest is called.
struct Whereabouts {
    here: HashSet<Piece>,
    /// Its newest number is the one that goes on counting how often it was needed.
    newest: HashMap<Piece, PageId>,
    /// How much may come back now.
    room: Tokens,
}

/// What stands in the prompt for pages that have left.
pub(super) fn stub_text(stub: &Stub) -> String {
    let Stub { first, last, .. } = stub;
    if first == last {
        return format!("[page {first} is swapped out; recall reads it]");
    }
    format!("[pages {first}-{last} are swapped out; recall reads them]")
}

/// What stands in a content in place of the parts that have left, those pages; `reads` where the
/// agent can ask for them.
pub(super) fn gap_text(first: PageId, last: PageId, reads: bool) -> String {
    if reads {
        let pages = last.0.saturating_sub(first.0).saturating_add(1);
        return stub_text(&Stub { first, last, pages, tokens: Tokens::ZERO });
    }
    "[a part of this was moved out to make room]".to_owned()
}

/// Whether a page that joined that unit stood in the prompt before: what comes for the first time
/// is not older than the turn that it belongs to.
pub(super) fn is_recalled(source: Source, unit: Seq) -> bool {
    unit > source.seq
}

/// The line above a page that was recalled.
pub(super) fn heading(shape: &Shape) -> String {
    match shape {
        Shape::ToolResult { name, .. } => format!("[recalled result of {name}]\n"),
        Shape::ToolCall { name, .. } => format!("[recalled call of {name}]\n"),
        Shape::Reply(_) | Shape::Opaque { .. } => "[recalled reply]\n".to_owned(),
        Shape::User(_) | Shape::System(_) | Shape::Tools(_) => "[recalled message]\n".to_owned(),
    }
}

impl Driver {
    /// Whether the agent can ask for pages back.
    pub(super) fn recalls(&self) -> bool {
        self.means.specs.iter().any(|spec| spec.name == RECALL)
    }

    /// Answers a call of `recall`; `None` where the process goes no further meanwhile.
    pub(super) async fn recall(&mut self, op: Op, call: &ToolCall) -> Result<Option<()>, Error> {
        let chosen = match self.arguments(call).and_then(|arguments| asked(&arguments)) {
            Ok(Asked::Pages(numbers)) => self.numbered(numbers),
            Ok(Asked::Query(wanted)) => match self.search(&wanted).await? {
                Some(found) => found,
                None => return Ok(None),
            },
            Err(refused) => Err(refused),
        };
        let Chosen { pages, search, answer } = match chosen {
            Ok(chosen) => chosen,
            Err(refused) => return self.returned(op, &refused, Duration::ZERO).map(Some),
        };
        if !pages.is_empty() {
            self.load(&pages).await?;
            let (search, query) = search.unzip();
            self.process.emit_with(What::Recalled(Recalled { op, pages, search }), query)?;
        }
        self.returned(op, &answer, Duration::ZERO).map(Some)
    }

    /// Reads the texts of pages.
    async fn load(&mut self, pages: &[PageId]) -> Result<(), Error> {
        let image = &self.process.image;
        let source = |page: &PageId| {
            let source = image.pages.page(*page)?.source;
            Some((source.seq, *image.transcript.get(source)?.content()))
        };
        let wanted: Vec<_> = pages.iter().filter_map(source).collect();
        let (tenant, pid) = (image.tenant.clone(), image.pid);
        let store = self.process.shared.parts.store.clone();
        self.process.contents.load(store.as_ref(), &tenant, pid, wanted.into_iter()).await?;
        Ok(())
    }

    /// The pages of these numbers that are not there, or what the model has to mend.
    fn numbered(&self, numbers: RangeInclusive<u32>) -> Result<Chosen, Box<ToolResult>> {
        let image = &self.process.image;
        let Whereabouts { mut here, newest, room } = self.whereabouts();
        let (mut pages, mut size) = (Vec::new(), Tokens::ZERO);
        for id in numbers.clone().map(PageId) {
            let Some(page) = image.pages.page(id) else {
                let most = image.pages.pages().len().saturating_sub(1);
                return Err(ToolResult::failed(
                    "unknown_page",
                    format!("there is no page {id}; the pages so far have the numbers 0 to {most}"),
                    "take a number that stands in brackets in this conversation",
                )
                .into());
            };
            let is_text = !matches!(image.transcript.get(page.source), Some(Shape::Opaque { .. }));
            if is_text && here.insert(piece(page)) {
                pages.push(newest.get(&piece(page)).copied().unwrap_or(id));
                size += page.tokens;
            }
        }
        let (first, last) = numbers.into_inner();
        if size > room {
            return Err(ToolResult::failed(
                "too_large",
                format!(
                    "the pages {first} to {last} have {size} tokens, and {room} can come back at once"
                ),
                "ask for fewer pages",
            )
            .into());
        }
        let answer = match pages[..] {
            [] => {
                return Err(ToolResult::failed(
                    "already_here",
                    format!(
                        "all there is to read of the pages {first} to {last} stands in the context"
                    ),
                    "read it there",
                )
                .into());
            }
            [page] => format!("page {page} follows"),
            _ => format!("{} pages follow", pages.len()),
        };
        Ok(Chosen { pages, search: None, answer: ToolResult::ok(answer) })
    }

    /// Made once for a call, because a model may well ask for all pages there are. O(pages).
    fn whereabouts(&self) -> Whereabouts {
        let image = &self.process.image;
        let coming = image.arrivals.iter().filter(|it| is_recalled(it.source, it.unit));
        let due: Tokens = coming.clone().map(|arrival| arrival.tokens).sum();
        let mut here: HashSet<Piece> = image.pages.resident().map(piece).collect();
        here.extend(coming.map(|arrival| (arrival.source, arrival.range)));
        let newest = image.pages.pages().iter().map(|page| (piece(page), page.id)).collect();
        Whereabouts { here, newest, room: self.recall_room().saturating_sub(due) }
    }

    /// How much may come back at once: half of what the pinned pages leave, so that what belongs to
    /// the turn besides has room too.
    fn recall_room(&self) -> Tokens {
        let pinned = self.process.image.pages.resident().filter(|page| page.pinned);
        let pinned: Tokens = pinned.map(|page| page.tokens).sum();
        Tokens(self.room().saturating_sub(pinned).0 / 2)
    }
}

/// What the arguments ask for, or what the model has to mend.
fn asked(arguments: &Arguments) -> Result<Asked, Box<ToolResult>> {
    let is_given = |name: &&str| arguments.get(*name).is_some_and(|value| !value.is_null());
    let by_number: Vec<&str> = ["page", "to"].into_iter().filter(is_given).collect();
    let by_words: Vec<&str> = ["query", "k"].into_iter().filter(is_given).collect();
    if let (Some(number), Some(words)) = (by_number.first(), by_words.first()) {
        return Err(invalid(format!("`{number}` and `{words}` are given: ask for one of both")));
    }
    if by_words.is_empty() {
        numbers(arguments).map(Asked::Pages)
    } else {
        query::wanted(arguments).map(Asked::Query)
    }
}

/// The first and the last page that are asked for.
fn numbers(arguments: &Arguments) -> Result<RangeInclusive<u32>, Box<ToolResult>> {
    let page = |name| {
        let number = whole(arguments, name, NUMBER)?;
        let as_page = |number: u64| {
            u32::try_from(number)
                .map_err(|_| invalid(format!("`{name}` is {number}, and must be {NUMBER}")))
        };
        number.map(as_page).transpose()
    };
    let first = page("page")?.ok_or_else(|| invalid("`page` is missing".to_owned()))?;
    let last = page("to")?.unwrap_or(first);
    if last < first {
        return Err(invalid(format!("`to` is {last}, which is before page {first}")));
    }
    Ok(first..=last)
}

/// A whole number, where it is given; `what` says of what.
fn whole(arguments: &Arguments, name: &str, what: &str) -> Result<Option<u64>, Box<ToolResult>> {
    match arguments.get(name) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| invalid(format!("`{name}` is {value}, and must be {what}"))),
    }
}

fn invalid(message: String) -> Box<ToolResult> {
    Box::new(ToolResult::failed(
        "invalid_arguments",
        message,
        "call it as {\"page\": 12}, {\"page\": 12, \"to\": 15} or {\"query\": \"what it was about\"}",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_context::STUB;

    #[test]
    fn the_text_of_a_stub_has_no_more_tokens_than_is_provided_for() {
        let stub = |first, last| Stub {
            first: PageId(first),
            last: PageId(last),
            pages: 2,
            tokens: Tokens(1),
        };
        // A token for each digit, and one for each word and sign besides.
        for stub in [stub(1_200, 1_299), stub(0, 0), stub(123_456, 123_999)] {
            let text = stub_text(&stub);
            let digits = text.chars().filter(char::is_ascii_digit).count();
            let others =
                text.split_whitespace().count() + text.matches(['[', ']', '-', ';']).count();
            assert!((digits + others) as u64 <= STUB.0, "{text}: {}", digits + others);
        }
    }

    #[test]
    fn pages_are_asked_for_by_number() {
        let numbers = |text: &str| {
            numbers(&serde_json::from_str(text).expect("JSON"))
                .map_err(|refused| refused.to_text(500))
        };
        assert_eq!(numbers(r#"{"page": 3}"#), Ok(3..=3));
        assert_eq!(numbers(r#"{"page": 3, "to": 5}"#), Ok(3..=5));
        assert_eq!(numbers(r#"{"page": 3, "to": null}"#), Ok(3..=3));
        for (wrong, part) in [
            ("{}", "`page` is missing"),
            (r#"{"page": -1}"#, "is -1"),
            (r#"{"page": "3"}"#, "must be the number"),
            (r#"{"page": 4294967296}"#, "must be the number"),
            (r#"{"page": 3, "to": 2}"#, "before page 3"),
        ] {
            assert!(numbers(wrong).expect_err("refused").contains(part), "{wrong}");
        }
    }
}
