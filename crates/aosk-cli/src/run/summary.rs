//! What is said when a run is over.

use super::board::Board;
use super::outcome::Result;
use crate::error::Error;
use crate::figures::{cached, duration, tokens};
use crate::print::{Ink, Screen};
use crate::processes::Processes;
use crate::text::{self, cut};

/// The widest name that the table shows whole.
const NAME: usize = 16;

/// For how many agents the next commands are listed one by one.
const LISTED: usize = 3;

/// Prints a table of the agents and what to do next.
pub(super) fn print(
    results: &[Result],
    board: &Board,
    processes: &Processes,
    same_store: &str,
    screen: &Screen,
) -> std::result::Result<(), Error> {
    let out = &screen.out;
    let mut rows: Vec<Vec<String>> =
        vec![["AGENT", "STEPS", "IN", "CACHED", "OUT", "COST", "TIME"].map(str::to_owned).into()];
    for result in results {
        let row = &result.row;
        rows.push(vec![
            cut(&board.label(result.pid), NAME),
            row.steps.to_string(),
            tokens(row.usage.input),
            cached(&row.usage),
            tokens(row.usage.output),
            row.spent.to_string(),
            duration(board.took(result.pid)),
        ]);
    }
    let mut lines = text::table(&rows, &[1, 2, 3, 4, 5, 6], &[0], out.width()).into_iter();
    let head = lines.next().unwrap_or_default();
    let indent = lines.clone().map(|line| text::width(&line)).max().unwrap_or(0);
    let indent = indent.max(text::width(&head)) + 2;
    out.line(&out.paint(Ink::Strong, &format!("{}RESULT", text::left(&head, indent))))?;
    for (line, result) in lines.zip(results) {
        let (ink, said) = result.line();
        let said = cut(&said, out.width().saturating_sub(indent));
        out.line(&format!("{}{}", text::left(&line, indent), out.paint(ink, &said)))?;
    }
    out.line("")?;
    let stopped = results.iter().filter(|result| is_stopped(result)).count();
    if stopped > 1 {
        out.line(&format!(
            "aosk run --resume{same_store}  {}",
            out.paint(Ink::Quiet, "# all of them")
        ))?;
    }
    let mut listed = 0;
    for result in results {
        let pid = processes.short(result.pid);
        let command = match result.wants() {
            Some(needed) => {
                let dollars = needed.to_string();
                let dollars = dollars.trim_start_matches('$');
                format!("aosk run --resume {pid} --max-spend-usd {dollars}{same_store}")
            }
            None if is_stopped(result) && stopped > 1 => continue,
            None if is_stopped(result) => format!("aosk run --resume {pid}{same_store}"),
            None => format!("aosk show {pid}{same_store}"),
        };
        listed += 1;
        if listed > LISTED {
            return out.line(&format!("aosk ps --all{same_store}"));
        }
        let name = format!("# {}", board.label(result.pid));
        out.line(&format!("{command}  {}", out.paint(Ink::Quiet, &name)))?;
    }
    Ok(())
}

/// Whether it only needs to be resumed.
fn is_stopped(result: &Result) -> bool {
    result.is_unfinished() && result.wants().is_none()
}
