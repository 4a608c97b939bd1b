//! A daemon on a file system that fills up or breaks down under it.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aosk_conformance::{Volume, skip};
use serde_json::json;

use crate::endpoint::{Answer, Endpoint, call};
use crate::world::{World, lines, wait_until};

/// A machine whose data folder is on that volume, and an agent that works until it is told to end.
fn busy(volume: &Volume) -> (World, Arc<AtomicBool>, String) {
    let (end, number) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(1));
    let switch = end.clone();
    let endpoint = Endpoint::new(move |_| {
        std::thread::sleep(Duration::from_millis(2));
        if switch.load(Ordering::SeqCst) {
            return Answer::Text("enough".to_owned());
        }
        let number = number.fetch_add(1, Ordering::SeqCst);
        call("calculator", json!({"expression": format!("{number} * {number}")}))
    });
    let world = World::with(&endpoint);
    std::fs::create_dir_all(world.data().parent().expect("a folder")).expect("made");
    symlink(volume.path(), world.data()).expect("a link");
    let agent = world.agent("busy", "tools = [\"calculator\"]\nmax_steps = 1000000");
    let pid = world.spawn(&[&agent, "work"]);
    wait_until("it works", || world.events(&pid).len() > 20);
    (world, end, pid)
}

/// The code for which the daemon does not go on with its agent.
fn broken(world: &World) -> Option<String> {
    let status = world.daemon()?;
    Some(status["broken"][0]["code"].as_str()?.to_owned())
}

fn ends_with_everything_before(world: &World, pid: &str, before: &str) {
    world.wait_for_state(pid, "completed");
    let after = world.run(&["logs", "--json", pid]).out;
    assert!(after.starts_with(before), "what was there before is there now");
    let shown = world.show(pid);
    assert_eq!((&shown["answer"], &shown["chain_verified"]), (&json!("enough"), &json!(true)));
    // Each call of the tool has one outcome, though one that was cut off is made again.
    let mut outcomes = BTreeMap::new();
    for event in lines(&after) {
        let more = match event["kind"].as_str() {
            Some("tool_requested") => 0,
            Some("tool_returned") => 1,
            _ => continue,
        };
        *outcomes.entry(event["body"]["op"].as_u64()).or_insert(0) += more;
    }
    assert!(outcomes.len() > 5 && outcomes.values().all(|count| *count == 1), "{outcomes:?}");
}

fn acknowledged(world: &World, pid: &str) -> String {
    let listed = world.run(&["logs", "--json", pid]);
    assert_eq!(listed.code, Some(0), "a full disk can be read: {listed:?}");
    listed.out
}

#[test]
fn a_daemon_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    let Some(volume) = Volume::new(64) else {
        return skip("a file system in a file cannot be mounted here");
    };
    let (world, end, pid) = busy(&volume);
    volume.fill();
    wait_until("it has noticed", || broken(&world).is_some());
    assert_eq!(broken(&world).as_deref(), Some("AOSK-S004"));
    let before = acknowledged(&world, &pid);
    let listed = world.run(&["ps"]);
    assert!(listed.out.contains("busy"), "{listed:?}");

    volume.free();
    end.store(true, Ordering::SeqCst);
    let told = world.run(&["send", &pid, "there is room again"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    ends_with_everything_before(&world, &pid, &before);
    assert_eq!(world.run(&["daemon", "stop"]).code, Some(0));
}

#[test]
fn a_daemon_whose_disk_breaks_down_says_so_and_loses_nothing() {
    let Some(volume) = Volume::new(64) else {
        return skip("a file system in a file cannot be mounted here");
    };
    let (world, end, pid) = busy(&volume);
    volume.break_down();
    wait_until("it has noticed", || broken(&world).is_some());
    assert_eq!(broken(&world).as_deref(), Some("AOSK-S011"));
    let before = acknowledged(&world, &pid);

    assert_eq!(world.run(&["daemon", "stop"]).code, Some(0), "it stops all the same");
    volume.repair();
    end.store(true, Ordering::SeqCst);
    assert_eq!(world.run(&["daemon", "start"]).code, Some(0));
    ends_with_everything_before(&world, &pid, &before);
    assert_eq!(world.run(&["daemon", "stop"]).code, Some(0));
}
