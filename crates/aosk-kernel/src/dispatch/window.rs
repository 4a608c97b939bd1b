//! Windows of budgets: days and months of UTC.
//!
//! UTC, because a budget that several machines share must end for all of them at once, and because a
//! local day has 23 or 25 hours twice a year.

use aosk_abi::{Period, Timestamp};
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The window that `now` lies in: when it began and when it ends. Behind the year 9998 there is no
/// other window any more.
pub(crate) fn window(per: Period, now: Timestamp) -> (Timestamp, Timestamp) {
    let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    let day = TimeZone::UTC.to_datetime(now).date();
    let first = match per {
        Period::Day => day,
        Period::Month => day.first_of_month(),
    };
    let next = match per {
        Period::Day => first.tomorrow(),
        Period::Month => first.last_of_month().tomorrow(),
    };
    (midnight(first), next.map_or(Timestamp::from_millis(u64::MAX), midnight))
}

fn midnight(date: Date) -> Timestamp {
    let zoned = date.to_zoned(TimeZone::UTC);
    let millis = zoned.map_or(i64::MAX, |zoned| zoned.timestamp().as_millisecond());
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_at_the_midnights_of_utc() {
        let at = |text: &str| {
            let time: jiff::Timestamp = text.parse().expect("a time");
            Timestamp::from_millis(u64::try_from(time.as_millisecond()).expect("after 1970"))
        };
        let (first, last) = (at("2028-02-29T00:00:00Z"), at("2028-02-29T23:59:59.999Z"));
        let next = at("2028-03-01T00:00:00Z");
        for now in [first, last] {
            assert_eq!(window(Period::Day, now), (first, next));
            assert_eq!(window(Period::Month, now), (at("2028-02-01T00:00:00Z"), next));
        }
        assert_eq!(window(Period::Month, next), (next, at("2028-04-01T00:00:00Z")));
        assert_eq!(window(Period::Month, at("2027-12-31T12:00:00Z")).1, at("2028-01-01T00:00:00Z"));
        let never = window(Period::Day, Timestamp::from_millis(u64::MAX));
        assert!(never.0 <= never.1);
    }
}
