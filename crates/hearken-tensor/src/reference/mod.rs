//! The slow device: every operation as its definition reads, in f64 from end to end.
//!
//! It proves that [`Device`] is a seam, whole models run on it, and it is what the kernels of other
//! devices are tested against. Values are f64 from upload to download, so that finite differences of
//! its forward operations test its backward ones.
//!
//! Not here: anything fast.
#![expect(clippy::needless_pass_by_value, reason = "views are handed on as they come")]

mod attention;
mod draw;
mod head;
mod products;
mod rows;

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::device::{
    Activation, AdamW, Attention, Cache, CacheMut, CachedRow, Device, Dropout, Gate, HeadOptions,
    HeadOutput, Heads, Int8Scales, LinearPart, OutOfMemory, Precision, Prediction, PredictionGrad,
    QkvLayout, Rotary, Rotation, Rows, View, ViewMut, Weight, WeightShape, Write,
};
use crate::draw::{BadLogit, DrawRow, Drawn};
use crate::forest::Forest;
use crate::stochastic;

/// A device that is right and slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// A vector of f64.
#[derive(Clone, Debug, Default)]
pub struct Values(pub Vec<f64>);

/// A weight as products read it in place of its values, once it is rounded to eight bits.
pub type Prepared = OnceLock<Values>;

impl Values {
    fn row(&self, rows: Rows, row: usize) -> &[f64] {
        &self.0[rows.offset + row * rows.stride..][..rows.width]
    }

    fn row_mut(&mut self, rows: Rows, row: usize) -> &mut [f64] {
        &mut self.0[rows.offset + row * rows.stride..][..rows.width]
    }
}

/// Where the rows of a batch are among sequences in a cache.
#[derive(Clone, Debug)]
pub struct CachePlan {
    page_len: usize,
    /// For each row, the slots of the positions up to its own.
    slots: Vec<Vec<usize>>,
}

/// Puts a value where it belongs.
fn put(to: &mut f64, value: f64, write: Write) {
    match write {
        Write::Overwrite => *to = value,
        Write::Add => *to += value,
    }
}

/// What a product of this precision reads.
fn read_as(value: f64, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => value,
        Precision::Bf16 => bf16(value),
    }
}

/// The nearest bfloat16 of the nearest f32, ties to even.
fn bf16(value: f64) -> f64 {
    let bits = (value as f32).to_bits();
    if value.is_nan() {
        return value;
    }
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f64::from(f32::from_bits(nearest))
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

impl Device for Reference {
    type Buffer = Values;
    type Prepared = Prepared;
    type Ids = Vec<u32>;
    type ForestPlan = Forest;
    type CachePlan = CachePlan;
    type Deferred<T: std::fmt::Debug + Send> = T;

    fn wait<T: std::fmt::Debug + Send>(&self, deferred: T) -> T {
        deferred
    }

    fn resident(&self, len: usize) -> Result<Values, OutOfMemory> {
        Ok(self.scratch(len))
    }

    fn zeros(&self, len: usize) -> Values {
        Values(vec![0.0; len])
    }

    fn scratch(&self, len: usize) -> Values {
        // What is read before it is written shows.
        Values(vec![f64::NAN; len])
    }

    fn len(&self, buffer: &Values) -> usize {
        buffer.0.len()
    }

    fn upload(&self, values: &[f32]) -> Values {
        Values(widen(values))
    }

    fn download(&self, buffer: &Values, offset: usize, out: &mut [f32]) {
        out.copy_from_slice(&narrow(&buffer.0[offset..offset + out.len()]));
    }

    fn read<'a>(&self, buffer: &'a Values) -> Cow<'a, [f32]> {
        Cow::Owned(narrow(&buffer.0))
    }

    fn write(&self, buffer: &mut Values, offset: usize, values: &[f32]) {
        buffer.0[offset..offset + values.len()].copy_from_slice(&widen(values));
    }

    fn copy(&self, from: &Values, to: &mut Values) {
        to.0.copy_from_slice(&from.0);
    }

    fn copy_within(&self, buffer: &mut Values, from: usize, to: usize, len: usize) {
        buffer.0.copy_within(from..from + len, to);
    }

    fn fill(&self, buffer: &mut Values, value: f32) {
        buffer.0.fill(f64::from(value));
    }

    fn add_scaled(&self, from: &Values, factor: f32, to: &mut Values) {
        assert_eq!(from.0.len(), to.0.len(), "from and to: one length");
        to.0.iter_mut().zip(&from.0).for_each(|(to, from)| *to += f64::from(factor) * from);
    }

    fn interpolate(&self, from: &Values, mix: f64, to: &mut Values) {
        assert_eq!(from.0.len(), to.0.len(), "from and to: one length");
        to.0.iter_mut().zip(&from.0).for_each(|(to, from)| *to = *to * (1.0 - mix) + from * mix);
    }

    fn ids(&self, ids: &[u32]) -> Vec<u32> {
        ids.to_vec()
    }

    fn plan(&self, forest: &Forest) -> Forest {
        forest.clone()
    }

    fn cache_plan(&self, rows: &[CachedRow<'_>], page_len: usize) -> CachePlan {
        let slot = |row: &CachedRow<'_>, position: usize| {
            row.pages[position / page_len] as usize * page_len + position % page_len
        };
        let slots = |row: &CachedRow<'_>| {
            (0..=row.position as usize).map(|position| slot(row, position)).collect()
        };
        CachePlan { page_len, slots: rows.iter().map(slots).collect() }
    }

    fn gather_rows(&self, table: &Values, ids: &Vec<u32>, out: ViewMut<'_, Values>, write: Write) {
        rows::gather(table, ids, out, write);
    }

    fn scatter_add_rows(&self, rows: View<'_, Values>, ids: &Vec<u32>, table: &mut Values) {
        rows::scatter_add(rows, ids, table);
    }

    fn dropout(
        &self,
        x: View<'_, Values>,
        keys: &Vec<u32>,
        dropout: Dropout,
        y: ViewMut<'_, Values>,
        write: Write,
    ) {
        rows::dropout(x, keys, dropout, y, write);
    }

    fn prepare(&self, weight: Weight<'_, Values, Prepared>) -> bool {
        let _ = weight;
        false
    }

    fn round_to_int8(&self, weight: Weight<'_, Values, Prepared>, scales: Int8Scales) {
        let rounded = || products::rounded_to_int8(weight.values, weight.shape, scales);
        weight.prepared.get_or_init(rounded);
    }

    fn read_weight(&self, weight: Weight<'_, Values, Prepared>, out: &mut Values) {
        let read = |&value: &f64| read_as(value, weight.shape.precision);
        out.0 = products::read(weight).iter().map(read).collect();
    }

    fn linear(
        &self,
        x: View<'_, Values>,
        weight: Weight<'_, Values, Prepared>,
        bias: Option<&Values>,
        y: ViewMut<'_, Values>,
        write: Write,
    ) {
        products::forward(x, weight, bias, y, write);
    }

    fn linear_parts(
        &self,
        x: View<'_, Values>,
        parts: Vec<LinearPart<'_, Values, Prepared>>,
        y: &mut Values,
        write: Write,
    ) {
        for part in parts {
            products::forward(x, part.weight, part.bias, ViewMut::new(y, part.y), write);
        }
    }

    fn linear_backward_input(
        &self,
        dy: View<'_, Values>,
        weight: Weight<'_, Values, Prepared>,
        dx: ViewMut<'_, Values>,
        write: Write,
    ) {
        products::backward_input(dy, weight, dx, write);
    }

    fn linear_backward_weight(
        &self,
        dy: View<'_, Values>,
        x: View<'_, Values>,
        shape: WeightShape,
        dweight: &mut Values,
    ) {
        products::backward_weight(dy, x, shape, dweight);
    }

    fn sum_rows(&self, dy: View<'_, Values>, dbias: &mut Values) {
        for row in 0..dy.rows.rows {
            let values = dy.buffer.row(dy.rows, row);
            dbias.0.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    }

    fn rms_norm(
        &self,
        x: View<'_, Values>,
        groups: usize,
        weight: &Values,
        eps: f32,
        y: ViewMut<'_, Values>,
        rstd: &mut Values,
    ) {
        rows::rms_norm(x, groups, weight, eps, y, rstd);
    }

    fn rms_norm_backward(
        &self,
        x: View<'_, Values>,
        groups: usize,
        weight: &Values,
        rstd: &Values,
        dy: View<'_, Values>,
        dx: ViewMut<'_, Values>,
        write: Write,
        dweight: Option<&mut Values>,
    ) {
        let norm = rows::Norm { x, weight, dy, write };
        norm.rms_backward(groups, rstd, dx, dweight);
    }

    fn layer_norm(
        &self,
        x: View<'_, Values>,
        weight: &Values,
        bias: &Values,
        eps: f32,
        y: ViewMut<'_, Values>,
        statistics: &mut Values,
    ) {
        rows::layer_norm(x, weight, bias, eps, y, statistics);
    }

    fn layer_norm_backward(
        &self,
        x: View<'_, Values>,
        weight: &Values,
        statistics: &Values,
        dy: View<'_, Values>,
        dx: ViewMut<'_, Values>,
        write: Write,
        dweight: Option<&mut Values>,
        dbias: Option<&mut Values>,
    ) {
        let norm = rows::Norm { x, weight, dy, write };
        norm.layer_backward(statistics, dx, dweight, dbias);
    }

    fn rotary(
        &self,
        buffer: &mut Values,
        layout: QkvLayout,
        heads: Heads,
        positions: &Vec<u32>,
        rotary: Rotary<'_, Values>,
        rotation: Rotation,
    ) {
        rows::rotary(buffer, layout, heads, positions, rotary, rotation);
    }

    fn attention(
        &self,
        qkv: &Values,
        layout: QkvLayout,
        forest: &Forest,
        attention: Attention,
        out: &mut Values,
        log_sum_exp: &mut Values,
    ) {
        attention::forward(qkv, layout, forest, attention, out, log_sum_exp);
    }

    fn attention_backward(
        &self,
        qkv: &Values,
        layout: QkvLayout,
        forest: &Forest,
        attention: Attention,
        out: &Values,
        log_sum_exp: &Values,
        dout: &Values,
        dqkv: &mut Values,
    ) {
        // Everything follows from the inputs.
        let _ = (out, log_sum_exp);
        attention::backward(qkv, layout, forest, attention, dout, dqkv);
    }

    fn round_randomly(&self, values: &mut Values, key: u32) {
        for (at, value) in values.0.iter_mut().enumerate() {
            *value = f64::from(stochastic::rounded(*value as f32, key, at as u32));
        }
    }

    fn round_heads(&self, buffer: &mut Values, layout: QkvLayout, heads: Heads) {
        for row in 0..buffer.0.len() / layout.row_stride {
            for head in 0..heads.heads {
                let start = row * layout.row_stride + heads.offset + head * heads.head_stride;
                for value in &mut buffer.0[start..start + layout.head_dim] {
                    *value = bf16(*value);
                }
            }
        }
    }

    fn head_words(&self, head_dim: usize, precision: Precision) -> usize {
        let _ = precision;
        head_dim
    }

    fn cache_write(
        &self,
        qkv: &Values,
        layout: QkvLayout,
        rows: &CachePlan,
        cache: CacheMut<'_, Values>,
    ) {
        attention::cache_write(qkv, layout, rows, cache);
    }

    fn attention_cached(
        &self,
        qkv: &Values,
        layout: QkvLayout,
        cache: Cache<'_, Values>,
        rows: &CachePlan,
        attention: Attention,
        out: &mut Values,
    ) {
        attention::cached(qkv, layout, &cache, rows, attention, out);
    }

    fn activation(&self, activation: Activation, x: &Values, y: &mut Values) {
        y.0.iter_mut().zip(&x.0).for_each(|(y, &x)| *y = rows::activation(activation, x).0);
    }

    fn activation_backward(
        &self,
        activation: Activation,
        x: &Values,
        dy: &Values,
        dx: &mut Values,
    ) {
        for (dx, (&x, dy)) in dx.0.iter_mut().zip(x.0.iter().zip(&dy.0)) {
            *dx = rows::activation(activation, x).1 * dy;
        }
    }

    fn gated(&self, gate: Gate, gate_up: &Values, inner: usize, y: &mut Values) {
        for (row, y) in gate_up.0.chunks_exact(2 * inner).zip(y.0.chunks_exact_mut(inner)) {
            for i in 0..inner {
                y[i] = rows::gate(gate, row[i]).0 * row[inner + i];
            }
        }
    }

    fn gated_backward(
        &self,
        gate: Gate,
        gate_up: &Values,
        inner: usize,
        dy: &Values,
        dgate_up: &mut Values,
    ) {
        let given = gate_up.0.chunks_exact(2 * inner).zip(dy.0.chunks_exact(inner));
        for ((row, dy), drow) in given.zip(dgate_up.0.chunks_exact_mut(2 * inner)) {
            for i in 0..inner {
                let (value, slope) = rows::gate(gate, row[i]);
                drow[i] = dy[i] * row[inner + i] * slope;
                drow[inner + i] = dy[i] * value;
            }
        }
    }

    fn softcap(&self, cap: f32, values: &mut Values) {
        values.0.iter_mut().for_each(|value| *value = rows::softcap(Some(cap), *value).0);
    }

    fn logprob_head(
        &self,
        hidden: &Values,
        weight: Weight<'_, Values, Prepared>,
        predictions: &[Prediction],
        options: HeadOptions,
        logits: Option<&mut Values>,
    ) -> HeadOutput {
        if let Some(logits) = logits {
            head::keep(hidden, weight, options, logits);
        }
        head::forward(hidden, weight, predictions, options)
    }

    fn logprob_head_backward(
        &self,
        hidden: &Values,
        weight: Weight<'_, Values, Prepared>,
        predictions: &[Prediction],
        grads: &[PredictionGrad],
        options: HeadOptions,
        logits: Option<Values>,
        dhidden: &mut Values,
        dweight: Option<&mut Values>,
    ) -> HeadOutput {
        drop(logits);
        head::backward(hidden, weight, predictions, grads, options, dhidden, dweight)
    }

    fn draw(&self, rows: Vec<DrawRow<'_, Values>>) -> Vec<Result<Drawn, BadLogit>> {
        rows.iter().map(draw::draw).collect()
    }

    fn sums_of_squares(&self, buffers: Vec<&Values>) -> Vec<f64> {
        buffers.iter().map(|x| x.0.iter().map(|x| x * x).sum()).collect()
    }

    fn first_non_finite(&self, buffers: Vec<&Values>) -> Option<(usize, usize)> {
        let found = |x: &Values| x.0.iter().position(|&x| !(x as f32).is_finite());
        buffers.iter().enumerate().find_map(|(index, x)| Some((index, found(x)?)))
    }

    fn adamw(
        &self,
        step: AdamW,
        parameter: &mut Values,
        grad: &Values,
        first_moment: &mut Values,
        second_moment: &mut Values,
    ) {
        let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
        for i in 0..parameter.0.len() {
            let g = grad.0[i] * step.grad_scale;
            let (m, v) = (&mut first_moment.0[i], &mut second_moment.0[i]);
            *m = step.beta1 * *m + (1.0 - step.beta1) * g;
            *v = step.beta2 * *v + (1.0 - step.beta2) * g * g;
            let (m, v) = (*m / correction(step.beta1), *v / correction(step.beta2));
            let decayed = parameter.0[i] * (1.0 - step.lr * step.weight_decay);
            parameter.0[i] = decayed - step.lr * m / (v.sqrt() + step.eps);
        }
    }
}
