//! What is printed where: streams, colours, columns, JSON.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::endpoint::{Answer, Endpoint, calculates, says};
use crate::world::{Ran, World, kinds, lines, wait_until};

/// A world in which one agent with a wide name ran.
fn ran() -> (World, String) {
    let world = World::with(&calculates());
    let agent =
        world.agent("ein-name-von-genau-vierzig-zeichen-breite", "tools = [\"calculator\"]");
    let ran = world.run(&["run", &agent, "What is 17 * 23?"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let pid = world.only_pid();
    (world, pid)
}

#[test]
fn json_is_all_that_stands_on_standard_output() {
    let world = World::with(&calculates());
    let a = world.agent("a", "tools = [\"calculator\"]");
    let b = world.agent("b", "tools = [\"calculator\"]");
    let ran = world.run(&["run", "--json", &a, "--with", &b, "What is 17 * 23?"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let events = lines(&ran.out);
    for process in world.processes() {
        let pid = &process["pid"];
        let own: Vec<Value> = events.iter().filter(|event| &event["pid"] == pid).cloned().collect();
        // The same events as the journal has, each once and in order; the last with its text.
        let mut journal = world.events(pid.as_str().expect("a pid"));
        let last = journal.last_mut().expect("events");
        let hash = last["body"]["exit"]["answer"]["hash"].as_str().expect("a hash").to_owned();
        last["contents"] = json!({hash: "It is 391."});
        assert_eq!(own, journal);
        assert_eq!(
            kinds(&own),
            [
                "spawned",
                "planned",
                "llm_requested",
                "llm_returned",
                "tool_requested",
                "tool_returned",
                "planned",
                "llm_requested",
                "llm_returned",
                "exited"
            ]
        );
    }
}

#[test]
fn logs_show_decisions_tokens_cost_and_texts_when_asked() {
    let (world, pid) = ran();
    let plain = world.run(&["logs", &pid]);
    assert_eq!((plain.code, plain.err.as_str()), (Some(0), ""));
    assert_eq!(plain.out.lines().count(), 10, "one line an event: {}", plain.out);
    for said in ["step 2:", "cached", "calls calculator", "calculator ok", "completed"] {
        assert!(plain.out.contains(said), "{said:?}: {}", plain.out);
    }
    assert!(!plain.out.contains("What is"), "{}", plain.out);
    let full = world.run(&["logs", "--contents", &pid]).out;
    for said in ["What is 17 * 23?", "\"expression\":\"17 * 23\"", "391"] {
        assert!(full.contains(said), "{said:?}: {full}");
    }
    let usage = &world.events(&pid)[8]["body"]["usage"];
    assert!(usage["cached"].as_u64() > Some(0), "{usage}");
}

#[test]
fn logs_between_two_moments_are_those_events_and_no_others() {
    let (world, pid) = ran();
    let events = world.events(&pid);
    let at = |n: usize| events[n]["body"]["at"].as_u64().expect("a time");
    let moment = |millis: u64| {
        let moment = jiff::Timestamp::from_millisecond(millis.cast_signed()).expect("a time");
        moment.to_string()
    };
    let shown = |args: &[&str]| {
        let ran = world.run(&[&["logs", "--json", &pid], args].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
        lines(&ran.out)
    };
    let (since, until) = (moment(at(3)), moment(at(6)));
    let all = || events.iter().map(|event| event["body"]["at"].as_u64().expect("a time"));
    let window = shown(&["--since", &since, "--until", &until]);
    assert_eq!(window.len(), all().filter(|time| (at(3)..at(6)).contains(time)).count());
    assert_eq!(shown(&["--since", &since]).len(), all().filter(|time| *time >= at(3)).count());
    assert_eq!(shown(&["--until", &until]).len(), all().filter(|time| *time < at(6)).count());
    assert_eq!(shown(&["--since", "1h"]).len(), events.len());
    assert_eq!(shown(&["--until", "1h"]).len(), 0);
    let refused = world.run(&["logs", &pid, "--since", "yesterday"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("15m"), "{}", refused.err);
}

#[test]
fn logs_that_are_followed_end_with_the_process() {
    let endpoint = Endpoint::new(|_| {
        std::thread::sleep(Duration::from_secs(2));
        Answer::Text("late".to_owned())
    });
    let world = World::with(&endpoint);
    let agent = world.agent("a", "");
    let running = world.start(&["run", &agent, "hi"]);
    endpoint.wait_for_call();
    let follower = world.start(&["logs", "-f", "--json", &world.only_pid()]);
    let (followed, _) = follower.end(Duration::from_secs(20));
    assert_eq!(followed.code, Some(0), "{followed:?}");
    assert_eq!(kinds(&lines(&followed.out)).last(), Some(&"exited"));
    let (ran, _) = running.end(Duration::from_secs(20));
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn tables_fit_into_eighty_columns() {
    let (world, pid) = ran();
    let agent = world.agent("b", "tools = [\"calculator\"]");
    let outputs = [
        world.run(&["run", &agent, "What is 17 * 23?"]),
        world.run(&["ps", "--all"]),
        world.run(&["show", &pid]),
    ];
    for ran in outputs {
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for line in ran.out.lines() {
            assert!(line.chars().count() <= 80, "{line:?}");
        }
    }
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let (mut world, pid) = ran();
    let colored = |world: &World, args: &[&str]| world.run(args).out.contains('\x1b');
    assert!(!colored(&world, &["show", &pid]), "a pipe is no terminal");
    assert!(colored(&world, &["show", &pid, "--color", "always"]));
    world.set("AOSK_COLOR", "always");
    assert!(colored(&world, &["show", &pid]));
    assert!(!colored(&world, &["show", &pid, "--color", "never"]));
    world.unset("AOSK_COLOR");
    world.set("NO_COLOR", "1");
    assert!(!colored(&world, &["show", &pid]));
    assert!(colored(&world, &["show", &pid, "--color", "always"]), "a flag is nearer");
}

#[test]
fn a_terminal_gets_colour_and_live_lines_unless_no_color_is_set() {
    let endpoint = Endpoint::new(|_| {
        std::thread::sleep(Duration::from_millis(600));
        Answer::Text("hello".to_owned())
    });
    let mut world = World::with(&endpoint);
    let agent = world.agent("a", "");
    let on_terminal = |world: &World| {
        // `script` gives its command a terminal.
        let line = format!("{} run {agent} hi", env!("CARGO_BIN_EXE_aosk"));
        let mut script = world.of_build("script".as_ref(), &["-qec", &line, "/dev/null"]);
        Ran::of(script.output().expect("script runs"))
    };
    let shown = on_terminal(&world);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.out.contains("asking the model") && shown.out.contains("\x1b[1m"), "{shown:?}");
    // Drawn at most ten times a second, in place.
    let drawn = shown.out.matches("asking the model").count();
    assert!((2..40).contains(&drawn), "{drawn}");
    assert!(shown.out.contains("\x1b[2A"), "{shown:?}");
    world.set("NO_COLOR", "1");
    let shown = on_terminal(&world);
    assert!(!shown.out.contains("\x1b[1m"), "{shown:?}");
}

#[test]
fn what_a_model_says_cannot_drive_a_terminal() {
    let world = World::with(&says("before\x1b[2J\x1b]0;title\x07after\u{202e}"));
    let agent = world.agent("a", "");
    let ran = world.run(&["run", &agent, "hi"]);
    let pid = world.only_pid();
    let shown = [ran, world.run(&["show", &pid]), world.run(&["logs", "--contents", &pid])];
    for ran in shown {
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.out.contains(['\x1b', '\x07', '\u{202e}']), "{ran:?}");
        assert!(ran.out.contains("before"), "{ran:?}");
    }
    // Machines get it as it is.
    assert_eq!(world.show(&pid)["answer"], "before\x1b[2J\x1b]0;title\x07after\u{202e}");
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let (world, pid) = ran();
    for args in [
        &["logs", "--contents", &pid] as &[&str],
        &["logs", "-f", "--json", &pid],
        &["ps", "--all"],
        &["show", &pid],
        &["mem", &pid],
        &["mem", "--top", "--all"],
        &["--help"],
        &["init", "fresh.toml"],
        &["doctor", "--offline"],
        &["version"],
        &["completions", "zsh"],
        &["man"],
    ] {
        let ran = without_a_reader(&world, args);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_reader_that_goes_away_keeps_no_agent_from_what_was_asked() {
    let (world, _) = ran();
    let agent = world.agent("b", "tools = [\"calculator\"]");
    let completed = || {
        let all = world.processes();
        all.iter().filter(|process| process["state"] == "completed").count()
    };
    for (args, done) in [
        (&["run", &agent, "What is 17 * 23?"] as &[&str], 2),
        (&["run", "--json", &agent, "What is 17 * 23?"], 3),
        (&["spawn", &agent, "What is 17 * 23?", "--alias", "other"], 4),
        (&["daemon", "status"], 4),
        (&["send", "other", "And now?"], 4),
    ] {
        let ran = without_a_reader(&world, args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        assert!(!ran.err.contains("error"), "{args:?}: {ran:?}");
        wait_until("they are done", || completed() == done);
    }
    let (_, agent) = (world.run(&["daemon", "stop"]), world.agent("c", ""));
    let endpoint = Endpoint::new(|_| Answer::Silence);
    let mut world = world;
    world.set("OPENAI_BASE_URL", &endpoint.url());
    let pid = world.spawn(&[&agent, "hi"]);
    assert_eq!(without_a_reader(&world, &["kill", &pid]).code, Some(0));
    world.wait_for_state(&pid, "killed");
}

/// Runs a command whose reader goes away at once.
fn without_a_reader(world: &World, args: &[&str]) -> Ran {
    let mut command = world.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    Ran::of(child.wait_with_output().expect("output"))
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let (world, pid) = ran();
    let full = std::fs::File::create("/dev/full").expect("Linux has it");
    let output = world.command(&["show", &pid]).stdout(full).output().expect("runs");
    Ran::of(output).failed(2, "AOSK-C003").says("standard output");
}

#[test]
fn a_new_manifest_is_never_written_over_another() {
    let world = World::new();
    let ran = world.run(&["init"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("aosk run agent.toml"), "{ran:?}");
    let written = std::fs::read(world.path("agent.toml")).expect("written");
    world.run(&["init"]).failed(2, "AOSK-C003").says("--> agent.toml").says("nothing was changed");
    assert_eq!(std::fs::read(world.path("agent.toml")).expect("there"), written);
    assert_eq!(world.run(&["init", "."]).code, Some(2), "a folder gets an agent.toml");
    world.run(&["init", "no/such/folder.toml"]).failed(2, "AOSK-C003").says("folder");
    let endpoint = says("hello");
    let mut world = world;
    world.set("OPENAI_BASE_URL", &endpoint.url());
    assert_eq!(world.run(&["run", "agent.toml", "hi"]).code, Some(0), "it runs as it is");
}
