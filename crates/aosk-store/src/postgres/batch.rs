//! The row of one append: its events and the small contents that they name.
//!
//! One row an append, not one an event: a row costs 28 bytes of header and 58 of index entry, its
//! place 38 and its link 33, and a step has three to five events. Measured on steps of three events
//! with 2,048 bytes of payload each, pages and indexes included: 1,715 bytes beyond the payload with
//! the bodies as they are, 768 with [fragments], with which three such rows fit a
//! page. The view `events` gives SQL a row for each event all the same.
//!
//! The contents are a column of their own and are not compressed here, so that a view can show
//! them: the server compresses and moves out what does not fit three rows to a page.

use std::time::{Duration, SystemTime};

use aosk_abi::{Content, Epoch, Hash, Record, Seq, Timestamp};

use super::fragments;
use crate::check::MAX_SMALL;

/// What an event takes in the column `events`.
const EVENT: usize = 8;

/// How much of a content's hash is stored; the rest is checked against the bytes.
const PREFIX: usize = 16;

/// What a content takes in the column `beside`.
const BESIDE: usize = PREFIX + 4;

/// A row as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) layout: i16,
    pub(super) events: Vec<u8>,
    pub(super) hashes: Vec<u8>,
    pub(super) bodies: Vec<u8>,
    pub(super) beside: Vec<u8>,
    pub(super) contents: Vec<u8>,
    /// When its first event happened, where that is a time that SQL knows.
    pub(super) at: Option<SystemTime>,
}

impl Row {
    /// Encodes records with their small contents, both within the bounds of an append.
    pub(super) fn encode(records: &[Record], contents: &[&Content]) -> Self {
        let mut events = Vec::with_capacity(records.len() * EVENT);
        for record in records {
            events.extend(record.kind.to_be_bytes());
            events.extend(record.version.to_be_bytes());
            events.extend((record.body.len() as u32).to_be_bytes());
        }
        let mut beside = Vec::with_capacity(contents.len() * BESIDE);
        for content in contents {
            beside.extend(&content.hash().as_bytes()[..PREFIX]);
            beside.extend((content.bytes().len() as u32).to_be_bytes());
        }
        let plain = records.iter().map(|record| &record.body[..]).collect::<Vec<_>>().concat();
        let packed = fragments::pack(&plain);
        Self {
            layout: packed.layout,
            events,
            hashes: packed.hashes,
            bodies: packed.bodies.into_owned(),
            beside,
            contents: contents.iter().map(|it| &it.bytes()[..]).collect::<Vec<_>>().concat(),
            at: records.first().and_then(moment),
        }
    }

    /// What it holds in memory, about.
    pub(super) fn size(&self) -> usize {
        self.events.len()
            + self.hashes.len()
            + self.bodies.len()
            + self.beside.len()
            + self.contents.len()
    }
}

/// The last moment of the year 9999, in milliseconds: as far as dates of four digits reach, and as
/// the views show times.
const LAST_MS: u64 = 253_402_300_799_999;

/// When an event happened. A body is not read again but for this, so one that tells no time, or one
/// that no date spells, is stored all the same.
fn moment(record: &Record) -> Option<SystemTime> {
    spelt(record.at()?)
}

/// The moment as SQL has it, where it does.
fn spelt(time: Timestamp) -> Option<SystemTime> {
    let millis = time.as_millis();
    (millis <= LAST_MS).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
}

/// The moment by which rows are searched: of those that SQL does not have, the first.
pub(super) fn sought(time: Timestamp) -> SystemTime {
    let first = SystemTime::UNIX_EPOCH + Duration::from_millis(LAST_MS + 1);
    spelt(time).unwrap_or(first)
}

/// The records of a row, from `first` on; their hashes are still to be linked. The error is what is
/// wrong with the row.
pub(super) fn records(
    first: Seq,
    epoch: Epoch,
    layout: i16,
    [events, hashes, bodies]: [&[u8]; 3],
) -> Result<Vec<Record>, String> {
    let (headers, odd) = events.as_chunks::<EVENT>();
    if headers.is_empty() || !odd.is_empty() {
        return Err("its list of events is cut off".to_owned());
    }
    let length = |header: &[u8; EVENT]| {
        let [.., a, b, c, d] = *header;
        u32::from_be_bytes([a, b, c, d]) as usize
    };
    let len = total(headers.iter().map(length))?;
    let plain = fragments::unpack(layout, hashes, bodies, len)?;
    let mut rest = &plain[..];
    let mut records = Vec::with_capacity(headers.len());
    for (header, seq) in headers.iter().zip(first.0..) {
        let (body, after) = rest.split_at_checked(length(header)).ok_or("cut off")?;
        rest = after;
        let [kind, kind2, version, version2, ..] = *header;
        records.push(Record {
            seq: Seq(seq),
            epoch,
            kind: u16::from_be_bytes([kind, kind2]),
            version: u16::from_be_bytes([version, version2]),
            body: body.to_vec(),
            hash: Hash::ZERO,
        });
    }
    Ok(records)
}

/// The contents of a row that may have `hash`: none where the row does not hold it. Which of them
/// has it, the tenant's key tells.
pub(super) fn candidates<'a>(
    beside: &[u8],
    contents: &'a [u8],
    hash: Hash,
) -> Result<Vec<&'a [u8]>, String> {
    let all = split(beside, contents)?;
    let may =
        |(prefix, bytes): (&[u8], &'a [u8])| hash.as_bytes().starts_with(prefix).then_some(bytes);
    Ok(all.into_iter().filter_map(may).collect())
}

/// All contents of a row.
pub(super) fn contents<'a>(beside: &[u8], contents: &'a [u8]) -> Result<Vec<&'a [u8]>, String> {
    Ok(split(beside, contents)?.into_iter().map(|(_, bytes)| bytes).collect())
}

/// A content with the beginning of its hash.
type Split<'b, 'a> = (&'b [u8], &'a [u8]);

/// The contents of a row.
fn split<'b, 'a>(beside: &'b [u8], contents: &'a [u8]) -> Result<Vec<Split<'b, 'a>>, String> {
    let (headers, odd) = beside.as_chunks::<BESIDE>();
    if !odd.is_empty() {
        return Err("its list of contents is cut off".to_owned());
    }
    let mut rest = contents;
    let mut found = Vec::with_capacity(headers.len());
    for header in headers {
        let (prefix, len) = header.split_at(PREFIX);
        let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let (bytes, after) = rest.split_at_checked(len).ok_or("its contents are cut off")?;
        rest = after;
        found.push((prefix, bytes));
    }
    Ok(found)
}

fn total(lengths: impl Iterator<Item = usize>) -> Result<usize, String> {
    let mut sum = 0_usize;
    for len in lengths {
        sum = sum.saturating_add(len);
    }
    if sum > MAX_SMALL { Err(format!("more than {MAX_SMALL} bytes")) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::ContentKey;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_round_trip(
            first in 0..u64::MAX / 2,
            epoch: u64,
            events in prop::collection::vec(
                (any::<u16>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..300)), 1..6),
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..4),
        ) {
            let made: Vec<Record> = (first..).zip(events).map(|(seq, (kind, version, body))| {
                let hash = Hash::ZERO;
                Record { seq: Seq(seq), epoch: Epoch(epoch), kind, version, body, hash }
            }).collect();
            let key = ContentKey::from_bytes([7; 32]);
            let contents: Vec<Content> = texts.into_iter().map(|text| key.seal(text)).collect();
            let row = Row::encode(&made, &contents.iter().collect::<Vec<_>>());

            let parts = [&row.events[..], &row.hashes, &row.bodies];
            let read = records(Seq(first), Epoch(epoch), row.layout, parts);
            prop_assert_eq!(read, Ok(made));
            for content in &contents {
                let found = candidates(&row.beside, &row.contents, content.hash()).expect("whole");
                prop_assert!(found.contains(&&content.bytes()[..]));
            }
        }

        #[test]
        fn any_bytes_are_a_row_or_damage(
            layout in 0..2_i16,
            events in prop::collection::vec(0..9_u8, 0..50),
            bodies in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Ok(read) = records(Seq(0), Epoch(1), layout, [&events, &bodies, &bodies]) {
                prop_assert_eq!(read.len() * EVENT, events.len());
            }
            let _ = candidates(&events, &bodies, Hash::ZERO);
        }
    }

    #[test]
    fn a_claimed_length_past_the_bound_is_refused_before_memory_is_taken() {
        let claims = |len: u32| {
            let mut events = vec![0, 1, 0, 1];
            events.extend(len.to_be_bytes());
            records(Seq(0), Epoch(1), 0, [&events, &[], &[]]).expect_err("no such bodies")
        };
        let over = format!("more than {MAX_SMALL} bytes");
        assert_eq!(claims(MAX_SMALL as u32 + 1), over);
        assert_eq!(claims(u32::MAX), over);
        assert_ne!(claims(MAX_SMALL as u32), over);
    }
}
