//! The store on a server: every command as on a file, and several nodes on one store.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aosk_conformance::Server;
use rustix::process::{Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::endpoint::{Answer, Endpoint, call, says};
use crate::scene::{AGENT, QUESTION, pausing};
use crate::world::{Ran, World, kinds, lines, wait_until};

/// The lease of every node here.
const LEASE: Duration = Duration::from_secs(3);

/// The server that these tests share.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// The address of a store that nobody uses yet.
fn address(server: &Server) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    server.url("postgres", &format!("schema=cli_{number}"))
}

/// Another machine with that endpoint and store.
fn machine(endpoint: &Endpoint, store: &str) -> World {
    let mut world = World::with(endpoint);
    world.set("AOSK_STORE", store);
    world.set("AOSK_LEASE_SECONDS", &LEASE.as_secs().to_string());
    assert_eq!(world.agent("a", "tools = [\"calculator\"]"), AGENT);
    world
}

fn done(ran: &Ran) -> &Ran {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

/// The nodes that work on the store, with how many processes each has.
fn nodes(world: &World) -> Vec<Value> {
    let ran = world.run(&["store", "status", "--json"]);
    lines(&done(&ran).out)[0]["nodes"].as_array().expect("nodes").clone()
}

/// Which node has the process.
fn node_of(world: &World, pid: &str) -> Option<String> {
    let all = world.processes();
    let found = all.iter().find(|process| process["pid"] == pid).expect("it is listed");
    found["node"].as_str().map(str::to_owned)
}

/// Spawns that many agents, each up to the middle of its second call.
fn spawn(world: &World, endpoint: &Endpoint, count: usize) -> Vec<String> {
    let pids = (0..count).map(|_| world.spawn(&[AGENT, QUESTION])).collect();
    for _ in 0..count * 2 {
        endpoint.wait_for_call();
    }
    pids
}

#[test]
fn every_command_works_on_a_server_as_on_a_file() {
    if !Server::is_here() {
        return;
    }
    let endpoint = Endpoint::new(|asked| match asked.results() {
        0 => call("calculator", json!({"expression": "17 * 23"})),
        _ => Answer::Text("It is 391.".to_owned()),
    });
    let world = machine(&endpoint, &address(server()));
    world.run(&["ps"]).says("Nothing was run in postgres://127.0.0.1:");
    assert!(done(&world.run(&["doctor", "--json"])).out.contains("no store yet"));
    done(&world.run(&["init", "mine.toml"]));

    let ran = world.run(&["run", AGENT, QUESTION]);
    assert!(done(&ran).out.contains("391"), "{ran:?}");
    let pid = world.only_pid();
    let shown = world.show(&pid);
    assert_eq!((&shown["answer"], &shown["chain_verified"]), (&json!("It is 391."), &json!(true)));
    assert_eq!(kinds(&world.events(&pid)).last(), Some(&"exited"));

    let spawned = world.spawn(&[AGENT, QUESTION, "--alias", "twin"]);
    world.wait_for_state(&spawned, "completed");
    let said = world.run(&["send", "twin", "And once more?"]);
    assert!(done(&said).out.contains("has the message"), "{said:?}");
    world.wait_for_state(&spawned, "completed");
    let status = world.daemon().expect("it runs");
    assert_eq!((&status["waits_for"], &status["unfinished"]), (&Value::Null, &json!(0)));
    let label = nodes(&world)[0]["label"].as_str().expect("a label").to_owned();
    assert!(label.ends_with("aosk daemon run"), "{label}");
    let doctor = world.run(&["doctor"]);
    assert!(done(&doctor).out.contains("PostgreSQL") && doctor.out.contains(&label), "{doctor:?}");
    // A run beside the daemon is a node of its own.
    done(&world.run(&["run", AGENT, QUESTION]));
    done(&world.run(&["daemon", "stop"]));
    assert!(nodes(&world).is_empty() && world.daemon().is_none());

    let checked = world.run(&["store", "check"]);
    assert!(done(&checked).out.contains("3 processes") && checked.out.contains("all sound"));
    let size = lines(&done(&world.run(&["store", "size", "--json"])).out)[0].clone();
    let parts = size["parts"].as_array().expect("a list");
    let journal = parts.iter().find(|part| part["name"] == "journal").expect("it is there");
    assert!(journal["bytes"].as_u64() > Some(0), "{size}");
    assert!(parts.iter().all(|part| part["what"] != "an index"), "each is explained: {size}");
    done(&world.run(&["store", "migrate"])).says("this version's");
    assert!(done(&world.run(&["store", "gc"])).out.contains("0 large contents"));
    a_backup_goes_to_a_folder_a_server_and_back(&world, &pid);
    let store = address(server());
    let demo = world.run(&["demo", "--store", &store, "--data-dir", "demo"]);
    assert!(done(&demo).out.contains("What happened"), "{demo:?}");
    assert_eq!(
        done(&world.run(&["ps", "--all", "--json", "--store", &store])).out.lines().count(),
        3
    );
}

fn a_backup_goes_to_a_folder_a_server_and_back(world: &World, pid: &str) {
    let before = world.run(&["logs", "--json", pid]).out;
    let saved = world.run(&["store", "backup", "saved.db"]);
    assert!(done(&saved).out.contains("3 processes"), "{saved:?}");
    let (folder, other) = ("folder", address(server()));
    done(&world.run(&["store", "restore", "saved.db", "--data-dir", folder, "--store", folder]));
    done(&world.run(&["store", "restore", "saved.db", "--store", &other]));
    for store in [folder, &other] {
        assert_eq!(world.run(&["logs", "--json", pid, "--store", store]).out, before);
    }
    let copied = world.run(&["store", "copy", "--from", &other, "--to", "sqlite:copied"]);
    assert!(done(&copied).out.contains("3 of 3 chains"), "{copied:?}");
    assert_eq!(world.run(&["logs", "--json", pid, "--store", "copied"]).out, before);
    let taken = world.run(&["store", "restore", "saved.db", "--store", &other]);
    assert_eq!(taken.code, Some(4), "{taken:?}");
}

#[test]
fn signals_are_carried_out_where_no_node_has_the_process() {
    if !Server::is_here() {
        return;
    }
    let (endpoint, _) = pausing();
    let world = machine(&endpoint, &address(server()));
    let running = world.start(&["run", AGENT, QUESTION]);
    endpoint.wait_for_call();
    endpoint.wait_for_call();
    let pid = world.only_pid();
    // Its node is told, and nobody starts another.
    let ran = world.run(&["stop", &pid]);
    assert!(done(&ran).out.contains("suspended") || ran.out.contains("heard"), "{ran:?}");
    running.signal(Signal::INT);
    running.end(Duration::from_secs(20));
    assert!(nodes(&world).is_empty(), "it gave its processes up");
    let ran = world.run(&["kill", &pid]);
    assert!(done(&ran).out.contains("killed"), "{ran:?}");
    assert_eq!(world.show(&pid)["state"], "killed");
    assert!(world.daemon().is_none());
}

#[test]
fn another_node_goes_on_with_every_agent_of_a_killed_one_within_its_lease_and_2_s() {
    if !Server::is_here() {
        return;
    }
    let (endpoint, go_on) = pausing();
    let store = address(server());
    let (dead, alive) = (machine(&endpoint, &store), machine(&endpoint, &store));
    let lost = spawn(&dead, &endpoint, 3);
    let own = spawn(&alive, &endpoint, 1);
    let [first, second] = [&lost[0], &own[0]].map(|pid| node_of(&alive, pid).expect("a node"));
    assert_ne!(first, second);
    let listed = alive.run(&["ps"]);
    assert!(done(&listed).out.contains("NODE"), "{listed:?}");
    listed.says("2 nodes work on the store");

    kill_process(dead.daemon_pid(), Signal::KILL).expect("it runs");
    let killed = Instant::now();
    // A lease began at most a fifth of it before the end, and asking takes its time.
    wait_until("all are taken over", || {
        lost.iter().all(|pid| node_of(&alive, pid).as_ref() == Some(&second))
    });
    assert!(killed.elapsed() <= LEASE + Duration::from_secs(2), "{:?}", killed.elapsed());
    go_on.store(true, Ordering::SeqCst);
    for pid in lost.iter().chain(&own) {
        alive.run(&["cont", pid]);
    }
    for pid in &lost {
        let events = alive.events(pid);
        assert_eq!(kinds(&events).iter().filter(|kind| **kind == "recovered").count(), 1);
    }
    assert_eq!(nodes(&alive).len(), 1);
}

#[test]
fn a_node_that_slept_past_its_lease_writes_nothing_more_and_ends() {
    if !Server::is_here() {
        return;
    }
    let (endpoint, go_on) = pausing();
    let store = address(server());
    let (zombie, alive) = (machine(&endpoint, &store), machine(&endpoint, &store));
    let pid = spawn(&zombie, &endpoint, 1).remove(0);
    done(&alive.run(&["daemon", "start"]));
    let asleep = zombie.daemon_pid();
    kill_process(asleep, Signal::STOP).expect("it runs");
    go_on.store(true, Ordering::SeqCst);
    alive.wait_for_state(&pid, "completed");
    let before = alive.events(&pid);
    kill_process(asleep, Signal::CONT).expect("it sleeps");
    wait_until("it ends", || test_kill_process(asleep).is_err());
    assert_eq!(alive.events(&pid), before, "its late outcome was refused");
    let replies = kinds(&before).iter().filter(|kind| **kind == "llm_returned").count();
    assert_eq!(replies, 2, "no outcome is recorded twice: {before:?}");
    let log = std::fs::read_to_string(zombie.local().join("logs/aosk.log")).expect("a log");
    assert!(log.contains("others have taken"), "{log}");
    assert_eq!(alive.run(&["daemon", "status"]).code, Some(0));
}

#[test]
fn a_daemon_that_is_started_again_goes_on_at_once_with_what_the_killed_one_had() {
    if !Server::is_here() {
        return;
    }
    let (endpoint, go_on) = pausing();
    let mut world = machine(&endpoint, &address(server()));
    // Longer than this test.
    world.set("AOSK_LEASE_SECONDS", "600");
    let pid = spawn(&world, &endpoint, 1).remove(0);
    kill_process(world.daemon_pid(), Signal::KILL).expect("it runs");
    wait_until("it is gone", || world.daemon().is_none());
    go_on.store(true, Ordering::SeqCst);
    done(&world.run(&["daemon", "start"]));
    world.wait_for_state(&pid, "completed");
    assert!(kinds(&world.events(&pid)).contains(&"recovered"));
    assert_eq!(nodes(&world).len(), 1, "the old one is gone");
}

#[test]
fn a_node_that_stops_in_order_hands_its_agents_over_at_once() {
    if !Server::is_here() {
        return;
    }
    let (endpoint, go_on) = pausing();
    let store = address(server());
    let mut first = machine(&endpoint, &store);
    // Longer than this test.
    first.set("AOSK_LEASE_SECONDS", "600");
    let second = machine(&endpoint, &store);
    let pid = spawn(&first, &endpoint, 1).remove(0);
    done(&second.run(&["daemon", "start"]));
    done(&first.run(&["daemon", "stop"]));
    go_on.store(true, Ordering::SeqCst);
    second.wait_for_state(&pid, "completed");
}

#[test]
fn agents_wait_while_the_server_is_away_and_the_daemon_says_so() {
    if !Server::is_here() {
        return;
    }
    let server = Server::start();
    let (endpoint, go_on) = pausing();
    let world = machine(&endpoint, &address(&server));
    let pids = spawn(&world, &endpoint, 3);
    server.stop();
    go_on.store(true, Ordering::SeqCst);
    wait_until("it is noticed", || {
        world.daemon().is_some_and(|status| status["waits_for"].is_string())
    });
    let said = world.run(&["daemon", "status"]);
    assert!(done(&said).out.contains("it waits for the database"), "{said:?}");
    world.run(&["ps"]).failed(4, "AOSK-S013").says("127.0.0.1");
    // Longer than the lease: it lapses, and nobody else took over.
    std::thread::sleep(LEASE + Duration::from_secs(1));
    server.go();
    for pid in &pids {
        world.run(&["cont", pid]);
    }
    wait_until("they go on", || world.daemon().is_some_and(|it| it["waits_for"].is_null()));
    for pid in &pids {
        assert_ne!(world.show(pid)["state"], "failed");
        assert!(!kinds(&world.events(pid)).contains(&"recovered"), "the same node goes on");
    }
}

#[test]
fn a_daemon_whose_server_is_away_stops_when_it_is_asked_to() {
    if !Server::is_here() {
        return;
    }
    let server = Server::start();
    let (endpoint, _) = pausing();
    let world = machine(&endpoint, &address(&server));
    let pid = spawn(&world, &endpoint, 1).remove(0);
    server.stop();
    done(&world.run(&["daemon", "stop"]));
    server.go();
    assert_eq!(kinds(&world.events(&pid)).last(), Some(&"llm_requested"), "nothing is lost");
}

#[test]
fn what_is_wrong_with_a_server_is_said_with_its_code_and_remedy() {
    if !Server::is_here() {
        return;
    }
    let server = Server::with(&["password_encryption = 'scram-sha-256'"]);
    let url = |user: &str, settings: &str| {
        format!("postgres://{user}@127.0.0.1:{}/postgres?{settings}", server.port())
    };
    server.sql(
        "CREATE ROLE ana LOGIN PASSWORD 'right-canary'; CREATE SCHEMA theirs; \
         CREATE TABLE theirs.bills (id int); CREATE SCHEMA newer; \
         CREATE TABLE newer.schema_migrations (version int); \
         COMMENT ON TABLE newer.schema_migrations IS 'aosk store'; \
         INSERT INTO newer.schema_migrations VALUES (999);",
    );
    let mut world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    let mut refused = |store: &str, exit: i32, code: &str, words: &str| {
        world.set("AOSK_STORE", store);
        let commands: [&[&str]; 5] = [
            &["run", &agent, "x"],
            &["spawn", &agent, "x"],
            &["ps"],
            &["doctor", "--json"],
            &["store", "status"],
        ];
        for command in commands {
            let ran = world.run(command);
            let said = format!("{}{}", ran.out, ran.err);
            assert!(!said.contains("canary"), "{command:?}: {ran:?}");
            if command[0] == "doctor" {
                assert!(ran.out.contains(words), "{words:?} is not in {ran:?}");
            } else {
                ran.failed(exit, code).says(words);
            }
        }
    };
    refused("mysql://a:canary@b/c", 4, "AOSK-S016", "postgres://");
    refused("postgres://a:canary@b:port/c", 4, "AOSK-S016", "cannot be read");
    refused("postgres://a:canary@127.0.0.1:1/b", 4, "AOSK-S013", "127.0.0.1:1/b");
    refused(&url("postgres", "schema=theirs"), 4, "AOSK-S015", "bills");
    refused(&url("postgres", "schema=newer"), 4, "AOSK-S002", "upgrade aosk");
    server.demand_passwords();
    refused(&url("ana:wrong-canary", ""), 4, "AOSK-S014", "check user and password");
    // A role that may log in and make nothing.
    world.set("AOSK_STORE", &url("ana:right-canary", ""));
    let ran = world.run(&["run", &agent, "x"]);
    ran.failed(4, "AOSK-S014").says("CREATE SCHEMA");
    assert!(!ran.err.contains("canary"), "{ran:?}");
}

#[test]
fn the_password_of_a_server_is_in_no_output_log_file_or_argument() {
    if !Server::is_here() {
        return;
    }
    let server = Server::with(&["password_encryption = 'scram-sha-256'"]);
    server.sql("ALTER ROLE postgres PASSWORD 'p%2fcanary'");
    server.demand_passwords();
    let store = server.url("postgres:p%252fcanary", "");
    let (endpoint, go_on) = pausing();
    let mut world = machine(&endpoint, &store);
    world.unset("AOSK_STORE");
    world.configure("config.toml", &format!("store = \"{store}\"\n"));
    let mut said = String::new();
    let pid = spawn(&world, &endpoint, 1).remove(0);
    let arguments = format!("/proc/{}/cmdline", world.daemon_pid().as_raw_nonzero());
    said.push_str(&std::fs::read_to_string(arguments).expect("it runs"));
    server.stop();
    std::thread::sleep(Duration::from_secs(1));
    let mut hear = |ran: Ran| said.push_str(&format!("{}{}", ran.out, ran.err));
    hear(world.run(&["daemon", "status"]));
    server.go();
    go_on.store(true, Ordering::SeqCst);
    hear(world.run(&["-vv", "cont", &pid]));
    hear(world.run(&["-vv", "ps", "--store", &store]));
    hear(world.run(&["-vv", "run", AGENT, "the password is p%2fcanary", "--store", &store]));
    hear(world.run(&["ps", "--store", &store.replace("canary", "wrong-canary")]));
    hear(world.run(&["doctor", "--json"]));
    hear(world.run(&["logs", "--contents", &pid]));
    hear(world.run(&["daemon", "stop"]));
    for file in std::fs::read_dir(world.local().join("logs")).expect("logs") {
        said.push_str(&std::fs::read_to_string(file.expect("a file").path()).expect("text"));
    }
    assert!(said.contains("127.0.0.1") && !said.contains("canary"), "{said}");
}
