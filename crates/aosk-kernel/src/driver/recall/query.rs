//! `recall` by a query: pages that have left, found by what they say.
//!
//! The search looks into this process's memory alone. Where the index is behind, it reads the rest
//! of this process's journal first, so that what left a moment ago is found too. It reads each
//! event once in its life, so all searches of a process together cost in proportion to its journal;
//! one search waits [`PATIENCE`] at most and then goes by what is there. Agents go on whatever
//! becomes of it: the answer says what is missing.
//!
//! The pages beside a hit stay where they are. With 80 questions about recorded memories the
//! evidence stands in a tenth of the history for 97.5 % of them without neighbours and for 96.3 %
//! with them, in a twentieth for 81.3 % and 72.5 %: the room is better spent on the next hit. The
//! answer names the numbers, so an agent that wants what stood around them asks for that.
//!
//! What was found is written down with the ranks. The fold takes the pages from there and asks no
//! index again.

use std::collections::HashSet;
use std::time::Duration;

use aosk_abi::{Code, PageId, RecallRank, RecallSearch, Tokens, ToolResult};
use aosk_ports::{Hit, Query, Space, StoreError};

use super::{Chosen, Whereabouts, invalid, piece, whole};
use crate::driver::tools::Arguments;
use crate::driver::{Driver, Interruption, Wait};
use crate::error::Error;

/// How many pages a query finds where it does not say.
pub(super) const USUAL: usize = 3;

/// How many it may ask for.
pub(super) const MOST: usize = 20;

/// The most tokens that come back for one query: four whole pages. Whoever wants more has their
/// numbers by then.
const ROOM: Tokens = Tokens(4_096);

/// The longest query in characters: some 200 words, of which an index compares 48.
const LONGEST: usize = 1_000;

/// The most pages that a note names: any word in common makes a page a hit.
const SHOWN: usize = 5;

/// For how long a search waits for the index to catch up, and as long again for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a query looks for.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    text: String,
    pages: usize,
}

/// What a search came to.
struct Found {
    hits: Vec<Hit>,
    /// What the agent has to know of it.
    notes: Vec<String>,
}

/// What the arguments look for, or what the model has to mend.
pub(super) fn wanted(arguments: &Arguments) -> Result<Wanted, Box<ToolResult>> {
    let text = match arguments.get("query") {
        Some(serde_json::Value::String(text)) => text,
        None | Some(serde_json::Value::Null) => {
            return Err(invalid("`k` is given without a `query`".to_owned()));
        }
        Some(value) => return Err(invalid(format!("`query` is {value}, and must be a text"))),
    };
    if text.trim().is_empty() {
        return Err(invalid("`query` is empty: say what the pages are about".to_owned()));
    }
    let length = text.chars().count();
    if length > LONGEST {
        return Err(invalid(format!(
            "`query` has {length} characters, and at most {LONGEST} are read: give the words that \
             matter"
        )));
    }
    let pages = match whole(arguments, "k", "a number of pages")? {
        None => USUAL,
        Some(k) => usize::try_from(k)
            .ok()
            .filter(|k| (1..=MOST).contains(k))
            .ok_or_else(|| invalid(format!("`k` is {k}: give 1 to {MOST}")))?,
    };
    Ok(Wanted { text: text.clone(), pages })
}

impl Driver {
    /// The pages that answer a query and are not there, or what the model has to mend; `None` where
    /// the process goes no further meanwhile.
    pub(super) async fn search(
        &mut self,
        wanted: &Wanted,
    ) -> Result<Option<Result<Chosen, Box<ToolResult>>>, Error> {
        let away = self.whereabouts();
        let gone = away.newest.len().saturating_sub(away.here.len());
        if gone == 0 {
            return Ok(Some(Err(ToolResult::failed(
                "already_here",
                "no page has left: all of this conversation stands in the context",
                "read it there",
            )
            .into())));
        }
        // Whatever is here may stand before all that is wanted.
        let known = self.process.image.pages.pages().len();
        let k = (wanted.pages + known - gone).min(Query::K_MAX);
        Ok(match self.remember(&wanted.text, k).await? {
            Ok(Ok(found)) => Some(self.choose(wanted, &away, found)),
            Ok(Err(error)) => Some(Err(ToolResult::failed(
                "search_failed",
                format!("what has left cannot be searched now: {}", error.message),
                "recall it by the numbers that stand in brackets, or go on without it",
            )
            .into())),
            Err(Interruption::Stop) => return Err(Error::Stopping),
            Err(Interruption::Rest) => None,
        })
    }

    /// Asks the memory, once it has caught up with this process.
    async fn remember(
        &mut self,
        text: &str,
        k: usize,
    ) -> Result<Result<Result<Found, StoreError>, Interruption>, Error> {
        let parts = &self.process.shared.parts;
        let (tenant, pid) = (self.process.image.tenant.clone(), self.process.image.pid);
        let query = Query::new(tenant.clone(), Space::Process(pid), text, k);
        let (memory, clock) = (parts.memory.clone(), parts.clock.clone());
        let search = async move {
            let Some(memory) = memory else {
                let message = "this kernel has no search index";
                return Err(StoreError::new(Code::StoreClosed, message));
            };
            let late = || format!("it took more than {} s", PATIENCE.as_secs());
            let behind = tokio::select! {
                biased;
                followed = memory.follow(&tenant, pid) => followed.err().map(|it| it.message),
                () = clock.sleep(PATIENCE) => Some(late()),
            };
            let found = tokio::select! {
                biased;
                found = memory.query(query) => found?,
                () = clock.sleep(PATIENCE) => {
                    return Err(StoreError::new(Code::StoreIo, late()));
                }
            };
            let behind = behind.map(|why| format!("the newest pages may be missing: {why}"));
            let words = found.words_only.map(|why| format!("only words were compared: {why}"));
            Ok(Found { hits: found.hits, notes: behind.into_iter().chain(words).collect() })
        };
        self.interruptible(search, Wait::Flight).await
    }

    /// The first of the pages that are not there, as far as they fit.
    fn choose(
        &self,
        wanted: &Wanted,
        away: &Whereabouts,
        Found { hits, mut notes }: Found,
    ) -> Result<Chosen, Box<ToolResult>> {
        let room = away.room.min(ROOM);
        let (mut pages, mut ranks, mut size) = (Vec::new(), Vec::new(), Tokens::ZERO);
        let (mut here, mut large) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for hit in hits {
            if pages.len() == wanted.pages {
                break;
            }
            let page = self.process.image.pages.page(hit.entry.page);
            // An index of another journal would name pages that this one has under other numbers.
            let page = page.filter(|page| page.source.seq == hit.entry.seq);
            let Some(page) = page.filter(|page| seen.insert(piece(page))) else { continue };
            let id = away.newest.get(&piece(page)).copied().unwrap_or(page.id);
            if away.here.contains(&piece(page)) {
                // Those that answer better than what comes back.
                if pages.is_empty() && here.len() < SHOWN {
                    here.push(id);
                }
            } else if size + page.tokens > room {
                if large.len() < SHOWN {
                    large.push(id);
                }
            } else {
                size += page.tokens;
                pages.push(id);
                ranks.push(RecallRank { vector: hit.origin.vector, words: hit.origin.words });
            }
        }
        if !here.is_empty() {
            notes.push(format!("in the context already: {}", list(&here)));
        }
        if !large.is_empty() {
            notes.push(format!("beyond the {room} tokens that fit: {}", list(&large)));
        }
        let answer = match pages[..] {
            [] if !large.is_empty() => {
                return Err(ToolResult::failed(
                    "too_large",
                    format!("{} found, and {room} tokens can come back now", list(&large)),
                    "make room, or go on without it",
                )
                .into());
            }
            [] => ToolResult::ok("nothing that has left answers this query; try other words"),
            _ => {
                let follow = if pages.len() == 1 { "follows" } else { "follow, the best first" };
                ToolResult::ok(format!("{} {follow}", list(&pages)))
            }
        };
        let answer = if notes.is_empty() { answer } else { answer.with("note", notes.join("; ")) };
        // The arguments of the call were cleaned of secrets before they were kept.
        let query = self.process.contents.seal_aside(wanted.text.as_bytes());
        let search = RecallSearch { query: query.reference(), ranks };
        Ok(Chosen { pages, search: Some((search, query)), answer })
    }
}

/// The pages by their numbers.
fn list(pages: &[PageId]) -> String {
    let numbers: Vec<String> = pages.iter().map(PageId::to_string).collect();
    match &numbers[..] {
        [page] => format!("page {page}"),
        _ => format!("pages {}", numbers.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Result<Wanted, String> {
        let arguments = serde_json::from_str(text).expect("JSON");
        super::wanted(&arguments).map_err(|refused| refused.to_text(2_000))
    }

    #[test]
    fn queries_below_at_and_above_their_bounds() {
        let of = |length: usize| wanted(&format!("{{\"query\": \"{}\"}}", "é".repeat(length)));
        for length in [1, LONGEST - 1, LONGEST] {
            assert_eq!(of(length).expect("read").pages, USUAL);
        }
        assert!(of(LONGEST + 1).expect_err("refused").contains("at most 1000 are read"));
        for k in [1, MOST] {
            let found = wanted(&format!("{{\"query\": \"a\", \"k\": {k}}}"));
            assert_eq!(found, Ok(Wanted { text: "a".to_owned(), pages: k }));
        }
        for (text, part) in [
            (r#"{"query": ""}"#, "is empty"),
            (r#"{"query": " \n\t"}"#, "is empty"),
            (r#"{"query": 7}"#, "must be a text"),
            (r#"{"k": 7}"#, "without a `query`"),
            (r#"{"query": "a", "k": 0}"#, "give 1 to 20"),
            (r#"{"query": "a", "k": 21}"#, "give 1 to 20"),
            (r#"{"query": "a", "k": -1}"#, "`k` is -1"),
            (r#"{"query": "a", "k": 1.5}"#, "`k` is 1.5"),
            (r#"{"query": "a", "k": "3"}"#, "`k` is \"3\""),
        ] {
            assert!(wanted(text).expect_err("refused").contains(part), "{text}");
        }
    }
}
