//! Canonical JSON: one value, one sequence of bytes.
//!
//! The rules are those of RFC 8785 (JCS) narrowed to what needs no number formatting: object keys
//! sorted by their UTF-8 bytes, no white space, integers in decimal, strings with the two-letter
//! escapes of JSON and `\u00xx` for the other control characters, everything else as it is.
//! Floats are refused because their decimal form differs between writers, and U+0000 is refused
//! because PostgreSQL's `jsonb` cannot hold it; both kinds of data belong into contents, which are
//! bytes.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// A float; scale it to an integer of a stated unit.
    #[error("the float {0} has no canonical form: use an integer of a smaller unit")]
    Float(String),
    /// A string or key with U+0000; carry it as a content.
    #[error("a string holds U+0000, which event bodies cannot carry: name it by content hash")]
    Nul,
    /// JSON that somebody else has written, which may be spelt in any way.
    #[error(
        "the JSON {0} was written elsewhere and may be spelt otherwise: read it as a value first"
    )]
    Raw(String),
    /// The value cannot be represented as JSON at all.
    #[error("not representable as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The canonical JSON bytes of `value`.
///
/// # Errors
/// [`CanonicalError`] where the value holds a float or U+0000 or is not JSON.
pub fn to_canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    Canonical::default().bytes(value)
}

/// The canonical JSON bytes of the struct `fields` with one field more, the number `at`.
pub(crate) fn to_canonical_json_at<T: Serialize>(
    at: u64,
    fields: &T,
) -> Result<Vec<u8>, CanonicalError> {
    Canonical { at: Some(at), ..Canonical::default() }.bytes(fields)
}

/// Where an object's entry stands: the start and the end of its key, quotes included, and the end
/// of its value.
#[derive(Clone, Copy)]
struct Entry {
    key: usize,
    key_end: usize,
    end: usize,
    /// Whether the key has escapes, which sort otherwise than what they stand for.
    escaped: bool,
}

impl Entry {
    /// The key as it is written, without its quotes.
    fn key<'a>(&self, json: &'a [u8]) -> &'a [u8] {
        &json[self.key + 1..self.key_end - 1]
    }
}

/// The writer. `serde_json` spells every string and integer in the canonical way already; what is
/// left is to sort the keys, which moves bytes within each object as it ends and needs no tree.
///
/// The bytes go into this and not into the writer behind it: a formatter is not shown what was
/// written, and to look for the keys afterwards takes longer than to write them.
#[derive(Default)]
struct Canonical {
    json: Vec<u8>,
    /// The entries of the objects that are open, each on top of the one around it.
    entries: Vec<Entry>,
    /// Where the entries of each of them begin.
    open: Vec<usize>,
    in_key: bool,
    scratch: Vec<u8>,
    /// A field of the first object that its struct does not have.
    at: Option<u64>,
    refused: Option<CanonicalError>,
}

impl Canonical {
    fn bytes<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Vec<u8>, CanonicalError> {
        self.json.reserve(512);
        self.entries.reserve(32);
        let mut writer = serde_json::Serializer::with_formatter(std::io::sink(), Pen(&mut self));
        match value.serialize(&mut writer) {
            Ok(()) => Ok(self.json),
            Err(error) => Err(self.refused.unwrap_or_else(|| error.into())),
        }
    }

    /// Notes why there is no canonical form, and stops the writer.
    fn refuse(&mut self, error: CanonicalError) -> io::Result<()> {
        self.refused = Some(error);
        Err(io::ErrorKind::InvalidData.into())
    }

    fn begin_object(&mut self) {
        self.json.push(b'{');
        self.open.push(self.entries.len());
    }

    fn begin_key(&mut self) {
        if self.open.last().is_some_and(|first| *first < self.entries.len()) {
            self.json.push(b',');
        }
        let key = self.json.len();
        self.entries.push(Entry { key, key_end: key, end: key, escaped: false });
        self.in_key = true;
    }

    fn end_key(&mut self) {
        self.in_key = false;
        if let Some(entry) = self.entries.last_mut() {
            entry.key_end = self.json.len();
        }
        self.json.push(b':');
    }

    fn end_entry(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            entry.end = self.json.len();
        }
    }

    fn end_object(&mut self) {
        let first = self.open.pop().unwrap_or_default();
        let (json, entries) = (&self.json, &self.entries[first..]);
        let ascends = entries.windows(2).all(|pair| pair[0].key(json) < pair[1].key(json));
        if !ascends || entries.iter().any(|entry| entry.escaped) {
            self.sort(first);
        }
        self.entries.truncate(first);
        self.json.push(b'}');
    }

    /// Sorts the entries from `first` on, which end where the bytes do.
    fn sort(&mut self, first: usize) {
        let Self { json, entries, scratch, .. } = self;
        let entries = &mut entries[first..];
        let Some(start) = entries.first().map(|entry| entry.key) else { return };
        if entries.iter().any(|entry| entry.escaped) {
            entries.sort_by_cached_key(|entry| {
                let quoted = &json[entry.key..entry.key_end];
                serde_json::from_slice::<String>(quoted).map(String::into_bytes).ok()
            });
        } else {
            entries.sort_unstable_by(|a, b| a.key(json).cmp(b.key(json)));
        }
        scratch.clear();
        for entry in entries {
            if !scratch.is_empty() {
                scratch.push(b',');
            }
            scratch.extend_from_slice(&json[entry.key..entry.end]);
        }
        json[start..].copy_from_slice(scratch);
    }
}

/// What `serde_json` calls for each piece of a value.
struct Pen<'a>(&'a mut Canonical);

/// Methods that write what the compact format writes.
macro_rules! compact {
    ($($name:ident($value:ty);)*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, _: &mut W, value: $value) -> io::Result<()> {
            CompactFormatter.$name(&mut self.0.json, value)
        })*
    };
}

impl Formatter for Pen<'_> {
    compact! {
        write_bool(bool);
        write_i8(i8);
        write_i16(i16);
        write_i32(i32);
        write_i64(i64);
        write_i128(i128);
        write_u8(u8);
        write_u16(u16);
        write_u32(u32);
        write_u64(u64);
        write_u128(u128);
        write_string_fragment(&str);
    }

    fn write_null<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        CompactFormatter.write_null(&mut self.0.json)
    }

    fn write_f32<W: ?Sized + Write>(&mut self, _: &mut W, value: f32) -> io::Result<()> {
        self.0.refuse(CanonicalError::Float(value.to_string()))
    }

    fn write_f64<W: ?Sized + Write>(&mut self, _: &mut W, value: f64) -> io::Result<()> {
        self.0.refuse(CanonicalError::Float(value.to_string()))
    }

    /// Text of others that may be spelt in any way.
    fn write_number_str<W: ?Sized + Write>(&mut self, _: &mut W, value: &str) -> io::Result<()> {
        self.0.refuse(CanonicalError::Raw(value.to_owned()))
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, _: &mut W, raw: &str) -> io::Result<()> {
        self.0.refuse(CanonicalError::Raw(raw.to_owned()))
    }

    fn begin_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        CompactFormatter.begin_string(&mut self.0.json)
    }

    fn end_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        CompactFormatter.end_string(&mut self.0.json)
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        _: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        if matches!(escape, CharEscape::AsciiControl(0)) {
            return self.0.refuse(CanonicalError::Nul);
        }
        if self.0.in_key
            && let Some(entry) = self.0.entries.last_mut()
        {
            entry.escaped = true;
        }
        CompactFormatter.write_char_escape(&mut self.0.json, escape)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        CompactFormatter.begin_array(&mut self.0.json)
    }

    fn end_array<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        CompactFormatter.end_array(&mut self.0.json)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, _: &mut W, first: bool) -> io::Result<()> {
        CompactFormatter.begin_array_value(&mut self.0.json, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object();
        let Some(at) = self.0.at.take() else { return Ok(()) };
        self.0.begin_key();
        self.0.json.extend_from_slice(b"\"at\"");
        self.0.end_key();
        self.write_u64(writer, at)?;
        self.0.end_entry();
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.end_object();
        Ok(())
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, _: &mut W, _: bool) -> io::Result<()> {
        self.0.begin_key();
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.end_key();
        Ok(())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.end_entry();
        Ok(())
    }
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
    fn json_that_was_written_elsewhere_is_refused() {
        let raw = serde_json::value::RawValue::from_string("{\"b\": 1, \"a\": 2}".to_owned());
        let raw = raw.expect("JSON");
        assert!(matches!(to_canonical_json(&raw), Err(CanonicalError::Raw(_))));
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
