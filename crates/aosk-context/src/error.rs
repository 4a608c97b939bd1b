//! What can be wrong with a plan.

use std::fmt;

use aosk_abi::{Code, PageId, Ppm, Tokens};

use crate::invariant::Violation;

/// Why there is no plan, or why a journaled plan cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What must stand in the prompt exceeds the window; the numbers say by how much.
    #[error("{0}")]
    Overflow(Overflow),
    /// A plan contradicts the table.
    #[error(
        "{0}: the plan breaks an invariant of the context. The fault is in aosk or in a damaged \
         journal, not in the agent; report it with the output of `aosk logs`"
    )]
    Invariant(#[from] Violation),
    /// There is no page of that number.
    #[error(
        "there is no page {page}: the process has {pages} pages, numbered from 0. Ask for one \
         of these"
    )]
    UnknownPage {
        /// The number that was asked for.
        page: PageId,
        /// How many pages there are.
        pages: usize,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Overflow(_) => Code::ContextOverflow,
            Self::Invariant(_) => Code::ContextInvariant,
            Self::UnknownPage { .. } => Code::ContextPage,
        }
    }
}

/// The numbers of a demand that cannot be met: `overhead + pinned + unanswered > capacity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// The model's window.
    pub window: Tokens,
    /// What is kept free for the reply.
    pub max_output: Tokens,
    /// What is kept free for the stubs of pages that have left.
    pub reserve: Tokens,
    /// The error of counting that is provided for.
    pub margin: Ppm,
    /// What is left for the prompt.
    pub capacity: Tokens,
    /// What the prompt holds besides pages.
    pub overhead: Tokens,
    /// The pinned pages.
    pub pinned: Tokens,
    /// Pages that are not pinned and that the model has not answered yet: the newest tool calls
    /// with their results, and new messages.
    pub unanswered: Tokens,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, max_output, reserve, margin, capacity, overhead, pinned, unanswered } =
            self;
        write!(
            f,
            "the context does not fit: the window of {window} tokens less {max_output} for the \
             reply"
        )?;
        if reserve.0 > 0 {
            write!(f, ", {reserve} for the numbers of pages that left")?;
        }
        if margin.0 > 0 {
            write!(f, " and a counting error of {}.{}%", margin.0 / 10_000, margin.0 / 1_000 % 10)?;
        }
        write!(
            f,
            " leaves {capacity}, but the pinned pages (system prompt, tools, task) take {pinned}, \
             what the model has not answered yet (the newest tool results and messages) takes \
             {unanswered}, and the rest of the request {overhead}. "
        )?;
        f.write_str(if max_output >= window {
            "Lower `sampling.max_output_tokens` below the window"
        } else if *overhead + *pinned > *capacity {
            "Shorten the system prompt or the task, name fewer tools, lower \
             `sampling.max_output_tokens`, or give a larger window: by `context.window` if it is \
             set, else by another model"
        } else {
            "Have the tools return less, lower `sampling.max_output_tokens`, or give a larger \
             window: by `context.window` if it is set, else by another model"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_names_the_numbers_and_what_to_change() {
        let overflow = Overflow {
            window: Tokens(4_096),
            max_output: Tokens(1_024),
            reserve: Tokens(61),
            margin: Ppm(25_000),
            capacity: Tokens(2_997),
            overhead: Tokens(90),
            pinned: Tokens(700),
            unanswered: Tokens(2_208),
        };
        let text = Error::Overflow(overflow).to_string();
        for part in
            ["4096", "1024", "61 for", "2.5%", "2997", "700", "2208", "90", "tools return less"]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        let pinned = Overflow { pinned: Tokens(2_908), ..overflow }.to_string();
        assert!(pinned.contains("Shorten the system prompt"), "{pinned}");
        let still = Overflow { pinned: Tokens(2_907), ..overflow }.to_string();
        assert!(still.contains("tools return less"), "{still}");
        let output = Overflow { max_output: Tokens(4_096), ..overflow }.to_string();
        assert!(output.contains("below the window"), "{output}");
    }
}
