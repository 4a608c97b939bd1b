//! JSON bytes that depend on the value alone.
//!
//! A provider's cache is addressed by the prompt's bytes, so a tool schema must print the same way
//! in every build of this program. `serde_json` leaves the order of an object's keys to a cargo
//! feature that any crate of the build may switch on; here keys are sorted by their bytes. Unlike
//! the canonical JSON of events, floats are allowed (a schema may say `"minimum": 0.5`): they print
//! in the shortest form that reads back to the same number.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A count that an endpoint tells of a reply; nothing where what it tells is none, such as -1. A reply
/// is not lost for its statistics, and whoever pays by them knows that they are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let told = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(told.get().parse().ok()))
    }
}

/// Appends `value` with sorted keys and no white space.
pub(crate) fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, item);
            }
            out.push('}');
        }
        Value::String(text) => write_string(out, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut String, text: &str) {
    // The display of a string value is its JSON form.
    out.push_str(&Value::from(text).to_string());
}

/// Whether `text` is a JSON object and nothing else.
pub(crate) fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, Value>>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_floats_stay() {
        let mut out = String::new();
        write_value(&mut out, &json!({"b": [0.1, -2, true], "a": {"z": null, "é": "\u{0}\n"}}));
        assert_eq!(out, "{\"a\":{\"z\":null,\"é\":\"\\u0000\\n\"},\"b\":[0.1,-2,true]}");
    }

    proptest! {
        #[test]
        fn strings_read_back(text in any::<String>()) {
            let mut out = String::new();
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
        }
    }
}
