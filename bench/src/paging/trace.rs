//! Runs of agents as accesses to pages: `{"prefix", "steps": [{"new", "need", "loose", "dt"}]}`, a
//! run a line. Keys that are not read here may stand beside them.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::lines;
use crate::report::Failure;

/// The model says this much to ask for a page.
pub const REQUEST: u64 = 60;

#[derive(Debug, Deserialize)]
struct RawRun {
    #[serde(default)]
    id: String,
    prefix: u64,
    steps: Vec<RawStep>,
}

#[derive(Debug, Deserialize)]
struct RawStep {
    new: Vec<(u64, u64, Kind)>,
    need: Vec<Vec<u64>>,
    #[serde(default)]
    loose: Vec<Vec<u64>>,
    #[serde(default)]
    dt: f64,
}

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Task,
    User,
    Asst,
    Tool,
}

/// A page; its number is its place among those of its run.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub tokens: u64,
    pub kind: Kind,
}

/// One call of the model.
#[derive(Debug, Clone)]
pub struct Step {
    /// The pages that come with it: from the first, up to the second.
    pub new: (usize, usize),
    /// What its output refers to: of each set any one page suffices.
    pub needs: Vec<Vec<usize>>,
    /// Seconds since the call before.
    pub gap: f64,
}

/// One run of an agent.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: String,
    /// The tokens of the pinned head.
    pub head: u64,
    pub pages: Vec<Page>,
    pub steps: Vec<Step>,
}

impl Run {
    /// The tokens of the pages from one number up to another.
    pub fn tokens(&self, (from, to): (usize, usize)) -> u64 {
        self.pages[from..to].iter().map(|page| page.tokens).sum()
    }

    /// Everything that the run ever had.
    pub fn whole(&self) -> u64 {
        self.head + self.tokens((0, self.pages.len()))
    }

    /// Which half of the runs it belongs to, by the FNV-1a hash of its id: 0 or 1.
    pub fn half(&self) -> u8 {
        let hash = self.id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        u8::from(hash & (1 << 32) != 0)
    }
}

/// Reads a file of runs.
pub fn read(path: &Path) -> Result<Vec<Run>, Failure> {
    lines::read(path)?
        .into_iter()
        .map(|(line, raw)| {
            run(raw).map_err(|wrong| format!("{}, line {line}: {wrong}", path.display()).into())
        })
        .collect()
}

fn run(raw: RawRun) -> Result<Run, String> {
    let mut numbers = HashMap::new();
    let mut run = Run { id: raw.id, head: raw.prefix, pages: Vec::new(), steps: Vec::new() };
    let mut whole = raw.prefix;
    for (at, step) in raw.steps.into_iter().enumerate() {
        let first = run.pages.len();
        if !(step.dt.is_finite() && step.dt >= 0.0) {
            return Err(format!("step {at} comes {} seconds after the one before", step.dt));
        }
        for (id, tokens, kind) in step.new {
            if numbers.insert(id, run.pages.len()).is_some() {
                return Err(format!("page {id} comes a second time, with step {at}"));
            }
            whole = whole
                .checked_add(tokens)
                .filter(|whole| *whole <= u64::from(u32::MAX))
                .ok_or_else(|| format!("the run has more than 2^32 tokens at page {id}"))?;
            run.pages.push(Page { tokens, kind });
        }
        let refers = |set: Vec<u64>| {
            if set.is_empty() {
                return Err(format!("step {at} refers to a page of an empty set"));
            }
            set.into_iter()
                .map(|id| numbers.get(&id).copied().ok_or((at, id)))
                .collect::<Result<Vec<usize>, _>>()
                .map_err(|(at, id)| {
                    format!("step {at} refers to page {id}, which is not there yet")
                })
        };
        let needs: Vec<Vec<usize>> =
            step.need.into_iter().chain(step.loose).map(refers).collect::<Result<_, _>>()?;
        run.steps.push(Step { new: (first, run.pages.len()), needs, gap: step.dt });
    }
    Ok(run)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn parse(line: &str) -> Result<Run, String> {
        run(serde_json::from_str(line).map_err(|error| error.to_string())?)
    }

    #[test]
    fn both_formats_are_read() {
        let access = parse(
            r#"{"prefix":5,"id":"a","steps":[{"new":[[7,10,"task"]],"need":[],"loose":[],"hint":[]},
            {"new":[[9,3,"asst"]],"need":[[7]],"loose":[[7]],"hint":[[7,1.5]]}]}"#,
        )
        .expect("a run");
        assert_eq!((access.whole(), access.steps[1].needs.len()), (18, 2));
        let paging = parse(
            r#"{"id":"b","prefix":5,"steps":[{"new":[[0,10,"tool"]],"need":[],"dt":0.0,"out":4}]}"#,
        );
        assert!(paging.is_ok());
    }

    #[test]
    fn a_broken_line_is_named_with_what_is_wrong() {
        for (line, part) in [
            (r#"{"prefix":-1,"steps":[]}"#, "-1"),
            (r#"{"prefix":1}"#, "steps"),
            (r#"{"prefix":1,"steps":[{"new":[[0,1,"dog"]],"need":[]}]}"#, "dog"),
            (r#"{"prefix":1,"steps":[{"new":[],"need":[[3]]}]}"#, "page 3"),
            (r#"{"prefix":1,"steps":[{"new":[],"need":[[]]}]}"#, "empty set"),
            (r#"{"prefix":1,"steps":[{"new":[[0,1,"user"],[0,1,"user"]],"need":[]}]}"#, "second"),
            (r#"{"prefix":1,"steps":[{"new":[],"need":[],"dt":-2}]}"#, "-2"),
            (r#"{"prefix":1,"steps":[{"new":[[0,99999999999,"user"]],"need":[]}]}"#, "2^32"),
        ] {
            let wrong = parse(line).expect_err(line);
            assert!(wrong.contains(part), "{wrong}");
        }
    }
}
