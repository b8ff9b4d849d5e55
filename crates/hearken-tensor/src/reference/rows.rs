//! What acts on each row by itself: picking, norms, rotations, activations.

use super::{Values, put};
use crate::device::{
    Activation, Dropout, Gate, Gelu, Heads, QkvLayout, Rotary, Rotation, View, ViewMut, Write,
};
use crate::dropout::KeptElements;

pub(super) fn gather(table: &Values, ids: &[u32], out: ViewMut<'_, Values>, write: Write) {
    let width = out.rows.width;
    for (row, &id) in ids.iter().enumerate() {
        let from = &table.0[id as usize * width..][..width];
        for (to, &from) in out.buffer.row_mut(out.rows, row).iter_mut().zip(from) {
            put(to, from, write);
        }
    }
}

pub(super) fn scatter_add(rows: View<'_, Values>, ids: &[u32], table: &mut Values) {
    let width = rows.rows.width;
    for (row, &id) in ids.iter().enumerate() {
        let to = &mut table.0[id as usize * width..][..width];
        to.iter_mut().zip(rows.buffer.row(rows.rows, row)).for_each(|(to, from)| *to += from);
    }
}

pub(super) fn dropout(
    x: View<'_, Values>,
    keys: &[u32],
    dropout: Dropout,
    y: ViewMut<'_, Values>,
    write: Write,
) {
    for (row, &key) in keys.iter().enumerate() {
        let kept = KeptElements::new(key, dropout);
        let x = x.buffer.row(x.rows, row);
        for (column, y) in y.buffer.row_mut(y.rows, row).iter_mut().enumerate() {
            // The kernels' scale is rounded to f32, and finite differences ask for no more.
            put(y, x[column] * f64::from(kept.factor(column as u32)), write);
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let len = values.len() as f64;
    values.sum::<f64>() / len
}

pub(super) fn rms_norm(
    x: View<'_, Values>,
    groups: usize,
    weight: &Values,
    eps: f32,
    y: ViewMut<'_, Values>,
    rstd: &mut Values,
) {
    let width = x.rows.width / groups;
    for row in 0..x.rows.rows {
        let parts = x.buffer.row(x.rows, row).chunks_exact(width);
        let targets = y.buffer.row_mut(y.rows, row).chunks_exact_mut(width);
        for (group, (x, y)) in parts.zip(targets).enumerate() {
            let root = (mean(x.iter().map(|x| x * x)) + f64::from(eps)).sqrt().recip();
            rstd.0[row * groups + group] = root;
            for i in 0..width {
                y[i] = x[i] * root * weight.0[i];
            }
        }
    }
}

pub(super) fn layer_norm(
    x: View<'_, Values>,
    weight: &Values,
    bias: &Values,
    eps: f32,
    y: ViewMut<'_, Values>,
    statistics: &mut Values,
) {
    for row in 0..x.rows.rows {
        let (x, y) = (x.buffer.row(x.rows, row), y.buffer.row_mut(y.rows, row));
        let center = mean(x.iter().copied());
        let variance = mean(x.iter().map(|x| (x - center).powi(2)));
        let root = (variance + f64::from(eps)).sqrt().recip();
        statistics.0[2 * row..2 * row + 2].copy_from_slice(&[center, root]);
        for i in 0..x.len() {
            y[i] = (x[i] - center) * root * weight.0[i] + bias.0[i];
        }
    }
}

/// What the backward pass of a norm reads.
pub(super) struct Norm<'a> {
    pub(super) x: View<'a, Values>,
    pub(super) weight: &'a Values,
    pub(super) dy: View<'a, Values>,
    pub(super) write: Write,
}

impl Norm<'_> {
    /// With n = x·r: dx = r·(dn − n·mean(dn·n)) where dn = dy·weight.
    pub(super) fn rms_backward(
        &self,
        groups: usize,
        rstd: &Values,
        dx: ViewMut<'_, Values>,
        mut dweight: Option<&mut Values>,
    ) {
        let width = self.x.rows.width / groups;
        for row in 0..self.x.rows.rows {
            let (x, dy) =
                (self.x.buffer.row(self.x.rows, row), self.dy.buffer.row(self.dy.rows, row));
            for group in 0..groups {
                let (root, part) =
                    (rstd.0[row * groups + group], group * width..(group + 1) * width);
                let n: Vec<f64> = x[part.clone()].iter().map(|x| x * root).collect();
                let dy = &dy[part.clone()];
                let along = mean((0..width).map(|i| dy[i] * self.weight.0[i] * n[i]));
                let dx = &mut dx.buffer.row_mut(dx.rows, row)[part];
                for i in 0..width {
                    let dn = dy[i] * self.weight.0[i];
                    put(&mut dx[i], root * (dn - n[i] * along), self.write);
                    if let Some(dweight) = &mut dweight {
                        dweight.0[i] += dy[i] * n[i];
                    }
                }
            }
        }
    }

    /// With n = (x − mean)·r: dx = r·(dn − mean(dn) − n·mean(dn·n)).
    pub(super) fn layer_backward(
        &self,
        statistics: &Values,
        dx: ViewMut<'_, Values>,
        mut dweight: Option<&mut Values>,
        mut dbias: Option<&mut Values>,
    ) {
        let width = self.x.rows.width;
        for row in 0..self.x.rows.rows {
            let (center, root) = (statistics.0[2 * row], statistics.0[2 * row + 1]);
            let (x, dy) =
                (self.x.buffer.row(self.x.rows, row), self.dy.buffer.row(self.dy.rows, row));
            let n: Vec<f64> = x.iter().map(|x| (x - center) * root).collect();
            let dn: Vec<f64> = dy.iter().zip(&self.weight.0).map(|(dy, w)| dy * w).collect();
            let level = mean(dn.iter().copied());
            let along = mean((0..width).map(|i| dn[i] * n[i]));
            let dx = dx.buffer.row_mut(dx.rows, row);
            for i in 0..width {
                put(&mut dx[i], root * (dn[i] - level - n[i] * along), self.write);
                if let Some(dweight) = &mut dweight {
                    dweight.0[i] += dy[i] * n[i];
                }
                if let Some(dbias) = &mut dbias {
                    dbias.0[i] += dy[i];
                }
            }
        }
    }
}

pub(super) fn rotary(
    buffer: &mut Values,
    layout: QkvLayout,
    heads: Heads,
    positions: &[u32],
    rotary: Rotary<'_, Values>,
    rotation: Rotation,
) {
    let half = rotary.rotary_dim / 2;
    let sign = match rotation {
        Rotation::Forward => 1.0,
        Rotation::Backward => -1.0,
    };
    for (row, &position) in positions.iter().enumerate() {
        for head in 0..heads.heads {
            let start = row * layout.row_stride + heads.offset + head * heads.head_stride;
            for i in 0..half {
                let angle = position as usize * half + i;
                let (cos, sin) = (rotary.cos.0[angle], sign * rotary.sin.0[angle]);
                let (a, b) = (buffer.0[start + i], buffer.0[start + half + i]);
                buffer.0[start + i] = a * cos - b * sin;
                buffer.0[start + half + i] = b * cos + a * sin;
            }
        }
    }
}

/// erf by its Taylor series, which converges everywhere and is exact enough below 6; 1 beyond.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    // Abramowitz and Stegun 1964, 7.1.6: all terms have one sign.
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// a(x) and its derivative.
pub(super) fn activation(activation: Activation, x: f64) -> (f64, f64) {
    match activation {
        Activation::Gelu(kind) => gelu(kind, x),
        Activation::Tanh => (x.tanh(), 1.0 - x.tanh() * x.tanh()),
        Activation::Relu => (x.max(0.0), f64::from(u8::from(x > 0.0))),
    }
}

/// gelu(x) and its derivative.
fn gelu(kind: Gelu, x: f64) -> (f64, f64) {
    match kind {
        Gelu::Erf => {
            let probability = 0.5 * (1.0 + erf(x / 2.0_f64.sqrt()));
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            (x * probability, probability + x * density)
        }
        Gelu::Tanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = (root * (x + 0.044_715 * x.powi(3))).tanh();
            let slope = root * (1.0 + 3.0 * 0.044_715 * x * x) * (1.0 - tanh * tanh);
            (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * slope)
        }
    }
}

/// What a gate lets through, and its derivative.
pub(super) fn gate(gate: Gate, x: f64) -> (f64, f64) {
    match gate {
        Gate::Silu => silu(x),
        Gate::Gelu(kind) => gelu(kind, x),
    }
}

/// silu(x) and its derivative.
fn silu(x: f64) -> (f64, f64) {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
}

/// cap·tanh(x/cap) and its derivative; x itself without a cap.
pub(super) fn softcap(cap: Option<f32>, x: f64) -> (f64, f64) {
    let Some(cap) = cap.map(f64::from) else { return (x, 1.0) };
    let tanh = (x / cap).tanh();
    (cap * tanh, 1.0 - tanh * tanh)
}
