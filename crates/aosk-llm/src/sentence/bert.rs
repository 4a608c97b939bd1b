//! The forward pass of BERT (Devlin et al., 2018), for one text at a time.
//!
//! One text at a time needs no padding and no mask, and the products of a page are large enough to
//! keep a processor busy. O(tokens · size² + tokens² · size) a layer.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::config::Config;
use super::weights::{Layer, Linear, Norm, Weights};

/// A BERT.
pub(super) struct Bert {
    config: Config,
    weights: Weights,
}

impl Bert {
    pub const fn new(config: Config, weights: Weights) -> Self {
        Self { config, weights }
    }

    pub const fn dims(&self) -> usize {
        self.config.hidden_size
    }

    /// The mean of what the last layer says of each token. There are no more of them than positions,
    /// and none is unknown to the vocabulary.
    pub fn mean(&self, tokens: &[u32]) -> Vec<f32> {
        let Weights { words, positions, kind, norm, layers } = &self.weights;
        let mut state = Array2::zeros((tokens.len(), self.dims()));
        for (position, (token, mut row)) in tokens.iter().zip(state.outer_iter_mut()).enumerate() {
            row += &words.row(*token as usize);
            row += &positions.row(position);
            row += kind;
        }
        self.normalise(norm, &mut state);
        for layer in layers {
            state = self.layer(layer, state);
        }
        state.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(self.dims())).to_vec()
    }

    fn layer(&self, layer: &Layer, state: Array2<f32>) -> Array2<f32> {
        let mut attended = linear(&layer.attended, &self.attend(&linear(&layer.attention, &state)));
        attended += &state;
        self.normalise(&layer.attended_norm, &mut attended);
        let mut inner = linear(&layer.up, &attended);
        inner.mapv_inplace(gelu);
        let mut out = linear(&layer.down, &inner);
        out += &attended;
        self.normalise(&layer.norm, &mut out);
        out
    }

    /// What each token takes over from the others, head by head. `joined` holds queries, keys and
    /// values beside each other.
    fn attend(&self, joined: &Array2<f32>) -> Array2<f32> {
        let (count, size) = (joined.nrows(), self.dims());
        let width = size / self.config.num_attention_heads;
        let scale = (width as f32).sqrt().recip();
        let mut out = Array2::zeros((count, size));
        let mut scores = Array2::zeros((count, count));
        for start in (0..size).step_by(width) {
            let part = |from: usize| -> ArrayView2<'_, f32> {
                joined.slice(s![.., from + start..from + start + width])
            };
            general_mat_mul(scale, &part(0), &part(size).t(), 0.0, &mut scores);
            for mut row in scores.outer_iter_mut() {
                let most = row.fold(f32::NEG_INFINITY, |most, score| most.max(*score));
                row.mapv_inplace(|score| (score - most).exp());
                row /= row.sum();
            }
            let mut own = out.slice_mut(s![.., start..start + width]);
            general_mat_mul(1.0, &scores, &part(2 * size), 0.0, &mut own);
        }
        out
    }

    fn normalise(&self, norm: &Norm, state: &mut Array2<f32>) {
        for mut row in state.outer_iter_mut() {
            let count = row.len() as f32;
            let mean = row.sum() / count;
            row -= mean;
            let variance = row.fold(0.0, |sum, value| sum + value * value) / count;
            row *= (variance + self.config.layer_norm_eps).sqrt().recip();
            row *= &norm.scale;
            row += &norm.shift;
        }
    }
}

fn linear(map: &Linear, state: &Array2<f32>) -> Array2<f32> {
    let mut out = state.dot(&map.weight);
    out += &map.bias;
    out
}

/// x·Φ(x), with the error function of Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most, which is
/// the resolution of an f32.
fn gelu(x: f32) -> f32 {
    let z = (x * std::f32::consts::FRAC_1_SQRT_2).abs();
    let t = (1.0 + 0.327_591_1 * z).recip();
    let polynomial = t
        * (0.254_829_6
            + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let erf = 1.0 - polynomial * (-z * z).exp();
    0.5 * x * (1.0 + erf.copysign(x))
}

#[cfg(test)]
mod tests {
    use super::gelu;

    #[test]
    fn gelu_is_what_the_tables_say() {
        // Φ of the standard normal distribution, to seven decimals.
        for (x, phi) in [(0.0, 0.5), (0.5, 0.691_462_5), (1.0, 0.841_344_7), (3.0, 0.998_650_1)] {
            assert!((gelu(x) - x * phi).abs() < 1e-6, "{x}: {}", gelu(x));
            assert!((gelu(-x) + x * (1.0 - phi)).abs() < 1e-6, "-{x}: {}", gelu(-x));
        }
        assert_eq!((gelu(20.0), gelu(-20.0)), (20.0, 0.0));
    }
}
