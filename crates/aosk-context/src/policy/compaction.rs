//! Compaction: a summary in the place of the conversation.

use aosk_abi::{Ppm, Tokens};

use super::{Policy, View, part};

/// When nothing fits any more, all leaves but the newest units, a quarter of the room; whoever
/// uses it has a summary written, which comes to the prompt as a page of its own.
///
/// It is here to be compared with: it reads the whole prompt once more, pays for the summary as
/// output, forgets what the summary leaves out, and still must write the prompt anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Compaction;

/// What a summary takes.
const SUMMARY: Tokens = Tokens(1_500);
/// The share of the room that stays.
const KEPT: Ppm = Ppm(250_000);

impl Compaction {
    /// What a summary takes in the prompt and costs as output.
    pub const SUMMARY: Tokens = SUMMARY;
}

impl Policy for Compaction {
    fn name(&self) -> &'static str {
        "compaction"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        let log = view.capacity.saturating_sub(view.pinned);
        let mut room = part(log, KEPT).min(view.capacity.saturating_sub(view.fixed));
        let kept = view
            .units
            .iter()
            .rev()
            .take_while(|unit| {
                let fits = unit.tokens <= room;
                room = room.saturating_sub(unit.tokens);
                fits
            })
            .count();
        (0..view.units.len() - kept).collect()
    }
}
