//! The pages of a process as a table.
//!
//! Adjacent pages that have left share a line, as they share a stub in the prompt, but for those
//! that the newest plan let go of. Of many lines the first and the last are shown: the head, which
//! never changes, and what came last.

use super::page::{Change, Place, Row};
use crate::figures::count;
use crate::print::{Ink, Stream};
use crate::text;

/// How many lines are shown at the beginning and at the end of a long list.
const FIRST: usize = 8;
const LAST: usize = 24;

/// The pages of one line, which stand side by side.
struct Group<'a>(&'a [Row]);

/// The table; with `all`, every line of it. Each line is at most as wide as `out`, from 60 columns
/// on.
pub(super) fn lines(rows: &[Row], all: bool, out: &Stream) -> Vec<String> {
    let groups: Vec<Group<'_>> =
        rows.chunk_by(|a, b| is_folded(a) && is_folded(b)).map(Group).collect();
    let left_out = match groups.len().checked_sub(FIRST + LAST) {
        Some(more @ 1..) if !all => FIRST..FIRST + more,
        _ => 0..0,
    };
    let mut cells: Vec<Vec<String>> = vec![
        ["", "PAGE", "KIND", "TOKENS", "PLACE", "AGE", "USED", "IMPORTANCE", "EVENT"]
            .map(str::to_owned)
            .into(),
    ];
    let mut inks = vec![Some(Ink::Strong)];
    for (_, group) in groups.iter().enumerate().filter(|(index, _)| !left_out.contains(index)) {
        cells.push(group.cells());
        inks.push(group.ink());
    }
    let table = text::table(&cells, &[1, 3, 5, 6, 7, 8], &[2], out.width());
    let paint = |(line, ink): (String, Option<Ink>)| match ink {
        Some(ink) => out.paint(ink, &line),
        None => line,
    };
    let mut lines: Vec<String> = table.into_iter().zip(inks).map(paint).collect();
    if !left_out.is_empty() {
        let place = 1 + left_out.start;
        let hidden: Vec<&Row> = groups[left_out].iter().flat_map(|group| group.0).collect();
        let tokens = hidden.iter().map(|row| row.tokens).sum();
        let said = format!(
            "… {} more pages, {} tokens; --all shows every one",
            hidden.len(),
            count(tokens)
        );
        lines.insert(place, out.paint(Ink::Quiet, &text::cut(&said, out.width())));
    }
    lines
}

/// Whether the page shares a line with its neighbours.
fn is_folded(row: &Row) -> bool {
    !row.is_resident() && row.change.is_none()
}

impl Group<'_> {
    fn cells(&self) -> Vec<String> {
        let (first, last) = match self.0 {
            [only] => return one(only),
            [first, .., last] => (first, last),
            [] => return Vec::new(),
        };
        let swapped = self.0.iter().filter(|row| row.is_swapped()).count();
        let newer = self.0.len() - swapped;
        let kind = match newer {
            0 => format!("{swapped} pages"),
            _ => format!("{swapped} pages, {newer} under newer numbers"),
        };
        let tokens = self.0.iter().filter(|row| row.is_swapped()).map(|row| row.tokens).sum();
        let dash = || "-".to_owned();
        vec![
            String::new(),
            span(first.page.into(), last.page.into()),
            kind,
            count(tokens),
            "swapped".to_owned(),
            span(last.age.into(), first.age.into()),
            dash(),
            dash(),
            span(first.event, last.event),
        ]
    }

    fn ink(&self) -> Option<Ink> {
        match self.0 {
            [row, ..] if row.change == Some(Change::Admitted) => Some(Ink::Good),
            [row, ..] if row.change == Some(Change::Evicted) => Some(Ink::Warning),
            [row, ..] if !row.is_resident() => Some(Ink::Quiet),
            _ => None,
        }
    }
}

/// The cells of a page that has a line of its own.
fn one(row: &Row) -> Vec<String> {
    let mark = match row.change {
        Some(Change::Admitted) => "+",
        Some(Change::Evicted) => "-",
        None => "",
    };
    let kind = match &row.tool {
        Some(tool) => format!("{} {}", row.kind(), text::one_line(tool)),
        None => row.kind().to_owned(),
    };
    let place = match (row.place, row.now) {
        (Place::Head, _) => "head".to_owned(),
        (Place::Log, _) => "log".to_owned(),
        (Place::Renumbered, Some(now)) => format!("now {now}"),
        (Place::Swapped | Place::Renumbered, _) => "swapped".to_owned(),
    };
    let pinned = if row.pinned { "pinned " } else { "" };
    vec![
        mark.to_owned(),
        row.page.to_string(),
        kind,
        count(row.tokens),
        place,
        row.age.to_string(),
        row.accesses.to_string(),
        format!(
            "{pinned}{}.{:02}",
            row.importance / 1_000_000,
            row.importance % 1_000_000 / 10_000
        ),
        row.event.to_string(),
    ]
}

/// Both numbers, or the one that both are.
fn span(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use aosk_abi::PageKind;

    use super::*;
    use crate::print::{Color, Screen};

    fn row(page: u32, place: Place) -> Row {
        Row {
            page,
            kind: PageKind::Message,
            place,
            now: (place == Place::Renumbered).then_some(99),
            tokens: 10,
            age: 1_000 - page,
            idle: 0,
            accesses: 0,
            importance: 500_000,
            pinned: false,
            unit: 0,
            event: page.into(),
            part: 0,
            range: None,
            tool: None,
            change: None,
            reason: None,
        }
    }

    fn shown(rows: &[Row], all: bool) -> Vec<String> {
        lines(rows, all, &Screen::new(Color::Never).out)
    }

    #[test]
    fn a_long_list_is_shortened_with_counts() {
        let rows = |number| (0..number).map(|page| row(page, Place::Log)).collect::<Vec<_>>();
        let said = |number| {
            let lines = shown(&rows(number), false);
            lines.into_iter().find(|line| line.starts_with('…'))
        };
        assert_eq!((said(31), said(32)), (None, None));
        let expected = "… 1 more pages, 10 tokens; --all shows every one".to_owned();
        assert_eq!(said(33), Some(expected));
        let lines = shown(&rows(1_000), false);
        assert_eq!(lines.len(), 1 + 8 + 1 + 24);
        assert!(lines[9].contains("968 more pages, 9.6k tokens"), "{}", lines[9]);
        assert!(lines[8].contains(" 7 ") && lines[10].contains(" 976 "), "{lines:?}");
        assert_eq!(shown(&rows(1_000), true).len(), 1_001);
    }

    #[test]
    fn what_has_left_shares_a_line_unless_it_just_left() {
        let mut rows = vec![
            row(0, Place::Head),
            row(1, Place::Swapped),
            row(2, Place::Renumbered),
            row(3, Place::Swapped),
            row(4, Place::Swapped),
            row(5, Place::Log),
        ];
        rows[4].change = Some(Change::Evicted);
        let lines = shown(&rows, false);
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[2].contains("1-3") && lines[2].contains("2 pages, 1 under"), "{lines:?}");
        assert!(lines[2].contains(" 20 ") && lines[2].contains("997-999"), "{lines:?}");
        assert!(lines[3].starts_with('-') && lines[3].contains("swapped"), "{lines:?}");
        rows[1].change = Some(Change::Evicted);
        assert!(shown(&rows[2..3], false)[1].contains("now 99"));
    }
}
