//! What the agents of a demo did, told from their journals: what was recorded and what was not.

use std::collections::HashSet;

use aosk_abi::{ContentRef, Exit as Ended, Pid, ReplyPart, Seq, What};

use crate::config::Settings;
use crate::error::Error;
use crate::journal::{self, Texts};
use crate::print::{Ink, Screen, Stream};
use crate::processes::Processes;
use crate::reader;
use crate::text::{cut, left, one_line, width};

/// The processes that are in the store now.
pub(super) async fn processes(settings: &Settings) -> Result<HashSet<Pid>, Error> {
    match reader::open(settings)? {
        Some(reader) => {
            Ok(Processes::read(&*reader).await?.all().map(|receipt| receipt.pid).collect())
        }
        None => Ok(HashSet::new()),
    }
}

/// Tells what the processes did that were not there before, and names one of them.
pub(super) async fn tell(
    settings: &Settings,
    before: &HashSet<Pid>,
    screen: &Screen,
) -> Result<Option<String>, Error> {
    let Some(reader) = reader::open(settings)? else {
        return Ok(None);
    };
    let out = &screen.out;
    let processes = Processes::read(&*reader).await?;
    let mut last = None;
    out.line(&format!("\n{}", out.paint(Ink::Strong, "What happened")))?;
    for receipt in processes.all().filter(|receipt| !before.contains(&receipt.pid)) {
        let entries = journal::read(&*reader, receipt.pid, Seq(0)).await?;
        let mut texts = Texts::default();
        texts.load(&*reader, receipt.pid, &entries).await?;
        let text = |content: &ContentRef| {
            texts.get(content).map(|text| one_line(text)).unwrap_or_default()
        };
        for entry in &entries {
            for (what, said) in sentences(&entry.event.what, &text) {
                line(out, what, &said)?;
            }
        }
        let events = format!("{} events, all on the disk", entries.len());
        line(out, "journal", &events)?;
        last = Some(processes.short(receipt.pid));
    }
    Ok(last)
}

/// What is worth telling of an event, each with whence it came.
fn sentences(what: &What, text: &dyn Fn(&ContentRef) -> String) -> Vec<(&'static str, String)> {
    match what {
        What::Spawned(spawned) => {
            vec![("", format!("{}: {}", one_line(&spawned.name), text(&spawned.task)))]
        }
        What::LlmReturned(returned) => returned
            .parts
            .iter()
            .filter_map(|part| match part {
                ReplyPart::ToolCall { name, arguments, .. } => {
                    Some(("recorded", format!("call {} {}", one_line(name), text(arguments))))
                }
                ReplyPart::Text { content } => {
                    Some(("recorded", format!("answer \"{}\"", text(content))))
                }
                ReplyPart::Opaque { .. } => None,
            })
            .collect(),
        What::ToolReturned(returned) => {
            vec![("real", format!("result {}", text(&returned.result)))]
        }
        What::Exited(exited) if !matches!(exited.exit, Ended::Completed { .. }) => {
            vec![("real", exited.exit.name().to_owned())]
        }
        _ => Vec::new(),
    }
}

fn line(out: &Stream, what: &str, said: &str) -> Result<(), Error> {
    if what.is_empty() {
        return out.line(&format!("  {}", cut(said, out.width().saturating_sub(2))));
    }
    let head = format!("    {}  ", left(what, "recorded".len()));
    let said = cut(said, out.width().saturating_sub(width(&head)));
    out.line(&format!("{}{said}", out.paint(Ink::Quiet, &head)))
}
