//! The processor: kernels over sixteen lanes, spread over rayon's threads.
//!
//! Results depend on shapes and values alone, never on the number of threads: work is cut into
//! chunks of fixed size and partial sums are added in order.

pub(crate) mod activation;
mod attention;
mod attention_backward;
mod attention_span;
mod bf16;
mod blocked;
mod buffer;
mod cached_attention;
mod draw;
mod exponential;
mod few_rows;
mod head;
mod int8;
pub(crate) mod lanes;
mod norm;
pub(crate) mod optimizer;
pub mod peak;
mod prepared;
mod product;
mod rotary;
mod rounding;
mod rows;
mod shares;
mod slab;
mod softcap;
mod softmax;
mod tile;
mod vector;

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

pub use attention::ForestPlan;
pub use buffer::Buffer;
pub use cached_attention::CachePlan;
pub use prepared::Prepared;

use crate::device::{
    Activation, AdamW, Attention, Cache, CacheMut, CachedRow, Device, Dropout, Gate, HeadOptions,
    HeadOutput, Heads, Int8Scales, LinearPart, OutOfMemory, Precision, Prediction, PredictionGrad,
    QkvLayout, Rotary, Rotation, View, ViewMut, Weight, WeightShape, Write,
};
use crate::draw::{BadLogit, DrawRow, Drawn};
use crate::forest::Forest;

/// The processor that the program runs on; clones share one pool of buffers.
///
/// Work runs on rayon's current pool. A thread of that pool starts work sooner than one outside:
/// long computations are best run inside `rayon::ThreadPool::install` or `rayon::scope`.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    pool: Arc<buffer::BufferPool>,
}

impl Cpu {
    /// A device with an empty pool of buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many buffers storage has been made for so far. It stands still where work of the same sizes
    /// repeats: all buffers are found in the pool then.
    pub fn buffers_made(&self) -> u64 {
        self.pool.made()
    }
}

impl Device for Cpu {
    type Buffer = Buffer;
    type Prepared = Prepared;
    type Ids = Vec<u32>;
    type ForestPlan = ForestPlan;
    type CachePlan = CachePlan;
    type Deferred<T: Debug + Send> = T;

    fn wait<T: Debug + Send>(&self, deferred: T) -> T {
        deferred
    }

    fn zeros(&self, len: usize) -> Buffer {
        Buffer::zeros(&self.pool, len)
    }

    fn scratch(&self, len: usize) -> Buffer {
        Buffer::scratch(&self.pool, len)
    }

    fn resident(&self, len: usize) -> Result<Buffer, OutOfMemory> {
        Buffer::try_scratch(self.pool.for_weights(), len)
    }

    fn len(&self, buffer: &Buffer) -> usize {
        buffer.len()
    }

    fn upload(&self, values: &[f32]) -> Buffer {
        let mut buffer = Buffer::scratch(&self.pool, values.len());
        vector::copy(values, &mut buffer);
        buffer
    }

    fn download(&self, buffer: &Buffer, offset: usize, out: &mut [f32]) {
        out.copy_from_slice(&buffer[offset..offset + out.len()]);
    }

    fn read<'a>(&self, buffer: &'a Buffer) -> Cow<'a, [f32]> {
        Cow::Borrowed(buffer)
    }

    fn write(&self, buffer: &mut Buffer, offset: usize, values: &[f32]) {
        buffer[offset..offset + values.len()].copy_from_slice(values);
    }

    fn copy(&self, from: &Buffer, to: &mut Buffer) {
        vector::copy(from, to);
    }

    fn copy_within(&self, buffer: &mut Buffer, from: usize, to: usize, len: usize) {
        buffer[..].copy_within(from..from + len, to);
    }

    fn fill(&self, buffer: &mut Buffer, value: f32) {
        rows::for_chunks_mut(buffer, |_, chunk| chunk.fill(value));
    }

    fn add_scaled(&self, from: &Buffer, factor: f32, to: &mut Buffer) {
        vector::add_scaled(from, factor, to);
    }

    fn interpolate(&self, from: &Buffer, mix: f64, to: &mut Buffer) {
        vector::interpolate(from, mix, to);
    }

    fn ids(&self, ids: &[u32]) -> Vec<u32> {
        ids.to_vec()
    }

    fn plan(&self, forest: &Forest) -> ForestPlan {
        ForestPlan::new(forest)
    }

    fn cache_plan(&self, rows: &[CachedRow<'_>], page_len: usize) -> CachePlan {
        CachePlan::new(rows, page_len)
    }

    fn gather_rows(&self, table: &Buffer, ids: &Vec<u32>, out: ViewMut<'_, Buffer>, write: Write) {
        vector::gather_rows(table, ids, out, write);
    }

    fn scatter_add_rows(&self, rows: View<'_, Buffer>, ids: &Vec<u32>, table: &mut Buffer) {
        vector::scatter_add_rows(rows, ids, table);
    }

    fn dropout(
        &self,
        x: View<'_, Buffer>,
        keys: &Vec<u32>,
        dropout: Dropout,
        y: ViewMut<'_, Buffer>,
        write: Write,
    ) {
        vector::dropout(x, keys, dropout, y, write);
    }

    fn prepare(&self, weight: Weight<'_, Buffer, Prepared>) -> bool {
        product::prepare(&self.pool, weight)
    }

    fn round_to_int8(&self, weight: Weight<'_, Buffer, Prepared>, scales: Int8Scales) {
        weight.prepared.round_to_int8(&self.pool, weight.values, weight.shape, scales);
    }

    fn read_weight(&self, weight: Weight<'_, Buffer, Prepared>, out: &mut Buffer) {
        product::read_weight(&self.pool, weight, out);
    }

    fn linear(
        &self,
        x: View<'_, Buffer>,
        weight: Weight<'_, Buffer, Prepared>,
        bias: Option<&Buffer>,
        y: ViewMut<'_, Buffer>,
        write: Write,
    ) {
        let bias = bias.map(|bias| &bias[..]);
        let (x, y) = (rows::Input::new(x), rows::Output::new(y));
        product::forward(&self.pool, x, weight, bias, y, write);
    }

    fn linear_parts(
        &self,
        x: View<'_, Buffer>,
        parts: Vec<LinearPart<'_, Buffer, Prepared>>,
        y: &mut Buffer,
        write: Write,
    ) {
        product::forward_parts(&self.pool, rows::Input::new(x), &parts, y, write);
    }

    fn linear_backward_input(
        &self,
        dy: View<'_, Buffer>,
        weight: Weight<'_, Buffer, Prepared>,
        dx: ViewMut<'_, Buffer>,
        write: Write,
    ) {
        let (dy, dx) = (rows::Input::new(dy), rows::Output::new(dx));
        product::backward_input(&self.pool, dy, weight, dx, write);
    }

    fn linear_backward_weight(
        &self,
        dy: View<'_, Buffer>,
        x: View<'_, Buffer>,
        shape: WeightShape,
        dweight: &mut Buffer,
    ) {
        let (dy, x) = (rows::Input::new(dy), rows::Input::new(x));
        product::backward_weight(&self.pool, dy, x, shape, dweight);
    }

    fn sum_rows(&self, dy: View<'_, Buffer>, dbias: &mut Buffer) {
        product::sum_rows(dy, dbias);
    }

    fn rms_norm(
        &self,
        x: View<'_, Buffer>,
        groups: usize,
        weight: &Buffer,
        eps: f32,
        y: ViewMut<'_, Buffer>,
        rstd: &mut Buffer,
    ) {
        norm::rms_norm(x, groups, weight, eps, y, rstd);
    }

    fn rms_norm_backward(
        &self,
        x: View<'_, Buffer>,
        groups: usize,
        weight: &Buffer,
        rstd: &Buffer,
        dy: View<'_, Buffer>,
        dx: ViewMut<'_, Buffer>,
        write: Write,
        dweight: Option<&mut Buffer>,
    ) {
        norm::rms_norm_backward(x, groups, weight, rstd, dy, dx, write, dweight);
    }

    fn layer_norm(
        &self,
        x: View<'_, Buffer>,
        weight: &Buffer,
        bias: &Buffer,
        eps: f32,
        y: ViewMut<'_, Buffer>,
        statistics: &mut Buffer,
    ) {
        norm::layer_norm(x, weight, bias, eps, y, statistics);
    }

    fn layer_norm_backward(
        &self,
        x: View<'_, Buffer>,
        weight: &Buffer,
        statistics: &Buffer,
        dy: View<'_, Buffer>,
        dx: ViewMut<'_, Buffer>,
        write: Write,
        dweight: Option<&mut Buffer>,
        dbias: Option<&mut Buffer>,
    ) {
        norm::layer_norm_backward(x, weight, statistics, dy, dx, write, dweight, dbias);
    }

    fn rotary(
        &self,
        buffer: &mut Buffer,
        layout: QkvLayout,
        heads: Heads,
        positions: &Vec<u32>,
        rotary: Rotary<'_, Buffer>,
        rotation: Rotation,
    ) {
        rotary::rotary(buffer, layout, heads, positions, rotary, rotation);
    }

    fn attention(
        &self,
        qkv: &Buffer,
        layout: QkvLayout,
        forest: &ForestPlan,
        attention: Attention,
        out: &mut Buffer,
        log_sum_exp: &mut Buffer,
    ) {
        attention::attention(&self.pool, qkv, layout, forest, attention, out, log_sum_exp);
    }

    fn attention_backward(
        &self,
        qkv: &Buffer,
        layout: QkvLayout,
        forest: &ForestPlan,
        attention: Attention,
        out: &Buffer,
        log_sum_exp: &Buffer,
        dout: &Buffer,
        dqkv: &mut Buffer,
    ) {
        let saved = attention_backward::Saved { qkv, out, log_sum_exp, dout };
        attention_backward::attention_backward(&self.pool, saved, layout, forest, attention, dqkv);
    }

    fn round_randomly(&self, values: &mut Buffer, key: u32) {
        rounding::round_randomly(values, key);
    }

    fn round_heads(&self, buffer: &mut Buffer, layout: QkvLayout, heads: Heads) {
        rounding::round_heads(buffer, layout, heads);
    }

    fn head_words(&self, head_dim: usize, precision: Precision) -> usize {
        cached_attention::head_words(head_dim, precision)
    }

    fn cache_write(
        &self,
        qkv: &Buffer,
        layout: QkvLayout,
        rows: &CachePlan,
        cache: CacheMut<'_, Buffer>,
    ) {
        cached_attention::cache_write(qkv, layout, rows, cache);
    }

    fn attention_cached(
        &self,
        qkv: &Buffer,
        layout: QkvLayout,
        cache: Cache<'_, Buffer>,
        rows: &CachePlan,
        attention: Attention,
        out: &mut Buffer,
    ) {
        cached_attention::attention_cached(qkv, layout, &cache, rows, attention, out);
    }

    fn activation(&self, activation: Activation, x: &Buffer, y: &mut Buffer) {
        activation::activation(activation, x, y);
    }

    fn activation_backward(
        &self,
        activation: Activation,
        x: &Buffer,
        dy: &Buffer,
        dx: &mut Buffer,
    ) {
        activation::activation_backward(activation, x, dy, dx);
    }

    fn gated(&self, gate: Gate, gate_up: &Buffer, inner: usize, y: &mut Buffer) {
        activation::gated(gate, gate_up, inner, y);
    }

    fn gated_backward(
        &self,
        gate: Gate,
        gate_up: &Buffer,
        inner: usize,
        dy: &Buffer,
        dgate_up: &mut Buffer,
    ) {
        activation::gated_backward(gate, gate_up, inner, dy, dgate_up);
    }

    fn softcap(&self, cap: f32, values: &mut Buffer) {
        softcap::softcap(cap, values);
    }

    fn logprob_head(
        &self,
        hidden: &Buffer,
        weight: Weight<'_, Buffer, Prepared>,
        predictions: &[Prediction],
        options: HeadOptions,
        logits: Option<&mut Buffer>,
    ) -> HeadOutput {
        head::logprob_head(&self.pool, hidden, weight, predictions, options, logits, None)
    }

    fn logprob_head_backward(
        &self,
        hidden: &Buffer,
        weight: Weight<'_, Buffer, Prepared>,
        predictions: &[Prediction],
        grads: &[PredictionGrad],
        options: HeadOptions,
        mut logits: Option<Buffer>,
        dhidden: &mut Buffer,
        dweight: Option<&mut Buffer>,
    ) -> HeadOutput {
        let dweight = dweight.map(|dweight| &mut dweight[..]);
        let backward = Some(head::HeadBackward { grads, dhidden, dweight });
        let logits = logits.as_mut();
        head::logprob_head(&self.pool, hidden, weight, predictions, options, logits, backward)
    }

    fn draw(&self, rows: Vec<DrawRow<'_, Buffer>>) -> Vec<Result<Drawn, BadLogit>> {
        draw::draw(&rows)
    }

    fn sums_of_squares(&self, buffers: Vec<&Buffer>) -> Vec<f64> {
        optimizer::sums_of_squares(&buffers)
    }

    fn first_non_finite(&self, buffers: Vec<&Buffer>) -> Option<(usize, usize)> {
        optimizer::first_non_finite(&buffers)
    }

    fn adamw(
        &self,
        step: AdamW,
        parameter: &mut Buffer,
        grad: &Buffer,
        first_moment: &mut Buffer,
        second_moment: &mut Buffer,
    ) {
        optimizer::adamw(step, parameter, grad, first_moment, second_moment);
    }
}
