//! Products of few rows in f32, as in decoding: every weight is read once, and that is what the
//! time goes to.

use std::ops::Range;

use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::product::WeightOrder;
use super::rows::{Input, Output, for_chunks};
use crate::device::Write;
use crate::kernels::KernelFamily;

/// Whether a product of so many rows is faster here than by blocks: with few rows, where strips of a weight
/// would be turned into rows for the sake of little work, and registers hold the sums of several outputs.
pub(crate) fn are_faster(rows: usize) -> bool {
    rows <= 16 && KernelFamily::current().has_vectors_of_512()
}

/// The most rows that share one pass over the weights.
const PASS: usize = 8;

/// `y (+)= x·B` for few rows.
pub(crate) fn few_rows(
    x: Input<'_>,
    weight: &[f32],
    order: WeightOrder,
    y: Output<'_>,
    write: Write,
) {
    let (rows, inner, outputs) = (x.rows.rows, x.rows.width, y.rows.width);
    if rows == 0 {
        return;
    }
    // Passes over the same outputs follow one another, while their weights are in a cache.
    let passes = || (0..rows).step_by(PASS).map(|first| first..(first + PASS).min(rows));
    let work = inner * rows.div_ceil(PASS);
    match order {
        WeightOrder::OutputsByInner => for_chunks(outputs.div_ceil(BLOCK), work * BLOCK, |range| {
            for block in range {
                let outputs = block * BLOCK..(block * BLOCK + BLOCK).min(outputs);
                for pass in passes() {
                    let (x, y) = (x.part(pass.clone()), y.part(pass));
                    dispatch(Dots { x, weight, y, outputs: outputs.clone(), write });
                }
            }
        }),
        WeightOrder::InnerByOutputs => {
            for_chunks(outputs.div_ceil(COLUMNS), work * COLUMNS, |range| {
                for block in range {
                    let outputs = block * COLUMNS..(block * COLUMNS + COLUMNS).min(outputs);
                    for pass in passes() {
                        let (x, y) = (x.part(pass.clone()), y.part(pass));
                        dispatch(Combinations { x, weight, y, outputs: outputs.clone(), write });
                    }
                }
            });
        }
    }
}

/// Outputs that are computed together, so that several streams of weights are read at a time.
const BLOCK: usize = 8;

/// Each output is the dot product of two runs of memory.
struct Dots<'a> {
    x: Input<'a>,
    weight: &'a [f32],
    y: Output<'a>,
    outputs: Range<usize>,
    write: Write,
}

impl Kernel for Dots<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        match self.x.rows.rows {
            1 => self.rows::<S, 1, 4>(),
            2 => self.rows::<S, 2, 4>(),
            3 => self.rows::<S, 3, 4>(),
            4 => self.rows::<S, 4, 4>(),
            5 => self.rows::<S, 5, 2>(),
            6 => self.rows::<S, 6, 2>(),
            7 => self.rows::<S, 7, 2>(),
            8 => self.rows::<S, 8, 2>(),
            rows => unreachable!("invariant: at most {PASS} rows, not {rows}"),
        }
    }
}

impl Dots<'_> {
    #[inline(always)]
    fn rows<S: Lanes, const R: usize, const O: usize>(&self) {
        let x: [&[f32]; R] = std::array::from_fn(|row| self.x.row(row));
        let mut output = self.outputs.start;
        while output + O <= self.outputs.end {
            self.block::<S, R, O>(x, output);
            output += O;
        }
        while output < self.outputs.end {
            self.block::<S, R, 1>(x, output);
            output += 1;
        }
    }

    #[inline(always)]
    fn block<S: Lanes, const R: usize, const O: usize>(&self, x: [&[f32]; R], first: usize) {
        let inner = self.x.rows.width;
        let mut weights = [&self.weight[..0]; O];
        for o in 0..O {
            weights[o] = &self.weight[(first + o) * inner..(first + o + 1) * inner];
        }
        let mut sums = [[S::splat(0.0); O]; R];
        let whole = inner / LANES * LANES;
        for k in (0..whole).step_by(LANES) {
            let mut w = [S::splat(0.0); O];
            for o in 0..O {
                // SAFETY: k + 16 ≤ inner, the length of the run.
                w[o] = unsafe { S::load_at(weights[o].as_ptr().add(k)) };
            }
            for r in 0..R {
                // SAFETY: as above.
                let x = unsafe { S::load_at(x[r].as_ptr().add(k)) };
                for o in 0..O {
                    sums[r][o] = x.mul_add(w[o], sums[r][o]);
                }
            }
        }
        if whole < inner {
            for r in 0..R {
                let x = S::load_partial(&x[r][whole..]);
                for o in 0..O {
                    sums[r][o] = x.mul_add(S::load_partial(&weights[o][whole..]), sums[r][o]);
                }
            }
        }
        for r in 0..R {
            // SAFETY: this call alone writes these outputs; rows are taken one at a time.
            let y = unsafe { self.y.slice(r, first, O) };
            for o in 0..O {
                match self.write {
                    Write::Overwrite => y[o] = sums[r][o].sum(),
                    Write::Add => y[o] += sums[r][o].sum(),
                }
            }
        }
    }
}

/// Outputs whose sums stay in the first-level cache while weights stream by.
const COLUMNS: usize = 512;

/// Rows of the weight are combined with the elements of x as factors.
struct Combinations<'a> {
    x: Input<'a>,
    weight: &'a [f32],
    y: Output<'a>,
    outputs: Range<usize>,
    write: Write,
}

impl Kernel for Combinations<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let width = self.outputs.len();
        let (rows, inner, outputs) = (self.x.rows.rows, self.x.rows.width, self.y.rows.width);
        let mut sums = [[0.0_f32; COLUMNS]; PASS];
        let mut k = 0;
        while k < inner {
            let step = (inner - k).min(4);
            let mut weights = [&self.weight[..0]; 4];
            let mut factors = [[0.0; 4]; PASS];
            for i in 0..step {
                let start = (k + i) * outputs + self.outputs.start;
                weights[i] = &self.weight[start..start + width];
                for r in 0..rows {
                    factors[r][i] = self.x.row(r)[k + i];
                }
            }
            if step == 4 {
                combine::<S, 4>(&weights, &factors[..rows], &mut sums, width);
            } else {
                for i in 0..step {
                    let factors = factors.map(|f| [f[i], 0.0, 0.0, 0.0]);
                    combine::<S, 1>(&weights[i..], &factors[..rows], &mut sums, width);
                }
            }
            k += step;
        }
        for r in 0..rows {
            // SAFETY: this call alone writes these outputs; rows are taken one at a time.
            let y = unsafe { self.y.slice(r, self.outputs.start, width) };
            for (y, sum) in y.iter_mut().zip(&sums[r]) {
                match self.write {
                    Write::Overwrite => *y = *sum,
                    Write::Add => *y += *sum,
                }
            }
        }
    }
}

/// `sums[r] += Σ_i factors[r][i]·weights[i]` for the first K weights.
#[inline(always)]
fn combine<S: Lanes, const K: usize>(
    weights: &[&[f32]],
    factors: &[[f32; 4]],
    sums: &mut [[f32; COLUMNS]; PASS],
    width: usize,
) {
    let whole = width / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let mut w = [S::splat(0.0); K];
        for i in 0..K {
            // SAFETY: start + 16 ≤ width, the length of the run.
            w[i] = unsafe { S::load_at(weights[i].as_ptr().add(start)) };
        }
        for (factors, sums) in factors.iter().zip(sums.iter_mut()) {
            // SAFETY: start + 16 ≤ width ≤ COLUMNS.
            unsafe {
                let pointer = sums.as_mut_ptr().add(start);
                let mut sum = S::load_at(pointer);
                for i in 0..K {
                    sum = S::splat(factors[i]).mul_add(w[i], sum);
                }
                sum.store_at(pointer);
            }
        }
    }
    for (factors, sums) in factors.iter().zip(sums.iter_mut()) {
        for i in 0..K {
            for (sum, weight) in sums[whole..width].iter_mut().zip(&weights[i][whole..width]) {
                *sum += factors[i] * weight;
            }
        }
    }
}
