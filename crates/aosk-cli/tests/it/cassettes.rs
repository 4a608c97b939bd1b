//! Recording a run and playing it without a model.

use serde_json::Value;

use crate::endpoint::calculates;
use crate::world::World;

/// What an agent was told and said: everything but ids, times and hashes that depend on keys.
fn conversation(world: &World, pid: &str) -> Vec<(Value, Value)> {
    let ran = world.run(&["logs", "--json", "--contents", pid]);
    let events = crate::world::lines(&ran.out);
    let told = |event: &Value| {
        let mut texts: Vec<Value> = event["contents"]
            .as_object()
            .into_iter()
            .flat_map(|contents| contents.values().cloned())
            .collect();
        texts.sort_by_key(Value::to_string);
        (event["kind"].clone(), Value::from(texts))
    };
    // The manifest is the same and the raw reply is not played, so both are left out.
    events.iter().filter(|event| event["kind"] != "llm_returned").map(told).collect()
}

#[test]
fn three_agents_play_what_three_agents_recorded() {
    let endpoint = calculates();
    let recorded = World::with(&endpoint);
    let three =
        |world: &World| ["a", "b", "c"].map(|name| world.agent(name, "tools = [\"calculator\"]"));
    let [a, b, c] = three(&recorded);
    let task = "What is 17 * 23?";
    let args = ["run", &a, "--with", &b, "--with", &c, task];
    let ran = recorded.run(&[&args[..], &["--record", "tape.jsonl"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(endpoint.asked().len(), 6);

    let played = World::new();
    three(&played);
    let tape = recorded.path("tape.jsonl");
    let tape = tape.to_str().expect("UTF-8");
    let ran = played.run(&[&args[..], &["--cassette", tape]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out.matches("It is 391.").count(), 3, "{ran:?}");
    assert_eq!(endpoint.asked().len(), 6, "no model was asked");
    // Lists are in the order of pids, and those of one millisecond in any.
    let by_name = |world: &World| {
        let mut processes = world.processes();
        processes.sort_by_key(|process| process["name"].to_string());
        processes
    };
    for (before, after) in by_name(&recorded).iter().zip(by_name(&played)) {
        assert_eq!(after["model"], "scripted:local", "it says that nobody answered");
        let pid = |process: &Value| process["pid"].as_str().expect("a pid").to_owned();
        assert_eq!(conversation(&recorded, &pid(before)), conversation(&played, &pid(&after)));
    }
    // A tape is not written over.
    recorded.run(&[&args[..], &["--record", "tape.jsonl"]].concat()).failed(5, "AOSK-L010");
    // Each reply is there once, for its own prompt.
    played.run(&["run", &a, "Another task", "--cassette", tape]).failed(5, "AOSK-L010");
    played
        .run(&["run", &a, task, "--cassette", "none.jsonl"])
        .failed(5, "AOSK-L010")
        .says("none.jsonl");
}

#[test]
fn an_interrupted_cassette_is_asked_for_when_it_is_resumed() {
    let endpoint = calculates();
    let world = World::with(&endpoint);
    world.configure(
        "models.toml",
        "[models.dear]\nprovider = \"local\"\nwindow = 4000\nmax_output = 1000\n\
         price = { input = 100, output = 100 }\n",
    );
    let agent = world.agent("a", "model = \"dear\"\ntools = [\"calculator\"]");
    let task = "What is 17 * 23?";
    let ran = world.run(&["run", &agent, task, "--max-spend-usd", "9", "--record", "tape.jsonl"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // The tape has prices too, so an agent can be parked on it.
    let ran =
        world.run(&["run", &agent, task, "--max-spend-usd", "0.01", "--cassette", "tape.jsonl"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    world.run(&["run", "--resume"]).failed(5, "AOSK-L003").says("--cassette FILE");
    let ran = world.run(&["run", "--resume", "--max-spend-usd", "9", "--cassette", "tape.jsonl"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(endpoint.asked().len(), 2);
}
