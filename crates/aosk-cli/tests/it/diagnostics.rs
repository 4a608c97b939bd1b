//! The log beside the store.

use std::os::unix::fs::PermissionsExt;

use crate::endpoint::{Answer, Endpoint, says};
use crate::world::{KEY, World};

fn log(world: &World) -> String {
    std::fs::read_to_string(world.data().join("logs/aosk.log")).expect("a log")
}

#[test]
fn a_run_keeps_a_log_that_only_its_user_may_read_and_readers_keep_none() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    let ran = world.run(&["run", &agent, "hi"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = log(&world);
    for said in ["began: aosk run a.toml", "completed", "ended with exit code 0"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!ran.err.contains("began"), "it is the file's alone: {ran:?}");
    let mode = |name: &str| {
        world.data().join(name).metadata().expect("there").permissions().mode() & 0o777
    };
    assert_eq!((mode("logs"), mode("logs/aosk.log")), (0o700, 0o600));
    for reading in [&["ps"] as &[&str], &["show", "nobody"], &["doctor"]] {
        world.run(reading);
        assert_eq!(log(&world), text, "{reading:?}");
    }
}

#[test]
fn errors_are_in_the_log_and_keys_are_not() {
    let endpoint = Endpoint::new(|asked| {
        let error = format!(r#"{{"error":{{"message":"Bad key: {}"}}}}"#, asked.authorization);
        Answer::Status(401, error)
    });
    let mut world = World::with(&endpoint);
    world.set("OPENAI_API_KEY", KEY);
    let agent = world.agent("a", "");
    world.run(&["run", &agent, "hi"]).failed(5, "AOSK-L002");
    let text = log(&world);
    assert!(text.contains("ERROR") && text.contains("AOSK-L002"), "{text}");
    assert!(text.contains("ended with exit code 5") && !text.contains(KEY), "{text}");
}

#[test]
fn a_log_that_cannot_be_kept_stops_no_run() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    std::fs::create_dir_all(world.data()).expect("folder");
    std::fs::write(world.data().join("logs"), "in the way").expect("file");
    let ran = world.run(&["run", &agent, "hi"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.says("no log is kept in");

    std::fs::remove_file(world.data().join("logs")).expect("there");
    std::fs::create_dir_all(world.data().join("logs/aosk.log")).expect("folder");
    let ran = world.run(&["run", &agent, "hi"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err.matches("the log cannot be written").count(), 1, "said once: {ran:?}");
}

#[test]
fn aosk_log_sets_what_is_logged_in_both_places() {
    let mut world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    world.set("AOSK_LOG", "off");
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    assert!(!world.data().join("logs/aosk.log").exists());
    world.set("AOSK_LOG", "trace");
    let ran = world.run(&["run", &agent, "hi"]);
    assert!(ran.err.contains(" TRACE ") || ran.err.contains(" DEBUG "), "{ran:?}");
    assert!(log(&world).contains(" TRACE ") || log(&world).contains(" DEBUG "));
}
