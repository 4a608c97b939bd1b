//! Cassettes: recorded replies as NDJSON, one line a call, behind a line about the device.
//!
//! A line is found by the hash of the prompt that it answers, not by its place: agents that run at
//! once ask in another order every time. The same prompt asked twice has two lines, played in
//! their order. Prompts themselves are not recorded; the device's line holds what their bytes
//! depend on besides the request (the dialect and which thoughts go back), so that playing renders the
//! same hashes.

use std::time::Duration;

use aosk_abi::{CacheRules, Code, FailureKind, Hash, MicroDollars, StopReason, Tokens, Usage};
use aosk_ports::{CallError, DeviceInfo, Part, Prices, Reply};
use serde::{Deserialize, Serialize};

use crate::quirks::Quirks;
use crate::speech::Speech;
use crate::table::Dialect;

/// The version of the format.
const VERSION: u32 = 1;

/// What a device answered.
pub(crate) type Outcome = Result<Reply, CallError>;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    cassette: u32,
    name: String,
    model: String,
    window: Tokens,
    max_output: Tokens,
    /// Fresh, cached, cache-writing input and output, as [`Prices`] has them.
    prices: [MicroDollars; 4],
    /// Input that is written to be kept long; absent where that costs what all writing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_write_long: Option<MicroDollars>,
    slots: usize,
    echo: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unsigned_thinking: bool,
    #[serde(default, skip_serializing_if = "is_openai")]
    pub dialect: Dialect,
}

/// What a header without a dialect means.
fn is_openai(dialect: &Dialect) -> bool {
    *dialect == Dialect::Openai
}

impl Header {
    pub fn new(info: &DeviceInfo, speech: &Speech) -> Self {
        let Prices { input, cached, cache_write, cache_write_long, output } = info.prices;
        Self {
            cassette: VERSION,
            name: info.name.clone(),
            model: info.model.clone(),
            window: info.window,
            max_output: info.max_output,
            prices: [input, cached, cache_write, output],
            cache_write_long: Some(cache_write_long).filter(|price| *price != cache_write),
            slots: info.slots,
            echo: speech.quirks.echo.clone(),
            unsigned_thinking: speech.quirks.unsigned_thinking,
            dialect: speech.dialect,
        }
    }

    pub fn read(line: &str) -> Result<Self, String> {
        let header: Self = serde_json::from_str(line)
            .map_err(|problem| format!("the first line does not describe a device: {problem}"))?;
        if header.cassette != VERSION {
            return Err(format!(
                "it has version {}; this program reads version {VERSION}: record it anew",
                header.cassette
            ));
        }
        if header.slots == 0 {
            return Err("`slots` is 0: give at least 1".to_owned());
        }
        Ok(header)
    }

    /// What the prompt's bytes depend on.
    pub fn quirks(&self) -> Quirks {
        Quirks {
            echo: self.echo.clone(),
            unsigned_thinking: self.unsigned_thinking,
            ..Quirks::default()
        }
    }

    pub fn info(&self) -> DeviceInfo {
        let [input, cached, cache_write, output] = self.prices;
        DeviceInfo {
            name: self.name.clone(),
            model: self.model.clone(),
            window: self.window,
            max_output: self.max_output,
            prices: Prices {
                input,
                cached,
                cache_write,
                cache_write_long: self.cache_write_long.unwrap_or(cache_write),
                output,
            },
            slots: self.slots,
            cache: CacheRules::default(),
        }
    }
}

/// A further line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: Hash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<ReplyLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorLine>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyLine {
    parts: Vec<PartLine>,
    stop: StopReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    model: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum PartLine {
    Text { text: String },
    Opaque { format: String, text: String },
    ToolCall { id: String, name: String, arguments: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorLine {
    kind: FailureKind,
    code: String,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// The line of a call, with its line end.
pub(crate) fn write_line(prompt: Hash, outcome: &Outcome) -> Result<String, String> {
    let mut line = Line { prompt, reply: None, error: None };
    match outcome {
        Ok(reply) => {
            let parts = reply.parts.iter().map(write_part).collect::<Result<_, _>>()?;
            line.reply = Some(ReplyLine {
                parts,
                stop: reply.stop,
                usage: reply.usage,
                model: reply.model.clone(),
            });
        }
        Err(error) => {
            line.error = Some(ErrorLine {
                kind: error.kind,
                code: error.code.as_str().to_owned(),
                message: error.message.clone(),
                retry_after_ms: error
                    .retry_after
                    .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
                usage: error.usage,
            });
        }
    }
    let mut text = serde_json::to_string(&line).map_err(|problem| problem.to_string())?;
    text.push('\n');
    Ok(text)
}

fn write_part(part: &Part) -> Result<PartLine, String> {
    Ok(match part {
        Part::Text(text) => PartLine::Text { text: text.to_string() },
        Part::Opaque { format, bytes } => PartLine::Opaque {
            format: format.to_string(),
            text: String::from_utf8(bytes.to_vec())
                .map_err(|_| format!("an opaque block of format {format:?} is not UTF-8"))?,
        },
        Part::ToolCall { id, name, arguments } => PartLine::ToolCall {
            id: id.to_string(),
            name: name.to_string(),
            arguments: arguments.to_string(),
        },
        Part::ToolResult { .. } => return Err("a reply holds a tool result".to_owned()),
    })
}

/// The call that a line tells of.
pub(crate) fn read_line(line: &str) -> Result<(Hash, Outcome), String> {
    let line: Line = serde_json::from_str(line).map_err(|problem| problem.to_string())?;
    let outcome = match (line.reply, line.error) {
        (Some(reply), None) => Ok(Reply {
            parts: reply.parts.into_iter().map(read_part).collect(),
            stop: reply.stop,
            usage: reply.usage,
            model: reply.model,
            raw: None,
        }),
        (None, Some(error)) => Err(CallError {
            kind: error.kind,
            code: Code::ALL
                .iter()
                .copied()
                .find(|code| code.as_str() == error.code)
                .ok_or_else(|| format!("no error code is called {:?}", error.code))?,
            message: error.message,
            retry_after: error.retry_after_ms.map(Duration::from_millis),
            usage: error.usage,
        }),
        _ => return Err("give one of `reply` and `error`".to_owned()),
    };
    Ok((line.prompt, outcome))
}

fn read_part(part: PartLine) -> Part {
    match part {
        PartLine::Text { text } => Part::Text(text.into()),
        PartLine::Opaque { format, text } => {
            Part::Opaque { format: format.into(), bytes: text.into_bytes().into() }
        }
        PartLine::ToolCall { id, name, arguments } => {
            Part::ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
        }
    }
}
