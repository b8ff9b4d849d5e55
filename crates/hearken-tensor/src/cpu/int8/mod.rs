//! Weights in eight bits: whole numbers from −127 to 127, times a scale; and products with them.
//!
//! In `y = x·Wᵀ` the rows of x are rounded to eight bits, too, 64 neighbors by a scale of their own, so that
//! sums of so many products are sums of whole numbers: exact, and the same in every family of kernels
//! ([`dots`]). They are multiplied by both scales and added up in f32, in order: the same row gives the same
//! bits whatever other rows are computed with it.

mod dots;
#[cfg(target_arch = "aarch64")]
mod dots_neon;
#[cfg(target_arch = "x86_64")]
mod dots_x86;
mod left;
mod product;

use std::ops::Range;
use std::sync::Arc;

use super::buffer::{Buffer, BufferPool};
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::{SharedElements, for_chunks};
use crate::device::{Int8Scales, WeightLayout, WeightShape};

pub(crate) use left::Left;
pub(crate) use product::{Int8Product, products};

/// The largest code.
const MOST: f32 = 127.0;
/// Inner indices whose codes lie in one word.
const QUAD: usize = 4;
/// Quads that are summed in whole numbers.
const BLOCK: usize = Int8Scales::GROUP / QUAD;

/// A weight in eight bits, packed for products whatever layout it came in.
///
/// Sixteen outputs make a strip; there are as many strips as fill pairs, padded with zeros. The word
/// `[strip, quad, output]` has the codes of four inputs, the first one in its lowest byte; scales are
/// `[strip, group, output]`.
#[derive(Debug)]
pub(crate) struct Int8 {
    codes: Buffer,
    scales: Buffer,
    inputs: usize,
    outputs: usize,
    group: usize,
}

impl Int8 {
    /// Rounds a weight. A scale follows from the largest magnitude of what shares it; where that is not
    /// finite neither is anything that is read of them later.
    pub(crate) fn round(
        pool: &Arc<BufferPool>,
        values: &[f32],
        shape: WeightShape,
        scales: Int8Scales,
    ) -> Self {
        let WeightShape { inputs, outputs, .. } = shape;
        assert_eq!(values.len(), inputs * outputs, "weight: outputs × inputs");
        let group = scales.group(inputs);
        let strips = outputs.div_ceil(LANES).next_multiple_of(2);
        let of_codes = inputs.div_ceil(QUAD) * LANES;
        let of_scales = inputs.div_ceil(group) * LANES;
        let pool = pool.for_weights();
        let mut codes = Buffer::scratch(pool, strips * of_codes);
        let mut scales = Buffer::scratch(pool, strips * of_scales);
        {
            let (codes, scales) =
                (SharedElements::new(&mut codes), SharedElements::new(&mut scales));
            for_chunks(strips, inputs * LANES, |range| {
                for strip in range {
                    // SAFETY: the ranges partition the strips.
                    let strip_codes = unsafe { codes.slice(strip * of_codes, of_codes) };
                    // SAFETY: as above.
                    let strip_scales = unsafe { scales.slice(strip * of_scales, of_scales) };
                    round_strip(values, shape, (strip, group), strip_codes, strip_scales);
                }
            });
        }
        Self { codes, scales, inputs, outputs, group }
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    fn quads(&self) -> usize {
        self.inputs.div_ceil(QUAD)
    }

    /// The codes of a strip.
    fn strip(&self, strip: usize) -> &[f32] {
        let len = self.quads() * LANES;
        &self.codes[strip * len..(strip + 1) * len]
    }

    /// The scales of a strip.
    fn strip_scales(&self, strip: usize) -> &[f32] {
        let len = self.inputs.div_ceil(self.group) * LANES;
        &self.scales[strip * len..(strip + 1) * len]
    }

    /// Writes the values of some outputs, one output after the other.
    pub(crate) fn widen(&self, outputs: Range<usize>, out: &mut [f32]) {
        let inputs = self.inputs;
        assert_eq!(out.len(), outputs.len() * inputs, "out: outputs × inputs");
        let out = SharedElements::new(out);
        for_chunks(outputs.len(), inputs, |range| {
            for row in range {
                // SAFETY: the ranges partition the rows.
                let out = unsafe { out.slice(row * inputs, inputs) };
                dispatch(Widen { int8: self, output: outputs.start + row, out });
            }
        });
    }

    /// One value.
    pub(crate) fn value(&self, output: usize, input: usize) -> f32 {
        let (strip, lane) = (output / LANES, output % LANES);
        let word = self.strip(strip)[input / QUAD * LANES + lane];
        let code = word.to_bits().to_le_bytes()[input % QUAD].cast_signed();
        f32::from(code) * self.strip_scales(strip)[input / self.group * LANES + lane]
    }
}

/// Rounds the outputs of a strip; beyond the last one are zeros.
fn round_strip(
    values: &[f32],
    shape: WeightShape,
    (strip, group): (usize, usize),
    codes: &mut [f32],
    scales: &mut [f32],
) {
    let WeightShape { inputs, outputs, layout, .. } = shape;
    let mut row = vec![0.0_f32; inputs];
    let mut bytes = vec![0_i8; inputs.next_multiple_of(QUAD)];
    for lane in 0..LANES {
        let output = strip * LANES + lane;
        if output < outputs {
            match layout {
                WeightLayout::OutputsByInputs => {
                    row.copy_from_slice(&values[output * inputs..(output + 1) * inputs]);
                }
                WeightLayout::InputsByOutputs => {
                    let column = values[output..].iter().step_by(outputs);
                    row.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
                }
            }
        } else {
            row.fill(0.0);
        }
        let scales = scales[lane..].iter_mut().step_by(LANES);
        for ((part, bytes), scale) in row.chunks(group).zip(bytes.chunks_mut(group)).zip(scales) {
            *scale = dispatch(RoundGroup { values: part, codes: bytes });
        }
        let words = codes[lane..].iter_mut().step_by(LANES);
        for (quad, word) in bytes.as_chunks().0.iter().zip(words) {
            *word = word_of(*quad);
        }
    }
}

/// Rounds values that share a scale, and gives the scale.
struct RoundGroup<'a> {
    values: &'a [f32],
    codes: &'a mut [i8],
}

impl Kernel for RoundGroup<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Lanes>(self) -> f32 {
        /// Adding 1.5·2⁵² leaves no fraction: the sum's lowest byte is the nearest whole number.
        const SHIFT: f64 = 6_755_399_441_055_744.0;
        let largest = largest_magnitude(self.values);
        let scale = if largest.is_finite() { largest / MOST } else { f32::NAN };
        // The scale of magnitudes near the smallest f32 is 0; what it stands for is, too. What is not finite
        // has a scale that is not, whatever its code.
        let step = if 0.0 < scale { f64::from(scale) } else { f64::INFINITY };
        for (code, value) in self.codes.iter_mut().zip(self.values) {
            // A scale below the least normal number may be much less than a 127th.
            let steps = (f64::from(*value) / step).max(-f64::from(MOST)).min(f64::from(MOST));
            *code = (steps + SHIFT).to_bits().to_le_bytes()[0].cast_signed();
        }
        scale
    }
}

/// The largest magnitude; infinite or NaN if any value is.
#[inline(always)]
fn largest_magnitude(values: &[f32]) -> f32 {
    // Magnitudes have the order of their bits, those that are not finite behind all others.
    let mut largest = 0;
    for value in values {
        largest = largest.max(value.to_bits() & 0x7fff_ffff);
    }
    f32::from_bits(largest)
}

/// Four codes as one word.
#[inline(always)]
fn word_of(codes: [i8; QUAD]) -> f32 {
    f32::from_bits(u32::from_le_bytes(codes.map(i8::cast_unsigned)))
}

/// The values of one output; compiled for each family's registers.
struct Widen<'a> {
    int8: &'a Int8,
    output: usize,
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let (strip, lane) = (self.output / LANES, self.output % LANES);
        let words = self.int8.strip(strip);
        let scales = self.int8.strip_scales(strip);
        // A group is whole quads, or all inputs.
        let quads = self.int8.group.div_ceil(QUAD);
        for (index, out) in self.out.chunks_mut(QUAD).enumerate() {
            let codes = words[index * LANES + lane].to_bits().to_le_bytes();
            let scale = scales[index / quads * LANES + lane];
            for (out, code) in out.iter_mut().zip(codes) {
                *out = f32::from(code.cast_signed()) * scale;
            }
        }
    }
}
