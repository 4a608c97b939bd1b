//! Moments as people write them.

use std::time::Duration;

use aosk_abi::Timestamp;

/// A moment: `2026-11-23T09:30:00Z` or with another offset, `2026-11-23T09:30` or `2026-11-23` in
/// the time of this machine, or how long ago: `90s`, `15m`, `2h`, `3d`.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    at(text, jiff::Timestamp::now(), &jiff::tz::TimeZone::system())
}

/// `now` and `zone` are what words without an offset are relative to.
fn at(text: &str, now: jiff::Timestamp, zone: &jiff::tz::TimeZone) -> Result<Timestamp, String> {
    let unknown = || {
        format!(
            "{text:?} is no moment: write 2026-11-23T09:30:00Z, 2026-11-23T09:30 or 2026-11-23 in \
             local time, or how long ago: 90s, 15m, 2h, 3d"
        )
    };
    let found = if let Some(ago) = span(text) {
        now.checked_sub(ago).map_err(|_| unknown())?
    } else if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        moment
    } else {
        let local: jiff::civil::DateTime = text.parse().map_err(|_| unknown())?;
        local.to_zoned(zone.clone()).map_err(|_| unknown())?.timestamp()
    };
    u64::try_from(found.as_millisecond())
        .map(Timestamp::from_millis)
        .map_err(|_| format!("{text:?} is before 1970: nothing happened then"))
}

/// A number with a unit: `90s`, `15m`, `2h`, `3d`.
pub(crate) fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Result<u64, String> {
        let now = jiff::Timestamp::from_millisecond(1_790_000_000_000).expect("a moment");
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        at(text, now, &zone).map(Timestamp::as_millis)
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        for (text, expected) in [
            ("0s", 1_790_000_000_000),
            ("90s", 1_789_999_910_000),
            ("15m", 1_789_999_100_000),
            ("2h", 1_789_992_800_000),
            ("3d", 1_789_740_800_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-23T09:30:00.25Z", 1_795_426_200_250),
            ("2026-11-23T11:30:00+02:00", 1_795_426_200_000),
            ("2026-11-23T11:30", 1_795_426_200_000),
            ("2026-11-23 11:30", 1_795_426_200_000),
            ("2026-11-23", 1_795_384_800_000),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_said_to_be_none() {
        for text in ["", "m", "-5m", "5", "5w", "é", "yesterday", "2026-13-01", "99999999999d"] {
            assert!(millis(text).is_err_and(|said| said.contains("is no moment")), "{text}");
        }
        for text in ["1969-12-31T23:59:59Z", "40000d"] {
            assert!(millis(text).is_err_and(|said| said.contains("1970")), "{text}");
        }
    }
}
