//! Policies that let go of tools' results and keep what was said.

use aosk_abi::Tokens;

use super::{LOW_WATER, Policy, Ratings, View};
use crate::terms::Terms;

/// Older results leave as soon as there are ten newer ones and five to let go of at once: what
/// coding agents do that show the model their last observations only. In batches of five it cost
/// 3.06 x the clairvoyant optimum, one at a time 4.36 x.
#[derive(Debug, Clone, Copy, Default)]
pub struct MaskObservations;

/// How many results stay.
const OBSERVATIONS: usize = 10;
/// How many leave at once, at least.
const BATCH: usize = 5;

impl Policy for MaskObservations {
    fn name(&self) -> &'static str {
        "mask_observations"
    }

    fn attends(&self, _: Tokens, _: Tokens, _: &Terms) -> bool {
        true
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        let results = results(view);
        let older = results.len().saturating_sub(OBSERVATIONS);
        let masked = if older >= BATCH { &results[..older] } else { &[] };
        then_the_oldest(view, &masked.concat())
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        are_results(view, leaving)
    }
}

/// When nothing fits any more, all results but the newest three leave: the `clear_tool_uses` of an
/// endpoint's context editing.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClearToolResults;

/// How many results stay.
const KEPT: usize = 3;

impl Policy for ClearToolResults {
    fn name(&self) -> &'static str {
        "clear_tool_results"
    }

    fn evict(&self, view: &View<'_>) -> Vec<usize> {
        let results = results(view);
        then_the_oldest(view, &results[..results.len().saturating_sub(KEPT)].concat())
    }

    fn rate(&self, view: &View<'_>, leaving: &[usize]) -> Ratings {
        are_results(view, leaving)
    }
}

/// The results in their order, each with its parts.
fn results(view: &View<'_>) -> Vec<Vec<usize>> {
    let indices = (0..view.units.len()).filter(|&index| view.units[index].tool_result);
    let indices: Vec<usize> = indices.collect();
    let together = |a: &usize, b: &usize| view.units[*a].id == view.units[*b].id;
    indices.chunk_by(together).map(<[usize]>::to_vec).collect()
}

/// Whether each is a result, 1, or had to follow those, 0.
fn are_results(view: &View<'_>, leaving: &[usize]) -> Ratings {
    let rows = leaving.iter().map(|&index| [view.units[index].tool_result.into()]);
    Ratings::of(["tool_result"], rows)
}

/// `leaving`, and where the prompt does not fit all the same the oldest others, down to the low
/// mark.
fn then_the_oldest(view: &View<'_>, leaving: &[usize]) -> Vec<usize> {
    let left = leaving
        .iter()
        .fold(view.size, |size, &index| size.saturating_sub(view.units[index].tokens));
    if left <= view.capacity {
        return leaving.to_vec();
    }
    let others = (0..view.units.len()).filter(|index| leaving.binary_search(index).is_err());
    view.down_to(LOW_WATER, leaving.iter().copied().chain(others))
}
