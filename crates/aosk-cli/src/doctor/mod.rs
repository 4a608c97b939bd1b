//! `aosk doctor`: what is set up, what is missing, and how to get it.
//!
//! It looks with the eyes of `aosk run`: the same settings, table of models, keys and store are
//! read by the same code, so that what it calls ready is. It changes and makes nothing, asks only
//! endpoints for which an address or key is set, and never shows the value of a key.

mod configuration;
mod folder;
mod machine;
mod server;

use aosk_store::Owner;
use serde::{Serialize, Serializer};

use crate::args::{Doctor, Global};
use crate::endpoints::endpoints_ready;
use crate::error::Error;
use crate::exit::Exit;
use crate::print::{Ink, Screen, Stream, clean};
use crate::text::{left, width, wrap};
use crate::version;

/// How much of an error's advice is shown: what comes third is a list to choose from.
const NEXT: usize = 2;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// As it should be.
    Ok,
    /// `aosk run` works, but something deserves a look.
    Warn,
    /// `aosk run` needs it and does not have it.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    name: &'static str,
    status: Status,
    said: String,
    /// What to do next.
    next: Vec<String>,
    /// How `aosk run` would end for it.
    #[serde(skip)]
    exit: Exit,
}

impl Check {
    /// Something that is as it should be.
    pub(crate) fn ok(name: &'static str, said: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, said: said.into(), next: Vec::new(), exit: Exit::Done }
    }

    /// Something that deserves a look.
    pub(crate) fn warn(
        name: &'static str,
        said: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        let (said, next) = (said.into(), vec![next.into()]);
        Self { name, status: Status::Warn, said, next, exit: Exit::Done }
    }

    /// What would keep `aosk run` from its work, in the words that it would use.
    pub(crate) fn missing(name: &'static str, error: &Error) -> Self {
        let mut next: Vec<String> = error.helps().iter().take(NEXT).cloned().collect();
        if next.is_empty() {
            next.push(format!("docs/errors/{}.md says more", error.code));
        }
        Self { name, status: Status::Missing, said: error.said(), next, exit: error.exit() }
    }

    /// Whether it is as it should be.
    pub(crate) fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }

    /// The same, where `aosk run` could still work.
    pub(crate) fn or_warn(mut self, can_run: bool) -> Self {
        if can_run && self.status == Status::Missing {
            self.status = Status::Warn;
            self.exit = Exit::Done;
        }
        self
    }
}

/// All checks as one JSON object.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    /// Whether `aosk run` has what it needs.
    ready: bool,
    #[serde(serialize_with = "number")]
    exit: Exit,
    owner: Option<OwnerFacts<'a>>,
    checks: &'a [Check],
}

#[derive(Serialize)]
struct OwnerFacts<'a> {
    os_pid: u32,
    command: &'a str,
    since: u64,
}

fn number<S: Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(exit.number())
}

pub(crate) async fn doctor(
    args: &Doctor,
    global: &Global,
    screen: &mut Screen,
) -> Result<Exit, Error> {
    let mut checks = vec![Check::ok("aosk", version::LINE)];
    let mut owner = None;
    match configuration::settings(global, &mut checks) {
        Some((settings, folders)) => {
            *screen = Screen::new(settings.color);
            owner = folder::look(&settings, &mut checks).await;
            checks.extend(endpoints_ready(&settings, &folders, args.offline).await);
        }
        None => checks.push(Check::warn(
            "further",
            "data folder, keys, models and endpoints were not looked at",
            "mend the settings first",
        )),
    }
    machine::look(screen, &mut checks);
    // What is said may quote what was set, and standard output is not cleaned by itself.
    for text in checks.iter_mut().flat_map(|check| check.next.iter_mut().chain([&mut check.said])) {
        *text = clean(text).into_owned();
    }
    let exit = checks.iter().map(|check| check.exit).max().unwrap_or(Exit::Done);
    if args.json {
        screen.out.line(&json(&checks, owner.as_ref(), exit)?)?;
    } else {
        print(&checks, exit, &screen.out)?;
    }
    Ok(exit)
}

fn json(checks: &[Check], owner: Option<&Owner>, exit: Exit) -> Result<String, Error> {
    let ready = exit == Exit::Done;
    let owner = owner.map(|owner| OwnerFacts {
        os_pid: owner.os_pid,
        command: &owner.command,
        since: owner.since.as_millis(),
    });
    crate::print::json(&Report { version: version::LINE, ready, exit, owner, checks })
}

fn print(checks: &[Check], exit: Exit, out: &Stream) -> Result<(), Error> {
    let widest = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let (word, ink) = match check.status {
            Status::Ok => ("ok", Ink::Good),
            Status::Warn => ("warn", Ink::Warning),
            Status::Missing => ("missing", Ink::Error),
        };
        let word = out.paint(ink, &left(word, "missing".len()));
        let head = format!("{word}  {}  ", left(check.name, widest));
        let indent = " ".repeat(width(&head));
        let room = out.width().saturating_sub(indent.len()).max(20);
        for (index, line) in wrap(&crate::text::one_line(&check.said), room).iter().enumerate() {
            out.line(&format!("{}{line}", if index == 0 { &head } else { &indent }))?;
        }
        for line in check.next.iter().flat_map(|next| wrap(&format!("next: {next}"), room)) {
            out.line(&format!("{indent}{}", out.paint(Ink::Strong, &line)))?;
        }
    }
    let (ink, verdict) = if exit == Exit::Done {
        (Ink::Good, "Ready: `aosk run` has what it needs.".to_owned())
    } else {
        let number = exit.number();
        (Ink::Error, format!("Not ready: `aosk run` would end with exit code {number}."))
    };
    out.line(&format!("\n{}", out.paint(ink, &verdict)))?;
    if exit != Exit::Done {
        out.line("`aosk demo` shows agents at work without any of it.")?;
    }
    Ok(())
}
