//! The default policy: what leaves, how much of it and when, by what it costs.
//!
//! **Where to cut.** What an endpoint has cached is a prefix, so removing a page has everything
//! behind it written anew: 1.15 tokens' worth for each token that stays. Letting go of the oldest
//! pages of a prompt of 64,000 tokens therefore costs as much as eight calls; letting go of newer
//! ones costs less and loses more. Each of 32 places of the first removal is priced: what stands
//! behind it, plus the needs that are to be expected of what would leave.
//!
//! **How much.** Room that stands empty is worth nothing, room that fills up soon must be made
//! soon again. This is the economic order quantity: of the depths from 2 % to 40 % the one with the
//! least cost for each token of room, with a price on room that stands empty: at a quarter of that
//! price a prompt of 64,000 tokens cost 4 % less and used 87 % of its room instead of 90 %.
//!
//! **When.** Where nothing fits any more; and whenever the endpoint has dropped its cache and the
//! whole prompt is written in any case, so that removing costs nothing but recall. Recall has its
//! guard: such a rebuild goes no deeper than 80.5 %. Going down to 60 % instead of 70 % saved 4 % of the
//! price and cost 1.2 points of recall and three of the room's use.
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
    pub rewrites_per_fault: f64,
    /// Losses are expected over so many times the steps in which the log's room is used up once.
    pub horizon: f64,
    /// The price of a token of room that stands empty for one step, in reads of a token. It is what
    /// fills nine tenths of the room.
    pub empty_room: f64,
    /// How much of its room a rebuild of a cold prompt leaves filled, from 0 to 1.
    pub cold_low: f64,
    /// From how much on there is such a rebuild.
    pub cold_high: f64,
    /// The deepest cut of a warm prompt, as a share of its room.
    pub deepest: f64,
    /// How likely a unit is needed.
    pub hazard: Hazard,
}

impl Weights {
    /// What was found by search on half of the recorded runs.
    pub const DEFAULT: Self = Self {
        rewrites_per_fault: 2.4,
        horizon: 1.5,
        empty_room: 19.4,
        cold_low: 0.805,
        cold_high: 0.85,
        deepest: 0.4,
        hazard: Hazard::DEFAULT,
    };
}

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
        terms.cold && size > part(capacity, ppm(self.cold_high))
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        let prices = Prices::of(self, view);
        if view.terms.cold {
            return view.down_to(ppm(self.cold_low), prices.order);
        }
        prices.cheapest(self, view)
    }

    /// `needs_ppm`: how often it is expected to be needed until the horizon. The prices are in tokens
    /// of uncached input: `rewrite` of writing anew what stands behind it if nothing else left,
    /// `fault` of a need of any, besides writing its own tokens.
    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        let faults = Faults::of(self, view);
        let mut behind = view.units.iter().fold(0.0, |sum, unit| sum + tokens(unit.tokens));
        let mut left = leaving.iter().copied().peekable();
        let rows = view.units.iter().enumerate().filter_map(|(index, unit)| {
            behind -= tokens(unit.tokens);
            left.next_if_eq(&index)?;
            let rewrite = if view.terms.cold { 0.0 } else { rewritten(&view.terms) * behind };
            let needs = self.hazard.needs(unit, view.now, faults.steps);
            Some([whole(1e6 * needs), whole(rewrite)])
        });
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
        let log = tokens(view.capacity.saturating_sub(view.pinned));
        let terms = view.terms;
        let call = terms.output() * tokens(REQUEST) + terms.read() * tokens(view.capacity);
        Self {
            steps: (weights.horizon * log / view.tokens_per_turn.max(1.0)).max(1.0),
            any: call + weights.rewrites_per_fault * (rewritten(&terms) * log),
            write: terms.write(),
        }
    }

    /// The price of one need of the unit.
    fn of_unit(&self, unit: &Unit) -> f64 {
        self.any + self.write * tokens(unit.tokens)
    }
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

/// What it costs to lose each unit, and the order of the loss for each token of room.
struct Prices {
    losses: Vec<f64>,
    order: Vec<usize>,
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
        let loss =
            |unit: &Unit| weights.hazard.needs(unit, view.now, faults.steps) * faults.of_unit(unit);
        let losses: Vec<f64> = view.units.iter().map(loss).collect();
        let mut order: Vec<usize> = (0..losses.len()).collect();
        let density = |index: usize| losses[index] / tokens(view.units[index].tokens).max(1.0);
        let densities: Vec<f64> = (0..losses.len()).map(density).collect();
        order.sort_by(|&a, &b| densities[a].total_cmp(&densities[b]).then(a.cmp(&b)));
        Self { losses, order }
    }

    fn cheapest(&self, weights: &Weights, view: &View<'_>) -> Vec<usize> {
        let units = view.units;
        // What stands at and behind each index, without what must stay.
        let mut behind = vec![0.0; units.len() + 1];
        for (index, unit) in units.iter().enumerate().rev() {
            behind[index] = behind[index + 1] + tokens(unit.tokens);
        }
        let stride = units.len().div_ceil(CUTS).max(1);
        let mut best = None;
        for from in (0..units.len()).step_by(stride) {
            self.cut(weights, view, from, &behind, &mut best);
        }
        // Where no depth can be reached, everything leaves that may.
        let Some(Cut { from, count, .. }) = best else {
            return (0..units.len()).collect();
        };
        self.order.iter().copied().filter(|&index| index >= from).take(count).collect()
    }

    /// Puts the cheapest way to make room without touching what stands before `from` into `best`,
    /// where it is cheaper.
    fn cut(
        &self,
        weights: &Weights,
        view: &View<'_>,
        from: usize,
        behind: &[f64],
        best: &mut Option<Cut>,
    ) {
        let terms = view.terms;
        let capacity = tokens(view.capacity);
        let rent = weights.empty_room * terms.read() / (2.0 * view.tokens_per_turn.max(1.0));
        let rewrite = rewritten(&terms);
        let deepest = ppm(weights.deepest).0;
        let depths = (DEPTH.0..=deepest).step_by(DEPTH.0 as usize);
        let mut depths = depths.map(|depth| capacity - tokens(part(view.capacity, Ppm(depth))));
        let mut target = depths.next();
        let (mut size, mut freed, mut loss) = (tokens(view.size()), 0.0, 0.0);
        let mut first = behind.len() - 1;
        for (count, index) in self.order.iter().copied().filter(|&index| index >= from).enumerate()
        {
            let room = tokens(view.units[index].tokens);
            (size, freed, loss) = (size - room, freed + room, loss + self.losses[index]);
            first = first.min(index);
            if target.is_none_or(|target| size > target) {
                continue;
            }
            let made = (capacity - size).max(1.0);
            let rate = (rewrite * (behind[first] - freed) + loss) / made + rent * made;
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
