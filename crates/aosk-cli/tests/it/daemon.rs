//! The daemon: it begins on demand, goes on after anything, and ends when nothing is to be done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getsid, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::endpoint::{Answer, Endpoint, call, says};
use crate::scene::{AGENT, QUESTION, pausing, run, scene, spawn};
use crate::world::{Running, World, kinds, lines, wait_until};

#[test]
fn spawn_starts_a_daemon_that_runs_agents_in_the_background() {
    let endpoint = Endpoint::new(|asked| match asked.results() {
        0 => call("read_file", json!({"path": "note.txt"})),
        _ => Answer::Text(format!("read {}", asked.text().contains("forty-two"))),
    });
    let world = World::with(&endpoint);
    world.write("ws/note.txt", "forty-two");
    let agent = world.agent("a", "tools = [\"read_file\"]\nworkspace = \"ws\"");
    let ran = world.run(&["spawn", &agent, "read the note"]);
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 1), "{ran:?}");
    ran.says("Started the daemon").says("It may spend $1.00");
    let pid = ran.out.trim_end().to_owned();
    let followed = world.run(&["logs", "-f", &pid]);
    assert!(followed.out.contains("completed"), "{followed:?}");
    let shown = world.show(&pid);
    assert_eq!((&shown["answer"], &shown["chain_verified"]), (&json!("read true"), &json!(true)));

    let status = world.daemon().expect("it runs");
    assert_eq!((&status["version"], &status["idle_stop"]), (&json!("0.1.0"), &json!(60)));
    assert_eq!((&status["unfinished"], &status["broken"]), (&json!(0), &json!([])));
    assert_eq!(status["owner"]["command"], "aosk daemon run");
    assert!(world.run(&["daemon", "status"]).out.contains("60 seconds"));

    let second = world.run(&["spawn", &agent, "again", "--json", "--alias", "twin"]);
    assert!(!second.err.contains("Started"), "the same daemon: {second:?}");
    let spawned = &lines(&second.out)[0];
    assert_eq!((&spawned["name"], &spawned["daemon"]), (&json!("a"), &status["os_pid"]));
    world.wait_for_state("twin", "completed");
    world.run(&["spawn", &agent, "x", "--alias", "twin"]).failed(2, "AOSK-C001").says("twin");

    let ran = world.run(&["daemon", "stop"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(world.daemon().is_none() && !world.data().join("aosk.sock").exists());
    assert_eq!(world.run(&["daemon", "stop"]).code, Some(0), "there is none, as was wished");
}

#[test]
fn what_is_spawned_may_spend_the_lesser_of_the_manifests_limit_and_the_users() {
    let world = World::with(&says("hi"));
    let (none, low, high) = (
        world.agent("none", ""),
        world.agent("low", "[quota]\nspend_usd = 0.25"),
        world.agent("high", "[quota]\nspend_usd = 7.5"),
    );
    let limit = |args: &[&str]| {
        let pid = world.spawn(args);
        world.events(&pid)[0]["body"]["spend_limit"].clone()
    };
    assert_eq!(limit(&[&none, "x"]), 1_000_000);
    assert_eq!(limit(&[&low, "x"]), 250_000);
    assert_eq!(limit(&[&high, "x"]), 1_000_000);
    assert_eq!(limit(&[&high, "x", "--max-spend-usd", "2"]), 2_000_000);
    assert_eq!(limit(&[&none, "x", "--max-spend-usd", "0"]), 0);
}

#[test]
fn an_agent_without_a_limit_of_its_own_gets_the_users_from_a_daemon() {
    let mut world = World::with(&says("done"));
    world.configure("models.toml", DEAR);
    let agent = world.agent("a", "model = \"dear\"");
    assert_eq!(world.run(&["run", &agent, "hi", "--max-spend-usd", "0.01"]).code, Some(3));
    let pid = world.only_pid();
    // What the run may spend is no limit of the agent's. It is parked, and asks again when it is
    // continued, under the daemon's.
    world.set("AOSK_MAX_SPEND_USD", "0.02");
    let ran = world.run(&["cont", &pid]);
    ran.failed(2, "AOSK-C007").says("--max-spend-usd");
    let ran = world.run(&["stop", &pid]);
    assert!(ran.out.contains("suspended"), "{ran:?}");
    let ran = world.run(&["cont", &pid]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.out.contains("is parked: spend limit"), "{ran:?}");
    let limit = world.show(&pid)["detail"]["on"]["limit"].clone();
    assert_eq!(limit, 20_000, "{}", world.show(&pid));
    // The daemon's limit holds, whatever the user's is by now.
    world.unset("AOSK_MAX_SPEND_USD");
    let ran = world.run(&["cont", &pid]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.out.contains("is parked: ") && ran.out.contains("of $0.02 used"), "{ran:?}");
}

/// A model whose call may cost some $0.10.
pub const DEAR: &str = "[models.dear]\nprovider = \"local\"\nwindow = 4000\nmax_output = 1000\n\
                        price = { input = 100, output = 100 }\n";

#[test]
fn a_daemon_that_was_killed_goes_on_where_it_was() {
    let (world, endpoint, go_on) = scene();
    let pid = spawn(&world, &endpoint);
    world.kill_daemon();
    let before = world.run(&["logs", "--json", &pid]).out;
    assert_eq!(kinds(&lines(&before)).last(), Some(&"llm_requested"));

    // It left its socket behind, which keeps nobody from beginning.
    assert!(world.data().join("aosk.sock").exists());
    go_on.store(true, Ordering::SeqCst);
    world.run(&["daemon", "start"]).says("Started the daemon");
    let after = world.run(&["logs", "-f", "--json", &pid]).out;
    assert!(after.starts_with(&before));
    let events = lines(&after);
    let new = &events[before.lines().count()..];
    assert_eq!(kinds(new), ["recovered", "llm_requested", "llm_returned", "exited"]);
    assert_eq!(new[1]["body"]["attempt"], 2);
    assert_eq!(endpoint.asked().iter().filter(|asked| asked.results() == 0).count(), 1);
    world.run(&["daemon", "start"]).says("runs already");
}

#[test]
fn a_sleeper_is_held_by_the_next_daemon_and_wakes_in_time() {
    let asked = AtomicUsize::new(0);
    let endpoint = Endpoint::new(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Status(400, r#"{"error":{"message":"no"}}"#.to_owned()),
        _ => Answer::Text("at the second time".to_owned()),
    });
    let world = World::with(&endpoint);
    let agent = world.agent("a", "[restart]\nwhen = \"on_failure\"\nwait_s = 6");
    let pid = world.spawn(&[&agent, "hi"]);
    world.wait_for_state(&pid, "blocked");
    let before = world.events(&pid);
    world.kill_daemon();
    world.run(&["ps"]).says("aosk run --resume");

    world.run(&["daemon", "start"]).says("Started the daemon");
    let listed = world.run(&["ps"]);
    assert!(listed.out.contains("blocked") && listed.out.contains("next attempt"), "{listed:?}");
    assert!(!listed.err.contains("Interrupted"), "{listed:?}");
    assert_eq!(world.show(&pid)["state"], "blocked");
    assert_eq!(world.events(&pid), before, "it was laid to sleep unread");
    world.wait_for_state(&pid, "completed");
    assert_eq!(world.show(&pid)["answer"], "at the second time");
}

#[test]
fn an_agent_that_took_two_daemons_down_waits_for_a_person() {
    let (world, endpoint, go_on) = scene();
    let pid = spawn(&world, &endpoint);
    for crashes in 1..=2 {
        if crashes == 2 {
            endpoint.wait_for_call();
        }
        world.kill_daemon();
        // The kill hit a daemon that waited; what the recorder holds is that of one that died in
        // the middle of a step.
        let bytes: aosk_abi::Pid = pid.parse().expect("a pid");
        std::fs::write(world.data().join("aosk.flight"), bytes.as_bytes()).expect("written");
        world.run(&["daemon", "start"]).says("Started the daemon");
    }
    world.wait_for_state(&pid, "blocked");
    let listed = world.run(&["ps"]).out;
    assert!(listed.contains("the kernel failed inside itself 2"), "{listed}");
    let crashes = world.events(&pid).iter().filter(|event| event["kind"] == "crashed").count();
    assert_eq!(crashes, 2);

    go_on.store(true, Ordering::SeqCst);
    world.run(&["cont", &pid]);
    world.wait_for_state(&pid, "completed");
}

#[test]
fn a_daemon_outlives_its_terminal_and_stops_between_two_steps() {
    let (world, endpoint, go_on) = scene();
    let pid = spawn(&world, &endpoint);
    let daemon = world.daemon_pid();
    assert_eq!(getsid(Some(daemon)), Ok(daemon), "a session of its own");
    kill_process(daemon, Signal::HUP).expect("it runs");
    assert_eq!(world.daemon_pid(), daemon);

    let began = Instant::now();
    kill_process(daemon, Signal::TERM).expect("it runs");
    wait_until("it has stopped", || world.processes()[0]["state"] == "interrupted");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6) && took > Duration::from_secs(3), "{took:?}");
    assert!(!world.data().join("aosk.sock").exists());

    world.run(&["daemon", "start"]).says("Started");
    endpoint.wait_for_call();
    let daemon = world.daemon_pid();
    kill_process(daemon, Signal::TERM).expect("it runs");
    std::thread::sleep(Duration::from_millis(300));
    kill_process(daemon, Signal::TERM).expect("it still waits for the call");
    let began = Instant::now();
    wait_until("the second stops at once", || test_kill_process(daemon).is_err());
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(!world.data().join("aosk.flight").exists(), "nobody is blamed for it");
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(world.run(&["run", "--resume"]).code, Some(0));
    assert_eq!(world.show(&pid)["answer"], "It is 391.");
}

#[test]
fn a_store_with_a_daemon_is_not_taken_over() {
    let (world, endpoint, _) = scene();
    spawn(&world, &endpoint);
    let daemon = world.daemon().expect("it runs")["os_pid"].to_string();
    for args in [&["daemon", "run"] as &[&str], &["run", AGENT, "x"], &["run", "--resume"]] {
        let ran = world.run(args);
        ran.failed(4, "AOSK-S006").says(&daemon).says("aosk daemon run").says("aosk daemon stop");
    }
    let ran = world.run(&["daemon", "start", "--idle-stop", "7"]);
    ran.failed(2, "AOSK-C001").says("--idle-stop 60").says("aosk daemon stop");
    assert_eq!(world.run(&["daemon", "start", "--idle-stop", "60"]).code, Some(0));
    world.run(&["ps"]).says(&daemon).says("aosk daemon run");
    let report = world.run(&["doctor", "--offline"]);
    assert!(report.out.contains(&format!("the daemon (process {daemon})")), "{report:?}");
}

#[test]
fn a_store_with_a_run_in_the_foreground_gets_no_daemon() {
    let (world, endpoint, _) = scene();
    let running = run(&world, &endpoint);
    for args in [&["spawn", AGENT, "x"] as &[&str], &["daemon", "start"]] {
        let owner = running.pid().to_string();
        world.run(args).failed(4, "AOSK-S006").says(&owner).says("aosk run a.toml");
    }
    let status = world.run(&["daemon", "status"]);
    assert_eq!(status.code, Some(1));
    assert!(status.out.contains("aosk run a.toml"), "{status:?}");
    world.run(&["ps"]).says("aosk run a.toml");
    running.kill_9();
}

#[test]
fn two_resumes_at_once_are_one_that_goes_on_and_one_that_hears_who() {
    let (world, endpoint, go_on) = scene();
    let running = run(&world, &endpoint);
    running.kill_9();
    let mut both = [(); 2].map(|()| world.start(&["run", "--resume"]));
    endpoint.wait_for_call();
    wait_until("one has ended", || both.iter_mut().any(Running::has_ended));
    go_on.store(true, Ordering::SeqCst);
    // The winner's call is silent for good.
    for one in &mut both {
        if !one.has_ended() {
            one.signal(Signal::INT);
        }
    }
    let mut codes = both.map(|one| one.end(Duration::from_secs(20)).0.code);
    codes.sort_unstable();
    assert_eq!(codes, [Some(4), Some(130)]);
    assert_eq!(world.run(&["run", "--resume"]).code, Some(0));
}

#[test]
fn many_who_spawn_at_once_share_one_daemon() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    let all = [(); 5].map(|()| world.start(&["spawn", "--json", &agent, "hi"]));
    let spawned = all.map(|one| one.end(Duration::from_secs(30)).0);
    let daemons: Vec<Value> = spawned
        .iter()
        .map(|ran| {
            assert_eq!(ran.code, Some(0), "{ran:?}");
            lines(&ran.out)[0]["daemon"].clone()
        })
        .collect();
    assert!(daemons.iter().all(|one| *one == daemons[0]), "{daemons:?}");
    assert_eq!(world.processes().len(), 5);
}

#[test]
fn a_daemon_with_nothing_to_do_stops_by_itself_and_not_before() {
    let done = Arc::new(AtomicBool::new(false));
    let switch = done.clone();
    let endpoint = Endpoint::new(move |_| {
        std::thread::sleep(Duration::from_millis(100));
        match switch.load(Ordering::SeqCst) {
            true => Answer::Text("done".to_owned()),
            false => call("now", json!({})),
        }
    });
    let world = World::with(&endpoint);
    let agent = world.agent("a", "tools = [\"now\"]\nmax_steps = 1000");
    world.run(&["daemon", "start", "--idle-stop", "1"]).says("1 seconds");
    let daemon = world.daemon_pid();
    world.spawn(&[&agent, "go"]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(test_kill_process(daemon).is_ok(), "an agent runs");
    let client = std::os::unix::net::UnixStream::connect(world.data().join("aosk.sock"));
    done.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_secs(2));
    assert!(test_kill_process(daemon).is_ok(), "somebody is connected");
    drop(client);
    wait_until("it has stopped", || test_kill_process(daemon).is_err());
    assert!(!world.data().join("aosk.sock").exists());
    let log = std::fs::read_to_string(world.data().join("logs/aosk.log")).expect("a log");
    assert!(log.contains("there is nothing to do"), "{log}");
}

#[test]
fn an_agent_keeps_the_manifest_that_it_began_with() {
    let (world, endpoint, go_on) = scene();
    let pid = spawn(&world, &endpoint);
    world.kill_daemon();
    world.write(AGENT, "name = \"b\"\nsystem = \"You are somebody else.\"\nmax_steps = 1\n");
    go_on.store(true, Ordering::SeqCst);
    world.run(&["daemon", "start"]);
    world.wait_for_state(&pid, "completed");
    let shown = world.show(&pid);
    assert_eq!((&shown["name"], &shown["steps"]), (&json!("a"), &json!(2)));
    assert!(endpoint.asked().iter().all(|asked| asked.text().contains("You are a.")));
}

#[test]
fn a_daemon_that_cannot_begin_says_why() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    std::fs::create_dir_all(world.data()).expect("folder");
    std::fs::write(world.data().join("aosk.db"), vec![7; 9000]).expect("written");
    world.run(&["spawn", &agent, "hi"]).failed(4, "AOSK-S003");
    world.run(&["daemon", "start"]).failed(4, "AOSK-S003");
    assert!(!world.data().join("aosk.sock").exists());
}

#[test]
fn what_a_daemon_refuses_to_begin_is_the_askers_to_mend() {
    let mut world = World::with(&says("hi"));
    let agent = world.agent("a", "[context]\nwindow = 999999");
    world.run(&["spawn", &agent, "hi"]).failed(2, "AOSK-A005").says("a.toml:4").says("999999");
    world.run(&["daemon", "stop"]);
    world.set("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let agent = world.agent("b", "");
    world.run(&["spawn", &agent, "hi"]).failed(5, "AOSK-L001");
    world.run(&["spawn", "nowhere.toml", "hi"]).failed(2, "AOSK-C003");
    world.run(&["spawn", &agent]).failed(2, "AOSK-K006");
    let outside = world.agent("c", "workspace = \"..\"");
    world.run(&["spawn", &outside, "hi"]).failed(2, "AOSK-T001").says("--allow-workspace");
    assert!(world.processes().is_empty());
}

#[test]
fn a_daemon_asks_models_where_it_was_started_to_and_says_so_to_others() {
    let (first, second) = (says("first"), says("second"));
    let mut world = World::with(&first);
    let agent = world.agent("a", "");
    world.spawn(&[&agent, "hi"]);
    world.set("OPENAI_BASE_URL", &second.url());
    let ran = world.run(&["spawn", &agent, "hi"]);
    ran.failed(4, "AOSK-C006").says(&first.url()).says(&second.url()).says("aosk daemon stop");
    world.run(&["daemon", "stop"]);
    let pid = world.spawn(&[&agent, "hi"]);
    world.wait_for_state(&pid, "completed");
    assert_eq!(world.show(&pid)["answer"], "second");
}

#[test]
fn a_model_that_the_daemon_does_not_know_yet_is_said_to_be_new_to_it() {
    let (world, endpoint) = (World::new(), says("hi"));
    let agent = world.agent("a", "model = \"other\"");
    world.run(&["daemon", "start"]);
    let elsewhere = GONE.replace("http://127.0.0.1:9/v1", &endpoint.url());
    world.configure("models.toml", &elsewhere);
    let ran = world.run(&["spawn", &agent, "hi"]);
    ran.failed(5, "AOSK-L003").says("read models.toml when it started").says("aosk daemon stop");
    world.run(&["daemon", "stop"]);
    world.spawn(&[&agent, "hi"]);
}

#[test]
fn what_a_daemon_cannot_go_on_with_is_in_its_status() {
    let (endpoint, _) = pausing();
    let world = World::with(&endpoint);
    let agent = world.agent("a", "model = \"other\"\ntools = [\"calculator\"]");
    world.configure("models.toml", OTHER);
    let pid = world.spawn(&[&agent, QUESTION]);
    endpoint.wait_for_call();
    world.kill_daemon();
    world.configure("models.toml", GONE);
    world.run(&["daemon", "start"]);
    wait_until("it broke", || {
        world.daemon().expect("it runs")["broken"].as_array().is_some_and(|all| all.len() == 1)
    });
    let broken = world.daemon().expect("it runs")["broken"][0].clone();
    assert_eq!((&broken["pid"], &broken["code"]), (&json!(pid), &json!("AOSK-L001")));
    assert!(world.run(&["daemon", "status"]).out.contains("AOSK-L001"));
}

/// A model of its own name, asked at the local address.
pub const OTHER: &str = "[models.other]\nprovider = \"local\"\nwindow = 9000\nmax_output = 900\n\
                     price = { input = 0, output = 0 }\n";

/// The same model, asked where nobody answers.
pub const GONE: &str = "[providers.gone]\ndialect = \"openai\"\nloopback = true\nslots = 1\n\
                    base_url = \"http://127.0.0.1:9/v1\"\n\
                    [models.other]\nprovider = \"gone\"\nwindow = 9000\nmax_output = 900\n\
                    price = { input = 0, output = 0 }\n";
