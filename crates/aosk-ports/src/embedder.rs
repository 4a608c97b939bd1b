//! Vectors for texts.
//!
//! Only directions are compared, so a vector is brought to unit length once, where it is made: a
//! search over 100,000 pages then takes one dot product a page instead of three and a root. What
//! has no direction (all zeros, an infinity, a NaN) is refused there as well, because it would
//! answer every comparison with NaN, and NaN sorts anywhere.

use std::sync::Arc;

use aosk_abi::{MicroDollars, Tokens};
use futures::future::BoxFuture;

use crate::device::CallError;

/// A direction in the space of one embedder: finite, of unit length. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Arc<[f32]>);

impl Embedding {
    /// The direction of `values`; `None` where they have none: no values, all of them 0, or one
    /// that is not finite.
    #[must_use]
    pub fn of(mut values: Vec<f32>) -> Option<Self> {
        // The squares of large values leave the range of f32, not that of f64.
        let square: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        if square <= 0.0 || !square.is_finite() {
            return None;
        }
        let scale = square.sqrt().recip();
        for value in &mut values {
            #[expect(clippy::cast_possible_truncation, reason = "a share of the length, at most 1")]
            let scaled = (f64::from(*value) * scale) as f32;
            *value = scaled;
        }
        Some(Self(values.into()))
    }

    /// The components, as many as its embedder has [`dims`](Embedder::dims).
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// How alike two directions are: 1 for the same one, 0 for unrelated ones, -1 for opposite ones;
    /// `None` for vectors of different sizes, which no one embedder made. O(dims).
    #[must_use]
    pub fn cosine(&self, other: &Self) -> Option<f32> {
        let product = || self.0.iter().zip(other.0.iter()).map(|(a, b)| a * b).sum();
        (self.0.len() == other.0.len()).then(product)
    }
}

/// Texts as vectors, and what that took.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One for each text, in order.
    pub vectors: Vec<Embedding>,
    /// The tokens that were read, where the embedder tells.
    pub tokens: Option<Tokens>,
    /// What it cost; 0 for an embedder on this machine.
    pub cost: MicroDollars,
}

/// Turns texts into vectors such that alike texts have alike directions.
///
/// A search does without one: where none is set, or it is down, words alone are matched.
pub trait Embedder: Send + Sync {
    /// What an index keeps beside its vectors: vectors are comparable where their ids are equal.
    fn id(&self) -> &str;

    /// How many components a vector has.
    fn dims(&self) -> usize;

    /// The vectors of `texts`, which may be any number; it sends as many at once as it can. No text
    /// may be empty or blank: it has no meaning to be found by.
    ///
    /// One attempt is made for each request that this takes. Whoever asks again waits for
    /// [`retry_after`](CallError::retry_after); asked earlier, an embedder that is down answers at
    /// once with the same error.
    ///
    /// # Errors
    /// [`CallError`], whose kind says whether asking again can help. Nothing of a failed call is
    /// returned.
    fn embed<'a>(&'a self, texts: &'a [Arc<str>]) -> BoxFuture<'a, Result<Embedded, CallError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_has_unit_length_or_is_none() {
        for values in [vec![3.0, 4.0], vec![1e30, 1e30], vec![1e-30, 0.0], vec![f32::MAX; 8]] {
            let vector = Embedding::of(values.clone()).expect("a direction");
            let length: f32 = vector.values().iter().map(|it| it * it).sum();
            assert!((length - 1.0).abs() < 1e-6, "{values:?}: {length}");
        }
        for values in
            [vec![], vec![0.0, 0.0], vec![1.0, f32::NAN], vec![f32::INFINITY, 1.0], vec![-0.0]]
        {
            assert_eq!(Embedding::of(values.clone()), None, "{values:?}");
        }
    }

    #[test]
    fn cosines_compare_directions_of_one_size_only() {
        let of = |values: &[f32]| Embedding::of(values.to_vec()).expect("a direction");
        let cosine = |a: &[f32], b: &[f32]| of(a).cosine(&of(b));
        let near = |found: Option<f32>, wanted: f32| (found.expect("one") - wanted).abs() < 1e-6;
        assert!(near(cosine(&[1.0, 2.0], &[10.0, 20.0]), 1.0));
        assert!(near(cosine(&[1.0, 0.0], &[0.0, 5.0]), 0.0));
        assert!(near(cosine(&[1.0, 2.0], &[-1.0, -2.0]), -1.0));
        assert_eq!(cosine(&[1.0], &[1.0, 0.0]), None);
    }
}
