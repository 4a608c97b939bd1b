//! Canonical JSON: one value, one sequence of bytes.
//!
//! The rules are those of RFC 8785 (JCS) narrowed to what needs no number formatting: object keys
//! sorted by their UTF-8 bytes, no white space, integers in decimal, strings with the two-letter
//! escapes of JSON and `\u00xx` for the other control characters, everything else as it is.
//! Floats are refused because their decimal form differs between writers, and U+0000 is refused
//! because PostgreSQL's `jsonb` cannot hold it; both kinds of data belong into contents, which are
//! bytes.

use serde::Serialize;

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// A float; scale it to an integer of a stated unit.
    #[error("the float {0} has no canonical form: use an integer of a smaller unit")]
    Float(String),
    /// A string or key with U+0000; carry it as a content.
    #[error("a string holds U+0000, which event bodies cannot carry: name it by content hash")]
    Nul,
    /// The value cannot be represented as JSON at all.
    #[error("not representable as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The canonical JSON bytes of `value`.
///
/// # Errors
/// [`CanonicalError`] where the value holds a float or U+0000 or is not JSON.
pub fn to_canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    sorted(serde_json::to_vec(value)?)
}

/// The canonical JSON bytes of the struct `fields` with one field more, the number `at`.
pub(crate) fn to_canonical_json_at<T: Serialize>(
    at: u64,
    fields: &T,
) -> Result<Vec<u8>, CanonicalError> {
    let mut json = Vec::with_capacity(512);
    // Where it stands does not matter: the keys are sorted afterwards.
    json.extend_from_slice(b"{\"at\":");
    serde_json::to_writer(&mut json, &at)?;
    let brace = json.len();
    serde_json::to_writer(&mut json, fields)?;
    if json[brace..] == *b"{}" {
        json.remove(brace);
    } else {
        json[brace] = b',';
    }
    sorted(json)
}

/// The writer already spells every string and integer in the canonical way and pads nothing: what
/// is left is to sort the keys, which moves bytes within each object and needs no tree.
fn sorted(mut json: Vec<u8>) -> Result<Vec<u8>, CanonicalError> {
    let mut sorter = Sorter { entries: Vec::with_capacity(32), scratch: Vec::new() };
    let end = sorter.value(&mut json, 0)?;
    debug_assert_eq!(end, json.len(), "the writer ends where the value ends");
    Ok(json)
}

/// Where an object's entry stands: the start and the end of its key, quotes included, and the end
/// of its value.
#[derive(Clone, Copy)]
struct Entry {
    key: usize,
    key_end: usize,
    end: usize,
}

impl Entry {
    /// The key as it is written, without its quotes.
    fn key<'a>(&self, json: &'a [u8]) -> &'a [u8] {
        &json[self.key + 1..self.key_end - 1]
    }
}

/// Sorts keys in place. The entries of nested objects share one stack.
struct Sorter {
    entries: Vec<Entry>,
    scratch: Vec<u8>,
}

impl Sorter {
    /// Sorts within the value that starts at `at`; returns where it ends.
    fn value(&mut self, json: &mut [u8], at: usize) -> Result<usize, CanonicalError> {
        match json.get(at) {
            Some(b'{') => self.object(json, at),
            Some(b'[') => {
                let mut next = at + 1;
                while json.get(next) != Some(&b']') {
                    let comma = usize::from(json.get(next) == Some(&b','));
                    next = self.value(json, next + comma)?;
                }
                Ok(next + 1)
            }
            Some(b'"') => Ok(Text::at(json, at)?.end),
            _ => scalar_end(json, at),
        }
    }

    fn object(&mut self, json: &mut [u8], at: usize) -> Result<usize, CanonicalError> {
        let first = self.entries.len();
        let (mut next, mut escaped, mut ordered) = (at + 1, false, true);
        while json.get(next) != Some(&b'}') {
            let key = next + usize::from(json.get(next) == Some(&b','));
            let text = Text::at(json, key)?;
            next = self.value(json, text.end + 1)?;
            let entry = Entry { key, key_end: text.end, end: next };
            escaped |= text.escaped;
            if let Some(before) = self.entries[first..].last() {
                ordered &= before.key(json) < entry.key(json);
            }
            self.entries.push(entry);
        }
        if escaped || !ordered {
            self.sort(&mut json[..next], first, escaped);
        }
        self.entries.truncate(first);
        Ok(next + 1)
    }

    /// Sorts the entries from `first` on, which end where `json` does.
    fn sort(&mut self, json: &mut [u8], first: usize, escaped: bool) {
        let entries = &mut self.entries[first..];
        let Some(start) = entries.first().map(|entry| entry.key) else {
            return;
        };
        if escaped {
            // Escapes sort otherwise than what they stand for.
            entries.sort_by_cached_key(|entry| {
                let quoted = &json[entry.key..entry.key_end];
                serde_json::from_slice::<String>(quoted).map(String::into_bytes).ok()
            });
        } else {
            entries.sort_unstable_by(|a, b| a.key(json).cmp(b.key(json)));
        }
        self.scratch.clear();
        for entry in entries {
            if !self.scratch.is_empty() {
                self.scratch.push(b',');
            }
            self.scratch.extend_from_slice(&json[entry.key..entry.end]);
        }
        json[start..].copy_from_slice(&self.scratch);
    }
}

/// Where a string ends, quotes included, and whether it has escapes.
struct Text {
    end: usize,
    escaped: bool,
}

impl Text {
    /// The string that starts at `at`.
    fn at(json: &[u8], at: usize) -> Result<Self, CanonicalError> {
        let (mut next, mut escaped) = (at + 1, false);
        loop {
            let rest = json.get(next..).unwrap_or_default();
            // The writer closes what it opens.
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                return Ok(Self { end: json.len(), escaped });
            };
            if rest[found] == b'"' {
                return Ok(Self { end: next + found + 1, escaped });
            }
            if rest[found + 1..].starts_with(b"u0000") {
                return Err(CanonicalError::Nul);
            }
            escaped = true;
            next += found + 2;
        }
    }
}

/// Where the number or word that starts at `at` ends.
fn scalar_end(json: &[u8], at: usize) -> Result<usize, CanonicalError> {
    let scalar = json.get(at..).unwrap_or_default();
    let len = scalar.iter().position(|byte| matches!(byte, b',' | b']' | b'}'));
    let scalar = &scalar[..len.unwrap_or(scalar.len())];
    let is_number = scalar.first().is_some_and(|byte| matches!(byte, b'-' | b'0'..=b'9'));
    if is_number && scalar.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Err(CanonicalError::Float(String::from_utf8_lossy(scalar).into_owned()));
    }
    Ok(at + scalar.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_nothing_is_padded() {
        let bytes =
            to_canonical_json(&json!({"b": [1, -2, null], "a": {"z": true, "é": "\u{1}\n\""}}));
        assert_eq!(
            String::from_utf8(bytes.expect("canonical")).expect("UTF-8"),
            "{\"a\":{\"z\":true,\"é\":\"\\u0001\\n\\\"\"},\"b\":[1,-2,null]}"
        );
    }

    #[test]
    fn floats_and_nul_are_refused() {
        assert!(matches!(to_canonical_json(&json!(0.5)), Err(CanonicalError::Float(_))));
        assert!(matches!(to_canonical_json(&json!(["a\0b"])), Err(CanonicalError::Nul)));
        assert!(matches!(to_canonical_json(&json!({"a\0": 1})), Err(CanonicalError::Nul)));
        assert_eq!(to_canonical_json(&u64::MAX).expect("integer"), b"18446744073709551615");
        assert_eq!(to_canonical_json(&i64::MIN).expect("integer"), b"-9223372036854775808");
    }

    #[test]
    fn keys_sort_by_what_their_escapes_stand_for() {
        // U+001F is written as an escape, which begins with a backslash (0x5C), yet it is less
        // than "A" (0x41).
        let bytes = to_canonical_json(&json!({"A": 1, "\u{1f}": 2})).expect("canonical");
        assert_eq!(String::from_utf8(bytes).expect("UTF-8"), r#"{"\u001f":2,"A":1}"#);
    }

    /// Any JSON without floats and U+0000.
    fn value() -> impl Strategy<Value = serde_json::Value> {
        let text = "[^\0]{0,6}";
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|b| json!(b)),
            any::<i64>().prop_map(|n| json!(n)),
            any::<u64>().prop_map(|n| json!(n)),
            text.prop_map(|s| json!(s)),
        ];
        leaf.prop_recursive(3, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(|items| json!(items)),
                prop::collection::hash_map(text, inner, 0..6).prop_map(|map| json!(map)),
            ]
        })
    }

    /// The same rules, said the slow way.
    fn oracle(value: &serde_json::Value) -> String {
        use serde_json::Value;
        match value {
            Value::Array(items) => {
                format!("[{}]", items.iter().map(oracle).collect::<Vec<_>>().join(","))
            }
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
                let entry = |key: &String| format!("{}:{}", json!(key), oracle(&map[key]));
                format!("{{{}}}", keys.into_iter().map(entry).collect::<Vec<_>>().join(","))
            }
            scalar => scalar.to_string(),
        }
    }

    proptest! {
        #[test]
        fn any_value_has_the_bytes_that_the_rules_give_it(value in value()) {
            let bytes = to_canonical_json(&value).expect("no floats, no NUL");
            prop_assert_eq!(String::from_utf8(bytes).expect("UTF-8"), oracle(&value));
        }

        #[test]
        fn canonical_bytes_are_json_of_the_same_value_and_stable(
            map in prop::collection::hash_map("[^\0]{0,8}", any::<i64>(), 0..8)
        ) {
            let bytes = to_canonical_json(&map).expect("no floats, no NUL");
            let back: std::collections::HashMap<String, i64> =
                serde_json::from_slice(&bytes).expect("JSON");
            prop_assert_eq!(&back, &map);
            prop_assert_eq!(to_canonical_json(&back).expect("canonical"), bytes);
        }
    }
}
