//! Two rankings as one.
//!
//! A score by words and a cosine have no common scale, and what each is worth changes with the
//! question. Their ranks have one: reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)
//! adds 1 / (60 + rank) over the rankings in which a page stands. With the 80 questions of one set of
//! recorded memories it finds the evidence as often as the better of the two or more often.

use std::collections::HashMap;
use std::hash::Hash;

use aosk_ports::Origin;

/// What is added to a rank, as in the paper.
const DAMPING: f64 = 60.0;

/// Fuses two rankings, the best first, of different things each. Ties go to what stands first by
/// words, then by direction. O(n log n).
pub(super) fn fuse<K: Copy + Eq + Hash>(words: &[K], vectors: &[K]) -> Vec<(K, f64, Origin)> {
    let mut fused: Vec<(K, f64, Origin)> = Vec::with_capacity(words.len() + vectors.len());
    let mut places: HashMap<K, usize> = HashMap::new();
    for (key, rank) in words.iter().zip(1_u32..) {
        places.insert(*key, fused.len());
        fused.push((*key, share(rank), Origin { words: Some(rank), ..Origin::default() }));
    }
    for (key, rank) in vectors.iter().zip(1_u32..) {
        match places.get(key).and_then(|place| fused.get_mut(*place)) {
            Some((_, score, origin)) => {
                *score += share(rank);
                origin.vector = Some(rank);
            }
            None => {
                let origin = Origin { vector: Some(rank), ..Origin::default() };
                fused.push((*key, share(rank), origin));
            }
        }
    }
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused
}

fn share(rank: u32) -> f64 {
    (DAMPING + f64::from(rank)).recip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_rankings_hold_comes_before_what_one_holds() {
        let fused = fuse(&['a', 'b', 'c'], &['d', 'c']);
        let keys: Vec<char> = fused.iter().map(|it| it.0).collect();
        assert_eq!(keys, ['c', 'a', 'd', 'b']);
        let (_, score, origin) = fused[0];
        assert!((score - (1.0 / 63.0 + 1.0 / 62.0)).abs() < 1e-12);
        assert_eq!((origin.words, origin.vector, origin.beside), (Some(3), Some(2), None));
    }

    #[test]
    fn one_ranking_stays_as_it_is() {
        let keys = |fused: Vec<(u8, f64, Origin)>| -> Vec<u8> {
            fused.into_iter().map(|it| it.0).collect()
        };
        assert_eq!(keys(fuse(&[3, 1, 2], &[])), [3, 1, 2]);
        assert_eq!(keys(fuse(&[], &[3, 1, 2])), [3, 1, 2]);
        assert!(fuse::<u8>(&[], &[]).is_empty());
    }
}
