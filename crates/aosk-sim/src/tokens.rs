//! Tokens of the simulated model: four bytes each.
//!
//! The endpoint counts the truth. The tokenizer that the kernel gets counts a fifth too little and
//! says so, as an honest estimator does; a kernel that keeps the room that the tokenizer asks for
//! never overflows a window, and one that forgets it does so at once.

use aosk_abi::{Ppm, Tokens};
use aosk_ports::{Part, Request, Tokenizer};

/// Bytes to a token.
const BYTES: u64 = 4;
/// What a part of a message costs beyond its text.
const FRAME: Tokens = Tokens(4);
/// By this much the truth may be above an estimate.
const ERROR: Ppm = Ppm(250_000);

/// The estimator for the simulated model: four fifths of the truth, rounded up.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimTokenizer;

impl Tokenizer for SimTokenizer {
    fn id(&self) -> String {
        "sim/0.8".to_owned()
    }

    fn count(&self, text: &str) -> Tokens {
        Tokens((of(text.len()).0 * 4).div_ceil(5))
    }

    fn per_message(&self) -> Tokens {
        FRAME
    }

    fn error(&self) -> Ppm {
        ERROR
    }

    fn observe(&self, _: Tokens, _: Tokens) {}
}

/// The size of a text of that many bytes.
pub(crate) const fn of(bytes: usize) -> Tokens {
    Tokens((bytes as u64).div_ceil(BYTES))
}

/// The size of what a model said.
pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Tokens {
    parts.into_iter().map(|part| of_part(part) + FRAME).sum()
}

/// The size of a prompt, tail included.
pub(crate) fn of_request(request: &Request) -> Tokens {
    let schemas: usize = request
        .tools
        .iter()
        .map(|tool| serde_json::to_string(tool).map_or(0, |text| text.len()))
        .sum();
    let tail = request.tail.as_ref().map_or(Tokens::ZERO, |tail| of(tail.len()) + FRAME);
    let spoken = request.messages.iter().map(|message| of_parts(message.parts.iter()));
    of(schemas) + tail + spoken.sum()
}

fn of_part(part: &Part) -> Tokens {
    match part {
        Part::Text(text) => of(text.len()),
        Part::Opaque { bytes, .. } => of(bytes.len()),
        Part::ToolCall { id, name, arguments } => {
            of(id.len()) + of(name.len()) + of(arguments.len())
        }
        Part::ToolResult { call, name, text, .. } => {
            of(call.len()) + of(name.len()) + of(text.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_is_never_above_an_estimate_with_its_error() {
        for bytes in 0..400 {
            let (truth, estimate) = (of(bytes), SimTokenizer.count(&"x".repeat(bytes)));
            assert!(estimate <= truth);
            let padded = estimate.0 + estimate.0 * u64::from(ERROR.0) / 1_000_000;
            assert!(padded >= truth.0, "{bytes} bytes: {padded} < {truth}");
        }
        assert_eq!((of(0), of(1), of(4), of(5)), (Tokens(0), Tokens(1), Tokens(1), Tokens(2)));
    }
}
