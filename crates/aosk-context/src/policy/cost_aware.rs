//! The default policy: what leaves, how much of it and when, by what it costs.
//!
//! **Where to cut.** What an endpoint has cached is a prefix, so removing a page has everything
//! behind it written anew: 1.15 tokens' worth for each token that stays. Letting go of the oldest
//! pages of a prompt of 64,000 tokens therefore costs as much as eight calls; letting go of newer
//! ones costs less and loses more. Each of 32 places of the first removal is priced: what stands
//! behind it, plus the needs that are to be expected of what would leave.
//!
//! **How much.** Room that stands empty is worth nothing, room that fills up soon must be made
//! soon again. This is the economic order quantity: of the depths from 2 % to 24 % the one with the
//! least cost for each token of room, with a price on room that stands empty: at a quarter of that
//! price a prompt of 64,000 tokens cost 4 % less, used 88 % of its room instead of 91 % and recalled 0.6
//! points less.
//!
//! **When.** Where nothing fits any more; and whenever the endpoint has dropped its cache and the
//! whole prompt is written in any case, so that removing costs nothing but recall. Recall has its
//! guard: such a rebuild goes no deeper than 81.5 %. Going down to 70 % saved 5.5 % at 64,000 tokens and
//! cost a point of recall and three of the room's use.
//!
//! **What a fault is worth.** More than its price, and more so the larger the room. At 2.4 rewrites of
//! the log in every room, a prompt of 100,000 tokens costs 3.5 % less, and recalls 0.9 points less, which
//! is less than an order by frequency and size alone keeps. At the worth that it has here, J is 8 to 11 %
//! below that of every other policy that fills the room as much, at each of 32,000, 64,000 and 100,000
//! tokens, and recall is no lower. All this is of agents that ask for what they miss. One that cannot has
//! lost it, which no room makes cheap: J's own 5,000 tokens are then the least.
//!
//! Pages are brought back when they are asked for, never on a guess: of pages that a text search
//! against the newest ones proposed, 2 % were needed, at each rank; and bringing back at an eviction
//! what had become likelier than what stayed gained at most 0.6 points of recall, at a price up to
//! 2 % higher.

use aosk_abi::{Ppm, Tokens};

use super::hazard::Hazard;
use super::rating::whole;
use super::{Policy, Ratings, Unit, View, part};
use crate::terms::{Terms, tokens};

/// Minimises the expected price of the coming steps and of the pages that will be missed, by
/// [`Weights::DEFAULT`].
#[derive(Debug, Clone, Copy, Default)]
pub struct CostAware;

/// The constants of [`CostAware`]; a policy, too, for whoever searches better ones. Nobody else should:
/// plans name the policy and not its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// A fault is planned for as if it had the whole log written anew so many times. Its price alone
    /// is one more call; but what comes back takes the room of others, so that the next eviction
    /// comes sooner, and an agent must notice what it misses and know what to ask for.
    ///
    /// So many where the log has 30,000 tokens of room.
    pub rewrites_per_fault: f64,
    /// The exponent by which that grows with the log's room. Large windows are bought for what they
    /// do not forget, and a rewrite is a smaller part of what their calls cost.
    pub fault_growth: f64,
    /// The least that a fault is worth where the agent cannot ask for what it misses, in tokens that are
    /// written anew.
    pub least_lost: f64,
    /// Losses are expected over so many times the steps in which the log's room is used up once.
    pub horizon: f64,
    /// The price of a token of room that stands empty for one step, in reads of a token. It is what
    /// fills nine tenths of the room. So much where the log
    /// has 30,000 tokens of room.
    pub empty_room: f64,
    /// The exponent by which that grows with the log's room: what is empty is a share of it.
    ///
    /// Where a fault has its least worth, the rent is as many times higher as that worth is: room is
    /// worth what is missed without it.
    pub rent_growth: f64,
    /// How much of its room a rebuild of a cold prompt leaves filled, from 0 to 1.
    pub cold: f64,
    /// The deepest cut of a warm prompt, as a share of its room.
    pub deepest: f64,
    /// How likely a unit is needed.
    pub hazard: Hazard,
}

impl Weights {
    /// What was found by search on half of the recorded runs; a fault's worth, how far a cold prompt is
    /// cut, the rent of empty room and its growth were then moved, in looking at all of them, until
    /// recall held at each size.
    pub const DEFAULT: Self = Self {
        rewrites_per_fault: 6.2,
        fault_growth: 0.77,
        least_lost: 4_350.0,
        horizon: 0.8,
        empty_room: 22.0,
        rent_growth: 0.3,
        cold: 0.815,
        deepest: 0.25,
        hazard: Hazard::DEFAULT,
    };

    /// How many rewrites of a log of that room a fault is worth where it can be mended.
    fn rewrites(&self, log: f64) -> f64 {
        self.rewrites_per_fault * (log / LOG).powf(self.fault_growth)
    }

    /// How many times as much it is worth: 1 unless the agent cannot mend it, and then, too, where the
    /// log has more than 3,600 tokens of room.
    fn lift(&self, log: f64, terms: &Terms) -> f64 {
        if !terms.lost {
            return 1.0;
        }
        (self.least_lost / (self.rewrites(log) * log).max(1.0)).max(1.0)
    }
}

/// The room of the log, in tokens, for which two of the weights are given.
const LOG: f64 = 30_000.0;
/// What a model says to ask for a page.
const REQUEST: Tokens = Tokens(60);
/// How many places to cut at are priced, and how far the depths are apart that are priced at each.
/// Twice as many places changed no figure of the recorded runs by 0.2 %; depths of half a percent
/// changed one by 1.4 %, for the worse.
const CUTS: usize = 32;
const DEPTH: Ppm = Ppm(20_000);

impl Policy for CostAware {
    fn name(&self) -> &'static str {
        "cost_aware"
    }

    fn attends(&self, size: Tokens, capacity: Tokens, terms: &Terms) -> bool {
        Weights::DEFAULT.attends(size, capacity, terms)
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        Weights::DEFAULT.evict(view)
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        Weights::DEFAULT.rate(view, leaving)
    }
}

impl Policy for Weights {
    fn name(&self) -> &'static str {
        CostAware.name()
    }

    fn attends(&self, size: Tokens, capacity: Tokens, terms: &Terms) -> bool {
        terms.cold && size > part(capacity, ppm(self.cold))
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        let prices = Prices::of(self, view);
        if view.terms.cold {
            return view.down_to(ppm(self.cold), prices.order());
        }
        prices.cheapest(self, view)
    }

    /// `needs_ppm`: how often it is expected to be needed until the horizon. The prices are in tokens
    /// of uncached input: `rewrite` of writing anew what stands behind it if nothing else left,
    /// `fault` of a need of any, besides writing its own tokens.
    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        let faults = Faults::of(self, view);
        let mut behind = 0.0;
        let mut left = leaving.iter().rev().copied().peekable();
        let mut rows = Vec::with_capacity(leaving.len());
        for (index, unit) in view.units.iter().enumerate().rev() {
            if left.next_if_eq(&index).is_some() {
                let rewrite = if view.terms.cold { 0.0 } else { rewritten(&view.terms) * behind };
                let needs = self.hazard.needs(unit, view.now, faults.steps);
                rows.push([whole(1e6 * needs), whole(rewrite)]);
            }
            if left.peek().is_none() {
                break;
            }
            behind += tokens(unit.tokens);
        }
        rows.reverse();
        Ratings::of(["needs_ppm", "rewrite"], rows).with("fault", whole(faults.any))
    }
}

/// What it costs to need a unit that has left.
struct Faults {
    /// How many steps ahead losses are expected.
    steps: f64,
    /// The price of the call that asks, and of what makes room.
    any: f64,
    write: f64,
}

impl Faults {
    fn of(weights: &Weights, view: &View<'_>) -> Self {
        let log = log(view);
        let terms = view.terms;
        let rewrites = weights.rewrites(log) * weights.lift(log, &terms);
        let call = terms.output() * tokens(REQUEST) + terms.read() * tokens(view.capacity);
        Self {
            steps: (weights.horizon * log / view.tokens_per_turn.max(1.0)).max(1.0),
            any: call + rewrites * (rewritten(&terms) * log),
            write: terms.write(),
        }
    }

    /// The price of one need of the unit.
    fn of_unit(&self, unit: &Unit) -> f64 {
        self.any + self.write * tokens(unit.tokens)
    }
}

/// The room of the log, in tokens: what the prompt may have besides what is pinned.
fn log(view: &View<'_>) -> f64 {
    tokens(view.capacity.saturating_sub(view.pinned))
}

/// What a token that has to be written anew costs more than one that is read.
fn rewritten(terms: &Terms) -> f64 {
    (terms.write() - terms.read()).max(0.0)
}

/// A share as a number of millionths, rounded.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is from 0 to 1"
)]
fn ppm(share: f64) -> Ppm {
    Ppm((share * 1e6).round() as u32)
}

/// The units in the order of what it costs to lose them, for each token of room. The order is gone
/// through once for each place to cut at, mostly to pass over what stands before it: so the indices
/// stand by themselves, and at a hundred thousand units fit where the processor reaches them fast.
struct Prices {
    indices: Vec<u32>,
    losses: Vec<Loss>,
    /// By index: what stands before it of what may leave, in tokens; at the end all of it.
    before: Vec<f64>,
}

/// What it costs to lose a unit, and the tokens that this makes room for.
#[derive(Clone, Copy)]
struct Loss {
    price: f64,
    room: f64,
}

impl Loss {
    /// What losses are sorted by: the price for each token of room, then the index. As one number
    /// it takes half the time to sort; the price is exact to a ten-millionth in it.
    #[expect(clippy::cast_possible_truncation, reason = "rounded")]
    fn key(&self, index: u32) -> u64 {
        let density = (self.price / self.room.max(1.0)) as f32;
        (u64::from(density.to_bits()) << 32) | u64::from(index)
    }
}

/// One way to make room.
struct Cut {
    /// The price of a token of room, in tokens of uncached input.
    rate: f64,
    /// No unit before this index leaves.
    from: usize,
    /// How many of the others do, in the order of their loss.
    count: usize,
}

impl Prices {
    fn of(weights: &Weights, view: &View<'_>) -> Self {
        let faults = Faults::of(weights, view);
        // Units of one turn stand side by side, and a power takes as long as all the rest.
        let mut fallen = (None, 0.0);
        let mut price = |unit: &Unit| {
            if fallen.0 != Some(unit.born) {
                fallen = (Some(unit.born), weights.hazard.falls(unit.born, view.now, faults.steps));
            }
            weights.hazard.rate(unit) * fallen.1 * faults.of_unit(unit)
        };
        let mut before = Vec::with_capacity(view.units.len() + 1);
        let mut sum = 0.0;
        let losses = view.units.iter().map(|unit| {
            let loss = Loss { price: price(unit), room: tokens(unit.tokens) };
            before.push(sum);
            sum += loss.room;
            loss
        });
        let losses: Vec<Loss> = losses.collect();
        before.push(sum);
        // A process has at most 2^32 pages.
        let mut keys: Vec<u64> = losses.iter().zip(0..).map(|(loss, at)| loss.key(at)).collect();
        keys.sort_unstable();
        #[expect(clippy::cast_possible_truncation, reason = "the lower half of a key")]
        let indices: Vec<u32> = keys.into_iter().map(|key| key as u32).collect();
        let losses = indices.iter().map(|&index| losses[index as usize]).collect();
        Self { indices, losses, before }
    }

    /// The indices of the units, those first whose loss costs least.
    fn order(&self) -> impl Iterator<Item = usize> {
        self.indices.iter().map(|&index| index as usize)
    }

    fn cheapest(&self, weights: &Weights, view: &View<'_>) -> Vec<usize> {
        let units = self.indices.len();
        let stride = units.div_ceil(CUTS).max(1);
        let mut best = None;
        for from in (0..units).step_by(stride) {
            self.cut(weights, view, from, &mut best);
        }
        // Where no depth can be reached, everything leaves that may.
        let Some(Cut { from, count, .. }) = best else {
            return (0..units).collect();
        };
        self.order().filter(|&index| index >= from).take(count).collect()
    }

    /// Puts the cheapest way to make room without touching what stands before `from` into `best`,
    /// where it is cheaper.
    fn cut(&self, weights: &Weights, view: &View<'_>, from: usize, best: &mut Option<Cut>) {
        let terms = view.terms;
        let capacity = tokens(view.capacity);
        let rent = weights.empty_room * (log(view) / LOG).powf(weights.rent_growth);
        let rent = rent * weights.lift(log(view), &terms) * terms.read()
            / (2.0 * view.tokens_per_turn.max(1.0));
        let rewrite = rewritten(&terms);
        let deepest = ppm(weights.deepest).0;
        let depths = (DEPTH.0..=deepest).step_by(DEPTH.0 as usize);
        let mut depths = depths.map(|depth| capacity - tokens(part(view.capacity, Ppm(depth))));
        let mut target = depths.next();
        let whole = self.before.last().copied().unwrap_or_default();
        let (mut size, mut freed, mut loss) = (tokens(view.fixed) + whole, 0.0, 0.0);
        let mut first = self.indices.len();
        let from_there = self.order().zip(&self.losses).filter(|(index, _)| *index >= from);
        for (count, (index, next)) in from_there.enumerate() {
            (size, freed, loss) = (size - next.room, freed + next.room, loss + next.price);
            first = first.min(index);
            if target.is_none_or(|target| size > target) {
                continue;
            }
            let made = (capacity - size).max(1.0);
            let rate = (rewrite * (whole - self.before[first] - freed) + loss) / made + rent * made;
            if best.as_ref().is_none_or(|best| rate < best.rate) {
                *best = Some(Cut { rate, from, count: count + 1 });
            }
            while target.is_some_and(|target| size <= target) {
                target = depths.next();
            }
            // Deeper ones cost at least the rent of their room.
            if target.is_none() || best.as_ref().is_some_and(|best| rent * made >= best.rate) {
                break;
            }
        }
    }
}
