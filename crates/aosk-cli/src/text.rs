//! Text in columns: width, cutting, wrapping, and taking the teeth out of what others wrote.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What stands where text was cut.
const CUT: char = '…';

/// Whether a terminal may act on the character instead of showing it: control characters (escape
/// sequences begin with one) and marks that turn the direction of the text around them.
fn is_active(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with everything replaced that a terminal would act on. What models and tools write goes
/// through here before a person sees it.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(is_active) { text.replace(is_active, "\u{fffd}").into() } else { text.into() }
}

/// `text` as one line: blanks for line ends and tabs, runs of blanks as one.
pub(crate) fn one_line(text: &str) -> String {
    plain(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The columns that `text` takes; escape sequences of our own colours take none.
pub(crate) fn width(text: &str) -> usize {
    let mut columns = 0;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        columns += before.width();
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    columns + rest.width()
}

/// `text` in at most `columns` columns. It must hold no colours.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = used + c.width().unwrap_or(0);
        // One column is kept for the mark.
        if next + 1 > columns {
            break;
        }
        used = next;
        out.push(c);
    }
    if columns > 0 {
        out.push(CUT);
    }
    out
}

/// `word` as a shell reads it back.
pub(crate) fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

/// `text` filled with blanks to `columns` columns, on the right.
pub(crate) fn left(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `text` filled with blanks to `columns` columns, on the left.
pub(crate) fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `line` broken between words into lines of at most `columns` columns; further lines are indented
/// by two. A word that is longer than a line stays whole, and so does a command in backticks: they
/// will be copied.
pub(crate) fn wrap(line: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for part in line.split('\n') {
        let indent = &part[..part.len() - part.trim_start_matches(' ').len()];
        let mut current = indent.to_owned();
        let mut empty = true;
        for word in words(part) {
            if !empty && width(&current) + 1 + width(word) > columns {
                lines.push(std::mem::replace(&mut current, format!("{indent}  ")));
                empty = true;
            }
            if !empty {
                current.push(' ');
            }
            current.push_str(word);
            empty = false;
        }
        lines.push(current.trim_end().to_owned());
    }
    lines
}

/// The words of a line; what stands in backticks is one.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |c| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    })
    .filter(|word| !word.is_empty())
}

/// The fewest columns to which a flexible column shrinks.
const NARROWEST: usize = 6;

/// Rows as aligned columns, two blanks apart. `numbers` says which columns are aligned to the
/// right, `flexible` which of them give way where a line would be longer than `columns`; the last
/// column gets what is left.
pub(crate) fn table(
    rows: &[Vec<String>],
    numbers: &[usize],
    flexible: &[usize],
    columns: usize,
) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..count)
        .map(|index| rows.iter().filter_map(|row| row.get(index)).map(|c| width(c)).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * count.saturating_sub(1);
    while line(&widths) > columns {
        let widest = flexible.iter().copied().max_by_key(|&index| widths.get(index));
        match widest.and_then(|index| widths.get_mut(index)) {
            Some(width) if *width > NARROWEST => *width -= 1,
            _ => break,
        }
    }
    let over = line(&widths).saturating_sub(columns);
    if let Some(last) = widths.last_mut() {
        *last = last.saturating_sub(over).max(1);
    }
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(index, (cell, &columns))| {
                    let cell = cut(cell, columns);
                    if numbers.contains(&index) {
                        right(&cell, columns)
                    } else {
                        left(&cell, columns)
                    }
                })
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_replaced() {
        assert_eq!(plain("a\x1b[2Jb\r\u{202e}c\nd\te"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\nd\te");
        assert!(matches!(plain("ordinary 文"), Cow::Borrowed(_)));
        assert_eq!(one_line(" a\n\n b\tc "), "a b c");
    }

    #[test]
    fn text_below_at_and_above_the_columns() {
        assert_eq!(cut("abcd", 5), "abcd");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("abcd", 0), "");
        // A wide character that would stand half outside is left out.
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
    }

    #[test]
    fn lines_break_between_words_and_keep_what_will_be_copied() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "  cc"]);
        assert_eq!(wrap("aa bb cc", 8), ["aa bb cc"]);
        assert_eq!(wrap("see /a/very/long/path now", 8), ["see", "  /a/very/long/path", "  now"]);
        assert_eq!(wrap("one\n  two", 80), ["one", "  two"]);
        assert_eq!(wrap("say `aosk run` now", 9), ["say", "  `aosk run`", "  now"]);
        assert_eq!(width("\x1b[1;31merror\x1b[0m: x"), 8);
    }

    #[test]
    fn a_shell_reads_a_word_back_as_it_was() {
        assert_eq!(shell_word("/tmp/a-b_c.d+1"), "/tmp/a-b_c.d+1");
        for (word, quoted) in [("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("$x", "'$x'")]
        {
            assert_eq!(shell_word(word), quoted);
        }
    }

    #[test]
    fn tables_align_by_columns_on_the_screen() {
        let rows = [
            vec!["名".into(), "7".into(), "long text".into()],
            vec!["abc".into(), "10".into(), "x".into()],
        ];
        assert_eq!(table(&rows, &[1], &[], 14), ["名    7  long…", "abc  10  x"]);
    }

    #[test]
    fn a_table_gives_way_in_its_flexible_columns_first() {
        let rows = [vec!["a long name".into(), "42".into(), "state".into()]];
        assert_eq!(table(&rows, &[], &[0], 22), ["a long name  42  state"]);
        assert_eq!(table(&rows, &[], &[0], 21), ["a long na…  42  state"]);
        assert_eq!(table(&rows, &[], &[0], 17), ["a lon…  42  state"]);
        assert_eq!(table(&rows, &[], &[0], 16), ["a lon…  42  sta…"]);
    }
}
