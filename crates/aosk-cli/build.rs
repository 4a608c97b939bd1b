//! Facts of the build that the compiler does not hand to the program: `aosk version` shows them.
//!
//! All of them follow from the sources and the compiler, none from the clock or the machine, so
//! two builds of one commit are the same. The commit is taken from the checkout that this package
//! stands in and from no other: an unpacked archive has none, even inside of somebody's checkout,
//! and needs no git.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let commit = commit(&package.join("../.."));
    let version = match commit.as_deref() {
        Some(commit) => format!("{} ({commit})", variable("CARGO_PKG_VERSION")),
        None => variable("CARGO_PKG_VERSION"),
    };
    println!("cargo:rustc-env=BUILD_VERSION={version}");
    println!("cargo:rustc-env=BUILD_COMMIT={}", commit.unwrap_or_default());
    println!("cargo:rustc-env=BUILD_TARGET={}", variable("TARGET"));
    println!("cargo:rustc-env=BUILD_PROFILE={}", variable("PROFILE"));
    let rustc = said(Command::new(variable("RUSTC")).arg("--version"));
    println!("cargo:rustc-env=BUILD_RUSTC={}", rustc.unwrap_or_default());
}

/// The commit that is checked out at the root of the workspace, in ten digits.
fn commit(root: &Path) -> Option<String> {
    if !root.join(".git").exists() {
        return None;
    }
    let ask = |args: &[&str]| said(Command::new("git").arg("-C").arg(root).args(args));
    // Every commit adds a line to the one, every checkout changes the other. A file that is not
    // there would count as changed at every build.
    for moves in ["HEAD", "logs/HEAD"] {
        let path = ask(&["rev-parse", "--git-path", moves]).map(|path| root.join(path));
        if let Some(path) = path.filter(|path| path.exists()) {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    ask(&["rev-parse", "--short=10", "HEAD"])
}

/// The one line that a command says, if it ends well.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
