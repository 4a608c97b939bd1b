//! When an endpoint wants to be asked again, in the headers that are about.
//!
//! `retry-after-ms` and `retry-after` say it outright. Where they are missing, the rate-limit headers
//! tell when each limit is whole again: OpenAI's as a duration, Anthropic's as a time, of which only
//! the limits that are used up count. A time is taken relative to the answer's own `date`, so that no
//! clock of ours enters: a laptop whose clock is an hour off would wait an hour or not at all.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use reqwest::header::HeaderMap;

/// The limits of Anthropic's headers.
const LIMITS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// How long to wait, as `headers` say it.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |number: &str| Duration::try_from_secs_f64(number.parse().ok()?).ok();
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let now = text("date").and_then(date);
    let until = |then: SystemTime| Some(then.duration_since(now?).unwrap_or_default());
    if let Some(after) = text("retry-after-ms").and_then(seconds) {
        return Some(after / 1000);
    }
    if let Some(after) = text("retry-after") {
        return seconds(after).or_else(|| until(date(after)?));
    }
    let used_up = LIMITS.into_iter().filter_map(|limit| {
        let of = |what: &str| text(&format!("anthropic-ratelimit-{limit}-{what}"));
        of("remaining").filter(|remaining| *remaining == "0")?;
        until(of("reset")?.parse::<Timestamp>().ok()?.into())
    });
    let resets = ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"];
    resets.into_iter().filter_map(|name| duration(text(name)?)).chain(used_up).max()
}

/// A duration as rate-limit headers write it: `20ms`, `1.5s`, `6m0s`, `1h2m`, `1d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(number_len);
        let unit_len = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit_len);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?;
        total = total.checked_add(part)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().expect("name"), v.parse().expect("value"))).collect()
    }

    #[test]
    fn every_form_of_retry_header_is_read() {
        let ms = |pairs: &[_]| retry_after(&headers(pairs)).map(|d| d.as_millis());
        assert_eq!(ms(&[]), None);
        assert_eq!(ms(&[("retry-after", "2")]), Some(2_000));
        assert_eq!(ms(&[("retry-after", "0.25")]), Some(250));
        assert_eq!(ms(&[("retry-after-ms", "1500"), ("retry-after", "2")]), Some(1_500));
        let until = ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(ms(&[until, ("date", "Sun, 06 Nov 1994 08:49:07 GMT")]), Some(30_000));
        assert_eq!(ms(&[until, ("date", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(0));
        assert_eq!(ms(&[until]), None);
        assert_eq!(ms(&[("x-ratelimit-reset-tokens", "6m0s")]), Some(360_000));
        let both = [("x-ratelimit-reset-requests", "20ms"), ("x-ratelimit-reset-tokens", "1.5s")];
        assert_eq!(ms(&both), Some(1_500));
        for nonsense in ["-1", "NaN", "soon", "1e300", ""] {
            assert_eq!(ms(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
        for nonsense in ["", "s", "1", "1x", "1.2.3s", "1e3s"] {
            assert_eq!(ms(&[("x-ratelimit-reset-requests", nonsense)]), None, "{nonsense}");
        }
        assert_eq!(ms(&[("x-ratelimit-reset-requests", "1h1m1s1ms")]), Some(3_661_001));
    }

    #[test]
    fn the_latest_of_the_limits_that_are_used_up_decides() {
        let now = ("date", "Sun, 06 Nov 1994 08:49:07 GMT");
        let limits = |requests: &'static str, input: &'static str| {
            [
                now,
                ("anthropic-ratelimit-requests-remaining", requests),
                ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:27Z"),
                ("anthropic-ratelimit-input-tokens-remaining", input),
                ("anthropic-ratelimit-input-tokens-reset", "1994-11-06T08:50:07Z"),
            ]
        };
        let after = |pairs: &[_]| retry_after(&headers(pairs)).map(|after| after.as_secs());
        assert_eq!(after(&limits("0", "0")), Some(60));
        assert_eq!(after(&limits("0", "1")), Some(20));
        assert_eq!(after(&limits("1", "1")), None);
        // Without the server's own date there is nothing to relate a time to.
        assert_eq!(after(&limits("0", "0")[1..]), None);
        let outright = [&limits("0", "0")[..], &[("retry-after", "7")]].concat();
        assert_eq!(after(&outright), Some(7));
        let nonsense = [now, limits("0", "0")[1], ("anthropic-ratelimit-requests-reset", "soon")];
        assert_eq!(after(&nonsense), None);
    }
}
