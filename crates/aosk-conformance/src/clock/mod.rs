//! Wall clocks that are wrong.

use std::ffi::OsString;
use std::path::Path;

use crate::shim;

/// The environment in which a program sees a wall clock that is so many seconds ahead, or behind
/// where that is negative. Monotonic clocks stay as they are. What the shim needs is put into
/// `beside`.
///
/// # Panics
/// As [`Power::new`](crate::Power::new).
#[must_use]
pub fn skewed_clock(beside: &Path, seconds: i64) -> [(&'static str, OsString); 2] {
    let shim = shim::build(include_str!("shim.c"), beside, "clock");
    [("LD_PRELOAD", shim.into()), ("AOSK_CLOCK_SKEW", seconds.to_string().into())]
}
