//! Cutting content into pages, so that a part of a long result can leave and come back.
//!
//! Pages of at most 1,024 tokens met 84.9 % of the needs of recorded coding agents at the price at
//! which whole messages as pages met 80.5 %, and used 91 % of the room instead of 86 %.
//!
//! The first page of a content that is cut is short, an eighth of another: it stays as long as its
//! message does, so that a call is never without a result, and the model still sees how the content
//! began of which the rest has left.

use std::num::NonZeroU64;

use aosk_abi::Tokens;

// The compiler unwraps both; it would refuse a 0.

/// The most tokens of a page of a content that is cut.
pub const PAGE: NonZeroU64 = NonZeroU64::new(1_024).unwrap();

/// The most tokens of its first page.
pub const OPENING: NonZeroU64 = NonZeroU64::new(128).unwrap();

/// The most bytes that are counted at once, so that a line of any length is cut in linear time.
const WINDOW: usize = 1 << 16;

/// The pages that `text` becomes, as bytes: start and length. They follow each other without a gap
/// and are cut behind line ends; a line that is longer than a page is cut between characters. Text
/// without content is one page.
///
/// The first page has at most `opening` tokens, no other more than `limit`, as the sum of what
/// `count` counts for its pieces of lines, unless a single character has. Takes time in proportion
/// to the text.
#[must_use]
pub fn cut(
    text: &str,
    opening: NonZeroU64,
    limit: NonZeroU64,
    count: impl Fn(&str) -> Tokens,
) -> Vec<(u64, u64)> {
    let mut pages = Vec::new();
    let mut rest = text;
    while !rest.is_empty() || pages.is_empty() {
        let limit = if pages.is_empty() { opening } else { limit };
        let start = text.len() - rest.len();
        let length = first_page(rest, limit.get(), &count);
        pages.push((start as u64, length as u64));
        rest = &rest[length..];
    }
    pages
}

/// How many bytes of `text` its first page has.
fn first_page(text: &str, limit: u64, count: &impl Fn(&str) -> Tokens) -> usize {
    let (mut end, mut tokens) = (0, 0_u64);
    while end < text.len() {
        let line = first_line(&text[end..]);
        let (piece, size) = first_piece(line, limit, count);
        tokens = tokens.saturating_add(size);
        if tokens > limit && end > 0 {
            break;
        }
        end += piece;
        if piece < line.len() {
            break;
        }
    }
    end
}

/// The first line of `text` with its end, as far as it is counted at once.
fn first_line(text: &str) -> &str {
    let window = &text[..text.floor_char_boundary(WINDOW)];
    window.find('\n').map_or(window, |end| &window[..=end])
}

/// How many bytes at the start of `line` fit into a page, at least one character, and their size.
fn first_piece(line: &str, limit: u64, count: &impl Fn(&str) -> Tokens) -> (usize, u64) {
    let first = line.chars().next().map_or(0, char::len_utf8);
    let mut length = line.len();
    loop {
        let size = count(&line[..length]).0;
        if size <= limit || length <= first {
            return (length, size);
        }
        length = line.floor_char_boundary(length / 2).max(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_four(text: &str) -> Tokens {
        Tokens(text.len().div_ceil(4) as u64)
    }

    fn limit(tokens: u64) -> NonZeroU64 {
        NonZeroU64::new(tokens).expect("not 0")
    }

    proptest! {
        #[test]
        fn pages_are_the_text_and_none_is_too_large(
            text in "([a-z]{0,9}|[\u{4e00}-\u{4e10}]{0,9}|\n){0,40}",
            opening in 1..9_u64, tokens in 1..9_u64
        ) {
            let pages = cut(&text, limit(opening), limit(tokens), by_four);
            let mut at = 0;
            for &(start, length) in &pages {
                prop_assert_eq!(start, at);
                at += length;
                let page = &text[start as usize..at as usize];
                let most = if start == 0 { opening } else { tokens };
                prop_assert!(by_four(page).0 <= most || page.chars().count() == 1, "{page:?}");
            }
            prop_assert_eq!(at as usize, text.len());
        }
    }

    #[test]
    fn cuts_stand_behind_line_ends_where_lines_fit() {
        let text = "one two\nthree\nfour\n";
        // 2, 2 and 2 tokens of four bytes.
        let cut = |opening, tokens| cut(text, limit(opening), limit(tokens), by_four);
        assert_eq!(cut(4, 4), [(0, 14), (14, 5)]);
        assert_eq!(cut(3, 3), [(0, 8), (8, 6), (14, 5)]);
        assert_eq!(cut(6, 1), [(0, 19)]);
        // What does not fit any more stands whole on the next page, if that has room for it.
        assert_eq!(cut(3, 4), [(0, 8), (8, 11)]);
        assert_eq!(cut(1, 4), [(0, 4), (4, 10), (14, 5)]);
        assert_eq!(super::cut("", limit(1), limit(1), by_four), [(0, 0)]);
    }

    #[test]
    fn fifty_megabytes_in_one_line_are_cut_in_linear_time() {
        let text = "x".repeat(50_000_000);
        let counted = std::cell::Cell::new(0);
        let pages = cut(&text, OPENING, PAGE, |part| {
            counted.set(counted.get() + part.len());
            by_four(part)
        });
        assert!(pages.iter().all(|(_, length)| *length <= 4_096));
        assert_eq!(pages.iter().map(|(_, length)| length).sum::<u64>(), 50_000_000);
        // Each page counts the halvings of one window of 64 KiB.
        assert!(counted.get() <= 50_000_000 * 40, "{}", counted.get());
    }
}
