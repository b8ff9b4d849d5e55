//! A device that notes how long its kernels take.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hearken_tensor::device::{
    AdamW, Attention, Cache, CacheMut, CachedRow, Gelu, HeadOptions, HeadOutput, Heads, LinearPart,
    Prediction, PredictionGrad, QkvLayout, Rotary, Rotation, View, ViewMut, Weight, WeightShape,
    Write,
};
use hearken_tensor::{Device, Forest};

/// Kinds of kernels that a profile tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernels {
    /// y = x·Wᵀ, rounding and packing of weights at their first use included.
    Products,
    /// Gradients of products' inputs.
    ProductsBackwardInput,
    /// Gradients of weights and biases.
    ProductsBackwardWeight,
    /// Attention over a batch.
    Attention,
    /// Its gradient.
    AttentionBackward,
    /// Attention over a cache of keys and values, and writing to the cache.
    AttentionCached,
    /// Log-probabilities, and their gradients.
    Head,
    /// Norms, forward and backward.
    Norms,
    /// Activation functions, forward and backward.
    Activations,
    /// Rotations by position.
    Rotary,
    /// Embeddings, and rows that are picked out or put back.
    Rows,
    /// Norm of the gradient, clipping, `AdamW`.
    Optimizer,
    /// Buffers that are filled, copied, uploaded or downloaded.
    Buffers,
}

impl Kernels {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 13] = [
        Self::Products,
        Self::ProductsBackwardInput,
        Self::ProductsBackwardWeight,
        Self::Attention,
        Self::AttentionBackward,
        Self::AttentionCached,
        Self::Head,
        Self::Norms,
        Self::Activations,
        Self::Rotary,
        Self::Rows,
        Self::Optimizer,
        Self::Buffers,
    ];

    /// The name that results carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::ProductsBackwardInput => "products, gradient of inputs",
            Self::ProductsBackwardWeight => "products, gradient of weights",
            Self::Attention => "attention",
            Self::AttentionBackward => "attention, gradient",
            Self::AttentionCached => "attention over the cache",
            Self::Head => "log-probability head",
            Self::Norms => "norms",
            Self::Activations => "activations",
            Self::Rotary => "rotary positions",
            Self::Rows => "embeddings and rows",
            Self::Optimizer => "optimizer",
            Self::Buffers => "buffers",
        }
    }
}

/// Nanoseconds per kind of kernel. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    nanoseconds: Arc<[AtomicU64; Kernels::ALL.len()]>,
}

impl Profile {
    /// Forgets what was noted.
    pub fn clear(&self) {
        for counter in self.nanoseconds.iter() {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Seconds of each kind.
    pub fn seconds(&self) -> Vec<(Kernels, f64)> {
        let seconds = |kernels: Kernels| {
            let nanoseconds = self.nanoseconds[kernels as usize].load(Ordering::Relaxed);
            (kernels, nanoseconds as f64 * 1e-9)
        };
        Kernels::ALL.map(seconds).to_vec()
    }

    fn add(&self, kernels: Kernels, nanoseconds: u64) {
        self.nanoseconds[kernels as usize].fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// A device whose kernels are timed. What a caller does between kernels, and threads that kernels
/// start, are not seen: the times of all kinds are time of the calling thread.
#[derive(Clone, Debug)]
pub struct Timed<D> {
    device: D,
    profile: Profile,
}

impl<D: Device> Timed<D> {
    /// Notes the kernels of `device` in `profile`.
    pub fn new(device: D, profile: Profile) -> Self {
        Self { device, profile }
    }

    fn time<T>(&self, kernels: Kernels, kernel: impl FnOnce(&D) -> T) -> T {
        let start = Instant::now();
        let output = kernel(&self.device);
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.profile.add(kernels, nanoseconds);
        output
    }
}

/// The same weight for the device inside.
fn inner<D: Device>(weight: Weight<'_, Timed<D>>) -> Weight<'_, D> {
    Weight { values: weight.values, prepared: weight.prepared, shape: weight.shape }
}

impl<D: Device> Device for Timed<D> {
    type Buffer = D::Buffer;
    type Prepared = D::Prepared;

    fn zeros(&self, len: usize) -> Self::Buffer {
        self.time(Kernels::Buffers, |device| device.zeros(len))
    }

    fn scratch(&self, len: usize) -> Self::Buffer {
        self.time(Kernels::Buffers, |device| device.scratch(len))
    }

    fn resident(&self, len: usize) -> Self::Buffer {
        self.time(Kernels::Buffers, |device| device.resident(len))
    }

    fn len(&self, buffer: &Self::Buffer) -> usize {
        self.device.len(buffer)
    }

    fn upload(&self, values: &[f32]) -> Self::Buffer {
        self.time(Kernels::Buffers, |device| device.upload(values))
    }

    fn download(&self, buffer: &Self::Buffer, offset: usize, out: &mut [f32]) {
        self.time(Kernels::Buffers, |device| device.download(buffer, offset, out));
    }

    fn read<'a>(&self, buffer: &'a Self::Buffer) -> Cow<'a, [f32]> {
        self.time(Kernels::Buffers, |device| device.read(buffer))
    }

    fn write(&self, buffer: &mut Self::Buffer, offset: usize, values: &[f32]) {
        self.time(Kernels::Buffers, |device| device.write(buffer, offset, values));
    }

    fn copy(&self, from: &Self::Buffer, to: &mut Self::Buffer) {
        self.time(Kernels::Buffers, |device| device.copy(from, to));
    }

    fn fill(&self, buffer: &mut Self::Buffer, value: f32) {
        self.time(Kernels::Buffers, |device| device.fill(buffer, value));
    }

    fn add_scaled(&self, from: &Self::Buffer, factor: f32, to: &mut Self::Buffer) {
        self.time(Kernels::Buffers, |device| device.add_scaled(from, factor, to));
    }

    fn gather_rows(
        &self,
        table: &Self::Buffer,
        ids: &[u32],
        out: ViewMut<'_, Self::Buffer>,
        write: Write,
    ) {
        self.time(Kernels::Rows, |device| device.gather_rows(table, ids, out, write));
    }

    fn scatter_add_rows(
        &self,
        rows: View<'_, Self::Buffer>,
        ids: &[u32],
        table: &mut Self::Buffer,
    ) {
        self.time(Kernels::Rows, |device| device.scatter_add_rows(rows, ids, table));
    }

    fn prepare(&self, weight: Weight<'_, Self>) -> bool {
        self.time(Kernels::Products, |device| device.prepare(inner(weight)))
    }

    fn linear(
        &self,
        x: View<'_, Self::Buffer>,
        weight: Weight<'_, Self>,
        bias: Option<&Self::Buffer>,
        y: ViewMut<'_, Self::Buffer>,
        write: Write,
    ) {
        self.time(Kernels::Products, |device| device.linear(x, inner(weight), bias, y, write));
    }

    fn linear_parts(
        &self,
        x: View<'_, Self::Buffer>,
        parts: &[LinearPart<'_, Self>],
        y: &mut Self::Buffer,
        write: Write,
    ) {
        let mut inside = Vec::with_capacity(parts.len());
        for &LinearPart { weight, bias, y } in parts {
            inside.push(LinearPart { weight: inner(weight), bias, y });
        }
        self.time(Kernels::Products, |device| device.linear_parts(x, &inside, y, write));
    }

    fn linear_backward_input(
        &self,
        dy: View<'_, Self::Buffer>,
        weight: Weight<'_, Self>,
        dx: ViewMut<'_, Self::Buffer>,
        write: Write,
    ) {
        self.time(Kernels::ProductsBackwardInput, |device| {
            device.linear_backward_input(dy, inner(weight), dx, write);
        });
    }

    fn linear_backward_weight(
        &self,
        dy: View<'_, Self::Buffer>,
        x: View<'_, Self::Buffer>,
        shape: WeightShape,
        dweight: &mut Self::Buffer,
    ) {
        self.time(Kernels::ProductsBackwardWeight, |device| {
            device.linear_backward_weight(dy, x, shape, dweight);
        });
    }

    fn sum_rows(&self, dy: View<'_, Self::Buffer>, dbias: &mut Self::Buffer) {
        self.time(Kernels::ProductsBackwardWeight, |device| device.sum_rows(dy, dbias));
    }

    fn rms_norm(
        &self,
        x: View<'_, Self::Buffer>,
        groups: usize,
        weight: &Self::Buffer,
        eps: f32,
        y: ViewMut<'_, Self::Buffer>,
        rstd: &mut Self::Buffer,
    ) {
        self.time(Kernels::Norms, |device| device.rms_norm(x, groups, weight, eps, y, rstd));
    }

    fn rms_norm_backward(
        &self,
        x: View<'_, Self::Buffer>,
        groups: usize,
        weight: &Self::Buffer,
        rstd: &Self::Buffer,
        dy: View<'_, Self::Buffer>,
        dx: ViewMut<'_, Self::Buffer>,
        write: Write,
        dweight: Option<&mut Self::Buffer>,
    ) {
        self.time(Kernels::Norms, |device| {
            device.rms_norm_backward(x, groups, weight, rstd, dy, dx, write, dweight);
        });
    }

    fn layer_norm(
        &self,
        x: View<'_, Self::Buffer>,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        eps: f32,
        y: ViewMut<'_, Self::Buffer>,
        statistics: &mut Self::Buffer,
    ) {
        self.time(Kernels::Norms, |device| device.layer_norm(x, weight, bias, eps, y, statistics));
    }

    fn layer_norm_backward(
        &self,
        x: View<'_, Self::Buffer>,
        weight: &Self::Buffer,
        statistics: &Self::Buffer,
        dy: View<'_, Self::Buffer>,
        dx: ViewMut<'_, Self::Buffer>,
        write: Write,
        dweight: Option<&mut Self::Buffer>,
        dbias: Option<&mut Self::Buffer>,
    ) {
        self.time(Kernels::Norms, |device| {
            device.layer_norm_backward(x, weight, statistics, dy, dx, write, dweight, dbias);
        });
    }

    fn rotary(
        &self,
        buffer: &mut Self::Buffer,
        layout: QkvLayout,
        heads: Heads,
        positions: &[u32],
        rotary: Rotary<'_, Self::Buffer>,
        rotation: Rotation,
    ) {
        self.time(Kernels::Rotary, |device| {
            device.rotary(buffer, layout, heads, positions, rotary, rotation);
        });
    }

    fn attention(
        &self,
        qkv: &Self::Buffer,
        layout: QkvLayout,
        forest: &Forest,
        attention: Attention,
        out: &mut Self::Buffer,
        log_sum_exp: &mut Self::Buffer,
    ) {
        self.time(Kernels::Attention, |device| {
            device.attention(qkv, layout, forest, attention, out, log_sum_exp);
        });
    }

    fn attention_backward(
        &self,
        qkv: &Self::Buffer,
        layout: QkvLayout,
        forest: &Forest,
        attention: Attention,
        out: &Self::Buffer,
        log_sum_exp: &Self::Buffer,
        dout: &Self::Buffer,
        dqkv: &mut Self::Buffer,
    ) {
        self.time(Kernels::AttentionBackward, |device| {
            device.attention_backward(qkv, layout, forest, attention, out, log_sum_exp, dout, dqkv);
        });
    }

    fn round_heads(&self, buffer: &mut Self::Buffer, layout: QkvLayout, heads: Heads) {
        self.time(Kernels::Rotary, |device| device.round_heads(buffer, layout, heads));
    }

    fn cache_write(
        &self,
        qkv: &Self::Buffer,
        layout: QkvLayout,
        slots: &[u32],
        cache: CacheMut<'_, Self::Buffer>,
    ) {
        self.time(Kernels::AttentionCached, |device| {
            device.cache_write(qkv, layout, slots, cache);
        });
    }

    fn attention_cached(
        &self,
        qkv: &Self::Buffer,
        layout: QkvLayout,
        cache: Cache<'_, Self::Buffer>,
        rows: &[CachedRow<'_>],
        attention: Attention,
        out: &mut Self::Buffer,
    ) {
        self.time(Kernels::AttentionCached, |device| {
            device.attention_cached(qkv, layout, cache, rows, attention, out);
        });
    }

    fn gelu(&self, gelu: Gelu, x: &Self::Buffer, y: &mut Self::Buffer) {
        self.time(Kernels::Activations, |device| device.gelu(gelu, x, y));
    }

    fn gelu_backward(
        &self,
        gelu: Gelu,
        x: &Self::Buffer,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
    ) {
        self.time(Kernels::Activations, |device| device.gelu_backward(gelu, x, dy, dx));
    }

    fn silu_gated(&self, gate_up: &Self::Buffer, inner: usize, y: &mut Self::Buffer) {
        self.time(Kernels::Activations, |device| device.silu_gated(gate_up, inner, y));
    }

    fn silu_gated_backward(
        &self,
        gate_up: &Self::Buffer,
        inner: usize,
        dy: &Self::Buffer,
        dgate_up: &mut Self::Buffer,
    ) {
        self.time(Kernels::Activations, |device| {
            device.silu_gated_backward(gate_up, inner, dy, dgate_up);
        });
    }

    fn logprob_head(
        &self,
        hidden: &Self::Buffer,
        weight: Weight<'_, Self>,
        predictions: &[Prediction],
        options: HeadOptions,
        logits: Option<&mut Self::Buffer>,
    ) -> HeadOutput {
        self.time(Kernels::Head, |device| {
            device.logprob_head(hidden, inner(weight), predictions, options, logits)
        })
    }

    fn logprob_head_backward(
        &self,
        hidden: &Self::Buffer,
        weight: Weight<'_, Self>,
        predictions: &[Prediction],
        grads: &[PredictionGrad],
        options: HeadOptions,
        logits: Option<Self::Buffer>,
        dhidden: &mut Self::Buffer,
        dweight: Option<&mut Self::Buffer>,
    ) -> HeadOutput {
        self.time(Kernels::Head, |device| {
            device.logprob_head_backward(
                hidden,
                inner(weight),
                predictions,
                grads,
                options,
                logits,
                dhidden,
                dweight,
            )
        })
    }

    fn sum_of_squares(&self, x: &Self::Buffer) -> f64 {
        self.time(Kernels::Optimizer, |device| device.sum_of_squares(x))
    }

    fn first_non_finite(&self, x: &Self::Buffer) -> Option<usize> {
        self.time(Kernels::Optimizer, |device| device.first_non_finite(x))
    }

    fn adamw(
        &self,
        step: AdamW,
        parameter: &mut Self::Buffer,
        grad: &Self::Buffer,
        first_moment: &mut Self::Buffer,
        second_moment: &mut Self::Buffer,
    ) {
        self.time(Kernels::Optimizer, |device| {
            device.adamw(step, parameter, grad, first_moment, second_moment);
        });
    }
}
