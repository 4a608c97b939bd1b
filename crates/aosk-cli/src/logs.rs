//! `aosk logs`: the journal of a process, as lines.

use std::time::Duration;

use aosk_abi::{Pid, Seq, Tenant, What};
use aosk_ports::Journal;

use crate::args::Logs;
use crate::config::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::time_of_day;
use crate::journal::{self, Entry, Texts, named};
use crate::print::{Ink, Screen};
use crate::processes;
use crate::tell::Teller;
use crate::text;

/// How often a followed journal is looked at.
const POLL: Duration = Duration::from_millis(200);

pub(crate) async fn logs(args: &Logs, settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    let (reader, pid) = processes::open_one(settings, &args.pid).await?;
    let mut printer =
        Printer { args, screen, pid, teller: Teller::default(), texts: Texts::default() };
    if let Some(until) = args.until {
        let from = args.since.unwrap_or_default();
        let entries = journal::between(&*reader, pid, from..until).await?;
        printer.print(&*reader, &entries).await?;
        return Ok(Exit::Done);
    }
    let since = args.since.unwrap_or_default();
    let mut next = match args.since {
        Some(since) => reader.since(&Tenant::local(), pid, since).await?,
        None => Seq(0),
    };
    loop {
        let mut entries = journal::read(&*reader, pid, next).await?;
        if let Some(last) = entries.last() {
            next = last.record.seq.next();
        }
        let ended = entries.last().is_some_and(|last| matches!(last.event.what, What::Exited(_)));
        entries.retain(|entry| entry.event.at >= since);
        printer.print(&*reader, &entries).await?;
        if !args.follow || ended || screen.out.is_gone() {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(POLL).await;
    }
}

struct Printer<'a> {
    args: &'a Logs,
    screen: &'a Screen,
    pid: Pid,
    teller: Teller,
    texts: Texts,
}

impl Printer<'_> {
    async fn print(&mut self, journal: &dyn Journal, entries: &[Entry]) -> Result<(), Error> {
        if self.args.contents {
            self.texts.load(journal, self.pid, entries).await?;
        }
        for entry in entries {
            if self.screen.out.is_gone() {
                return Ok(());
            }
            if self.args.json {
                self.screen.out.line(&journal::json(self.pid, entry, &self.texts)?)?;
            } else {
                self.print_for_people(entry)?;
            }
        }
        Ok(())
    }

    fn print_for_people(&mut self, entry: &Entry) -> Result<(), Error> {
        let out = &self.screen.out;
        let (ink, sentence) = self.teller.tell(&entry.event.what);
        let head = format!("{} {:>5}  ", time_of_day(entry.event.at), entry.record.seq);
        let kind = text::left(entry.event.kind().name(), 16);
        let room = out.width().saturating_sub(text::width(&head) + text::width(&kind) + 1);
        // A pipe gets one line an event, whole: it will be searched.
        let lines = if out.is_terminal() { text::wrap(&sentence, room) } else { vec![sentence] };
        let indent = " ".repeat(text::width(&head) + text::width(&kind) + 1);
        for (index, line) in lines.iter().enumerate() {
            let line = ink.map_or_else(|| line.clone(), |ink| out.paint(ink, line));
            if index == 0 {
                let (head, kind) = (out.paint(Ink::Quiet, &head), out.paint(Ink::Strong, &kind));
                out.line(&format!("{head}{kind} {line}"))?;
            } else {
                out.line(&format!("{indent}{line}"))?;
            }
        }
        for (name, content) in named(&entry.event.what) {
            let Some(content) = self.texts.get(&content).filter(|content| !content.is_empty())
            else {
                continue;
            };
            out.line(&out.paint(Ink::Quiet, &format!("    {}:", text::one_line(&name))))?;
            for line in text::plain(content).lines() {
                out.line(&format!("    {line}"))?;
            }
        }
        Ok(())
    }
}
