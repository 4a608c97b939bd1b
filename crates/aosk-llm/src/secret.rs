//! Keys, and how they are kept out of everything but one header.

use std::fmt;

use reqwest::header::HeaderValue;

/// What stands where a key stood.
const MASK: &str = "[key]";

/// An API key. It has no `Display`, and its `Debug` says nothing; the only way to its text is
/// crate-private and leads into the one header that carries it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The key, if it is one: 1 or more printable ASCII characters, without blanks, quotes and
    /// backslashes (none of which any provider uses, and which mostly tell of a copied line break).
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        let plain = key.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        (plain && !key.is_empty()).then(|| Self(key.to_owned()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The key as the value of a header, of a kind that is not printed either.
    #[expect(clippy::expect_used, reason = "a key is printable ASCII, which any header may hold")]
    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&self.0).expect("printable ASCII");
        value.set_sensitive(true);
        value
    }

    /// `text` without the key: an endpoint that refuses a key likes to quote it.
    ///
    /// A slash may come back escaped (`\/`), which JSON allows; the other characters have one form.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let masked = text.replace(&self.0, MASK);
        if self.0.contains('/') {
            masked.replace(&self.0.replace('/', "\\/"), MASK)
        } else {
            masked
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_prints_and_is_masked_wherever_it_stands() {
        let key = Secret::new("sk-a/b").expect("a key");
        assert_eq!(format!("{key:?}"), "Secret(..)");
        assert_eq!(key.mask("bad sk-a/b, \"sk-a\\/b\"sk-a/b"), "bad [key], \"[key]\"[key]");
    }

    #[test]
    fn what_cannot_be_a_key_is_none() {
        assert!(Secret::new("k").is_some());
        for bad in ["", "sk-1\n", "sk 1", "sk-é", "sk\"", "sk\\"] {
            assert!(Secret::new(bad).is_none(), "{bad:?}");
        }
    }
}
