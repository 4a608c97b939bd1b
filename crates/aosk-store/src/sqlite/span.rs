//! Spans: which rows of the journal hold a process's events.
//!
//! A unique index over (tenant, pid, first event) would take one entry per append, each at another
//! place of the index: with 64 agents every group rewrites up to 64 index pages for 64 rows. So a
//! process's row lists its newest batches itself (it is rewritten with every append anyway), and
//! only a full list of [`SPAN`] moves to the table `spans`. At 64 agents and 2,000 steps each that
//! writes 9 KB a step where the index writes 29 KB (pages of 16 KiB), and it does not grow with the
//! history.
//!
//! A list is the numbers `first, id` of its first batch and then the differences to the batch
//! before, all as variable-length integers: 2 to 3 bytes a batch.

use super::varint;

/// How many batches a span lists.
pub(super) const SPAN: usize = 32;

/// A batch: the place of its first event and its row in `journal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) first: u64,
    pub(super) id: i64,
}

/// Encodes a list.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 3 + 8);
    let mut before = Entry { first: 0, id: 0 };
    for entry in entries {
        varint::put(&mut out, entry.first.wrapping_sub(before.first));
        varint::put(&mut out, entry.id.wrapping_sub(before.id).cast_unsigned());
        before = *entry;
    }
    out
}

/// Decodes a list; `None` where the bytes are none, or one that does not ascend.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    while !bytes.is_empty() {
        let (first, id) = (varint::take(&mut bytes)?, varint::take(&mut bytes)?.cast_signed());
        let entry = match entries.last() {
            None => Entry { first, id },
            Some(before) => {
                Entry { first: before.first.checked_add(first)?, id: before.id.checked_add(id)? }
            }
        };
        if entries.last().is_some_and(|before| before.first >= entry.first || before.id >= entry.id)
        {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ascending_lists_round_trip(
            steps in prop::collection::vec((1_u64..1 << 40, 1_i64..1 << 40), 0..SPAN + 2)
        ) {
            let mut last = Entry { first: 0, id: 0 };
            let entries: Vec<Entry> = steps.iter().map(|&(first, id)| {
                last = Entry { first: last.first + first, id: last.id + id };
                last
            }).collect();
            prop_assert_eq!(decode(&encode(&entries)), Some(entries));
        }

        #[test]
        fn any_bytes_are_a_list_that_ascends_or_damage(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(entries) = decode(&bytes) {
                prop_assert!(entries.windows(2).all(|w| w[0].first < w[1].first && w[0].id < w[1].id));
            }
        }
    }
}
