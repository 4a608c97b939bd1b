//! The daemon's socket, and what may stand in its place or come to it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use aosk_conformance::skip;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::endpoint::says;
use crate::scene::{scene, spawn};
use crate::world::{Ran, World, wait_until};

/// The longest path of a socket.
const PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Says a line to the daemon and hears one; `None` where it hangs up.
fn talk(stream: &mut UnixStream, line: &str) -> Option<Value> {
    stream.write_all(line.as_bytes()).ok()?;
    stream.write_all(b"\n").ok()?;
    let mut answer = String::new();
    BufReader::new(stream.try_clone().expect("a copy")).read_line(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

fn hello(protocol: u32, version: &str) -> String {
    json!({"hello": "aosk", "protocol": protocol, "version": version, "build": version, "os_pid": 1})
        .to_string()
}

/// A program that listens where a daemon would and greets with `line`; what it is asked comes out.
/// Asked to stop or nudged, it stops and is gone.
fn impostor(path: &Path, line: String) -> Receiver<Value> {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    let listener = UnixListener::bind(path).expect("free");
    let (sender, asked) = channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
            let mut stream = stream;
            if lines.next().is_none() || writeln!(stream, "{line}").is_err() {
                continue;
            }
            let Some(Ok(ask)) = lines.next() else {
                continue;
            };
            let ask: Value = serde_json::from_str(&ask).expect("JSON");
            if ask["ask"] == "standings" || ask["ask"] == "status" {
                // As one that is killed before it answers.
                continue;
            }
            let answer = match ask["ask"].as_str() {
                Some("stop") => json!({"answer": "stopping"}),
                Some("nudge") => json!({"answer": "refused", "code": "AOSK-K008",
                                        "message": "it stops", "help": []}),
                _ => panic!("it is asked {ask}"),
            };
            sender.send(ask).expect("heard");
            std::fs::remove_file(&path).expect("its own");
            let _ = writeln!(stream, "{answer}");
            return;
        }
    });
    asked
}

#[test]
fn the_socket_is_private_and_a_stale_one_is_replaced() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    let path = world.data().join("aosk.sock");
    std::fs::create_dir_all(world.data()).expect("folder");
    drop(UnixListener::bind(&path).expect("stale"));
    world.spawn(&[&agent, "hi"]);
    let mode = path.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_in_the_place_of_the_socket_is_kept_and_named() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    std::fs::create_dir_all(world.data()).expect("folder");
    std::fs::write(world.data().join("aosk.sock"), "mine").expect("written");
    world.run(&["spawn", &agent, "hi"]).failed(4, "AOSK-C006").says("aosk.sock").says("move it");
    assert_eq!(std::fs::read(world.data().join("aosk.sock")).expect("kept"), b"mine");
    assert!(world.processes().is_empty());
}

#[test]
fn a_socket_that_was_removed_is_made_again_and_whoever_comes_meanwhile_hears_of_it() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    world.spawn(&[&agent, "hi"]);
    let (path, daemon) = (world.data().join("aosk.sock"), world.daemon_pid());
    std::fs::remove_file(&path).expect("there");
    kill_process(daemon, Signal::HUP).expect("it runs");
    wait_until("it is there again", || path.exists());

    std::fs::remove_file(&path).expect("there");
    let began = Instant::now();
    let ran = world.run(&["spawn", "--json", &agent, "hi"]);
    let took = began.elapsed();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    if took > Duration::from_millis(1500) {
        ran.says("somebody removed it").says("aosk.sock");
    }
    assert_eq!(world.daemon_pid(), daemon, "the same one");
}

#[test]
fn a_socket_that_cannot_be_made_again_is_tried_again() {
    let world = World::with(&says("hi"));
    world.run(&["daemon", "start"]);
    let (path, daemon) = (world.data().join("aosk.sock"), world.daemon_pid());
    // A folder with the name that a socket has until it has its mode.
    let new = world.data().join("aosk.new");
    std::fs::create_dir(&new).expect("made");
    std::fs::remove_file(&path).expect("there");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!path.exists(), "it could not");
    std::fs::remove_dir(&new).expect("there");
    wait_until("it is there again", || path.exists());
    assert_eq!(world.daemon_pid(), daemon);
}

#[test]
fn a_socket_that_another_was_put_over_is_made_again_at_once() {
    let world = World::with(&says("hi"));
    world.run(&["daemon", "start"]);
    let (path, other) = (world.data().join("aosk.sock"), world.data().join("other.sock"));
    drop(UnixListener::bind(&other).expect("free"));
    std::fs::rename(&other, &path).expect("over it");
    let began = Instant::now();
    wait_until("it answers again", || UnixStream::connect(&path).is_ok());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(world.daemon().is_some());
}

#[test]
fn whoever_comes_to_a_daemon_that_stops_comes_again() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    world.run(&["daemon", "start"]);
    let path = world.data().join("aosk.sock");
    let [mut one, mut other] = [(); 2].map(|()| {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        assert_eq!(talk(&mut stream, &hello(1, "0.1.0")).expect("hello")["hello"], "aosk");
        stream
    });
    assert_eq!(talk(&mut one, r#"{"ask":"stop"}"#), Some(json!({"answer": "stopping"})));
    let refused = talk(&mut other, r#"{"ask":"nudge"}"#).expect("an answer");
    assert_eq!((&refused["answer"], &refused["code"]), (&json!("refused"), &json!("AOSK-K008")));
    drop((one, other));
    wait_until("it has stopped", || world.daemon().is_none());

    let asked = impostor(&path, hello(1, "0.1.0"));
    let ran = world.run(&["send", &world.only_pid(), "again"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.says("Started the daemon");
    assert!(ran.out.contains("has the message"), "{ran:?}");
    assert_eq!(asked.iter().collect::<Vec<_>>(), [json!({"ask": "nudge"})]);
}

#[test]
fn clients_below_at_and_above_the_bound() {
    let world = World::with(&says("hi"));
    world.run(&["daemon", "start"]);
    let path = world.data().join("aosk.sock");
    let greeted = || {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        talk(&mut stream, &hello(1, "0.1.0")).map(|_| stream)
    };
    let mut all: Vec<UnixStream> = (0..64).map_while(|_| greeted()).collect();
    assert_eq!(all.len(), 64);
    assert!(greeted().is_none(), "one too many");
    all.pop();
    wait_until("one has left", || greeted().is_some());
}

#[test]
fn another_users_client_is_cut_off() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can come as somebody else");
    }
    let world = World::with(&says("hi"));
    world.run(&["daemon", "start"]);
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
    };
    // Everything lets them in but the daemon.
    let socket = world.data().join("aosk.sock");
    for folder in socket.ancestors().skip(1).take(3) {
        open(folder, 0o755);
    }
    open(&socket, 0o666);
    open(&world.data().join("aosk.lock"), 0o644);
    let program = world.path("aosk");
    std::fs::copy(env!("CARGO_BIN_EXE_aosk"), &program).expect("copied");
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let program = [&nobody[..], &[program.to_str().expect("UTF-8"), "daemon", "status"]].concat();
    let mut command = world.of_build("setpriv".as_ref(), &program);
    let ran = Ran::of(command.output().expect("it runs"));
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let log = std::fs::read_to_string(world.data().join("logs/aosk.log")).expect("a log");
    assert!(log.contains("a client of user 65534 was cut off"), "{log}");
    assert!(world.daemon().is_some(), "its own user is served");
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_told_before_anything_begins() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    let base = world.data();
    let used = base.as_os_str().len() + "/".len() + "/aosk.sock".len();
    for (bytes, fits) in [(PATH_MAX, true), (PATH_MAX + 1, false)] {
        let dir = base.join("d".repeat(bytes - used));
        let dir = dir.to_str().expect("UTF-8");
        let ran = world.run(&["spawn", &agent, "hi", "--data-dir", dir]);
        if fits {
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert_eq!(world.run(&["daemon", "stop", "--data-dir", dir]).code, Some(0));
            continue;
        }
        ran.failed(2, "AOSK-C002").says(&format!("{bytes} bytes")).says("1 bytes shorter");
        world.run(&["daemon", "start", "--data-dir", dir]).failed(2, "AOSK-C002");
        assert!(!Path::new(dir).exists(), "nothing was made");
        // All that needs no daemon works there.
        assert_eq!(world.run(&["run", &agent, "hi", "--data-dir", dir]).code, Some(0));
        let listed = world.run(&["ps", "--all", "--json", "--data-dir", dir]);
        let one: Value = serde_json::from_str(&listed.out).expect("one process");
        let pid = one["pid"].as_str().expect("a pid");
        world.run(&["kill", pid, "--data-dir", dir]).failed(2, "AOSK-C007");
        let sent = world.run(&["send", pid, "more", "--data-dir", dir]);
        sent.failed(2, "AOSK-C002");
        let shown = world.run(&["ps", "--all", "--json", "--data-dir", dir]);
        assert_eq!(shown.out, listed.out, "nothing was left for it");
    }
}

#[test]
fn an_older_daemon_is_asked_to_stop_and_replaced() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    for (protocol, version) in [(1, "0.0.9"), (0, "0.1.0")] {
        let asked = impostor(&world.data().join("aosk.sock"), hello(protocol, version));
        let ran = world.run(&["spawn", &agent, "hi"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.says("Replaces the daemon").says(version).says("Started");
        assert_eq!(asked.iter().collect::<Vec<_>>(), [json!({"ask": "stop"})]);
        world.wait_for_state(ran.out.trim_end(), "completed");
        world.run(&["daemon", "stop"]);
    }
}

#[test]
fn a_newer_daemon_is_left_alone() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    let asked = impostor(&world.data().join("aosk.sock"), hello(2, "0.2.0"));
    for args in [&["spawn", &agent, "hi"] as &[&str], &["daemon", "start"], &["daemon", "status"]] {
        world.run(args).failed(4, "AOSK-C006").says("aosk 0.2.0").says("protocol 2");
    }
    assert!(asked.try_recv().is_err(), "it was asked for nothing");
    // To stop is the same in every protocol.
    assert_eq!(world.run(&["daemon", "stop"]).code, Some(0));
    assert_eq!(asked.try_recv(), Ok(json!({"ask": "stop"})));
}

#[test]
fn a_daemon_that_is_killed_before_it_answers_runs_no_more() {
    let world = World::with(&says("hi"));
    let _asked = impostor(&world.data().join("aosk.sock"), hello(1, env!("CARGO_PKG_VERSION")));
    assert!(world.daemon().is_none());
    let said = world.run(&["daemon", "status"]);
    assert!(said.out.starts_with("No daemon runs"), "{said:?}");
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn what_is_no_daemon_is_not_taken_for_one() {
    for line in [
        "HTTP/1.1 400 Bad Request",
        r#"{"hello":"you","protocol":1,"version":"1.0.0","build":"","os_pid":1}"#,
    ] {
        let world = World::with(&says("hi"));
        let agent = world.agent("a", "");
        let _asked = impostor(&world.data().join("aosk.sock"), line.to_owned());
        world.run(&["spawn", &agent, "hi"]).failed(4, "AOSK-C006").says("no daemon of aosk");
    }
}

#[test]
fn a_daemon_that_is_suspended_is_said_to_be_silent_and_hears_later_what_was_left() {
    let (world, endpoint, _) = scene();
    let pid = spawn(&world, &endpoint);
    let daemon = world.daemon_pid();
    kill_process(daemon, Signal::STOP).expect("it runs");
    let ran = world.run(&["stop", &pid]);
    ran.failed(4, "AOSK-C006").says("no answer").says("kill -CONT").says("is kept");
    kill_process(daemon, Signal::CONT).expect("it is there");
    world.wait_for_state(&pid, "suspended");
}

#[test]
fn nobody_who_comes_can_block_or_confuse_a_daemon() {
    let world = World::with(&says("hi"));
    let agent = world.agent("a", "");
    world.run(&["daemon", "start"]);
    let path = world.data().join("aosk.sock");
    let come = || {
        let stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    };
    let silent: Vec<UnixStream> = (0..20).map(|_| come()).collect();
    let mut half = come();
    half.write_all(b"{\"hello\":").expect("written");
    let began = Instant::now();
    let ran = world.run(&["spawn", &agent, "hi"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    drop(silent);

    let refused = talk(&mut come(), "GET / HTTP/1.1").expect("an answer");
    assert_eq!((&refused["answer"], &refused["code"]), (&json!("refused"), &json!("AOSK-C006")));
    for garbage in [r#"{"ask":"dance"}"#, r#"{"ask":"spawn"}"#, "\u{0}", "[1]"] {
        let mut stream = come();
        assert_eq!(talk(&mut stream, &hello(1, "0.1.0")).expect("hello")["hello"], "aosk");
        assert_eq!(
            talk(&mut stream, garbage).expect("an answer")["answer"],
            "refused",
            "{garbage}"
        );
    }
    // An agent as no client of this version would ask for it.
    let order = |manifest: &str, limit: u64| {
        let endpoint = world.show(ran.out.trim_end());
        assert_eq!(endpoint["state"], "completed");
        json!({"ask": "spawn", "manifest": manifest, "model": "local", "endpoint": "http://x",
               "task": "t", "spend_limit": limit})
        .to_string()
    };
    world.wait_for_state(ran.out.trim_end(), "completed");
    for (manifest, code) in [
        ("name = \"\"", "AOSK-A005"),
        ("name = \"a\"\nworkspace = \"here\"", "AOSK-T001"),
        ("name = \"a\"", "AOSK-C006"),
    ] {
        let mut stream = come();
        talk(&mut stream, &hello(1, "0.1.0")).expect("hello");
        assert_eq!(talk(&mut stream, &order(manifest, 1)).expect("an answer")["code"], code);
    }
    // A client of another protocol is told so, and may stop it all the same.
    let mut other = come();
    assert_eq!(talk(&mut other, &hello(9, "3.0.0")).expect("hello")["protocol"], 1);
    let refused = talk(&mut other, r#"{"ask":"status"}"#).expect("an answer");
    assert!(refused["message"].as_str().expect("words").contains("protocol 9"), "{refused}");
    assert_eq!(talk(&mut other, r#"{"ask":"stop"}"#).expect("an answer")["answer"], "stopping");
    drop(other);
    wait_until("it has stopped", || world.daemon().is_none());
    let left: Ran = world.run(&["ps", "--all", "--json"]);
    assert_eq!(left.out.lines().count(), 1, "{left:?}");
}
