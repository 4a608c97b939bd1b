//! Stopping, crashing, resuming, owning.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::endpoint::{Answer, Endpoint, call, says};
use crate::scene::{AGENT, QUESTION, pausing, run, scene};
use crate::world::{World, kinds, lines};

#[test]
fn a_run_that_was_killed_goes_on_where_it_was() {
    let (world, endpoint, go_on) = scene();
    let running = run(&world, &endpoint);
    running.kill_9();

    let pid = world.only_pid();
    let before = world.run(&["logs", "--json", &pid]);
    assert_eq!(kinds(&lines(&before.out)).last(), Some(&"llm_requested"));
    assert_eq!(world.processes()[0]["state"], "interrupted");
    let ps = world.run(&["ps"]);
    assert!(ps.out.contains("interrupted"), "{ps:?}");
    ps.says("aosk run --resume");
    // Looking at it changed nothing.
    assert_eq!(world.run(&["logs", "--json", &pid]).out, before.out);

    go_on.store(true, Ordering::SeqCst);
    let ran = world.run(&["run", "--resume"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("It is 391."), "{ran:?}");

    // The journal goes on behind what was acknowledged; the first step was not made again.
    let after = world.run(&["logs", "--json", &pid]).out;
    assert!(after.starts_with(&before.out));
    let events = lines(&after);
    let new = &events[before.out.lines().count()..];
    assert_eq!(kinds(new), ["recovered", "llm_requested", "llm_returned", "exited"]);
    assert_eq!(new[1]["body"]["attempt"], 2);
    let firsts = endpoint.asked().iter().filter(|asked| asked.results() == 0).count();
    assert_eq!((firsts, endpoint.asked().len()), (1, 3));
    let shown = world.show(&pid);
    assert_eq!((&shown["state"], &shown["steps"]), (&json!("completed"), &json!(2)));
    assert_eq!(shown["chain_verified"], true);
}

#[test]
fn the_first_interrupt_stops_within_five_seconds_and_says_how_to_go_on() {
    let (world, endpoint, go_on) = scene();
    for (signal, exit) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let args: &[&str] =
            if exit == 130 { &["run", AGENT, QUESTION] } else { &["run", "--resume"] };
        let running = world.start(args);
        if exit == 130 {
            endpoint.wait_for_call();
        }
        endpoint.wait_for_call();
        running.signal(signal);
        let (ran, took) = running.end(Duration::from_secs(20));
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(ran.code, Some(exit), "{ran:?}");
        ran.says("Stopping between two steps");
        assert!(ran.out.contains("aosk run --resume"), "{ran:?}");
    }
    go_on.store(true, Ordering::SeqCst);
    let pid = world.only_pid();
    let ran = world.run(&["run", "--resume", &pid[..8]]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(world.show(&pid)["answer"], "It is 391.");
}

#[test]
fn the_second_interrupt_stops_at_once_and_loses_nothing() {
    let (world, endpoint, go_on) = scene();
    let running = run(&world, &endpoint);
    running.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(500));
    running.signal(Signal::INT);
    let (ran, took) = running.end(Duration::from_secs(20));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(ran.code, Some(130), "{ran:?}");
    ran.says("Stopped at once");
    assert!(!world.data().join("aosk.flight").exists(), "nobody is blamed for it");
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(world.run(&["run", "--resume"]).code, Some(0));
    assert_eq!(world.show(&world.only_pid())["steps"], 2);
}

#[test]
fn one_store_has_one_owner_and_the_second_hears_who() {
    let (world, endpoint, _) = scene();
    let running = run(&world, &endpoint);
    let owner = running.pid().to_string();
    world
        .run(&["run", AGENT, "hi"])
        .failed(4, "AOSK-S006")
        .says(&owner)
        .says("aosk run a.toml")
        .says("--with");
    world.run(&["run", "--resume"]).failed(4, "AOSK-S006").says(&owner);
    // Reading needs no ownership, and sees that somebody works on it.
    let processes = world.processes();
    assert_eq!((processes.len(), &processes[0]["state"]), (1, &json!("running")));
    running.kill_9();
    assert_eq!(world.processes()[0]["state"], "interrupted");
}

#[test]
fn a_new_run_leaves_unfinished_agents_alone_and_says_so() {
    let (world, endpoint, _) = scene();
    let running = run(&world, &endpoint);
    running.kill_9();
    let before = world.events(&world.only_pid());

    let mut world = world;
    let other = says("hello");
    world.set("OPENAI_BASE_URL", &other.url());
    let ran = world.run(&["run", AGENT, "Another task"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.says("1 agent of earlier runs is unfinished").says("aosk run --resume");
    let first = world.processes()[0]["pid"].as_str().expect("a pid").to_owned();
    assert_eq!(world.events(&first), before);
}

#[test]
fn an_agent_without_money_is_parked_and_goes_on_with_more() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let endpoint = Endpoint::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Answer::Text("done".to_owned())
    });
    let world = World::with(&endpoint);
    world.configure(
        "models.toml",
        "[models.dear]\nprovider = \"local\"\nwindow = 4000\nmax_output = 1000\n\
         price = { input = 100, output = 100 }\n",
    );
    // 1,000 tokens of output alone may cost $0.10.
    let agent = world.agent("a", "model = \"dear\"\n[quota]\nspend_usd = 0.05");
    let ran = world.run(&["run", &agent, "hi"]);
    assert_eq!((ran.code, calls.load(Ordering::SeqCst)), (Some(3), 0), "{ran:?}");
    assert!(ran.out.contains("--max-spend-usd"), "{ran:?}");
    ran.failed(3, "AOSK-K005").says("of the limit of $0.05");
    let ps = world.run(&["ps"]);
    assert!(ps.out.contains("blocked") && ps.out.contains("of $0.05 used"), "{ps:?}");

    assert_eq!(world.run(&["run", "--resume"]).code, Some(3), "it still has no more");
    let ran = world.run(&["run", "--resume", "--max-spend-usd", "0.5"]);
    assert_eq!((ran.code, calls.load(Ordering::SeqCst)), (Some(0), 1), "{ran:?}");
    let events = world.events(&world.only_pid());
    assert!(kinds(&events).contains(&"spend_raised"));

    // The cap of the run holds for agents without a limit of their own.
    let agent = world.agent("b", "model = \"dear\"");
    assert_eq!(world.run(&["run", &agent, "hi", "--max-spend-usd", "0.01"]).code, Some(3));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    // A fresh run has its cap again, so it needs no raise.
    assert_eq!(world.run(&["run", "--resume"]).code, Some(0));
}

#[test]
fn an_agent_that_cannot_be_taken_up_does_not_keep_others_from_it() {
    let (endpoint, go_on) = pausing();
    let world = World::with(&endpoint);
    world.configure(
        "models.toml",
        "[models.other]\nprovider = \"local\"\nwindow = 9000\nmax_output = 900\nprice = { input = 0, output = 0 }\n",
    );
    let first = world.agent("a", "tools = [\"calculator\"]\nmodel = \"other\"");
    let second = world.agent("b", "tools = [\"calculator\"]");
    let running = world.start(&["run", &first, "--with", &second, QUESTION]);
    for _ in 0..4 {
        endpoint.wait_for_call();
    }
    running.kill_9();
    go_on.store(true, Ordering::SeqCst);
    // The first agent's model is asked at an address of its own, where nobody answers.
    world.configure(
        "models.toml",
        "[providers.gone]\ndialect = \"openai\"\nloopback = true\nslots = 1\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         [models.other]\nprovider = \"gone\"\nwindow = 9000\nmax_output = 900\nprice = { input = 0, output = 0 }\n",
    );
    world.run(&["run", "--resume"]).failed(5, "AOSK-L001");
    let states: Vec<_> = world.processes().iter().map(|p| p["state"].clone()).collect();
    assert_eq!(states, ["interrupted", "completed"]);
}

#[test]
fn the_worst_of_several_agents_decides_the_exit() {
    let endpoint = Endpoint::new(|asked| {
        let text = asked.text();
        if text.contains("You are refused") {
            Answer::Refusal("I will not".to_owned())
        } else if text.contains("You are looping") {
            call("now", json!({}))
        } else if text.contains("You are unlucky") {
            Answer::Status(400, r#"{"error":{"message":"no"}}"#.to_owned())
        } else {
            Answer::Text("fine".to_owned())
        }
    });
    let world = World::with(&endpoint);
    let fine = world.agent("fine", "");
    let refused = world.agent("refused", "");
    let looping = world.agent("looping", "tools = [\"now\"]\nmax_steps = 2");
    let unlucky = world.agent("unlucky", "");
    let exit = |args: &[&str]| world.run(&[&["run"], args, &["hi"]].concat()).code;
    assert_eq!(exit(&[&fine]), Some(0));
    assert_eq!(exit(&[&fine, "--with", &refused]), Some(1));
    world.run(&["run", &refused, "hi"]).failed(1, "AOSK-K010").says("I will not");
    assert_eq!(exit(&[&looping]), Some(1));
    assert_eq!(exit(&[&refused, "--with", &unlucky, "--with", &fine]), Some(5));
}
