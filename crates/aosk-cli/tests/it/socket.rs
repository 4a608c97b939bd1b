//! The daemon's socket, and what may stand in its place or come to it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::endpoint::says;
use crate::lifecycle::pausing;
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
/// Asked to stop, it is gone.
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
            while let Some(Ok(ask)) = lines.next() {
                let ask: Value = serde_json::from_str(&ask).expect("JSON");
                let stop = ask["ask"] == "stop";
                sender.send(ask).expect("heard");
                if stop {
                    std::fs::remove_file(&path).expect("its own");
                    let _ = writeln!(stream, "{}", json!({"answer": "stopping"}));
                    return;
                }
            }
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
    let (endpoint, _) = pausing();
    let world = World::with(&endpoint);
    let agent = world.agent("a", "tools = [\"calculator\"]");
    let pid = world.spawn(&[&agent, "What is 17 * 23?"]);
    endpoint.wait_for_call();
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
