//! What a sentence model's folder says about itself, and whether this program can run that.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads a file of the folder, or names it with the problem.
pub(super) type Read<'a> = dyn Fn(&'static str) -> Result<Vec<u8>, (&'static str, String)> + 'a;

const CONFIG: &str = "config.json";
const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling/config.json";
const LENGTH: &str = "sentence_bert_config.json";

/// The tokens that stand around a text.
const FRAME: usize = 2;

/// Sizes of a BERT. The files hold more, which only training reads.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    model_type: String,
    hidden_act: String,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub layer_norm_eps: f32,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    pub vocab_size: usize,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(skip)]
    max_seq_length: usize,
}

/// What the reference takes a missing key for.
fn absolute() -> String {
    "absolute".to_owned()
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Pooling {
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

#[derive(Deserialize)]
struct Length {
    max_seq_length: usize,
}

fn parse<T: DeserializeOwned>(
    read: &Read<'_>,
    file: &'static str,
) -> Result<T, (&'static str, String)> {
    serde_json::from_slice(&read(file)?).map_err(|error| (file, format!("cannot be read: {error}")))
}

impl Config {
    /// Reads the folder's description; an error names the file.
    pub fn read(read: &Read<'_>) -> Result<Self, (&'static str, String)> {
        let mut config: Self = parse(read, CONFIG)?;
        let pooling: Pooling = parse(read, POOLING)?;
        config.max_seq_length = parse::<Length>(read, LENGTH)?.max_seq_length;
        let others = pooling.pooling_mode_cls_token
            || pooling.pooling_mode_max_tokens
            || pooling.pooling_mode_mean_sqrt_len_tokens;
        if !pooling.pooling_mode_mean_tokens || others {
            return Err((POOLING, "asks for another pooling than the mean of all tokens".into()));
        }
        let modules: Vec<Module> = parse(read, MODULES)?;
        let known = ["Transformer", "Pooling", "Normalize"];
        let kind = |module: &Module| module.kind.rsplit('.').next().map(str::to_owned);
        if let Some(other) =
            modules.iter().filter_map(kind).find(|kind| !known.contains(&kind.as_str()))
        {
            return Err((MODULES, format!("has a part {other:?}, which this program lacks")));
        }
        config.check().map_err(|problem| (CONFIG, problem))?;
        let (longest, positions) = (config.max_seq_length, config.max_position_embeddings);
        if longest <= FRAME || longest > positions {
            return Err((
                LENGTH,
                format!(
                    "max_seq_length is {longest}: it must be above {FRAME} and at most the \
                     model's {positions} positions"
                ),
            ));
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let is = |key: &str, value: &str, wanted: &str| {
            if value == wanted {
                return Ok(());
            }
            Err(format!("{key} is {value:?}, and this program runs {wanted:?} alone"))
        };
        is("model_type", &self.model_type, "bert")?;
        is("hidden_act", &self.hidden_act, "gelu")?;
        is("position_embedding_type", &self.position_embedding_type, "absolute")?;
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("type_vocab_size", self.type_vocab_size),
            ("vocab_size", self.vocab_size),
        ];
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| !(1..1 << 20).contains(size))
        {
            return Err(format!("{key} is {size}: no such model can be run"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "hidden_size {} is no multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        Ok(())
    }

    /// How many tokens are read at once, with those that stand around the text.
    pub const fn window(&self) -> usize {
        self.max_seq_length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 4] = [
        (
            CONFIG,
            r#"{"model_type":"bert","hidden_act":"gelu","hidden_size":8,"num_hidden_layers":1,
            "num_attention_heads":2,"intermediate_size":16,"layer_norm_eps":1e-12,
            "max_position_embeddings":64,"type_vocab_size":2,"vocab_size":100}"#,
        ),
        (MODULES, r#"[{"type":"a.Transformer"},{"type":"a.Pooling"},{"type":"a.Normalize"}]"#),
        (POOLING, r#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":false}"#),
        (LENGTH, r#"{"max_seq_length":64,"do_lower_case":false}"#),
    ];

    /// The configuration with one text replaced.
    fn with(file: &str, from: &str, to: &str) -> Result<Config, (&'static str, String)> {
        Config::read(&|name| {
            let (_, text) = GOOD.iter().find(|(good, _)| *good == name).expect("a file");
            assert!(name != file || text.contains(from), "{from} is not in {file}");
            let text = if name == file { text.replace(from, to) } else { (*text).to_owned() };
            Ok(text.into_bytes())
        })
    }

    #[test]
    fn a_model_of_another_build_is_refused_with_its_file() {
        assert_eq!(with(CONFIG, "", "").expect("good").window(), 64);
        for (file, from, to, told) in [
            (CONFIG, "bert", "roberta", "model_type is \"roberta\""),
            (CONFIG, "\"gelu\"", "\"relu\"", "hidden_act is \"relu\""),
            (CONFIG, "\"hidden_size\":8", "\"hidden_size\":9", "no multiple"),
            (CONFIG, "\"num_attention_heads\":2", "\"num_attention_heads\":0", "is 0"),
            (CONFIG, "\"vocab_size\":100", "\"vocab_size\":\"x\"", "cannot be read"),
            (MODULES, "a.Normalize", "a.Dense", "\"Dense\""),
            (POOLING, "mean_tokens\":true", "mean_tokens\":false", "pooling"),
            (POOLING, "cls_token\":false", "cls_token\":true", "pooling"),
            (LENGTH, "64", "65", "max_seq_length is 65"),
            (LENGTH, "64", "2", "max_seq_length is 2"),
        ] {
            let (named, problem) = with(file, from, to).expect_err("refused");
            assert!(named == file && problem.contains(told), "{named}: {problem}");
        }
        assert_eq!(with(LENGTH, "64", "3").expect("the shortest").window(), 3);
    }
}
