//! Signals and messages: to agents that run, rest or have ended, whoever works on the store.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::daemon::{DEAR, GONE, OTHER};
use crate::endpoint::{Answer, Endpoint, call, says};
use crate::scene::{QUESTION, pausing};
use crate::secrets::scan;
use crate::world::{KEY, Ran, World, kinds, wait_until};

/// Looks at the clock, ten times a second, until it is let go on.
fn busy() -> (Endpoint, Arc<AtomicBool>) {
    let go_on = Arc::new(AtomicBool::new(false));
    let switch = go_on.clone();
    let endpoint = Endpoint::new(move |_| {
        std::thread::sleep(Duration::from_millis(100));
        if switch.load(Ordering::SeqCst) {
            Answer::Text("done".to_owned())
        } else {
            call("now", json!({}))
        }
    });
    (endpoint, go_on)
}

const BUSY: &str = "tools = [\"now\"]\nmax_steps = 1000";

#[track_caller]
fn did(ran: &Ran, said: &str) {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains(said), "{ran:?}");
}

/// A world with agents that a run left interrupted.
fn interrupted(names: &[&str]) -> (World, Endpoint, Arc<AtomicBool>) {
    let (endpoint, go_on) = pausing();
    let world = World::with(&endpoint);
    let files: Vec<String> =
        names.iter().map(|name| world.agent(name, "tools = [\"calculator\"]")).collect();
    let mut args = vec!["run", &files[0], QUESTION];
    for other in &files[1..] {
        args.extend(["--with", other]);
    }
    let running = world.start(&args);
    for _ in 0..2 * names.len() {
        endpoint.wait_for_call();
    }
    running.kill_9();
    (world, endpoint, go_on)
}

#[test]
fn an_agent_of_the_daemon_is_stopped_continued_reniced_told_and_killed() {
    let (endpoint, go_on) = busy();
    let world = World::with(&endpoint);
    let agent = world.agent("a", BUSY);
    let pid = world.spawn(&[&agent, "go", "--alias", "clock"]);
    endpoint.wait_for_call();
    did(&world.run(&["renice", "7", &pid[..8], "clock"]), "has priority 7");
    did(&world.run(&["stop", "clock"]), "suspended");
    assert_eq!(world.show(&pid)["state"], "suspended");
    let steps = || world.show(&pid)["steps"].as_u64().expect("a number");
    std::thread::sleep(Duration::from_millis(300));
    let before = steps();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(steps(), before, "it makes no step");
    did(&world.run(&["send", "clock", "Are you there?"]), "has the message");
    assert_eq!(world.show(&pid)["state"], "suspended");
    did(&world.run(&["cont", "clock"]), "goes on");
    wait_until("it makes steps", || steps() > before);
    assert!(endpoint.asked().last().expect("asked").text().contains("Are you there?"));

    let mut send = world.command(&["send", "clock", "-"]);
    let mut child = send.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("runs");
    child.stdin.take().expect("a pipe").write_all("From a file".as_bytes()).expect("written");
    assert!(child.wait().expect("ends").success());
    did(&world.run(&["kill", "clock", &pid]), "killed");
    let events = world.events(&pid);
    let signals = kinds(&events).iter().filter(|kind| **kind == "signal_received").count();
    assert_eq!(
        (signals, events.last().expect("an end")["body"]["exit"]["exit"].as_str()),
        (3, Some("killed"))
    );
    assert_eq!(kinds(&events).iter().filter(|kind| **kind == "priority_changed").count(), 1);

    // One that is killed takes nothing more.
    let next = events.len();
    for args in [
        &["kill", "clock"] as &[&str],
        &["stop", "clock"],
        &["cont", "clock"],
        &["renice", "1", "clock"],
        &["send", "clock", "hello?"],
    ] {
        world.run(args).failed(2, "AOSK-C007").says("killed").says("aosk show");
    }
    assert_eq!(world.events(&pid).len(), next);
    go_on.store(true, Ordering::SeqCst);
}

#[test]
fn a_message_continues_what_has_ended_whoever_has_to_be_started_for_it() {
    let endpoint = Endpoint::new(|asked| {
        let many = asked.body["messages"].as_array().expect("messages").len();
        Answer::Text(format!("answer to {many} messages"))
    });
    let world = World::with(&endpoint);
    let agent = world.agent("a", "");
    assert_eq!(world.run(&["run", &agent, "17 * 23?"]).code, Some(0));
    let pid = world.only_pid();
    let first = world.show(&pid)["answer"].clone();
    for args in
        [&["kill", &pid] as &[&str], &["stop", &pid], &["cont", &pid], &["renice", "1", &pid]]
    {
        world.run(args).failed(2, "AOSK-C007").says("completed").says("aosk send");
    }
    let ran = world.run(&["send", &pid[..8], "And 17 * 24?"]);
    did(&ran, "has the message");
    ran.says("Started the daemon");
    wait_until("it answered", || world.show(&pid)["answer"] != first);
    wait_until("it ended", || world.show(&pid)["state"] == "completed");
    let asked = endpoint.asked();
    assert!(asked[1].text().contains("17 * 23?") && asked[1].text().contains("And 17 * 24?"));
    assert_eq!(world.show(&pid)["chain_verified"], true);
    let again = world.run(&["send", &pid, "--", "-1 * 3?"]);
    assert!(!again.err.contains("Started"), "{again:?}");
    wait_until("it answered again", || endpoint.asked().len() == 3);
}

#[test]
fn signals_are_carried_out_where_nobody_owns_the_store_and_nothing_else_is() {
    let (mut world, endpoint, _) = interrupted(&["a", "b", "c"]);
    // Neither a model nor an endpoint is needed.
    world.unset("OPENAI_BASE_URL");
    let calls = endpoint.asked().len();
    let pids: Vec<String> = world
        .processes()
        .iter()
        .map(|process| process["pid"].as_str().expect("a pid").to_owned())
        .collect();
    let untouched = world.events(&pids[2]);
    did(&world.run(&["renice", "3", &pids[0]]), "has priority 3");
    assert_eq!(world.show(&pids[0])["state"], "interrupted");
    did(&world.run(&["stop", &pids[0], &pids[1]]), "suspended");
    assert_eq!(world.show(&pids[0])["state"], "suspended");
    did(&world.run(&["kill", &pids[1]]), "killed");
    assert_eq!(world.show(&pids[1])["state"], "killed");
    assert!(world.show(&pids[1])["chain_verified"] == true);
    assert_eq!(world.events(&pids[2]), untouched, "it was not taken up");
    assert_eq!(endpoint.asked().len(), calls);
    assert!(world.daemon().is_none() && !world.data().join("aosk.sock").exists());
}

#[test]
fn to_go_on_starts_a_daemon() {
    let (world, _endpoint, go_on) = interrupted(&["a"]);
    let pid = world.only_pid();
    did(&world.run(&["stop", &pid]), "suspended");
    go_on.store(true, Ordering::SeqCst);
    let ran = world.run(&["cont", &pid]);
    did(&ran, "goes on");
    ran.says("Started the daemon").says("every unfinished agent");
    world.wait_for_state(&pid, "completed");
    assert_eq!(world.show(&pid)["answer"], "It is 391.");
}

#[test]
fn an_agent_that_is_parked_goes_on_with_enough_money() {
    let world = World::with(&says("done"));
    world.configure("models.toml", DEAR);
    let agent = world.agent("a", "model = \"dear\"\n[quota]\nspend_usd = 0.05");
    let pid = world.spawn(&[&agent, "hi"]);
    world.wait_for_state(&pid, "blocked");
    world.run(&["cont", &pid]).failed(2, "AOSK-C007").says("parked").says("--max-spend-usd 0.1");
    let ran = world.run(&["cont", &pid, "--max-spend-usd", "0.06"]);
    ran.failed(2, "AOSK-C007").says("$0.06").says("--max-spend-usd 0.1");
    assert_eq!(world.show(&pid)["state"], "blocked");
    did(&world.run(&["cont", &pid, "--max-spend-usd", "0.5"]), "may spend $0.50");
    world.wait_for_state(&pid, "completed");
    assert!(kinds(&world.events(&pid)).contains(&"spend_raised"));
}

#[test]
fn an_agent_that_a_run_had_no_money_for_goes_on_within_its_own_limit() {
    let world = World::with(&says("done"));
    world.configure("models.toml", DEAR);
    let agent = world.agent("a", "model = \"dear\"\n[quota]\nspend_usd = 5");
    assert_eq!(world.run(&["run", &agent, "hi", "--max-spend-usd", "0.01"]).code, Some(3));
    let pid = world.only_pid();
    let ran = world.run(&["cont", &pid, "--max-spend-usd", "0.11"]);
    ran.failed(2, "AOSK-C007").says("may spend $5.00 already").says("as it is: aosk cont");
    did(&world.run(&["cont", &pid]), "goes on");
    world.wait_for_state(&pid, "completed");
    let events = world.events(&pid);
    assert!(!kinds(&events).contains(&"spend_raised"), "{events:?}");
}

#[test]
fn what_an_agent_did_not_hear_before_it_ended_is_said_not_to_be_heard() {
    let (endpoint, _) = busy();
    let world = World::with(&endpoint);
    let agent = world.agent("a", BUSY);
    let pid = world.spawn(&[&agent, "go"]);
    let daemon = world.daemon_pid();
    kill_process(daemon, Signal::STOP).expect("it runs");
    // Both are posted, the one after the other, before the daemon hears of either.
    let both = [&["kill", &pid] as &[&str], &["send", &pid, "are you there?"]].map(|args| {
        let running = world.start(args);
        std::thread::sleep(Duration::from_secs(1));
        running
    });
    kill_process(daemon, Signal::CONT).expect("it is there");
    let [killed, sent] = both.map(|one| one.end(Duration::from_secs(20)).0);
    did(&killed, "killed");
    assert_eq!(sent.code, Some(1), "{sent:?}");
    assert!(sent.out.contains("ended meanwhile (killed) and did not hear it"), "{sent:?}");
}

#[test]
fn an_agent_that_heard_and_cannot_go_on_is_not_said_to_go_on() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "model = \"other\"\ntools = [\"now\"]");
    world.configure("models.toml", OTHER);
    let pid = world.spawn(&[&agent, "hi"]);
    world.wait_for_state(&pid, "completed");
    world.run(&["daemon", "stop"]);
    world.configure("models.toml", GONE);
    let ran = world.run(&["send", &pid, "and now?"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.out.contains("has heard it, and the daemon cannot go on"), "{ran:?}");
    did(&world.run(&["stop", &pid]), "suspended");
    let ran = world.run(&["cont", &pid]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.out.contains("AOSK-L001") && !ran.out.contains("goes on\n"), "{ran:?}");
}

#[test]
fn a_run_in_the_foreground_hears_by_itself_and_of_its_own_agents_only() {
    let (world, endpoint, go_on) = interrupted(&["old"]);
    let old = world.only_pid();
    let other = world.agent("new", "tools = [\"calculator\"]");
    let running = world.start(&["run", &other, QUESTION]);
    endpoint.wait_for_call();
    endpoint.wait_for_call();
    let new = world.processes()[1]["pid"].as_str().expect("a pid").to_owned();
    did(&world.run(&["stop", &old]), "hears it later");
    did(&world.run(&["kill", &new]), "killed");
    let (ran, _) = running.end(Duration::from_secs(10));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(world.show(&old)["state"], "interrupted");
    // What was left for it is heard by whoever takes it up.
    go_on.store(true, Ordering::SeqCst);
    world.run(&["daemon", "start"]);
    world.wait_for_state(&old, "suspended");
}

#[test]
fn what_cannot_be_posted_is_refused_for_all_who_were_named() {
    let (world, _endpoint, _) = interrupted(&["a"]);
    let pid = world.only_pid();
    let before = world.events(&pid);
    world.run(&["kill", &pid, "nobody"]).failed(2, "AOSK-C005").says("nobody");
    world.run(&["kill", "ab"]).failed(2, "AOSK-C005");
    for number in ["100", "-1", "high"] {
        world
            .run(&["renice", number, &pid])
            .failed(2, "AOSK-C001")
            .says("0 (most important) to 99");
    }
    world.run(&["kill"]).failed(2, "AOSK-C001");
    world.run(&["send", &pid, " "]).failed(2, "AOSK-K006").says("the message is empty");
    let mut send = world.command(&["send", &pid, "-"]);
    let send = send.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = send.spawn().expect("runs");
    let long = vec![b'x'; (1 << 20) + 1];
    // It may end before it has read everything.
    let _ = child.stdin.take().expect("a pipe").write_all(&long);
    let ran = Ran::of(child.wait_with_output().expect("ends"));
    ran.failed(2, "AOSK-K006").says("1048576");
    assert_eq!(world.events(&pid), before);
    assert!(world.daemon().is_none());
    World::new().run(&["kill", "0199f3a2"]).failed(2, "AOSK-C005");
}

#[test]
fn what_is_sent_or_spawned_is_cleaned_before_it_leaves() {
    let mut world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    // The daemon does not know the key.
    world.run(&["daemon", "start"]);
    world.set("OPENAI_API_KEY", KEY);
    let ran = world.run(&["spawn", &agent, &format!("the key is {KEY}")]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let pid = ran.out.trim_end().to_owned();
    world.wait_for_state(&pid, "completed");
    did(&world.run(&["send", &pid, &format!("again: {KEY}")]), "has the message");
    world.run(&["spawn", &agent, "x", "--alias", KEY]).failed(2, "AOSK-C001").says("secret");
    let ran = world.run(&["logs", "--contents", &pid]);
    assert!(ran.out.contains("[redacted]") && !ran.out.contains(KEY), "{ran:?}");
    assert!(scan(&world.data(), &[KEY.to_owned()]) > 3, "the store, its log and the log");
}
