//! A newer program puts its daemon in the place of an older one, which works.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::scene::{AGENT, QUESTION, scene};
use crate::world::{Ran, World, kinds};

/// The same program with an older version, which stands in it as text.
fn older(world: &World) -> PathBuf {
    let (own, older) = (env!("CARGO_PKG_VERSION").as_bytes(), b"0.0.9");
    assert_eq!(own.len(), older.len(), "the text can be exchanged");
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_aosk")).expect("the program");
    let found: Vec<usize> = bytes
        .windows(own.len())
        .enumerate()
        .filter_map(|(at, text)| (text == own).then_some(at))
        .collect();
    for at in found {
        bytes[at..at + older.len()].copy_from_slice(older);
    }
    let path = world.path("aosk-0.0.9");
    std::fs::write(&path, bytes).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("ours");
    path
}

#[test]
fn an_older_daemon_in_the_middle_of_a_call_is_replaced_and_its_agents_lose_nothing() {
    let (world, endpoint, go_on) = scene();
    let older = older(&world);
    let ran = world.of_build(&older, &["spawn", AGENT, QUESTION]).output().expect("it runs");
    let ran = Ran::of(ran);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let pid = ran.out.trim_end().to_owned();
    endpoint.wait_for_call();
    endpoint.wait_for_call();
    let before = world.run(&["logs", "--json", &pid]).out;
    let status = world.daemon().expect("it runs");
    assert_eq!(status["version"], "0.0.9");

    go_on.store(true, Ordering::SeqCst);
    let second = world.run(&["spawn", AGENT, QUESTION]);
    assert_eq!(second.code, Some(0), "{second:?}");
    second.says("Replaces the daemon").says("0.0.9").says("Started the daemon");
    let now = world.daemon().expect("it runs");
    assert_eq!(now["version"], env!("CARGO_PKG_VERSION"));
    assert_ne!(now["os_pid"], status["os_pid"]);

    world.wait_for_state(&pid, "completed");
    world.wait_for_state(second.out.trim_end(), "completed");
    assert!(world.run(&["logs", "--json", &pid]).out.starts_with(&before));
    let events = world.events(&pid);
    let new = &events[before.lines().count()..];
    assert_eq!(kinds(new), ["recovered", "llm_requested", "llm_returned", "exited"]);
    let shown = world.show(&pid);
    assert_eq!((&shown["answer"], &shown["chain_verified"]), (&json!("It is 391."), &json!(true)));
}
