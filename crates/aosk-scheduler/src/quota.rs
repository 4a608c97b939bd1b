//! Quotas: what may be used in a window, and the account's meters for it.
//!
//! Rates (requests and tokens) drain continuously, as the limits of endpoints do: a fixed window
//! would let twice the limit through around its edge. Money is counted in fixed windows, because a
//! budget of a day is what a person reads on a bill. Either holds reservations, so that no number
//! of calls at once can pass it.

use std::time::Duration;

use aosk_abi::MicroDollars;

use crate::bucket::{Bucket, Full};
use crate::error::Error;
use crate::step::Amounts;
use crate::time::{duration, nanos};

/// What a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// The number of calls begun.
    Requests,
    /// Tokens that go in.
    Input,
    /// Tokens that come out.
    Output,
    /// Money.
    Money,
    /// Calls in flight.
    Concurrency,
}

/// So much in each window, draining evenly: in any interval of length *t* at most
/// *limit · (1 + t / window)*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The most at once.
    pub limit: u64,
    /// In which it drains.
    pub window: Duration,
}

/// So much money in each window of fixed edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The most in a window.
    pub limit: MicroDollars,
    /// An edge between two windows, on the clock of [`pick`](crate::Scheduler::pick).
    pub opened: Duration,
    /// The length of a window; `None` for one that never ends.
    pub window: Option<Duration>,
}

impl Budget {
    /// The first edge after `now`.
    fn ends(&self, now: u64) -> Option<u64> {
        let (length, opened) = (nanos(self.window?).max(1), nanos(self.opened));
        let left = match opened.checked_sub(now) {
            Some(ahead) if ahead % length > 0 => ahead % length,
            Some(_) => length,
            None => length - (now - opened) % length,
        };
        Some(now.saturating_add(left))
    }
}

/// What an account may use. Without a limit its parents' limits are what holds it; all below an
/// account share its limits: processes those of their group, children those of their parent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Calls begun.
    pub requests: Option<Rate>,
    /// Tokens that go in.
    pub input: Option<Rate>,
    /// Tokens that come out.
    pub output: Option<Rate>,
    /// Money.
    pub money: Option<Budget>,
    /// Calls in flight.
    pub concurrency: Option<u32>,
}

impl Quota {
    /// # Errors
    /// [`Error::EmptyQuota`] where a limit or window is 0: nothing could ever run.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let rates = [
            (Resource::Requests, self.requests),
            (Resource::Input, self.input),
            (Resource::Output, self.output),
        ];
        for (resource, rate) in rates {
            if rate.is_some_and(|rate| rate.limit == 0 || rate.window.is_zero()) {
                return Err(Error::EmptyQuota(resource));
            }
        }
        let is_empty = |money: Budget| {
            money.limit == MicroDollars::ZERO || money.window.is_some_and(|window| window.is_zero())
        };
        if self.money.is_some_and(is_empty) {
            return Err(Error::EmptyQuota(Resource::Money));
        }
        match self.concurrency {
            Some(0) => Err(Error::EmptyQuota(Resource::Concurrency)),
            _ => Ok(()),
        }
    }
}

/// Why an account has no room for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// What is used up.
    pub resource: Resource,
    /// When there will be room; `None` where only an end of a call or a higher limit makes room.
    pub until: Option<Duration>,
}

/// Marks of a reservation, by which it is settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Of requests, input and output.
    rates: [Option<u64>; 3],
    /// The number of the money window.
    window: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Purse {
    /// The number of the window, whatever its length.
    window: u64,
    /// When the window ends, in nanoseconds; `None` for never.
    ends: Option<u64>,
    /// Settled and reserved, of this window.
    gone: u64,
    /// Of that: reserved by calls in flight.
    reserved: u64,
    /// The last share of which was warned, in percent.
    warned: u8,
}

/// The shares of a budget at which there is a warning, in percent.
const WARNINGS: [u8; 2] = [80, 95];

/// What an account has used of its quota.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meter {
    quota: Quota,
    rates: [Option<Bucket>; 3],
    purse: Purse,
    /// Tokens that calls in flight have reserved: input, output.
    reserved: [u64; 2],
    in_flight: u32,
}

/// How one limit of an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// What it is about.
    pub resource: Resource,
    /// The most in a window, or at once.
    pub limit: u64,
    /// The window: in which a rate drains, or of a budget.
    pub window: Option<Duration>,
    /// What is used and has not drained; of concurrency, the calls in flight.
    pub used: u64,
    /// What calls in flight hold back besides; of a rate, as far as it has not drained.
    pub reserved: u64,
    /// When all of it is there again, if nothing more is used, on the clock of
    /// [`pick`](crate::Scheduler::pick); `None`: it is there now, or no time brings it.
    pub resets: Option<Duration>,
}

/// A warning of an account: the share in percent, the whole budget and when its window ends.
pub(crate) type Passed = (u8, MicroDollars, Option<Duration>);

const RATED: [Resource; 3] = [Resource::Requests, Resource::Input, Resource::Output];

const fn rated(requests: u64, amounts: &Amounts) -> [u64; 3] {
    [requests, amounts.input.0, amounts.output.0]
}

impl Meter {
    /// Other limits from now on; what was used stays used.
    pub(crate) fn limit(&mut self, quota: Quota, now: u64) {
        let rates = [quota.requests, quota.input, quota.output];
        for (bucket, rate) in self.rates.iter_mut().zip(rates) {
            match (bucket.as_mut(), rate.map(|rate| (rate.limit, nanos(rate.window)))) {
                (Some(bucket), Some((limit, window))) => bucket.resize(limit, window, now),
                (None, Some((limit, window))) => *bucket = Some(Bucket::new(limit, window)),
                // It stays: calls in flight hold marks of it.
                (_, None) => {}
            }
        }
        self.turn(now);
        if self.quota.money.map(|budget| budget.limit) != quota.money.map(|budget| budget.limit) {
            self.purse.warned = 0;
        }
        self.purse.ends = quota.money.and_then(|budget| budget.ends(now));
        self.quota = quota;
    }

    fn limits(&self) -> [Option<&Bucket>; 3] {
        let rates = [self.quota.requests, self.quota.input, self.quota.output];
        let mut limits = self.rates.each_ref().map(Option::as_ref);
        for (limit, rate) in limits.iter_mut().zip(rates) {
            *limit = limit.filter(|_| rate.is_some());
        }
        limits
    }

    /// Whether the call could fit at all.
    ///
    /// # Errors
    /// [`Error::NeverFits`].
    pub(crate) fn could_admit(&self, level: &'static str, most: &Amounts) -> Result<(), Error> {
        for ((bucket, asked), resource) in self.limits().into_iter().zip(rated(1, most)).zip(RATED)
        {
            if let Some(limit) = bucket.map(Bucket::limit).filter(|limit| asked > *limit) {
                return Err(Error::NeverFits { level, resource, asked, limit });
            }
        }
        if let Some(budget) = self.quota.money.filter(|budget| most.money > budget.limit) {
            let (asked, limit) = (most.money.0, budget.limit.0);
            return Err(Error::NeverFits { level, resource: Resource::Money, asked, limit });
        }
        Ok(())
    }

    /// Whether the call fits now.
    pub(crate) fn admits(&mut self, most: &Amounts, now: u64) -> Result<(), Short> {
        let short =
            |resource, until: Option<u64>| Err(Short { resource, until: until.map(duration) });
        if self.quota.concurrency.is_some_and(|limit| self.in_flight >= limit) {
            return short(Resource::Concurrency, None);
        }
        for ((bucket, asked), resource) in self.limits().into_iter().zip(rated(1, most)).zip(RATED)
        {
            match bucket.map_or(Ok(()), |bucket| bucket.admits(asked, now)) {
                Ok(()) => {}
                Err(Full::Until(at)) => return short(resource, Some(at)),
                Err(Full::Never) => return short(resource, None),
            }
        }
        if let Some(budget) = self.quota.money {
            self.turn(now);
            if self.purse.gone.saturating_add(most.money.0) > budget.limit.0 {
                // In an empty purse of the next window it fits, unless it never does.
                let next = self.purse.ends.filter(|_| most.money <= budget.limit);
                return short(Resource::Money, next);
            }
        }
        Ok(())
    }

    /// Whether the call fits now behind those `ahead`, which are let in and have not begun.
    pub(crate) fn admits_behind(
        &mut self,
        (calls, ahead): (u32, &Amounts),
        most: &Amounts,
        now: u64,
    ) -> Result<(), Short> {
        self.admits(most, now)?;
        if calls == 0 {
            return Ok(());
        }
        let mut then = self.clone();
        for (bucket, amount) in then.rates.iter_mut().zip(rated(calls.into(), ahead)) {
            if let Some(bucket) = bucket {
                bucket.add(amount, now);
            }
        }
        then.in_flight = then.in_flight.saturating_add(calls);
        then.purse.gone = then.purse.gone.saturating_add(ahead.money.0);
        then.admits(most, now)
    }

    /// When nothing of it is used any more, in nanoseconds; what no time brings back is not waited
    /// for.
    pub(crate) fn drained(&self) -> Option<u64> {
        let rates = self.limits().into_iter().flatten().map(Bucket::empties);
        let purse = self.purse.ends.filter(|_| self.purse.gone > 0);
        rates.chain(purse).max()
    }

    /// Reserves what [`admits`](Self::admits) allowed.
    pub(crate) fn reserve(&mut self, most: &Amounts, now: u64) -> Marks {
        self.in_flight += 1;
        self.reserved[0] = self.reserved[0].saturating_add(most.input.0);
        self.reserved[1] = self.reserved[1].saturating_add(most.output.0);
        let mut marks = Marks::default();
        for ((bucket, asked), mark) in
            self.rates.iter_mut().zip(rated(1, most)).zip(&mut marks.rates)
        {
            *mark = bucket.as_mut().map(|bucket| bucket.add(asked, now));
        }
        if self.quota.money.is_some() {
            self.purse.gone = self.purse.gone.saturating_add(most.money.0);
            self.purse.reserved = self.purse.reserved.saturating_add(most.money.0);
            marks.window = Some(self.purse.window);
        }
        marks
    }

    /// The call ended, or, with 0 `requests`, was never made. Where it `used` more than was
    /// reserved, the account is in debt.
    pub(crate) fn settle(
        &mut self,
        most: &Amounts,
        (requests, used): (u64, &Amounts),
        marks: &Marks,
        now: u64,
    ) {
        self.in_flight -= 1;
        self.reserved[0] = self.reserved[0].saturating_sub(most.input.0);
        self.reserved[1] = self.reserved[1].saturating_sub(most.output.0);
        let amounts = rated(1, most).into_iter().zip(rated(requests, used));
        for ((bucket, mark), (reserved, used)) in
            self.rates.iter_mut().zip(marks.rates).zip(amounts)
        {
            if let (Some(bucket), Some(mark)) = (bucket, mark) {
                bucket.settle(reserved, used, mark, now);
            }
        }
        self.turn(now);
        // What was reserved in a window that is over was spent in that one.
        if marks.window == Some(self.purse.window) {
            let others = self.purse.gone.saturating_sub(most.money.0);
            self.purse.gone = others.saturating_add(used.money.0);
            self.purse.reserved = self.purse.reserved.saturating_sub(most.money.0);
        }
    }

    /// Another window begins, of which so much is left.
    pub(crate) fn begin(&mut self, left: MicroDollars) {
        if let Some(budget) = self.quota.money {
            let gone = budget.limit.saturating_sub(left).0;
            let (window, ends) = (self.purse.window + 1, self.purse.ends);
            // Whoever spent that was warned of it.
            let warned = passed(gone, budget.limit).unwrap_or(0);
            self.purse = Purse { window, ends, gone, reserved: 0, warned };
        }
    }

    /// No more than that is left of this window.
    pub(crate) fn leave(&mut self, left: MicroDollars, now: u64) {
        self.turn(now);
        if let Some(budget) = self.quota.money {
            self.purse.gone = self.purse.gone.max(budget.limit.saturating_sub(left).0);
        }
    }

    /// The share that was passed since the last time it was asked.
    pub(crate) fn warning(&mut self) -> Option<Passed> {
        let budget = self.quota.money?;
        let percent = passed(self.purse.gone, budget.limit)?;
        (percent > self.purse.warned).then(|| {
            self.purse.warned = percent;
            (percent, budget.limit, self.purse.ends.map(duration))
        })
    }

    /// How each of its limits stands.
    pub(crate) fn gauges(&self, now: u64) -> Vec<Gauge> {
        let reserved = [self.in_flight.into(), self.reserved[0], self.reserved[1]];
        let rates = [self.quota.requests, self.quota.input, self.quota.output];
        let mut gauges = Vec::new();
        for (((bucket, rate), reserved), resource) in
            self.limits().into_iter().zip(rates).zip(reserved).zip(RATED)
        {
            let (Some(bucket), Some(rate)) = (bucket, rate) else { continue };
            let (held, resets) = bucket.held(now);
            // A request is used when it is made: what its call will use is not in question.
            let reserved = if resource == Resource::Requests { 0 } else { reserved.min(held) };
            gauges.push(Gauge {
                resource,
                limit: rate.limit,
                window: Some(rate.window),
                used: held - reserved,
                reserved,
                resets: resets.map(duration),
            });
        }
        if let Some(budget) = self.quota.money {
            let is_over = self.purse.ends.is_some_and(|ends| ends <= now);
            let (gone, reserved) =
                if is_over { (0, 0) } else { (self.purse.gone, self.purse.reserved) };
            gauges.push(Gauge {
                resource: Resource::Money,
                limit: budget.limit.0,
                window: budget.window,
                used: gone.saturating_sub(reserved),
                reserved,
                resets: self.purse.ends.filter(|_| gone > 0 && !is_over).map(duration),
            });
        }
        if let Some(limit) = self.quota.concurrency {
            gauges.push(Gauge {
                resource: Resource::Concurrency,
                limit: limit.into(),
                window: None,
                used: self.in_flight.into(),
                reserved: 0,
                resets: None,
            });
        }
        gauges
    }

    /// Calls in flight, and the money of this window that is spent or reserved.
    pub(crate) const fn usage(&self) -> (u32, MicroDollars) {
        (self.in_flight, MicroDollars(self.purse.gone))
    }

    fn turn(&mut self, now: u64) {
        if self.purse.ends.is_some_and(|ends| ends <= now) {
            let ends = self.quota.money.and_then(|budget| budget.ends(now));
            let window = self.purse.window + 1;
            self.purse = Purse { window, ends, gone: 0, reserved: 0, warned: 0 };
        }
    }
}

/// The greatest share to warn of that so much of a budget has reached, in percent.
fn passed(gone: u64, limit: MicroDollars) -> Option<u8> {
    let share = u128::from(gone) * 100 / u128::from(limit.0.max(1));
    WARNINGS.into_iter().rev().find(|&level| share >= level.into())
}
