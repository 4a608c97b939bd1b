//! Policies that rank: when nothing fits any more, units leave in one order until the prompt fills
//! 85 % of its room; of the oldest only as many as must.

use aosk_abi::Ppm;

use super::{LOW_WATER, Policy, Ratings, Unit, View};

/// The units whose worth is least leave, of equals the oldest, parts before the rest of their unit.
fn least(view: &View<'_>, worth: impl Fn(&Unit) -> u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..view.units.len()).collect();
    order.sort_by_cached_key(|&index| {
        let unit = &view.units[index];
        (worth(unit), unit.last, !unit.part)
    });
    view.down_to(LOW_WATER, order)
}

/// The oldest units leave, on every call just as many as must for the prompt to fit: what frameworks
/// do that trim a conversation to its newest messages, such as `trim_messages` of LangChain with
/// `strategy="last"`. It uses nearly all of the room and has the endpoint write nearly all of the log
/// anew on every call.
#[derive(Debug, Clone, Copy, Default)]
pub struct TruncateOldest;

impl Policy for TruncateOldest {
    fn name(&self) -> &'static str {
        "truncate_oldest"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        let mut oldest: Vec<usize> = (0..view.units.len()).collect();
        oldest.sort_by_key(|&index| (view.units[index].last, !view.units[index].part));
        view.down_to(Ppm::ONE, oldest)
    }
}

/// The unit that was not needed for longest leaves first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lru;

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        least(view, |unit| unit.last_access.into())
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        let idle = |unit: &Unit| [view.now.saturating_sub(unit.last_access).into()];
        Ratings::of(["idle"], leaving.iter().map(|&index| idle(&view.units[index])))
    }
}

/// The unit that was needed least often leaves first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lfu;

impl Policy for Lfu {
    fn name(&self) -> &'static str {
        "lfu"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        least(view, |unit| unit.accesses.into())
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        let accesses = leaving.iter().map(|&index| [view.units[index].accesses.into()]);
        Ratings::of(["accesses"], accesses)
    }
}

/// Time, frequency and importance together: half the importance, three tenths of `1 / (1 + turns
/// since it was last needed)`, two tenths of `accesses / (1 + accesses)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Importance;

impl Policy for Importance {
    fn name(&self) -> &'static str {
        "importance"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        least(view, |unit| {
            let [importance, recency, frequency] = rated(unit, view.now);
            5 * importance + 3 * recency + 2 * frequency
        })
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        let rows = leaving.iter().map(|&index| rated(&view.units[index], view.now));
        Ratings::of(["importance_ppm", "recency_ppm", "frequency_ppm"], rows)
    }
}

/// Importance, recency and frequency of a unit, in millionths.
fn rated(unit: &Unit, now: u32) -> [u64; 3] {
    let whole = u64::from(Ppm::ONE.0);
    let age = u64::from(now.saturating_sub(unit.last_access));
    let accesses = u64::from(unit.accesses);
    [unit.importance.0.into(), whole / (1 + age), whole * accesses / (1 + accesses)]
}

/// Greedy-dual size frequency (Cherkasova 1998): a page's credit is `L + accesses / size`, where
/// `L` is the highest credit of what has left so far, so that what was needed often long ago
/// grows old.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gdsf;

impl Policy for Gdsf {
    fn name(&self) -> &'static str {
        "gdsf"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        least(view, |unit| unit.credit.into())
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        Ratings::of(["credit"], leaving.iter().map(|&index| [view.units[index].credit.into()]))
    }
}
