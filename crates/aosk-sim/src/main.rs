//! `./x sim`: simulates seeds and shows the first that breaks a promise, shrunk.

use std::io::{self, Write as _};
use std::ops::{ControlFlow, Range};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use aosk_sim::{Flaw, PATIENCE, Report, Scenario, Shrunk, regressions, shrink, simulate, sweep};

const HELP: &str = "\
Simulates whole machines with the real kernel on them, one for each seed, and looks for a broken
promise. Exits with 0 where none was found, with 1 where one was, with 2 where the command is wrong,
with 3 where a seed hangs.
Without --from and --flaw the seeds that once failed go first (regressions.txt).

./x sim [--seeds N] [--from S] [--threads T] [--flaw NAME] [--patience S] [--json]

  --seeds N    how many seeds (1000)
  --from S     the first seed (0)
  --threads T  how many at once (one for each core)
  --flaw NAME  break something on purpose, to see that it is found and how that looks
  --patience S how many seconds of real time a seed may take (60)
  --json       one JSON object on standard output in place of words
";

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);

/// What the command line says.
struct Arguments {
    seeds: Range<u64>,
    threads: usize,
    patience: Duration,
    flaw: Option<Flaw>,
    json: bool,
    /// Whether the seeds that once failed go first.
    regressions: bool,
}

fn main() -> io::Result<ExitCode> {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            io::stdout().write_all(HELP.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(wrong) => {
            writeln!(io::stderr(), "./x sim: {wrong}\n\n{HELP}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let mut run = Run::default();
    let failed = run.all(&arguments)?;
    run.close(&arguments, failed.as_ref())?;
    Ok(if failed.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Arguments {
    /// Reads them; `None` where help is asked for.
    fn read(mut given: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let threads = available_parallelism().map_or(1, usize::from);
        let (mut count, mut from) = (1000, None);
        let (seeds, patience) = (0..0, PATIENCE);
        let mut arguments =
            Self { seeds, threads, patience, flaw: None, json: false, regressions: true };
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--seeds" => count = number(&name, &value()?)?,
                "--from" => from = Some(number(&name, &value()?)?),
                "--threads" => {
                    let threads = number(&name, &value()?)?;
                    arguments.threads = usize::try_from(threads)
                        .ok()
                        .filter(|threads| (1..=1024).contains(threads))
                        .ok_or_else(|| format!("--threads is {threads}: give 1 to 1024"))?;
                }
                "--patience" => {
                    arguments.patience = Duration::from_secs(number(&name, &value()?)?);
                }
                "--flaw" => arguments.flaw = Some(flaw(&value()?)?),
                "--json" => arguments.json = true,
                "-h" | "--help" => return Ok(None),
                other => return Err(format!("there is no argument {other:?}")),
            }
        }
        arguments.regressions = from.is_none() && arguments.flaw.is_none();
        let from = from.unwrap_or(0);
        let end = from.checked_add(count);
        arguments.seeds =
            from..end.ok_or_else(|| format!("--from {from} and --seeds {count} pass 2^64"))?;
        Ok(Some(arguments))
    }

    fn scenario(&self, seed: u64) -> Scenario {
        Scenario { flaw: self.flaw, ..Scenario::of(seed) }
    }
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name} is {text:?}: give a whole number"))
}

fn flaw(name: &str) -> Result<Flaw, String> {
    let names: Vec<_> = Flaw::ALL.iter().map(|flaw| flaw.name()).collect();
    let found = Flaw::ALL.iter().find(|flaw| flaw.name() == name);
    found.copied().ok_or_else(|| format!("there is no flaw {name:?}; one of: {}", names.join(", ")))
}

/// What was done so far.
struct Run {
    began: Instant,
    seeds: u64,
    lives: u64,
    events: u64,
}

impl Default for Run {
    fn default() -> Self {
        Self { began: Instant::now(), seeds: 0, lives: 0, events: 0 }
    }
}

impl Run {
    /// Simulates the regressions and then the seeds; the first that fails, shrunk.
    fn all(&mut self, arguments: &Arguments) -> io::Result<Option<Shrunk>> {
        let once_failed = regressions().map(|(seed, _)| seed);
        let once_failed = once_failed.filter(|_| arguments.regressions);
        let (mut failed, mut said, mut heard) = (None, Instant::now(), Ok(()));
        sweep(
            once_failed.chain(arguments.seeds.clone()),
            arguments.threads,
            arguments.patience,
            |seed| simulate(seed, &arguments.scenario(seed)),
            |report| {
                self.count(&report);
                if !report.is_clean() {
                    failed = Some(report.seed);
                    return ControlFlow::Break(());
                }
                if said.elapsed() >= PROGRESS {
                    said = Instant::now();
                    heard = self.progress(arguments);
                }
                if heard.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        heard?;
        failed.map_or(Ok(None), |seed| self.shrink(arguments, seed))
    }

    fn count(&mut self, report: &Report) {
        self.seeds += 1;
        self.lives += u64::from(report.lives);
        self.events += report.total_events();
    }

    fn shrink(&self, arguments: &Arguments, seed: u64) -> io::Result<Option<Shrunk>> {
        writeln!(io::stderr(), "seed {seed} breaks a promise; shrinks it")?;
        Ok(shrink(seed, &arguments.scenario(seed)))
    }

    fn rate(&self) -> f64 {
        self.seeds as f64 / self.began.elapsed().as_secs_f64().max(1e-9)
    }

    fn progress(&self, arguments: &Arguments) -> io::Result<()> {
        let all = arguments.seeds.end - arguments.seeds.start;
        writeln!(io::stderr(), "{} of {all} seeds, {:.1} a second", self.seeds, self.rate())
    }

    /// The closing words.
    fn close(&self, arguments: &Arguments, failed: Option<&Shrunk>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let (seconds, rate) = (self.began.elapsed().as_secs_f64(), self.rate());
        let Self { seeds, lives, events, .. } = self;
        if arguments.json {
            let json = serde_json::json!({
                "from": arguments.seeds.start,
                "seeds": seeds,
                "lives": lives,
                "events": events,
                "seconds": seconds,
                "seeds_per_second": rate,
                "threads": arguments.threads,
                "failed": failed.map(|shrunk| serde_json::json!({
                    "seed": shrunk.report.seed,
                    "broken": shrunk.report.violations.iter()
                        .map(|broken| format!("{}: {}", broken.promise, broken.what))
                        .collect::<Vec<_>>(),
                    "trace": shrunk.report.trace.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })),
            });
            return writeln!(out, "{json}");
        }
        if let Some(shrunk) = failed {
            write!(out, "{shrunk}")?;
        }
        let end = if failed.is_some() { "a promise is broken" } else { "every promise was kept" };
        writeln!(
            out,
            "{seeds} seeds, {lives} lives, {events} events in {seconds:.1} s, {rate:.1} seeds a \
             second: {end}"
        )
    }
}
