//! What architectures and parameters are called here and there.

/// An architecture in both worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// `general.architecture`, which also starts the names of its keys.
    pub(crate) gguf: &'static str,
    /// `model_type` of config.json.
    pub(crate) model_type: &'static str,
    /// Its class in Transformers.
    pub(crate) class: &'static str,
    /// Whether the rows of query and key heads alternate between the halves that rotate together.
    pub(crate) interleaves: bool,
}

/// What is read and written. Mistral's models are Llama's in GGUF.
pub(crate) const ARCHITECTURES: [Architecture; 3] = [
    Architecture {
        gguf: "llama",
        model_type: "llama",
        class: "LlamaForCausalLM",
        interleaves: true,
    },
    Architecture {
        gguf: "qwen2",
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        interleaves: false,
    },
    Architecture {
        gguf: "qwen3",
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        interleaves: false,
    },
];

const OUTSIDE: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Names inside a block.
const INSIDE: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The name in Hugging Face's files of a tensor of GGUF.
pub(crate) fn to_hugging_face(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    if let Some(rest) = stem.strip_prefix("blk.") {
        let (layer, part) = rest.split_once('.')?;
        let layer: usize = layer.parse().ok()?;
        let (_, own) = INSIDE.iter().find(|(known, _)| *known == part)?;
        return Some(format!("model.layers.{layer}.{own}.{kind}"));
    }
    let (_, own) = OUTSIDE.iter().find(|(known, _)| *known == stem)?;
    Some(format!("{own}.{kind}"))
}

/// The name in GGUF of a tensor of Hugging Face's files.
pub(crate) fn to_gguf(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    if let Some(rest) = stem.strip_prefix("model.layers.") {
        let (layer, part) = rest.split_once('.')?;
        let layer: usize = layer.parse().ok()?;
        let (known, _) = INSIDE.iter().find(|(_, own)| *own == part)?;
        return Some(format!("blk.{layer}.{known}.{kind}"));
    }
    let (known, _) = OUTSIDE.iter().find(|(_, own)| *own == stem)?;
    Some(format!("{known}.{kind}"))
}

/// Whether the rows of a tensor, named as in GGUF, are those of query heads or of key heads.
pub(crate) fn rotates(name: &str) -> Option<Rotating> {
    let (stem, _) = name.rsplit_once('.')?;
    match stem.rsplit_once('.')?.1 {
        "attn_q" => Some(Rotating::Queries),
        "attn_k" => Some(Rotating::Keys),
        _ => None,
    }
}

/// Whose rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotating {
    /// Those of queries.
    Queries,
    /// Those of keys.
    Keys,
}

/// Puts the rows of heads, of which the first half rotates with the second, into the order in which a row is
/// followed by the one that it rotates with; or back.
pub(crate) fn reorder(values: &[f32], heads: usize, rows: usize, interleave: bool) -> Vec<f32> {
    let (width, size) = (values.len() / rows, rows / heads);
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, at) = (row / size, row % size);
        let from = if interleave {
            // From halves: row 2i + h comes from half h.
            at / 2 + at % 2 * (size / 2)
        } else {
            at % (size / 2) * 2 + at / (size / 2)
        };
        let start = (head * size + from) * width;
        out.extend_from_slice(&values[start..start + width]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for name in ["blk.12.attn_q.bias", "token_embd.weight", "output.weight"] {
            assert_eq!(to_gguf(&to_hugging_face(name).unwrap()).unwrap(), name);
        }
        assert_eq!(
            to_hugging_face("blk.0.ffn_norm.weight").unwrap(),
            "model.layers.0.post_attention_layernorm.weight"
        );
        assert_eq!(to_hugging_face("blk.0.ffn_gate_exps.weight"), None);
        assert_eq!(to_gguf("model.layers.0.self_attn.rotary_emb.inv_freq"), None);
        assert_eq!(rotates("blk.0.attn_k.weight"), Some(Rotating::Keys));
        assert_eq!(rotates("blk.0.attn_k_norm.weight"), None);
    }

    #[test]
    fn rows_that_rotate_together_become_neighbours_and_halves_again() {
        // Two heads of four rows of one value each.
        let halves: Vec<f32> = (0..8).map(|n| n as f32).collect();
        let neighbours = reorder(&halves, 2, 8, true);
        assert_eq!(neighbours, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(reorder(&neighbours, 2, 8, false), halves);
    }
}
