//! What a clairvoyant would pay, and what nobody can go below.
//!
//! The optimum is over the family "append between epochs; at an epoch, rebuild from the head with
//! what is needed now; bring a page back right before it is needed": an exact search over where
//! the epochs begin, in quadratic time. The lower bound lets every page be written once and each
//! later need be met by the cheaper of staying and being written again, without a budget and
//! without anything invalidated; where any of several pages will do it charges nothing. The true
//! optimum lies between the two; the tests search it exhaustively on small instances.

use super::Market;
use super::trace::Run;

/// The calls that are judged: those whose head and new pages fit, each with whether the cache has
/// expired before it.
pub struct Calls {
    pub steps: Vec<(usize, bool)>,
    pub infeasible: usize,
}

impl Calls {
    pub fn of(run: &Run, budget: u64, market: &Market) -> Self {
        let mut calls = Self { steps: Vec::new(), infeasible: 0 };
        let mut gap = 0.0;
        for (index, step) in run.steps.iter().enumerate() {
            gap += step.gap;
            if run.head + run.tokens(step.new) > budget {
                calls.infeasible += 1;
                continue;
            }
            calls.steps.push((index, calls.steps.is_empty() || gap > market.ttl));
            gap = 0.0;
        }
        calls
    }
}

/// What the clairvoyant paid and held.
#[derive(Debug, Clone, Copy, Default)]
pub struct Optimum {
    pub price: f64,
    pub cached: f64,
    pub input: f64,
    pub used: f64,
    pub full_steps: usize,
}

pub fn optimum(run: &Run, budget: u64, market: &Market) -> Optimum {
    let calls = Calls::of(run, budget, market);
    let count = calls.steps.len();
    let mut best = vec![f64::INFINITY; count + 1];
    let mut reached: Vec<Optimum> = vec![Optimum::default(); count + 1];
    best[0] = 0.0;
    // The epoch in which a page was last put into the prompt.
    let mut held = vec![usize::MAX; run.pages.len()];
    for epoch in 0..count {
        let mut state = reached[epoch];
        let mut size = run.head;
        for at in epoch..count {
            let (index, cold) = calls.steps[at];
            let step = &run.steps[index];
            let before = size;
            held[step.new.0..step.new.1].fill(epoch);
            size += run.tokens(step.new);
            for set in &step.needs {
                if set.iter().any(|&page| held[page] == epoch) {
                    continue;
                }
                let Some(&page) = set.iter().min_by_key(|&&page| run.pages[page].tokens) else {
                    continue;
                };
                let tokens = run.pages[page].tokens;
                // What cannot stand beside head and new pages nobody can have.
                if at > epoch || size + tokens <= budget {
                    held[page] = epoch;
                    size += tokens;
                }
            }
            if size > budget {
                break;
            }
            let cached = match (cold, at == epoch) {
                (true, _) => 0,
                (false, true) => run.head,
                (false, false) => before,
            };
            state.price += market.call(size, cached);
            state.cached += cached as f64;
            state.input += size as f64;
            if run.head + run.tokens((0, step.new.1)) > budget {
                state.used += size as f64 / budget as f64;
                state.full_steps += 1;
            }
            if state.price < best[at + 1] {
                best[at + 1] = state.price;
                reached[at + 1] = state;
            }
        }
    }
    reached[count]
}

pub fn lower_bound(run: &Run, budget: u64, market: &Market) -> f64 {
    let calls = Calls::of(run, budget, market);
    let mut price = 0.0;
    // What holding a token has cost up to now, and up to when each page was last there.
    let mut held = 0.0;
    let mut since: Vec<Option<f64>> = vec![None; run.pages.len()];
    for (index, cold) in calls.steps {
        let step = &run.steps[index];
        let rate = if cold { market.write } else { market.read };
        held += rate;
        price += rate.min(market.write) * run.head as f64;
        price += market.write * run.tokens(step.new) as f64;
        since[step.new.0..step.new.1].fill(Some(held));
        for set in &step.needs {
            let [page] = set[..] else { continue };
            let tokens = run.pages[page].tokens as f64;
            let stay = since[page].map_or(f64::INFINITY, |since| (held - since) * tokens);
            if run.head + run.tokens(step.new) + run.pages[page].tokens <= budget {
                price += stay.min(market.write * tokens);
            }
            since[page] = Some(held);
        }
    }
    price
}

/// What the run costs where everything stays for ever.
pub fn unbounded(run: &Run, budget: u64, market: &Market) -> f64 {
    let mut before = 0;
    let mut price = 0.0;
    for (index, cold) in Calls::of(run, budget, market).steps {
        let size = run.head + run.tokens((0, run.steps[index].new.1));
        price += market.call(size, if cold { 0 } else { before });
        before = size;
    }
    price
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::trace::{Kind, Page, Step};
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    /// The least price of all sequences of prompts, by trying every prompt at every call: head, new
    /// pages, and any other pages in any order, as long as every need is met.
    fn exhaustive(run: &Run, budget: u64, market: &Market) -> f64 {
        let calls = Calls::of(run, budget, market);
        // The cheapest way to have come to each prompt.
        let mut states: Vec<(Vec<usize>, f64)> = vec![(Vec::new(), 0.0)];
        for (index, cold) in calls.steps {
            let step = &run.steps[index];
            let mut next: Vec<(Vec<usize>, f64)> = Vec::new();
            for prompt in orders(step.new.1) {
                let size =
                    run.head + prompt.iter().map(|&page| run.pages[page].tokens).sum::<u64>();
                let new = (step.new.0..step.new.1).all(|page| prompt.contains(&page));
                let met = step.needs.iter().all(|set| set.iter().any(|page| prompt.contains(page)));
                if size > budget || !new || !met {
                    continue;
                }
                let price = states
                    .iter()
                    .map(|(before, paid)| {
                        let same = before.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
                        let first = index == calls_first(run, budget, market);
                        let cached = if cold || first {
                            0
                        } else {
                            run.head
                                + prompt[..same].iter().map(|&p| run.pages[p].tokens).sum::<u64>()
                        };
                        paid + market.call(size, cached)
                    })
                    .fold(f64::INFINITY, f64::min);
                next.push((prompt, price));
            }
            states = next;
        }
        states.iter().map(|(_, paid)| *paid).fold(f64::INFINITY, f64::min)
    }

    fn calls_first(run: &Run, budget: u64, market: &Market) -> usize {
        Calls::of(run, budget, market).steps[0].0
    }

    /// Every order of every subset of the pages below `count`.
    fn orders(count: usize) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new()];
        let mut from = 0;
        while from < all.len() {
            for page in 0..count {
                if !all[from].contains(&page) {
                    let mut longer = all[from].clone();
                    longer.push(page);
                    all.push(longer);
                }
            }
            from += 1;
        }
        all
    }

    fn random(rng: &mut ChaCha8Rng) -> (Run, u64) {
        let mut below = |bound: u32| rng.next_u32() % bound;
        let mut run = Run { id: String::new(), head: 10, pages: Vec::new(), steps: Vec::new() };
        for _ in 0..4 {
            let first = run.pages.len();
            for _ in 0..=below(2).min(4_u32.saturating_sub(first as u32)) {
                if run.pages.len() < 5 {
                    let tokens = u64::from(5 + below(40));
                    run.pages.push(Page { tokens, kind: Kind::Tool });
                }
            }
            let mut needs = Vec::new();
            if first > 0 && below(3) > 0 {
                let mut set: Vec<usize> =
                    (0..=below(2)).map(|_| below(first as u32) as usize).collect();
                set.sort_unstable();
                set.dedup();
                needs.push(set);
            }
            let gap = f64::from(below(5)) * 100.0;
            run.steps.push(Step { new: (first, run.pages.len()), needs, gap });
        }
        let largest = run.steps.iter().map(|step| {
            let need: u64 = step.needs.iter().flatten().map(|&page| run.pages[page].tokens).sum();
            run.head + run.tokens(step.new) + need
        });
        let budget = largest.max().unwrap_or(0) + u64::from(below(40));
        (run, budget)
    }

    #[test]
    fn the_true_optimum_lies_between_the_bound_and_the_clairvoyant() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let instances = 150;
        let (mut above, mut below) = (0.0, 0.0);
        for _ in 0..instances {
            let (run, budget) = random(&mut rng);
            let market = Market::default();
            let exact = exhaustive(&run, budget, &market);
            let (low, high) =
                (lower_bound(&run, budget, &market), optimum(&run, budget, &market).price);
            assert!(low <= exact + 1e-6, "bound {low}, exact {exact}: {run:?} in {budget}");
            assert!(exact <= high + 1e-6, "exact {exact}, clairvoyant {high}: {run:?} in {budget}");
            above += high / exact / f64::from(instances);
            below += low / exact / f64::from(instances);
        }
        // Neither passes by being far off.
        assert!(above < 1.1, "the clairvoyant pays {above} of the exact optimum on average");
        assert!(below > 0.9, "the bound is {below} of the exact optimum on average");
    }
}
