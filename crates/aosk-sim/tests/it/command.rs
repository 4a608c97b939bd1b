//! The command `./x sim`.

use std::process::{Command, Output};

use aosk_sim::regressions;
use serde_json::Value;

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aosk-sim")).args(arguments).output().expect("starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn kept_promises_are_success_and_one_line() {
    let output = sim(&["--seeds", "3", "--from", "7"]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert!(said.ends_with("every promise was kept\n") && said.lines().count() == 1, "{said}");
    let output = sim(&["--seeds", "0", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &json["failed"]), (Some(0), &Value::Null));
    assert_eq!(json["seeds"], regressions().count(), "what once failed goes first");
}

#[test]
fn a_broken_promise_is_failure_with_its_trace_and_the_way_back() {
    let broken = ["--seeds", "9", "--flaw", "eager-tool"];
    let output = sim(&broken);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("BROKEN: an intent is durable before its effect begins"), "{said}");
    assert!(
        said.contains("to see it again: ./x sim --from 0 --seeds 1 --flaw eager-tool"),
        "{said}"
    );
    let output = sim(&[&broken[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).expect("one JSON text");
    assert_eq!(json["failed"]["seed"], 0);
    assert!(json["failed"]["trace"].as_array().is_some_and(|trace| !trace.is_empty()));
    let trace = |output: Output| {
        let said = text(&output.stdout);
        said.lines().filter(|line| !line.contains(" seeds a second")).collect::<String>()
    };
    assert_eq!(trace(sim(&broken)), trace(sim(&broken)), "the same bytes each time");
}

#[test]
fn a_seed_that_takes_longer_than_its_time_is_named_and_ends_the_program() {
    let output = sim(&["--seeds", "1", "--from", "7", "--patience", "0"]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("seed 7 has not come to its end within 0 s"), "{said}");
    assert!(said.contains("./x sim --from 7 --seeds 1"), "{said}");
}

#[test]
fn a_wrong_command_is_named_and_nothing_is_run() {
    for (arguments, named) in [
        (&["--seed"][..], "--seed"),
        (&["--seeds"], "needs a value"),
        (&["--seeds", "-1"], "\"-1\""),
        (&["--from", "18446744073709551615", "--seeds", "1"], "2^64"),
        (&["--threads", "0"], "1 to 1024"),
        (&["--threads", "1025"], "1 to 1024"),
        (&["--flaw", "none"], "eager-tool"),
        (&["--patience", "long"], "\"long\""),
    ] {
        let output = sim(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(named), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
    let output = sim(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("--from S"));
}
