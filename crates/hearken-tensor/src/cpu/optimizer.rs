//! Norms of gradients, and `AdamW` in one pass.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::rows::{SharedElements, for_chunks};
use crate::device::AdamW;

/// Elements per partial sum: fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 32 << 10;

/// The chunks of all buffers, each with its buffer's index and where it starts there.
fn chunks<'a>(buffers: &[&'a Buffer]) -> Vec<(usize, usize, &'a [f32])> {
    let of = |(index, buffer): (usize, &&'a Buffer)| {
        let chunks = buffer.chunks(CHUNK).enumerate();
        chunks.map(move |(chunk, values)| (index, chunk * CHUNK, values))
    };
    buffers.iter().enumerate().flat_map(of).collect()
}

/// Σx² of each buffer, in f64; all of them are divided among the threads together.
pub(crate) fn sums_of_squares(buffers: &[&Buffer]) -> Vec<f64> {
    let chunks = chunks(buffers);
    let square =
        |&(index, _, chunk): &(usize, usize, &[f32])| (index, dispatch(SumOfSquares(chunk)));
    let partial: Vec<(usize, f64)> = match chunks.as_slice() {
        [_] => chunks.iter().map(square).collect(),
        _ => chunks.par_iter().map(square).collect(),
    };
    let mut sums = vec![0.0; buffers.len()];
    // Partial sums of a buffer are in order.
    for (index, sum) in partial {
        sums[index] += sum;
    }
    sums
}

/// Σx² in f64, on this thread.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    dispatch(SumOfSquares(values))
}

struct SumOfSquares<'a>(&'a [f32]);

impl Kernel for SumOfSquares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Lanes>(self) -> f64 {
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let mut sums = [0.0_f64; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                let x = f64::from(chunk[i]);
                sums[i] += x * x;
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        sums.iter().sum::<f64>() + rest
    }
}

/// The first buffer with an element that is NaN or infinite, and the element's index.
pub(crate) fn first_non_finite(buffers: &[&Buffer]) -> Option<(usize, usize)> {
    let chunks = chunks(buffers);
    let bad = chunks.par_iter().find_first(|&&(_, _, chunk)| dispatch(AnyNonFinite(chunk)))?;
    let &(index, start, chunk) = bad;
    chunk.iter().position(|x| !x.is_finite()).map(|at| (index, start + at))
}

struct AnyNonFinite<'a>(&'a [f32]);

impl Kernel for AnyNonFinite<'_> {
    type Output = bool;
    #[inline(always)]
    fn run<S: Lanes>(self) -> bool {
        // 0·x is 0 for finite x and NaN otherwise.
        let zero = S::splat(0.0);
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let mut sum = zero;
        for chunk in chunks {
            sum = S::load(chunk).mul_add(zero, sum);
        }
        sum.sum().is_nan() || rest.iter().any(|x| !x.is_finite())
    }
}

/// One step in place.
///
/// ```text
/// θ ← θ·(1 − lr·λ)   m ← m + (1 − β₁)(g − m)   v ← β₂v + (1 − β₂)g²
/// θ ← θ − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps)
/// ```
pub(crate) fn adamw(
    step: AdamW,
    parameter: &mut Buffer,
    grad: &Buffer,
    first_moment: &mut Buffer,
    second_moment: &mut Buffer,
) {
    let len = parameter.len();
    assert_eq!(grad.len(), len, "grad: as long as the parameter");
    assert_eq!(first_moment.len(), len, "first_moment: as long as the parameter");
    assert_eq!(second_moment.len(), len, "second_moment: as long as the parameter");
    let factors = Factors::new(step);
    let (parameter, first, second) = (
        SharedElements::new(parameter),
        SharedElements::new(first_moment),
        SharedElements::new(second_moment),
    );
    for_chunks(len.div_ceil(1024), 1024, |range| {
        let start = range.start * 1024;
        let count = (range.end * 1024).min(len) - start;
        // SAFETY: the ranges partition the elements.
        let (parameter, first, second) = unsafe {
            (parameter.slice(start, count), first.slice(start, count), second.slice(start, count))
        };
        let grad = &grad[start..start + count];
        dispatch(AdamStep { factors, parameter, grad, first, second });
    });
}

/// The scalars of a step, computed in f64 and rounded once.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    grad_scale: f32,
    decay: f32,
    first_rate: f32,
    beta2: f32,
    second_rate: f32,
    second_correction: f32,
    eps: f32,
    step_size: f32,
}

impl Factors {
    pub(crate) fn new(step: AdamW) -> Self {
        assert!(step.step > 0, "steps are counted from 1");
        let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
        Self {
            grad_scale: step.grad_scale as f32,
            decay: (1.0 - step.lr * step.weight_decay) as f32,
            first_rate: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            second_rate: (1.0 - step.beta2) as f32,
            second_correction: correction(step.beta2).sqrt() as f32,
            eps: step.eps as f32,
            step_size: (step.lr / correction(step.beta1)) as f32,
        }
    }
}

pub(crate) struct AdamStep<'a> {
    pub(crate) factors: Factors,
    pub(crate) parameter: &'a mut [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) first: &'a mut [f32],
    pub(crate) second: &'a mut [f32],
}

/// Gives the new parameter, first and second moment.
#[inline(always)]
fn stepped<S: Lanes>(f: Factors, parameter: S, grad: S, first: S, second: S) -> (S, S, S) {
    let grad = grad.mul(S::splat(f.grad_scale));
    let first = grad.sub(first).mul_add(S::splat(f.first_rate), first);
    let square = grad.mul(grad).mul(S::splat(f.second_rate));
    let second = second.mul_add(S::splat(f.beta2), square);
    let root = second.sqrt().div(S::splat(f.second_correction)).add(S::splat(f.eps));
    let change = first.div(root).mul(S::splat(f.step_size));
    (parameter.mul(S::splat(f.decay)).sub(change), first, second)
}

impl Kernel for AdamStep<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let (parameter, parameter_rest) = self.parameter.as_chunks_mut::<LANES>();
        let (grad, grad_rest) = self.grad.as_chunks::<LANES>();
        let (first, first_rest) = self.first.as_chunks_mut::<LANES>();
        let (second, second_rest) = self.second.as_chunks_mut::<LANES>();
        let moments = first.iter_mut().zip(second.iter_mut());
        for ((parameter, grad), (first, second)) in parameter.iter_mut().zip(grad).zip(moments) {
            let (p, m, v) = stepped(
                self.factors,
                S::load(parameter),
                S::load(grad),
                S::load(first),
                S::load(second),
            );
            p.store(parameter);
            m.store(first);
            v.store(second);
        }
        if !grad_rest.is_empty() {
            let (p, m, v) = stepped(
                self.factors,
                S::load_partial(parameter_rest),
                S::load_partial(grad_rest),
                S::load_partial(first_rest),
                S::load_partial(second_rest),
            );
            p.store_partial(parameter_rest);
            m.store_partial(first_rest);
            v.store_partial(second_rest);
        }
    }
}
