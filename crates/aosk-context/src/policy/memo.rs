//! Remembering what a function gave.
//!
//! A power takes as long as the rest of a unit's price together, and its arguments come again: units of
//! one turn have one age, and pages of one size there are many.

/// What was worked out lately of one function, which must depend on nothing but its argument.
#[derive(Debug)]
pub(super) struct Memo<const N: usize> {
    /// At the place of an argument, which is its remainder: the last one there, and what it gave.
    known: [Option<(u64, f64)>; N],
}

impl<const N: usize> Memo<N> {
    pub(super) const fn new() -> Self {
        Self { known: [None; N] }
    }

    /// What `function` gives for `argument`.
    pub(super) fn of(&mut self, argument: u64, function: impl FnOnce() -> f64) -> f64 {
        let known = &mut self.known[(argument % N as u64) as usize];
        match *known {
            Some((seen, value)) if seen == argument => value,
            _ => known.insert((argument, function())).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_what_the_function_gives_and_asks_it_once_for_what_comes_again() {
        let mut memo = Memo::<4>::new();
        let mut asked = 0;
        for (argument, times) in [(5, 1), (5, 1), (6, 2), (5, 2), (9, 3), (9, 3), (5, 4), (0, 5)] {
            let root = (argument as f64).sqrt();
            let found = memo.of(argument, || {
                asked += 1;
                root
            });
            assert_eq!((found.to_bits(), asked), (root.to_bits(), times), "at {argument}");
        }
    }
}
