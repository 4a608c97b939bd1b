//! Agents that begin others and wait for them, through the binary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::endpoint::{Answer, Asked, Endpoint, call};
use crate::world::World;

const EDITOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/team/editor.toml");

/// What the models of the example say, each by its system prompt and what it was told so far.
fn team(asked: &Asked) -> Answer {
    let is = |part: &str| asked.text().contains(part);
    let read = |path: &str| call("read_file", json!({"path": path}));
    match (is("You lead two agents"), is("for dates,"), asked.results()) {
        (true, _, 0) => Answer::Calls(vec![
            ("spawn".to_owned(), json!({"agent": "dates", "task": "When is the launch?"})),
            ("spawn".to_owned(), json!({"agent": "costs", "task": "What does the launch cost?"})),
        ]),
        (true, _, 2) => call("wait", json!({})),
        (true, ..) => Answer::Text(match (is("14 May"), is("12,000 euros")) {
            (true, true) => "It is on 14 May and costs 12,000 euros.".to_owned(),
            found => format!("I know too little: {found:?}"),
        }),
        (false, true, 0) => read("plan.md"),
        (false, true, _) => Answer::Text("The launch is on 14 May.".to_owned()),
        (false, false, 0) => read("budget.md"),
        (false, false, _) => Answer::Text("The launch costs 12,000 euros.".to_owned()),
    }
}

#[test]
fn the_team_of_the_examples_finds_what_its_notes_say() {
    let endpoint = Endpoint::new(team);
    let world = World::with(&endpoint);
    let ran = world.run(&["run", EDITOR]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("It is on 14 May and costs 12,000"), "{ran:?}");
    let all = world.processes();
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all.iter().all(|it| it["state"] == "completed"), "{all:?}");
}

#[test]
fn a_run_that_ends_leaves_no_child_behind() {
    let endpoint = Endpoint::new(|asked| match asked.results() {
        _ if !asked.text().contains("You lead") => Answer::Silence,
        0 => call("spawn", json!({"agent": "dates", "task": "When is the launch?"})),
        _ => Answer::Text("I do not need to know.".to_owned()),
    });
    let world = World::with(&endpoint);
    let ran = world.run(&["run", EDITOR]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let all = world.processes();
    let states: Vec<_> = all.iter().map(|it| it["state"].as_str().expect("a state")).collect();
    assert!(states.contains(&"completed") && states.contains(&"killed"), "{states:?}");
}

#[test]
fn a_family_goes_on_behind_the_kill_of_its_daemon() {
    let is_open = Arc::new(AtomicBool::new(false));
    let opens = is_open.clone();
    let endpoint = Endpoint::new(move |asked| match team(asked) {
        Answer::Text(_) if !opens.load(Ordering::SeqCst) => Answer::Silence,
        answer => answer,
    });
    let world = World::with(&endpoint);
    let pid = world.spawn(&[EDITOR]);
    world.wait_for_state(&pid, "blocked");
    let listed = world.run(&["ps"]);
    assert!(listed.out.contains("the ends of 2 children"), "{listed:?}");
    world.kill_daemon();
    is_open.store(true, Ordering::SeqCst);
    world.run(&["daemon", "start"]).says("Started the daemon");
    world.wait_for_state(&pid, "completed");
    let all = world.processes();
    assert!(all.len() == 3 && all.iter().all(|it| it["state"] == "completed"), "{all:?}");
    let begun = world.events(&pid).iter().filter(|it| it["kind"] == "child_begun").count();
    assert_eq!(begun, 2, "nobody is there twice");
}
