//! Canonical JSON: one value, one sequence of bytes.
//!
//! The rules are those of RFC 8785 (JCS) narrowed to what needs no number formatting: object keys
//! sorted by their UTF-8 bytes, no white space, integers in decimal, strings with the two-letter
//! escapes of JSON and `\u00xx` for the other control characters, everything else as it is.
//! Floats are refused because their decimal form differs between writers, and U+0000 is refused
//! because PostgreSQL's `jsonb` cannot hold it; both kinds of data belong into contents, which are
//! bytes.

use serde::Serialize;
use serde_json::Value;

/// Why a value has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// A float; scale it to an integer of a stated unit.
    #[error("the float {0} has no canonical form: use an integer of a smaller unit")]
    Float(f64),
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
    let mut bytes = Vec::with_capacity(256);
    write_value(&mut bytes, &serde_json::to_value(value)?)?;
    Ok(bytes)
}

fn write_value(out: &mut Vec<u8>, value: &Value) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            if number.is_f64() {
                return Err(CanonicalError::Float(number.as_f64().unwrap_or(f64::NAN)));
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_string(out, text)?,
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(out, item)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // The map's own order depends on a feature that any crate of the build may switch on.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(out, key)?;
                out.push(b':');
                write_value(out, item)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(out: &mut Vec<u8>, text: &str) -> Result<(), CanonicalError> {
    if text.contains('\0') {
        return Err(CanonicalError::Nul);
    }
    serde_json::to_writer(out, text)?;
    Ok(())
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
        assert!(matches!(
            to_canonical_json(&json!(0.5)),
            Err(CanonicalError::Float(_))
        ));
        assert!(matches!(
            to_canonical_json(&json!(["a\0b"])),
            Err(CanonicalError::Nul)
        ));
        assert!(matches!(
            to_canonical_json(&json!({"a\0": 1})),
            Err(CanonicalError::Nul)
        ));
        assert_eq!(
            to_canonical_json(&u64::MAX).expect("integer"),
            b"18446744073709551615"
        );
        assert_eq!(
            to_canonical_json(&i64::MIN).expect("integer"),
            b"-9223372036854775808"
        );
    }

    proptest! {
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
