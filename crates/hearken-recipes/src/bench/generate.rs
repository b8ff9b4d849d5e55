//! Sampling: a batch of prompts, each continued by the same number of tokens.

use std::ops::ControlFlow;
use std::time::Instant;

use hearken_config::SamplingDtype;
use hearken_generate::{Sampling, SamplingRequest, TokenSampled, generate};
use hearken_model::Model;
use hearken_run::error::TrainError;
use hearken_tensor::Device;
use hearken_tensor::device::{Int8Scales, Precision};

use super::{Clock, Materials, Sizes};

/// Times one call of the sampler per step, with prompts of its own.
pub(super) fn run<D: Device>(
    device: D,
    materials: &mut Materials<'_>,
    clock: &mut Clock,
) -> Result<(), TrainError> {
    let sizes = materials.bench.sizes;
    let read = materials.model_to_read(device)?;
    let rounded = read.for_sampling(materials.bench.sampling.int8());
    let model = rounded.unwrap_or(read);
    let sampling = Sampling { ignore_eos: true, ..Sampling::plain(sizes.completion) };
    let flops = sampling_flops(&model, sizes);
    for step in 0..materials.bench.steps_made() {
        let mut requests = Vec::with_capacity(sizes.batch);
        for index in 0..sizes.batch {
            let prompt_ids = materials.ids(sizes.prompt)?;
            let seed = step * sizes.batch as u64 + index as u64;
            requests.push(SamplingRequest { prompt_ids, samples: 1, seed });
        }
        let (mut first, mut last) = (None, None);
        let mut observe = |_: TokenSampled<'_>| {
            last = Some(Instant::now());
            first = first.or(last);
            ControlFlow::Continue(())
        };
        clock.lap(|| {
            generate(&model, None, &requests, &sampling, &mut observe)
                .map_err(|error| TrainError::Generate(error.to_string()))?;
            Ok(flops)
        })?;
        let steps = sizes.completion.saturating_sub(1);
        if let (Some(first), Some(last), 1, 1..) = (first, last, sizes.batch, steps) {
            let seconds = last.duration_since(first).as_secs_f64();
            clock.decoded(steps as f64 / seconds, weight_bytes(&model, materials.bench.sampling));
        }
    }
    Ok(())
}

/// Operations for `sizes.batch` prompts and their completions. Logits are needed only where a token
/// is sampled, and the last token of a completion does not run.
pub(crate) fn sampling_flops<D: Device>(model: &Model<D>, sizes: Sizes) -> f64 {
    let head = 2.0 * (model.config().vocab * model.config().width) as f64;
    let rows = sizes.length().saturating_sub(1) as f64;
    // Row t sees t + 1 positions.
    let context = rows.midpoint(1.0);
    let sequence = rows * (model.forward_flops(context) - head) + sizes.completion as f64 * head;
    sizes.batch as f64 * sequence
}

/// Bytes of the weights that products read for one token.
fn weight_bytes<D: Device>(model: &Model<D>, sampling: SamplingDtype) -> f64 {
    let bytes = match model.precision() {
        Precision::F32 => 4.0,
        Precision::Bf16 => 2.0,
    };
    // Without attention, a token costs two operations per weight.
    let weights = model.forward_flops(0.0) / 2.0;
    let of_head = (model.config().vocab * model.config().width) as f64;
    match sampling {
        SamplingDtype::Model => bytes * weights,
        SamplingDtype::Int8 => {
            let scale = 4.0 / Int8Scales::GROUP as f64;
            bytes * of_head + (1.0 + scale) * (weights - of_head)
        }
    }
}
