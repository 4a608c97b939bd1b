//! Rankings by direction.
//!
//! Up to [`EXACT`] vectors are compared as they are: that is every memory of one agent but the
//! largest. Above, sketches choose [`CHOSEN`], and these are compared. A memory's sketches are read
//! at the first question that needs them and kept: 68 bytes and some 24 of place a vector of 384
//! components, so 100 MB for a million.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use aosk_ports::Embedding;
use rusqlite::Connection;

use super::super::fault::Fault;
use super::{find, space};
use crate::search::shelf::{Row, Scope};
use crate::search::sketch::{self, Probe, Sketch};

/// Up to how many vectors are compared one by one. Reading 2,000 of 384 components takes 4 ms.
const EXACT: usize = 2_000;

/// Enough to know that there are more.
const MORE: i64 = EXACT as i64 + 1;

/// How many of the best sketches are compared by their vectors.
const CHOSEN: usize = 500;

/// The sketches of the memories that were asked for.
#[derive(Debug, Default)]
pub(super) struct Sketches(Mutex<HashMap<i64, Memory>>);

/// A vector that was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) space: i64,
    pub(super) row: Row,
    pub(super) sketch: Sketch,
}

/// The sketches of one memory, side by side.
#[derive(Debug, Default)]
struct Memory {
    rows: Vec<Row>,
    places: HashMap<Row, usize>,
    bits: Vec<u64>,
    scales: Vec<f32>,
}

impl Memory {
    fn add(&mut self, row: Row, bits: impl Iterator<Item = u64>, scale: f32) {
        if !self.places.contains_key(&row) {
            self.places.insert(row, self.rows.len());
            self.rows.push(row);
            self.scales.push(scale);
            self.bits.extend(bits);
        }
    }

    fn remove(&mut self, row: Row) {
        let Some(place) = self.places.remove(&row) else {
            return;
        };
        let words = self.bits.len() / self.rows.len();
        let last = self.rows.len() - 1;
        self.rows.swap_remove(place);
        self.scales.swap_remove(place);
        self.bits.copy_within(last * words.., place * words);
        self.bits.truncate(last * words);
        if let Some(moved) = self.rows.get(place) {
            self.places.insert(*moved, place);
        }
    }

    fn read(connection: &Connection, space: i64, words: usize) -> Result<Self, Fault> {
        let mut statement =
            connection.prepare_cached("SELECT item, bits FROM sketches WHERE space = ?1")?;
        let mut lines = statement.query([space])?;
        let mut memory = Self::default();
        while let Some(line) = lines.next()? {
            let row: Row = line.get(0)?;
            let bytes = line.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let (bits, rest) = bytes.as_chunks::<8>();
            let (true, Ok(scale)) = (bits.len() == words, rest.try_into()) else {
                return Err(Fault::damaged(format_args!("the sketch of entry {row} is cut")));
            };
            let bits = bits.iter().map(|word| u64::from_le_bytes(*word));
            memory.add(row, bits, f32::from_le_bytes(scale));
        }
        Ok(memory)
    }

    /// Offers every row that may be had to `best`.
    fn offer(&self, probe: &Probe, may: Option<&HashSet<Row>>, best: &mut Best) {
        let wanted = |at: usize| may.is_none_or(|may| may.contains(&self.rows[at]));
        let found = |at: usize, cosine| best.offer(self.rows[at], cosine);
        probe.cosines(&self.bits, &self.scales, wanted, found);
    }
}

/// The best of many, by score; of equal ones the later row.
struct Best {
    most: usize,
    /// The worst on top.
    heap: BinaryHeap<Scored>,
    /// What a score has to exceed once the heap is full.
    bar: f32,
}

#[derive(PartialEq)]
struct Scored(f32, Row);

impl Eq for Scored {}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.total_cmp(&self.0).then(other.1.cmp(&self.1))
    }
}

impl Best {
    fn new(most: usize) -> Self {
        Self { most, heap: BinaryHeap::with_capacity(most + 1), bar: f32::NEG_INFINITY }
    }

    fn offer(&mut self, row: Row, score: f32) {
        if score < self.bar {
            return;
        }
        self.heap.push(Scored(score, row));
        if self.heap.len() > self.most {
            self.heap.pop();
            self.bar = self.heap.peek().map_or(self.bar, |worst| worst.0);
        }
    }

    /// The best first.
    fn rows(self) -> Vec<Row> {
        self.heap.into_sorted_vec().into_iter().map(|it| it.1).collect()
    }
}

impl Sketches {
    /// The entries with the nearest directions. Exact up to [`EXACT`] entries that may be had.
    pub(super) fn nearest(
        &self,
        connection: &Connection,
        scope: &Scope,
        vector: &Embedding,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        let spaces = space::find_all(connection, &scope.tenant, &scope.spaces)?;
        let may = find::let_through(connection, &spaces, &scope.filter)?;
        let few = match may {
            Some(may) if may.len() <= EXACT => Ok(may),
            Some(may) => Err(Some(may.into_iter().collect::<HashSet<Row>>())),
            None => few(connection, &spaces)?.ok_or(None),
        };
        let candidates = match few {
            Ok(all) => all,
            Err(may) => {
                let mut best = Best::new(CHOSEN.max(2 * limit));
                let probe = Probe::new(vector);
                self.scan(connection, &spaces, vector.values().len(), |memory| {
                    memory.offer(&probe, may.as_ref(), &mut best);
                })?;
                best.rows()
            }
        };
        let mut best = Best::new(limit);
        for row in candidates {
            if let Some(there) = find::vector(connection, row)? {
                best.offer(row, product(vector.values(), &there));
            }
        }
        Ok(best.rows())
    }

    /// Shows each memory's sketches to `look`.
    fn scan(
        &self,
        connection: &Connection,
        spaces: &[i64],
        dims: usize,
        mut look: impl FnMut(&Memory),
    ) -> Result<(), Fault> {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for space in spaces {
            if !memories.contains_key(space) {
                // Whoever commits while this reads adds to it afterwards: it waits for the lock.
                memories.insert(*space, Memory::read(connection, *space, sketch::words(dims))?);
            }
            if let Some(memory) = memories.get(space) {
                look(memory);
            }
        }
        Ok(())
    }

    /// Adds what was committed, where the memory is here.
    pub(super) fn add(&self, kept: Vec<Kept>) {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Kept { space, row, sketch } in kept {
            if let Some(memory) = memories.get_mut(&space) {
                memory.add(row, sketch.bits.into_iter(), sketch.scale);
            }
        }
    }

    /// Takes out what is not there any more.
    pub(super) fn remove(&self, removed: &[(i64, Row)]) {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (space, row) in removed {
            if let Some(memory) = memories.get_mut(space) {
                memory.remove(*row);
            }
        }
    }

    /// Forgets all, because the file begins anew.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The entries with a vector in the memories, where those are few.
fn few(connection: &Connection, spaces: &[i64]) -> Result<Option<Vec<Row>>, Fault> {
    let mut all = Vec::new();
    let mut statement =
        connection.prepare_cached("SELECT item FROM sketches WHERE space = ?1 LIMIT ?2")?;
    for space in spaces {
        let rows = statement.query_map((space, MORE), |line| line.get::<_, Row>(0))?;
        for row in rows {
            all.push(row?);
        }
        if all.len() > EXACT {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// The product of two vectors, in eight sums at a time, which a compiler turns into wide registers.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
