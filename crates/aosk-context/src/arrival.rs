//! Arrivals: content that is to become pages.

use std::collections::BTreeMap;

use aosk_abi::{Admission, PageId, PageKind, Ppm, Seq, Source, Tokens};
use serde::{Deserialize, Serialize};

/// Content that is not a page yet. Each becomes one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// What it holds.
    pub kind: PageKind,
    /// Where it stands in the journal.
    pub source: Source,
    /// The part of the source that it covers, in bytes: start and length. `None`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(u64, u64)>,
    /// What it leaves together with: for every part and tool result of a model's turn the event
    /// of that turn, for a message its own event.
    pub unit: Seq,
    /// Its size.
    pub tokens: Tokens,
    /// Never to be evicted; always so for system, tools and task.
    pub pinned: bool,
    /// How much it matters, from 0 to [`Ppm::ONE`].
    pub importance: Ppm,
}

/// The pages that `arrivals` become, numbered from `first`; `None` where the numbers run out.
///
/// Pages of one unit stand side by side, at the place of its first arrival: endpoints refuse a
/// tool call whose result does not follow it, and a message may well arrive between the two.
pub(crate) fn admit(arrivals: &[Arrival], first: usize) -> Option<Vec<Admission>> {
    let mut place = BTreeMap::new();
    for (index, arrival) in arrivals.iter().enumerate() {
        place.entry(arrival.unit).or_insert(index);
    }
    let mut ordered: Vec<&Arrival> = arrivals.iter().collect();
    ordered.sort_by_key(|arrival| place.get(&arrival.unit));
    ordered
        .into_iter()
        .zip(first..)
        .map(|(arrival, number)| {
            Some(Admission {
                page: PageId(u32::try_from(number).ok()?),
                kind: arrival.kind,
                source: arrival.source,
                range: arrival.range,
                unit: arrival.unit,
                tokens: arrival.tokens,
                pinned: arrival.pinned,
                importance: arrival.importance,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(kind: PageKind, seq: u64, unit: u64) -> Arrival {
        Arrival {
            kind,
            source: Source { seq: Seq(seq), part: 0 },
            range: None,
            unit: Seq(unit),
            tokens: Tokens(1),
            pinned: false,
            importance: Admission::DEFAULT_IMPORTANCE,
        }
    }

    #[test]
    fn a_message_between_a_call_and_its_result_goes_behind_the_result() {
        let arrivals = [
            arrival(PageKind::ToolCall, 11, 11),
            arrival(PageKind::Message, 13, 13),
            arrival(PageKind::ToolResult, 14, 11),
        ];
        let order: Vec<_> = admit(&arrivals, 7)
            .expect("numbers left")
            .iter()
            .map(|page| (page.page.0, page.source.seq.0))
            .collect();
        assert_eq!(order, [(7, 11), (8, 14), (9, 13)]);
    }

    #[test]
    fn page_numbers_at_and_past_the_last() {
        let one = [arrival(PageKind::Message, 1, 1)];
        let last = u32::MAX as usize;
        assert_eq!(admit(&one, last).map(|pages| pages[0].page), Some(PageId(u32::MAX)));
        assert_eq!(admit(&one, last + 1), None);
    }
}
