//! `--shape`: the dimensions of a new model in one word.

use std::str::FromStr;

use hearken_model::config::Family;
use serde_json::{Map, Value, json};

/// A family with dimensions: "llama,layers=4,width=128,heads=4".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    family: Family,
    layers: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    inner: usize,
    positions: usize,
    tied: bool,
}

const FAMILIES: [(&str, Family); 14] = [
    ("gpt2", Family::Gpt2),
    ("llama", Family::Llama),
    ("mistral", Family::Mistral),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("smollm3", Family::SmolLm3),
    ("phi3", Family::Phi3),
    ("olmo2", Family::Olmo2),
    ("olmo3", Family::Olmo3),
    ("granite", Family::Granite),
    ("gemma", Family::Gemma),
    ("gemma2", Family::Gemma2),
    ("gemma3_text", Family::Gemma3),
    ("gpt_neox", Family::GptNeox),
];

/// Gated feed-forward parts have three matrices instead of two, and two thirds of the width; a
/// multiple of this keeps products even.
const INNER_STEP: usize = 32;
const POSITIONS: usize = 1024;

fn is_gated(family: Family) -> bool {
    !matches!(family, Family::Gpt2 | Family::GptNeox)
}

fn default_inner(family: Family, width: usize) -> usize {
    if is_gated(family) { (8 * width / 3).next_multiple_of(INNER_STEP) } else { 4 * width }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let family = FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family);
        let family = family.ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
            format!("found the family {name:?}, expected one of {}", known.join(", "))
        })?;
        let mut sizes: [(&str, Option<usize>); 6] = [
            ("layers", None),
            ("width", None),
            ("heads", None),
            ("kv_heads", None),
            ("inner", None),
            ("positions", None),
        ];
        let mut tied = true;
        for part in parts {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("found {part:?}, expected KEY=VALUE"))?;
            if key == "tied" {
                tied = value
                    .parse()
                    .map_err(|_| format!("tied is {value:?}, expected true or false"))?;
                continue;
            }
            let known: Vec<&str> = sizes.iter().map(|(name, _)| *name).collect();
            let unknown = format!("found the key {key:?}, expected {} or tied", known.join(", "));
            let size = sizes.iter_mut().find(|(name, _)| *name == key).ok_or(unknown)?;
            let number = value.parse().ok().filter(|&number| 0 < number);
            size.1 =
                Some(number.ok_or_else(|| {
                    format!("{key} is {value:?}, expected a whole number from 1")
                })?);
        }
        let [layers, width, heads, kv_heads, inner, positions] = sizes;
        let needed = |(name, size): (&str, Option<usize>)| {
            size.ok_or_else(|| format!("{name}=N is missing"))
        };
        let (layers, width, heads) = (needed(layers)?, needed(width)?, needed(heads)?);
        if !width.is_multiple_of(2 * heads) {
            return Err(format!(
                "width is {width}, expected a multiple of twice the {heads} heads"
            ));
        }
        let kv_heads = kv_heads.1.unwrap_or(heads);
        if !is_gated(family) && kv_heads != heads {
            return Err(format!("{name} has as many key heads as heads, expected no kv_heads"));
        }
        Ok(Self {
            family,
            layers,
            width,
            heads,
            kv_heads,
            inner: inner.1.unwrap_or_else(|| default_inner(family, width)),
            positions: positions.1.unwrap_or(POSITIONS),
            tied,
        })
    }
}

impl Shape {
    /// The config.json of a model of this shape, but for its vocabulary.
    pub(crate) fn config(&self) -> Map<String, Value> {
        let config = match self.family {
            Family::Gpt2 => self.gpt2(),
            Family::GptNeox => self.gpt_neox(),
            Family::Llama => self.gated("llama", json!({})),
            Family::Mistral => self.gated("mistral", json!({"sliding_window": null})),
            Family::Qwen2 => self.gated("qwen2", json!({"use_sliding_window": false})),
            Family::Qwen3 => self.gated("qwen3", json!({"use_sliding_window": false})),
            Family::SmolLm3 => self.gated("smollm3", json!({"no_rope_layer_interval": 4})),
            Family::Phi3 => self.gated("phi3", json!({"sliding_window": null})),
            Family::Olmo2 => self.gated("olmo2", json!({})),
            Family::Olmo3 => {
                self.gated("olmo3", json!({"rope_theta": 500_000.0, "sliding_window": 4096}))
            }
            Family::Granite => self.granite(),
            Family::Gemma => self.gemma("gemma", json!({})),
            Family::Gemma2 => self.gemma(
                "gemma2",
                json!({
                    "query_pre_attn_scalar": self.head_dim(),
                    "sliding_window": 4096,
                    "attn_logit_softcapping": 50.0,
                    "final_logit_softcapping": 30.0,
                }),
            ),
            Family::Gemma3 => self.gemma(
                "gemma3_text",
                json!({
                    "query_pre_attn_scalar": self.head_dim(),
                    "sliding_window": 512,
                    "sliding_window_pattern": 6,
                    "rope_theta": 1_000_000.0,
                    "rope_local_base_freq": 10_000.0,
                }),
            ),
        };
        let Value::Object(config) = config else { unreachable!("every family gives an object") };
        config
    }

    fn gpt2(&self) -> Value {
        json!({
            "model_type": "gpt2",
            "n_layer": self.layers,
            "n_embd": self.width,
            "n_head": self.heads,
            "n_inner": self.inner,
            "n_positions": self.positions,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "tie_word_embeddings": self.tied,
        })
    }

    fn gpt_neox(&self) -> Value {
        json!({
            "model_type": "gpt_neox",
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "max_position_embeddings": self.positions,
            "hidden_act": "gelu",
            "rotary_pct": 0.25,
            "rotary_emb_base": 10000,
            "use_parallel_residual": true,
            "layer_norm_eps": 1e-5,
            "initializer_range": 0.02,
            "tie_word_embeddings": self.tied,
        })
    }

    fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// With the factors that Granite 3 has at any size.
    fn granite(&self) -> Value {
        let more = json!({
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 1.0 / self.head_dim() as f64,
            "logits_scaling": 8.0,
        });
        self.gated("granite", more)
    }

    fn gemma(&self, model_type: &str, more: Value) -> Value {
        let gelu = "gelu_pytorch_tanh";
        let mut config = self.gated(model_type, json!({"hidden_act": gelu}));
        config["hidden_activation"] = json!(gelu);
        if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
            config.extend(more);
        }
        config
    }

    fn gated(&self, model_type: &str, more: Value) -> Value {
        let mut config = json!({
            "model_type": model_type,
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim(),
            "intermediate_size": self.inner,
            "max_position_embeddings": self.positions,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": self.tied,
        });
        if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
            config.extend(more);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        text.parse::<Shape>().unwrap_err()
    }

    #[test]
    fn what_is_left_out_follows_from_the_rest() {
        let config = "llama,layers=2,width=64,heads=4".parse::<Shape>().unwrap().config();
        assert_eq!(config["intermediate_size"], 192);
        assert_eq!(config["num_key_value_heads"], 4);
        let config =
            "gpt2,layers=2,width=64,heads=4,positions=128".parse::<Shape>().unwrap().config();
        assert_eq!((&config["n_inner"], &config["n_positions"]), (&json!(256), &json!(128)));
    }

    #[test]
    fn mistakes_name_what_was_found_and_expected() {
        assert!(problem("lama").contains("\"lama\""));
        assert!(problem("llama,layers=2,width=64").contains("heads=N is missing"));
        assert!(problem("llama,layers=two").contains("layers is \"two\""));
        assert!(problem("llama,depth=2").contains("\"depth\""));
        assert!(problem("llama,layers=2,width=65,heads=4").contains("multiple"));
        assert!(problem("gpt2,layers=2,width=64,heads=4,kv_heads=2").contains("kv_heads"));
    }

    #[test]
    fn every_family_resolves() {
        for (name, _) in FAMILIES {
            let shape: Shape = format!("{name},layers=1,width=32,heads=2").parse().unwrap();
            let mut config = shape.config();
            config.insert("vocab_size".into(), json!(300));
            let path = std::path::Path::new("config.json");
            let read = hearken_model::ModelConfig::from_json(path, &config).unwrap();
            assert_eq!((read.layers, read.width, read.vocab), (1, 32, 300), "{name}");
        }
    }
}
