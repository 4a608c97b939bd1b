//! Who was executed when a kernel died is known, though nobody lived to tell.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::endpoint::{Endpoint, call};
use crate::world::{World, wait_until};

/// Agents that work without a pause, so that a program is mostly in the middle of a step of one.
const AGENTS: usize = 12;

fn busy() -> (World, Vec<String>) {
    let endpoint = Endpoint::new(|asked| {
        let number = asked.results();
        call("calculator", json!({"expression": format!("{number} * {number}")}))
    });
    let world = World::with(&endpoint);
    let more = "tools = [\"calculator\"]\nmax_steps = 100000\ntask = \"work\"";
    let agents = (0..AGENTS).map(|n| world.agent(&format!("agent-{n}"), more)).collect();
    (world, agents)
}

/// Whom the file of slots names.
fn named(world: &World) -> Option<aosk_abi::Pid> {
    let bytes = std::fs::read(world.data().join("aosk.flight")).unwrap_or_default();
    let slots = bytes.chunks_exact(16).map(|slot| slot.try_into().expect("16 bytes"));
    slots.filter(|slot| *slot != [0; 16]).map(aosk_abi::Pid::from_bytes).next()
}

/// Ends the program in the middle of a step; which process that was of. It is stopped again and
/// again until one is found, because nothing happens between that and its end.
fn die_in_a_step(world: &World, program: Pid) -> aosk_abi::Pid {
    let stat = format!("/proc/{}/stat", program.as_raw_nonzero());
    let began = Instant::now();
    loop {
        kill_process(program, Signal::STOP).expect("it runs");
        wait_until("it is stopped", || {
            std::fs::read_to_string(&stat).expect("it is there").contains(") T ")
        });
        if let Some(pid) = named(world) {
            kill_process(program, Signal::KILL).expect("it is there");
            return pid;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "never in the middle of a step");
        kill_process(program, Signal::CONT).expect("it is there");
        std::thread::sleep(Duration::from_millis(7));
    }
}

fn crashes(world: &World, pid: aosk_abi::Pid) -> usize {
    let events = world.events(&pid.to_string());
    events.iter().filter(|event| event["kind"] == "crashed").count()
}

#[test]
fn whoever_was_executed_when_a_run_died_is_told_to_the_next_owner() {
    let (world, agents) = busy();
    let mut args = vec!["run", &agents[0]];
    for other in &agents[1..] {
        args.extend(["--with", other]);
    }
    let running = world.start(&args);
    wait_until("they work", || world.data().join("aosk.flight").exists());
    let program = Pid::from_raw(running.pid().try_into().expect("a pid")).expect("not 0");
    let pid = die_in_a_step(&world, program);
    running.kill_9();
    assert_eq!(crashes(&world, pid), 0);
    world.run(&["daemon", "start"]);
    wait_until("it is written down", || crashes(&world, pid) == 1);
}

#[test]
fn whoever_was_executed_when_a_daemon_died_is_told_to_the_next_owner() {
    let (world, agents) = busy();
    for agent in &agents {
        world.spawn(&[agent]);
    }
    let pid = die_in_a_step(&world, world.daemon_pid());
    wait_until("it is gone", || world.processes()[0]["state"] == "interrupted");
    assert_eq!(crashes(&world, pid), 0);
    let running = world.start(&["run", "--resume"]);
    wait_until("it is written down", || crashes(&world, pid) == 1);
    running.kill_9();
}
