//! The context window of one process, for people and for programs.

use aosk_abi::{Planned, Reasons, Seq, Stub, Usage, What};
use aosk_kernel::Image;
use serde::Serialize;

use super::list;
use super::map::{self, Part};
use super::page::{Row, rows};
use super::prompts::{Prompts, Sums};
use super::why;
use crate::error::Error;
use crate::figures::{cached, count, moment};
use crate::journal::Entry;
use crate::print::{Ink, Stream};
use crate::text::{self, one_line};

/// A window as one JSON object. All sizes are in tokens as the plans counted them.
#[derive(Debug, Serialize)]
pub(super) struct Window<'a> {
    pid: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'a str>,
    model: &'a str,
    state: &'static str,
    /// The newest event that is folded in, and when it was.
    event: u64,
    at: u64,
    /// Turns of the model so far, by which pages age.
    turns: u32,
    /// How many times pages have left the prompt.
    generation: u64,
    /// Absent before the first plan.
    room: Option<Room<'a>>,
    newest_plan: Option<Newest>,
    resident: Size,
    swapped: Size,
    /// What the prompt says of the pages that have left.
    stubs: &'a [Stub],
    /// How many pages have ever left; one that left, came again and left counts twice.
    evictions: usize,
    /// How many pages brought a content that had left.
    came_again: usize,
    /// Contents that the next plan will admit.
    waiting: usize,
    prompts: Sums,
    /// What the endpoint reported.
    usage: Usage,
    /// The share of the input that the endpoint read from its cache, as it reported, in percent.
    reported_hit: Option<f64>,
    /// The share that it was to have kept, by the rules of its cache, in percent.
    predicted_hit: Option<f64>,
    /// The share that stood at the beginning of the prompt before, in percent.
    repeated: Option<f64>,
    spent_microdollars: u64,
    pages: Vec<Row>,
    /// What the newest plan says of those that left; in JSON it stands at the pages.
    #[serde(skip)]
    reasons: Option<&'a Reasons>,
}

/// Pages together.
#[derive(Debug, Default, Serialize)]
struct Size {
    pages: usize,
    tokens: u64,
}

/// What the window has room for and what stands in it.
#[derive(Debug, Serialize)]
struct Room<'a> {
    window: u64,
    /// Kept for the reply.
    reply: u64,
    /// What is left for the prompt.
    prompt: u64,
    head: u64,
    log: u64,
    /// The tail, the stubs, and what a message costs besides its text.
    overhead: u64,
    free: u64,
    /// How much of the prompt's room is used, in percent.
    utilisation: Option<f64>,
    policy: &'a str,
    tokenizer: &'a str,
    render: &'a str,
}

/// The newest plan.
#[derive(Debug, Serialize)]
struct Newest {
    event: u64,
    step: u64,
    admitted: usize,
    evicted: usize,
    /// Whether pages left while all had room.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    early: bool,
}

impl Size {
    fn of<'r>(rows: impl Iterator<Item = &'r Row>) -> Self {
        rows.fold(Self::default(), |size, row| Self {
            pages: size.pages + 1,
            tokens: size.tokens + row.tokens,
        })
    }
}

impl<'a> Window<'a> {
    /// The window of a process that these events made.
    pub(super) fn of(image: &'a Image, entries: &'a [Entry], state: &'static str) -> Self {
        let mut prompts = Prompts::default();
        let mut newest: Option<(Seq, &Planned)> = None;
        for entry in entries {
            prompts.hear(&entry.event);
            if let What::Planned(planned) = &entry.event.what {
                newest = Some((entry.record.seq, planned));
            }
        }
        let pages = rows(image, newest.map(|(_, planned)| planned));
        let sums = *prompts.sums();
        let usage = image.account.usage;
        Self {
            pid: image.pid.to_string(),
            name: &image.spawned.name,
            alias: image.spawned.alias.as_deref(),
            model: &image.model,
            state,
            event: entries.last().map_or(0, |last| last.record.seq.0),
            at: image.updated.as_millis(),
            turns: image.pages.turns(),
            generation: image.pages.generation(),
            room: newest.and_then(|(_, planned)| Room::of(image, planned)),
            newest_plan: newest.map(|(seq, planned)| Newest {
                event: seq.0,
                step: planned.step.0,
                admitted: planned.admitted.len(),
                evicted: planned.evicted.len(),
                early: planned.reasons.as_ref().is_some_and(|reasons| reasons.early),
            }),
            resident: Size::of(pages.iter().filter(|row| row.is_resident())),
            swapped: Size::of(pages.iter().filter(|row| row.is_swapped())),
            stubs: &image.stubs,
            evictions: pages.iter().filter(|row| !row.is_resident()).count(),
            came_again: prompts.again(),
            waiting: image.arrivals.len(),
            reported_hit: percent(usage.cached.0, usage.input.0),
            predicted_hit: percent(sums.predicted, sums.sent),
            repeated: percent(sums.repeated, sums.sent),
            prompts: sums,
            usage,
            spent_microdollars: image.account.spent().0,
            pages,
            reasons: newest.and_then(|(_, planned)| planned.reasons.as_ref()),
        }
    }

    /// Shows it to people; with `all`, every page.
    pub(super) fn print(&self, all: bool, out: &Stream) -> Result<(), Error> {
        let rows = self.rows();
        let indent = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in rows {
            let lines = text::wrap(&value, out.width().saturating_sub(indent + 2).max(20));
            for (index, line) in lines.iter().enumerate() {
                let name = if index == 0 { name } else { "" };
                let name = out.paint(Ink::Quiet, &text::left(name, indent));
                out.line(&format!("{name}  {}", line.trim_start()))?;
            }
        }
        let heading = |name: &str| format!("\n{}", out.paint(Ink::Strong, name));
        if let Some(room) = &self.room {
            out.line(&heading("Window"))?;
            for line in map::draw(&self.parts(room), out.width(), out) {
                out.line(&line)?;
            }
        }
        if !self.pages.is_empty() {
            out.line(&heading("Pages"))?;
            for line in list::lines(&self.pages, all, out) {
                out.line(&line)?;
            }
        }
        if let Some(reasons) = self.reasons {
            out.line(&heading("Why pages left with the newest plan"))?;
            for line in why::lines(reasons, all, out) {
                out.line(&line)?;
            }
        }
        Ok(())
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let at = moment(aosk_abi::Timestamp::from_millis(self.at));
        let mut rows = vec![
            ("pid", self.pid.clone()),
            ("name", one_line(self.name)),
            ("model", one_line(self.model)),
            ("state", self.state.to_owned()),
            ("as of", format!("event {}, {at}, turn {} of the model", self.event, self.turns)),
        ];
        if let Some(alias) = self.alias {
            rows.insert(1, ("alias", one_line(alias)));
        }
        match (&self.room, &self.newest_plan) {
            (Some(room), Some(newest)) => {
                let utilisation = whole_percent(room.prompt - room.free, room.prompt);
                rows.extend([
                    (
                        "window",
                        format!(
                            "{} tokens: {} kept for the reply, {} for the prompt",
                            count(room.window),
                            count(room.reply),
                            count(room.prompt)
                        ),
                    ),
                    (
                        "prompt",
                        format!(
                            "{} tokens, {utilisation} of its room; {} free; generation {}",
                            count(room.head + room.log + room.overhead),
                            count(room.free),
                            self.generation
                        ),
                    ),
                    (
                        "segments",
                        format!(
                            "head {}, log {}, tail, stubs and framing {}",
                            count(room.head),
                            count(room.log),
                            count(room.overhead)
                        ),
                    ),
                    (
                        "policy",
                        format!(
                            "{}; counted by {}",
                            one_line(room.policy),
                            one_line(room.tokenizer)
                        ),
                    ),
                    (
                        "newest plan",
                        format!(
                            "event {}, step {}: {} came, {} left{}",
                            newest.event,
                            newest.step,
                            several(newest.admitted, "page"),
                            newest.evicted,
                            if newest.early { " before they had to" } else { "" }
                        ),
                    ),
                ]);
            }
            _ => rows.push(("window", "nothing was planned yet".to_owned())),
        }
        rows.extend([
            (
                "resident",
                format!(
                    "{}, {} tokens",
                    several(self.resident.pages, "page"),
                    count(self.resident.tokens)
                ),
            ),
            (
                "swapped",
                format!(
                    "{}, {} tokens, named by {}; {} ever left, {} came again",
                    several(self.swapped.pages, "page"),
                    count(self.swapped.tokens),
                    several(self.stubs.len(), "stub"),
                    self.evictions,
                    self.came_again
                ),
            ),
        ]);
        if self.waiting > 0 {
            rows.push((
                "waiting",
                format!("{} for the next plan", several(self.waiting, "content")),
            ));
        }
        if self.prompts.calls > 0 {
            let Sums { calls, sent, repeated, predicted, uncut } = self.prompts;
            rows.extend([
                (
                    "cache",
                    format!(
                        "{} of the input, as the endpoint reports; {} was to be expected, {} repeats the \
                         prompt before",
                        cached(&self.usage),
                        whole_percent(predicted, sent),
                        whole_percent(repeated, sent)
                    ),
                ),
                (
                    "sent",
                    format!(
                        "{} tokens in {calls} prompts; {} if no page had ever left",
                        count(sent),
                        count(uncut)
                    ),
                ),
            ]);
        }
        rows.push(("cost", aosk_abi::MicroDollars(self.spent_microdollars).to_string()));
        rows
    }

    /// What the window holds, in its order.
    fn parts(&self, room: &Room<'_>) -> Vec<(Part, u64)> {
        let resident = self.pages.iter().filter(|row| row.is_resident());
        resident
            .map(|row| (Part::Pages(row.kind), row.tokens))
            .chain([
                (Part::Overhead, room.overhead),
                (Part::Free, room.free),
                (Part::Reply, room.reply),
            ])
            .collect()
    }
}

impl<'a> Room<'a> {
    fn of(image: &'a Image, newest: &Planned) -> Option<Self> {
        let under = image.conditions.as_ref()?;
        // Between two plans the pages stay as the newest one left them.
        let resident = image.pages.tokens();
        let head = image.pages.resident().filter(|page| page.in_head()).map(|page| page.tokens.0);
        let head: u64 = head.sum();
        let prompt = under.window.saturating_sub(under.max_output);
        let used = newest.prompt_tokens.max(resident);
        Some(Self {
            window: under.window.0,
            reply: under.max_output.0,
            prompt: prompt.0,
            head,
            log: resident.0 - head,
            overhead: used.saturating_sub(resident).0,
            free: prompt.saturating_sub(used).0,
            utilisation: percent(used.0, prompt.0),
            policy: &under.policy,
            tokenizer: &under.tokenizer,
            render: &under.render,
        })
    }
}

fn several(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A share in percent to one decimal; `None` of nothing.
pub(super) fn percent(part: u64, whole: u64) -> Option<f64> {
    let tenths = u128::from(part) * 1_000 / u128::from(whole).max(1);
    (whole > 0).then_some(tenths as f64 / 10.0)
}

/// The same in whole percent, for people.
pub(super) fn whole_percent(part: u64, whole: u64) -> String {
    match (u128::from(part) * 100).checked_div(u128::from(whole)) {
        Some(percent) => format!("{percent}%"),
        None => "-".to_owned(),
    }
}
