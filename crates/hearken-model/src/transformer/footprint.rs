//! What a model takes in memory, known from its configuration before a weight is read.

use hearken_tensor::Device;
use hearken_tensor::device::{Int8Scales, Precision};

use super::adapter::adapter_elements;
use super::masters::Masters;
use super::model::Model;
use crate::architecture::{Head, LayerPlan, LinearParams, MlpParams, Plan, QkvParams};
use crate::config::{Mlp, ModelConfig, QueryKeyNorm};
use crate::lora::{AdapterError, LoraConfig};
use crate::params::ParamSpec;

/// Bytes of f32.
const F32: usize = 4;
/// Bytes of bfloat16.
const BF16: usize = 2;

/// What a model takes in memory. Counts are of elements, sizes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Elements of all parameters.
    pub parameters: usize,
    /// Elements of the parameters that training changes.
    pub trained: usize,
    /// Bytes of the master values.
    pub master_bytes: usize,
    /// Bytes of the rounded copies that bf16 products read: one of each weight, and in training
    /// another of its transpose. None in f32.
    pub copy_bytes: usize,
    /// Blocks.
    pub layers: usize,
    /// Bytes that a block keeps of one row for its backward pass.
    pub block_bytes_per_row: usize,
    /// Bytes of the residual stream for one row: what a block keeps that is computed again.
    pub stream_bytes_per_row: usize,
    /// Bytes of one row, at most, that a backward pass holds for a moment beside what blocks keep.
    pub passing_bytes_per_row: usize,
    /// Bytes of the logits of one row; none without a language-model head.
    pub logits_bytes_per_row: usize,
    /// Bytes of keys and values for one position of one sequence.
    pub cache_bytes_per_position: usize,
    /// Bytes, at most, of the weights that have taken up an adapter, while completions are sampled from them.
    pub merged_bytes: usize,
    /// The same where weights are rounded to eight bits to sample from them.
    pub sampled_int8_bytes: usize,
}

impl Footprint {
    /// The footprint of a model of which `trainable` names the parameters that training changes.
    pub fn new(
        config: &ModelConfig,
        head: Head,
        precision: Precision,
        trainable: impl Fn(&str) -> bool,
    ) -> Self {
        let plan = Plan::new(config, head);
        let specs: Vec<(&ParamSpec, bool)> =
            plan.params.iter().map(|spec| (spec, trainable(&spec.name))).collect();
        let elements = |(spec, _): &(&ParamSpec, bool)| spec.shape.iter().product::<usize>();
        let parameters: usize = specs.iter().map(elements).sum();
        let copies = |index: usize| {
            let copies = if specs[index].1 { 2 } else { 1 };
            copies * BF16 * elements(&specs[index])
        };
        let read = linears(&plan).into_iter().map(|linear| linear.weight.0);
        let read = read.chain(plan.head.map(|head| head.0));
        Self {
            parameters,
            trained: specs.iter().filter(|(_, trained)| *trained).map(elements).sum(),
            master_bytes: F32 * parameters,
            copy_bytes: match precision {
                Precision::F32 => 0,
                Precision::Bf16 => read.map(copies).sum(),
            },
            ..Self::of_rows(config, &plan, precision)
        }
    }

    /// The footprint where the copies of blocks' weights that products in bfloat16 read are all there is of them.
    #[must_use]
    pub fn with_rounded_masters(self, config: &ModelConfig, head: Head) -> Self {
        let weights = elements(&linears(&Plan::new(config, head)));
        Self { master_bytes: self.master_bytes - F32 * weights, ..self }
    }

    /// The footprint of a model that is only read, of whose weights `masters` says what is held.
    pub fn read(config: &ModelConfig, head: Head, precision: Precision, masters: Masters) -> Self {
        let base = Self::new(config, head, precision, |_| false);
        let weights = elements(&linears(&Plan::new(config, head)));
        match (masters, precision) {
            (Masters::Keep, _) | (Masters::Drop | Masters::Bf16, Precision::F32) => base,
            (Masters::Drop | Masters::Bf16, Precision::Bf16) => {
                Self { master_bytes: base.master_bytes - F32 * weights, ..base }
            }
            (Masters::Int8(scales), _) => base.in_int8(config, head, precision, scales),
        }
    }

    /// The footprint of a frozen model whose masters and copies are replaced by eight bits.
    fn in_int8(
        self,
        config: &ModelConfig,
        head: Head,
        precision: Precision,
        scales: Int8Scales,
    ) -> Self {
        let linears = linears(&Plan::new(config, head));
        let copies = match precision {
            Precision::F32 => 0,
            Precision::Bf16 => BF16 * elements(&linears),
        };
        let bytes = |linear: &LinearParams| scales.bytes(linear.inputs, linear.outputs);
        Self {
            master_bytes: self.master_bytes - F32 * elements(&linears),
            sampled_int8_bytes: 0,
            copy_bytes: self.copy_bytes - copies + linears.iter().map(bytes).sum::<usize>(),
            ..self
        }
    }

    /// The same of a model with an adapter, which alone is trained, with a score head. Of the weights that are
    /// frozen `masters` says what is held; where they are dropped, a weight in bfloat16 has both its copies, since
    /// gradients go through it.
    ///
    /// # Errors
    /// If the adapter's targets are not the model's.
    pub fn with_adapter(
        config: &ModelConfig,
        head: Head,
        precision: Precision,
        adapter: &LoraConfig,
        masters: Masters,
    ) -> Result<Self, AdapterError> {
        let plan = Plan::new(config, head);
        let (linears, factors) = (linears(&plan), adapter_elements(config, &plan, adapter)?);
        let own_head = plan.scalar_names();
        let base = Self::new(config, head, precision, |name| own_head.contains(&name));
        let weights = elements(&linears);
        // Of the head, too, a second copy is made.
        let second = match precision {
            Precision::F32 => 0,
            Precision::Bf16 => BF16 * plan.head.map_or(0, |_| config.vocab * config.width),
        };
        let (base, merged_bytes, second) = match (masters, precision) {
            (Masters::Int8(scales), _) => {
                (base.in_int8(config, head, precision, scales), 0, second)
            }
            (_, Precision::F32) => (base, F32 * weights, second),
            (_, Precision::Bf16) => {
                let master_bytes = base.master_bytes - F32 * weights;
                (Self { master_bytes, ..base }, BF16 * weights, second + BF16 * weights)
            }
        };
        // What one linear map's adapter reads and gives is there for a moment.
        let rows = if 0.0 < adapter.dropout { 2 } else { 0 };
        let wide = config.width.max(config.inner);
        Ok(Self {
            parameters: base.parameters + factors,
            trained: base.trained + factors,
            master_bytes: base.master_bytes + F32 * factors,
            copy_bytes: base.copy_bytes + second,
            passing_bytes_per_row: base.passing_bytes_per_row
                + F32 * (4 * adapter.rank + rows * wide),
            merged_bytes,
            ..base
        })
    }

    /// The sizes that follow from the dimensions alone.
    fn of_rows(config: &ModelConfig, plan: &Plan, precision: Precision) -> Self {
        let gated = usize::from(matches!(config.mlp, Mlp::Gated(_)));
        let (width, inner, qkv) = (config.width, config.inner, plan.qkv_layout.row_stride);
        let normalizes = config.query_key_norm != QueryKeyNorm::None;
        // The outputs of the parts before their norms, where there are any, and these norms' roots.
        let norms = |layer: &LayerPlan| [layer.attention_norms, layer.mlp_norms];
        let of_outputs = |layer| norms(layer).iter().filter(|norms| norms.after.is_some()).count();
        let outputs = plan.layers.first().map_or(0, of_outputs);
        let normed = outputs * (width + 1);
        let attention = width + qkv * (1 + usize::from(normalizes)) + config.query_width() + normed;
        let statistics = config.heads + 2;
        let before = (1 + gated) * inner;
        let of_cache = match precision {
            Precision::F32 => F32,
            Precision::Bf16 => BF16,
        };
        // The feed-forward part's gradients are the widest: of what its activation read, and then
        // either of what it gave or of the block's input, beside the normed input. Products in bf16
        // read the rows rounded.
        let rounded = match precision {
            Precision::F32 => 0,
            Precision::Bf16 => before / 2 + inner / 2,
        };
        let passing = before + inner.max(2 * width) + 2 * width + rounded;
        let sampled =
            |linear: &LinearParams| Int8Scales::PerGroup.bytes(linear.inputs, linear.outputs);
        Self {
            parameters: 0,
            trained: 0,
            master_bytes: 0,
            copy_bytes: 0,
            layers: config.layers,
            block_bytes_per_row: F32 * (attention + width + before + statistics),
            stream_bytes_per_row: F32 * width,
            passing_bytes_per_row: F32 * passing,
            logits_bytes_per_row: plan.head.map_or(0, |_| F32 * config.vocab),
            cache_bytes_per_position: 2 * config.layers * of_cache * config.key_width(),
            merged_bytes: 0,
            sampled_int8_bytes: linears(plan).iter().map(sampled).sum(),
        }
    }

    /// Bytes, at most, of the weights that are made to sample from, in eight bits or not.
    pub fn sampled_bytes(&self, int8: Option<Int8Scales>) -> usize {
        if int8.is_some() { self.sampled_int8_bytes } else { self.merged_bytes }
    }

    /// Bytes that one row takes at most in a forward and backward pass that keeps all activations.
    pub fn kept_bytes_per_row(&self) -> usize {
        self.layers * self.block_bytes_per_row + self.ends() + self.passing_bytes_per_row
    }

    /// Bytes that one row takes at most where blocks are computed again from their inputs.
    pub fn recomputed_bytes_per_row(&self) -> usize {
        let inputs = self.layers * self.stream_bytes_per_row;
        inputs + self.block_bytes_per_row + self.ends() + self.passing_bytes_per_row
    }

    /// The stream before and after the last norm, and its gradient.
    fn ends(&self) -> usize {
        3 * self.stream_bytes_per_row
    }
}

impl<D: Device> Model<D> {
    /// What the model takes as it is: with the parameters that are trainable, and without master
    /// values that have been dropped.
    pub fn footprint(&self) -> Footprint {
        let trainable = |name: &str| {
            let found = self.params.iter().position(|param| param.name == name);
            found.is_none_or(|index| self.params.is_trained(index))
        };
        let (trained, parameters) = self.parameter_counts();
        let (config, head, precision) = (&self.config, self.head, self.precision);
        let masters = self.int8.map_or(Masters::Drop, Masters::Int8);
        let adapted = self.adapter().and_then(|adapter| {
            Footprint::with_adapter(config, head, precision, adapter, masters).ok()
        });
        let found = adapted.unwrap_or_else(|| match masters {
            Masters::Int8(_) => Footprint::read(config, head, precision, masters),
            _ => Footprint::new(config, head, precision, trainable),
        });
        Footprint { trained, parameters, master_bytes: self.master_bytes(), ..found }
    }
}

/// Elements of the weights of linear maps.
fn elements(linears: &[LinearParams]) -> usize {
    linears.iter().map(|linear| linear.inputs * linear.outputs).sum()
}

/// The linear maps of all blocks.
pub(super) fn linears(plan: &Plan) -> Vec<LinearParams> {
    let mut linears = Vec::new();
    for layer in &plan.layers {
        match layer.qkv {
            QkvParams::Fused(fused) => linears.push(fused),
            QkvParams::Separate(parts) => linears.extend(parts),
        }
        linears.push(layer.attention_output);
        match layer.mlp {
            MlpParams::Plain { up, down } | MlpParams::GatedFused { gate_up: up, down } => {
                linears.extend([up, down]);
            }
            MlpParams::Gated { gate, up, down } => linears.extend([gate, up, down]),
        }
    }
    linears
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hearken_tensor::Cpu;
    use serde_json::json;

    use super::*;
    use crate::lora::Targets;

    /// Two blocks of a family, with more keys.
    fn small(more: &serde_json::Value) -> ModelConfig {
        let mut raw = json!({
            "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        });
        raw.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ModelConfig::from_json(Path::new("config.json"), raw.as_object().unwrap()).unwrap()
    }

    #[test]
    fn a_model_takes_what_its_configuration_says() {
        for family in ["llama", "gemma3_text", "granite", "olmo3"] {
            let config = small(&json!({"model_type": family}));
            for precision in [Precision::F32, Precision::Bf16] {
                for head in [Head::LanguageModel, Head::Score] {
                    let mut model = Model::init(Cpu::new(), config.clone(), head, precision, 3);
                    let is_trained = |name: &str| name.contains("mlp");
                    model.set_trainable(is_trained);
                    let expected = Footprint::new(&config, head, precision, is_trained);
                    assert_eq!(model.footprint(), expected);
                    assert_eq!(expected.master_bytes, model.master_bytes());
                    assert!(expected.trained < expected.parameters);
                    assert_eq!(expected.copy_bytes == 0, precision == Precision::F32);
                    assert!(expected.recomputed_bytes_per_row() < expected.kept_bytes_per_row());
                }
            }
        }
    }

    /// Each norm behind a part keeps what it reads and the reciprocal root of each row.
    #[test]
    fn norms_behind_parts_keep_what_the_parts_gave() {
        let bytes = |family: &str| {
            let config = small(&json!({"model_type": family, "sliding_window": 8}));
            let head = Head::LanguageModel;
            Footprint::new(&config, head, Precision::F32, |_| true).block_bytes_per_row
        };
        assert_eq!(bytes("gemma2"), bytes("mistral") + 2 * 4 * (32 + 1));
    }

    #[test]
    fn a_model_with_an_adapter_trains_the_adapter_and_holds_no_masters_of_what_it_freezes() {
        let config = small(&json!({"model_type": "llama"}));
        let adapter = LoraConfig::new(3, 6.0, Targets::AllLinear);
        for precision in [Precision::F32, Precision::Bf16] {
            for head in [Head::LanguageModel, Head::Score] {
                let mut model = Model::init(Cpu::new(), config.clone(), head, precision, 3);
                model.add_adapter(&adapter, Path::new("base"), 5).unwrap();
                model.drop_frozen_masters();
                let expected =
                    Footprint::with_adapter(&config, head, precision, &adapter, Masters::Drop)
                        .unwrap();
                assert_eq!(model.footprint(), expected);
                let score = if head == Head::Score { 32 } else { 0 };
                // Query, key, value and output; gate, up and down.
                let widths = 64 + 48 + 48 + 64 + 3 * 80;
                assert_eq!(expected.trained, 2 * 3 * widths + score);
                let whole = Footprint::new(&config, head, precision, |_| true);
                assert!(precision == Precision::F32 || expected.master_bytes < whole.master_bytes);
            }
        }
        let (head, precision) = (Head::LanguageModel, Precision::Bf16);
        let mut model = Model::init(Cpu::new(), config.clone(), head, precision, 3);
        model.hold(Masters::Bf16);
        model.set_trainable(|_| true);
        let whole = Footprint::new(&config, head, precision, |_| true);
        assert_eq!(model.footprint(), whole.with_rounded_masters(&config, head));
    }

    #[test]
    fn weights_in_eight_bits_take_a_quarter_of_their_masters_and_their_scales() {
        let raw = json!({
            "model_type": "llama", "vocab_size": 40, "hidden_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 192,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
            "hidden_act": "silu",
        });
        let config =
            ModelConfig::from_json(Path::new("config.json"), raw.as_object().unwrap()).unwrap();
        let adapter = LoraConfig::new(3, 6.0, Targets::AllLinear);
        let head = Head::LanguageModel;
        for precision in [Precision::F32, Precision::Bf16] {
            for scales in [Int8Scales::PerOutput, Int8Scales::PerGroup] {
                let masters = Masters::Int8(scales);
                let mut model = Model::init(Cpu::new(), config.clone(), head, precision, 3);
                let weights = elements(&linears(&model.plan));
                let before = model.master_bytes();
                model.hold(masters);
                assert_eq!(model.master_bytes(), before - 4 * weights);
                let expected = Footprint::read(&config, head, precision, masters);
                assert_eq!(model.footprint(), expected);
                let scale_bytes = expected.copy_bytes - weights;
                let of_head = if precision == Precision::F32 { 0 } else { 2 * 40 * 128 };
                assert!(scale_bytes - of_head <= weights / 14, "{scale_bytes}");
                model.add_adapter(&adapter, Path::new("base"), 5).unwrap();
                let expected =
                    Footprint::with_adapter(&config, head, precision, &adapter, masters).unwrap();
                assert_eq!(model.footprint(), expected);
                assert_eq!(expected.merged_bytes, 0);
                assert!(model.for_sampling(None).is_none());
                assert!(model.for_sampling(Some(scales)).is_none());
            }
        }
    }
}
