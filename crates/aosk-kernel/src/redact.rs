//! Secrets never reach the journal.
//!
//! Everything that comes from outside (replies, tool results, messages, error texts) passes
//! through here before it is hashed, because what is hashed into a chain cannot be taken back. Only
//! the values that this kernel was given are looked for, exactly and in the forms that JSON and
//! URLs give them: guessing at what looks like a secret would damage honest data.

use std::borrow::Cow;
use std::sync::Arc;

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";

/// Replaces known secrets.
#[derive(Clone, Default)]
pub struct Redactor {
    needles: Arc<[String]>,
}

impl Redactor {
    /// The shortest value that is treated as a secret, in bytes: a shorter one would match by
    /// chance (8 characters of a key carry 48 bits).
    pub const SHORTEST: usize = 8;

    /// A redactor of these values. Values shorter than [`Self::SHORTEST`] are left out.
    #[must_use]
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            let secret = secret.as_ref();
            if secret.len() >= Self::SHORTEST {
                needles.extend(forms(secret));
            }
        }
        // Longest first, so that no form leaves a rest of a longer one behind.
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self { needles: needles.into() }
    }

    /// Whether the bytes hold a secret.
    #[must_use]
    pub fn finds(&self, bytes: &[u8]) -> bool {
        matches!(self.bytes(bytes), Cow::Owned(_))
    }

    /// `text` without secrets.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut clean = Cow::Borrowed(text);
        for needle in self.needles.iter() {
            if clean.contains(needle.as_str()) {
                clean = Cow::Owned(clean.replace(needle.as_str(), REDACTED));
            }
        }
        clean
    }

    /// `bytes` without secrets. Bytes that hold none come back as they are, also where they are
    /// not UTF-8.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut clean = Cow::Borrowed(bytes);
        for needle in self.needles.iter() {
            if let Some(replaced) = replace(&clean, needle.as_bytes()) {
                clean = Cow::Owned(replaced);
            }
        }
        clean
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} forms)", self.needles.len())
    }
}

/// How the secret may be written: as it is, in JSON, in JSON that stands in a string of JSON (the
/// arguments of a tool call in a raw reply), either of them with the slash escaped as JSON allows,
/// and in a URL.
fn forms(secret: &str) -> impl Iterator<Item = String> {
    let json = json_form(secret);
    let nested = json_form(&json);
    let slashed = [secret, &json].map(|form| form.replace('/', "\\/"));
    [secret.to_owned(), json, nested, percent_form(secret)].into_iter().chain(slashed)
}

fn json_form(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn percent_form(secret: &str) -> String {
    let mut out = String::with_capacity(secret.len());
    for byte in secret.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn replace(bytes: &[u8], needle: &[u8]) -> Option<Vec<u8>> {
    let find = |from: usize| {
        let rest = bytes.get(from..)?;
        rest.windows(needle.len()).position(|window| window == needle).map(|at| from + at)
    };
    let mut at = find(0)?;
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0;
    loop {
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(REDACTED.as_bytes());
        from = at + needle.len();
        match find(from) {
            Some(next) => at = next,
            None => break,
        }
    }
    out.extend_from_slice(&bytes[from..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_gone_in_every_form() {
        let redactor = Redactor::new(["sk-canary\"+1/2"]);
        let nested = serde_json::json!({"arguments": r#"{"key":"sk-canary\"+1/2"}"#}).to_string();
        for text in [
            "key sk-canary\"+1/2.",
            r#"{"key":"sk-canary\"+1/2"}"#,
            r#"{"key":"sk-canary\"+1\/2"}"#,
            nested.as_str(),
            "u?k=sk-canary%22%2B1%2F2&x",
        ] {
            let clean = redactor.text(text);
            assert!(!clean.contains("canary"), "{clean}");
            assert!(clean.contains(REDACTED));
            assert_eq!(redactor.bytes(text.as_bytes()).as_ref(), clean.as_bytes());
        }
    }

    #[test]
    fn bytes_without_a_secret_stay_byte_for_byte() {
        let redactor = Redactor::new(["12345678"]);
        let bytes = [0xff, 0, b'1', b'2', b'3'];
        assert!(matches!(redactor.bytes(&bytes), Cow::Borrowed(same) if same == bytes));
    }

    #[test]
    fn secrets_below_and_at_the_shortest_length() {
        assert_eq!(Redactor::new(["1234567"]).text("1234567"), "1234567");
        assert_eq!(Redactor::new(["12345678"]).text("a 12345678 b"), "a [redacted] b");
    }
}
