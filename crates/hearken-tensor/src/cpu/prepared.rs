//! Copies of a weight that products read instead of its master values.

use std::sync::{Arc, OnceLock};

use super::bf16;
use super::buffer::{Buffer, Pool};
use super::rows::Input;
use crate::device::{Layout, Rows, WeightShape};

/// A weight rounded to bfloat16 and packed, once for products with the weight and once for those
/// with its transpose, each made when first used.
#[derive(Debug, Default)]
pub struct Prepared {
    forward: OnceLock<bf16::Right>,
    backward: OnceLock<bf16::Right>,
}

impl Prepared {
    /// The right factor of y = x·Wᵀ: sums over inputs.
    pub(crate) fn forward(
        &self,
        pool: &Arc<Pool>,
        values: &Buffer,
        shape: WeightShape,
    ) -> &bf16::Right {
        get_or_pack(&self.forward, || match shape.layout {
            Layout::OutputsByInputs => pack(pool, values, shape, bf16::Source::Outer),
            Layout::InputsByOutputs => pack(pool, values, shape, bf16::Source::Inner),
        })
    }

    /// The right factor of dx = dy·W: sums over outputs.
    pub(crate) fn backward(
        &self,
        pool: &Arc<Pool>,
        values: &Buffer,
        shape: WeightShape,
    ) -> &bf16::Right {
        get_or_pack(&self.backward, || match shape.layout {
            Layout::OutputsByInputs => pack(pool, values, shape, bf16::Source::Inner),
            Layout::InputsByOutputs => pack(pool, values, shape, bf16::Source::Outer),
        })
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
    pool: &Arc<Pool>,
    values: &'a Buffer,
    shape: WeightShape,
    source: fn(Input<'a>) -> bf16::Source<'a>,
) -> bf16::Right {
    assert_eq!(values.len(), shape.inputs * shape.outputs, "weight: outputs × inputs");
    let rows = match shape.layout {
        Layout::OutputsByInputs => Rows::dense(shape.outputs, shape.inputs),
        Layout::InputsByOutputs => Rows::dense(shape.inputs, shape.outputs),
    };
    bf16::Right::pack(pool.for_weights(), source(Input::of(values, rows)))
}
