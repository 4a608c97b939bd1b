//! A terminal that is drawn on, and one that goes away.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::scene::{AGENT, QUESTION, scene};
use crate::world::{Running, World, kinds, wait_until};

/// Starts a command as the leader of a session with a terminal of its own, which goes away when
/// what is returned beside it is dropped.
fn start(world: &World, args: &[&str]) -> (Running, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags).expect("a terminal");
    grantpt(&near).and_then(|()| unlockpt(&near)).expect("ours");
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&near, size).expect("a size");
    let name = ptsname(&near, Vec::new()).expect("a name");
    let far = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .expect("its other end");
    let again = || far.try_clone().expect("a copy");
    // Whoever runs the tests may have told all programs to outlive a terminal, as `nohup` does.
    let wrap = ["env", "--default-signal=HUP", "setsid", "--ctty"];
    let mut command = world.through(&wrap, args);
    let running = Running::start(command.stdin(again()).stdout(again()).stderr(again()));
    (running, near)
}

#[test]
fn a_terminal_that_goes_away_stops_a_run_between_two_steps() {
    let (world, endpoint, go_on) = scene();
    let (running, terminal) = start(&world, &["run", AGENT, QUESTION]);
    endpoint.wait_for_call();
    endpoint.wait_for_call();
    drop(terminal);
    let (ran, took) = running.end(Duration::from_secs(20));
    assert_eq!(ran.code, Some(129), "{ran:?}");
    let grace = Duration::from_secs(3)..Duration::from_secs(6);
    assert!(grace.contains(&took), "the call had its time: {took:?}");
    let pid = world.only_pid();
    let log = std::fs::read_to_string(world.data().join("logs/aosk.log")).expect("a log");
    assert!(log.contains("ended with exit code 129"), "{log}");
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(world.run(&["run", "--resume"]).code, Some(0));
    let events = world.events(&pid);
    assert_eq!(kinds(&events).iter().filter(|kind| **kind == "tool_returned").count(), 1);
    assert_eq!(world.show(&pid)["answer"], "It is 391.");
}

#[test]
fn the_machine_is_watched_on_a_screen_that_is_put_back_and_keys_reach_agents() {
    let (world, endpoint, go_on) = scene();
    let pid = world.spawn(&[AGENT, QUESTION]);
    endpoint.wait_for_call();
    let (running, terminal) = start(&world, &["top"]);
    let reader = File::from(terminal.try_clone().expect("a copy"));
    let drawn = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&drawn);
    std::thread::spawn(move || {
        let (mut reader, mut bytes) = (reader, [0; 4096]);
        while let Ok(read @ 1..) = reader.read(&mut bytes) {
            seen.lock().expect("whole").push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    });
    let shows = |text: &str| drawn.lock().expect("whole").contains(text);
    wait_until("the agent is shown", || shows("1 agents") && shows("WAITS"));
    let mut keys = File::from(terminal);
    keys.write_all(b"r7\r").expect("typed");
    wait_until("the priority has changed", || {
        kinds(&world.events(&pid)).contains(&"priority_changed")
    });
    keys.write_all(b"s").expect("typed");
    go_on.store(true, Ordering::SeqCst);
    world.wait_for_state(&pid, "suspended");
    keys.write_all(b"ky").expect("typed");
    world.wait_for_state(&pid, "killed");
    keys.write_all(b"q").expect("typed");
    let (ran, _) = running.end(Duration::from_secs(10));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    wait_until("the screen is put back", || shows("\u{1b}[?1049l"));
}

#[test]
fn without_a_terminal_top_says_what_to_use_instead() {
    let world = World::new();
    world.run(&["top"]).failed(2, "AOSK-C001").says("needs a terminal").says("aosk ps --json");
}

#[test]
fn a_run_that_is_to_outlive_its_terminal_does() {
    let (world, endpoint, _) = scene();
    let mut command = world.through(&["nohup"], &["run", AGENT, QUESTION]);
    let running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    endpoint.wait_for_call();
    endpoint.wait_for_call();
    running.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(500));
    // Were the first heard, this would be the second, which stops at once.
    running.signal(Signal::INT);
    let (ran, _) = running.end(Duration::from_secs(20));
    assert_eq!(ran.code, Some(130), "{ran:?}");
    ran.says("Stopping between two steps");
    assert!(!ran.err.contains("Stopped at once"), "{ran:?}");
}
