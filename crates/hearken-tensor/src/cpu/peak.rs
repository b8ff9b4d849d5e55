//! What the processor can do at best: loops of nothing but multiply-adds in registers, and of
//! nothing but reads. What kernels reach is measured against them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::device::Precision;

/// How often a loop is timed; the fastest counts, since anything else that runs only slows it.
const ATTEMPTS: usize = 12;
/// How long one attempt takes at least.
const ATTEMPT: Duration = Duration::from_millis(25);
/// Independent sums: as many as hide the latency of a multiply-add.
const CHAINS: usize = 12;
/// As many as fit into sixteen registers where sixteen lanes take two of them.
const FEW_CHAINS: usize = 6;

/// Floating-point operations per second of multiply-adds on all threads of rayon's current pool, a
/// multiply-add counting as two; `None` where the family of kernels in use has no products of this precision.
pub fn operations_per_s(precision: Precision) -> Option<f64> {
    match precision {
        Precision::F32 => {
            let many = fastest(2.0 * (LANES * CHAINS) as f64, multiply_add::<CHAINS>);
            let few = fastest(2.0 * (LANES * FEW_CHAINS) as f64, multiply_add::<FEW_CHAINS>);
            Some(many.max(few))
        }
        Precision::Bf16 => bf16_operations_per_s(),
    }
}

/// Bytes per second that all threads of rayon's current pool together read from memory: from a
/// buffer far larger than any cache, which lives as long as the call.
pub fn read_bytes_per_s() -> f64 {
    const ELEMENTS: usize = 64 << 20;
    let values = vec![1.0_f32; ELEMENTS];
    let part = ELEMENTS.div_ceil(rayon::current_num_threads());
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let start = Instant::now();
        let sums = rayon::broadcast(|context| {
            let from = context.index() * part;
            dispatch(Sum { values: &values[from..(from + part).min(ELEMENTS)] })
        });
        best = best.min(start.elapsed());
        black_box(sums);
    }
    (size_of::<f32>() * ELEMENTS) as f64 / best.as_secs_f64()
}

/// Operations per second of `run(rounds)` on every thread, each round having `per_round`.
fn fastest(per_round: f64, run: impl Fn(u64) -> f32 + Sync) -> f64 {
    let mut rounds = 1_000;
    let mut best = 0.0_f64;
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        let start = Instant::now();
        let sums = rayon::broadcast(|_| run(rounds));
        let elapsed = start.elapsed();
        black_box(sums);
        if elapsed < ATTEMPT {
            rounds *= 2;
            continue;
        }
        let threads = rayon::current_num_threads() as f64;
        best = best.max(per_round * rounds as f64 * threads / elapsed.as_secs_f64());
        attempts += 1;
    }
    best
}

fn multiply_add<const N: usize>(rounds: u64) -> f32 {
    dispatch(Chains::<N> { rounds })
}

struct Chains<const N: usize> {
    rounds: u64,
}

impl<const N: usize> Kernel for Chains<N> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Lanes>(self) -> f32 {
        // The compiler must not know the factors; the sums stay finite: x ← x/2 + 1.
        let (factor, addend) = (S::splat(black_box(0.5)), S::splat(black_box(1.0)));
        let mut sums = [addend; N];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, addend);
            }
        }
        sums.into_iter().fold(S::splat(0.0), S::add).sum()
    }
}

struct Sum<'a> {
    values: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Lanes>(self) -> f32 {
        const STREAMS: usize = 8;
        let mut sums = [S::splat(0.0); STREAMS];
        let (parts, _) = self.values.as_chunks::<LANES>();
        for block in parts.chunks_exact(STREAMS) {
            for (sum, part) in sums.iter_mut().zip(block) {
                *sum = sum.add(S::load(part));
            }
        }
        sums.into_iter().fold(S::splat(0.0), S::add).sum()
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn bf16_operations_per_s() -> Option<f64> {
    None
}

#[cfg(target_arch = "x86_64")]
fn bf16_operations_per_s() -> Option<f64> {
    if super::bf16::multiplies_tiles() {
        return Some(fastest(super::bf16::tile_operations(), super::bf16::multiply_tiles));
    }
    if !super::bf16::multiplies_pairs() {
        return None;
    }
    // Each lane adds the products of two pairs.
    // SAFETY: the family in use has the features.
    Some(fastest(4.0 * (LANES * CHAINS) as f64, |rounds| unsafe { multiply_add_pairs(rounds) }))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn multiply_add_pairs(rounds: u64) -> f32 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_dpbf16_ps, _mm512_set1_ps, _mm512_setzero_ps};
    use std::arch::x86_64::{_mm512_cvtne2ps_pbh, _mm512_reduce_add_ps};

    let (half, none) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.0)));
    let (left, right) = (_mm512_cvtne2ps_pbh(half, half), _mm512_cvtne2ps_pbh(none, half));
    let mut sums = [none; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, left, right);
        }
    }
    let add = |total, sum| _mm512_add_ps(total, sum);
    _mm512_reduce_add_ps(sums.into_iter().fold(_mm512_setzero_ps(), add))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_settle_where_the_recurrence_does() {
        // x = x/2 + 1 has the fixed point 2, in every lane of every chain.
        assert_eq!(multiply_add::<CHAINS>(60), 2.0 * (LANES * CHAINS) as f32);
    }

    #[test]
    fn every_element_is_read() {
        let values = vec![1.0; 8 * LANES * 5];
        assert_eq!(dispatch(Sum { values: &values }), values.len() as f32);
    }

    #[test]
    fn rates_are_positive_and_finite() {
        let rates = [
            operations_per_s(Precision::F32),
            operations_per_s(Precision::Bf16),
            Some(read_bytes_per_s()),
        ];
        for rate in rates.into_iter().flatten() {
            assert!(rate.is_finite() && 1e6 < rate, "{rate}");
        }
    }
}
