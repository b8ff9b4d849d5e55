//! The models that are timed.

use serde_json::{Map, Value, json};

/// The dimensions of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Llama with 8 layers of width 512: 27.8 million parameters, vocabulary 8,192.
    Small30,
    /// `SmolLM2`'s smallest: Llama with 30 layers of width 576, 135 million parameters, vocabulary
    /// 49,152.
    Smol135,
    /// GPT-2 with 12 layers of width 768: 124 million parameters, vocabulary 50,257.
    Gpt2,
}

impl Shape {
    /// The name that results carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small30 => "small30",
            Self::Smol135 => "smol135",
            Self::Gpt2 => "gpt2",
        }
    }

    /// A config.json with at least `positions` positions and without an end token: completions are
    /// as long as they may be.
    pub(crate) fn config(self, positions: usize) -> Map<String, Value> {
        let config = match self {
            Self::Small30 => {
                llama(Llama { vocab: 8192, width: 512, inner: 1408, layers: 8, heads: [8, 4] })
            }
            Self::Smol135 => {
                llama(Llama { vocab: 49152, width: 576, inner: 1536, layers: 30, heads: [9, 3] })
            }
            Self::Gpt2 => gpt2(),
        };
        let Value::Object(mut config) = config else { unreachable!("an object") };
        let key = if self == Self::Gpt2 { "n_positions" } else { "max_position_embeddings" };
        let least = config[key].as_u64().unwrap_or(0);
        config.insert(key.to_owned(), json!(least.max(positions as u64)));
        config.insert("pad_token_id".to_owned(), json!(1));
        config
    }
}

#[derive(Clone, Copy)]
struct Llama {
    vocab: usize,
    width: usize,
    inner: usize,
    layers: usize,
    /// Query heads, and heads of keys and values.
    heads: [usize; 2],
}

fn llama(shape: Llama) -> Value {
    json!({
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads[0],
        "num_key_value_heads": shape.heads[1],
        "head_dim": shape.width / shape.heads[0],
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true,
    })
}

fn gpt2() -> Value {
    json!({
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "tie_word_embeddings": true,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hearken_model::ModelConfig;

    use super::*;

    #[test]
    fn positions_grow_with_what_is_asked_for() {
        for (shape, key) in
            [(Shape::Small30, "max_position_embeddings"), (Shape::Gpt2, "n_positions")]
        {
            let own = shape.config(1)[key].as_u64().unwrap();
            assert_eq!(shape.config(own as usize + 5)[key], json!(own + 5));
        }
    }

    #[test]
    fn every_shape_resolves_and_never_ends() {
        for shape in [Shape::Small30, Shape::Smol135, Shape::Gpt2] {
            let path = Path::new("config.json");
            let config = ModelConfig::from_json(path, &shape.config(1)).unwrap();
            assert!(config.eos.is_empty() && config.tied_head, "{}", shape.name());
        }
    }
}
