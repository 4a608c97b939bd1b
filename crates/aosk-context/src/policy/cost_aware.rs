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
//! price a prompt of 64,000 tokens costs 4 % less, uses 88 % of its room instead of 91 % and recalls 0.7
//! points less.
//!
//! **When.** Where nothing fits any more; and whenever the endpoint has dropped its cache and the
//! whole prompt is written in any case, so that removing costs nothing but recall. Recall has its
//! guard: such a rebuild goes no deeper than 81 %. Going down to 70 % saves 5 % at 64,000 tokens and
//! costs a point of recall and three of the room's use.
//!
//! **What a fault is worth.** More than its price, and more so the larger the room, up to a bound. At 2.4
//! rewrites of the log in every room, a prompt of 100,000 tokens costs 3.5 % less, and recalls 0.9 points
//! less, which is less than an order by frequency and size alone keeps. At the worth that it has here, J
//! is 9 to 11 % below that of every other policy that fills the room as much, at each of 32,000, 64,000
//! and 100,000 tokens, and recall is no lower. All this is of agents that ask for what they miss. One
//! that cannot has lost it, which no room makes cheap: J's own 5,000 tokens are then the least.
//!
//! Pages are brought back when they are asked for, never on a guess: of pages that a text search
//! against the newest ones proposed, 2 % were needed, at each rank; and bringing back at an eviction
//! what had become likelier than what stayed gained at most 0.6 points of recall, at a price up to
//! 2 % higher.

use aosk_abi::{Ppm, Tokens};

use super::hazard::Hazard;
use super::order::Order;
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
    /// So many in a room without end. Large windows are bought for what they do not forget, and a
    /// rewrite is a smaller part of what their calls cost.
    pub rewrites_per_fault: f64,
    /// The room of the log, in tokens, where it is half as many. In small rooms they are in
    /// proportion to the room.
    pub fault_room: f64,
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
    /// What was found by search on half of the recorded runs and then moved, in looking at all of them,
    /// until recall held at each size.
    pub const DEFAULT: Self = Self {
        rewrites_per_fault: 11.5,
        fault_room: 20_000.0,
        least_lost: 4_350.0,
        horizon: 0.7,
        empty_room: 22.0,
        rent_growth: 0.3,
        cold: 0.81,
        deepest: 0.25,
        hazard: Hazard::DEFAULT,
    };

    /// How many rewrites of a log of that room a fault is worth where it can be mended.
    fn rewrites(&self, log: f64) -> f64 {
        self.rewrites_per_fault * log / (log + self.fault_room)
    }

    /// How many times as much it is worth: 1 unless the agent cannot mend it, and then, too, where the
    /// log has more than 2,950 tokens of room.
    fn lift(&self, log: f64, terms: &Terms) -> f64 {
        if !terms.lost {
            return 1.0;
        }
        (self.least_lost / (self.rewrites(log) * log).max(1.0)).max(1.0)
    }
}

/// The room of the log, in tokens, for which the rent is given.
const LOG: f64 = 30_000.0;
/// What a model says to ask for a page.
const REQUEST: Tokens = Tokens(60);
/// How many places to cut at are priced, and how far the depths are apart that are priced at each.
/// Twice as many places changed no figure of the recorded runs by 0.2 %; depths of half a percent
/// changed one by 1.4 %, for the worse.
const CUTS: usize = 32;
const DEPTH: Ppm = Ppm(20_000);
/// By how much less than all a bound counts: more than densities and sums are rounded by.
const NEARLY: f64 = 1.0 - 1e-6;

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
        let mut prices = Prices::of(self, view);
        if view.terms.cold {
            return view.down_to(ppm(self.cold), prices.order.iter());
        }
        prices.cheapest(self, view)
    }

    /// `needs_ppm`: how often it is expected to be needed until the horizon. The prices are in tokens
    /// of uncached input: `rewrite` of writing anew what stands behind it if nothing else left,
    /// `fault` of a need of any, besides writing its own tokens.
    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        let faults = Faults::of(self, view);
        let mut needs = self.hazard.needs(view.now, faults.steps);
        let rewrite = if view.terms.cold { 0.0 } else { rewritten(&view.terms) };
        let mut behind = view.size.saturating_sub(view.fixed);
        let mut next = 0;
        let rows = leaving.iter().map(|&index| {
            // What stands before the last of them need not be added up again for the next one.
            let passed = view.units[next..=index].iter();
            behind = passed.fold(behind, |behind, unit| behind.saturating_sub(unit.tokens));
            next = index + 1;
            let needs = needs.of(&view.units[index]);
            [whole(1e6 * needs), whole(rewrite * tokens(behind))]
        });
        let rows: Vec<[u64; 2]> = rows.collect();
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

/// What it costs to lose units, and where to cut.
struct Prices<'a> {
    units: &'a [Unit],
    /// By index: the price of losing the unit.
    prices: Vec<f64>,
    /// The units in the order of what it costs to lose them, for each token of room.
    order: Order,
    /// What stands before every [`SUM`]-th unit of what may leave, in tokens.
    sums: Vec<f64>,
    /// What may leave altogether, in tokens.
    whole: f64,
    places: Vec<Place>,
}

/// How many units one sum is over: so much is added up to know what stands before a unit.
const SUM: usize = 64;

/// A place to cut at.
struct Place {
    /// No unit before this index leaves.
    from: usize,
    /// The least that the units from there on cost, for each token of room.
    least: f32,
}

/// What ways to make room are compared by.
struct Rates {
    capacity: f64,
    /// What the prompt is cut down to, the least deep first.
    targets: Vec<f64>,
    /// The price of a token that is written anew.
    rewrite: f64,
    /// The price of a token of room that stands empty, until it is used.
    rent: f64,
}

impl Rates {
    fn of(weights: &Weights, view: &View<'_>) -> Self {
        let terms = view.terms;
        let capacity = tokens(view.capacity);
        let depths = (DEPTH.0..=ppm(weights.deepest).0).step_by(DEPTH.0 as usize);
        let rent = weights.empty_room * (log(view) / LOG).powf(weights.rent_growth);
        Self {
            capacity,
            targets: depths
                .map(|depth| capacity - tokens(part(view.capacity, Ppm(depth))))
                .collect(),
            rewrite: rewritten(&terms),
            rent: rent * weights.lift(log(view), &terms) * terms.read()
                / (2.0 * view.tokens_per_turn.max(1.0)),
        }
    }

    /// The price of a token of room where the prompt is cut down to `size`, `behind` is written anew
    /// and what leaves costs `loss`.
    fn of_cut(&self, size: f64, behind: f64, loss: f64) -> f64 {
        let made = (self.capacity - size).max(1.0);
        (self.rewrite * behind + loss) / made + self.rent * made
    }

    /// The least that it can be where the prompt was cut down to `size` at that `loss`, and is cut
    /// down to `target` or further by units that cost at least `density` for each token.
    ///
    /// Of `m` tokens of room, `capacity - size` are there: so the loss is at least
    /// `loss + density * (m - (capacity - size))`, and this over `m` falls or rises with `m` throughout.
    fn at_least(&self, target: f64, size: f64, loss: f64, density: f64) -> f64 {
        let made = (self.capacity - target).max(1.0);
        let so_far = (loss - density * (self.capacity - size)).min(0.0);
        (density + so_far / made + self.rent * made) * NEARLY
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

/// What units are ordered by: the price for each token of room, exact to a ten-millionth.
#[expect(clippy::cast_possible_truncation, reason = "rounded")]
fn density(unit: &Unit, price: f64) -> f32 {
    (price / tokens(unit.tokens).max(1.0)) as f32
}

impl<'a> Prices<'a> {
    fn of(weights: &Weights, view: &View<'a>) -> Self {
        let units = view.units;
        let faults = Faults::of(weights, view);
        let mut needs = weights.hazard.needs(view.now, faults.steps);
        let mut prices = Vec::with_capacity(units.len());
        let mut densities = Vec::with_capacity(units.len());
        let mut sums = Vec::with_capacity(units.len().div_ceil(SUM));
        let mut whole = 0.0;
        // Block by block, while each is near the processor; and each thing by itself, so that none
        // waits for what another gave before.
        for block in units.chunks(SUM) {
            sums.push(whole);
            whole = block.iter().fold(whole, |sum, unit| sum + tokens(unit.tokens));
            let priced = prices.len();
            prices.extend(block.iter().map(|unit| needs.of(unit) * faults.of_unit(unit)));
            let priced = block.iter().zip(&prices[priced..]);
            densities.extend(priced.map(|(unit, price)| density(unit, *price)));
        }
        let order = Order::of(densities);
        let stride = units.len().div_ceil(CUTS).max(1);
        let mut places = Vec::with_capacity(CUTS);
        let mut behind = f32::MAX;
        for (least, nth) in order.least(stride).rev().zip((0..units.len().div_ceil(stride)).rev()) {
            behind = behind.min(least);
            places.push(Place { from: nth * stride, least: behind });
        }
        places.reverse();
        Self { units, prices, order, sums, whole, places }
    }

    /// What stands before that index of what may leave, in tokens.
    fn before(&self, index: usize) -> f64 {
        let sum = index / SUM;
        let rest = self.units[sum * SUM..index].iter();
        rest.fold(self.sums[sum], |sum, unit| sum + tokens(unit.tokens))
    }

    fn cheapest(mut self, weights: &Weights, view: &View<'_>) -> Vec<usize> {
        let rates = Rates::of(weights, view);
        let mut best = None;
        for place in std::mem::take(&mut self.places) {
            self.cut(&rates, tokens(view.fixed) + self.whole, &place, &mut best);
        }
        // Where no depth can be reached, everything leaves that may.
        let Some(Cut { from, count, .. }) = best else {
            return (0..self.units.len()).collect();
        };
        self.order.iter().filter(|&index| index >= from).take(count).collect()
    }

    /// Puts the cheapest way to make room in a prompt of that `size`, without touching what stands
    /// before that place, into `best`, where it is cheaper.
    fn cut(&mut self, rates: &Rates, mut size: f64, place: &Place, best: &mut Option<Cut>) {
        let (mut freed, mut loss) = (0.0, 0.0);
        let (mut first, mut count) = (self.units.len(), 0);
        let (mut next, mut density) = (0, place.least);
        for &target in &rates.targets {
            if count > 0 && size <= target {
                continue;
            }
            let least = rates.at_least(target, size, loss, density.into());
            if best.as_ref().is_some_and(|best| least >= best.rate) {
                return;
            }
            while count == 0 || size > target {
                let Some(at) = self.order.seek(next, place.from) else { return };
                let Some(found) = self.order.get(at) else { return };
                let index;
                (density, index) = found;
                let (price, room) = (self.prices[index], tokens(self.units[index].tokens));
                (size, freed, loss) = (size - room, freed + room, loss + price);
                (first, count, next) = (first.min(index), count + 1, at + 1);
            }
            let rate = rates.of_cut(size, self.whole - self.before(first) - freed, loss);
            if best.as_ref().is_none_or(|best| rate < best.rate) {
                *best = Some(Cut { rate, from: place.from, count });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aosk_abi::{PageId, Seq};
    use proptest::prelude::*;

    use super::*;

    /// What [`Prices::cheapest`] finds, by pricing every cut of everything in one sorted list.
    fn cheapest_of_all(weights: &Weights, view: &View<'_>) -> Vec<usize> {
        let faults = Faults::of(weights, view);
        let rates = Rates::of(weights, view);
        let mut needs = weights.hazard.needs(view.now, faults.steps);
        let prices = view.units.iter().map(|unit| needs.of(unit) * faults.of_unit(unit));
        let prices: Vec<f64> = prices.collect();
        let mut order: Vec<usize> = (0..prices.len()).collect();
        order.sort_by(|&a, &b| {
            let density = |at: usize| density(&view.units[at], prices[at]);
            density(a).total_cmp(&density(b))
        });
        let room = |units: &[Unit]| units.iter().map(|unit| tokens(unit.tokens)).sum::<f64>();
        let mut best: Option<(f64, Vec<usize>)> = None;
        for from in (0..prices.len()).step_by(prices.len().div_ceil(CUTS).max(1)) {
            let order: Vec<usize> = order.iter().copied().filter(|&index| index >= from).collect();
            let mut loss = 0.0;
            let mut freed = 0.0;
            let mut targets = rates.targets.iter().peekable();
            for (place, &index) in order.iter().enumerate() {
                loss += prices[index];
                freed += tokens(view.units[index].tokens);
                let size = tokens(view.size) - freed;
                if targets.next_if(|target| size <= **target).is_none() {
                    continue;
                }
                while targets.next_if(|target| size <= **target).is_some() {}
                let leaving = &order[..=place];
                let first = leaving.iter().min().copied().unwrap_or_default();
                let rate = rates.of_cut(size, room(&view.units[first..]) - freed, loss);
                if best.as_ref().is_none_or(|(best, _)| rate < *best) {
                    best = Some((rate, leaving.to_vec()));
                }
            }
        }
        best.map_or_else(|| (0..prices.len()).collect(), |(_, leaving)| leaving)
    }

    /// A unit of that many tokens, age in turns, accesses and importance in tenths.
    fn unit(index: u32, (size, age, accesses, rated): (u64, u32, u32, u32)) -> Unit {
        Unit {
            id: Seq(index.into()),
            first: PageId(index),
            last: PageId(index),
            part: false,
            tokens: Tokens(size),
            importance: Ppm(rated * 100_000),
            tool_result: size % 2 == 0,
            message: size % 3 == 0,
            born: 1_000 - age,
            accesses,
            last_access: 1_000 - age,
            credit: 0,
        }
    }

    proptest! {
        #[test]
        fn what_is_passed_over_is_never_the_cheapest(
            units in prop::collection::vec((0_u64..2_000, 0_u32..60, 0_u32..3, 0_u32..11), 0..900),
            alike in any::<bool>(),
            fixed in 0_u64..4_000,
            room in 0.5..1.05,
            per_turn in 1.0..4_000.0,
        ) {
            let mut units: Vec<Unit> = (0..).zip(units).map(|(at, it)| unit(at, it)).collect();
            units.sort_by_key(|unit| unit.born);
            if alike {
                units.iter_mut().for_each(|unit| unit.tokens = Tokens(500));
            }
            let whole = units.iter().map(|unit| unit.tokens.0).sum::<u64>() + fixed;
            let view = View {
                units: &units,
                size: Tokens(whole),
                fixed: Tokens(fixed),
                pinned: Tokens(fixed / 2),
                capacity: Tokens((whole as f64 * room) as u64),
                now: 1_000,
                tokens_per_turn: per_turn,
                terms: Terms::default(),
            };
            let weights = Weights::DEFAULT;
            prop_assert_eq!(weights.evict(&view), cheapest_of_all(&weights, &view));
        }
    }
}
