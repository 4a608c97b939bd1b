//! Hashes within bodies, as bytes instead of digits.
//!
//! A body names contents by 64 hexadecimal digits, and a compressor that codes no literals keeps
//! every one of them: half of a step's stored bodies would be digits. So each string of 64
//! lower-case digits is stored as the byte 1 and the 32 bytes that it spells. JSON has no byte 1
//! outside an escape; where some other bytes do, nothing is replaced.

use aosk_abi::Hash;

/// What stands before the bytes of a hash.
const MARK: u8 = 1;

/// The digits of a hash.
const DIGITS: usize = 64;

/// A hash as a string, quotes included.
const SPELT: usize = DIGITS + 2;

/// The bytes with every spelt hash packed; `None` where they could not be told from packed ones.
pub(super) fn pack(plain: &[u8]) -> Option<Vec<u8>> {
    if plain.contains(&MARK) {
        return None;
    }
    let mut packed = Vec::with_capacity(plain.len());
    let mut done = 0;
    // Of 64 digits in a row one stands at a multiple of 64: what stands between need not be seen.
    for probe in (0..plain.len()).step_by(DIGITS) {
        if probe >= done
            && let Some((start, hash)) = spelt_around(plain, done, probe)
        {
            packed.extend_from_slice(&plain[done..start]);
            packed.push(MARK);
            packed.extend_from_slice(&hash);
            done = start + SPELT;
        }
    }
    packed.extend_from_slice(&plain[done..]);
    Some(packed)
}

/// The hash whose digits stand at `probe`, and where its string starts, not before `from`.
fn spelt_around(plain: &[u8], from: usize, probe: usize) -> Option<(usize, [u8; 32])> {
    let is_digit = |byte: &u8| nibble(*byte).is_some();
    // One more than there may be, so that a longer run is seen to be one.
    let before = plain[from..probe].iter().rev().take(DIGITS).take_while(|b| is_digit(b)).count();
    let after = plain[probe..].iter().take(DIGITS + 1).take_while(|b| is_digit(b)).count();
    if before + after != DIGITS {
        return None;
    }
    let start = (probe - before).checked_sub(1).filter(|&start| start >= from)?;
    let digits = plain.get(start..start + SPELT)?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some((start, hash))
}

/// The value of a lower-case hexadecimal digit.
const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The `len` bytes that were packed; `None` where that is not what `packed` holds.
pub(super) fn unpack(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(len);
    let mut rest = packed;
    while let Some(mark) = rest.iter().position(|&byte| byte == MARK) {
        plain.extend_from_slice(&rest[..mark]);
        let (hash, after) = rest[mark + 1..].split_first_chunk::<32>()?;
        if plain.len() + SPELT > len {
            return None;
        }
        plain.push(b'"');
        plain.extend_from_slice(Hash::from_bytes(*hash).to_string().as_bytes());
        plain.push(b'"');
        rest = after;
    }
    plain.extend_from_slice(rest);
    (plain.len() == len).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hash_takes_33_bytes_and_what_is_none_stays() {
        let hash = Hash::of(b"x").to_string();
        let packed = |text: &str| pack(text.as_bytes()).expect("no mark").len();
        assert_eq!(packed(&format!("{{\"a\":\"{hash}\"}}")), 6 + 33);
        for other in [
            format!("\"{}\"", &hash[..63]),
            format!("\"{hash}0\""),
            format!("\"{}\"", hash.to_uppercase()),
            format!("\"{hash}"),
            format!("\"{}g\"", &hash[..63]),
            hash.clone(),
            hash.repeat(2),
            format!("\"{hash}{hash}\""),
        ] {
            assert_eq!(packed(&other), other.len(), "{other}");
        }
        assert_eq!(pack(b"\x01"), None);
    }

    #[test]
    fn a_hash_cut_off_or_past_the_length_is_damage() {
        let plain = format!("[\"{}\"]", Hash::of(b"x"));
        let packed = pack(plain.as_bytes()).expect("no mark");
        assert_eq!(unpack(&packed, plain.len()).as_deref(), Some(plain.as_bytes()));
        assert_eq!(unpack(&packed, plain.len() - 1), None);
        assert_eq!(unpack(&packed, plain.len() + 1), None);
        assert_eq!(unpack(&packed[..packed.len() - 2], plain.len()), None);
    }

    proptest! {
        #[test]
        fn bytes_are_restored_as_they_were(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<[u8; 32]>().prop_map(|b| format!("\"{}\"", Hash::from_bytes(b))),
                    "[\"\\\\0-9a-f]{0,70}",
                    "\\PC{0,5}",
                ],
                0..8,
            )
        ) {
            let plain = parts.concat();
            let packed = pack(plain.as_bytes()).expect("no mark");
            prop_assert!(packed.len() <= plain.len());
            prop_assert_eq!(unpack(&packed, plain.len()), Some(plain.into_bytes()));
        }

        #[test]
        fn any_bytes_unpack_or_are_damage(bytes in prop::collection::vec(0..4_u8, 0..99), len in 0..200_usize) {
            if let Some(plain) = unpack(&bytes, len) {
                prop_assert_eq!(plain.len(), len);
            }
        }
    }
}
