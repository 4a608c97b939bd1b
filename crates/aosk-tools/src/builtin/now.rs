//! `now`: the time of the call.
//!
//! It is the time that the call came with, which the journal holds, and not a second look at a
//! clock: run again after a crash it may say a later time, replayed it says the same.

use aosk_abi::{Effect, ToolResult};
use aosk_ports::ToolContext;
use serde::Deserialize;
use serde_json::json;

use super::{Builtin, Outcome, Runs, spec};
use crate::failure::failed;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {}

pub fn tool() -> Builtin<Arguments> {
    Builtin {
        spec: spec(
            "now",
            Effect::Pure,
            "Tells the current date and time in UTC, as RFC 3339 text and as seconds since 1970.",
            &json!({}),
            &[],
        ),
        runs: Runs::Here,
        run,
    }
}

fn run(context: &ToolContext, _: Arguments) -> Outcome {
    let seconds = context.now.as_millis() / 1000;
    match i64::try_from(seconds).map(jiff::Timestamp::from_second) {
        Ok(Ok(time)) => Ok(ToolResult::ok(json!({"utc": time.to_string(), "unix": seconds}))),
        _ => Err(failed(
            "clock",
            format!("the clock of this machine says {seconds} seconds since 1970"),
            "go on without the time, and say that the clock is wrong",
        )),
    }
}
