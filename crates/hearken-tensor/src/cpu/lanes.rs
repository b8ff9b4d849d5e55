//! Sixteen f32 at a time: kernels are written once over [`Lanes`] and compiled for each instruction
//! set of a [`KernelFamily`].
//!
//! Every kernel is a value that implements [`Kernel`]; [`dispatch`] runs it with the lanes of the family
//! in use. The order of a kernel's sums depends on the lanes alone, not on threads.
//!
//! Kernels and lanes call instructions from functions that are always inlined, never from closures: a
//! closure is a function of its own, without the instruction set, and where the compiler does not inline it
//! each instruction becomes a call.

use crate::kernels::KernelFamily;

/// Number of f32 in a [`Lanes`].
pub(crate) const LANES: usize = 16;

/// The order in which [`Lanes::sum_each`] sums lanes: pairs of neighbors in this list, then pairs of
/// pairs, and so on.
pub(crate) const SUM_ORDER: [usize; LANES] = [0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15];

/// A vector of sixteen f32.
pub(crate) trait Lanes: Copy {
    /// Whether a processor holds thirty-two of them in registers; else about eight.
    const MANY: bool = false;
    /// All elements equal.
    fn splat(value: f32) -> Self;
    /// Reads sixteen elements.
    fn load(values: &[f32; LANES]) -> Self;
    /// Writes sixteen elements.
    fn store(self, values: &mut [f32; LANES]);
    /// Reads sixteen elements.
    ///
    /// # Safety
    /// `pointer` is readable for sixteen elements.
    #[inline(always)]
    unsafe fn load_at(pointer: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self::load(unsafe { &*pointer.cast() })
    }
    /// Writes sixteen elements.
    ///
    /// # Safety
    /// `pointer` is writable for sixteen elements.
    #[inline(always)]
    unsafe fn store_at(self, pointer: *mut f32) {
        // SAFETY: the caller's promise.
        self.store(unsafe { &mut *pointer.cast() });
    }
    /// Sixteen elements of bfloat16 from eight words, as `rounding` packs them.
    #[inline(always)]
    fn load_halves(words: &[f32; LANES / 2]) -> Self {
        let mut whole = [0.0; LANES];
        for (pair, &word) in whole.as_chunks_mut::<2>().0.iter_mut().zip(words) {
            *pair = super::rounding::unpack(word);
        }
        Self::load(&whole)
    }
    /// The elements of bfloat16 in the lower halves of sixteen words.
    fn low_halves(self) -> Self;
    /// Those in the upper halves.
    fn high_halves(self) -> Self;
    /// Words of elements rounded to bfloat16: `self` in the lower halves, `odd` in the upper.
    #[inline(always)]
    fn pack_halves(self, odd: Self) -> Self {
        let (mut words, mut odds) = ([0.0; LANES], [0.0; LANES]);
        self.store(&mut words);
        odd.store(&mut odds);
        for i in 0..LANES {
            words[i] = super::rounding::pack(words[i], odds[i]);
        }
        Self::load(&words)
    }
    /// Asks for values that are read soon, where the processor can be asked.
    #[inline(always)]
    fn prefetch(values: &[f32]) {
        let _ = values;
    }
    /// Asks for the cache line at an address that may be read before long; it need not be readable. It comes
    /// into the second-level cache, since it may be far from needed.
    #[inline(always)]
    fn prefetch_line(pointer: *const f32) {
        let _ = pointer;
    }
    /// Reads fewer than sixteen elements; the others are 0.
    #[inline(always)]
    fn load_partial(values: &[f32]) -> Self {
        let mut whole = [0.0; LANES];
        whole[..values.len()].copy_from_slice(values);
        Self::load(&whole)
    }
    /// Writes the first elements, as many as fit.
    #[inline(always)]
    fn store_partial(self, values: &mut [f32]) {
        let mut whole = [0.0; LANES];
        self.store(&mut whole);
        let len = values.len();
        values.copy_from_slice(&whole[..len]);
    }
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// self·factor + addend, rounded once where the processor can.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The greater; `self` being NaN gives NaN.
    fn max(self, bound: Self) -> Self;
    /// The smaller; `self` being NaN gives NaN.
    fn min(self, bound: Self) -> Self;
    fn sqrt(self) -> Self;
    /// To the nearest integer, halves to even.
    fn round(self) -> Self;
    /// self·2ⁿ for an integral n in −300..=300.
    fn scale_exp2(self, n: Self) -> Self;
    /// `self` where the element of `condition` is below 0 (not −0), `other` elsewhere.
    fn where_negative(self, condition: Self, other: Self) -> Self;
    /// The sum, pairwise.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut values = [0.0; LANES];
        self.store(&mut values);
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                values[i] += values[i + half];
            }
            half /= 2;
        }
        values[0]
    }
    /// The sum of each vector, one per lane: lanes in the order of [`SUM_ORDER`], neighbors first.
    #[inline(always)]
    fn sum_each(vectors: &[Self; LANES]) -> Self {
        let mut sums = [0.0; LANES];
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            let mut v = [0.0; LANES];
            vector.store(&mut v);
            let quarter = |q: usize| (v[4 * q] + v[4 * q + 2]) + (v[4 * q + 1] + v[4 * q + 3]);
            *sum = (quarter(0) + quarter(2)) + (quarter(1) + quarter(3));
        }
        Self::load(&sums)
    }
    /// Lane i of vector j becomes lane j of vector i.
    #[inline(always)]
    fn transpose(rows: &[Self; LANES]) -> [Self; LANES] {
        let mut values = [[0.0; LANES]; LANES];
        for (row, values) in rows.iter().zip(&mut values) {
            row.store(values);
        }
        std::array::from_fn(|i| Self::load(&std::array::from_fn(|j| values[j][i])))
    }
    /// Sixteen rows of sixteen elements, `stride` apart, written as columns, `to_stride` apart. What lies
    /// `ahead` elements after the start of each row is asked for, as by [`Lanes::prefetch_line`].
    ///
    /// # Safety
    /// All are readable at `from`, and writable at `to`.
    #[inline(always)]
    unsafe fn transpose_at(
        from: *const f32,
        stride: usize,
        to: *mut f32,
        to_stride: usize,
        ahead: usize,
    ) {
        let mut rows = [Self::splat(0.0); LANES];
        for i in 0..LANES {
            Self::prefetch_line(from.wrapping_add(i * stride + ahead));
            // SAFETY: the caller's promise.
            rows[i] = unsafe { Self::load_at(from.add(i * stride)) };
        }
        for (i, column) in Self::transpose(&rows).into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { column.store_at(to.add(i * to_stride)) };
        }
    }
    /// The greatest element; NaN may be lost.
    #[inline(always)]
    fn max_element(self) -> f32 {
        let mut values = [0.0; LANES];
        self.store(&mut values);
        values.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// Lanes as an array that the compiler vectorizes; `FUSED` where multiply-add is one instruction.
#[derive(Clone, Copy)]
pub(crate) struct Array<const FUSED: bool>([f32; LANES]);

impl<const FUSED: bool> Array<FUSED> {
    #[inline(always)]
    fn zip(mut self, other: Self, f: fn(f32, f32) -> f32) -> Self {
        for i in 0..LANES {
            self.0[i] = f(self.0[i], other.0[i]);
        }
        self
    }
}

impl<const FUSED: bool> Lanes for Array<FUSED> {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        Self(*values)
    }
    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        *values = self.0;
    }
    #[inline(always)]
    fn low_halves(mut self) -> Self {
        for i in 0..LANES {
            self.0[i] = super::rounding::unpack(self.0[i])[0];
        }
        self
    }
    #[inline(always)]
    fn high_halves(mut self) -> Self {
        for i in 0..LANES {
            self.0[i] = super::rounding::unpack(self.0[i])[1];
        }
        self
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for i in 0..LANES {
            self.0[i] = if FUSED {
                self.0[i].mul_add(factor.0[i], addend.0[i])
            } else {
                self.0[i] * factor.0[i] + addend.0[i]
            };
        }
        self
    }
    #[inline(always)]
    fn max(self, bound: Self) -> Self {
        self.zip(bound, |a, b| if a < b { b } else { a })
    }
    #[inline(always)]
    fn min(self, bound: Self) -> Self {
        self.zip(bound, |a, b| if b < a { b } else { a })
    }
    #[inline(always)]
    fn sqrt(mut self) -> Self {
        for i in 0..LANES {
            self.0[i] = self.0[i].sqrt();
        }
        self
    }
    #[inline(always)]
    fn round(mut self) -> Self {
        // Adding 1.5·2²³ leaves no fraction bits: the addition itself rounds to nearest even.
        const SHIFT: f32 = 12_582_912.0;
        for i in 0..LANES {
            self.0[i] = (self.0[i] + SHIFT) - SHIFT;
        }
        self
    }
    #[inline(always)]
    fn scale_exp2(mut self, n: Self) -> Self {
        // Two factors, so that results below the smallest normal number round once, at the end.
        for i in 0..LANES {
            let n = n.0[i] as i32;
            let first = n >> 1;
            let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
            self.0[i] = self.0[i] * power(first) * power(n - first);
        }
        self
    }
    #[inline(always)]
    fn where_negative(mut self, condition: Self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] = if condition.0[i] < 0.0 { self.0[i] } else { other.0[i] };
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2;

#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
#[cfg(target_arch = "x86_64")]
pub(crate) use {avx2::Avx2, avx512::Avx512};

/// A computation over any [`Lanes`]; implementations mark [`Kernel::run`] `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What it computes, if not only side effects on its fields.
    type Output;
    /// The computation.
    fn run<S: Lanes>(self) -> Self::Output;
}

/// Runs a kernel with the lanes of the family in use.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match KernelFamily::current() {
        // SAFETY: a family is chosen only where the processor has its features.
        #[cfg(target_arch = "x86_64")]
        KernelFamily::Avx512 | KernelFamily::Avx512Bf16 | KernelFamily::Amx => unsafe {
            run_avx512(kernel)
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        KernelFamily::Avx2 => unsafe { run_avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        KernelFamily::Neon => kernel.run::<Neon>(),
        _ => kernel.run::<Array<false>>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// e^x within 1.1 units in the last place; 0 below −104, ∞ above 88.73, NaN for NaN.
///
/// ```text
/// e^x = 2ⁿ·e^r    n = round(x / ln 2)    r = x − n·ln 2    e^r ≈ 1 + r + r²·p(r)
/// ```
///
/// p interpolates (e^r − 1 − r)/r² at Chebyshev nodes of |r| ≤ ½ ln 2; its error is 3e-10.
#[inline(always)]
pub(crate) fn exp<S: Lanes>(x: S) -> S {
    const P: [f32; 6] = [
        0.500_000_001_429_108_6,
        0.166_666_667_222_300_53,
        0.041_666_456_777_917_78,
        0.008_333_297_063_824_324,
        0.001_393_454_452_047_287,
        0.000_199_004_438_238_567_42,
    ];
    // ln 2 as a number with zeros at its end, so that n·LN2_HIGH is exact, and the rest.
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_400_546_905_8e-4;
    let x = x.max(S::splat(-110.0)).min(S::splat(100.0));
    let n = x.mul(S::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(S::splat(-LN2_HIGH), x);
    let r = n.mul_add(S::splat(-LN2_LOW), r);
    let p = polynomial(r, P);
    p.mul_add(r.mul(r), r).add(S::splat(1.0)).scale_exp2(n)
}

/// Φ(x), the normal distribution function, and φ(x), its density; absolute error below 1e-7.
///
/// ```text
/// Φ(−|x|) = ½ e^{−z²}·erfcx(z)    z = |x|/√2    erfcx(z) ≈ q(u)/(1 + 2z)    u = (z − 2)/(z + 2)
/// ```
///
/// q interpolates (1 + 2z)·erfcx(z) at Chebyshev nodes in u (the variables are those of Shepherd
/// and Laframboise 1981, doi:10.1090/S0025-5718-1981-0595058-X); its relative error is 1.1e-8.
#[inline(always)]
pub(crate) fn normal<S: Lanes>(x: S) -> (S, S) {
    const Q: [f32; 12] = [
        1.276_978_391_500_699_5,
        -0.092_763_767_268_353_66,
        -0.166_031_071_997_927_02,
        0.164_049_562_502_165_12,
        -0.054_212_168_354_083_98,
        -0.008_019_661_743_423_68,
        0.008_689_775_502_279_81,
        0.001_219_169_432_621_706_2,
        -0.001_396_407_362_858_663,
        -0.000_359_780_247_843_734_53,
        0.000_161_074_657_177_970_53,
        0.000_064_065_459_237_274_18,
    ];
    const INV_SQRT_TAU: f32 = 0.398_942_280_401_432_7;
    let negated = S::splat(0.0).sub(x);
    let magnitude = negated.where_negative(x, x);
    let z = magnitude.mul(S::splat(std::f32::consts::FRAC_1_SQRT_2));
    let gauss = exp(x.mul(x).mul(S::splat(-0.5)));
    // Beyond 1e4 the exponential is 0; the bound keeps u finite for infinite x.
    let z = z.min(S::splat(1e4));
    let u = z.sub(S::splat(2.0)).div(z.add(S::splat(2.0)));
    let tail = polynomial(u, Q).div(z.mul_add(S::splat(2.0), S::splat(1.0)));
    let tail = tail.mul(gauss).mul(S::splat(0.5));
    (tail.where_negative(x, S::splat(1.0).sub(tail)), gauss.mul(S::splat(INV_SQRT_TAU)))
}

/// Horner's scheme, lowest coefficient first.
#[inline(always)]
fn polynomial<S: Lanes, const N: usize>(x: S, coefficients: [f32; N]) -> S {
    let mut value = S::splat(coefficients[N - 1]);
    for i in (0..N - 1).rev() {
        value = value.mul_add(x, S::splat(coefficients[i]));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map<F> {
        values: Vec<f32>,
        function: F,
    }

    trait Function {
        fn apply<S: Lanes>(&self, x: S) -> S;
    }

    #[derive(Clone, Copy)]
    struct Exp;

    impl Function for Exp {
        #[inline(always)]
        fn apply<S: Lanes>(&self, x: S) -> S {
            exp(x)
        }
    }

    #[derive(Clone, Copy)]
    struct Probability;

    impl Function for Probability {
        #[inline(always)]
        fn apply<S: Lanes>(&self, x: S) -> S {
            normal(x).0
        }
    }

    impl<F: Function> Kernel for Map<F> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Lanes>(mut self) -> Vec<f32> {
            let (chunks, rest) = self.values.as_chunks_mut::<LANES>();
            for chunk in chunks {
                self.function.apply(S::load(chunk)).store(chunk);
            }
            if !rest.is_empty() {
                self.function.apply(S::load_partial(rest)).store_partial(rest);
            }
            self.values
        }
    }

    /// What each instruction set gives, the processor's own first.
    fn each<K: Kernel>(kernel: impl Fn() -> K) -> Vec<K::Output> {
        let arrays = [kernel().run::<Array<true>>(), kernel().run::<Array<false>>()];
        let each = std::iter::once(dispatch(kernel())).chain(arrays);
        #[cfg(target_arch = "x86_64")]
        let each = each.chain(KernelFamily::Avx2.is_available().then(|| {
            // SAFETY: the features have just been detected.
            unsafe { run_avx2(kernel()) }
        }));
        each.collect()
    }

    fn everywhere<F: Function + Copy>(values: &[f32], function: F) -> Vec<Vec<f32>> {
        each(|| Map { values: values.to_vec(), function })
    }

    /// Distance in units in the last place of the result, which may be subnormal.
    fn ulps(found: f32, expected: f64) -> f64 {
        let nearest = (expected as f32).abs().max(f32::MIN_POSITIVE);
        let unit = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
        (f64::from(found) - expected).abs() / unit
    }

    #[test]
    fn exp_is_within_an_ulp_or_so_over_the_whole_range() {
        let values: Vec<f32> = (-1_100_000..=887_000).map(|i| i as f32 * 1e-4).collect();
        for found in everywhere(&values, Exp) {
            for (&x, y) in values.iter().zip(found) {
                let error = ulps(y, f64::from(x).exp());
                assert!(error < 1.1, "e^{x} = {y}: {error} ulps");
            }
        }
    }

    #[test]
    fn exp_has_its_limits() {
        let values = [0.0, -0.0, f32::NEG_INFINITY, -1e30, f32::INFINITY, 89.0, f32::NAN];
        for found in everywhere(&values, Exp) {
            assert_eq!(found[..6], [1.0, 1.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY]);
            assert!(found[6].is_nan());
        }
    }

    #[test]
    fn the_normal_distribution_has_its_tabulated_values() {
        let table: [(f32, f64); 6] = [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_543),
            (-1.0, 0.158_655_253_931_457),
            (-3.0, 0.001_349_898_031_630_095),
            (f32::INFINITY, 1.0),
            (f32::NEG_INFINITY, 0.0),
        ];
        let values: Vec<f32> = table.iter().map(|entry| entry.0).collect();
        for found in everywhere(&values, Probability) {
            for (&(x, expected), y) in table.iter().zip(found) {
                assert!((f64::from(y) - expected).abs() < 1e-7, "Φ({x}) = {y}");
            }
        }
    }

    struct Sums;

    impl Kernel for Sums {
        type Output = (f32, f32, [f32; LANES]);
        #[inline(always)]
        fn run<S: Lanes>(self) -> Self::Output {
            let values = S::load_partial(&[3.0, -1.0, 8.0]);
            let vectors: [S; LANES] = std::array::from_fn(|i| {
                let mut vector = [i as f32 * 100.0; LANES];
                vector[i] = 1.0;
                S::load(&vector)
            });
            let mut sums = [0.0; LANES];
            S::sum_each(&vectors).store(&mut sums);
            (values.sum(), values.max_element(), sums)
        }
    }

    struct Transpose;

    impl Kernel for Transpose {
        type Output = Vec<[f32; LANES]>;
        #[inline(always)]
        fn run<S: Lanes>(self) -> Self::Output {
            let row = |i: usize| std::array::from_fn(|j| (i * LANES + j) as f32);
            let rows: [S; LANES] = std::array::from_fn(|i| S::load(&row(i)));
            let columns = S::transpose(&rows);
            let mut values = vec![[0.0; LANES]; LANES];
            for (column, values) in columns.iter().zip(&mut values) {
                column.store(values);
            }
            values
        }
    }

    #[test]
    fn lanes_and_vectors_change_places() {
        for columns in each(|| Transpose) {
            for (i, column) in columns.iter().enumerate() {
                for (j, &value) in column.iter().enumerate() {
                    assert_eq!(value, (j * LANES + i) as f32);
                }
            }
        }
    }

    struct SumEach;

    impl Kernel for SumEach {
        type Output = ([f32; LANES], [f32; LANES]);
        #[inline(always)]
        fn run<S: Lanes>(self) -> Self::Output {
            // Every other order rounds some of these sums differently.
            let element = |i: usize, j: usize| {
                let digit = (i * 7919 + j * 104_729) % 9973;
                (digit * digit) as f32 * 1.037 - 70.0
            };
            let vectors = std::array::from_fn(|i| S::load(&std::array::from_fn(|j| element(i, j))));
            let mut found = [0.0; LANES];
            S::sum_each(&vectors).store(&mut found);
            let expected = std::array::from_fn(|i| {
                let mut sums = SUM_ORDER.map(|j| element(i, j)).to_vec();
                while sums.len() > 1 {
                    sums = sums.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
                }
                sums[0]
            });
            (found, expected)
        }
    }

    #[test]
    fn lanes_are_summed_in_one_order_everywhere() {
        for (found, expected) in each(|| SumEach) {
            assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits));
        }
    }

    #[test]
    fn sums_over_lanes() {
        let sums = std::array::from_fn(|i| i as f32 * 1500.0 + 1.0);
        for found in each(|| Sums) {
            assert_eq!(found, (10.0, 8.0, sums));
        }
    }
}
