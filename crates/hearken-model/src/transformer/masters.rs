//! Master weights, and the copies that products read instead.

use hearken_tensor::Device;
use hearken_tensor::device::{Int8Scales, Precision};

use super::footprint::linears;
use super::model::Model;
use crate::architecture::LinearParams;

/// What a model holds of the weights of its blocks' linear maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masters {
    /// The f32 master values: to train or save it, or to change its precision.
    Keep,
    /// What products read: where that is a rounded copy, the master values are dropped as soon as it is made,
    /// see [`Model::drop_masters`].
    Drop,
    /// The copy that products in bfloat16 read, which is trained itself: whoever changes it rounds at random, see
    /// [`Device::round_randomly`].
    Bf16,
    /// Eight bits and scales, which products read in place of the master values, whatever the precision.
    Int8(Int8Scales),
}

impl Masters {
    pub(super) fn int8(self) -> Option<Int8Scales> {
        match self {
            Self::Int8(scales) => Some(scales),
            Self::Keep | Self::Drop | Self::Bf16 => None,
        }
    }
}

impl<D: Device> Model<D> {
    /// Drops the master values of weights of which products read a rounded copy: about half of what a
    /// bf16 model holds that is neither trained nor saved. Where products read the masters, as in
    /// f32, nothing is dropped.
    ///
    /// Parameters without values cannot be read or saved any more; that is a bug of the caller and
    /// panics.
    pub fn drop_masters(&mut self) {
        self.hold(Masters::Drop);
    }

    /// Freezes the model and holds what `masters` says of its weights; of what has been dropped before, nothing changes.
    pub fn hold(&mut self, masters: Masters) {
        self.set_trainable(|_| false);
        self.int8 = masters.int8().or(self.int8);
        for index in 0..self.params.len() {
            self.hold_weight(index, masters);
        }
    }

    /// Gives `take` the master values of each trained weight of which products in bfloat16 read a copy, with its index, and holds
    /// the copy alone: for those who share masters out.
    ///
    /// # Panics
    /// If products read f32.
    pub fn give_masters(&mut self, mut take: impl FnMut(usize, Vec<f32>)) {
        let weights: Vec<usize> =
            linears(&self.plan).iter().map(|linear| linear.weight.0).collect();
        for index in weights {
            if self.params.is_trained(index) && !self.params.is_rounded(index) {
                take(index, self.params.values(index));
                self.hold_weight(index, Masters::Bf16);
            }
        }
    }

    /// Puts the master values of a weight back that [`Model::give_masters`] has given.
    ///
    /// # Panics
    /// If their number is not the weight's.
    pub fn take_masters(&mut self, index: usize, values: &[f32]) {
        let values = self.device().upload(values);
        self.params.replace(index, values);
    }

    /// Holds what `masters` says of one parameter, if it is the weight of a block's linear map.
    pub(super) fn hold_weight(&mut self, index: usize, masters: Masters) {
        let reads = |linear: &LinearParams| linear.weight.0 == index;
        let Some(linear) = linears(&self.plan).into_iter().find(reads) else { return };
        let shape = self.weight_shape(linear);
        match masters {
            Masters::Keep => {}
            Masters::Drop => self.params.drop_masters(index, shape),
            Masters::Bf16 => {
                assert_eq!(self.precision, Precision::Bf16, "products read bfloat16");
                self.params.round_masters(index, shape);
            }
            Masters::Int8(scales) => self.params.round_to_int8(index, shape, scales),
        }
    }

    /// Bytes of the master values that are held.
    pub fn master_bytes(&self) -> usize {
        self.params.iter().map(|param| 4 * self.device().len(&param.values)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hearken_tensor::Cpu;
    use hearken_tensor::device::Precision;
    use serde_json::json;

    use super::*;
    use crate::{Batch, Head, Keep, LoadOptions, ModelConfig};

    fn model(precision: Precision) -> Model<Cpu> {
        let raw = json!({
            "model_type": "llama", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 48,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
            "hidden_act": "silu",
        });
        let config =
            ModelConfig::from_json(Path::new("config.json"), raw.as_object().unwrap()).unwrap();
        Model::init(Cpu::new(), config, Head::LanguageModel, precision, 3)
    }

    #[test]
    fn a_model_without_masters_computes_what_it_did() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut model = model(precision);
            let mut batch = Batch::new();
            batch.push(None, &[3, 7, 1, 39]);
            let logits = |model: &Model<Cpu>| {
                model.logits(&model.forward(&batch, Keep::Nothing), &[0, 1, 2, 3])
            };
            let (before, held) = (logits(&model), model.master_bytes());
            model.drop_masters();
            assert_eq!(logits(&model), before);
            let (_, all) = model.parameter_counts();
            assert_eq!(held, 4 * all);
            assert!(precision == Precision::Bf16 || model.master_bytes() == held);
        }
    }

    #[test]
    fn what_is_loaded_without_masters_is_what_is_left_when_they_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        model(Precision::F32).save(dir.path()).unwrap();
        let load = |precision, masters| {
            let options = LoadOptions { precision, masters, ..LoadOptions::language_model() };
            Model::load(Cpu::new(), dir.path(), &options).unwrap().0
        };
        let mut batch = Batch::new();
        batch.push(None, &[3, 7, 1, 39]);
        for precision in [Precision::F32, Precision::Bf16] {
            let mut whole = load(precision, Masters::Keep);
            let read = load(precision, Masters::Drop);
            let config = whole.config().clone();
            let head = Head::LanguageModel;
            let drawn = Model::init_without_masters(Cpu::new(), config, head, precision, 3);
            whole.drop_masters();
            for model in [&read, &drawn] {
                assert_eq!(model.master_bytes(), whole.master_bytes());
                assert_eq!(model.parameter_counts(), whole.parameter_counts());
                let logits =
                    |model: &Model<Cpu>| model.logits(&model.forward(&batch, Keep::Nothing), &[3]);
                assert_eq!(logits(model), logits(&whole));
            }
        }
    }

    #[test]
    #[should_panic(expected = "master values")]
    fn dropped_values_cannot_be_read() {
        let mut model = model(Precision::Bf16);
        model.drop_masters();
        if let Some(index) = (0..model.params().len()).find(|&i| model.params().is_dropped(i)) {
            let _ = model.values(index);
        }
        panic!("this processor keeps master values");
    }
}
