//! Directions in one bit a component, to choose whom to compare exactly.
//!
//! The cosines of a query with 100,000 vectors of 1,536 components are 600 MB to read. Their sketches
//! are 26 MB, and what they say is off by a known amount: a direction is turned at random, of each
//! component the sign is kept, and the cosine with a query that is turned alike is estimated, off
//! by about 0.75 / √components (RaBitQ: Gao and Long, SIGMOD 2024). So a few hundred of the
//! best estimates hold the ten best cosines, whatever the vectors look like, and those are compared
//! exactly.
//!
//! A graph (HNSW) reads less, but it is a second store: kept in memory whole, saved beside the
//! database, wrong after a crash, blind to filters, and it only marks what was deleted. Of 100,000
//! vectors of 384 components, on two shared cores, `usearch` built one in 88 s (its ten nearest were 96 %
//! of the right ones) and `hnsw_rs` in 677 s (98 %): `bench/runs/graphs-384.txt`. Sketches are made as vectors
//! come, in the same transaction, and a filter is a condition in the loop. What they read grows with the
//! memory: 68 MB for a million.

use aosk_ports::Embedding;

/// The bits of a word.
const WORD: usize = 64;

/// To how many bits the components of a query are rounded. That adds 6 % to the error of a sketch, and
/// makes cosines larger by up to a ninth, all alike, which changes no order.
const PLANES: usize = 3;

/// How often a vector is turned: once leaves one that has few components other than 0 uneven.
const TURNS: usize = 2;

/// A direction in one bit a component.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sketch {
    /// The signs of the components, 1 for positive.
    pub(crate) bits: Vec<u64>,
    /// What brings a sum of signed components of a query to its cosine.
    pub(crate) scale: f32,
}

/// How many components a turned vector has: the next power of 2, at least a word.
pub(crate) fn turned_dims(dims: usize) -> usize {
    dims.next_power_of_two().max(WORD)
}

/// How many words a sketch has.
pub(crate) fn words(dims: usize) -> usize {
    turned_dims(dims) / WORD
}

/// The sketch of a direction. O(d log d).
pub(crate) fn sketch(vector: &Embedding) -> Sketch {
    let turned = turn(vector.values());
    let sum: f32 = turned.iter().map(|value| value.abs()).sum();
    let bits = turned
        .chunks(WORD)
        .map(|word| {
            let signs = word.iter().enumerate();
            signs.fold(0, |bits, (at, value)| bits | (u64::from(*value > 0.0) << at))
        })
        .collect();
    Sketch { bits, scale: sum.recip() }
}

/// A query that sketches are compared with.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The components, rounded to [`PLANES`] bits: for each bit as many words as a sketch has, which
    /// lets the processor take several words at once.
    planes: [Vec<u64>; PLANES],
    lowest: f32,
    step: f32,
    sum: f32,
}

impl Probe {
    /// The probe of a direction. O(d log d).
    pub(crate) fn new(vector: &Embedding) -> Self {
        let turned = turn(vector.values());
        let lowest = turned.iter().copied().fold(f32::INFINITY, f32::min);
        let highest = turned.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let steps = f32::from((1_u8 << PLANES) - 1);
        let step = ((highest - lowest) / steps).max(f32::MIN_POSITIVE);
        let mut planes: [Vec<u64>; PLANES] = Default::default();
        for word in turned.chunks(WORD) {
            let mut of_word = [0; PLANES];
            for (at, value) in word.iter().enumerate() {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a step of the range, 0 to 7"
                )]
                let level = ((value - lowest) / step).round().min(steps) as u64;
                for (bit, plane) in of_word.iter_mut().enumerate() {
                    *plane |= ((level >> bit) & 1) << at;
                }
            }
            for (plane, word) in planes.iter_mut().zip(of_word) {
                plane.push(word);
            }
        }
        Self { planes, lowest, step, sum: turned.iter().sum() }
    }

    /// Shows the estimated cosines with the directions of many sketches, by their place, of those
    /// that are `wanted`. Their bits stand one sketch after the other.
    pub(crate) fn cosines(
        &self,
        bits: &[u64],
        scales: &[f32],
        wanted: impl Fn(usize) -> bool,
        mut found: impl FnMut(usize, f32),
    ) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512vpopcntdq") {
            // SAFETY: this processor has the instructions.
            unsafe {
                self.counted_by_eight(bits, scales, wanted, found);
            }
            return;
        } else if std::arch::is_x86_feature_detected!("popcnt") {
            // SAFETY: this processor has the instruction.
            unsafe {
                self.counted(bits, scales, wanted, found);
            }
            return;
        }
        self.each(bits, scales, wanted, &mut found);
    }

    /// As [`each`](Self::each), compiled for processors that count the ones of a word at once: all of
    /// x86-64 since 2008, but a program has to ask.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt")]
    fn counted(
        &self,
        bits: &[u64],
        scales: &[f32],
        wanted: impl Fn(usize) -> bool,
        mut found: impl FnMut(usize, f32),
    ) {
        self.each(bits, scales, wanted, &mut found);
    }

    /// The same, for processors that count the ones of eight words at once.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512vpopcntdq")]
    fn counted_by_eight(
        &self,
        bits: &[u64],
        scales: &[f32],
        wanted: impl Fn(usize) -> bool,
        mut found: impl FnMut(usize, f32),
    ) {
        self.each(bits, scales, wanted, &mut found);
    }

    #[inline(always)]
    fn each(
        &self,
        bits: &[u64],
        scales: &[f32],
        wanted: impl Fn(usize) -> bool,
        found: &mut impl FnMut(usize, f32),
    ) {
        let sketches = bits.chunks_exact(self.planes[0].len()).zip(scales);
        for (at, (bits, scale)) in sketches.enumerate() {
            if wanted(at) {
                found(at, self.cosine(bits, *scale));
            }
        }
    }

    /// The estimated cosine with the direction of a sketch of as many words.
    #[inline(always)]
    fn cosine(&self, bits: &[u64], scale: f32) -> f32 {
        let ones: u64 = bits.iter().map(|word| u64::from(word.count_ones())).sum();
        let mut levels = 0;
        for (bit, plane) in self.planes.iter().enumerate() {
            let both = bits.iter().zip(plane).map(|(word, plane)| word & plane);
            levels += both.map(|word| u64::from(word.count_ones())).sum::<u64>() << bit;
        }
        // The sum of the query's components where the sketch has ones; the rest counts against it.
        let positive = self.lowest * ones as f32 + self.step * levels as f32;
        scale * (2.0 * positive - self.sum)
    }
}

/// Turns a vector at random, always the same way: signs from a fixed sequence, then the transform of
/// Walsh and Hadamard, which keeps lengths and angles.
fn turn(values: &[f32]) -> Vec<f32> {
    let mut turned = values.to_vec();
    turned.resize(turned_dims(values.len()), 0.0);
    let mut seed = 0x6165_6f73_6b76_6563;
    for _ in 0..TURNS {
        for word in turned.chunks_mut(WORD) {
            let signs = next(&mut seed);
            for (at, value) in word.iter_mut().enumerate() {
                if (signs >> at) & 1 == 1 {
                    *value = -*value;
                }
            }
        }
        transform(&mut turned);
    }
    turned
}

fn transform(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (left, right) = block.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = (values.len() as f32).sqrt().recip();
    for value in values {
        *value *= scale;
    }
}

/// The next number of a sequence (SplitMix64).
const fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn direction(dims: usize) -> impl Strategy<Value = Embedding> {
        proptest::collection::vec(-1.0_f32..1.0, dims).prop_filter_map("a direction", Embedding::of)
    }

    fn pair() -> impl Strategy<Value = (Embedding, Embedding)> {
        prop_oneof![Just(3), Just(64), Just(65), Just(384), Just(1_536)]
            .prop_flat_map(|dims| (direction(dims), direction(dims)))
    }

    proptest! {
        /// Whatever the processor can, the same comes out.
        #[test]
        fn many_are_estimated_as_one_is(pairs in proptest::collection::vec(direction(100), 2..9)) {
            let probe = Probe::new(&pairs[0]);
            let sketches: Vec<Sketch> = pairs.iter().map(sketch).collect();
            let bits: Vec<u64> = sketches.iter().flat_map(|it| it.bits.clone()).collect();
            let scales: Vec<f32> = sketches.iter().map(|it| it.scale).collect();
            let mut seen = Vec::new();
            probe.cosines(&bits, &scales, |at| at != 1, |at, cosine| seen.push((at, cosine)));
            let alone = sketches.iter().map(|it| probe.cosine(&it.bits, it.scale)).enumerate();
            prop_assert_eq!(seen, alone.filter(|(at, _)| *at != 1).collect::<Vec<_>>());
        }

        /// Five times the stated deviation: further off is no chance but a mistake.
        #[test]
        fn an_estimate_is_off_by_no_more_than_its_bound((a, b) in pair()) {
            let (probe, sketch) = (Probe::new(&a), sketch(&b));
            let estimated = probe.cosine(&sketch.bits, sketch.scale);
            let exact = a.cosine(&b).expect("of one size");
            let deviation = 0.8 / (turned_dims(a.values().len()) as f32).sqrt();
            prop_assert!((estimated - exact).abs() < 5.0 * deviation, "{estimated} for {exact}");
        }

        #[test]
        fn turning_keeps_lengths_and_angles((a, b) in pair()) {
            let (x, y) = (turn(a.values()), turn(b.values()));
            let product: f32 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
            prop_assert!((product - a.cosine(&b).expect("of one size")).abs() < 1e-4);
        }
    }

    #[test]
    fn a_vector_of_one_component_is_turned_into_an_even_one() {
        let mut values = vec![0.0; 384];
        values[7] = 1.0;
        let vector = Embedding::of(values).expect("a direction");
        let (probe, sketch) = (Probe::new(&vector), sketch(&vector));
        // The whole error of rounding shows in the cosine of a vector with itself.
        assert!((probe.cosine(&sketch.bits, sketch.scale) - 1.0).abs() < 0.15);
    }
}
