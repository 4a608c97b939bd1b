//! What of its prompt the model used, as its reply shows.
//!
//! A model that needs something old says so: it copies a line of it, or a name that stands nowhere else.
//! Over recorded runs of a coding agent a page that was needed before is three to nine times as likely
//! to be needed again, so the default policy keeps it. Who counts only what was asked back with `recall`
//! never hears of what was needed and stood there.
//!
//! What counts is a whole line of at least 24 bytes, or a name: a word of 6 to 256 bytes with a digit, an
//! underscore, a slash, an `@` or a capital inside, as identifiers, paths, dates and numbers of orders have
//! them. It counts for the newest page that has it, and not at all where that came with or after the
//! model's turn before: what is new is read anyway. Only messages and results are looked at, not what the model
//! said itself, and nothing that is pinned.
//!
//! A page is read once while it stands in the prompt, and all of them after pages have left. Each name
//! takes a dozen bytes.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use aosk_abi::{PageId, PageKind};
use aosk_context::Page;
use aosk_ports::Part;
use serde_json::Value;

use super::Driver;
use super::messages::part;

/// The shortest line that counts, in bytes.
const LINE: usize = 24;

/// The shortest and the longest name that counts, in bytes.
const NAME: std::ops::RangeInclusive<usize> = 6..=256;

/// The pages of the prompt in which names and lines stand.
#[derive(Default)]
pub(super) struct Mentions {
    /// Which table they stand for: its generation and its number of pages.
    table: (u64, usize),
    /// By the hash of the name: the newest page that has it.
    places: HashMap<u64, PageId>,
    hasher: RandomState,
}

impl Mentions {
    fn add(&mut self, page: PageId, text: &str) {
        for mark in marks(text) {
            self.places.insert(self.hasher.hash_one(mark), page);
        }
    }

    fn of<'a>(&'a self, text: &'a str) -> impl Iterator<Item = PageId> + 'a {
        marks(text).filter_map(|mark| self.places.get(&self.hasher.hash_one(mark)).copied())
    }
}

impl Driver {
    /// The pages that a reply to the prompt as it stands shows to have been needed, in their order.
    pub(super) fn used(&mut self, reply: &[Part]) -> Vec<PageId> {
        let mut mentions = std::mem::take(&mut self.mentions);
        let table = &self.process.image.pages;
        let now = (table.generation(), table.pages().len());
        if mentions.table.0 != now.0 || mentions.table.1 > now.1 {
            mentions.places.clear();
            table.resident().for_each(|page| self.mention(&mut mentions, page));
        } else {
            let new = table.pages().get(mentions.table.1..).unwrap_or_default();
            new.iter().for_each(|page| self.mention(&mut mentions, page));
        }
        mentions.table = now;
        let mut used = BTreeSet::new();
        for said in reply {
            match said {
                Part::Text(text) => used.extend(mentions.of(text)),
                Part::ToolCall { arguments, .. } => {
                    // Inside of JSON a line has other bytes than outside.
                    match serde_json::from_str(arguments) {
                        Ok(value) => each_text(&value, &mut |text| used.extend(mentions.of(text))),
                        Err(_) => used.extend(mentions.of(arguments)),
                    }
                }
                Part::Opaque { .. } | Part::ToolResult { .. } => {}
            }
        }
        used.retain(|page| table.has_answered(*page));
        self.mentions = mentions;
        used.into_iter().collect()
    }

    fn mention(&self, mentions: &mut Mentions, page: &Page) {
        if page.pinned || !matches!(page.kind, PageKind::Message | PageKind::ToolResult) {
            return;
        }
        let Some(shape) = self.process.image.transcript.get(page.source) else { return };
        let text: Arc<str> = self.text(shape);
        mentions.add(page.id, page.range.map_or(&*text, |range| part(&text, range)));
    }
}

/// Each text in a value, but for the names of members.
fn each_text(value: &Value, take: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Array(values) => values.iter().for_each(|value| each_text(value, take)),
        Value::Object(members) => members.values().for_each(|value| each_text(value, take)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The lines and the names of a text by which it is known again.
fn marks(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim).filter(|line| line.len() >= LINE);
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@');
    let names = text
        .split(move |c| !inside(c))
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_'))
        .filter(|word| NAME.contains(&word.len()) && is_name(word));
    lines.chain(names)
}

/// Whether it looks like a name and not like a word.
fn is_name(word: &str) -> bool {
    let mut small = false;
    word.chars().any(|c| {
        let named = c.is_numeric() || matches!(c, '_' | '/' | '@') || (small && c.is_uppercase());
        small = c.is_lowercase();
        named
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_whole_lines_are_marks_and_words_are_none() {
        let found = |text: &'static str| marks(text).collect::<Vec<_>>();
        assert!(found("Please read the instructions, and (carefully) so.").len() == 1, "the line");
        assert_eq!(found("a word of some"), [""; 0]);
        for (text, name) in [
            ("see `src/main.rs`.", "src/main.rs"),
            ("user mia_li_3668?", "mia_li_3668"),
            ("a readFile call", "readFile"),
            ("booking K1NW8N,", "K1NW8N"),
            ("on 2026-11-23:", "2026-11-23"),
            ("x@example.org", "x@example.org"),
        ] {
            assert_eq!(found(text), [name]);
        }
        assert_eq!(found("AB1 ab12 12345"), [""; 0], "of five bytes");
        assert_eq!(found("ab1234"), ["ab1234"]);
        let long = "a1".repeat(128);
        assert_eq!(marks(&long).collect::<Vec<_>>(), [long.as_str(); 2], "a line and a name");
        let longer = "a1".repeat(129);
        assert_eq!(marks(&longer).count(), 1, "a line alone");
        assert_eq!(
            found("  12345678901234567890 abcd  "),
            ["12345678901234567890 abcd", "12345678901234567890"]
        );
        assert_eq!(found("abcd efgh ijkl mnop qrs"), [""; 0], "23 bytes");
        assert_eq!(found("abcd efgh ijkl mnop qrst"), ["abcd efgh ijkl mnop qrst"]);
    }
}
