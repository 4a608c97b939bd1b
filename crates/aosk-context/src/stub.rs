//! Stubs: what the prompt says of pages that have left.
//!
//! A swapped page is found again by its number, so the model must see which numbers there are. One
//! line for each page would soon take more than the pages: adjacent ones share a line, and where
//! there are still too many, the lines that stand nearest to each other become one.

use std::collections::BTreeSet;

use aosk_abi::{Ppm, Stub, Tokens};

use crate::page::Page;
use crate::plan::Plan;
use crate::policy::part;
use crate::table::PageTable;

/// What the text of a stub takes at most: "[pages 1200-1299 are swapped out; recall reads them]" with
/// a token for each digit.
pub const STUB: Tokens = Tokens(24);

/// The share of the room that stubs may take.
const SHARE: Ppm = Ppm(20_000);

/// The most that stubs may take of that room.
#[must_use]
pub fn stub_room(room: Tokens) -> Tokens {
    part(room, SHARE)
}

impl PageTable {
    /// What to say of the pages that have left once `plan` is applied, in their order: a stub for
    /// each run of adjacent ones, the nearest runs joined where there are more than `most`. A page
    /// whose content has come again under another number is not told of, nor is a part that is missing
    /// from a content of which the rest stands there: that says so itself.
    ///
    /// Takes O(n log n) time in all pages: it is for the moment in which pages leave.
    #[must_use]
    pub fn stubs(&self, plan: &Plan, most: usize) -> Vec<Stub> {
        let stays = |page: &Page| page.resident && plan.evicted.binary_search(&page.id).is_err();
        let here: BTreeSet<_> = self
            .resident()
            .filter(|page| stays(page))
            .map(|page| (page.source, page.range))
            .chain(plan.admitted.iter().map(|page| (page.source, page.range)))
            .collect();
        let cut: BTreeSet<_> = self
            .resident()
            .filter(|page| page.range.is_some() && page.unit.0 <= page.source.seq.0 && stays(page))
            .map(|page| page.source)
            .collect();
        let mut told = BTreeSet::new();
        let mut stubs: Vec<Stub> = Vec::new();
        // The newest number of a content that came and left several times.
        for page in self.pages().iter().rev() {
            let content = (page.source, page.range);
            let is_gap = page.is_part() && cut.contains(&page.source);
            if stays(page) || is_gap || here.contains(&content) || !told.insert(content) {
                continue;
            }
            match stubs.last_mut() {
                Some(stub) if stub.first.0 == page.id.0 + 1 => {
                    stub.first = page.id;
                    stub.pages += 1;
                    stub.tokens += page.tokens;
                }
                _ => stubs.push(Stub {
                    first: page.id,
                    last: page.id,
                    pages: 1,
                    tokens: page.tokens,
                }),
            }
        }
        stubs.reverse();
        join(stubs, most)
    }
}

/// At most `most` stubs: those between which the fewest pages stand are joined.
fn join(stubs: Vec<Stub>, most: usize) -> Vec<Stub> {
    if most == 0 {
        return Vec::new();
    }
    let mut gaps: Vec<(u32, usize)> = stubs
        .windows(2)
        .zip(1..)
        .map(|(pair, index)| (pair[1].first.0 - pair[0].last.0, index))
        .collect();
    gaps.sort_unstable();
    let joined: BTreeSet<usize> =
        gaps.iter().take(stubs.len().saturating_sub(most)).map(|(_, index)| *index).collect();
    let mut fewer: Vec<Stub> = Vec::with_capacity(most.min(stubs.len()));
    for (index, stub) in stubs.into_iter().enumerate() {
        match fewer.last_mut() {
            Some(before) if joined.contains(&index) => {
                before.last = stub.last;
                before.pages += stub.pages;
                before.tokens += stub.tokens;
            }
            _ => fewer.push(stub),
        }
    }
    fewer
}

#[cfg(test)]
mod tests {
    use aosk_abi::PageId;

    use super::*;

    fn stub(first: u32, last: u32) -> Stub {
        Stub {
            first: PageId(first),
            last: PageId(last),
            pages: last - first + 1,
            tokens: Tokens(u64::from(last - first + 1)),
        }
    }

    #[test]
    fn the_nearest_stubs_are_joined_where_there_are_too_many() {
        let stubs = vec![stub(1, 3), stub(5, 5), stub(20, 29), stub(32, 40)];
        assert_eq!(join(stubs.clone(), 4), stubs);
        let three = join(stubs.clone(), 3);
        assert_eq!((three[0].last, three[0].pages, three.len()), (PageId(5), 4, 3));
        let one = join(stubs.clone(), 1);
        assert_eq!((one[0].first, one[0].last, one[0].pages), (PageId(1), PageId(40), 23));
        assert_eq!(join(stubs, 0), []);
    }
}
