//! Help and version.

use serde_json::Value;

use crate::world::World;

/// The help of each command, as it was last agreed on. After a wanted change:
/// `aosk help COMMAND > crates/aosk-cli/tests/it/help/COMMAND.txt`.
const HELP: &[(&str, &str)] = &[
    ("", include_str!("help/aosk.txt")),
    ("demo", include_str!("help/demo.txt")),
    ("doctor", include_str!("help/doctor.txt")),
    ("init", include_str!("help/init.txt")),
    ("run", include_str!("help/run.txt")),
    ("spawn", include_str!("help/spawn.txt")),
    ("daemon", include_str!("help/daemon.txt")),
    ("kill", include_str!("help/kill.txt")),
    ("stop", include_str!("help/stop.txt")),
    ("cont", include_str!("help/cont.txt")),
    ("renice", include_str!("help/renice.txt")),
    ("send", include_str!("help/send.txt")),
    ("quota", include_str!("help/quota.txt")),
    ("top", include_str!("help/top.txt")),
    ("devices", include_str!("help/devices.txt")),
    ("ps", include_str!("help/ps.txt")),
    ("logs", include_str!("help/logs.txt")),
    ("show", include_str!("help/show.txt")),
    ("mem", include_str!("help/mem.txt")),
    ("store", include_str!("help/store.txt")),
    ("version", include_str!("help/version.txt")),
    ("completions", include_str!("help/completions.txt")),
    ("man", include_str!("help/man.txt")),
];

#[test]
fn help_is_as_agreed_on_and_fits_into_eighty_columns() {
    let world = World::new();
    for (command, agreed) in HELP {
        let args: Vec<&str> =
            if command.is_empty() { vec!["--help"] } else { vec!["help", command] };
        let ran = world.run(&args);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert_eq!(&ran.out, agreed, "aosk {}", args.join(" "));
        for line in ran.out.lines() {
            assert!(line.chars().count() <= 80, "aosk {}: {line}", args.join(" "));
        }
        assert!(ran.out.contains("Examples:"), "aosk {}", args.join(" "));
    }
}

#[test]
fn the_version_is_one_line_and_its_facts_agree_with_it() {
    let world = World::new();
    let line = world.run(&["--version"]).out;
    let facts: Value = serde_json::from_str(&world.run(&["version", "--json"]).out).expect("JSON");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(facts["version"], version);
    // A build from an archive knows no commit.
    let expected = match facts["commit"].as_str() {
        Some(commit) => format!("aosk {version} ({commit})\n"),
        None => format!("aosk {version}\n"),
    };
    assert_eq!(line, expected);
    for fact in ["target", "profile", "rustc", "sqlite"] {
        assert!(facts[fact].as_str().is_some_and(|text| !text.is_empty()), "{fact}: {facts}");
    }
    for fact in ["store_schema", "event_kinds", "event_version", "checkpoint_version"] {
        assert!(facts[fact].as_u64() > Some(0), "{fact}: {facts}");
    }
    let people = world.run(&["version"]).out;
    assert!(people.starts_with(&format!("aosk {version}\n")), "{people}");
    assert!(people.lines().all(|line| line.chars().count() <= 80), "{people}");
}

#[test]
fn no_command_shows_help_and_is_an_error() {
    let ran = World::new().run(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.starts_with("Run AI agents"), "{ran:?}");
}
