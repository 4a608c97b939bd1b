//! `aosk mem search`: pages found by what they say.
//!
//! Where nobody runs on the store the index is brought up to date first; else it is read beside
//! whoever has it, and how far it is behind is said.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use aosk_abi::{PageKind, Pid, Tenant, ToolResult};
use aosk_kernel::{Image, Shape, SystemClock, load};
use aosk_ports::{Clock, Filter, Hit, Journal, Query, Retriever, Space};
use aosk_store::Follower;
use serde::Serialize;

use super::page;
use crate::args::MemSearch;
use crate::config::{Folders, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::moment;
use crate::memory;
use crate::print::{Screen, json};
use crate::processes::Processes;
use crate::reader;
use crate::text;
use crate::wiring::kernel_error;

/// How much of a page is shown, in characters.
const SNIPPET: usize = 160;

/// What `--json` prints of a hit.
#[derive(Serialize)]
struct Line<'a> {
    pid: String,
    name: &'a str,
    page: u32,
    kind: PageKind,
    /// When the event happened that holds it, and which event that is.
    at: u64,
    event: u64,
    /// Larger is better, comparable within one answer.
    score: f64,
    /// Its place by words and by direction, from 1.
    words: Option<u32>,
    vector: Option<u32>,
    snippet: String,
}

pub(super) async fn search(
    args: &MemSearch,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    let embedder = memory::embedder_of(settings, folders)?;
    let is_asked = embedder.is_some();
    let Some(reader) = reader::open(settings)? else {
        screen.err.wrapped("Nothing ran here yet.");
        return Ok(Exit::Done);
    };
    let journal: Arc<dyn Journal> = Arc::from(reader as Box<dyn Journal>);
    let processes = Processes::read(&*journal).await?;
    let pids = match &args.pid {
        Some(named) => vec![processes.find(named)?.pid],
        None => newest(&processes, screen),
    };
    if pids.is_empty() {
        screen.err.wrapped("Nothing ran here yet.");
        return Ok(Exit::Done);
    }
    let tenant = Tenant::local();
    let (index, is_own) = memory::open_to_ask(settings, embedder)?;
    let index = Arc::new(index);
    let follower = Follower::new(journal.clone(), index.clone());
    if is_own {
        for pid in &pids {
            follower.follow(&tenant, *pid).await?;
        }
    } else {
        let lag = follower.lag(&tenant).await?;
        if lag.events > 0 {
            let seconds = lag.millis(SystemClock::new().now()).div_ceil(1_000);
            screen.err.wrapped(&format!(
                "The index is {} events and {seconds} s behind; what is newer is not found yet.",
                lag.events
            ));
        }
    }
    let query = Query {
        spaces: pids.iter().copied().map(Space::Process).collect(),
        filter: Filter {
            kinds: args.kind.iter().map(|kind| kind.0).collect(),
            from: args.since,
            until: args.until,
            ..Filter::default()
        },
        k: args.limit.into(),
        ..Query::new(tenant, Space::Process(pids[0]), args.query.as_str(), 1)
    };
    let found = index.query(query).await?;
    if let Some(why) = found.words_only.filter(|_| is_asked) {
        screen.err.wrapped(&format!("Only words were compared: {why}"));
    }
    let mut images = HashMap::new();
    let mut rows: Vec<Vec<String>> =
        vec![["PID", "NAME", "PAGE", "KIND", "WHEN", "TEXT"].map(str::to_owned).into()];
    for hit in &found.hits {
        let pid = hit.entry.pid;
        let name = processes.name(pid).unwrap_or_default();
        let snippet = snippet(&*journal, &mut images, hit, &args.query).await?;
        if args.json {
            screen.out.line(&json(&line(hit, name, snippet))?)?;
            continue;
        }
        rows.push(vec![
            processes.short(pid),
            text::one_line(name),
            hit.entry.page.to_string(),
            page::name(hit.entry.kind).to_owned(),
            moment(hit.entry.time),
            snippet,
        ]);
    }
    if found.hits.is_empty() {
        screen.err.wrapped("No page answers that.");
    } else if !args.json {
        for line in text::table(&rows, &[2], &[1, 5], screen.out.width()) {
            screen.out.line(&line)?;
        }
    }
    Ok(Exit::Done)
}

/// The processes that were at work last, as many as one query may name.
fn newest(processes: &Processes, screen: &Screen) -> Vec<Pid> {
    let mut all: Vec<_> = processes.all().map(|it| (it.row.updated, it.pid)).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    if all.len() > Query::SPACES_MAX {
        screen.err.wrapped(&format!(
            "Of {} agents the {} that were at work last are searched; --pid names another.",
            all.len(),
            Query::SPACES_MAX
        ));
        all.truncate(Query::SPACES_MAX);
    }
    all.into_iter().map(|(_, pid)| pid).collect()
}

fn line<'a>(hit: &Hit, name: &'a str, snippet: String) -> Line<'a> {
    Line {
        pid: hit.entry.pid.to_string(),
        name,
        page: hit.entry.page.0,
        kind: hit.entry.kind,
        at: hit.entry.time.as_millis(),
        event: hit.entry.seq.0,
        score: hit.score,
        words: hit.origin.words,
        vector: hit.origin.vector,
        snippet,
    }
}

/// The beginning of the line of the page in which a word of the query stands, else of the page.
async fn snippet(
    journal: &dyn Journal,
    images: &mut HashMap<Pid, Image>,
    hit: &Hit,
    query: &str,
) -> Result<String, Error> {
    let (tenant, entry) = (Tenant::local(), &hit.entry);
    let image = match images.entry(entry.pid) {
        Slot::Occupied(known) => known.into_mut(),
        Slot::Vacant(free) => {
            let image = load(journal, &tenant, entry.pid, None).await;
            free.insert(image.map_err(kernel_error)?)
        }
    };
    let bytes = journal.contents(&tenant, entry.pid, &[(entry.seq, entry.hash)]).await?;
    let bytes = bytes.first().map_or(&[][..], |bytes| &**bytes);
    let page = image.pages.page(entry.page);
    let shape = page.and_then(|page| image.transcript.get(page.source));
    let text = match serde_json::from_slice::<ToolResult>(bytes) {
        Ok(result) if matches!(shape, Some(Shape::ToolResult { .. })) => result.to_text(usize::MAX),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    let of = |(start, len): (u64, u64)| {
        let start = usize::try_from(start).ok()?;
        text.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    };
    let whole = page.and_then(|page| page.range).and_then(of).unwrap_or(&text);
    let part = usize::try_from(entry.start).ok().and_then(|start| whole.get(start..));
    Ok(around(part.unwrap_or(whole), query))
}

/// The line of the text that holds most words of the query, and what follows, cut to its length.
fn around(part: &str, query: &str) -> String {
    let query = query.to_lowercase();
    let words: Vec<&str> =
        query.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let held = |line: &str| {
        let line = line.to_lowercase();
        words.iter().filter(|word| line.contains(**word)).count()
    };
    let lines: Vec<&str> = part.lines().collect();
    // Of equal ones the first.
    let best = (0..lines.len()).rev().max_by_key(|at| held(lines[*at])).unwrap_or(0);
    let rest = text::one_line(&lines[best.min(lines.len())..].join(" "));
    text::cut(&rest, SNIPPET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_begins_with_the_line_that_answers() {
        let page = "one\ntwo of them\nthe Ferry leaves at nine\nfour";
        assert_eq!(around(page, "when does the ferry leave?"), "the Ferry leaves at nine four");
        assert_eq!(around(page, "zebra"), "one two of them the Ferry leaves at nine four");
        assert_eq!(around("", "zebra"), "");
        assert_eq!(around("港口在冬天关闭\nx", "冬天"), "港口在冬天关闭 x");
        let long = around(&"word ".repeat(200), "word");
        assert_eq!(text::width(&long), SNIPPET);
    }
}
