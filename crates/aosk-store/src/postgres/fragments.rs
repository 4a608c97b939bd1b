//! Event bodies, written shorter in a way that SQL can read.
//!
//! A step's bodies are some 850 bytes of JSON, most of them keys. A general compressor brings them
//! to 340 and makes them unreadable to everyone with `psql`; as they are, a step costs 1,715 bytes
//! beyond its payload. So the frequent pieces of text are replaced by characters that canonical
//! JSON never holds, and the hashes stand beside them as bytes. That takes 276 bytes (212 and 64),
//! and `replace()` in a view undoes it. What comes back is what was hashed, byte for byte: every
//! read recomputes the chain.
//!
//! Stored rows name their table of pieces by number, so a table is never changed: a better one adds
//! pieces to it and gets the next number.

use std::borrow::Cow;
use std::sync::LazyLock;

use aosk_abi::Hash;

/// Bodies as they are.
pub(super) const PLAIN: i16 = 0;

/// Bodies with the pieces of `fragments/1.txt`.
const FRAGMENTS_1: i16 = 1;

/// Bodies with those and the ones of `fragments/2.txt`. The tokens of the first stay what they are,
/// so that one reader reads both.
const FRAGMENTS_2: i16 = 2;

/// Bodies with those and the ones of `fragments/3.txt`.
const FRAGMENTS_3: i16 = 3;

/// Bodies with those and the ones of `fragments/4.txt`.
const FRAGMENTS_4: i16 = 4;

/// Where a hash stood, its quotes included.
const HASH: u8 = 1;

/// What begins a token of two bytes.
const TWO: u8 = 2;

/// The first of the tokens of one byte, which the most frequent pieces have.
const ONE: u8 = 3;

/// How many tokens of one byte there are: all control characters but U+0000 and the two above.
const ONES: usize = (b' ' - ONE) as usize;

/// The second byte of the first token of two.
const SECOND: u8 = b'!';

/// The characters of a hash in JSON, its quotes included.
const SPELT: usize = 66;

/// The tables, in the order of the layouts that they came with.
const TABLES: [(i16, &str); 4] = [
    (FRAGMENTS_1, include_str!("fragments/1.txt")),
    (FRAGMENTS_2, include_str!("fragments/2.txt")),
    (FRAGMENTS_3, include_str!("fragments/3.txt")),
    (FRAGMENTS_4, include_str!("fragments/4.txt")),
];

static PIECES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| TABLES.iter().flat_map(|(_, table)| table.lines()).collect());

/// The pieces by their beginnings.
static STARTS: LazyLock<Starts> = LazyLock::new(Starts::new);

/// How many chains there are. Few share one, and all of them fit two pages of memory.
const CHAINS: usize = 1 << 12;

/// Chains of the pieces whose first three bytes have the same mixture. It is looked into at each
/// byte of each body, hence no general map.
struct Starts {
    /// The first piece of each chain, plus one; zero where there is none.
    first: [u8; CHAINS],
    links: Vec<Link>,
}

/// A piece in its chain.
struct Link {
    /// Its first eight bytes, or all of them with zeros behind, and which of the eight are its own.
    head: u64,
    mask: u64,
    /// What comes behind those eight.
    tail: &'static [u8],
    /// The piece behind it, plus one.
    next: u8,
}

impl Starts {
    fn new() -> Self {
        let link = |piece: &'static str| {
            let bytes = piece.as_bytes();
            let mask = u64::MAX >> (8 * 8_usize.saturating_sub(bytes.len()));
            Link { head: head(bytes), mask, tail: bytes.get(8..).unwrap_or_default(), next: 0 }
        };
        let links = PIECES.iter().copied().map(link).collect();
        let mut starts = Self { first: [0; CHAINS], links };
        // The last one that is put into a chain is its first, and the longest is to be found first.
        let mut numbers: Vec<u8> = (0..PIECES.len() as u8).collect();
        numbers.sort_by_key(|number| PIECES[usize::from(*number)].len());
        for number in numbers {
            let link = &mut starts.links[usize::from(number)];
            let first = &mut starts.first[Self::chain(link.head)];
            link.next = std::mem::replace(first, number + 1);
        }
        starts
    }

    /// The chain of what begins with those bytes.
    const fn chain(head: u64) -> usize {
        let mixture = (head as u32 & 0x00ff_ffff).wrapping_mul(0x9e37_79b1);
        mixture as usize >> (32 - CHAINS.trailing_zeros())
    }

    /// The longest piece that `rest` begins with.
    fn find(&self, rest: &[u8]) -> Option<usize> {
        let start = head(rest);
        let mut at = self.first[Self::chain(start)];
        while let Some(number) = at.checked_sub(1).map(usize::from) {
            let link = &self.links[number];
            if start & link.mask == link.head
                && (link.tail.is_empty() || rest[8..].starts_with(link.tail))
            {
                return Some(number);
            }
            at = link.next;
        }
        None
    }
}

/// The first eight bytes, with zeros behind where there are fewer. No piece and no body holds a zero.
fn head(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or_else(
        || bytes.iter().rev().fold(0, |head, byte| head << 8 | u64::from(*byte)),
        u64::from_le_bytes,
    )
}

/// The pieces of each layout with their tokens, as SQL needs them.
pub(super) fn tables() -> impl Iterator<Item = (i16, String, &'static str)> {
    let mut count = 0;
    TABLES.iter().flat_map(move |(layout, table)| {
        count += table.lines().count();
        PIECES.iter().take(count).enumerate().map(|(number, piece)| {
            let (first, second) = token(number);
            let token = [Some(first), second].into_iter().flatten().map(char::from).collect();
            (*layout, token, *piece)
        })
    })
}

fn token(number: usize) -> (u8, Option<u8>) {
    match number.checked_sub(ONES) {
        None => (ONE + number as u8, None),
        Some(number) => (TWO, Some(SECOND + number as u8)),
    }
}

fn piece(number: usize) -> Result<&'static [u8], String> {
    PIECES.get(number).map(|piece| piece.as_bytes()).ok_or_else(|| format!("no piece {number}"))
}

/// Bodies as a row holds them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed<'a> {
    pub(super) layout: i16,
    pub(super) hashes: Vec<u8>,
    pub(super) bodies: Cow<'a, [u8]>,
}

/// Packs bodies; leaves them as they are where they could not be told from packed ones.
pub(super) fn pack(plain: &[u8]) -> Packed<'_> {
    let as_it_is = Packed { layout: PLAIN, hashes: Vec::new(), bodies: Cow::Borrowed(plain) };
    if plain.iter().any(|byte| *byte < b' ') || std::str::from_utf8(plain).is_err() {
        return as_it_is;
    }
    let (starts, pieces) = (&*STARTS, &*PIECES);
    let (mut bodies, mut hashes) = (Vec::with_capacity(plain.len()), Vec::with_capacity(128));
    let mut at = 0;
    while let Some(&byte) = plain.get(at) {
        let rest = &plain[at..];
        if byte == b'"'
            && let Some(hash) = hash_at(rest)
        {
            hashes.extend(hash);
            bodies.push(HASH);
            at += SPELT;
        } else if let Some(number) = starts.find(rest) {
            let (first, second) = token(number);
            bodies.push(first);
            bodies.extend(second);
            at += pieces[number].len();
        } else {
            bodies.push(byte);
            at += 1;
        }
    }
    Packed { layout: FRAGMENTS_4, hashes, bodies: Cow::Owned(bodies) }
}

fn hash_at(rest: &[u8]) -> Option<[u8; 32]> {
    let [b'"', digits @ .., b'"'] = rest.first_chunk::<SPELT>()? else {
        return None;
    };
    let mut hash = [0; 32];
    for (byte, [high, low]) in hash.iter_mut().zip(digits.as_chunks().0) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(hash)
}

/// The value of a lower-case hexadecimal digit.
const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The `len` bytes that were packed; the error is what is wrong with them.
pub(super) fn unpack(
    layout: i16,
    hashes: &[u8],
    bodies: &[u8],
    len: usize,
) -> Result<Vec<u8>, String> {
    let mut plain = Vec::with_capacity(len);
    match layout {
        PLAIN => plain.extend_from_slice(bodies),
        FRAGMENTS_1..=FRAGMENTS_4 => {
            let mut hashes = hashes.as_chunks::<32>().0.iter();
            let mut bytes = bodies.iter().copied();
            while let Some(byte) = bytes.next() {
                match byte {
                    HASH => {
                        let hash = Hash::from_bytes(*hashes.next().ok_or("a hash is missing")?);
                        plain.extend(format!("\"{hash}\"").into_bytes());
                    }
                    TWO => {
                        let second = bytes.next().and_then(|byte| byte.checked_sub(SECOND));
                        plain.extend(piece(ONES + usize::from(second.ok_or("cut off")?))?);
                    }
                    ONE..b' ' => plain.extend(piece(usize::from(byte - ONE))?),
                    byte => plain.push(byte),
                }
                // A damaged length must not make a reader ask for more memory than that.
                if plain.len() > len {
                    break;
                }
            }
        }
        other => return Err(format!("layout {other} where {FRAGMENTS_4} is the newest")),
    }
    if plain.len() == len {
        return Ok(plain);
    }
    Err(format!("not the {len} bytes that were stored"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_tables_are_those_that_stored_rows_need() {
        let known = [
            include_str!("fragments/1.blake3"),
            include_str!("fragments/2.blake3"),
            include_str!("fragments/3.blake3"),
            include_str!("fragments/4.blake3"),
        ];
        for ((_, text), known) in TABLES.iter().zip(known) {
            assert_eq!(Hash::of(text.as_bytes()).to_string(), known.trim());
        }
        assert!(PIECES.len() <= ONES + usize::from(b'~' - SECOND) + 1, "tokens of two bytes end");
        let counts = |of: i16| tables().filter(|(layout, ..)| *layout == of).count();
        let counted = [FRAGMENTS_1, FRAGMENTS_2, FRAGMENTS_3, FRAGMENTS_4].map(counts);
        assert_eq!(counted, [87, 99, 106, PIECES.len()]);
        let tokens: std::collections::HashSet<(i16, String)> =
            tables().map(|(layout, token, _)| (layout, token)).collect();
        assert_eq!(tokens.len(), tables().count());
        let pieces: std::collections::HashSet<&str> = PIECES.iter().copied().collect();
        assert_eq!(pieces.len(), PIECES.len());
        assert!(PIECES.iter().all(|piece| piece.len() >= 3 && piece.bytes().all(|b| b >= b' ')));
    }

    #[test]
    fn bodies_of_the_first_layout_are_still_read() {
        let plain = br#"{"at":1790000000000,"len":7,"step":3,"tail":true,"tools":true}"#;
        let packed = pack(plain);
        assert_eq!(packed.layout, FRAGMENTS_4);
        let restored = unpack(FRAGMENTS_1, &packed.hashes, &packed.bodies, plain.len());
        assert_eq!(restored.as_deref(), Ok(&plain[..]), "it has pieces of the first table alone");
    }

    #[test]
    fn a_hash_takes_33_bytes_and_what_is_none_stays() {
        let hash = Hash::of(b"x").to_string();
        let size = |text: &str| {
            let packed = pack(text.as_bytes());
            packed.bodies.len() + packed.hashes.len()
        };
        assert_eq!(size(&format!("\"{hash}\"")), 33);
        for other in
            [format!("\"{}\"", &hash[..63]), format!("\"{}\"", hash.to_uppercase()), hash.clone()]
        {
            assert_eq!(size(&other), other.len(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn the_longest_piece_is_found(
            pieces in prop::collection::vec(0..PIECES.len(), 1..4), cut in 0..40_usize, rest in "[ -~]{0,9}",
        ) {
            let whole: String = pieces.iter().map(|number| PIECES[*number]).collect();
            let text = format!("{}{rest}", whole.get(..whole.len().saturating_sub(cut)).unwrap_or(""));
            let longest = PIECES.iter().filter(|piece| text.starts_with(**piece)).max_by_key(|it| it.len());
            prop_assert_eq!(STARTS.find(text.as_bytes()).map(|number| PIECES[number]), longest.copied());
        }

        #[test]
        fn bodies_are_restored_as_they_were(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<[u8; 32]>().prop_map(|b| format!("\"{}\"", Hash::from_bytes(b))),
                    (0..200_usize).prop_map(|n| PIECES[n % PIECES.len()].to_owned()),
                    "[\"\\\\0-9a-f,:{}]{0,70}",
                    "\\PC{0,5}",
                    "[\\x00-\\x1f]{0,1}",
                ],
                0..9,
            )
        ) {
            let plain = parts.concat().into_bytes();
            let packed = pack(&plain);
            prop_assert!(packed.bodies.len() + packed.hashes.len() <= plain.len());
            let restored = unpack(packed.layout, &packed.hashes, &packed.bodies, plain.len());
            prop_assert_eq!(restored.as_deref(), Ok(&plain[..]));
            for wrong in [plain.len() + 1, plain.len().wrapping_sub(1)] {
                if wrong <= plain.len() + 1 {
                    let damaged = unpack(packed.layout, &packed.hashes, &packed.bodies, wrong);
                    prop_assert!(damaged.is_err());
                }
            }
        }

        #[test]
        fn any_bytes_unpack_or_are_damage(
            layout in -1..5_i16,
            bytes in prop::collection::vec(0..40_u8, 0..99),
            len in 0..200_usize,
        ) {
            if let Ok(plain) = unpack(layout, &bytes, &bytes, len) {
                prop_assert_eq!(plain.len(), len);
            }
        }
    }
}
