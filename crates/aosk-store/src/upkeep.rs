//! What a store needs now and then, done by whoever works on it.
//!
//! Old processes are [removed](fn@crate::prune), if they are to be, and contents that nothing names
//! [collected](crate::collect). Of many nodes one does so at a time: whoever finds that the last began long
//! enough ago puts its own moment in that place, in one statement, and begins. One that is killed in the
//! middle loses nothing; the next begins after the same time.
//!
//! A collection reads every journal. Here it rests four times as long as it reads, so that it takes a fifth
//! of one core and of the disk, and it takes part in no transaction of a step but for the deletion itself.

use std::time::Duration;

use aosk_abi::Timestamp;
use aosk_ports::StoreError;

use crate::copy::{Collected, Pace, StorePlace, collect_at};
use crate::prune::{Removal, Retention, prune};

/// What one turn did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upkeep {
    /// Which processes were removed.
    pub removed: Removal,
    /// Which contents.
    pub collected: Collected,
}

/// Looks after a store, unless that was begun less than `every` ago by anyone: then the answer is `None`. `at`
/// and `by` stand in the records of what is removed. Blocks, for as long as five readings of the store
/// take; it must not be called on a thread that drives futures.
///
/// # Errors
/// As [`prune`] and [`collect`](crate::collect).
pub fn upkeep(
    place: &StorePlace,
    every: Duration,
    rule: &Retention,
    (at, by): (Timestamp, &str),
) -> Result<Option<Upkeep>, StoreError> {
    if !place.sweep()?.take_turn(every)? {
        return Ok(None);
    }
    let removed = prune(place, rule, (at, by), false)?;
    let collected = collect_at(place, false, Pace::Low)?;
    Ok(Some(Upkeep { removed, collected }))
}
