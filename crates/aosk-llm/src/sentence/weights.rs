//! The numbers of a sentence model, out of a `safetensors` file.

use ndarray::{Array1, Array2, Axis, concatenate};
use safetensors::{Dtype, SafeTensors};

use super::config::Config;

/// A linear map: `x` becomes `x · weight + bias`.
pub(super) struct Linear {
    /// Inputs by outputs: the transpose of the file's.
    pub weight: Array2<f32>,
    pub bias: Array1<f32>,
}

/// Scale and shift behind a normalisation.
pub(super) struct Norm {
    pub scale: Array1<f32>,
    pub shift: Array1<f32>,
}

/// One layer.
pub(super) struct Layer {
    /// Query, key and value beside each other: one product in place of three.
    pub attention: Linear,
    pub attended: Linear,
    pub attended_norm: Norm,
    pub up: Linear,
    pub down: Linear,
    pub norm: Norm,
}

/// All of it.
pub(super) struct Weights {
    pub words: Array2<f32>,
    pub positions: Array2<f32>,
    /// The first token type, which every token of a single text has.
    pub kind: Array1<f32>,
    pub norm: Norm,
    pub layers: Vec<Layer>,
}

/// The tensors of a file, by name.
struct File<'a>(SafeTensors<'a>);

impl File<'_> {
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let tensor = self.0.tensor(name).map_err(|error| format!("lacks {name:?}: {error}"))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(format!("{name:?} holds {:?}, and F32 alone is read", tensor.dtype()));
        }
        if tensor.shape() != shape {
            return Err(format!(
                "{name:?} has the shape {:?}, but config.json says {shape:?}",
                tensor.shape()
            ));
        }
        let (values, _) = tensor.data().as_chunks();
        Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn vector(&self, name: &str, size: usize) -> Result<Array1<f32>, String> {
        Ok(self.values(name, &[size])?.into())
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Array2<f32>, String> {
        let values = self.values(name, &[rows, columns])?;
        Array2::from_shape_vec((rows, columns), values)
            .map_err(|error| format!("{name:?}: {error}"))
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear, String> {
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"), outputs, inputs)?.reversed_axes(),
            bias: self.vector(&format!("{name}.bias"), outputs)?,
        })
    }

    fn norm(&self, name: &str, size: usize) -> Result<Norm, String> {
        Ok(Norm {
            scale: self.vector(&format!("{name}.weight"), size)?,
            shift: self.vector(&format!("{name}.bias"), size)?,
        })
    }

    fn layer(&self, name: &str, config: &Config) -> Result<Layer, String> {
        let (size, inner) = (config.hidden_size, config.intermediate_size);
        let of = |part: &str| format!("{name}.{part}");
        let [query, key, value] = ["query", "key", "value"]
            .map(|part| self.linear(&of(&format!("attention.self.{part}")), size, size));
        let (query, key, value) = (query?, key?, value?);
        let weights = [query.weight.view(), key.weight.view(), value.weight.view()];
        let biases = [query.bias.view(), key.bias.view(), value.bias.view()];
        let joined = |error| format!("{name}: {error}");
        Ok(Layer {
            attention: Linear {
                weight: concatenate(Axis(1), &weights).map_err(joined)?,
                bias: concatenate(Axis(0), &biases).map_err(joined)?,
            },
            attended: self.linear(&of("attention.output.dense"), size, size)?,
            attended_norm: self.norm(&of("attention.output.LayerNorm"), size)?,
            up: self.linear(&of("intermediate.dense"), size, inner)?,
            down: self.linear(&of("output.dense"), inner, size)?,
            norm: self.norm(&of("output.LayerNorm"), size)?,
        })
    }
}

impl Weights {
    /// Reads the file's bytes; every tensor must have the shape that `config` gives it.
    pub fn read(bytes: &[u8], config: &Config) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes);
        let file = File(file.map_err(|error| format!("is no safetensors file: {error}"))?);
        let size = config.hidden_size;
        let kinds =
            file.matrix("embeddings.token_type_embeddings.weight", config.type_vocab_size, size)?;
        Ok(Self {
            words: file.matrix("embeddings.word_embeddings.weight", config.vocab_size, size)?,
            positions: file.matrix(
                "embeddings.position_embeddings.weight",
                config.max_position_embeddings,
                size,
            )?,
            kind: kinds.row(0).to_owned(),
            norm: file.norm("embeddings.LayerNorm", size)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| file.layer(&format!("encoder.layer.{index}"), config))
                .collect::<Result<_, _>>()?,
        })
    }
}
