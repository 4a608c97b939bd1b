//! What a group writes of saved folds.
//!
//! A fold and the stretches that it stands on are rows of one table, told apart in its key. A table
//! of their own costs every database 32 KB, the first pages of its rows and of two indexes, and every
//! checkpoint two statements.

use std::collections::BTreeMap;

use aosk_abi::{Pid, Seq};
use uuid::Uuid;

use super::append::Prepared;
use super::checkpoint::Frame;
use super::process::{Place, uuid};
use super::writes::Write;

/// A process, with its tenant's number.
type Key = (i32, Pid);

/// The statements that remove the folds whose place others take, and store those that came with the
/// appends. Where `places` says where their processes stand afterwards, each keeps two: one is used;
/// the one before it spares the whole journal where the newest is damaged or of an encoding that an
/// older program does not know.
pub(super) fn of<'a>(
    writes: &[(&'a Prepared, i32)],
    places: &BTreeMap<Key, Place>,
) -> Vec<Write<'a>> {
    let (mut saved, mut removed) = (Saved::default(), Removed::default());
    let mut stretches: BTreeMap<Key, BTreeMap<Seq, &'a Frame>> = BTreeMap::new();
    for (append, tenant) in writes {
        let Some(checkpoint) = &append.checkpoint else { continue };
        let key = (*tenant, append.pid);
        let oldest = places.get(&key).and_then(|place| place.checkpoints[1]);
        // Two newer ones may come with this very group.
        if oldest.is_none_or(|oldest| checkpoint.seq >= oldest) {
            let version = Some(i32::from(checkpoint.version));
            saved.push(key, false, checkpoint.seq, version, &checkpoint.frame);
            if let Some(oldest) = oldest {
                removed.push(key, false, Seq(0), oldest);
            }
        }
        for (first, frame) in &checkpoint.stretches {
            let there = stretches.entry(key).or_default();
            there.retain(|behind, _| behind < first);
            there.insert(*first, frame);
        }
    }
    for (key, stretches) in stretches {
        if let Some(first) = stretches.keys().next() {
            removed.push(key, true, *first, Seq(i64::MAX as u64));
        }
        for (first, frame) in stretches {
            saved.push(key, true, first, None, frame);
        }
    }
    [removed.delete(), saved.insert()].into_iter().flatten().collect()
}

/// The columns of the table.
#[derive(Default)]
struct Saved<'a> {
    tenant: Vec<i32>,
    pid: Vec<Uuid>,
    settled: Vec<bool>,
    seq: Vec<i64>,
    version: Vec<Option<i32>>,
    len: Vec<i32>,
    bytes: Vec<&'a [u8]>,
}

impl<'a> Saved<'a> {
    fn push(
        &mut self,
        (tenant, pid): Key,
        settled: bool,
        seq: Seq,
        version: Option<i32>,
        frame: &'a Frame,
    ) {
        self.tenant.push(tenant);
        self.pid.push(uuid(pid));
        self.settled.push(settled);
        self.seq.push(seq.0.cast_signed());
        self.version.push(version);
        self.len.push(frame.len);
        self.bytes.push(&frame.bytes[..]);
    }

    fn insert(self) -> Option<Write<'a>> {
        (!self.tenant.is_empty()).then(|| {
            Write::new(
                "INSERT INTO checkpoints (tenant, pid, settled, seq, version, len, bytes) \
                 SELECT unnest($1::int[]), unnest($2::uuid[]), unnest($3::bool[]), \
                 unnest($4::bigint[]), unnest($5::int[]), unnest($6::int[]), unnest($7::bytea[])",
                vec![
                    Box::new(self.tenant),
                    Box::new(self.pid),
                    Box::new(self.settled),
                    Box::new(self.seq),
                    Box::new(self.version),
                    Box::new(self.len),
                    Box::new(self.bytes),
                ],
            )
        })
    }
}

/// The folds of a kind from an event on, up to another.
#[derive(Default)]
struct Removed {
    tenant: Vec<i32>,
    pid: Vec<Uuid>,
    settled: Vec<bool>,
    from: Vec<i64>,
    until: Vec<i64>,
}

impl Removed {
    fn push(&mut self, (tenant, pid): Key, settled: bool, from: Seq, until: Seq) {
        self.tenant.push(tenant);
        self.pid.push(uuid(pid));
        self.settled.push(settled);
        self.from.push(from.0.cast_signed());
        self.until.push(until.0.cast_signed());
    }

    fn delete<'a>(self) -> Option<Write<'a>> {
        (!self.tenant.is_empty()).then(|| {
            Write::new(
                "DELETE FROM checkpoints AS c USING (SELECT unnest($1::int[]) AS tenant, \
                 unnest($2::uuid[]) AS pid, unnest($3::bool[]) AS settled, \
                 unnest($4::bigint[]) AS since, unnest($5::bigint[]) AS until) AS w \
                 WHERE c.tenant = w.tenant AND c.pid = w.pid AND c.settled = w.settled \
                 AND c.seq >= w.since AND c.seq < w.until",
                vec![
                    Box::new(self.tenant),
                    Box::new(self.pid),
                    Box::new(self.settled),
                    Box::new(self.from),
                    Box::new(self.until),
                ],
            )
        })
    }
}
