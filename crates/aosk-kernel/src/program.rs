//! Programs: what a process runs.
//!
//! A program is a synchronous reducer. It holds its state as plain data, hears inputs that were
//! made from journaled events, and answers with syscalls; it cannot read a clock, draw a random
//! number or wait. That is why recovery and replay need no copy of its memory: feeding it the same
//! inputs gives the same syscalls with the same numbers.

use aosk_abi::{Input, Syscall};
use serde::{Deserialize, Serialize};

use crate::react::React;

/// A synchronous reducer over its inputs.
pub trait Program {
    /// Takes one input and answers with what the kernel is to do, in order.
    ///
    /// Until every syscall of an earlier answer has its outcome, an answer may be empty; a program
    /// that has nothing outstanding and answers nothing would never be heard of again, which the
    /// kernel reports as an error of the program.
    fn on(&mut self, input: Input) -> Vec<Syscall>;
}

/// A running program of one of the built-in kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Running {
    /// The tool-calling loop.
    React(React),
}

impl Running {
    /// The names that a manifest can give.
    pub(crate) const NAMES: &'static [&'static str] = &["react"];

    /// A fresh program of that name.
    pub(crate) fn start(name: &str) -> Option<Self> {
        (name == "react").then(|| Self::React(React::default()))
    }
}

impl Program for Running {
    fn on(&mut self, input: Input) -> Vec<Syscall> {
        match self {
            Self::React(react) => react.on(input),
        }
    }
}
