//! What the pages say is true: arrows point down, pure cores touch nothing, each invariant is held
//! by a test that is there, and the reference of the journal has every kind of event.
//!
//! The table below is the picture in `ARCHITECTURE.md` as data. It is compared with what the crates' manifests
//! say, so that an arrow that points up fails here before it becomes a habit. Test-only
//! dependencies are free: nothing that ships depends on them.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aosk_abi::Kind;
use toml::{Table, Value};

/// What each crate may depend on in this workspace. The words and the pure cores stand first; a
/// device knows only words and ports; the kernel knows no device.
const ARROWS: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("ports", &["abi"]),
    ("context", &["abi"]),
    ("scheduler", &["abi"]),
    ("store", &["abi", "ports"]),
    ("llm", &["abi", "ports"]),
    ("tools", &["abi", "ports"]),
    ("sandbox", &["abi", "ports"]),
    ("conformance", &["abi", "ports"]),
    ("kernel", &["abi", "ports", "context", "scheduler"]),
    ("sim", &["abi", "ports", "sandbox", "kernel"]),
    ("cli", &["abi", "ports", "store", "llm", "tools", "sandbox", "kernel"]),
];

/// Crates that do no I/O, read no clock and roll no dice.
const PURE: &[&str] = &["abi", "context", "scheduler"];

/// What a pure crate may use from outside: none of these can reach the world.
const PURE_DEPENDENCIES: &[&str] = &["blake3", "serde", "serde_json", "thiserror", "toml", "uuid"];

/// Ways from the standard library and from those crates into the world. The order of a hash map is
/// random, so its iteration rolls dice.
const WORLDLY: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "stdin",
    "stdout",
    "stderr",
    "SystemTime",
    "Instant",
    "RandomState",
    "HashMap",
    "HashSet",
    "println!",
    "now_v7",
    "new_v4",
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of all crates").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The shipped dependencies of each crate, those of single platforms included.
fn shipped() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(crates()).expect("crates") {
        let folder = entry.expect("entry").path();
        let manifest: Table = read(&folder.join("Cargo.toml")).parse().expect("TOML");
        let platforms = manifest.get("target").and_then(Value::as_table);
        let sections = std::iter::once(&manifest)
            .chain(platforms.into_iter().flat_map(Table::values).filter_map(Value::as_table))
            .flat_map(|table| ["dependencies", "build-dependencies"].map(|name| table.get(name)))
            .flatten()
            .filter_map(Value::as_table);
        let names = sections.flat_map(Table::keys).cloned().collect();
        let name = folder.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        all.insert(name.trim_start_matches("aosk-").to_owned(), names);
    }
    all
}

#[test]
fn arrows_point_down() {
    let shipped = shipped();
    let drawn: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let there: BTreeSet<&str> = shipped.keys().map(String::as_str).collect();
    assert_eq!(drawn.iter().copied().collect::<BTreeSet<_>>(), there, "every crate has its arrows");
    for (place, (name, allowed)) in ARROWS.iter().enumerate() {
        let inside = shipped[*name].iter().filter_map(|other| other.strip_prefix("aosk-"));
        for other in inside {
            assert!(allowed.contains(&other), "aosk-{name} must not depend on aosk-{other}");
        }
        // A table that held a circle would allow one.
        assert!(allowed.iter().all(|other| drawn[..place].contains(other)), "{name} points up");
    }
}

#[test]
fn pure_cores_have_no_way_to_the_world() {
    let shipped = shipped();
    for name in PURE {
        let outside = shipped[*name].iter().filter(|other| !other.starts_with("aosk-"));
        for other in outside {
            assert!(PURE_DEPENDENCIES.contains(&other.as_str()), "aosk-{name} uses {other}");
        }
        let mut folders = vec![crates().join(format!("aosk-{name}/src"))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("source") {
                let path = entry.expect("entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = read(&path);
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                for (line, number) in code.lines().zip(1..) {
                    let worldly = WORLDLY.iter().find(|way| line.contains(*way));
                    let comment = line.trim_start().starts_with("//");
                    assert!(
                        worldly.is_none() || comment,
                        "{}:{number} reaches the world: {line}",
                        path.display()
                    );
                }
            }
        }
    }
}

/// The tests and lints that the page cites, each with the file that it cites for them: a run of
/// names in backticks is followed by its file.
fn cited(page: &str) -> Vec<(String, String)> {
    let (mut cited, mut names) = (Vec::new(), Vec::new());
    for code in page.split('`').skip(1).step_by(2) {
        if code.ends_with(".rs") || code == "Cargo.toml" {
            cited.extend(names.drain(..).map(|name| (name, code.to_owned())));
        } else if code.contains('_') {
            names.push(code.to_owned());
        }
    }
    assert_eq!(names, Vec::<String>::new(), "cited without a file");
    cited
}

#[test]
fn the_architecture_names_tests_that_exist() {
    let root = crates().join("..");
    let page = read(&root.join("ARCHITECTURE.md"));
    let invariants = page.split("## Invariants").nth(1).expect("the page's heading");
    let cited = cited(invariants);
    assert!(cited.len() > 30, "found only {}", cited.len());
    for (name, file) in cited {
        let (path, sought) = if file == "Cargo.toml" {
            (root.join(&file), format!("{name} = "))
        } else {
            (crates().join(format!("aosk-{file}")), format!("fn {name}("))
        };
        assert!(read(&path).contains(&sought), "{file} has no {name}");
    }
}

#[test]
fn the_reference_of_the_journal_has_every_kind() {
    let page = read(&crates().join("../docs/journal.md"));
    for kind in Kind::ALL {
        assert!(page.contains(&format!("| {} | `{kind}` |", kind.code())), "{kind} is missing");
        assert!(page.contains(&format!("**`{kind}`**")), "{kind} has no fields");
        assert_eq!(kind.version(), 1, "say in the page which version {kind} has");
    }
}
