//! Copies of a weight that products read instead of its master values.

use std::sync::{Arc, OnceLock};

use super::bf16;
use super::buffer::{Buffer, BufferPool};
use super::int8::Int8;
use super::rows::{Input, SharedElements, Source, for_chunks};
use crate::device::{Int8Scales, Rows, WeightLayout, WeightShape};

/// A weight rounded to bfloat16 and packed, once for products with the weight and once for those
/// with its transpose, each made when first used; or one rounded to eight bits, which was asked for.
#[derive(Debug, Default)]
pub struct Prepared {
    forward: OnceLock<bf16::Right>,
    backward: OnceLock<bf16::Right>,
    int8: OnceLock<Int8>,
}

impl Prepared {
    /// Makes the copy in eight bits, if there is none.
    pub(crate) fn round_to_int8(
        &self,
        pool: &Arc<BufferPool>,
        values: &[f32],
        shape: WeightShape,
        scales: Int8Scales,
    ) {
        // Not within the lock: rounding waits for other threads, as packing does.
        if self.int8.get().is_none() {
            let rounded = Int8::round(pool, values, shape, scales);
            self.int8.get_or_init(|| rounded);
        }
    }

    /// The copy in eight bits, if one was made.
    pub(crate) fn int8(&self) -> Option<&Int8> {
        self.int8.get()
    }

    /// The right factor of y = x·Wᵀ: sums over inputs.
    pub(crate) fn forward(
        &self,
        pool: &Arc<BufferPool>,
        values: &Buffer,
        shape: WeightShape,
    ) -> &bf16::Right {
        get_or_pack(&self.forward, || match shape.layout {
            WeightLayout::OutputsByInputs => pack(pool, values, shape, Source::Outer),
            WeightLayout::InputsByOutputs => pack(pool, values, shape, Source::Inner),
        })
    }

    /// The right factor of dx = dy·W: sums over outputs. Where the master values have been dropped, it
    /// is made of the forward copy, which has the same bits.
    pub(crate) fn backward(
        &self,
        pool: &Arc<BufferPool>,
        values: &Buffer,
        shape: WeightShape,
    ) -> &bf16::Right {
        let pack_values = |values: &Buffer| match shape.layout {
            WeightLayout::OutputsByInputs => pack(pool, values, shape, Source::Inner),
            WeightLayout::InputsByOutputs => pack(pool, values, shape, Source::Outer),
        };
        get_or_pack(&self.backward, || {
            let len = shape.inputs * shape.outputs;
            if len <= values.len() {
                return pack_values(values);
            }
            let mut unpacked = Buffer::scratch(pool, len);
            self.unpack(pool, values, shape, &mut unpacked);
            pack_values(&unpacked)
        })
    }

    /// Writes the values of the forward copy in the weight's layout.
    pub(crate) fn unpack(
        &self,
        pool: &Arc<BufferPool>,
        values: &Buffer,
        shape: WeightShape,
        out: &mut [f32],
    ) {
        let packed = self.forward(pool, values, shape);
        let width = match shape.layout {
            WeightLayout::OutputsByInputs => shape.inputs,
            WeightLayout::InputsByOutputs => shape.outputs,
        };
        let rows = out.len() / width;
        let out = SharedElements::new(out);
        for_chunks(rows, width, |range| {
            for row in range {
                // SAFETY: the ranges partition the rows.
                let out = unsafe { out.slice(row * width, width) };
                for (column, out) in out.iter_mut().enumerate() {
                    *out = match shape.layout {
                        WeightLayout::OutputsByInputs => packed.value(row, column),
                        WeightLayout::InputsByOutputs => packed.value(column, row),
                    };
                }
            }
        });
    }
}

/// As `OnceLock::get_or_init`, but packs without holding the lock: packing waits for other threads,
/// and a thread that waits may take up work that needs this very weight.
fn get_or_pack(lock: &OnceLock<bf16::Right>, pack: impl FnOnce() -> bf16::Right) -> &bf16::Right {
    if let Some(packed) = lock.get() {
        return packed;
    }
    let packed = pack();
    // Where another thread was faster, its copy has the same bits.
    lock.get_or_init(|| packed)
}

fn pack<'a>(
    pool: &Arc<BufferPool>,
    values: &'a Buffer,
    shape: WeightShape,
    source: fn(Input<'a>) -> Source<'a>,
) -> bf16::Right {
    assert_eq!(values.len(), shape.inputs * shape.outputs, "weight: outputs × inputs");
    let rows = match shape.layout {
        WeightLayout::OutputsByInputs => Rows::dense(shape.outputs, shape.inputs),
        WeightLayout::InputsByOutputs => Rows::dense(shape.inputs, shape.outputs),
    };
    bf16::Right::pack(pool.for_weights(), source(Input::of(values, rows)))
}
