//! Activations and their derivatives: Gaussian error and sigmoid linear units, tanh, rectifiers.

use super::buffer::Buffer;
use super::lanes::{Kernel, LANES, Lanes, dispatch, exp, normal};
use super::rows::{SharedElements, for_chunks};
use crate::device::{Activation, Gate, Gelu};

/// √(2/π) and the cubic coefficient of the tanh form.
const TANH_SCALE: f32 = 0.797_884_560_802_865_4;
const TANH_CUBIC: f32 = 0.044_715;

/// A function of one lane vector and the incoming derivative.
trait Unary: Copy + Sync {
    fn value<S: Lanes>(x: S) -> S;
    fn derivative<S: Lanes>(x: S) -> S;
}

#[derive(Clone, Copy)]
struct TanhGelu;

/// ½(1 + tanh u) = σ(2u) with u = √(2/π)(x + 0.044715x³), and du/dx·2.
#[inline(always)]
fn tanh_gate<S: Lanes>(x: S) -> (S, S) {
    let square = x.mul(x);
    let one = S::splat(1.0);
    let inner = square.mul_add(S::splat(TANH_CUBIC), one).mul(x);
    let gate = sigmoid(inner.mul(S::splat(2.0 * TANH_SCALE)));
    let slope = square.mul_add(S::splat(3.0 * TANH_CUBIC), one).mul(S::splat(2.0 * TANH_SCALE));
    (gate, slope)
}

/// 1/(1 + e^−x).
#[inline(always)]
fn sigmoid<S: Lanes>(x: S) -> S {
    let one = S::splat(1.0);
    one.div(one.add(exp(S::splat(0.0).sub(x))))
}

impl Unary for TanhGelu {
    #[inline(always)]
    fn value<S: Lanes>(x: S) -> S {
        x.mul(tanh_gate(x).0)
    }
    #[inline(always)]
    fn derivative<S: Lanes>(x: S) -> S {
        let (gate, slope) = tanh_gate(x);
        let curve = gate.mul(S::splat(1.0).sub(gate));
        x.mul(slope).mul_add(curve, gate)
    }
}

#[derive(Clone, Copy)]
struct ErfGelu;

impl Unary for ErfGelu {
    #[inline(always)]
    fn value<S: Lanes>(x: S) -> S {
        x.mul(normal(x).0)
    }
    #[inline(always)]
    fn derivative<S: Lanes>(x: S) -> S {
        let (probability, density) = normal(x);
        x.mul_add(density, probability)
    }
}

#[derive(Clone, Copy)]
struct Tanh;

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<S: Lanes>(x: S) -> S {
    // 2σ(2x) − 1 loses what is small next to 1: there the odd series is as good as f32.
    let square = x.mul(x);
    let (third, fifth, seventh) = (-1.0 / 3.0, 2.0 / 15.0, -17.0 / 315.0);
    let series = square.mul_add(S::splat(seventh), S::splat(fifth));
    let series = series.mul_add(square, S::splat(third)).mul_add(square, S::splat(1.0)).mul(x);
    let whole = sigmoid(x.add(x)).mul_add(S::splat(2.0), S::splat(-1.0));
    series.where_negative(square.sub(S::splat(0.04)), whole)
}

impl Unary for Tanh {
    #[inline(always)]
    fn value<S: Lanes>(x: S) -> S {
        tanh(x)
    }
    #[inline(always)]
    fn derivative<S: Lanes>(x: S) -> S {
        let gate = sigmoid(x.add(x));
        gate.mul(S::splat(1.0).sub(gate)).mul(S::splat(4.0))
    }
}

#[derive(Clone, Copy)]
struct Relu;

impl Unary for Relu {
    #[inline(always)]
    fn value<S: Lanes>(x: S) -> S {
        x.max(S::splat(0.0))
    }
    #[inline(always)]
    fn derivative<S: Lanes>(x: S) -> S {
        S::splat(1.0).where_negative(S::splat(0.0).sub(x), S::splat(0.0))
    }
}

struct Forward<'a, U> {
    unary: U,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<U: Unary> Kernel for Forward<'_, U> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let _ = self.unary;
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let (y, y_rest) = self.y.as_chunks_mut::<LANES>();
        for (x, y) in x.iter().zip(y) {
            U::value(S::load(x)).store(y);
        }
        if !x_rest.is_empty() {
            U::value(S::load_partial(x_rest)).store_partial(y_rest);
        }
    }
}

struct Backward<'a, U> {
    unary: U,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl<U: Unary> Kernel for Backward<'_, U> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let _ = self.unary;
        let (x, x_rest) = self.x.as_chunks::<LANES>();
        let (dy, dy_rest) = self.dy.as_chunks::<LANES>();
        let (dx, dx_rest) = self.dx.as_chunks_mut::<LANES>();
        for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
            U::derivative(S::load(x)).mul(S::load(dy)).store(dx);
        }
        if !x_rest.is_empty() {
            let dx = U::derivative(S::load_partial(x_rest)).mul(S::load_partial(dy_rest));
            dx.store_partial(dx_rest);
        }
    }
}

/// y = a(x), element by element.
pub(crate) fn activation(activation: Activation, x: &Buffer, y: &mut Buffer) {
    assert_eq!(x.len(), y.len(), "x and y: one length");
    match activation {
        Activation::Gelu(Gelu::Tanh) => forward(TanhGelu, x, y),
        Activation::Gelu(Gelu::Erf) => forward(ErfGelu, x, y),
        Activation::Tanh => forward(Tanh, x, y),
        Activation::Relu => forward(Relu, x, y),
    }
}

fn forward<U: Unary>(unary: U, x: &[f32], y: &mut [f32]) {
    super::rows::for_chunks_mut(y, |start, y| {
        dispatch(Forward { unary, x: &x[start..start + y.len()], y });
    });
}

/// dx = a'(x)·dy.
pub(crate) fn activation_backward(
    activation: Activation,
    x: &Buffer,
    dy: &Buffer,
    dx: &mut Buffer,
) {
    assert_eq!(x.len(), dx.len(), "x and dx: one length");
    assert_eq!(x.len(), dy.len(), "x and dy: one length");
    match activation {
        Activation::Gelu(Gelu::Tanh) => backward(TanhGelu, x, dy, dx),
        Activation::Gelu(Gelu::Erf) => backward(ErfGelu, x, dy, dx),
        Activation::Tanh => backward(Tanh, x, dy, dx),
        Activation::Relu => backward(Relu, x, dy, dx),
    }
}

fn backward<U: Unary>(unary: U, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    super::rows::for_chunks_mut(dx, |start, dx| {
        let range = start..start + dx.len();
        dispatch(Backward { unary, x: &x[range.clone()], dy: &dy[range], dx });
    });
}

/// y = a(gate)·up for rows `[gate | up]`.
pub(crate) fn gated(gate: Gate, gate_up: &Buffer, inner: usize, y: &mut Buffer) {
    match gate {
        Gate::Silu => gated_by(Silu, gate_up, inner, y),
        Gate::Gelu(Gelu::Tanh) => gated_by(TanhGelu, gate_up, inner, y),
        Gate::Gelu(Gelu::Erf) => gated_by(ErfGelu, gate_up, inner, y),
    }
}

fn gated_by<G: Gating>(gating: G, gate_up: &Buffer, inner: usize, y: &mut Buffer) {
    assert_eq!(gate_up.len(), 2 * y.len(), "gate_up: twice as long as y");
    let rows = y.len() / inner.max(1);
    assert_eq!(y.len(), rows * inner, "y: whole rows");
    let y = SharedElements::new(y);
    for_chunks(rows, 2 * inner, |range| {
        for row in range {
            let (gate, up) = gate_up[row * 2 * inner..][..2 * inner].split_at(inner);
            // SAFETY: the ranges partition the rows.
            let y = unsafe { y.slice(row * inner, inner) };
            dispatch(GatedRow { gating, gate, up, y });
        }
    });
}

/// A function of the gate, and its derivative.
trait Gating: Copy + Sync {
    fn value<S: Lanes>(gate: S) -> S;
    fn value_and_slope<S: Lanes>(gate: S) -> (S, S);
}

#[derive(Clone, Copy)]
struct Silu;

impl Gating for Silu {
    #[inline(always)]
    fn value<S: Lanes>(gate: S) -> S {
        gate.mul(sigmoid(gate))
    }
    /// silu'(g) = σ + g·σ·(1 − σ).
    #[inline(always)]
    fn value_and_slope<S: Lanes>(gate: S) -> (S, S) {
        let sigma = sigmoid(gate);
        let value = gate.mul(sigma);
        (value, value.mul_add(S::splat(1.0).sub(sigma), sigma))
    }
}

impl Gating for TanhGelu {
    #[inline(always)]
    fn value<S: Lanes>(gate: S) -> S {
        <Self as Unary>::value(gate)
    }
    #[inline(always)]
    fn value_and_slope<S: Lanes>(gate: S) -> (S, S) {
        (<Self as Unary>::value(gate), Self::derivative(gate))
    }
}

impl Gating for ErfGelu {
    #[inline(always)]
    fn value<S: Lanes>(gate: S) -> S {
        <Self as Unary>::value(gate)
    }
    #[inline(always)]
    fn value_and_slope<S: Lanes>(gate: S) -> (S, S) {
        (<Self as Unary>::value(gate), Self::derivative(gate))
    }
}

struct GatedRow<'a, G> {
    gating: G,
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl<G: Gating> Kernel for GatedRow<'_, G> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let _ = self.gating;
        let (gate, gate_rest) = self.gate.as_chunks::<LANES>();
        let (up, up_rest) = self.up.as_chunks::<LANES>();
        let (y, y_rest) = self.y.as_chunks_mut::<LANES>();
        for ((gate, up), y) in gate.iter().zip(up).zip(y) {
            G::value(S::load(gate)).mul(S::load(up)).store(y);
        }
        if !gate_rest.is_empty() {
            let y = G::value(S::load_partial(gate_rest)).mul(S::load_partial(up_rest));
            y.store_partial(y_rest);
        }
    }
}

/// Overwrites the gradient of `[gate | up]`.
pub(crate) fn gated_backward(
    gate: Gate,
    gate_up: &Buffer,
    inner: usize,
    dy: &Buffer,
    dgate_up: &mut Buffer,
) {
    match gate {
        Gate::Silu => gated_by_backward(Silu, gate_up, inner, dy, dgate_up),
        Gate::Gelu(Gelu::Tanh) => gated_by_backward(TanhGelu, gate_up, inner, dy, dgate_up),
        Gate::Gelu(Gelu::Erf) => gated_by_backward(ErfGelu, gate_up, inner, dy, dgate_up),
    }
}

fn gated_by_backward<G: Gating>(
    gating: G,
    gate_up: &Buffer,
    inner: usize,
    dy: &Buffer,
    dgate_up: &mut Buffer,
) {
    assert_eq!(gate_up.len(), 2 * dy.len(), "gate_up: twice as long as dy");
    assert_eq!(gate_up.len(), dgate_up.len(), "gate_up and its gradient: one length");
    let rows = dy.len() / inner.max(1);
    assert_eq!(dy.len(), rows * inner, "dy: whole rows");
    let dgate_up = SharedElements::new(dgate_up);
    for_chunks(rows, 2 * inner, |range| {
        for row in range {
            let (gate, up) = gate_up[row * 2 * inner..][..2 * inner].split_at(inner);
            let dy = &dy[row * inner..][..inner];
            // SAFETY: the ranges partition the rows.
            let (dgate, dup) =
                unsafe { dgate_up.slice(row * 2 * inner, 2 * inner) }.split_at_mut(inner);
            dispatch(GatedRowBackward { gating, gate, up, dy, dgate, dup });
        }
    });
}

struct GatedRowBackward<'a, G> {
    gating: G,
    gate: &'a [f32],
    up: &'a [f32],
    dy: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
}

/// The gradients of gate and up of a(gate)·up.
#[inline(always)]
fn gated_derivatives<G: Gating, S: Lanes>(gate: S, up: S, dy: S) -> (S, S) {
    let (value, slope) = G::value_and_slope(gate);
    (slope.mul(up).mul(dy), value.mul(dy))
}

impl<G: Gating> Kernel for GatedRowBackward<'_, G> {
    type Output = ();
    #[inline(always)]
    fn run<S: Lanes>(self) {
        let _ = self.gating;
        let (gate, gate_rest) = self.gate.as_chunks::<LANES>();
        let (up, up_rest) = self.up.as_chunks::<LANES>();
        let (dy, dy_rest) = self.dy.as_chunks::<LANES>();
        let (dgate, dgate_rest) = self.dgate.as_chunks_mut::<LANES>();
        let (dup, dup_rest) = self.dup.as_chunks_mut::<LANES>();
        for (((gate, up), dy), (dgate, dup)) in
            gate.iter().zip(up).zip(dy).zip(dgate.iter_mut().zip(dup))
        {
            let (g, u) = gated_derivatives::<G, S>(S::load(gate), S::load(up), S::load(dy));
            g.store(dgate);
            u.store(dup);
        }
        if !gate_rest.is_empty() {
            let (gate, up) = (S::load_partial(gate_rest), S::load_partial(up_rest));
            let (g, u) = gated_derivatives::<G, S>(gate, up, S::load_partial(dy_rest));
            g.store_partial(dgate_rest);
            u.store_partial(dup_rest);
        }
    }
}
