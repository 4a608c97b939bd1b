//! A page as it is shown.

use std::collections::HashMap;

use aosk_abi::{PageId, PageKind, Planned};
use aosk_kernel::{Image, Shape};
use serde::Serialize;

use super::why::{Reason, Why};

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// Resident: system, tools or task.
    Head,
    /// Resident, behind the head.
    Log,
    /// It left the prompt; the journal has it.
    Swapped,
    /// It left, and its content has a newer number since.
    Renumbered,
}

/// A page as an object of JSON.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) page: u32,
    pub(super) kind: PageKind,
    pub(super) place: Place,
    /// The newest number of the same content, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) now: Option<u32>,
    pub(super) tokens: u64,
    /// Turns of the model since its content first came.
    pub(super) age: u32,
    /// Turns since it was admitted or last needed.
    pub(super) idle: u32,
    /// How often it was needed since it came.
    pub(super) accesses: u32,
    /// In millionths, from 0 to 1,000,000.
    pub(super) importance: u32,
    pub(super) pinned: bool,
    /// Pages of one unit leave together.
    pub(super) unit: u64,
    /// The event that holds its content, and which part of that.
    pub(super) event: u64,
    pub(super) part: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) range: Option<(u64, u64)>,
    /// Of a tool call or its result: the tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool: Option<String>,
    /// What the newest plan did with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<Change>,
    /// Why it left with the newest plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Reason>,
}

/// What the newest plan did with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// It came.
    Admitted,
    /// It left.
    Evicted,
}

impl Row {
    /// Whether it stands in the prompt.
    pub(super) const fn is_resident(&self) -> bool {
        matches!(self.place, Place::Head | Place::Log)
    }

    /// Whether it left and can be had back under this number.
    pub(super) const fn is_swapped(&self) -> bool {
        matches!(self.place, Place::Swapped)
    }

    /// The kind in one word.
    pub(super) const fn kind(&self) -> &'static str {
        name(self.kind)
    }
}

/// The kind in one word.
pub(super) const fn name(kind: PageKind) -> &'static str {
    match kind {
        PageKind::System => "system",
        PageKind::Tools => "tools",
        PageKind::Task => "task",
        PageKind::Message => "message",
        PageKind::Reply => "reply",
        PageKind::ToolCall => "tool call",
        PageKind::ToolResult => "tool result",
    }
}

/// Every page that the process ever had, in the order of the numbers.
pub(super) fn rows(image: &Image, newest: Option<&Planned>) -> Vec<Row> {
    let table = &image.pages;
    let latest: HashMap<_, PageId> =
        table.pages().iter().map(|page| ((page.source, page.range), page.id)).collect();
    let change = |id: PageId| {
        let newest = newest?;
        if newest.evicted.contains(&id) {
            Some(Change::Evicted)
        } else {
            newest.admitted.iter().any(|page| page.page == id).then_some(Change::Admitted)
        }
    };
    let why = newest.map(|newest| Why::of(newest, image)).unwrap_or_default();
    let rows = table.pages().iter().map(|page| {
        let now = latest.get(&(page.source, page.range)).filter(|now| **now != page.id);
        let tool = match image.transcript.get(page.source) {
            Some(Shape::ToolCall { name, .. } | Shape::ToolResult { name, .. }) => Some(name),
            _ => None,
        };
        let change = change(page.id);
        let left = change == Some(Change::Evicted);
        Row {
            page: page.id.0,
            kind: page.kind,
            place: match (page.resident, now) {
                (true, _) if page.in_head() => Place::Head,
                (true, _) => Place::Log,
                (false, None) => Place::Swapped,
                (false, Some(_)) => Place::Renumbered,
            },
            now: now.map(|now| now.0),
            tokens: page.tokens.0,
            age: table.turns().saturating_sub(page.born),
            idle: table.turns().saturating_sub(page.last_access),
            accesses: page.accesses,
            importance: page.importance.0,
            pinned: page.pinned,
            unit: page.unit.0,
            event: page.source.seq.0,
            part: page.source.part,
            range: page.range,
            tool: tool.cloned(),
            change,
            reason: left.then(|| why.page(page.id, page.unit)).flatten(),
        }
    });
    rows.collect()
}
