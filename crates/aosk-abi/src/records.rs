//! Records on their way into a journal, with the proof that they follow one another.
//!
//! A store takes no record whose link is wrong. To see that it must hash every body, and whoever
//! wrote the records has just done so: 12,000 of the 190,000 instructions of a step. So the writer
//! gathers them in a [`Chain`], and the [`Records`] that it gives away say after which link of which
//! journal they were sealed. The proof goes with the first change. Records from elsewhere have none,
//! and are hashed.

use std::ops::{Deref, DerefMut};

use crate::content::Hash;
use crate::event::Event;
use crate::id::{Epoch, Pid, Seq, Tenant};
use crate::record::{EncodeError, Record, VerifyError};

/// A place in a journal, where records were sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    tenant: Tenant,
    pid: Pid,
    prev: Hash,
}

/// Records of one process in the order of its journal.
#[derive(Debug, Clone, Default)]
pub struct Records {
    records: Vec<Record>,
    /// What the first of them was sealed after, where all of them were sealed one after the other.
    sealed: Option<Place>,
}

impl Records {
    /// Checks that each record follows the one before it, and the first one `prev`, in the journal of
    /// `(tenant, pid)`. Constant time for records that were sealed there, otherwise as long as it
    /// takes to hash them.
    ///
    /// # Errors
    /// [`VerifyError`] of the first record that does not.
    pub fn verify(&self, tenant: &Tenant, pid: Pid, mut prev: Hash) -> Result<(), VerifyError> {
        let is_here =
            |place: &Place| place.prev == prev && place.pid == pid && place.tenant == *tenant;
        if self.sealed.as_ref().is_some_and(is_here) {
            return Ok(());
        }
        for record in &self.records {
            record.verify(tenant, pid, prev)?;
            prev = record.hash;
        }
        Ok(())
    }
}

impl Deref for Records {
    type Target = Vec<Record>;

    fn deref(&self) -> &Vec<Record> {
        &self.records
    }
}

/// Whoever changes records takes their proof away.
impl DerefMut for Records {
    fn deref_mut(&mut self) -> &mut Vec<Record> {
        self.sealed = None;
        &mut self.records
    }
}

impl IntoIterator for Records {
    type Item = Record;
    type IntoIter = std::vec::IntoIter<Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.into_iter()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = &'a Record;
    type IntoIter = std::slice::Iter<'a, Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.iter()
    }
}

/// Records of which nothing is known.
impl FromIterator<Record> for Records {
    fn from_iter<T: IntoIterator<Item = Record>>(records: T) -> Self {
        Vec::from_iter(records).into()
    }
}

/// Records of which nothing is known.
impl From<Vec<Record>> for Records {
    fn from(records: Vec<Record>) -> Self {
        Self { records, sealed: None }
    }
}

/// The proof is not compared: it says nothing that the records do not show.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records
    }
}

impl Eq for Records {}

/// Where the next records of a process are sealed.
#[derive(Debug)]
pub struct Chain {
    place: Place,
    records: Vec<Record>,
    /// Whether all of them were sealed here.
    sealed: bool,
}

impl Chain {
    /// A chain that goes on after the link `prev`.
    #[must_use]
    pub const fn after(tenant: Tenant, pid: Pid, prev: Hash) -> Self {
        Self { place: Place { tenant, pid, prev }, records: Vec::new(), sealed: true }
    }

    /// The link after the last record.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.records.last().map_or(self.place.prev, |record| record.hash)
    }

    /// The records that were not taken yet.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Seals an event behind the last record.
    ///
    /// # Errors
    /// [`EncodeError`] where a field holds U+0000; the chain is as it was.
    pub fn seal(&mut self, seq: Seq, epoch: Epoch, event: &Event) -> Result<&Record, EncodeError> {
        let Place { tenant, pid, .. } = &self.place;
        let record = Record::seal(tenant, *pid, seq, epoch, self.head(), event)?;
        let at = self.records.len();
        self.records.push(record);
        Ok(&self.records[at])
    }

    /// Takes the last record back.
    pub fn unseal(&mut self) {
        self.records.pop();
    }

    /// Adds a record that was sealed elsewhere.
    pub fn adopt(&mut self, record: Record) {
        self.sealed = false;
        self.records.push(record);
    }

    /// Gives the records away, with the link before the first of them; the next ones follow the last.
    pub fn take(&mut self) -> (Hash, Records) {
        let head = self.head();
        let records = std::mem::take(&mut self.records);
        let sealed = std::mem::replace(&mut self.sealed, true).then(|| self.place.clone());
        (std::mem::replace(&mut self.place.prev, head), Records { records, sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Timestamp;
    use crate::event::{Unblocked, What};

    fn tenant() -> Tenant {
        Tenant::local()
    }

    fn pid() -> Pid {
        Pid::from_alias("agent")
    }

    fn seal(chain: &mut Chain, seqs: std::ops::Range<u64>) {
        for seq in seqs {
            let event = Event::new(Timestamp::from_millis(seq), What::Unblocked(Unblocked {}));
            chain.seal(Seq(seq), Epoch(1), &event).expect("no text");
        }
    }

    #[test]
    fn the_proof_holds_at_its_place_alone() {
        let mut chain = Chain::after(tenant(), pid(), Hash::ZERO);
        seal(&mut chain, 0..3);
        let (prev, first) = chain.take();
        seal(&mut chain, 3..5);
        let (next, second) = chain.take();
        assert_eq!((prev, next), (Hash::ZERO, first[2].hash));
        for (records, prev) in [(&first, prev), (&second, next)] {
            assert!(records.sealed.is_some());
            for records in [records.clone(), records.iter().cloned().collect()] {
                assert!(records.verify(&tenant(), pid(), prev).is_ok());
                assert!(records.verify(&tenant(), pid(), Hash::from_bytes([1; 32])).is_err());
                assert!(records.verify(&tenant(), Pid::from_alias("other"), prev).is_err());
                assert!(records.verify(&"other".parse().expect("a name"), pid(), prev).is_err());
            }
        }
    }

    #[test]
    fn what_was_sealed_elsewhere_is_hashed() {
        let mut chain = Chain::after(tenant(), pid(), Hash::ZERO);
        seal(&mut chain, 0..2);
        let foreign = chain.records()[1].clone();
        chain.unseal();
        chain.adopt(Record { body: b"{}".to_vec(), ..foreign });
        let (prev, records) = chain.take();
        assert!(records.verify(&tenant(), pid(), prev).is_err());
        seal(&mut chain, 2..3);
        let (prev, mut records) = chain.take();
        assert!(records.sealed.is_some(), "the next ones are its own again");
        records[0].version += 1;
        assert!(records.verify(&tenant(), pid(), prev).is_err(), "a change is seen");
    }
}
