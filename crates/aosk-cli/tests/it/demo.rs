//! The demo: real agents, recorded replies, nothing needed.

use std::time::{Duration, Instant};

use crate::endpoint::says;
use crate::world::{Ran, World, lines};

#[test]
fn the_demo_runs_to_its_end_and_says_that_its_replies_are_recorded() {
    let endpoint = says("never asked");
    let mut world = World::with(&endpoint);
    // No setting plays a part, not even one that would stop every other command.
    world.write("aosk.toml", "modle = 1\n");
    world.configure("config.toml", "modle = 1\n");
    world.configure("models.toml", "modle = 1\n");
    let tmp = world.path("tmp");
    std::fs::create_dir(&tmp).expect("folder");
    world.set("TMPDIR", tmp.to_str().expect("UTF-8"));
    let began = Instant::now();
    let output = world.command(&["demo"]).env_remove("HOME").output().expect("the binary runs");
    let took = began.elapsed();
    let ran = Ran::of(output);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    for said in ["recorded", "smollm2-135m-instruct", "706", "Next", "aosk doctor"] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    assert_eq!(endpoint.asked().len(), 0);
    assert!(!world.data().exists(), "the user's own store is left alone");

    // What it says it made is there, in one new folder that is the user's alone.
    let made: Vec<_> = std::fs::read_dir(&tmp).expect("folder").flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let root = made[0].path();
    let written = std::fs::read_to_string(root.join("demo/files/list.txt"));
    assert_eq!(written.expect("written"), "apple, banana");
    let mode = std::os::unix::fs::PermissionsExt::mode(&root.metadata().expect("it").permissions());
    assert_eq!(mode & 0o777, 0o700);
    std::fs::remove_file(world.path("aosk.toml")).expect("there");
    world.configure("config.toml", "");
    let root = root.to_str().expect("UTF-8");
    let processes = lines(&world.run(&["ps", "--all", "--json", "--data-dir", root]).out);
    assert_eq!(processes.len(), 3);
    for process in processes {
        assert_eq!((&process["state"], &process["steps"]), (&"completed".into(), &2.into()));
        assert_eq!(process["model"], "scripted:local");
        let pid = process["pid"].as_str().expect("a pid");
        let shown = world.run(&["show", pid, "--data-dir", root]);
        assert!(shown.out.contains("chain verified"), "{shown:?}");
    }
}

#[test]
fn a_second_demo_adds_to_the_folder_and_writes_over_nothing() {
    let world = World::new();
    for agents in [3, 6] {
        let ran = world.run(&["demo", "--data-dir", "try"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        // Only what is new is told.
        assert_eq!(ran.out.matches("What is 250 + 38 * 12?").count(), 1, "{ran:?}");
        for line in ran.out.lines().filter(|line| !line.contains("--data-dir")) {
            assert!(line.chars().count() <= 80 || line.contains("try"), "{line}");
        }
        let ps = world.run(&["ps", "--all", "--json", "--data-dir", "try"]);
        assert_eq!(lines(&ps.out).len(), agents);
    }
    let edited = world.path("try/demo/sums.toml");
    std::fs::write(&edited, "name = \"mine\"\n").expect("written");
    world.run(&["demo", "--data-dir", "try"]).failed(2, "AOSK-C003").says("sums.toml");
    assert_eq!(std::fs::read_to_string(&edited).expect("there"), "name = \"mine\"\n");
}
