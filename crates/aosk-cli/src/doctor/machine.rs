//! The terminal, and what of this machine's system agents use.

use std::path::Path;

use aosk_sandbox::Workspace;

use super::Check;
use crate::print::Screen;

pub(super) fn look(screen: &Screen, checks: &mut Vec<Check>) {
    checks.push(files());
    checks.push(terminal(screen));
    checks.push(locale(&|name| std::env::var(name).ok()));
}

/// Whether file tools can be confined here.
fn files() -> Check {
    match Workspace::open(Path::new("/")) {
        Ok(_) => Check::ok("file tools", "confined to the agent's workspace by the system"),
        Err(error) => Check::warn(
            "file tools",
            format!("refused here: {error}"),
            "agents without a workspace run all the same",
        ),
    }
}

fn terminal(screen: &Screen) -> Check {
    let out = &screen.out;
    let what = if out.is_terminal() { "a terminal" } else { "no terminal" };
    let color = if out.is_colored() { "colour" } else { "no colour" };
    Check::ok("output", format!("{what}, {} columns, {color}", out.width()))
}

/// Whether the locale says UTF-8, in the order in which systems read these variables.
fn locale(env: &dyn Fn(&str) -> Option<String>) -> Check {
    let set = |name: &&str| env(name).filter(|value| !value.is_empty());
    let Some((name, value)) =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| Some((name, set(name)?)))
    else {
        return Check::warn("locale", "none is set", "`export LANG=C.UTF-8`");
    };
    let said = format!("{name}={value}");
    let plain = value.to_ascii_lowercase().replace('-', "");
    if plain.contains("utf8") {
        Check::ok("locale", said)
    } else {
        Check::warn("locale", format!("{said} is not UTF-8"), "`export LANG=C.UTF-8`")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn the_locale_is_that_of_the_first_variable_that_is_set() {
        let status = |env: &[(&str, &str)]| {
            locale(&|name| {
                env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
            .status
        };
        assert_eq!(status(&[("LANG", "en_US.UTF-8")]), Status::Ok);
        assert_eq!(status(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]), Status::Ok);
        assert_eq!(status(&[("LC_ALL", "POSIX"), ("LANG", "en_US.UTF-8")]), Status::Warn);
        assert_eq!(status(&[]), Status::Warn);
    }
}
