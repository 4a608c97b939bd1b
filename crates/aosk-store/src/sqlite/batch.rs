//! The row of one append: its events and the small contents that they name.
//!
//! Only what cannot be recomputed is stored. The place of the first event and the link after the
//! last are columns; the links between follow from the chain; a content's address follows from its
//! bytes under the tenant's key, so 4 bytes of it suffice to find it (the rest is checked).
//!
//! ```text
//! 1                                 version of this layout
//! codec of the bodies:4 bits ‖ codec of the contents:4 bits
//! epoch                             the same for every event of an append
//! events, then for each:            kind, version of the body, length of the body
//! contents, then for each:          4 bytes of its hash, length
//! length of the stored bodies
//! bodies                            one after the other, as one frame where that pays
//! contents                          likewise
//! ```
//!
//! Numbers are variable-length. The bodies of a step take about 340 bytes, of which 96 are hashes
//! that no one can compress.

use aosk_abi::{Content, Epoch, Hash, Record, Seq};

use super::compress::{self, Codec};
use super::varint;
use crate::check::MAX_SMALL;

/// The version of the layout.
const LAYOUT: u8 = 1;

/// How many bytes of a content's hash are stored.
const PREFIX: usize = 4;

/// An event as the row holds it: without its place and link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    kind: u16,
    version: u16,
    body: std::ops::Range<usize>,
}

/// A decoded row.
#[derive(Debug)]
pub(super) struct Batch {
    epoch: Epoch,
    headers: Vec<Header>,
    bodies: Vec<u8>,
    prefixes: Vec<([u8; PREFIX], std::ops::Range<usize>)>,
    contents: Vec<u8>,
}

/// Encodes records of one epoch with their small contents.
///
/// # Errors
/// What the compressor says.
pub(super) fn encode(
    epoch: Epoch,
    records: &[Record],
    contents: &[&Content],
) -> std::io::Result<Vec<u8>> {
    let bodies = records.iter().map(|record| &record.body[..]).collect::<Vec<_>>().concat();
    let texts = contents.iter().map(|content| &content.bytes()[..]).collect::<Vec<_>>().concat();
    let packed_bodies = compress::bodies(&bodies)?;
    let packed_texts = compress::inline(&texts)?;

    let codec =
        |packed: &Option<Vec<u8>>, with| packed.as_ref().map_or(Codec::Plain, |_| with) as u8;
    let codecs = codec(&packed_bodies, Codec::Bodies1) << 4 | codec(&packed_texts, Codec::Zstd);
    let stored_bodies = packed_bodies.as_ref().unwrap_or(&bodies);
    let stored_texts = packed_texts.as_ref().unwrap_or(&texts);

    let mut out = Vec::with_capacity(
        16 + records.len() * 8 + contents.len() * 8 + stored_bodies.len() + stored_texts.len(),
    );
    out.extend([LAYOUT, codecs]);
    varint::put(&mut out, epoch.0);
    varint::put(&mut out, records.len() as u64);
    for record in records {
        varint::put(&mut out, record.kind.into());
        varint::put(&mut out, record.version.into());
        varint::put(&mut out, record.body.len() as u64);
    }
    varint::put(&mut out, contents.len() as u64);
    for content in contents {
        out.extend(&content.hash().as_bytes()[..PREFIX]);
        varint::put(&mut out, content.bytes().len() as u64);
    }
    varint::put(&mut out, stored_bodies.len() as u64);
    out.extend(stored_bodies);
    out.extend(stored_texts);
    Ok(out)
}

impl Batch {
    /// Decodes a row; the error is what is wrong with it.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let bytes = &mut bytes;
        let layout = byte(bytes)?;
        if layout != LAYOUT {
            return Err(format!("layout {layout} where {LAYOUT} is the only one"));
        }
        let codecs = byte(bytes)?;
        let codec =
            |number: u8| Codec::from_number(number).ok_or(format!("unknown codec {number}"));
        let (bodies_codec, contents_codec) = (codec(codecs >> 4)?, codec(codecs & 15)?);
        let epoch = Epoch(number(bytes)?);

        let mut headers = Vec::new();
        let mut bodies_len = 0;
        for _ in 0..number(bytes)? {
            let kind = u16::try_from(number(bytes)?).map_err(|_| "kind past 16 bits")?;
            let version = u16::try_from(number(bytes)?).map_err(|_| "version past 16 bits")?;
            headers.push(Header { kind, version, body: range(&mut bodies_len, number(bytes)?)? });
        }
        let mut prefixes = Vec::new();
        let mut contents_len = 0;
        for _ in 0..number(bytes)? {
            let (prefix, rest) = bytes.split_first_chunk().ok_or("cut off")?;
            *bytes = rest;
            prefixes.push((*prefix, range(&mut contents_len, number(bytes)?)?));
        }
        let stored = usize::try_from(number(bytes)?).map_err(|_| "length past memory")?;
        let (bodies, contents) = bytes.split_at_checked(stored).ok_or("cut off")?;
        let restore = |codec, stored, len| {
            compress::restore(codec, stored, len).map_err(|error| error.to_string())
        };
        Ok(Self {
            epoch,
            headers,
            bodies: restore(bodies_codec, bodies, bodies_len)?,
            prefixes,
            contents: restore(contents_codec, contents, contents_len)?,
        })
    }

    /// How many events it holds.
    pub(super) const fn len(&self) -> usize {
        self.headers.len()
    }

    /// The records, from `first` on; their hashes are still to be linked.
    pub(super) fn records(&self, first: Seq) -> impl Iterator<Item = Record> {
        (first.0..).zip(&self.headers).map(|(seq, header)| Record {
            seq: Seq(seq),
            epoch: self.epoch,
            kind: header.kind,
            version: header.version,
            body: self.bodies[header.body.clone()].to_vec(),
            hash: Hash::ZERO,
        })
    }

    /// The contents that stand beside the events.
    pub(super) fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.prefixes.iter().map(|(_, range)| &self.contents[range.clone()])
    }

    /// The contents that may have `hash`: none where the row does not hold it, and rarely more than
    /// one. Which of them has it, the tenant's key tells.
    pub(super) fn candidates(&self, hash: Hash) -> impl Iterator<Item = &[u8]> {
        self.prefixes
            .iter()
            .filter(move |(prefix, _)| hash.as_bytes().starts_with(prefix))
            .map(|(_, range)| &self.contents[range.clone()])
    }
}

fn byte(bytes: &mut &[u8]) -> Result<u8, String> {
    let (&byte, rest) = bytes.split_first().ok_or("cut off")?;
    *bytes = rest;
    Ok(byte)
}

fn number(bytes: &mut &[u8]) -> Result<u64, String> {
    varint::take(bytes).ok_or_else(|| "cut off".to_owned())
}

fn range(end: &mut usize, len: u64) -> Result<std::ops::Range<usize>, String> {
    let start = *end;
    *end = usize::try_from(len)
        .ok()
        .and_then(|len| start.checked_add(len))
        .filter(|end| *end <= MAX_SMALL)
        .ok_or_else(|| format!("more than {MAX_SMALL} bytes"))?;
    Ok(start..*end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::ContentKey;
    use proptest::prelude::*;

    fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..max),
            (any::<u8>(), 0..max).prop_map(|(byte, len)| vec![byte; len]),
        ]
    }

    proptest! {
        #[test]
        fn batches_round_trip(
            first in 0..u64::MAX / 2,
            epoch: u64,
            events in prop::collection::vec((any::<u16>(), any::<u16>(), bytes(900)), 1..6),
            texts in prop::collection::vec(bytes(3000), 0..4),
        ) {
            let records: Vec<Record> = (first..).zip(events).map(|(seq, (kind, version, body))| {
                let hash = Hash::ZERO;
                Record { seq: Seq(seq), epoch: Epoch(epoch), kind, version, body, hash }
            }).collect();
            let key = ContentKey::from_bytes([7; 32]);
            let contents: Vec<Content> = texts.into_iter().map(|text| key.seal(text)).collect();
            let beside: Vec<&Content> = contents.iter().collect();

            let row = encode(Epoch(epoch), &records, &beside).expect("compresses");
            let batch = Batch::decode(&row).expect("its own row");
            prop_assert_eq!(batch.len(), records.len());
            prop_assert!(batch.records(Seq(first)).eq(records));
            for content in &contents {
                prop_assert!(batch.candidates(content.hash()).any(|it| it == &content.bytes()[..]));
            }
        }

        #[test]
        fn any_bytes_are_a_batch_or_damage(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Most begin as a batch does, or nothing past the first check would be met.
            if let Some(layout) = bytes.first_mut() {
                *layout = if *layout < 250 { LAYOUT } else { *layout };
            }
            if let Ok(batch) = Batch::decode(&bytes) {
                prop_assert_eq!(batch.records(Seq(0)).count(), batch.len());
            }
        }
    }

    #[test]
    fn a_claimed_length_past_the_bound_is_refused_before_memory_is_taken() {
        let claims = |len: u64| {
            let mut row = vec![LAYOUT, (Codec::Bodies1 as u8) << 4, 1, 1, 1, 1];
            varint::put(&mut row, len);
            row.extend([0, 0]);
            Batch::decode(&row).expect_err("no such bodies")
        };
        let over = format!("more than {MAX_SMALL} bytes");
        assert_eq!(claims(MAX_SMALL as u64 + 1), over);
        assert_eq!(claims(u64::MAX), over);
        assert_ne!(claims(MAX_SMALL as u64), over);
    }
}
