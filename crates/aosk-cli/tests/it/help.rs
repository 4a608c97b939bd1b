//! Help and version.

use crate::world::World;

/// The help of each command, as it was last agreed on. After a wanted change:
/// `aosk help COMMAND > crates/aosk-cli/tests/it/help/COMMAND.txt`.
const HELP: &[(&str, &str)] = &[
    ("", include_str!("help/aosk.txt")),
    ("init", include_str!("help/init.txt")),
    ("run", include_str!("help/run.txt")),
    ("ps", include_str!("help/ps.txt")),
    ("logs", include_str!("help/logs.txt")),
    ("show", include_str!("help/show.txt")),
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
fn the_version_is_the_packages() {
    let ran = World::new().run(&["--version"]);
    assert_eq!(ran.out, format!("aosk {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_command_shows_help_and_is_an_error() {
    let ran = World::new().run(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.starts_with("Run AI agents"), "{ran:?}");
}
