//! What a daemon does for its store now and then.
//!
//! On a thread of its own, which ends with the program: whatever it is in the middle of is a transaction or
//! can be begun again. Of many daemons on one server the store lets one do it.

use std::time::Duration;

use aosk_abi::{Tenant, Timestamp};
use aosk_kernel::SystemClock;
use aosk_ports::Clock;
use aosk_store::{Indexing, Retention, StorePlace, Upkeep, upkeep};

use crate::config::Settings;
use crate::store;
use crate::wiring::node_label;

/// How often a store is looked after, whoever does: reading all of its journals is worth that little.
const EVERY: Duration = Duration::from_secs(6 * 3600);

/// When a daemon first asks whether that is due: one with nothing to do stays for a minute.
const FIRST: Duration = Duration::from_secs(5);

/// How often it asks again.
const AGAIN: Duration = Duration::from_secs(600);

/// Looks after the store of the settings for as long as the program runs. What it removes leaves
/// the search index as well.
///
/// # Errors
/// Where the system gives no thread.
pub(super) fn begin(settings: &Settings, memory: Indexing) -> std::io::Result<()> {
    let place = store::whole(settings, "aosk daemon upkeep");
    let retention = settings.retention;
    let name = "aosk-upkeep".to_owned();
    std::thread::Builder::new().name(name).spawn(move || {
        std::thread::sleep(FIRST);
        loop {
            turn(&place, retention, &memory);
            std::thread::sleep(AGAIN);
        }
    })?;
    Ok(())
}

/// Looks after the store if that is due.
fn turn(place: &StorePlace, retention: Option<Duration>, memory: &Indexing) {
    let now = SystemClock::new().now();
    let before = |age: Duration| {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(now.as_millis().saturating_sub(age))
    };
    let ended_before = retention.map(before);
    let rule = Retention { tenant: Some(Tenant::local()), ended_before, keep: None };
    let by = node_label(std::process::id(), "aosk daemon");
    match upkeep(place, EVERY, &rule, (now, &by)) {
        Ok(None) => {}
        Ok(Some(Upkeep { removed, collected })) => {
            if removed.processes > 0 {
                memory.sweep();
            }
            tracing::info!(
                removed = removed.processes,
                kept = removed.kept.len(),
                deleted = collected.deleted,
                deleted_bytes = collected.deleted_bytes,
                "the store was looked after"
            );
        }
        Err(error) => tracing::warn!(%error, "the store could not be looked after"),
    }
}
