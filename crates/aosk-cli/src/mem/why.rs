//! Why pages left with the newest plan, as the plan says.

use std::collections::{BTreeMap, HashMap};

use aosk_abi::{Cause, PageId, Planned, Reasons, Score, Seq};
use aosk_kernel::Image;
use serde::Serialize;

use crate::figures::count;
use crate::print::{Ink, Stream};
use crate::text;

/// How many decisions are shown of a long list.
const MOST: usize = 24;

/// Why a page left, as an object of JSON.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reason {
    cause: Cause,
    /// The page that was decided on; the others of its unit left with it.
    page: u32,
    /// What its score was made of; the names are the policy's.
    terms: BTreeMap<String, u64>,
}

/// The decisions of a plan.
#[derive(Debug, Default)]
pub(super) struct Why<'a> {
    names: &'a [String],
    shared: &'a [u64],
    of_pages: HashMap<PageId, &'a Score>,
    of_units: HashMap<Seq, &'a Score>,
}

impl<'a> Why<'a> {
    pub(super) fn of(planned: &'a Planned, image: &Image) -> Self {
        let Some(Reasons { scores, shared, terms, .. }) = &planned.reasons else {
            return Self::default();
        };
        let unit = |score: &'a Score| {
            let first = image.pages.page(score.page).filter(|first| !first.is_part())?;
            Some((first.unit, score))
        };
        Self {
            names: terms,
            shared,
            of_pages: scores.iter().map(|score| (score.page, score)).collect(),
            of_units: scores.iter().filter_map(unit).collect(),
        }
    }

    /// Why that page of that unit left, if it did.
    pub(super) fn page(&self, page: PageId, unit: Seq) -> Option<Reason> {
        let score = self.of_pages.get(&page).or_else(|| self.of_units.get(&unit))?;
        let terms = score.terms.iter().chain(self.shared).copied();
        let terms = self.names.iter().cloned().zip(terms);
        Some(Reason { cause: score.cause, page: score.page.0, terms: terms.collect() })
    }
}

/// The decisions as a table; with `all`, every one.
pub(super) fn lines(reasons: &Reasons, all: bool, out: &Stream) -> Vec<String> {
    let shown = if all { reasons.scores.len() } else { reasons.scores.len().min(MOST) };
    let names = reasons.terms.iter().map(|name| text::one_line(name).to_uppercase());
    let mut rows: Vec<Vec<String>> =
        vec![["PAGE", "CAUSE"].map(str::to_owned).into_iter().chain(names).collect()];
    rows.extend(reasons.scores[..shown].iter().map(|score| {
        let what = [score.page.to_string(), score.cause.name().to_owned()];
        let terms = score.terms.iter().chain(&reasons.shared).copied();
        what.into_iter().chain(terms.map(count)).collect()
    }));
    let numbers: Vec<usize> = std::iter::once(0).chain(2..rows[0].len()).collect();
    let mut lines = text::table(&rows, &numbers, &[1], out.width());
    if let Some(head) = lines.first_mut() {
        *head = out.paint(Ink::Strong, head);
    }
    if let more @ 1.. = reasons.scores.len() - shown {
        let said = format!("… {more} more; --all shows every one");
        lines.push(out.paint(Ink::Quiet, &text::cut(&said, out.width())));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{Color, Screen};

    #[test]
    fn a_long_list_of_decisions_is_shortened_with_its_number() {
        let shown = |number, all| {
            let score = |page| Score {
                cause: Cause::Scored,
                page: PageId(page),
                terms: vec![1_234_567, page.into()],
            };
            let reasons = Reasons {
                early: false,
                scores: (0..number).map(score).collect(),
                shared: vec![7],
                terms: ["needs_ppm", "to\u{1b}kens", "fault"].map(str::to_owned).to_vec(),
            };
            lines(&reasons, all, &Screen::new(Color::Never).out)
        };
        assert_eq!(shown(24, false).len(), 25);
        let cut = shown(25, false);
        assert_eq!(cut.len(), 26);
        assert_eq!(cut[25], "… 1 more; --all shows every one");
        assert_eq!(shown(25, true).len(), 26);
        assert!(!cut[0].contains('\u{1b}') && cut[1].contains("1.2M"), "{cut:?}");
    }
}
