//! The live display: one line an agent.

use super::board::{Activity, Board};
use crate::figures::{cached, duration, tokens};
use crate::print::{Ink, Stream};
use crate::text::{self, cut};

/// The widest name that is shown whole.
const NAME: usize = 14;

/// The lines for a terminal of that stream's size.
pub(super) fn lines(board: &Board, stream: &Stream) -> Vec<String> {
    let agents = board.agents();
    let mut rows: Vec<Vec<String>> = vec![
        ["AGENT", "STEP", "IN", "CACHED", "OUT", "COST", "TIME", "NOW"].map(str::to_owned).into(),
    ];
    for (label, agent) in &agents {
        let step = match agent.max_steps {
            Some(most) => format!("{}/{most}", agent.steps),
            None => agent.steps.to_string(),
        };
        rows.push(vec![
            cut(label, NAME),
            step,
            tokens(agent.usage.input),
            cached(&agent.usage),
            tokens(agent.usage.output),
            agent.spent.to_string(),
            duration(u64::try_from(agent.took().as_millis()).unwrap_or(u64::MAX)),
            agent.activity.words(),
        ]);
    }
    // The last column of a terminal stays free: some wrap as soon as it is filled.
    let columns = stream.width().saturating_sub(1);
    let mut lines = text::table(&rows, &[1, 2, 3, 4, 5, 6], &[], columns);
    for (line, (_, agent)) in lines.iter_mut().skip(1).zip(&agents) {
        let ink = match &agent.activity {
            Activity::Over(_) => Ink::Quiet,
            Activity::Retrying { .. } => Ink::Warning,
            _ => continue,
        };
        *line = stream.paint(ink, line);
    }
    if let Some(head) = lines.first_mut() {
        *head = stream.paint(Ink::Strong, head);
    }
    // A display higher than the terminal could not be drawn over.
    let most = stream.height().saturating_sub(2).max(2);
    if lines.len() > most {
        let hidden = lines.len() - (most - 1);
        lines.truncate(most - 1);
        lines.push(stream.paint(Ink::Quiet, &format!("and {hidden} more agents")));
    }
    lines
}
