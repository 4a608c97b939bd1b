//! Completions and manual pages.

use std::process::Command;

use crate::world::World;

const COMMANDS: [&str; 17] = [
    "demo",
    "doctor",
    "init",
    "run",
    "spawn",
    "daemon",
    "kill",
    "stop",
    "cont",
    "renice",
    "send",
    "ps",
    "logs",
    "show",
    "version",
    "completions",
    "man",
];

#[test]
fn each_shell_gets_a_script_that_knows_every_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = world.run(&["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        for command in COMMANDS {
            assert!(ran.out.contains(command), "{shell}: {command}");
        }
    }
    world.write("aosk.bash", world.run(&["completions", "bash"]).out);
    // The shell itself completes with it.
    let asked = "source aosk.bash; COMP_WORDS=(aosk do); COMP_CWORD=1; _aosk aosk do aosk; \
                 echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    let answer = bash.args(["-c", asked]).current_dir(world.path("")).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "doctor", "{answer:?}");
    world.run(&["completions", "tcsh"]).failed(2, "AOSK-C001").says("elvish");
}

#[test]
fn every_command_has_a_manual_page() {
    let world = World::new();
    let page = world.run(&["man"]).out;
    assert!(page.contains(".TH aosk 1") && page.contains("Exit codes"), "{page}");
    let ran = world.run(&["man", "--dir", "pages/man1"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    for command in COMMANDS {
        let page = world.path(&format!("pages/man1/aosk-{command}.1"));
        let text = std::fs::read_to_string(page).expect(command);
        assert!(text.contains("Examples:"), "{command}");
    }
    // Again: a newer version replaces the pages of an older one.
    assert_eq!(world.run(&["man", "--dir", "pages/man1"]).code, Some(0));
    world.run(&["man", "--dir", "pages/man1/aosk.1"]).failed(2, "AOSK-C003").says("aosk.1");
}
