//! A terminal that goes away.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::scene::{AGENT, QUESTION, scene};
use crate::world::{Running, World, kinds};

/// Starts a command as the leader of a session with a terminal of its own, which goes away when
/// what is returned beside it is dropped.
fn start(world: &World, args: &[&str]) -> (Running, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags).expect("a terminal");
    grantpt(&near).and_then(|()| unlockpt(&near)).expect("ours");
    let name = ptsname(&near, Vec::new()).expect("a name");
    let far = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .expect("its other end");
    let again = || far.try_clone().expect("a copy");
    let mut command = world.through(&["setsid", "--ctty"], args);
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
