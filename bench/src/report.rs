//! Where results and explanations go.

use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

/// What benchmarks of made up texts have in common.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// The seed of what is made up.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub json: bool,
}

/// A failure of a benchmark, for the person who started it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Prints a result: one JSON object, one line, on stdout; without `json` as it reads best.
pub fn result<T: Serialize>(row: &T, json: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, row)?;
        writeln!(out)?;
        return Ok(());
    }
    if let serde_json::Value::Object(fields) = serde_json::to_value(row)? {
        let cells: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        writeln!(out, "{}", cells.join("  "))?;
    }
    Ok(())
}

/// Explains something on stderr.
pub fn say(text: &str) {
    // A closed stderr is no reason to stop measuring.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// The value below which `share` of the sorted samples lie, in milliseconds.
pub fn quantile_ms(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=last")]
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).map_or(0.0, |value| (value.as_secs_f64() * 1e6).round() / 1e3)
}

/// The middle of the values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// The processor time that this process has used so far, all threads, in seconds; 0 where the
/// system does not tell. Unlike wall time it does not grow while others use the machine.
pub fn cpu_seconds() -> f64 {
    // Fields 14 and 15 of the line, in hundredths of a second; the name before them may hold
    // spaces but ends with the last parenthesis.
    let line = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = line.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
