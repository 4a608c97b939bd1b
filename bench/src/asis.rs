//! `asis`: what recorded sessions cost as they ran, by how long the endpoint's cache lives, beside
//! what they cost where the kernel keeps the cache alive.
//!
//! A session grows at its end and is nowhere changed here; what is chosen is the life of the cache
//! and whether to ask for one more token of a prompt right before it expires, which reads it at the
//! price of a read and keeps it. Nobody knows whether the agent comes back, so that the calls after
//! the end of a session are paid, too. It does not pay: twice in a row at five minutes comes to what
//! an hour costs, and at an hour it costs 2 % more than it saves. What pays is to choose the life for
//! each call: see [`mixed`].

mod mixed;

use std::path::PathBuf;

use aosk_abi::{CacheRules, Timestamp, Tokens};
use aosk_context::{CacheModel, Sent, Terms};
use serde::{Deserialize, Serialize};

use crate::lines;
use crate::report::{Failure, result};

/// What to play.
#[derive(clap::Args)]
pub struct Args {
    /// Sessions, one JSON object a line: .jsonl or .jsonl.zst.
    #[arg(long)]
    trace: PathBuf,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Session {
    #[serde(default)]
    id: String,
    block: u64,
    r: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    /// A sub-agent with requests of its own.
    Sub { sub: Sub },
    /// `[time, type, model, input, output, shared blocks, …]`.
    Call(Vec<serde_json::Value>),
}

#[derive(Deserialize)]
struct Sub {
    r: Vec<Vec<serde_json::Value>>,
}

/// One request of a chain.
#[derive(Clone, Copy)]
struct Call {
    at: Timestamp,
    input: u64,
    output: u64,
    /// The tokens that it shares with the one before.
    shared: u64,
}

/// How long entries live and what writing one costs.
struct Choice {
    policy: &'static str,
    ttl_s: u64,
    write: f64,
    /// How many times in a row the cache is kept alive by a call for one token.
    keep_alive: u64,
}

/// The two lives that one provider sells, and what the kernel makes of them.
const CHOICES: [Choice; 4] = [
    Choice { policy: "pass_through_5min", ttl_s: 300, write: 1.25, keep_alive: 0 },
    Choice { policy: "pass_through_1h", ttl_s: 3_600, write: 2.0, keep_alive: 0 },
    Choice { policy: "keep_alive_5min", ttl_s: 300, write: 1.25, keep_alive: 2 },
    Choice { policy: "keep_alive_1h", ttl_s: 3_600, write: 2.0, keep_alive: 3 },
];

/// How long before its end a cache is kept alive.
const LEAD_S: u64 = 10;

#[derive(Serialize)]
struct Row {
    policy: &'static str,
    /// Absent where it is chosen for each call.
    ttl_s: Option<u64>,
    write: Option<f64>,
    /// In percent of the input of the calls that the agent made.
    hit: f64,
    price: f64,
    price_over_uncached: f64,
    price_over_best_fixed: f64,
    calls: usize,
    /// Calls that only keep the cache alive; they are in the price.
    keep_alives: u64,
    /// Calls that asked for the longer of two lives; absent where none could.
    long: Option<u64>,
}

#[derive(Default)]
struct Sum {
    price: f64,
    uncached: f64,
    cached: f64,
    input: f64,
    calls: usize,
    keep_alives: u64,
    long: u64,
}

/// Plays every session under every choice.
pub fn run(args: &Args) -> Result<(), Failure> {
    let chains = chains(args)?;
    let sums: Vec<Sum> = CHOICES.iter().map(|choice| play(&chains, choice)).collect();
    let fixed = CHOICES.iter().zip(&sums).filter(|(choice, _)| choice.keep_alive == 0);
    let best = fixed.map(|(_, sum)| sum.price).fold(f64::INFINITY, f64::min);
    let mixed = mixed::play(&chains);
    let rows = CHOICES.iter().zip(&sums).map(|(choice, sum)| (Some(choice), sum));
    for (choice, sum) in rows.chain([(None, &mixed)]) {
        let round = |value: f64| (value * 1e4).round() / 1e4;
        let row = Row {
            policy: choice.map_or("life_by_call", |choice| choice.policy),
            ttl_s: choice.map(|choice| choice.ttl_s),
            write: choice.map(|choice| choice.write),
            hit: round(100.0 * sum.cached / sum.input),
            price: sum.price.round(),
            price_over_uncached: round(sum.price / sum.uncached),
            price_over_best_fixed: round(sum.price / best),
            calls: sum.calls,
            keep_alives: sum.keep_alives,
            long: choice.is_none().then_some(sum.long),
        };
        result(&row, args.json)?;
    }
    Ok(())
}

fn play(chains: &[Vec<Call>], choice: &Choice) -> Sum {
    let mut sum = Sum::default();
    let terms = Terms::default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1.25 or 2")]
    let terms = Terms { write: aosk_abi::Ppm((choice.write * 1e6) as u32), ..terms };
    let rules = CacheRules { ttl_ms: Some(choice.ttl_s * 1_000), ..CacheRules::default() };
    let period = (choice.ttl_s - LEAD_S) * 1_000;
    for chain in chains {
        let mut cache = CacheModel::new(rules);
        let mut calls = chain.iter().peekable();
        while let Some(call) = calls.next() {
            let (shared, input, output) =
                (Tokens(call.shared), Tokens(call.input), Tokens(call.output));
            let cached = cache.predict(shared, call.at);
            cache.sent(&Sent { shared, size: input, ..Sent::default() }, call.at);
            sum.price += terms.price(input, cached, output);
            sum.uncached += terms.price(input, input, output)
                + (1.0 - f64::from(terms.read.0) / 1e6) * input.0 as f64;
            sum.cached += cached.0 as f64;
            sum.input += input.0 as f64;
            sum.calls += 1;
            // Nobody knows when the agent comes back, or whether it does.
            let away = calls.peek().map_or(u64::MAX, |next| next.at.millis_since(call.at));
            let times = choice.keep_alive.min(away / period);
            for time in 1..=times {
                let again = Sent { shared: input, size: input, ..Sent::default() };
                cache.sent(&again, call.at.plus_millis(time * period));
            }
            sum.keep_alives += times;
            sum.price += times as f64 * terms.price(input, input, Tokens(1));
        }
    }
    sum
}

fn chains(args: &Args) -> Result<Vec<Vec<Call>>, Failure> {
    let mut chains = Vec::new();
    for (line, session) in lines::read::<Session>(&args.trace)? {
        let wrong = |what: String| {
            format!("{}, line {line} ({}): {what}", args.trace.display(), session.id)
        };
        let mut main = Vec::new();
        for entry in &session.r {
            match entry {
                Entry::Call(fields) => main.push(call(fields, session.block).map_err(wrong)?),
                Entry::Sub { sub } => chains.push(
                    sub.r
                        .iter()
                        .map(|fields| call(fields, session.block))
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(wrong)?,
                ),
            }
        }
        chains.push(main);
    }
    chains.retain(|chain| !chain.is_empty());
    Ok(chains)
}

fn call(fields: &[serde_json::Value], block: u64) -> Result<Call, String> {
    let number = |index: usize, name: &str| {
        fields
            .get(index)
            .and_then(serde_json::Value::as_u64)
            .filter(|number| *number <= u64::from(u32::MAX))
            .ok_or_else(|| format!("field {index} of a request, {name}, is no count below 2^32"))
    };
    let seconds = fields
        .first()
        .and_then(serde_json::Value::as_f64)
        .filter(|seconds| (0.0..1e9).contains(seconds))
        .ok_or("field 0 of a request, its time, is no number of seconds up to 10^9")?;
    let input = number(3, "input")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..10^12")]
    let at = Timestamp::from_millis((seconds * 1_000.0).round() as u64);
    let shared = number(5, "shared blocks")?.saturating_mul(block).min(input);
    Ok(Call { at, input, output: number(4, "output")?, shared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_is_kept_alive_costs_a_read_and_saves_a_write() {
        let at = |seconds: u64, shared| Call {
            at: Timestamp::from_millis(seconds * 1_000),
            input: 1_000,
            output: 0,
            shared,
        };
        let chain = vec![vec![at(0, 0), at(400, 1_000)]];
        let fixed = play(&chain, &CHOICES[0]);
        assert!((fixed.price - 2.0 * 1_250.0).abs() < 1e-6, "{}", fixed.price);
        let kept = play(&chain, &CHOICES[2]);
        // One keep-alive in the gap; after the last call nobody knows that it was the last: two.
        let expected = 1_250.0 + 100.0 + 3.0 * (100.0 + 5.0);
        assert!((kept.price - expected).abs() < 1e-6, "{} not {expected}", kept.price);
        assert_eq!((kept.keep_alives, kept.cached), (3, 1_000.0));
    }

    #[test]
    fn a_request_that_is_none_is_named() {
        let fields =
            |text: &str| serde_json::from_str::<Vec<serde_json::Value>>(text).expect("json");
        assert!(call(&fields(r#"[0.0,"n",0,100,5,1]"#), 64).is_ok());
        for (text, part) in [
            (r#"["now","n",0,100,5,1]"#, "its time"),
            (r#"[0.0,"n",0,-1,5,1]"#, "input"),
            (r#"[0.0,"n",0,100,5]"#, "shared blocks"),
        ] {
            let wrong = call(&fields(text), 64).err().expect(text);
            assert!(wrong.contains(part), "{wrong}");
        }
    }
}
