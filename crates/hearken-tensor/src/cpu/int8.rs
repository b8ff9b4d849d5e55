//! Weights in eight bits: whole numbers from −127 to 127, times a scale.

use std::ops::Range;

use super::blocked::Right;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rounding;
use super::rows::{Shared, for_chunks};
use crate::device::{Int8Scales, Layout, Precision, WeightShape};

/// The largest code.
const MOST: f32 = 127.0;

/// A weight in eight bits, one output after the other in whatever layout it came.
#[derive(Debug)]
pub(crate) struct Int8 {
    codes: Vec<i8>,
    /// For each output one after the other, of each of its groups of inputs.
    scales: Vec<f32>,
    inputs: usize,
    group: usize,
}

impl Int8 {
    /// Rounds a weight. A scale follows from the largest magnitude of what shares it; where that is not
    /// finite neither is anything that is read of them later.
    pub(crate) fn round(values: &[f32], shape: WeightShape, scales: Int8Scales) -> Self {
        let WeightShape { inputs, outputs, layout, .. } = shape;
        assert_eq!(values.len(), inputs * outputs, "weight: outputs × inputs");
        let group = scales.group(inputs);
        let mut rounded = Self {
            codes: Vec::with_capacity(values.len()),
            scales: Vec::with_capacity(outputs * inputs.div_ceil(group)),
            inputs,
            group,
        };
        let mut row = vec![0.0_f32; inputs];
        for output in 0..outputs {
            match layout {
                Layout::OutputsByInputs => {
                    row.copy_from_slice(&values[output * inputs..(output + 1) * inputs]);
                }
                Layout::InputsByOutputs => {
                    let column = values[output..].iter().step_by(outputs);
                    row.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
                }
            }
            row.chunks(group).for_each(|part| rounded.push(part));
        }
        rounded
    }

    fn push(&mut self, part: &[f32]) {
        let finite = part.iter().all(|value| value.is_finite());
        let largest = part.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = if finite { largest / MOST } else { f32::NAN };
        let (most, wide) = (f64::from(MOST), f64::from(scale));
        // The scale of magnitudes near the smallest f32 is 0; what it stands for is, too.
        let code = |value: &f32| {
            if 0.0 < scale {
                (f64::from(*value) / wide).round_ties_even().clamp(-most, most) as i8
            } else {
                0
            }
        };
        self.codes.extend(part.iter().map(code));
        self.scales.push(scale);
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn outputs(&self) -> usize {
        self.codes.len() / self.inputs.max(1)
    }

    /// Writes the values of some outputs, one output after the other.
    pub(crate) fn widen(&self, outputs: Range<usize>, out: &mut [f32]) {
        let (inputs, groups) = (self.inputs, self.inputs.div_ceil(self.group));
        assert_eq!(out.len(), outputs.len() * inputs, "out: outputs × inputs");
        let out = Shared::new(out);
        for_chunks(outputs.len(), inputs, |range| {
            for row in range {
                let output = outputs.start + row;
                dispatch(Widen {
                    codes: &self.codes[output * inputs..(output + 1) * inputs],
                    scales: &self.scales[output * groups..(output + 1) * groups],
                    group: self.group,
                    // SAFETY: the ranges partition the rows.
                    out: unsafe { out.slice(row * inputs, inputs) },
                });
            }
        });
    }

    /// One value.
    pub(crate) fn value(&self, output: usize, input: usize) -> f32 {
        let groups = self.inputs.div_ceil(self.group);
        let scale = self.scales[output * groups + input / self.group];
        f32::from(self.codes[output * self.inputs + input]) * scale
    }
}

/// Codes times their scales; compiled for each family's registers.
struct Widen<'a> {
    codes: &'a [i8],
    scales: &'a [f32],
    group: usize,
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let parts = self.codes.chunks(self.group).zip(self.out.chunks_mut(self.group));
        for ((codes, out), scale) in parts.zip(self.scales) {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = f32::from(*code) * scale;
            }
        }
    }
}

/// A weight in eight bits as the right factor of y = x·Wᵀ: its values are widened into each strip.
pub(crate) struct Int8Factor<'a> {
    pub(crate) int8: &'a Int8,
    /// Of the products: in bfloat16 values are rounded to it.
    pub(crate) precision: Precision,
}

impl Int8Factor<'_> {
    /// Writes the values of one output at `inner`, at most sixteen, to the start of `out`.
    #[inline(always)]
    fn widen(&self, output: usize, inner: Range<usize>, out: &mut [f32; LANES]) {
        let Int8 { codes, scales, inputs, group } = self.int8;
        let codes = &codes[output * inputs..(output + 1) * inputs][inner.clone()];
        let scales = &scales[output * inputs.div_ceil(*group)..];
        let (first, last) = (inner.start / group, (inner.end - 1) / group);
        if first == last {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = f32::from(*code) * scales[first];
            }
        } else {
            for ((out, code), inner) in out.iter_mut().zip(codes).zip(inner) {
                *out = f32::from(*code) * scales[inner / group];
            }
        }
        if self.precision == Precision::Bf16 {
            rounding::round_few(out);
        }
    }
}

impl Right for Int8Factor<'_> {
    fn inner(&self) -> usize {
        self.int8.inputs()
    }

    fn columns(&self) -> usize {
        self.int8.outputs()
    }

    #[inline(always)]
    unsafe fn fill<S: Lanes, const N: usize>(
        &self,
        column: usize,
        inner: Range<usize>,
        strip: *mut f32,
    ) {
        let (end, stride) = (inner.end, N * LANES);
        for j in 0..N {
            let first = column + j * LANES;
            let outputs = first.min(self.columns())..(first + LANES).min(self.columns());
            for start in inner.clone().step_by(LANES) {
                let part = start..(start + LANES).min(end);
                let mut values = [[0.0; LANES]; LANES];
                for (values, output) in values.iter_mut().zip(outputs.clone()) {
                    self.widen(output, part.clone(), values);
                }
                let mut rows = [S::splat(0.0); LANES];
                for i in 0..LANES {
                    rows[i] = S::load(&values[i]);
                }
                let lines = S::transpose(&rows);
                for (i, line) in lines.iter().enumerate().take(part.len()) {
                    let at = (start - inner.start + i) * stride + j * LANES;
                    // SAFETY: the caller's promise.
                    unsafe { line.store_at(strip.add(at)) };
                }
            }
        }
    }
}
