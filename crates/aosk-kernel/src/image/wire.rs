//! Numbers, hashes and texts as bytes.
//!
//! Numbers are of one to ten bytes, seven bits a byte, low bits first (LEB128); a text is its length
//! and its bytes.

use aosk_abi::Hash;

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a text.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend(text.as_bytes());
}

/// What is left to be read. Everything that is taken answers `None` where it is not there.
pub(super) struct Rest<'a>(pub(super) &'a [u8]);

impl<'a> Rest<'a> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number; `None` also where it exceeds 64 bits.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits > u64::MAX >> shift {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A number that counts things which follow, each of at least one byte: so a damaged one cannot
    /// make its reader ask for more memory than there are bytes.
    pub(super) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= self.0.len())
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(super) fn hash(&mut self) -> Option<Hash> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(Hash::from_bytes(*bytes))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_texts_round_trip(value: u64, text in "\\PC{0,40}") {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            put_text(&mut bytes, &text);
            let mut rest = Rest(&bytes);
            prop_assert_eq!(rest.number(), Some(value));
            prop_assert_eq!(rest.text(), Some(text));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_is_cut_or_oversized_is_refused() {
        assert_eq!(Rest(&[]).number(), None);
        assert_eq!(Rest(&[0x80]).number(), None);
        let mut over = [0xff; 10];
        over[9] = 0x02;
        assert_eq!(Rest(&over).number(), None);
        assert_eq!(Rest(&[0xff; 11]).number(), None);
        assert_eq!(Rest(&[2, b'a']).text(), None);
        assert_eq!(Rest(&[0; 31]).hash(), None);
        assert_eq!((Rest(&[1, 0]).count(), Rest(&[2, 0]).count()), (Some(1), None));
    }
}
