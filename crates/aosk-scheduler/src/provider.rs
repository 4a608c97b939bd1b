//! What the endpoint behind a pool says of its own limits, and how many calls at once it takes.
//!
//! Endpoints tell with each reply what is left of their limits and when they will be whole again.
//! Both dialects describe a bucket that drains evenly, so what was heard last is kept as one, and
//! what was reserved since is added to it. It stands beside the pool's own limits: a call needs
//! room in both, so whatever an endpoint says can only tighten. Real endpoints also say nonsense
//! (-1 and 0 have been seen for limits that were in force): that is ignored and reported.

use std::time::Duration;

use crate::bucket::{Bucket, Full};
use crate::quota::{Gauge, Resource, Short};
use crate::step::Amounts;
use crate::time::{duration, nanos};

/// How far ahead an endpoint is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);

/// What an endpoint says of one of its limits, as it came. Signed, because endpoints have said -1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// The limit.
    pub limit: Option<i64>,
    /// What is left of it.
    pub remaining: Option<i64>,
    /// When all of it will be there again.
    pub resets_in: Option<Duration>,
}

/// What became of what an endpoint said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It holds until the next one.
    Taken,
    /// Nothing is used of the limit: only the pool's own limits hold.
    Whole,
    /// It makes no sense, and everything stays as it was.
    Ignored(Nonsense),
}

/// Why what an endpoint said is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonsense {
    /// The limit, what is left or when it resets is missing.
    Incomplete,
    /// The limit is not above 0, or less than nothing is left.
    Negative,
    /// More is left than the limit.
    MoreThanTheLimit,
    /// It resets in more than a day.
    TooFar,
    /// It is not about requests, input or output.
    Resource,
}

/// An answer of an endpoint, and what is in flight beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// The number of the call.
    pub(crate) to: u64,
    /// Reserved by calls of which the endpoint has said nothing yet: they may still be on their way.
    pub(crate) unheard: u64,
    /// Reserved by those of the others that were begun later than this one.
    pub(crate) newer: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    bucket: Bucket,
    /// Tells what was reserved under this view from what was under an earlier one.
    number: u64,
}

/// Which views a call was counted in, and its marks there.
pub(crate) type Seen = [Option<(u64, u64)>; 3];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Provider {
    views: [Option<View>; 3],
    numbers: u64,
    /// The newest call whose answer told of each.
    newest: [Option<u64>; 3],
    depth: usize,
    /// Calls that went well since the depth last changed.
    successes: usize,
    /// A call with a smaller number was begun before the depth was last halved.
    halved_at: u64,
}

const RATED: [Resource; 3] = [Resource::Requests, Resource::Input, Resource::Output];

const fn amounts(requests: u64, most: &Amounts) -> [u64; 3] {
    [requests, most.input.0, most.output.0]
}

impl Provider {
    pub(crate) const fn new(slots: usize) -> Self {
        Self {
            views: [None, None, None],
            numbers: 0,
            newest: [None; 3],
            depth: slots,
            successes: 0,
            halved_at: 0,
        }
    }

    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    /// Starts again with as many calls at once as there are slots.
    pub(crate) const fn set_slots(&mut self, slots: usize) {
        self.depth = slots;
        self.successes = 0;
    }

    /// A call of that number was refused because there were too many. The depth is halved once for
    /// all calls that were begun at the same depth. `next` is the number of the next call.
    pub(crate) fn refused(&mut self, call: u64, next: u64) {
        if call >= self.halved_at {
            self.depth = (self.depth / 2).max(1);
            self.successes = 0;
            self.halved_at = next;
        }
    }

    /// A call went well. One more at once is tried when as many went well as are made at once.
    pub(crate) const fn succeeded(&mut self, slots: usize) {
        self.successes += 1;
        if self.successes >= self.depth && self.depth < slots {
            self.depth += 1;
            self.successes = 0;
        }
    }

    /// Takes in what the endpoint said of a resource in an answer.
    ///
    /// Answers to calls that were begun together come in any order. That to the newest call replaces
    /// what was known. One to an older call may have been given before the newer ones came in or
    /// after: what is known stays, as far as it lies between both.
    pub(crate) fn hear(
        &mut self,
        resource: Resource,
        said: RateLimit,
        answer: Answer,
        now: u64,
    ) -> Heard {
        let Some(place) = RATED.iter().position(|known| *known == resource) else {
            return Heard::Ignored(Nonsense::Resource);
        };
        let (Some(limit), Some(left), Some(reset)) = (said.limit, said.remaining, said.resets_in)
        else {
            return Heard::Ignored(Nonsense::Incomplete);
        };
        let (Ok(limit), Ok(left)) = (u64::try_from(limit), u64::try_from(left)) else {
            return Heard::Ignored(Nonsense::Negative);
        };
        if limit == 0 {
            return Heard::Ignored(Nonsense::Negative);
        }
        if left > limit {
            return Heard::Ignored(Nonsense::MoreThanTheLimit);
        }
        if reset > BELIEVED {
            return Heard::Ignored(Nonsense::TooFar);
        }
        let is_old = self.newest[place].is_some_and(|newest| answer.to < newest);
        if !is_old {
            self.newest[place] = Some(answer.to);
        }
        if left == limit || reset.is_zero() {
            if !is_old {
                self.views[place] = None;
            }
            return Heard::Whole;
        }
        // What is used drains until the reset, so all of it would take this long.
        let window = u128::from(nanos(reset)) * u128::from(limit) / u128::from(limit - left);
        let Ok(window) = u64::try_from(window) else {
            return Heard::Ignored(Nonsense::TooFar);
        };
        let mut bucket = Bucket::filled(limit, window, now.saturating_add(nanos(reset)));
        bucket.add(answer.unheard, now);
        if is_old {
            let mut most = bucket.clone();
            most.add(answer.newer, now);
            let known = self.views[place].as_ref().map_or(0, |view| view.bucket.empties());
            if known > most.empties() {
                bucket = most;
            } else if known >= bucket.empties() {
                return Heard::Taken;
            }
        }
        self.numbers += 1;
        self.views[place] = Some(View { bucket, number: self.numbers });
        Heard::Taken
    }

    /// How the limits stand that the endpoint has told of.
    pub(crate) fn gauges(&self, now: u64) -> Vec<Gauge> {
        let views = self.views.iter().zip(RATED);
        let views = views.filter_map(|(view, resource)| Some((&view.as_ref()?.bucket, resource)));
        let gauge = |(bucket, resource): (&Bucket, Resource)| {
            let (used, resets) = bucket.held(now);
            let (limit, window) = (bucket.limit(), Some(duration(bucket.window())));
            Gauge { resource, limit, window, used, reserved: 0, resets: resets.map(duration) }
        };
        views.map(gauge).collect()
    }

    pub(crate) fn admits(&self, most: &Amounts, now: u64) -> Result<(), Short> {
        for ((view, asked), resource) in self.views.iter().zip(amounts(1, most)).zip(RATED) {
            let Some(View { bucket, .. }) = view else { continue };
            // What is reserved is an upper estimate: one above the whole limit is tried when all
            // of the limit is there.
            match bucket.admits(asked.min(bucket.limit()), now) {
                Ok(()) => {}
                Err(Full::Until(at)) => {
                    return Err(Short { resource, until: Some(duration(at)) });
                }
                Err(Full::Never) => return Err(Short { resource, until: None }),
            }
        }
        Ok(())
    }

    pub(crate) fn reserve(&mut self, most: &Amounts, now: u64) -> Seen {
        let mut seen = Seen::default();
        for ((view, asked), seen) in self.views.iter_mut().zip(amounts(1, most)).zip(&mut seen) {
            *seen = view.as_mut().map(|view| (view.number, view.bucket.add(asked, now)));
        }
        seen
    }

    pub(crate) fn settle(
        &mut self,
        most: &Amounts,
        (requests, used): (u64, &Amounts),
        seen: &Seen,
        now: u64,
    ) {
        let sizes = amounts(1, most).into_iter().zip(amounts(requests, used));
        for ((view, seen), (reserved, used)) in self.views.iter_mut().zip(seen).zip(sizes) {
            if let (Some(view), Some((number, mark))) = (view, seen)
                && view.number == *number
            {
                view.bucket.settle(reserved, used, *mark, now);
            }
        }
    }
}
