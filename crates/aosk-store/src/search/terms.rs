//! Texts as terms, the same for every backend.
//!
//! Databases cut texts at blanks and punctuation. That finds nothing in Chinese, where a sentence has
//! no blanks, and not `parse_request` when `request` is asked for. Trigrams find both but nothing of
//! fewer than three characters, as most Chinese words are, and rank English worse. So texts are cut
//! here, and a database only ever sees terms between blanks:
//!
//! - words in lower case; an identifier as a whole and in its parts (`parseHttpRequest`,
//!   `parse_http_request`: `parse`, `http`, `request`);
//! - of scripts without blanks, and of Korean, whose particles cling to words, every character and
//!   every pair of neighbours. A query of two characters or more asks for the pairs alone.

use std::collections::HashSet;

use aosk_ports::Query;

/// The longest term, in bytes. What is longer is an encoded blob; its start is enough to find it by.
const TERM_MAX: usize = 64;

/// Words that are in nearly every English text: they decide nothing, and reading all their places
/// costs more than the rest of a query.
const COMMON: &[&str] = &[
    "a", "about", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "did", "do",
    "does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if", "in", "is",
    "it", "its", "me", "my", "of", "on", "or", "our", "she", "so", "that", "the", "their", "them",
    "they", "this", "to", "was", "we", "were", "what", "when", "where", "which", "who", "why",
    "will", "with", "would", "you", "your",
];

/// What a cut is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Index,
    Query,
}

/// The terms of a text that is put in, in order, each as often as it is there.
pub(crate) fn of_text(text: &str) -> Vec<String> {
    cut(text, Purpose::Index)
}

/// The terms that a query asks for: different ones, the first [`Query::TERMS_MAX`], common words only
/// where there is nothing else.
pub(crate) fn of_query(text: &str) -> Vec<String> {
    let all = cut(text, Purpose::Query);
    let mut seen = HashSet::new();
    let distinct: Vec<String> = all.into_iter().filter(|term| seen.insert(term.clone())).collect();
    let telling = |term: &&String| COMMON.binary_search(&term.as_str()).is_err();
    let chosen: Vec<String> =
        distinct.iter().filter(telling).take(Query::TERMS_MAX).cloned().collect();
    if chosen.is_empty() { distinct.into_iter().take(Query::TERMS_MAX).collect() } else { chosen }
}

fn cut(text: &str, purpose: Purpose) -> Vec<String> {
    let mut terms = Vec::new();
    let (mut word, mut run) = (String::new(), String::new());
    for c in text.chars().map(narrow) {
        if is_unspaced(c) {
            end_word(&mut word, &mut terms);
            run.push(c);
        } else if c.is_alphanumeric() || c == '_' {
            end_run(&mut run, purpose, &mut terms);
            word.push(c);
        } else {
            end_word(&mut word, &mut terms);
            end_run(&mut run, purpose, &mut terms);
        }
    }
    end_word(&mut word, &mut terms);
    end_run(&mut run, purpose, &mut terms);
    terms
}

/// Full-width letters and digits, as East Asian texts mix them in, are the plain ones.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        other => other,
    }
}

/// Whether the script is written without blanks between words, or clings like Korean.
const fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e01}'..='\u{0eff}'      // Thai, Lao
        | '\u{1000}'..='\u{109f}'    // Myanmar
        | '\u{1100}'..='\u{11ff}'    // Hangul letters
        | '\u{1780}'..='\u{17ff}'    // Khmer
        | '\u{3005}'..='\u{3007}'
        | '\u{3040}'..='\u{30fa}'    // Hiragana, Katakana
        | '\u{30fc}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'    // Han
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7ff}'    // Hangul syllables
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{3ffff}')
}

fn end_run(run: &mut String, purpose: Purpose, terms: &mut Vec<String>) {
    let chars: Vec<char> = run.chars().collect();
    run.clear();
    if purpose == Purpose::Index || chars.len() == 1 {
        terms.extend(chars.iter().map(char::to_string));
    }
    terms.extend(chars.windows(2).map(|pair| pair.iter().collect()));
}

fn end_word(word: &mut String, terms: &mut Vec<String>) {
    let whole = std::mem::take(word);
    let whole = whole.trim_matches('_');
    if whole.is_empty() {
        return;
    }
    let parts = parts(whole);
    if parts.len() > 1 {
        terms.extend(parts.iter().map(|part| term(part)));
    }
    terms.push(term(whole));
}

/// The parts of an identifier: at underscores, before an upper-case letter behind a lower-case one,
/// and before the last of several upper-case ones (`HTTPServer`).
fn parts(word: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for piece in word.split('_').filter(|piece| !piece.is_empty()) {
        let chars: Vec<(usize, char)> = piece.char_indices().collect();
        let mut begin = 0;
        for at in 1..chars.len() {
            let next_is_lower = chars.get(at + 1).is_some_and(|(_, c)| c.is_lowercase());
            let (before, (place, here)) = (chars[at - 1].1, chars[at]);
            if here.is_uppercase() && (!before.is_uppercase() || next_is_lower) {
                parts.push(&piece[begin..place]);
                begin = place;
            }
        }
        parts.push(&piece[begin..]);
    }
    parts
}

fn term(word: &str) -> String {
    let mut term = word.to_lowercase();
    term.truncate(term.floor_char_boundary(TERM_MAX));
    term
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_words_are_sorted() {
        assert!(COMMON.is_sorted());
    }

    #[test]
    fn identifiers_are_found_whole_and_by_their_parts() {
        for (text, wanted) in [
            ("parse_http_request", &["parse", "http", "request", "parse_http_request"][..]),
            ("parseHttpRequest", &["parse", "http", "request", "parsehttprequest"]),
            ("HTTPServer", &["http", "server", "httpserver"]),
            ("__init__", &["init"]),
            ("E0382 x86_64", &["e0382", "x86", "64", "x86_64"]),
            ("Vec<String>::new()", &["vec", "string", "new"]),
            ("ABC", &["abc"]),
            ("aB", &["a", "b", "ab"]),
            ("_ __", &[]),
        ] {
            assert_eq!(of_text(text), wanted, "{text}");
        }
    }

    #[test]
    fn scripts_without_blanks_are_cut_into_characters_and_pairs() {
        assert_eq!(of_text("数据库ok"), ["数", "据", "库", "数据", "据库", "ok"]);
        assert_eq!(of_query("数据库"), ["数据", "据库"]);
        assert_eq!(of_query("库"), ["库"]);
        assert_eq!(of_query("ＡＢ１"), ["ab1"]);
        assert_eq!(of_query("에이전트를"), ["에이", "이전", "전트", "트를"]);
    }

    #[test]
    fn a_query_keeps_common_words_only_where_there_is_nothing_else() {
        assert_eq!(of_query("What is the budget of the trip?"), ["budget", "trip"]);
        assert_eq!(of_query("to be or not to be"), ["not"]);
        assert_eq!(of_query("who is it"), ["who", "is", "it"]);
    }

    #[test]
    fn terms_and_queries_at_and_above_their_bounds() {
        for (len, kept) in [(TERM_MAX, TERM_MAX), (TERM_MAX + 1, TERM_MAX)] {
            assert_eq!(of_text(&"x".repeat(len)), ["x".repeat(kept)]);
        }
        for (count, kept) in [
            (Query::TERMS_MAX - 1, Query::TERMS_MAX - 1),
            (Query::TERMS_MAX, Query::TERMS_MAX),
            (Query::TERMS_MAX + 1, Query::TERMS_MAX),
        ] {
            let text: Vec<String> = (0..count).map(|n| format!("w{n}")).collect();
            assert_eq!(of_query(&text.join(" ")).len(), kept);
        }
    }

    proptest! {
        /// Databases get terms between blanks: none may hold what they would cut at.
        #[test]
        fn a_term_is_nothing_but_letters_digits_and_underscores(text in ".*") {
            for term in of_text(&text) {
                prop_assert!(!term.is_empty() && term.len() <= TERM_MAX);
                prop_assert!(term.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || c == '_'), "{term:?}");
                prop_assert!(!term.chars().any(char::is_whitespace), "{term:?}");
            }
        }

        /// Whatever stands in a text is found by asking for it.
        #[test]
        fn every_term_of_a_query_is_one_of_the_same_text(text in "\\PC{0,80}") {
            let indexed = of_text(&text);
            for term in of_query(&text) {
                prop_assert!(indexed.contains(&term), "{term:?}");
            }
        }
    }
}
