//! Policies: which units leave, and when.
//!
//! A policy sees the units that may leave and says which of them do. It cannot split a tool call
//! from its result, evict a pinned page or overfill the window: it never sees what must stay, and
//! where what it leaves does not fit, the table makes the oldest units leave until it does.
//!
//! All but two wait until nothing fits any more, and all but two of these then make room for several
//! calls at once: over 29 recorded runs of a coding agent, evicting a little on every call cost 2 to
//! 2.7 times as much as not paging at all, because each removal has the endpoint write everything
//! behind it anew. Those that do so are kept as they were published, to be measured against.

mod compaction;
mod cost_aware;
mod hazard;
mod memo;
mod order;
mod ranked;
mod rating;
mod s3_fifo;
mod tool_results;

use aosk_abi::{PageId, Ppm, Seq, Tokens};

pub use compaction::Compaction;
pub use cost_aware::{CostAware, Weights};
pub use hazard::Hazard;
pub use ranked::{Gdsf, Importance, Lfu, Lru, TruncateOldest};
pub use rating::Ratings;
pub use s3_fifo::S3Fifo;
pub use tool_results::{ClearToolResults, MaskObservations};

use crate::terms::Terms;

/// Pages that leave together, as a policy sees them: a unit without the further parts of contents
/// that were cut, or one of those. When a unit leaves, all its parts do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// The event that began it; a part has the same as its unit.
    pub id: Seq,
    /// Its first page: units with a smaller one stand before it.
    pub first: PageId,
    /// Its last page, its parts included.
    pub last: PageId,
    /// Whether it is a part of a content and may leave before the rest of its unit.
    pub part: bool,
    /// The size of its pages together, without its parts. What follows holds for its parts, too.
    pub tokens: Tokens,
    /// The importance of its most important page.
    pub importance: Ppm,
    /// Whether it holds a tool's result.
    pub tool_result: bool,
    /// Whether it holds a message to the agent.
    pub message: bool,
    /// How many turns of the model there had been when its newest content first came.
    pub born: u32,
    /// How often its pages were needed.
    pub accesses: u32,
    /// How many turns there had been when one of its pages was admitted or last needed.
    pub last_access: u32,
    /// The highest credit of its pages.
    pub credit: u32,
}

/// What a policy decides from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The units that may leave, in prompt order.
    pub units: &'a [Unit],
    /// The size of the prompt if nothing leaves.
    pub size: Tokens,
    /// What may not leave: overhead, pinned pages and what the model has not answered.
    pub fixed: Tokens,
    /// The part of `fixed` that the pinned pages are.
    pub pinned: Tokens,
    /// The most tokens that the prompt may have.
    pub capacity: Tokens,
    /// How many turns of the model there have been.
    pub now: u32,
    /// What a turn has added to the log on average, in tokens.
    pub tokens_per_turn: f64,
    /// Prices, and whether the endpoint's cache is warm.
    pub terms: Terms,
}

impl View<'_> {
    /// The indices of units, taken in `order`, that must leave for the prompt to fill at most
    /// `low` of its room.
    pub(crate) fn down_to(&self, low: Ppm, order: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let target = part(self.capacity, low);
        let mut size = self.size;
        order
            .into_iter()
            .take_while(|&index| {
                let above = size > target;
                size = size.saturating_sub(self.units[index].tokens);
                above
            })
            .collect()
    }
}

/// When pages are to leave, and which. It must depend on nothing but its arguments.
pub trait Policy: Send + Sync {
    /// The name that manifests and plans use.
    fn name(&self) -> &'static str;

    /// Whether it wants to be asked about a prompt of `size` that may have `capacity`. It is
    /// asked in any case where the prompt does not fit.
    fn attends(&self, _size: Tokens, _capacity: Tokens, _terms: &Terms) -> bool {
        false
    }

    /// The indices of the units that leave, in any order.
    fn evict(&self, view: &View<'_>) -> Vec<usize>;

    /// What its scores of those units, by ascending indices, are made of. They leave, all of them,
    /// though perhaps not by its choice. A policy that goes by place alone has no terms.
    fn rate(&self, _view: &View<'_>, leaving: &[usize]) -> Ratings {
        Ratings::of([], leaving.iter().map(|_| []))
    }
}

/// The share of the room that an eviction leaves filled, unless a policy finds its own mark.
///
/// The same order of eviction at the same room cost 1.43 x the clairvoyant optimum going down to
/// 50 %, and 2.06 x going down to 85 %; but 50 % leaves a quarter of the room unused and forgets:
/// a recall of 72 % instead of 82 %.
pub(crate) const LOW_WATER: Ppm = Ppm(850_000);

/// A share of the tokens, rounded down.
pub(crate) fn part(whole: Tokens, share: Ppm) -> Tokens {
    let part = u128::from(whole.0) * u128::from(share.0) / u128::from(Ppm::ONE.0);
    Tokens(u64::try_from(part).unwrap_or(u64::MAX))
}

/// The policies that a manifest can name; the first is the default. [`Compaction`] is not among
/// them, because it needs somebody who writes its summaries.
pub const POLICIES: &[&dyn Policy] = &[
    &CostAware,
    &TruncateOldest,
    &Lru,
    &Lfu,
    &Importance,
    &Gdsf,
    &S3Fifo,
    &MaskObservations,
    &ClearToolResults,
];

/// The policy that a manifest names.
#[must_use]
pub fn policy_by_name(name: &str) -> Option<&'static dyn Policy> {
    POLICIES.iter().copied().find(|policy| policy.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_is_found_by_its_name_and_no_other_is() {
        for policy in POLICIES {
            let found = policy_by_name(policy.name()).map(|found| found.name());
            assert_eq!(found, Some(policy.name()));
        }
        assert!(policy_by_name("Truncate_Oldest").is_none());
    }

    #[test]
    fn the_default_of_manifests_is_the_first_policy() {
        assert_eq!(aosk_abi::ContextSpec::default().policy, POLICIES[0].name());
    }
}
