//! The part of the body that only grows, and the marks in it.
//!
//! A prompt is a sequence of blocks: tools, then those of the system prompt, then those of the
//! messages. What stands *between* two blocks (a comma, the end of a message and the head of the
//! next, the end of a section) follows from the two alone and is written in front of the second.
//! So the prompt bytes end with the last block, nothing is ever closed in them, and more blocks only
//! make them longer, also where a block joins a message that was there before.
//!
//! Marks are not part of these bytes. They are put into the body afterwards, at places that are kept
//! as offsets, because they move: the end of the log is marked in every call, and the one before it
//! no longer. To the provider a mark is no content either; a cached prefix matches with it and
//! without it.
//!
//! Four marks are allowed, and each stands for one thing that is read again:
//!
//! 1. the system prompt: conversations that begin alike, and what eviction leaves at worst;
//! 2. the end of the log when pages last left it: what the next eviction is likely to leave;
//! 3. the end of the log of the call before, which is the last block in front of the newest reply;
//! 4. the end of the log, for the next call.
//!
//! Where pages have not left yet, the last tool has the second: agents with the same tools and another
//! system prompt begin alike up to there.
//!
//! Where a call asked for the long life, the end of its log is marked as well for as long as it stands:
//! a pause leaves nothing else. What stands under it gives its mark away, the last tool and then the
//! system prompt. All marks of a request are for the same life, so that no short one stands in front
//! of a long one, which the provider refuses.
//!
//! The third makes the fourth of the call before a certain hit. Without it the provider would look
//! back 20 blocks from the end of the log; a turn with 10 parallel calls adds 21.

use aosk_abi::CacheLife;

/// What a marked block ends with, in front of its brace.
const MARK: &str = ",\"cache_control\":{\"type\":\"ephemeral\"}";

/// The same for the long life.
const LONG_MARK: &str = ",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}";

/// How many marks the provider takes.
const MARKS: usize = 4;

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Tools,
    System,
    User,
    Assistant,
}

/// The end of a block.
#[derive(Debug, Clone, Copy)]
struct End {
    place: Place,
    /// The offset of its closing brace.
    brace: usize,
    /// Whether it may bear a mark; thinking may not.
    bears: bool,
}

/// A prompt as it is written.
#[derive(Default)]
pub(super) struct Prompt {
    text: String,
    ends: Vec<End>,
    /// How many blocks stood there when pages last left.
    settled: usize,
    /// How many at the newest call that asked for the long life.
    lasting: usize,
}

impl Prompt {
    /// Adds a block: a JSON object.
    pub fn push(&mut self, place: Place, bears: bool, block: &str) {
        self.step_to(place);
        self.text.push_str(block);
        self.ends.push(End { place, brace: self.text.len() - 1, bears });
    }

    /// What was added so far stood there when pages last left.
    pub fn settle(&mut self) {
        self.settled = self.ends.len();
    }

    /// What was added so far stood there at the newest call that asked for the long life.
    pub fn outlast(&mut self) {
        self.lasting = self.ends.len();
    }

    /// The bytes that only grow.
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The bytes with their marks for that life, then `tail` as a last block of the user without one,
    /// then everything closed but the body.
    pub fn close(mut self, life: CacheLife, tail: Option<&str>) -> String {
        let marks = self.marks();
        let written = match life {
            CacheLife::Short => MARK,
            CacheLife::Long => LONG_MARK,
        };
        if let Some(tail) = tail {
            self.push(Place::User, false, tail);
        }
        let mut out = String::with_capacity(self.text.len() + marks.len() * written.len() + 256);
        let mut from = 0;
        for mark in marks {
            out.push_str(&self.text[from..mark]);
            out.push_str(written);
            from = mark;
        }
        out.push_str(&self.text[from..]);
        out.push_str(match self.ends.last().map(|end| end.place) {
            None => "{\"messages\":[]",
            Some(Place::Tools | Place::System) => "],\"messages\":[]",
            Some(Place::User | Place::Assistant) => "]}]",
        });
        out
    }

    fn step_to(&mut self, place: Place) {
        use Place::{Assistant, System, Tools, User};
        let last = self.ends.last().map(|end| end.place);
        let between = match (last, place) {
            (Some(last), place) if last == place => ",",
            (Some(User | Assistant), User) => "]},{\"role\":\"user\",\"content\":[",
            (Some(User | Assistant), Assistant) => "]},{\"role\":\"assistant\",\"content\":[",
            (None, Tools) => "{\"tools\":[",
            (None, System) => "{\"system\":[",
            (Some(_), Tools | System) => "],\"system\":[",
            (None, User) => "{\"messages\":[{\"role\":\"user\",\"content\":[",
            (None, Assistant) => "{\"messages\":[{\"role\":\"assistant\",\"content\":[",
            (Some(_), User) => "],\"messages\":[{\"role\":\"user\",\"content\":[",
            (Some(_), Assistant) => "],\"messages\":[{\"role\":\"assistant\",\"content\":[",
        };
        self.text.push_str(between);
    }

    /// The offsets of the marks, ascending.
    fn marks(&self) -> Vec<usize> {
        let last = |ends: &[End], places: &[Place]| {
            let found = ends.iter().rfind(|end| end.bears && places.contains(&end.place));
            found.map(|end| end.brace)
        };
        let messages = [Place::User, Place::Assistant];
        let is_reply = |end: &End| end.place == Place::Assistant;
        // In front of the newest reply: up to the last block that is none, and follows none.
        let reply_end = self.ends.iter().rposition(is_reply).unwrap_or(0);
        let reply = self.ends[..reply_end].iter().rposition(|end| !is_reply(end));
        let before = &self.ends[..reply.map_or(0, |last| last + 1)];
        let settled = last(&self.ends[..self.settled], &messages);
        let tools = || last(&self.ends, &[Place::Tools]);
        let wanted = [
            last(&self.ends, &messages),
            last(before, &messages),
            last(&self.ends[..self.lasting], &messages),
            settled,
            last(&self.ends, &[Place::System]),
            settled.map_or_else(tools, |_| None),
        ];
        let mut marks = Vec::with_capacity(MARKS);
        for mark in wanted.into_iter().flatten() {
            if marks.len() < MARKS && !marks.contains(&mark) {
                marks.push(mark);
            }
        }
        marks.sort_unstable();
        marks
    }
}
