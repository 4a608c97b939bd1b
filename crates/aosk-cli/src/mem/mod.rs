//! `aosk mem`: what stands in the context window of a process, and who uses how much of theirs.
//!
//! The window is folded from the journal, whole and from its first event, as `aosk show` does: what
//! is drawn is what the chain vouches for, at the end or at any event before. The list of `--top` is
//! of many processes, so it starts from their checkpoints, which hold the page tables.

mod list;
mod map;
mod page;
mod prompts;
mod search;
mod top;
mod why;
mod window;

use aosk_abi::{Code, Pid, ProcessState, Seq, Tenant};

use crate::args::{Mem, MemCommand};
use crate::config::{Folders, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::journal::{self, Entry};
use crate::print::{Screen, json};
use crate::processes::{self, Works};
use window::Window;

pub(crate) async fn mem(
    args: &Mem,
    settings: &Settings,
    folders: &Folders,
    screen: &Screen,
) -> Result<Exit, Error> {
    if let Some(MemCommand::Search(args)) = &args.command {
        return search::search(args, settings, folders, screen).await;
    }
    let Some(named) = &args.pid else {
        return top::top(args, settings, screen).await;
    };
    let (reader, pid) = processes::open_one(settings, named).await?;
    let works = Works::ask(settings, &*reader).await?;
    let receipt = reader.process(&Tenant::local(), pid).await?;
    let receipt = receipt.ok_or_else(|| processes::unknown(&pid.to_string()))?;
    let mut entries = journal::read(&*reader, pid, Seq(0)).await?;
    let image = match args.at {
        Some(at) => {
            stop_behind(&mut entries, pid, Seq(at))?;
            journal::fold(pid, &entries)?
        }
        None => journal::fold(pid, &entries)?,
    };
    // What somebody waits for belongs to now; of an event before, only its own state is known.
    let state = match (&image.state, args.at) {
        (_, None) => processes::state_name(&receipt, &works),
        (ProcessState::Exited { exit }, Some(_)) => exit.name(),
        (state, Some(_)) => state.name(),
    };
    let window = Window::of(&image, &entries, state);
    if args.json {
        screen.out.line(&json(&window)?)?;
    } else {
        window.print(args.all, &screen.out)?;
    }
    Ok(Exit::Done)
}

/// Leaves out what happened after the event `at`.
fn stop_behind(entries: &mut Vec<Entry>, pid: Pid, at: Seq) -> Result<(), Error> {
    match entries.last() {
        Some(last) if at > last.record.seq => Err(Error::new(
            Code::CliUsage,
            format!("process {pid} has no event {at}: its newest is {}", last.record.seq),
        )
        .help(format!("`aosk logs {pid}` lists its events"))),
        _ => {
            entries.retain(|entry| entry.record.seq <= at);
            Ok(())
        }
    }
}
