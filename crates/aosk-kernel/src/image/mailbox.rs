//! The mailbox: messages of other processes that nobody has read yet.
//!
//! A sender posts again what a crash left it in doubt about, so a message may come twice. Each sender
//! numbers its messages by its operations, which only grow, and posts the next one when the one
//! before is in the inbox. So the greatest number that came from a sender tells which of its messages
//! came already: 24 bytes a sender, however many messages there were.

use std::collections::{BTreeMap, VecDeque};

use aosk_abi::{ContentRef, Op, Pid, Seq};
use serde::{Deserialize, Serialize};

/// A message that waits to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The sender.
    pub from: Pid,
    /// The event that brought it.
    pub seq: Seq,
    /// What it says.
    pub content: ContentRef,
}

/// Messages of other processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    letters: VecDeque<Letter>,
    /// The newest operation of each sender that a message came from.
    heard: BTreeMap<Pid, Op>,
}

impl Mailbox {
    /// How many messages it holds before senders hear that it is full.
    pub const ROOM: usize = 256;

    /// Whether that message of the sender came already.
    #[must_use]
    pub fn has_heard(&self, from: Pid, op: Op) -> bool {
        self.heard.get(&from).is_some_and(|newest| *newest >= op)
    }

    /// The messages, oldest first.
    pub fn letters(&self) -> impl ExactSizeIterator<Item = &Letter> {
        self.letters.iter()
    }

    /// The oldest message, of that sender where one is named.
    #[must_use]
    pub fn first(&self, from: Option<Pid>) -> Option<&Letter> {
        self.letters.iter().find(|letter| from.is_none_or(|from| letter.from == from))
    }

    pub(super) fn is_new(&self) -> bool {
        self.letters.is_empty() && self.heard.is_empty()
    }

    pub(super) fn put(&mut self, op: Op, letter: Letter) {
        self.heard.insert(letter.from, op);
        self.letters.push_back(letter);
    }

    /// Takes the message out that came with that event.
    pub(super) fn take(&mut self, seq: Seq) -> Option<Letter> {
        let index = self.letters.iter().position(|letter| letter.seq == seq)?;
        self.letters.remove(index)
    }
}
