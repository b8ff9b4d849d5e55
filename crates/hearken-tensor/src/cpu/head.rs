//! The log-probability head: logits by chunks of rows, each used up before the next is computed.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::buffer::{Buffer, BufferPool};
use super::lanes::{Kernel, LANES, Lanes, dispatch, exp};
use super::prepared::Prepared;
use super::product;
use super::rows::{Input, Output, SharedElements, for_chunks_mut};
use super::softcap::{Bound, Softcap};
use crate::device::{HeadOptions, HeadOutput, Prediction, PredictionGrad, Rows, Weight, Write};

/// The derivatives that a backward pass starts from and the gradients that it gives.
pub(crate) struct HeadBackward<'a> {
    pub(crate) grads: &'a [PredictionGrad],
    pub(crate) dhidden: &'a mut [f32],
    pub(crate) dweight: Option<&'a mut [f32]>,
}

/// Forward, and backward where gradients are wanted. `kept` has room for the logits of all rows or of
/// the first whole chunks: a forward pass alone fills it, one with backward finds it full.
pub(crate) fn logprob_head(
    pool: &Arc<BufferPool>,
    hidden: &Buffer,
    weight: Weight<'_, Buffer, Prepared>,
    predictions: &[Prediction],
    options: HeadOptions,
    kept: Option<&mut Buffer>,
    mut backward: Option<HeadBackward<'_>>,
) -> HeadOutput {
    let (width, vocabulary) = (weight.shape.inputs, weight.shape.outputs);
    assert!(hidden.len().is_multiple_of(width), "hidden: whole rows of {width}");
    assert!(options.temperature > 0.0, "a temperature is positive");
    let rows = hidden.len() / width;
    let by_row = ByRow::new(predictions, rows, vocabulary);
    if let Some(backward) = &backward {
        assert_eq!(backward.grads.len(), predictions.len(), "grads: one per prediction");
        assert_eq!(backward.dhidden.len(), hidden.len(), "hidden and its gradient: one length");
    }
    let chunk = options.chunk_rows(vocabulary).clamp(1, rows.max(1));
    let mut logits = ChunkLogits::new(pool, kept, [rows, chunk, vocabulary]);
    let mut results = Results::new(predictions.len(), options.statistics);
    for first in (0..rows).step_by(chunk) {
        let range = first..(first + chunk).min(rows);
        let offset = range.start * width;
        let hidden_rows = Rows { rows: range.len(), width, offset, stride: width };
        let hidden = Input::of(hidden, hidden_rows);
        let dense = Rows::dense(range.len(), vocabulary);
        let (logits, are_kept) = logits.of(range.clone());
        if backward.is_none() || !are_kept {
            let out = Output::of(logits, dense);
            product::forward(pool, hidden, weight, None, out, Write::Overwrite);
            if let Some(softcap) = options.softcap.map(Softcap::new) {
                for_chunks_mut(logits, |_, values| dispatch(Bound { softcap, values }));
            }
        }
        let grads = backward.as_ref().map(|backward| backward.grads);
        let work = ChunkWork { predictions, by_row: &by_row, vocabulary, options, grads };
        work.run(range, logits, &mut results);
        if let Some(backward) = &mut backward {
            let dlogits = Input::of(logits, dense);
            let dhidden = Output::of(backward.dhidden, hidden_rows);
            product::backward_input(pool, dlogits, weight, dhidden, Write::Overwrite);
            if let Some(dweight) = &mut backward.dweight {
                product::backward_weight(pool, dlogits, hidden, weight.shape, dweight);
            }
        }
    }
    results.output()
}

/// Where the logits of a chunk are.
struct ChunkLogits<'a> {
    /// Those of the first rows, from one pass to the next.
    kept: &'a mut [f32],
    /// Those of any other chunk, one at a time.
    passing: Buffer,
    vocabulary: usize,
}

impl<'a> ChunkLogits<'a> {
    fn new(
        pool: &Arc<BufferPool>,
        kept: Option<&'a mut Buffer>,
        [rows, chunk, vocabulary]: [usize; 3],
    ) -> Self {
        let kept = kept.map_or(&mut [][..], |kept| &mut kept[..]);
        let rows_kept = kept.len() / vocabulary;
        assert!(
            rows_kept == rows || rows_kept < rows && rows_kept.is_multiple_of(chunk),
            "logits of {rows_kept} rows: all {rows}, or whole chunks of {chunk}"
        );
        let passing = if rows_kept == rows { 0 } else { chunk * vocabulary };
        Self { kept, passing: Buffer::scratch(pool, passing), vocabulary }
    }

    /// The logits of a chunk, and whether they are kept.
    fn of(&mut self, rows: Range<usize>) -> (&mut [f32], bool) {
        let elements = rows.start * self.vocabulary..rows.end * self.vocabulary;
        match self.kept.get_mut(elements) {
            Some(kept) => (kept, true),
            None => (&mut self.passing[..rows.len() * self.vocabulary], false),
        }
    }
}

/// The indices of the predictions of each row.
struct ByRow {
    starts: Vec<usize>,
    order: Vec<usize>,
}

impl ByRow {
    fn new(predictions: &[Prediction], rows: usize, vocabulary: usize) -> Self {
        let mut starts = vec![0; rows + 1];
        for prediction in predictions {
            let (row, token) = (prediction.row as usize, prediction.token as usize);
            assert!(row < rows, "prediction of row {row} of {rows}");
            assert!(token < vocabulary, "token {token} of a vocabulary of {vocabulary}");
            starts[row + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut order = vec![0; predictions.len()];
        for (index, prediction) in predictions.iter().enumerate() {
            let row = prediction.row as usize;
            order[next[row]] = index;
            next[row] += 1;
        }
        Self { starts, order }
    }

    fn of(&self, row: usize) -> &[usize] {
        &self.order[self.starts[row]..self.starts[row + 1]]
    }
}

/// One entry per prediction.
struct Results {
    statistics: bool,
    logprobs: Vec<f32>,
    entropy: Vec<f32>,
    sum_squares: Vec<f32>,
    /// 1 for a hit, 0 for none.
    hits: Vec<f32>,
}

impl Results {
    fn new(len: usize, statistics: bool) -> Self {
        let extra = if statistics { len } else { 0 };
        Self {
            statistics,
            logprobs: vec![0.0; len],
            entropy: vec![0.0; extra],
            sum_squares: vec![0.0; extra],
            hits: vec![0.0; extra],
        }
    }

    fn output(self) -> HeadOutput {
        HeadOutput {
            logprobs: self.logprobs,
            entropy: self.entropy,
            sum_squares: self.sum_squares,
            argmax_hit: self.hits.into_iter().map(|hit| hit > 0.0).collect(),
        }
    }
}

/// What happens to the logits of one chunk.
struct ChunkWork<'a> {
    predictions: &'a [Prediction],
    by_row: &'a ByRow,
    vocabulary: usize,
    options: HeadOptions,
    grads: Option<&'a [PredictionGrad]>,
}

impl ChunkWork<'_> {
    /// Fills the results of the rows' predictions; turns logits to their gradients if wanted.
    fn run(&self, rows: Range<usize>, logits: &mut [f32], results: &mut Results) {
        let statistics = results.statistics;
        let logprobs = SharedElements::new(&mut results.logprobs);
        let entropy = SharedElements::new(&mut results.entropy);
        let squares = SharedElements::new(&mut results.sum_squares);
        let hits = SharedElements::new(&mut results.hits);
        let inverse = 1.0 / self.options.temperature;
        let work = |(logits, row): (&mut [f32], usize)| {
            let softmax = dispatch(Softmax { logits, inverse });
            for &index in self.by_row.of(row) {
                let logit = logits[self.predictions[index].token as usize] * inverse;
                // SAFETY: each prediction belongs to one row, and each row to one thread.
                unsafe {
                    logprobs.slice(index, 1)[0] = logit - softmax.max - softmax.ln_sum;
                    if statistics {
                        entropy.slice(index, 1)[0] = softmax.entropy;
                        squares.slice(index, 1)[0] = softmax.sum_squares;
                        hits.slice(index, 1)[0] = f32::from(u8::from(logit >= softmax.max));
                    }
                }
            }
            if let Some(grads) = self.grads {
                self.differentiate(row, grads, softmax, logits);
            }
        };
        logits.par_chunks_exact_mut(self.vocabulary).zip(rows).for_each(work);
    }

    /// Turns the logits of a row to their gradients.
    fn differentiate(
        &self,
        row: usize,
        grads: &[PredictionGrad],
        softmax: SoftmaxRow,
        logits: &mut [f32],
    ) {
        let inverse = 1.0 / self.options.temperature;
        let (mut logprob, mut entropy) = (0.0, 0.0);
        let mut any = false;
        for &index in self.by_row.of(row) {
            logprob += grads[index].logprob;
            entropy += grads[index].entropy;
            any |= grads[index] != PredictionGrad::default();
        }
        if !any {
            logits.fill(0.0);
            return;
        }
        let softcap = self.options.softcap.map(Softcap::new);
        let own = self.by_row.of(row);
        let token = |index: usize| self.predictions[index].token as usize;
        // What is written over the logits leaves nothing to take the slopes of a cap from.
        let slopes: Option<Vec<f32>> = softcap.map(|softcap| {
            own.iter().map(|&index| softcap.slope_at(logits[token(index)])).collect()
        });
        dispatch(LogitGrads { logits: &mut *logits, inverse, softmax, logprob, entropy, softcap });
        for (i, &index) in own.iter().enumerate() {
            let slope = slopes.as_ref().map_or(1.0, |slopes| slopes[i]);
            logits[token(index)] += grads[index].logprob * inverse * slope;
        }
    }
}

/// What is known of a row's distribution; z are the logits over the temperature.
#[derive(Clone, Copy)]
struct SoftmaxRow {
    /// max z.
    max: f32,
    /// ln Σ e^(z − max).
    ln_sum: f32,
    entropy: f32,
    sum_squares: f32,
}

/// Elements that are summed in f32 before they meet an f64 total.
const BLOCK: usize = 64 * LANES;

/// With e = e^(z − max): entropy = ln Σe − Σ e·(z − max)/Σe, and Σp² = Σe²/(Σe)².
struct Softmax<'a> {
    logits: &'a [f32],
    inverse: f32,
}

impl Kernel for Softmax<'_> {
    type Output = SoftmaxRow;
    #[inline(always)]
    fn run<S: Lanes>(self) -> SoftmaxRow {
        let inverse = S::splat(self.inverse);
        let (chunks, rest) = self.logits.as_chunks::<LANES>();
        let mut max = S::splat(f32::NEG_INFINITY);
        for chunk in chunks {
            max = S::load(chunk).mul(inverse).max(max);
        }
        let mut max = max.max_element();
        for logit in rest {
            max = max.max(logit * self.inverse);
        }
        let (mut total, mut weighted, mut squares) = (0.0_f64, 0.0_f64, 0.0_f64);
        for block in self.logits.chunks(BLOCK) {
            let (chunks, rest) = block.as_chunks::<LANES>();
            let zero = S::splat(0.0);
            let (mut e_sum, mut ez_sum, mut ee_sum) = (zero, zero, zero);
            for chunk in chunks {
                let z = S::load(chunk).mul(inverse).sub(S::splat(max));
                let e = exp(z);
                e_sum = e_sum.add(e);
                ez_sum = e.mul_add(z, ez_sum);
                ee_sum = e.mul_add(e, ee_sum);
            }
            total += f64::from(e_sum.sum());
            weighted += f64::from(ez_sum.sum());
            squares += f64::from(ee_sum.sum());
            if !rest.is_empty() {
                let mut e = [0.0; LANES];
                let z = S::load_partial(rest).mul(inverse).sub(S::splat(max));
                exp(z).store(&mut e);
                for (&e, &logit) in e.iter().zip(rest) {
                    let (e, z) = (f64::from(e), f64::from(logit * self.inverse - max));
                    total += e;
                    weighted += e * z;
                    squares += e * e;
                }
            }
        }
        SoftmaxRow {
            max,
            ln_sum: total.ln() as f32,
            entropy: (total.ln() - weighted / total) as f32,
            sum_squares: (squares / (total * total)) as f32,
        }
    }
}

/// Logits to −[g·p + e·p·(ln p + entropy)]/temperature, where g and e are sums over predictions; under a
/// cap, times its slope.
struct LogitGrads<'a> {
    logits: &'a mut [f32],
    inverse: f32,
    softmax: SoftmaxRow,
    logprob: f32,
    entropy: f32,
    softcap: Option<Softcap>,
}

impl LogitGrads<'_> {
    #[inline(always)]
    fn lanes<S: Lanes>(&self, logits: S) -> S {
        let z = logits.mul(S::splat(self.inverse)).sub(S::splat(self.softmax.max));
        let ln_p = z.sub(S::splat(self.softmax.ln_sum));
        let excess = ln_p.add(S::splat(self.softmax.entropy));
        let slope = excess.mul_add(S::splat(self.entropy), S::splat(self.logprob));
        let grads = exp(ln_p).mul(slope).mul(S::splat(-self.inverse));
        match self.softcap {
            Some(softcap) => grads.mul(softcap.slope(logits)),
            None => grads,
        }
    }
}

impl Kernel for LogitGrads<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(mut self) {
        let logits = std::mem::take(&mut self.logits);
        let (chunks, rest) = logits.as_chunks_mut::<LANES>();
        for chunk in chunks {
            self.lanes(S::load(chunk)).store(chunk);
        }
        if !rest.is_empty() {
            self.lanes(S::load_partial(rest)).store_partial(rest);
        }
    }
}
