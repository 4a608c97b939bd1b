//! Policies that rank: when nothing fits any more, units leave in one order until the prompt fills
//! 85 % of its room.

use aosk_abi::Ppm;

use super::{LOW_WATER, Policy, Unit, View};

/// The units whose worth is least leave, of equals the oldest, parts before the rest of their unit.
fn least(view: &View<'_>, worth: impl Fn(&Unit) -> u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..view.units.len()).collect();
    order.sort_by_cached_key(|&index| {
        let unit = &view.units[index];
        (worth(unit), unit.last, !unit.part)
    });
    view.down_to(LOW_WATER, order)
}

/// The oldest unit leaves first.
#[derive(Debug, Clone, Copy, Default)]
pub struct TruncateOldest;

impl Policy for TruncateOldest {
    fn name(&self) -> &'static str {
        "truncate_oldest"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        least(view, |_| 0)
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
        let whole = u64::from(Ppm::ONE.0);
        least(view, |unit| {
            let age = u64::from(view.now.saturating_sub(unit.last_access));
            let accesses = u64::from(unit.accesses);
            let frequency = whole * accesses / (1 + accesses);
            5 * u64::from(unit.importance.0) + 3 * whole / (1 + age) + 2 * frequency
        })
    }
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
}
