//! What an endpoint says of its limits, in the headers of any answer.
//!
//! OpenAI's dialect tells of requests and of all tokens together, with a duration until all of it is
//! there again; Anthropic's of requests, input and output, with a time. A time counts from the
//! answer's own `date`, as with [`retry_after`](super::retry_after). What cannot be read is left out,
//! and what makes no sense is for the scheduler to ignore.

use std::time::{Duration, SystemTime};

use aosk_ports::{RateLimit, RateLimits};
use jiff::Timestamp;
use reqwest::header::HeaderMap;

use crate::retry_after::duration;

/// The limits that the headers tell of; `None` where they tell of none.
pub(crate) fn rate_limits(headers: &HeaderMap) -> Option<RateLimits> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let now = text("date").and_then(|date| httpdate::parse_http_date(date).ok());
    let until = |time: &str| -> Option<Duration> {
        let then: SystemTime = time.parse::<Timestamp>().ok()?.into();
        Some(then.duration_since(now?).unwrap_or_default())
    };
    let openai = |what: &str| {
        let of = |part: &str| text(&format!("x-ratelimit-{part}-{what}"));
        RateLimit {
            limit: of("limit").and_then(|number| number.parse().ok()),
            remaining: of("remaining").and_then(|number| number.parse().ok()),
            resets_in: of("reset").and_then(duration),
        }
    };
    let anthropic = |what: &str| {
        let of = |part: &str| text(&format!("anthropic-ratelimit-{what}-{part}"));
        RateLimit {
            limit: of("limit").and_then(|number| number.parse().ok()),
            remaining: of("remaining").and_then(|number| number.parse().ok()),
            resets_in: of("reset").and_then(until),
        }
    };
    let first = |said: [RateLimit; 2]| {
        let is_said = |it: &RateLimit| *it != RateLimit::default();
        said.into_iter().find(is_said).unwrap_or_default()
    };
    let limits = RateLimits {
        requests: first([openai("requests"), anthropic("requests")]),
        input: first([openai("tokens"), anthropic("input-tokens")]),
        output: anthropic("output-tokens"),
    };
    (limits != RateLimits::default()).then_some(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().expect("name"), v.parse().expect("value"))).collect()
    }

    fn limit(limit: i64, remaining: i64, seconds: u64) -> RateLimit {
        RateLimit {
            limit: Some(limit),
            remaining: Some(remaining),
            resets_in: Some(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn the_headers_of_both_dialects_are_read() {
        let openai = headers(&[
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-remaining-requests", "4999"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "160000"),
            ("x-ratelimit-remaining-tokens", "-1"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        let said = rate_limits(&openai).expect("said");
        assert_eq!(said.requests, limit(5_000, 4_999, 1));
        assert_eq!(said.input, limit(160_000, -1, 360));
        assert_eq!(said.output, RateLimit::default());
        let anthropic = headers(&[
            ("date", "Sun, 06 Nov 1994 08:49:07 GMT"),
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:27Z"),
            ("anthropic-ratelimit-input-tokens-limit", "30000"),
            ("anthropic-ratelimit-input-tokens-remaining", "20000"),
            ("anthropic-ratelimit-input-tokens-reset", "1994-11-06T08:50:07Z"),
            ("anthropic-ratelimit-output-tokens-limit", "8000"),
            ("anthropic-ratelimit-output-tokens-remaining", "8000"),
            ("anthropic-ratelimit-output-tokens-reset", "1994-11-06T08:49:07Z"),
        ]);
        let said = rate_limits(&anthropic).expect("said");
        let all = (limit(50, 49, 20), limit(30_000, 20_000, 60), limit(8_000, 8_000, 0));
        assert_eq!((said.requests, said.input, said.output), all);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(rate_limits(&headers(&[("retry-after", "3")])), None);
        let said = rate_limits(&headers(&[
            ("x-ratelimit-limit-requests", "many"),
            ("x-ratelimit-remaining-requests", "3"),
            ("x-ratelimit-reset-requests", "soon"),
        ]));
        let part = RateLimit { remaining: Some(3), ..RateLimit::default() };
        assert_eq!(said.map(|said| said.requests), Some(part));
        // Without the server's own date there is nothing to relate a time to.
        let time = ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:27Z");
        assert_eq!(rate_limits(&headers(&[time])), None);
    }
}
