//! `aosk mem --top`: who uses how much memory.

use std::cmp::Reverse;
use std::collections::HashSet;

use aosk_abi::{Tenant, Usage};
use aosk_kernel::{Image, load};
use aosk_ports::Receipt;
use serde::Serialize;

use super::window::{percent, whole_percent};
use crate::args::Mem;
use crate::config::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::count;
use crate::print::{Ink, Screen, json};
use crate::processes::{Processes, Works, state_name};
use crate::reader;
use crate::text::{self, one_line};
use crate::wiring::kernel_error;

/// How many processes are shown to people who do not ask for all.
const MOST: usize = 20;

/// A process as a line of JSON. Sizes are in tokens as the plans counted them.
#[derive(Debug, Serialize)]
struct Line {
    pid: String,
    name: String,
    model: String,
    state: &'static str,
    resident_pages: usize,
    resident_tokens: u64,
    /// The window without what is kept for the reply; absent before the first plan.
    room: Option<u64>,
    /// How much of the room the resident pages take, in percent.
    utilisation: Option<f64>,
    swapped_pages: usize,
    swapped_tokens: u64,
    /// How many pages have ever left; one that left, came again and left counts twice.
    evictions: usize,
    /// How many times pages have left.
    generation: u64,
    /// In percent: how much of the prompts, as the plans counted them, was to be read from the
    /// endpoint's cache by its rules.
    predicted_hit: Option<f64>,
    /// In percent: how much of the input was, as the endpoint reported.
    reported_hit: Option<f64>,
    /// What the endpoint reported.
    usage: Usage,
    spent_microdollars: u64,
}

impl Line {
    fn of(receipt: &Receipt, works: &Works, image: &Image) -> Self {
        let table = &image.pages;
        let resident_pages = table.resident().count();
        // A content that came again is where its newest page is.
        let (mut seen, mut swapped) = (HashSet::new(), (0, 0));
        for page in table.pages().iter().rev() {
            if seen.insert((page.source, page.range)) && !page.resident {
                swapped = (swapped.0 + 1, swapped.1 + page.tokens.0);
            }
        }
        let room = image.conditions.as_ref();
        let room = room.map(|under| under.window.saturating_sub(under.max_output).0);
        Self {
            pid: receipt.pid.to_string(),
            name: image.spawned.name.clone(),
            model: image.model.clone(),
            state: state_name(receipt, works),
            resident_pages,
            resident_tokens: table.tokens().0,
            room,
            utilisation: room.and_then(|room| percent(table.tokens().0, room)),
            swapped_pages: swapped.0,
            swapped_tokens: swapped.1,
            evictions: table.pages().len() - resident_pages,
            generation: table.generation(),
            predicted_hit: percent(image.warmth.predicted().0, image.warmth.sent().0),
            reported_hit: percent(image.account.usage.cached.0, image.account.usage.input.0),
            usage: image.account.usage,
            spent_microdollars: image.account.spent().0,
        }
    }

    fn cells(&self, short: String) -> Vec<String> {
        let pages = |tokens, pages| format!("{}/{pages}", count(tokens));
        vec![
            short,
            one_line(&self.name),
            one_line(&self.model),
            pages(self.resident_tokens, self.resident_pages),
            self.room.map_or_else(|| "-".to_owned(), count),
            self.room
                .map_or_else(|| "-".to_owned(), |room| whole_percent(self.resident_tokens, room)),
            pages(self.swapped_tokens, self.swapped_pages),
            self.evictions.to_string(),
            shown(self.predicted_hit),
            shown(self.reported_hit),
        ]
    }
}

/// A share without its decimals, or `-` where it is one of nothing.
fn shown(percent: Option<f64>) -> String {
    percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.0}%"))
}

pub(super) async fn top(args: &Mem, settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    let Some(reader) = reader::open(settings)? else {
        if !args.json {
            screen.err.wrapped(&format!(
                "Nothing was run in {} yet. `aosk init` writes an agent to begin with.",
                settings.store.shown(&settings.data_dir)
            ));
        }
        return Ok(Exit::Done);
    };
    let works = Works::ask(settings, &*reader).await?;
    let processes = Processes::read(&*reader).await?;
    let chosen: Vec<&Receipt> =
        if args.all { processes.all().collect() } else { processes.unfinished().collect() };
    let mut lines = Vec::with_capacity(chosen.len());
    // One that cannot be read keeps nobody from seeing the others.
    let mut exit = Exit::Done;
    for receipt in chosen {
        match load(&*reader, &Tenant::local(), receipt.pid, None).await.map_err(kernel_error) {
            Ok(image) => lines.push((receipt.pid, Line::of(receipt, &works, &image))),
            Err(error) => {
                error.print(&screen.err);
                exit = exit.max(error.exit());
            }
        }
    }
    lines.sort_by_key(|(pid, line)| (Reverse(line.resident_tokens), *pid));
    if args.json {
        for (_, line) in &lines {
            screen.out.line(&json(line)?)?;
        }
        return Ok(exit);
    }
    if lines.is_empty() {
        if exit == Exit::Done {
            let more = if args.all { "" } else { " `aosk mem --top --all` lists ended ones." };
            screen.err.wrapped(&format!("No process is unfinished.{more}"));
        }
        return Ok(exit);
    }
    let shown = if args.all { lines.len() } else { lines.len().min(MOST) };
    let mut rows: Vec<Vec<String>> = vec![
        [
            "PID",
            "NAME",
            "MODEL",
            "RESIDENT",
            "ROOM",
            "USE",
            "SWAPPED",
            "EVICTED",
            "PREDICTED",
            "REPORTED",
        ]
        .map(str::to_owned)
        .into(),
    ];
    let (listed, rest) = lines.split_at(shown);
    rows.extend(listed.iter().map(|(pid, line)| line.cells(processes.short(*pid))));
    let columns = screen.out.width();
    let mut table = text::table(&rows, &[3, 4, 5, 6, 7, 8, 9], &[1, 2], columns).into_iter();
    if let Some(head) = table.next() {
        screen.out.line(&screen.out.paint(Ink::Strong, &head))?;
    }
    for line in table {
        screen.out.line(&line)?;
    }
    if !rest.is_empty() {
        let tokens = rest.iter().map(|(_, line)| line.resident_tokens).sum();
        let said = format!("… {} more with {} tokens; --all shows all", rest.len(), count(tokens));
        screen.out.line(&screen.out.paint(Ink::Quiet, &text::cut(&said, columns)))?;
    }
    Ok(exit)
}
