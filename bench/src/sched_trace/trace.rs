//! Traces: requests with arrival and sizes, and which of them belong together.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use crate::report::Failure;

/// Requests of which each continues the prompt of the one before.
#[derive(Debug, Clone, Default)]
pub struct Program {
    pub calls: Vec<Call>,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Microseconds since the first request of the trace.
    pub at: u64,
    /// Tokens.
    pub input: u64,
    pub output: u64,
}

#[derive(Deserialize)]
struct Line {
    /// Milliseconds.
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    /// A hash of each prefix of whole blocks, the last one of what is left.
    hash_ids: Vec<u64>,
}

/// Reads a trace.
pub fn read(path: &Path) -> Result<Vec<Program>, Failure> {
    let failed = |error: std::io::Error| {
        let shown = path.display();
        format!("{shown}: {error}: give a trace of requests with --trace")
    };
    let mut bytes = std::fs::read(path).map_err(failed)?;
    let name = path.to_string_lossy();
    let name = match name.strip_suffix(".zst") {
        Some(name) => {
            let mut plain = Vec::new();
            let mut decoder = zstd::Decoder::new(bytes.as_slice()).map_err(failed)?;
            decoder.read_to_end(&mut plain).map_err(failed)?;
            bytes = plain;
            name
        }
        None => &name,
    };
    let text = String::from_utf8(bytes).map_err(|error| format!("{name}: {error}"))?;
    let programs = if name.ends_with(".csv") { rows(&text) } else { lines(&text) };
    let programs = programs.map_err(|error| format!("{name}: {error}"))?;
    if programs.is_empty() {
        return Err(format!("{name}: there is no request in it").into());
    }
    Ok(programs)
}

/// A request continues the latest whose prompt, but for its last and partial block, is a prefix of
/// its own; the first block is the same for all and joins nothing.
fn lines(text: &str) -> Result<Vec<Program>, Failure> {
    let mut programs: Vec<Program> = Vec::new();
    let mut ends: HashMap<Vec<u64>, usize> = HashMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line)?;
        let blocks = line.hash_ids;
        let known = (2..=blocks.len()).rev().find_map(|length| ends.remove(&blocks[..length]));
        let number = known.unwrap_or(programs.len());
        if number == programs.len() {
            programs.push(Program::default());
        }
        let (input, output) = (line.input_length, line.output_length);
        programs[number].calls.push(Call { at: line.timestamp * 1_000, input, output });
        let whole = if blocks.len() > 2 { blocks.len() - 1 } else { blocks.len() };
        ends.insert(blocks[..whole].to_vec(), number);
    }
    Ok(programs)
}

/// Rows of `2023-11-16 18:15:46.6805900,input,output`; each is a program.
fn rows(text: &str) -> Result<Vec<Program>, Failure> {
    let mut programs = Vec::new();
    let mut first = None;
    for row in text.lines().skip(1).filter(|row| !row.trim().is_empty()) {
        let bad = || format!("{row:?} is not a date and time, input and output");
        let mut fields = row.trim().split(',');
        let mut field = || fields.next().ok_or_else(bad);
        let (time, input, output) = (field()?, field()?.parse()?, field()?.parse()?);
        let (_, clock) = time.split_once(' ').ok_or_else(bad)?;
        let parts: Result<Vec<f64>, _> = clock.split(':').map(str::parse::<f64>).collect();
        let seconds = parts?.into_iter().fold(0.0, |sum, part| sum * 60.0 + part);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of a day")]
        let at = (seconds * 1e6) as u64;
        let start = *first.get_or_insert(at);
        let at = at.checked_sub(start).ok_or("the trace goes past midnight: cut it there")?;
        programs.push(Program { calls: vec![Call { at, input, output }] });
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_continues_the_one_whose_whole_blocks_it_begins_with() {
        let line = |time, blocks| {
            format!(
                "{{\"timestamp\":{time},\"input_length\":9,\"output_length\":1,\"hash_ids\":{blocks}}}\n"
            )
        };
        // The second continues the first, whose block 3 was partial; the third only shares the
        // block that all share.
        let text = line(0, "[0,2,3]") + &line(5, "[0,2,4,5]") + &line(7, "[0,9]");
        let programs = lines(&text).expect("lines");
        let times: Vec<Vec<u64>> = programs
            .iter()
            .map(|program| program.calls.iter().map(|call| call.at).collect())
            .collect();
        assert_eq!(times, [vec![0, 5_000], vec![7_000]]);
    }

    #[test]
    fn what_is_no_trace_is_an_error() {
        assert!(lines("{}").is_err());
        assert!(rows("head\n1,2,3").is_err());
        assert!(
            read(Path::new("/nowhere")).is_err_and(|error| error.to_string().contains("--trace"))
        );
    }
}
