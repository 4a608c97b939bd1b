//! Numbers and times for people.

use aosk_abi::{Timestamp, Tokens, Usage};

/// A count in at most five characters: `999`, `1.2k`, `34k`, `5.6M`.
pub(crate) fn count(number: u64) -> String {
    let scaled = |unit: u64, letter: char| {
        let tenths = number / (unit / 10);
        if tenths < 100 {
            format!("{}.{}{letter}", tenths / 10, tenths % 10)
        } else {
            format!("{}{letter}", tenths / 10)
        }
    };
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => scaled(1_000, 'k'),
        1_000_000..1_000_000_000 => scaled(1_000_000, 'M'),
        _ => scaled(1_000_000_000, 'G'),
    }
}

/// The same of a number that may be below 0.
pub(crate) fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", count(number.unsigned_abs()))
}

/// Tokens as [`count`] does.
pub(crate) fn tokens(tokens: Tokens) -> String {
    count(tokens.0)
}

/// A size in the largest unit of which there is one.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_024 => format!("{number} bytes"),
        1_024..1_048_576 => format!("{} KiB", number >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", number >> 20),
        _ => format!("{} GiB", number >> 30),
    }
}

/// The share of the input that came from the provider's cache, or `-` where there was no input.
pub(crate) fn cached(usage: &Usage) -> String {
    match (usage.cached.0 * 100).checked_div(usage.input.0) {
        Some(percent) => format!("{percent}%"),
        None => "-".to_owned(),
    }
}

/// A duration: `0.4s`, `12s`, `1m02s`, `3h05m`, `2d03h`.
pub(crate) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..10 => format!("{seconds}.{}s", millis % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A moment as the wall clock here shows it, for example `2026-01-31 14:03:22`.
pub(crate) fn moment(at: Timestamp) -> String {
    local(at, "%Y-%m-%d %H:%M:%S")
}

/// The time of day here, with milliseconds.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    local(at, "%H:%M:%S%.3f")
}

fn local(at: Timestamp, format: &str) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string(),
        // Past the year 9999: a journal of a machine whose clock is wrong.
        Err(_) => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_two_digits_at_each_unit() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (9_999, "9.9k"),
            (10_000, "10k"),
            (999_999, "999k"),
            (1_000_000, "1.0M"),
            (12_345_678_901, "12G"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_at_the_edges_of_their_units() {
        for (millis, text) in [
            (0, "0.0s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (59_999, "59s"),
            (60_000, "1m00s"),
            (3_599_999, "59m59s"),
            (3_600_000, "1h00m"),
            (86_400_000, "1d00h"),
        ] {
            assert_eq!(duration(millis), text);
        }
    }

    #[test]
    fn the_cached_share_of_nothing_is_no_number() {
        assert_eq!(cached(&Usage::default()), "-");
        let usage = Usage { input: Tokens(3), cached: Tokens(2), ..Usage::default() };
        assert_eq!(cached(&usage), "66%");
    }

    #[test]
    fn a_clock_beyond_the_calendar_does_no_harm() {
        assert!(moment(Timestamp::from_millis(u64::MAX)).ends_with(" ms"));
        assert_eq!(moment(Timestamp::from_millis(0)).len(), 19);
    }

    #[test]
    fn sizes_below_and_at_each_unit() {
        for (number, text) in [
            (1_023, "1023 bytes"),
            (1_024, "1 KiB"),
            (1_048_575, "1023 KiB"),
            (1_048_576, "1 MiB"),
            (1 << 30, "1 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
