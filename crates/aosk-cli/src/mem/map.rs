//! The window drawn as cells of equal size.
//!
//! A cell shows what takes most of it. Its size is a round number of tokens, so that the numbers at
//! the left are round, too, and the largest window there is takes at most eight lines.

use aosk_abi::PageKind;

use super::page::name;
use crate::figures::count;
use crate::print::{Ink, Stream};
use crate::text::{right, wrap};

/// The most lines of cells.
const LINES: u64 = 8;

/// The columns before the cells: where the line begins, in tokens.
const LABEL: usize = 5;

/// What a part of the window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Pages of that kind.
    Pages(PageKind),
    /// The tail, the stubs of what left, and what a message costs besides its text.
    Overhead,
    /// Nothing yet.
    Free,
    /// The reply.
    Reply,
}

impl Part {
    /// In the order of the legend.
    const ALL: [Self; 10] = [
        Self::Pages(PageKind::System),
        Self::Pages(PageKind::Tools),
        Self::Pages(PageKind::Task),
        Self::Pages(PageKind::Message),
        Self::Pages(PageKind::Reply),
        Self::Pages(PageKind::ToolCall),
        Self::Pages(PageKind::ToolResult),
        Self::Overhead,
        Self::Free,
        Self::Reply,
    ];

    /// Its letter; those of the head, which never leaves, are capitals.
    const fn letter(self) -> char {
        match self {
            Self::Pages(PageKind::System) => 'S',
            Self::Pages(PageKind::Tools) => 'T',
            Self::Pages(PageKind::Task) => 'K',
            Self::Pages(PageKind::Message) => 'm',
            Self::Pages(PageKind::Reply) => 'r',
            Self::Pages(PageKind::ToolCall) => 'c',
            Self::Pages(PageKind::ToolResult) => 'o',
            Self::Overhead => '~',
            Self::Free => '.',
            Self::Reply => '=',
        }
    }

    const fn said(self) -> &'static str {
        match self {
            Self::Pages(kind) => name(kind),
            Self::Overhead => "tail, stubs and framing",
            Self::Free => "free",
            Self::Reply => "kept for the reply",
        }
    }

    const fn ink(self) -> Option<Ink> {
        match self {
            Self::Pages(PageKind::System | PageKind::Tools | PageKind::Task) => Some(Ink::Strong),
            Self::Pages(PageKind::Message) => Some(Ink::Good),
            Self::Pages(PageKind::ToolCall | PageKind::ToolResult) => Some(Ink::Warning),
            Self::Pages(PageKind::Reply) => None,
            Self::Overhead | Self::Free | Self::Reply => Some(Ink::Quiet),
        }
    }
}

/// The map of those parts, which stand in the order of the window, and its legend; each line at most
/// `columns` wide, from 8 columns on. Empty where the parts have no tokens.
pub(super) fn draw(parts: &[(Part, u64)], columns: usize, out: &Stream) -> Vec<String> {
    let across = across(columns);
    let whole: u64 = parts.iter().map(|(_, tokens)| tokens).sum();
    if whole == 0 {
        return Vec::new();
    }
    let size = cell(whole, across * LINES);
    let cells = cells(parts, size);
    let mut lines = Vec::new();
    for (line, start) in cells.chunks(usize::try_from(across).unwrap_or(1)).zip(0_u64..) {
        let label = right(&count(start * across * size), LABEL);
        let runs = line.chunk_by(|a, b| a == b).map(|run| {
            let text: String = run.iter().map(|part| part.letter()).collect();
            run.first()
                .and_then(|part| part.ink())
                .map_or(text.clone(), |ink| out.paint(ink, &text))
        });
        lines.push(format!("{}  {}", out.paint(Ink::Quiet, &label), runs.collect::<String>()));
    }
    let mut legend = vec![format!("one cell: {}", count(size))];
    for part in Part::ALL {
        let tokens: u64 =
            parts.iter().filter(|(other, _)| *other == part).map(|(_, tokens)| tokens).sum();
        if tokens > 0 {
            legend.push(format!("{} {} {}", part.letter(), part.said(), count(tokens)));
        }
    }
    // A blank inside an entry is no place to break the line.
    let legend = legend.join(", ").replace(' ', "\u{a0}").replace(",\u{a0}", ", ");
    let legend = wrap(&legend, columns);
    lines.extend(legend.iter().map(|line| out.paint(Ink::Quiet, &line.replace('\u{a0}', " "))));
    lines
}

/// How many cells stand in a line: tens, where there is room for ten.
fn across(columns: usize) -> u64 {
    let room = columns.saturating_sub(LABEL + 2).max(1);
    let room = if room >= 10 { room - room % 10 } else { room };
    u64::try_from(room).unwrap_or(u64::MAX)
}

/// The smallest of 1, 2, 5, 10, 20, … of which `most` cover `whole`.
fn cell(whole: u64, most: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for step in [1, 2, 5] {
            let size = unit.saturating_mul(step);
            if size.saturating_mul(most) >= whole {
                return size;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// What takes most of each cell; of two that take the same, the first.
fn cells(parts: &[(Part, u64)], size: u64) -> Vec<Part> {
    let mut cells = Vec::new();
    // The parts in the cell that is being filled, each with what it takes.
    let (mut inside, mut filled): (Vec<(Part, u64)>, u64) = (Vec::new(), 0);
    let mut close = |inside: &mut Vec<(Part, u64)>| {
        let most = inside.iter().map(|(_, tokens)| *tokens).max();
        cells
            .extend(inside.iter().find(|(_, tokens)| Some(*tokens) == most).map(|(part, _)| *part));
        inside.clear();
    };
    for &(part, tokens) in parts {
        let mut left = tokens;
        while left > 0 {
            let taken = left.min(size - filled);
            match inside.iter_mut().find(|(other, _)| *other == part) {
                Some((_, sum)) => *sum += taken,
                None => inside.push((part, taken)),
            }
            (left, filled) = (left - taken, filled + taken);
            if filled == size {
                close(&mut inside);
                filled = 0;
            }
        }
    }
    if !inside.is_empty() {
        close(&mut inside);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{Color, Screen};

    const SYSTEM: Part = Part::Pages(PageKind::System);
    const RESULT: Part = Part::Pages(PageKind::ToolResult);

    #[test]
    fn a_cell_shows_what_takes_most_of_it() {
        let parts = [(SYSTEM, 24), (RESULT, 6), (Part::Overhead, 5), (Part::Free, 7)];
        assert_eq!(cells(&parts, 10), [SYSTEM, SYSTEM, RESULT, Part::Overhead, Part::Free]);
        assert_eq!(cells(&parts, 100), [SYSTEM]);
        assert_eq!(cells(&parts, 1).len(), 42);
        // Two pieces of one kind outweigh a larger one between them.
        let parts = [(SYSTEM, 3), (RESULT, 4), (SYSTEM, 3)];
        assert_eq!(cells(&parts, 10), [SYSTEM]);
        assert_eq!(cells(&[(SYSTEM, 5), (RESULT, 5)], 10), [SYSTEM], "the first of equals");
    }

    #[test]
    fn cells_are_round_and_just_enough() {
        for (whole, most, size) in
            [(1, 560, 1), (560, 560, 1), (561, 560, 2), (1_121, 560, 5), (200_000, 560, 500)]
        {
            assert_eq!(cell(whole, most), size, "{whole}");
        }
        assert_eq!(cell(u64::MAX, 1).checked_mul(1), Some(u64::MAX));
    }

    #[test]
    fn a_map_of_any_window_fits_any_terminal_in_eight_lines() {
        let screen = Screen::new(Color::Never);
        for whole in [1, 559, 561, 8_192, 32_000, 1_000_000, 999_999_999_999] {
            for columns in [8, 16, 17, 40, 80, 81, 200] {
                let parts = [(SYSTEM, whole / 3), (Part::Free, whole - whole / 3)];
                let lines = draw(&parts, columns, &screen.out);
                let map = lines.iter().position(|line| line.starts_with("one cell"));
                let map = map.expect("a legend");
                assert!((1..=8).contains(&map), "{whole} in {columns}: {lines:?}");
                for line in &lines[..map] {
                    assert!(line.chars().count() <= columns, "{columns}: {line:?}");
                }
            }
        }
        assert!(draw(&[(SYSTEM, 0)], 80, &screen.out).is_empty());
    }

    #[test]
    fn the_legend_names_what_is_there_and_nothing_else() {
        let screen = Screen::new(Color::Never);
        let lines = draw(&[(SYSTEM, 30), (RESULT, 90), (Part::Reply, 40)], 40, &screen.out);
        assert_eq!(
            lines,
            [
                "    0  SSSSSSSSSSSSSSSSSSSSSSSSSSSSSS",
                "   30  oooooooooooooooooooooooooooooo",
                "   60  oooooooooooooooooooooooooooooo",
                "   90  oooooooooooooooooooooooooooooo",
                "  120  ==============================",
                "  150  ==========",
                "one cell: 1, S system 30,",
                "  o tool result 90,",
                "  = kept for the reply 40",
            ]
        );
    }
}
