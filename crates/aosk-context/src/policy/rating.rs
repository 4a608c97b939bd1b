//! What a policy's scores are made of, for the plan to tell.

/// The terms of the scores of some units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ratings {
    pub(crate) terms: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<u64>>,
    pub(crate) shared: Vec<u64>,
}

impl Ratings {
    /// One row a unit, in the order in which they were asked for, of terms with those names.
    #[must_use]
    pub fn of<const N: usize>(
        terms: [&'static str; N],
        rows: impl IntoIterator<Item = [u64; N]>,
    ) -> Self {
        let rows = rows.into_iter().map(|row| row.to_vec()).collect();
        Self { terms: terms.to_vec(), rows, shared: Vec::new() }
    }

    /// With one more term, which is the same for all.
    #[must_use]
    pub fn with(mut self, term: &'static str, shared: u64) -> Self {
        self.terms.push(term);
        self.shared.push(shared);
        self
    }
}

/// What is to be expected in millionths, or a price in tokens, as a whole number.
pub(super) fn whole(amount: f64) -> u64 {
    // Out of range it is the nearest there is.
    amount.round() as u64
}
