//! What a person has chosen to see of it: the order, the line that is marked, a question.

use std::cmp::Reverse;

use aosk_abi::Pid;
use clap::ValueEnum;

use super::snapshot::{Row, Snapshot};
use crate::error::Error;

/// By what processes are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// Who was served least of its share comes first; who wants nothing, last.
    Lag,
    /// Who spent most.
    Cost,
    /// Who used most tokens.
    Tokens,
    /// By name.
    Name,
    /// By state.
    State,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Lag, Self::Cost, Self::Tokens, Self::Name, Self::State];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Cost => "cost",
            Self::Tokens => "tokens",
            Self::Name => "name",
            Self::State => "state",
        }
    }
}

/// A question that a key has brought up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prompt {
    /// Whether it shall be killed.
    Kill(Pid),
    /// Its priority, as far as it is typed.
    Renice(Pid, String),
}

/// The screen's state.
pub(super) struct View {
    pub(super) now: Snapshot,
    pub(super) sort: Sort,
    /// The process of the marked line: it keeps its mark when lines move.
    chosen: Option<Pid>,
    pub(super) prompt: Option<Prompt>,
    /// What came of the last key.
    pub(super) said: Option<String>,
}

impl View {
    pub(super) fn new(now: Snapshot, sort: Sort) -> Self {
        let mut view = Self { now, sort, chosen: None, prompt: None, said: None };
        view.arrange();
        view
    }

    /// Shows a newer snapshot; where none could be taken the old one stays, and why is said.
    pub(super) fn see(&mut self, newer: Result<Snapshot, Error>) {
        match newer {
            Ok(newer) => {
                self.now = newer;
                self.arrange();
            }
            Err(error) => self.now.lacks = Some(error.said()),
        }
    }

    pub(super) fn say(&mut self, what: String) {
        self.said = Some(what);
    }

    pub(super) fn hush(&mut self) {
        self.said = None;
    }

    /// The process of the marked line.
    pub(super) fn chosen(&self) -> Option<Pid> {
        self.mark().map(|mark| self.now.rows[mark].pid)
    }

    /// The marked line.
    pub(super) fn mark(&self) -> Option<usize> {
        self.now.rows.iter().position(|row| Some(row.pid) == self.chosen)
    }

    /// Moves the mark.
    pub(super) fn choose(&mut self, by: isize) {
        let last = self.now.rows.len().saturating_sub(1);
        let mark = self.mark().unwrap_or(0).saturating_add_signed(by).min(last);
        self.chosen = self.now.rows.get(mark).map(|row| row.pid);
    }

    pub(super) fn sort_by_next(&mut self) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort = Sort::ALL[(at + 1) % Sort::ALL.len()];
        self.arrange();
    }

    pub(super) fn row(&self, pid: Pid) -> Option<&Row> {
        self.now.rows.iter().find(|row| row.pid == pid)
    }

    fn arrange(&mut self) {
        let before = self.mark();
        let tokens = |row: &Row| row.usage.input.0.saturating_add(row.usage.output.0);
        let rows = &mut self.now.rows;
        match self.sort {
            Sort::Lag => rows.sort_by_key(|row| (Reverse(row.lag), row.pid)),
            Sort::Cost => rows.sort_by_key(|row| (Reverse(row.spent), row.pid)),
            Sort::Tokens => rows.sort_by_key(|row| (Reverse(tokens(row)), row.pid)),
            Sort::Name => rows.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid))),
            Sort::State => rows.sort_by_key(|row| (row.state, row.pid)),
        }
        // One whose process has ended goes to what stands there now.
        if self.mark().is_none() {
            let place = before.unwrap_or(0).min(self.now.rows.len().saturating_sub(1));
            self.chosen = self.now.rows.get(place).map(|row| row.pid);
        }
    }
}
