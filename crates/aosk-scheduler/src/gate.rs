//! The gate of a process's quota: who of its family waits there, and in which order they go.
//!
//! A family may wait at several pools, each with an order of its own, for one quota. Were all let try
//! again whenever there is room, the pool that is asked first would take it each time, and a large
//! call would be overtaken by small ones for ever. So whoever finds no room lines up, the gate is shut
//! to those who come later, and they are let in one behind the other by self-clocked fair queueing
//! (Golestani, *A self-clocked fair queueing scheme for broadband applications*, INFOCOM 1994): a tag is
//! the tag of who went last plus the estimate over the weight. A process makes one call at a time, so
//! the tag of its last call is never above the clock and nothing has to be kept of it.
//!
//! **Nobody waits there for ever.** A tag is kept until its call starts or is taken back, and each call
//! of another raises the clock or came in before. Of two with weights *w* and estimates *e* that come
//! back at once, *f* is passed by *g* at most *1 + (e_f/w_f) / (e_g/w_g)* times.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::VirtualTime;
use crate::quota::Short;

/// A flow in a pool.
pub(crate) type Seat = (u32, u32);

/// A place in the line.
pub(crate) type Place = (VirtualTime, Seat);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// The tag of who went last.
    now: VirtualTime,
    /// Of those in the line and of those let in who have not gone yet.
    tags: BTreeMap<Seat, VirtualTime>,
    line: BTreeSet<Place>,
    /// Why nobody else is let in. It is there where somebody in the line fits, but not now.
    pub(crate) shut: Option<Short>,
}

impl Gate {
    /// Whether the flow, which is first in its pool, may not try; who was let in may.
    pub(crate) fn keeps_out(&self, seat: Seat) -> bool {
        self.shut.is_some() && !self.tags.contains_key(&seat)
    }

    /// The flow lines up for a call of that worth, where it stood before if it did. Whether those in the
    /// line must be looked at for that.
    pub(crate) fn enter(&mut self, seat: Seat, worth: VirtualTime) -> bool {
        let tag = *self.tags.entry(seat).or_insert_with(|| self.now.saturating_add(worth));
        self.line.insert((tag, seat));
        self.shut.is_none() || self.line.first() == Some(&(tag, seat))
    }

    /// Who stands behind that place; behind none: who is first.
    pub(crate) fn behind(&self, place: Option<Place>) -> Option<Place> {
        match place {
            Some(place) => self.line.range(place..).find(|other| **other != place).copied(),
            None => self.line.first().copied(),
        }
    }

    /// The one who stands there may try.
    pub(crate) fn let_in(&mut self, place: Place) {
        self.line.remove(&place);
    }

    /// The flow's call starts. Whether others wait.
    pub(crate) fn goes(&mut self, seat: Seat) -> bool {
        if let Some(tag) = self.tags.remove(&seat) {
            self.now = self.now.max(tag);
        }
        !self.line.is_empty()
    }

    /// The flow takes its wish back. Whether others wait whom that may let in.
    pub(crate) fn leave(&mut self, seat: Seat) -> bool {
        let Some(tag) = self.tags.remove(&seat) else { return false };
        self.line.remove(&(tag, seat));
        self.shut.is_some()
    }

    /// Whether the flow stands in the line.
    pub(crate) fn holds(&self, seat: Seat) -> bool {
        self.tags.get(&seat).is_some_and(|tag| self.line.contains(&(*tag, seat)))
    }
}
