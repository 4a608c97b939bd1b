//! Looking many things up in an ascending list, nearly all of them in ascending order, too.
//!
//! Pages of a prompt ascend, and so do the numbers of those that leave it. Searching a list of two
//! thousand once for each of a hundred thousand pages takes a fifth of the time that a plan does, and
//! more for each page the longer the list is; going on from where the last search ended takes none
//! that could be measured.

/// An ascending list, and how far it was searched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ascent<'a, T> {
    list: &'a [T],
    /// All before this are less than what was looked up last.
    at: usize,
}

impl<'a, T: Ord> Ascent<'a, T> {
    /// `list` must ascend.
    pub(crate) const fn of(list: &'a [T]) -> Self {
        Self { list, at: 0 }
    }

    /// Whether `item` is in the list. Where items ascend, all lookups together are linear in the
    /// list; one that is less than the one before takes O(log n).
    pub(crate) fn has(&mut self, item: &T) -> bool {
        if self.at > 0 && self.list[self.at - 1] >= *item {
            self.at = self.list.partition_point(|other| other < item);
        }
        while self.list.get(self.at).is_some_and(|other| other < item) {
            self.at += 1;
        }
        self.list.get(self.at) == Some(item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_search_from_the_start_finds(
            mut list in prop::collection::vec(0_u8..40, 0..20),
            items in prop::collection::vec(0_u8..40, 0..60),
        ) {
            list.sort_unstable();
            let mut ascent = Ascent::of(&list);
            for item in items {
                prop_assert_eq!(ascent.has(&item), list.contains(&item), "{} in {:?}", item, &list);
            }
        }
    }
}
