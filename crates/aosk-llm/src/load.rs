//! What a server says of its load: llama.cpp's `GET /slots` and `GET /metrics`, vLLM's `GET /metrics`.
//!
//! Both are asked at once and either may be missing: llama.cpp has `/slots` unless it is turned off and
//! `/metrics` only where it is turned on, vLLM has no slots. A server that runs several engines tells of
//! each; they are added up. Two seconds bound the whole, because what comes later is no longer how it
//! stands, and because a server that is so busy has said enough.

use std::time::Duration;

use aosk_ports::ServerLoad;
use reqwest::Method;
use serde::Deserialize;
use tokio::time::timeout;

use crate::http::Http;

/// How long a server may take to tell.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most bytes of an answer that are read. vLLM's is about 60 kB, the slots of llama.cpp 3 kB each.
const MOST: usize = 4 << 20;

/// Counts above this are no counts: a float does not tell it from the next one.
const GREATEST: f64 = 9_007_199_254_740_992.0;

/// Asks the server; `None` where it told nothing.
pub(crate) async fn ask(http: &Http) -> Option<ServerLoad> {
    let asked = async { futures::future::join(get(http, "slots"), get(http, "metrics")).await };
    let (slots, metrics) = timeout(PATIENCE, asked).await.ok()?;
    let load = read(slots.as_deref(), metrics.as_deref());
    (load != ServerLoad::default()).then_some(load)
}

async fn get(http: &Http, path: &str) -> Option<String> {
    let mut http = http.clone();
    http.options.max_reply = MOST;
    let incoming = http.send(Method::GET, &http.endpoint.at_root(path), &[], None).await.ok()?;
    if incoming.status != 200 {
        return None;
    }
    let raw = incoming.body.read_all().await.ok()?;
    Some(String::from_utf8_lossy(&raw).into_owned())
}

/// Reads both answers, as far as they are there and make sense.
fn read(slots: Option<&str>, metrics: Option<&str>) -> ServerLoad {
    let mut load = metrics.map(of_metrics).unwrap_or_default();
    let slots: Option<Vec<Slot>> = slots.and_then(|text| serde_json::from_str(text).ok());
    if let Some(slots) = slots.filter(|slots| !slots.is_empty()) {
        let running = slots.iter().filter(|slot| slot.is_processing);
        // Added so that nonsense of a server's stays what it says and is no panic.
        let held = running.clone().map(|slot| u128::from(slot.n_prompt_tokens.min(slot.n_ctx)));
        let held: u128 = held.sum();
        let room: u128 = slots.iter().map(|slot| u128::from(slot.n_ctx)).sum();
        load.slots = Some(slots.len() as u64);
        load.running = Some(running.count() as u64);
        if room > 0 {
            load.kv_tokens = Some(u64::try_from(room).unwrap_or(u64::MAX));
            load.kv_used_milli = u64::try_from(held * 1_000 / room).ok();
        }
    }
    load
}

/// A slot of llama.cpp.
#[derive(Deserialize)]
struct Slot {
    /// Its window.
    n_ctx: u64,
    is_processing: bool,
    /// The tokens that it holds, those that were written included.
    #[serde(default)]
    n_prompt_tokens: u64,
}

/// Reads Prometheus' text format.
fn of_metrics(text: &str) -> ServerLoad {
    let mut load = ServerLoad::default();
    let (mut shares, mut engines) = (0.0, 0_u32);
    for sample in text.lines().filter_map(Sample::read) {
        let total = match sample.name {
            "vllm:num_requests_running" | "llamacpp:requests_processing" => &mut load.running,
            "vllm:num_requests_waiting" | "llamacpp:requests_deferred" => &mut load.waiting,
            "vllm:prompt_tokens_total" | "llamacpp:prompt_tokens_total" => &mut load.read,
            "vllm:generation_tokens_total" | "llamacpp:tokens_predicted_total" => &mut load.written,
            // The second is what it was called before.
            "vllm:kv_cache_usage_perc" | "vllm:gpu_cache_usage_perc" => {
                if (0.0..=1.0).contains(&sample.value) {
                    shares += sample.value;
                    engines += 1;
                }
                continue;
            }
            "vllm:cache_config_info" => {
                let number = |label| sample.label(label)?.parse::<u64>().ok();
                let blocks = number("num_gpu_blocks").zip(number("block_size"));
                if let Some((blocks, size)) = blocks {
                    let tokens = blocks.saturating_mul(size);
                    load.kv_tokens = Some(load.kv_tokens.unwrap_or(0).saturating_add(tokens));
                }
                continue;
            }
            _ => continue,
        };
        if let Some(count) = count(sample.value) {
            *total = Some(total.unwrap_or(0).saturating_add(count));
        }
    }
    if engines > 0 {
        load.kv_used_milli = count((shares * 1_000.0 / f64::from(engines)).round());
    }
    load
}

/// A number that can be one of calls or tokens.
fn count(value: f64) -> Option<u64> {
    // Whole by the cast: a count is, and a gauge's fraction says nothing.
    (0.0..=GREATEST).contains(&value).then_some(value as u64)
}

/// A line of the text format: `name{label="text",...} value`, perhaps with a time behind it.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => {
                let end = end_of_labels(rest)?;
                (&rest[..end], &rest[end + 1..])
            }
            None => ("", rest),
        };
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self { name, labels, value })
    }

    /// The text of a label that holds no quote.
    fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        loop {
            let (label, value) = rest.split_once("=\"")?;
            let end = end_of_text(value)?;
            if label.trim_start_matches([',', ' ']) == name {
                return Some(&value[..end]);
            }
            rest = &value[end + 1..];
        }
    }
}

/// Where the closing brace stands, outside of quotes.
fn end_of_labels(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + text[at..].find(['}', '"'])?;
        if text[next..].starts_with('}') {
            return Some(next);
        }
        at = next + 1 + end_of_text(&text[next + 1..])? + 1;
    }
}

/// Where the closing quote stands. One behind a backslash is no end.
fn end_of_text(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_that_run_hold_room_and_those_that_only_remember_do_not() {
        let slots = r#"[{"id":0,"n_ctx":8192,"is_processing":true,"n_prompt_tokens":4096},
            {"id":1,"n_ctx":8192,"is_processing":false,"n_prompt_tokens":8000},
            {"id":2,"n_ctx":8192,"is_processing":true,"n_prompt_tokens":99999},
            {"id":3,"n_ctx":8192,"is_processing":false}]"#;
        let load = read(Some(slots), None);
        assert_eq!((load.slots, load.running), (Some(4), Some(2)));
        // Half a slot and a whole one, of four.
        assert_eq!((load.kv_tokens, load.kv_used_milli), (Some(32_768), Some(375)));
    }

    #[test]
    fn slots_larger_than_any_memory_are_no_panic() {
        let slot = |busy| {
            let n = u64::MAX;
            format!(r#"{{"n_ctx":{n},"is_processing":{busy},"n_prompt_tokens":{n}}}"#)
        };
        let load = read(Some(&format!("[{},{}]", slot(true), slot(false))), None);
        assert_eq!((load.kv_tokens, load.kv_used_milli), (Some(u64::MAX), Some(500)));
    }

    #[test]
    fn engines_of_one_server_are_added_up_and_the_older_name_is_known() {
        let text = "vllm:num_requests_running{engine=\"0\"} 3.0\n\
                    vllm:num_requests_running{engine=\"1\"} 4.0 1700000000000\n\
                    vllm:gpu_cache_usage_perc{engine=\"0\"} 0.25\n\
                    vllm:gpu_cache_usage_perc{engine=\"1\"} 0.75\n\
                    vllm:cache_config_info{block_size=\"16\",note=\"a } and \\\" \",num_gpu_blocks=\"100\"} 1.0\n\
                    vllm:cache_config_info{num_gpu_blocks=\"200\",block_size=\"16\"} 1.0\n";
        let load = read(None, Some(text));
        assert_eq!((load.running, load.kv_used_milli), (Some(7), Some(500)));
        assert_eq!(load.kv_tokens, Some(4_800));
        assert_eq!((load.slots, load.waiting, load.written), (None, None, None));
    }

    #[test]
    fn what_cannot_be_is_left_out() {
        let text = "vllm:num_requests_running -1\nvllm:num_requests_waiting NaN\n\
                    vllm:kv_cache_usage_perc 1.01\nvllm:generation_tokens_total +Inf\n\
                    vllm:prompt_tokens_total 1e300\nvllm:cache_config_info{block_size=\"None\"} 1\n\
                    vllm:num_requests_running{open 3\nvllm:num_requests_waiting\n}{ 3";
        assert_eq!(read(Some("{}"), Some(text)), ServerLoad::default());
        assert_eq!(read(Some("[]"), Some("<html>")), ServerLoad::default());
        let of = |value| of_metrics(&format!("llamacpp:requests_deferred {value}")).waiting;
        assert_eq!(of("9007199254740992"), Some(1 << 53));
        assert_eq!(of("9007199254740994"), None);
        assert_eq!([of("-0.0"), of("0"), of("-0.1")], [Some(0), Some(0), None]);
    }

    proptest! {
        #[test]
        fn no_answer_is_a_panic(text in "(vllm:cache_config_info|llamacpp:requests_deferred|[a-z]{0,3})[{}\"\\\\=, a-z0-9é.\n#-]{0,60}") {
            let load = read(Some(&text), Some(&text));
            prop_assert!(load.kv_used_milli.is_none_or(|share| share <= 1_000));
        }
    }
}
