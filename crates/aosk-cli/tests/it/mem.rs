//! The context window as a map, and who uses how much memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::endpoint::{Answer, Endpoint, call};
use crate::scene::{pausing, run};
use crate::world::{Ran, World, lines};

/// The first page that the prompt says has left.
fn first_stub(text: &str) -> Option<u64> {
    let (_, stub) = text
        .split_once(" are swapped out")
        .and_then(|(before, _)| before.rsplit_once("[pages "))?;
    stub.split('-').next()?.parse().ok()
}

/// A machine on which an agent read more than its window holds and asked for a page that had left,
/// and the agent's pid.
fn crowded() -> (World, String) {
    let endpoint = Endpoint::new(|asked| {
        let text = asked.text();
        if text.contains("[recalled") {
            return Answer::Text("I have read it.".to_owned());
        }
        if text.contains("page 12 of") {
            // A call and its result left together, the call first.
            let page = first_stub(&text).expect("pages have left") + 1;
            return call("recall", json!({ "page": page }));
        }
        // Some results have left by then, so the number only grows up to what the window holds.
        let last = (1..=12).rev().find(|page| text.contains(&format!("page {page} of")));
        call("read_file", json!({"path": format!("{}.txt", last.unwrap_or(0) + 1)}))
    });
    let world = World::with(&endpoint);
    world.configure(
        "models.toml",
        "[models.small]\nprovider = \"local\"\nwindow = 4000\nmax_output = 500\n\
         price = { input = 1, output = 2 }\n",
    );
    for page in 1..=12 {
        let mut text = format!("page {page} of 12\n");
        for line in 0..40 {
            writeln!(text, "{line}: the quick brown fox {page}").expect("a string");
        }
        world.write(&format!("{page}.txt"), text);
    }
    let agent = world.agent(
        "reader",
        "model = \"small\"\ntools = [\"read_file\", \"recall\"]\nworkspace = \".\"",
    );
    let ran = world.run(&["run", &agent, "Read every page."]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let pid = world.only_pid();
    (world, pid)
}

fn mem(world: &World, args: &[&str]) -> Value {
    let ran = world.run(&[&["mem", "--json"], args].concat());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    serde_json::from_str(&ran.out).expect("JSON")
}

/// Checks a window against the plans of the journal up to the event that it shows.
fn agrees(window: &Value, events: &[Value]) {
    let plans = events.iter().filter(|event| event["kind"] == "planned");
    let (mut resident, mut all, mut newest) = (BTreeMap::new(), 0, &Value::Null);
    for plan in plans.filter(|plan| plan["seq"].as_u64() <= window["event"].as_u64()) {
        for page in plan["body"]["admitted"].as_array().into_iter().flatten() {
            resident.insert(number(&page["page"]), number(&page["tokens"]));
            all += 1;
        }
        for page in plan["body"]["evicted"].as_array().into_iter().flatten() {
            resident.remove(&number(page)).expect("it was there");
        }
        newest = plan;
    }
    let pages = window["pages"].as_array().expect("pages");
    assert_eq!(pages.len(), all);
    let shown = pages.iter().filter(|page| ["head", "log"].contains(&text(&page["place"])));
    let shown: BTreeMap<_, _> =
        shown.map(|page| (number(&page["page"]), number(&page["tokens"]))).collect();
    assert_eq!(shown, resident);
    let held: u64 = resident.values().sum();
    assert_eq!(window["resident"], json!({"pages": resident.len(), "tokens": held}));
    assert_eq!(window["evictions"], json!(all - resident.len()));
    assert_eq!(window["generation"], newest["body"]["generation"]);
    let room = &window["room"];
    assert_eq!(number(&room["head"]) + number(&room["log"]), held);
    let used = held + number(&room["overhead"]);
    assert_eq!(used, number(&newest["body"]["prompt_tokens"]));
    assert_eq!(used + number(&room["free"]), number(&room["prompt"]));
    assert_eq!((number(&room["prompt"]), number(&room["window"])), (3_500, 4_000));
    let utilisation = room["utilisation"].as_f64().expect("a share");
    assert!((utilisation - used as f64 / 35.0).abs() < 0.1, "{utilisation}");
}

/// Checks that a window gives for each page that left with the plan the terms of a score of it.
fn explains(window: &Value, plan: &Value) {
    let reasons = &plan["reasons"];
    assert_eq!(reasons.is_null(), plan["evicted"].is_null(), "{plan}");
    let scores: Vec<&Value> = reasons["scores"].as_array().into_iter().flatten().collect();
    for page in window["pages"].as_array().expect("pages") {
        let reason = &page["reason"];
        assert_eq!(reason.is_null(), page["change"] != "evicted", "{page}");
        if reason.is_null() {
            continue;
        }
        let own = scores.iter().find(|score| score["page"] == page["page"]);
        assert!(own.is_none_or(|_| reason["page"] == page["page"]), "{page}");
        let score = scores.iter().find(|score| score["page"] == reason["page"]);
        let score = score.unwrap_or_else(|| panic!("{page}: {scores:?}"));
        let names = reasons["terms"].as_array().expect("names").iter().map(text);
        let terms = score["terms"].as_array().expect("terms").iter();
        let terms = names.zip(terms.chain(reasons["shared"].as_array().expect("one for all")));
        let terms: BTreeMap<_, _> = terms.collect();
        assert_eq!(reason["terms"], json!(terms), "{page}");
        assert!(["needs_ppm", "rewrite", "fault"].iter().all(|name| terms.contains_key(name)));
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Where the newest event stands.
fn last(events: &[Value]) -> u64 {
    events.len() as u64 - 1
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

#[test]
fn the_window_at_any_event_is_what_the_journal_planned() {
    let (world, pid) = crowded();
    let events = world.events(&pid);
    let window = mem(&world, &[&pid]);
    agrees(&window, &events);
    assert_eq!((text(&window["state"]), number(&window["event"])), ("completed", last(&events)));
    assert!(number(&window["evictions"]) > 0, "{window:#}");
    for plan in events.iter().filter(|event| event["kind"] == "planned") {
        let seq = plan["seq"].to_string();
        let window = mem(&world, &[&pid, "--at", &seq]);
        agrees(&window, &events);
        assert_eq!((window["event"].to_string(), text(&window["state"])), (seq, "ready"));
        // What the plan did is marked on the pages.
        let body = &plan["body"];
        let changed = |what: &str| {
            let pages = window["pages"].as_array().expect("pages").iter();
            pages
                .filter(|page| page["change"] == what)
                .map(|page| &page["page"])
                .collect::<Vec<_>>()
        };
        explains(&window, body);
        let admitted = body["admitted"].as_array().into_iter().flatten();
        assert_eq!(changed("admitted"), admitted.map(|page| &page["page"]).collect::<Vec<_>>());
        assert_eq!(
            changed("evicted"),
            body["evicted"].as_array().into_iter().flatten().collect::<Vec<_>>()
        );
    }
    // A page that was asked for is there under a new number, as old and as often needed.
    assert_eq!(window["came_again"], 1);
    assert!(!window["stubs"].as_array().expect("stubs").is_empty());
    let pages = window["pages"].as_array().expect("pages");
    let before = pages.iter().find(|page| page["place"] == "renumbered").expect("it left once");
    let now = pages.iter().find(|page| page["page"] == before["now"]).expect("it is back");
    assert_eq!((text(&now["place"]), number(&now["accesses"])), ("log", 1));
    assert_eq!((&now["event"], &now["age"]), (&before["event"], &before["age"]));
    // What was sent and reported is that of the replies.
    let replies: Vec<&Value> =
        events.iter().filter(|event| event["kind"] == "llm_returned").collect();
    let sum = |field: &str| -> u64 {
        replies.iter().filter_map(|reply| reply["body"]["usage"][field].as_u64()).sum()
    };
    assert_eq!(number(&window["prompts"]["calls"]), replies.len() as u64);
    let hit = window["reported_hit"].as_f64().expect("a share");
    assert!((hit - sum("cached") as f64 * 100.0 / sum("input") as f64).abs() < 0.1, "{hit}");
    let [sent, repeated, predicted, uncut] =
        ["sent", "repeated", "predicted", "uncut"].map(|name| number(&window["prompts"][name]));
    assert!(repeated < sent && sent < uncut, "{window:#}");
    assert!(0 < predicted && predicted <= repeated, "{window:#}");
    let hit = window["predicted_hit"].as_f64().expect("a share");
    assert!((hit - predicted as f64 * 100.0 / sent as f64).abs() < 0.1, "{hit}");
}

#[test]
fn the_map_fits_into_eighty_columns_and_says_what_left() {
    let (mut world, pid) = crowded();
    let shown = world.run(&["mem", &pid]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    for line in shown.out.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    for said in [
        "3.5k for the prompt",
        "STTTT",
        "=====",
        "one cell: 10, S system",
        "tool result read_file",
        "pinned 1.00",
        "1 came again",
    ] {
        assert!(shown.out.contains(said), "{said:?}: {}", shown.out);
    }
    let plans = world.events(&pid);
    let left = plans.iter().rev().find(|event| event["body"]["evicted"].is_array());
    let left = left.expect("pages left");
    let then = world.run(&["mem", &pid, "--at", &left["seq"].to_string()]).out;
    assert!(then.contains("NEEDS_PPM  REWRITE  FAULT\n"), "{then}");
    assert!(then.lines().all(|line| line.chars().count() <= 80), "{then}");
    for (mark, what) in [("+  ", "admitted"), ("-  ", "evicted")] {
        let marked = then.lines().filter(|line| line.starts_with(mark)).count();
        assert_eq!(marked, left["body"][what].as_array().map_or(0, Vec::len), "{then}");
    }
    // Colour is for terminals and for those who ask.
    assert!(!shown.out.contains('\x1b'));
    assert!(world.run(&["mem", &pid, "--color", "always"]).out.contains("\x1b[33m"));
    world.set("NO_COLOR", "1");
    let line = format!("{} mem {pid}", env!("CARGO_BIN_EXE_aosk"));
    let mut script = world.of_build("script".as_ref(), &["-qec", &line, "/dev/null"]);
    let on_terminal = Ran::of(script.output().expect("script runs")).out;
    assert!(on_terminal.contains("one cell") && !on_terminal.contains('\x1b'), "{on_terminal}");
    // Nothing is in a window before its first plan.
    let first = world.run(&["mem", &pid, "--at", "0"]);
    assert!(first.out.contains("nothing was planned yet"), "{first:?}");
    assert!(mem(&world, &[&pid, "--at", "0"])["room"].is_null());
}

#[test]
fn what_cannot_be_shown_is_said() {
    let (world, pid) = crowded();
    let newest = last(&world.events(&pid));
    for (at, code) in [(newest - 1, 0), (newest, 0), (newest + 1, 2)] {
        assert_eq!(world.run(&["mem", &pid, "--at", &at.to_string()]).code, Some(code), "{at}");
    }
    let ran = world.run(&["mem", &pid, "--at", &(newest + 1).to_string()]);
    ran.failed(2, "AOSK-C001").says(&format!("its newest is {newest}"));
    world.run(&["mem", "nobody"]).failed(2, "AOSK-C005").says("aosk ps --all");
    world.run(&["mem"]).failed(2, "AOSK-C001").says("--top");
    world.run(&["mem", &pid, "--top"]).failed(2, "AOSK-C001");
    world.run(&["mem", "--top", "--at", "3"]).failed(2, "AOSK-C001");
    world.run(&["mem", &pid, "--at", "-1"]).failed(2, "AOSK-C001");
    let empty = World::new();
    empty.run(&["mem", &pid]).failed(2, "AOSK-C005");
    let top = empty.run(&["mem", "--top"]);
    assert_eq!((top.code, top.out.as_str()), (Some(0), ""));
    top.says("Nothing was run");
}

#[test]
fn whoever_uses_the_most_memory_stands_first() {
    let (mut world, reader) = crowded();
    let (endpoint, _) = pausing();
    world.set("OPENAI_BASE_URL", &endpoint.url());
    world.agent("a", "tools = [\"calculator\"]");
    let running = run(&world, &endpoint);
    let top = |args: &[&str]| {
        let ran = world.run(&[&["mem", "--top", "--json"], args].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
        lines(&ran.out)
    };
    let unfinished = top(&[]);
    assert_eq!(unfinished.len(), 1);
    let both = top(&["--all"]);
    assert_eq!((both.len(), &both[1]), (2, &unfinished[0]));
    assert!(number(&both[0]["resident_tokens"]) > number(&both[1]["resident_tokens"]));
    // The list starts from checkpoints and the window from the first event: they agree.
    let window = mem(&world, &[&reader]);
    let listed = &both[0];
    assert_eq!(listed["pid"], window["pid"]);
    assert_eq!(listed["resident_tokens"], window["resident"]["tokens"]);
    assert_eq!(listed["swapped_pages"], window["swapped"]["pages"]);
    assert_eq!(listed["swapped_tokens"], window["swapped"]["tokens"]);
    assert_eq!(listed["evictions"], window["evictions"]);
    assert_eq!(listed["room"], window["room"]["prompt"]);
    assert_eq!(listed["predicted_hit"], window["predicted_hit"]);
    assert!(listed["predicted_hit"].is_f64() && listed["reported_hit"].is_f64(), "{listed}");
    let people = world.run(&["mem", "--top", "--all"]);
    assert!(people.out.lines().all(|line| line.chars().count() <= 80), "{}", people.out);
    assert_eq!(people.out.lines().count(), 3, "{}", people.out);
    // Looking changed nothing, and needed no ownership.
    assert_eq!(world.processes()[1]["state"], "running");
    running.kill_9();
    let state = |of: &[Value]| of[0]["state"].clone();
    assert_eq!(state(&top(&[])), "interrupted");
}

fn search(world: &World, args: &[&str]) -> Vec<Value> {
    let ran = world.run(&[&["mem", "search", "--json"], args].concat());
    assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
    lines(&ran.out)
}

#[test]
fn pages_are_found_by_what_they_say_and_no_more_once_their_agent_is_removed() {
    let (world, pid) = crowded();
    let query = ["page 3 of 12", "--kind", "tool_result"];
    let hits = search(&world, &query);
    let best = &hits[0];
    assert_eq!((text(&best["pid"]), text(&best["name"])), (&*pid, "reader"));
    assert!(text(&best["snippet"]).starts_with("page 3 of 12 0: the quick brown fox 3"), "{best}");
    assert!(hits.iter().all(|hit| hit["kind"] == "tool_result") && hits.len() <= 10);
    let scores: Vec<f64> = hits.iter().filter_map(|hit| hit["score"].as_f64()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");

    let listed = world.run(&["mem", "search", "page 3 of 12", "--pid", &pid, "--limit", "1"]);
    assert_eq!(listed.out.lines().count(), 2, "{listed:?}");
    let calls = search(&world, &["txt", "--kind", "tool_call"]);
    assert!(!calls.is_empty() && calls.iter().all(|hit| hit["kind"] == "tool_call"));
    assert_eq!(search(&world, &["fox", "--until", "2001-01-01"]), [Value::Null; 0]);
    assert!(!search(&world, &["fox", "--since", "1h"]).is_empty());
    world.run(&["mem", "search", "zebra"]).says("No page answers that.");
    world.run(&["mem", "search", " "]).says("error[AOSK-S030]");
    for wrong in [["--limit", "0"], ["--limit", "101"], ["--kind", "system"]] {
        assert_eq!(world.run(&["mem", "search", "fox", wrong[0], wrong[1]]).code, Some(2));
    }
    world.run(&["mem", "search", "fox", "--pid", "ffffffff"]).failed(2, "AOSK-C005");

    // Whoever has the index is not waited for.
    let lock = std::fs::File::open(world.data().join("search.lock")).expect("there");
    lock.lock().expect("free");
    assert_eq!(search(&world, &query), hits);
    drop(lock);

    assert_eq!(world.run(&["store", "prune", "--keep", "0"]).code, Some(0));
    assert_eq!(search(&world, &query), [Value::Null; 0]);
    let index = rusqlite::Connection::open(world.data().join("search.db")).expect("opens");
    let left: i64 =
        index.query_row("SELECT count(*) FROM items", [], |row| row.get(0)).expect("a number");
    assert_eq!(left, 0);
}
