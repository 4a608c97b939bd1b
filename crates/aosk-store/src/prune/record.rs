//! What stays of processes that were removed.

use aosk_abi::{Code, Hash, Pid, Seq, Tenant, Timestamp, to_canonical_json};
use aosk_ports::{Receipt, StoreError};
use serde::{Deserialize, Serialize};

/// Processes that one transaction removed: what an auditor finds in their place.
///
/// The records of a store are numbered from 1 and form a chain of their own. Who keeps a journal's end from
/// before finds it here, so a removal that left no record would be noticed, and one of a record in the
/// middle breaks the chain. That the last ones were cut off, only a link that somebody kept can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruning {
    /// Its number.
    pub number: u64,
    /// What was removed.
    pub what: Pruned,
    /// The chain's link after it: BLAKE3 of the link before (32 zero bytes at first) and the stored JSON.
    pub link: Hash,
}

/// What a [`Pruning`] removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruned {
    /// When, by the clock of the machine that did.
    pub at: Timestamp,
    /// Who, as the program calls itself.
    pub by: String,
    /// Ended before this moment, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_before: Option<Timestamp>,
    /// So many of those that ended last were to stay, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
    /// Whose processes.
    pub tenant: String,
    /// Which.
    pub processes: Vec<Gone>,
}

/// A process that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// Its id.
    pub pid: Pid,
    /// How many events it had.
    pub events: Seq,
    /// The link of its chain after the last.
    pub head: Hash,
    /// When it was spawned.
    pub created: Timestamp,
    /// When its last event happened.
    pub updated: Timestamp,
}

impl From<&Receipt> for Gone {
    fn from(receipt: &Receipt) -> Self {
        Self {
            pid: receipt.pid,
            events: receipt.next,
            head: receipt.head,
            created: receipt.row.created,
            updated: receipt.row.updated,
        }
    }
}

/// A record as stores keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) tenant: Tenant,
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
    pub(crate) link: Hash,
}

impl Kept {
    /// The record behind that one, or the first.
    pub(crate) fn after(last: Option<(u64, Hash)>, what: &Pruned) -> Result<Self, StoreError> {
        let (number, prev) = last.unwrap_or((0, Hash::ZERO));
        let encoding = |error: String| {
            StoreError::new(Code::EventEncode, format!("the record of a removal: {error}"))
        };
        let body = to_canonical_json(what).map_err(|error| encoding(error.to_string()))?;
        let tenant = what.tenant.parse().map_err(|error| encoding(format!("{error}")))?;
        Ok(Self { tenant, number: number + 1, link: link(prev, &body), body })
    }
}

fn link(prev: Hash, body: &[u8]) -> Hash {
    Hash::of(&[prev.as_bytes(), body].concat())
}

/// The records, whose chain is whole.
///
/// # Errors
/// [`Code::ChainBroken`] where it is not, [`Code::StoreCorrupt`] for one that cannot be read.
pub(crate) fn verified(kept: &[Kept]) -> Result<Vec<Pruning>, StoreError> {
    let (mut prev, mut found) = (Hash::ZERO, Vec::with_capacity(kept.len()));
    for (record, number) in kept.iter().zip(1..) {
        if record.number != number || link(prev, &record.body) != record.link {
            return Err(StoreError::new(
                Code::ChainBroken,
                format!(
                    "record {number} of removed processes is missing or was altered: restore the \
                     store from a backup"
                ),
            ));
        }
        prev = record.link;
        let what = serde_json::from_slice(&record.body).map_err(|error| {
            StoreError::new(
                Code::StoreCorrupt,
                format!("record {number} of removed processes cannot be read: {error}"),
            )
        })?;
        found.push(Pruning { number, what, link: prev });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<Kept> {
        let what = |n: u64| Pruned {
            at: Timestamp::from_millis(1_700_000_000_000 + n),
            by: "a test".to_owned(),
            ended_before: (n > 0).then_some(Timestamp::from_millis(n)),
            keep: (n != 1).then_some(n),
            tenant: "local".to_owned(),
            processes: vec![Gone {
                pid: Pid::from_bytes([7; 16]),
                events: Seq(n),
                head: Hash::of(&[1]),
                created: Timestamp::from_millis(1),
                updated: Timestamp::from_millis(2),
            }],
        };
        let mut kept: Vec<Kept> = Vec::new();
        for n in 0..3 {
            let last = kept.last().map(|last| (last.number, last.link));
            kept.push(Kept::after(last, &what(n)).expect("encodes"));
        }
        kept
    }

    #[test]
    fn a_record_that_is_altered_moved_or_taken_out_breaks_the_chain() {
        let whole = three();
        let found = verified(&whole).expect("whole");
        assert_eq!(found.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(found[2].what.keep, Some(2));
        let broken = |alter: fn(&mut Vec<Kept>)| {
            let mut kept = whole.clone();
            alter(&mut kept);
            verified(&kept).expect_err("altered").code
        };
        assert_eq!(broken(|kept| drop(kept.remove(0))), Code::ChainBroken);
        assert_eq!(broken(|kept| drop(kept.remove(1))), Code::ChainBroken);
        assert_eq!(broken(|kept| kept.swap(0, 1)), Code::ChainBroken);
        assert_eq!(broken(|kept| kept[1].body[9] ^= 1), Code::ChainBroken);
        assert_eq!(broken(|kept| kept[2].link = Hash::ZERO), Code::ChainBroken);
        // The end, only who kept a link of it can miss.
        verified(&whole[..2]).expect("whole in itself");
    }
}
