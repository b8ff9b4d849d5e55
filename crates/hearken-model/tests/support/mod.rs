//! Reading the fixtures, and comparing.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test file uses a part; tests may panic"
)]

use hearken_model::{Batch, Model};
use hearken_tensor::device::Prediction;
use hearken_tensor::{Cpu, Device};

pub(crate) use hearken_testing::{FAMILIES, family as fixture};

/// The reference values of one model.
pub(crate) struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    pub(crate) fn read(family: &str) -> Self {
        Self { bytes: std::fs::read(fixture(family).join("golden.safetensors")).unwrap() }
    }

    fn view(&self, name: &str) -> (safetensors::Dtype, Vec<usize>, Vec<u8>) {
        let tensors = safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
        (view.dtype(), view.shape().to_vec(), view.data().to_vec())
    }

    pub(crate) fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let (_, shape, data) = self.view(name);
        let values =
            data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (shape, values)
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        let (dtype, _, data) = self.view(name);
        match dtype {
            safetensors::Dtype::I64 => data
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32)
                .collect(),
            _ => data
                .chunks_exact(4)
                .map(|b| i32::from_le_bytes(b.try_into().unwrap()) as u32)
                .collect(),
        }
    }

    /// The sequences without their padding.
    pub(crate) fn sequences(&self) -> Vec<Vec<u32>> {
        let (ids, mask) = (self.ids("input_ids"), self.ids("attention_mask"));
        let width = ids.len() / 3;
        let row = |i: usize| {
            let range = i * width..(i + 1) * width;
            let kept = ids[range.clone()].iter().zip(&mask[range]);
            kept.filter(|(_, m)| **m == 1).map(|(id, _)| *id).collect()
        };
        (0..3).map(row).collect()
    }

    /// All next-token predictions of the sequences packed one after the other.
    pub(crate) fn predictions(sequences: &[Vec<u32>]) -> Vec<Prediction> {
        let mut first = 0;
        let mut predictions = Vec::new();
        for sequence in sequences {
            predictions.extend(Model::<Cpu>::next_token_predictions(sequence, first));
            first += sequence.len();
        }
        predictions
    }

    pub(crate) fn logprobs(&self, sequences: &[Vec<u32>]) -> Vec<f32> {
        let (shape, values) = self.tensor("token_logprobs");
        let row = |(i, sequence): (usize, &Vec<u32>)| {
            values[i * shape[1]..i * shape[1] + sequence.len() - 1].to_vec()
        };
        sequences.iter().enumerate().flat_map(row).collect()
    }
}

/// Sequences packed as roots of a forest, and their segments.
pub(crate) fn golden_batch(sequences: &[Vec<u32>]) -> (Batch, Vec<usize>) {
    let mut batch = Batch::new();
    let segments = sequences.iter().map(|sequence| batch.push(None, sequence)).collect();
    (batch, segments)
}

/// ‖a − b‖ / ‖b‖.
pub(crate) fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let norm: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
}

pub(crate) fn download<D: Device>(model: &Model<D>, buffer: &D::Buffer, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    model.device().download(buffer, 0, &mut values);
    values
}
