//! Looking many things up in an ascending list, nearly all of them in ascending order, too.
//!
//! Pages of a prompt ascend, and so do the numbers of those that leave it. Searching a list of two
//! thousand once for each of a hundred thousand pages takes as long as pricing them, and more for each
//! page the longer the list is; going on from where the last search ended takes next to nothing.

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

    /// Whether `item` is in the list, in O(log d) where it stands d places behind the last that was
    /// looked up; one that is less than that takes O(log n).
    pub(crate) fn has(&mut self, item: &T) -> bool {
        self.place(item).is_some()
    }

    /// The place of `item` in the list, in time as [`Ascent::has`].
    pub(crate) fn place(&mut self, item: &T) -> Option<usize> {
        if self.at > 0 && self.list[self.at - 1] >= *item {
            self.at = self.list.partition_point(|other| other < item);
        }
        // Twice as far each time, then back.
        let mut stride = 1;
        while self.list.get(self.at + stride - 1).is_some_and(|other| other < item) {
            self.at += stride;
            stride *= 2;
        }
        let ahead = self.list.len().min(self.at + stride - 1);
        self.at += self.list[self.at..ahead].partition_point(|other| other < item);
        (self.list.get(self.at) == Some(item)).then_some(self.at)
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
                let place = list.iter().position(|other| *other == item);
                prop_assert_eq!(ascent.place(&item), place, "{} in {:?}", item, &list);
            }
        }
    }
}
