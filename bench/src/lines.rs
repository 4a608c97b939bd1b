//! Traces: JSON, one object a line, compressed with zstd where the name ends in `.zst`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::report::Failure;

/// Every line of the file that is not empty, with its number from 1.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, Failure> {
    let name = path.display();
    let file = File::open(path).map_err(|error| {
        format!(
            "cannot open the trace {name}: {error}. Give the path of a .jsonl or .jsonl.zst file"
        )
    })?;
    let lines: Box<dyn BufRead> = if path.extension().is_some_and(|end| end == "zst") {
        Box::new(BufReader::new(zstd::Decoder::new(file)?))
    } else {
        Box::new(BufReader::new(file))
    };
    let mut rows = Vec::new();
    for (line, number) in lines.lines().zip(1..) {
        let line = line.map_err(|error| format!("{name}, line {number}: {error}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let row = serde_json::from_str(&line)
            .map_err(|error| format!("{name}, line {number}: {error}"))?;
        rows.push((number, row));
    }
    if rows.is_empty() {
        return Err(format!("the trace {name} holds no line").into());
    }
    Ok(rows)
}
