//! `recall`: page faults.
//!
//! What left the window is named by stubs and stands in the store as it was. An agent that needs it
//! asks for it by number; the pages come back at the end of the prompt, behind the result of that
//! call, where they invalidate nothing that an endpoint has cached. They are the same bytes: not the
//! call's result, which only says what follows.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aosk_abi::{
    Effect, Op, PageId, Recalled, Seq, Source, Stub, Tokens, ToolCall, ToolResult, ToolSpec, What,
};
use serde_json::json;

use super::Driver;
use super::tools::Arguments;
use crate::error::Error;
use crate::image::Shape;

/// The tool that every kernel has.
pub(crate) const RECALL: &str = "recall";

/// What a model is told of it.
pub(crate) fn recall_spec() -> ToolSpec {
    ToolSpec {
        name: RECALL.to_owned(),
        description: "Reads earlier pages of this conversation that were moved out to make room. \
                      Their numbers stand in brackets where they stood."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "page": {
                    "type": "integer", "minimum": 0,
                    "description": "the page, or the first of several",
                },
                "to": {"type": "integer", "minimum": 0, "description": "the last of several"},
            },
            "required": ["page"],
            "additionalProperties": false,
        }),
        effect: Effect::Pure,
    }
}

/// What stands in the prompt for pages that have left.
pub(super) fn stub_text(stub: &Stub) -> String {
    let Stub { first, last, .. } = stub;
    if first == last {
        return format!("[page {first} is swapped out; recall reads it]");
    }
    format!("[pages {first}-{last} are swapped out; recall reads them]")
}

/// Whether a page that joined that unit stood in the prompt before: what comes for the first time is
/// not older than the turn that it belongs to.
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

    /// Answers a call of `recall`.
    pub(super) async fn recall(&mut self, op: Op, call: &ToolCall) -> Result<(), Error> {
        let found = match self.arguments(call) {
            Ok(arguments) => self.found(&arguments),
            Err(refused) => Err(refused),
        };
        let pages = match found {
            Ok(pages) => pages,
            Err(refused) => return self.returned(op, &refused, Duration::ZERO),
        };
        let wanted: Vec<_> = pages
            .iter()
            .filter_map(|page| {
                let source = self.process.image.pages.page(*page)?.source;
                Some((source.seq, *self.process.image.transcript.get(source)?.content()))
            })
            .collect();
        let (tenant, pid) = (self.process.image.tenant.clone(), self.process.image.pid);
        let store = self.process.shared.parts.store.clone();
        self.process.contents.load(store.as_ref(), &tenant, pid, wanted.into_iter()).await?;
        let text = match pages[..] {
            [page] => format!("page {page} follows"),
            _ => format!("{} pages follow", pages.len()),
        };
        self.process.emit(What::Recalled(Recalled { op, pages }))?;
        self.returned(op, &ToolResult::ok(text), Duration::ZERO)
    }

    /// The pages that are asked for and not there, or what the model has to mend.
    fn found(&self, arguments: &Arguments) -> Result<Vec<PageId>, Box<ToolResult>> {
        let (first, last) = numbers(arguments)?;
        let image = &self.process.image;
        let (mut pages, mut size) = (Vec::new(), Tokens::ZERO);
        let coming = image.arrivals.iter().filter(|it| is_recalled(it.source, it.unit));
        let due: Tokens = coming.clone().map(|arrival| arrival.tokens).sum();
        // Made once, because a model may well ask for all pages there are.
        let mut here: HashSet<_> =
            image.pages.resident().map(|page| (page.source, page.range)).collect();
        here.extend(coming.map(|arrival| (arrival.source, arrival.range)));
        let newest: HashMap<_, PageId> =
            image.pages.pages().iter().map(|page| ((page.source, page.range), page.id)).collect();
        for id in (first..=last).map(PageId) {
            let Some(page) = image.pages.page(id) else {
                let most = image.pages.pages().len().saturating_sub(1);
                return Err(ToolResult::failed(
                    "unknown_page",
                    format!("there is no page {id}; the pages so far have the numbers 0 to {most}"),
                    "take a number that stands in brackets in this conversation",
                )
                .into());
            };
            let content = (page.source, page.range);
            let is_text = !matches!(image.transcript.get(page.source), Some(Shape::Opaque { .. }));
            if is_text && here.insert(content) {
                // Its newest number is the one that goes on counting how often it was needed.
                pages.push(newest.get(&content).copied().unwrap_or(id));
                size += page.tokens;
            }
        }
        let room = self.recall_room().saturating_sub(due);
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
        if pages.is_empty() {
            return Err(ToolResult::failed(
                "already_here",
                format!(
                    "all there is to read of the pages {first} to {last} stands in the context"
                ),
                "read it there",
            )
            .into());
        }
        Ok(pages)
    }

    /// How much may come back at once: half of what the pinned pages leave, so that what belongs to
    /// the turn besides has room too.
    fn recall_room(&self) -> Tokens {
        let pinned = self.process.image.pages.resident().filter(|page| page.pinned);
        let pinned: Tokens = pinned.map(|page| page.tokens).sum();
        Tokens(self.room().saturating_sub(pinned).0 / 2)
    }
}

/// The first and the last page that are asked for.
fn numbers(arguments: &Arguments) -> Result<(u32, u32), Box<ToolResult>> {
    let number = |name: &str| match arguments.get(name) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(value) => {
            value.as_u64().and_then(|number| u32::try_from(number).ok()).map(Some).ok_or_else(
                || invalid(format!("`{name}` is {value}, and must be the number of a page")),
            )
        }
    };
    let first = number("page")?.ok_or_else(|| invalid("`page` is missing".to_owned()))?;
    let last = number("to")?.unwrap_or(first);
    if last < first {
        return Err(invalid(format!("`to` is {last}, which is before page {first}")));
    }
    Ok((first, last))
}

fn invalid(message: String) -> Box<ToolResult> {
    Box::new(ToolResult::failed(
        "invalid_arguments",
        message,
        "call it as {\"page\": 12} or {\"page\": 12, \"to\": 15}",
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
        assert_eq!(numbers(r#"{"page": 3}"#), Ok((3, 3)));
        assert_eq!(numbers(r#"{"page": 3, "to": 5}"#), Ok((3, 5)));
        assert_eq!(numbers(r#"{"page": 3, "to": null}"#), Ok((3, 3)));
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
