//! Time as a number of nanoseconds.

use std::time::Duration;

/// 584 years fit; a clock that has run longer stands still.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) const fn duration(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}
