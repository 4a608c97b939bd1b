//! Bad input of every kind: a clear error, its exit code, no panic, nothing left behind.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::endpoint::{Answer, Endpoint, says};
use crate::world::{KEY, Ran, World};

/// Runs with `task` on standard input.
fn run_with_stdin(world: &World, agent: &str, task: &[u8]) -> Ran {
    let mut child = world
        .command(&["run", agent, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // A program that has read enough closes its end, which is its right.
    let _ = child.stdin.take().expect("a pipe").write_all(task);
    Ran::of(child.wait_with_output().expect("output"))
}

#[test]
fn a_model_that_no_table_has_is_answered_with_the_nearest() {
    let world = World::new();
    let agent = world.agent("a", "model = \"gpt-5-mimi\"");
    world.run(&["run", &agent, "hi"]).failed(5, "AOSK-L003").says("did you mean \"gpt-5-mini\"?");
    assert!(!world.data().exists(), "nothing is made for a run that cannot begin");
}

#[test]
fn a_model_that_the_endpoint_does_not_know_fails_the_agent_for_good() {
    let endpoint = Endpoint::new(|_| {
        let error = r#"{"error":{"message":"The model does not exist","code":"model_not_found"}}"#;
        Answer::Status(404, error.to_owned())
    });
    let world = World::with(&endpoint);
    let agent = world.agent("a", "model = \"nonesuch\"");
    world.run(&["run", &agent, "hi"]).failed(5, "AOSK-L003").says("nonesuch");
    assert_eq!(endpoint.asked().len(), 1, "asking again cannot help");
    assert_eq!(world.show(&world.only_pid())["state"], "failed");
}

#[test]
fn no_server_is_said_within_seconds() {
    let (world, port) = World::with_nobody();
    let agent = world.agent("a", "");
    let began = Instant::now();
    world.run(&["run", &agent, "hi"]).failed(5, "AOSK-L001").says(&port.to_string());
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_server_that_goes_away_in_mid_run_is_asked_four_times() {
    let endpoint = Endpoint::new(|_| Answer::Status(503, "{}".to_owned()));
    let world = World::with(&endpoint);
    let agent = world.agent("a", "");
    let began = Instant::now();
    let ran = world.run(&["run", &agent, "hi"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert_eq!(endpoint.asked().len(), 4);
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(world.show(&world.only_pid())["state"], "failed");
}

#[test]
fn a_wrong_key_is_the_users_to_mend_and_is_not_repeated() {
    let endpoint = Endpoint::new(|asked| {
        Answer::Status(
            401,
            format!(r#"{{"error":{{"message":"Bad key: {}"}}}}"#, asked.authorization),
        )
    });
    let mut world = World::with(&endpoint);
    world.set("OPENAI_API_KEY", KEY);
    let agent = world.agent("a", "");
    let ran = world.run(&["run", &agent, "hi"]);
    ran.failed(5, "AOSK-L002").says("OPENAI_API_KEY");
    assert!(!ran.err.contains(KEY) && !ran.out.contains(KEY), "{ran:?}");
    assert_eq!(endpoint.asked().len(), 1);
    assert_eq!(endpoint.asked()[0].authorization, format!("Bearer {KEY}"));
    assert_eq!(world.show(&world.only_pid())["error"]["code"], "AOSK-L002");
}

#[test]
fn no_endpoint_says_what_to_set() {
    let world = World::new();
    let agent = world.agent("a", "");
    world.run(&["run", &agent, "hi"]).failed(2, "AOSK-C004").says("OPENAI_BASE_URL");
    let agent = world.agent("b", "model = \"gpt-5-mini\"");
    world.run(&["run", &agent, "hi"]).failed(5, "AOSK-L002").says("OPENAI_API_KEY");
}

#[test]
fn a_malformed_manifest_is_named_with_file_line_and_suggestion() {
    let world = World::new();
    for (text, line, said) in [
        ("name = \"a\"\nmodle = \"x\"\n", 2, "did you mean `model`?"),
        ("name = \"a\"\n\n[sampling]\ntemprature = 1\n", 4, "did you mean `temperature`?"),
        ("name = \"a\"\ntools = [\"calcluator\"]\n", 2, "did you mean `calculator`?"),
        ("name = \"a\"\nmax_steps = 0\n", 2, "give at least 1"),
        ("name = \"a\n", 1, "aosk init"),
    ] {
        world.write("bad.toml", text);
        let ran = world.run(&["run", "bad.toml", "hi"]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        ran.says(&format!("--> bad.toml:{line}\n")).says(said);
    }
    world.write("bad.toml", b"name = \"a\"\nsystem = \"caf\xe9\"\n");
    world.run(&["run", "bad.toml", "hi"]).failed(2, "AOSK-A005").says("--> bad.toml:2\n");
    world.run(&["run", "missing.toml", "hi"]).failed(2, "AOSK-C003").says("aosk init missing.toml");
    assert!(!world.data().exists());
}

#[test]
fn a_manifest_that_asks_for_what_there_is_not_begins_nothing() {
    let endpoint = says("hello");
    let world = World::with(&endpoint);
    let good = world.agent("good", "");
    let bad = world.agent("bad", "[context]\nwindow = 9999");
    let ran = world.run(&["run", &good, "--with", &bad, "hi"]);
    ran.failed(2, "AOSK-A005").says("4096").says("--> bad.toml:4\n");
    assert_eq!(world.processes().len(), 0);
    assert_eq!(endpoint.asked().len(), 0);
}

#[test]
fn a_name_that_nothing_has_is_told_with_its_line_before_any_endpoint_is_needed() {
    let world = World::new();
    let good = world.agent("good", "");
    for (more, code, line, said) in [
        ("program = \"raect\"", "AOSK-K002", 3, "did you mean `react`?"),
        ("program = \"React\"", "AOSK-K002", 3, "it can be: react"),
        ("[context]\npolicy = \"random\"", "AOSK-A005", 4, "cost_aware, truncate_oldest"),
        ("context.policy = \"importanse\"", "AOSK-A005", 3, "did you mean `importance`?"),
        // What looks like the key in a text is not it.
        ("task = \"\"\"\nprogram = 1\n\"\"\"\nprogram = \"x\"", "AOSK-K002", 6, "react"),
    ] {
        let bad = world.agent("bad", more);
        let ran = world.run(&["run", &good, "--with", &bad, "hi"]);
        ran.failed(2, code).says(said).says(&format!("--> bad.toml:{line}\n"));
    }
    assert!(!world.data().exists());
}

#[test]
fn a_file_in_place_of_the_data_folder_is_said_to_be_one() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    let store = world.data().join("aosk.db");
    let store = store.to_str().expect("UTF-8");
    let commands: [&[&str]; 12] = [
        &["ps"],
        &["logs", "abcdef"],
        &["show", "abcdef"],
        &["run", &agent, "hi"],
        &["run", "--resume"],
        &["demo"],
        &["spawn", &agent, "hi"],
        &["daemon", "start"],
        &["daemon", "stop"],
        &["daemon", "status"],
        &["kill", "abcdef"],
        &["send", "abcdef", "hi"],
    ];
    for command in commands {
        let ran = world.run(&[command, &["--data-dir", store]].concat());
        ran.failed(2, "AOSK-C003").says("not a data folder").says(store);
        ran.says(&format!("--data-dir {}\n", world.data().display()));
    }
    world.run(&["ps", "--data-dir", &agent]).failed(2, "AOSK-C003").says("aosk.db");
}

#[test]
fn a_workspace_outside_needs_the_users_word() {
    let endpoint = says("hello");
    let world = World::with(&endpoint);
    std::fs::create_dir_all(world.path("elsewhere")).expect("folder");
    world.write("cloned/agent.toml", "name = \"a\"\nworkspace = \"../elsewhere\"\n");
    let elsewhere = world.path("elsewhere");
    let elsewhere = elsewhere.to_str().expect("UTF-8");
    world.run(&["run", "cloned/agent.toml", "hi"]).failed(2, "AOSK-T001").says(elsewhere);
    let ran = world.run(&["run", "cloned/agent.toml", "hi", "--allow-workspace", elsewhere]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn an_empty_task_is_no_task() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    for empty in ["", "  \n"] {
        world.run(&["run", &agent, empty]).failed(2, "AOSK-K006").says("empty");
    }
    world.run(&["run", &agent]).failed(2, "AOSK-K006").says("a.toml");
    run_with_stdin(&world, &agent, b"\n").failed(2, "AOSK-K006");
    assert!(!world.data().exists());
}

#[test]
fn a_task_of_ten_megabytes_is_refused_from_wherever_it_comes() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    let ten = "word ".repeat(2_000_000);
    run_with_stdin(&world, &agent, ten.as_bytes()).failed(2, "AOSK-K006").says("file");
    let agent = world.agent("b", &format!("task = \"{ten}\""));
    world.run(&["run", &agent]).failed(2, "AOSK-A005").says("b.toml");
    assert!(!world.data().exists());
}

#[test]
fn a_task_larger_than_the_window_fails_with_the_sizes() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    let task = "word ".repeat(100_000);
    let ran = run_with_stdin(&world, &agent, task.as_bytes());
    ran.failed(1, "AOSK-X001");
    assert_eq!(world.show(&world.only_pid())["state"], "failed");
}

#[test]
fn a_task_that_is_not_utf_8_is_refused() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    run_with_stdin(&world, &agent, b"caf\xe9").failed(2, "AOSK-K006").says("not UTF-8 (byte 3)");
    let output = world.command(&["run", &agent]).arg(OsStr::from_bytes(b"caf\xe9")).output();
    Ran::of(output.expect("the binary runs")).failed(2, "AOSK-K006").says("not UTF-8");
    run_with_stdin(&world, &agent, b"a\0b").failed(2, "AOSK-K006").says("U+0000");
}

#[test]
fn a_process_that_is_not_there_or_has_ended_is_not_resumed() {
    let world = World::with(&says("hello"));
    world.run(&["run", "--resume", "0199f3a2"]).failed(2, "AOSK-C005").says("aosk ps --all");
    assert_eq!(world.run(&["run", "--resume"]).code, Some(0));
    assert!(!world.data().exists());
    let agent = world.agent("a", "");
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    let pid = world.only_pid();
    world.run(&["run", "--resume", &pid]).failed(2, "AOSK-K004").says("ended");
    // That it has ended is known without an endpoint, and no endpoint would help.
    let mut world = world;
    world.unset("OPENAI_BASE_URL");
    world.run(&["run", "--resume", &pid[..8]]).failed(2, "AOSK-K004").says("aosk show");
    world.run(&["show", &pid[..3]]).failed(2, "AOSK-C005").says("at least 4");
    world.run(&["logs", "nobody"]).failed(2, "AOSK-C005");
}

#[test]
fn an_unknown_flag_or_command_is_an_error_of_usage() {
    let world = World::new();
    world.run(&["runn"]).failed(2, "AOSK-C001").says("'run'");
    world.run(&["ps", "--al"]).failed(2, "AOSK-C001").says("--all");
    world.run(&["run"]).failed(2, "AOSK-C001").says("AGENT.toml");
    world
        .run(&["run", "a.toml", "x", "--max-spend-usd", "-1"])
        .failed(2, "AOSK-C001")
        .says("0 or more");
}

#[test]
fn a_damaged_store_is_the_stores_error() {
    let world = World::with(&says("hello"));
    std::fs::create_dir_all(world.data()).expect("folder");
    std::fs::write(world.data().join("aosk.db"), b"no database").expect("file");
    let agent = world.agent("a", "");
    for args in [&["run", &agent, "hi"] as &[&str], &["ps"], &["show", "abcdef"]] {
        world.run(args).failed(4, "AOSK-S003");
    }
}
