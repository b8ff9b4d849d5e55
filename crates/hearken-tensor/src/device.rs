//! The seam between models and machines: what a device must be able to compute.
//!
//! Dimensions: T rows of a batch, d model width, H query heads, G key/value heads, D head width,
//! V vocabulary. All matrices are row-major f32 unless a [`Precision`] says what products read.
//!
//! Conventions of every kernel: gradients of *parameters* are added to what the buffer holds;
//! outputs follow [`Write`] where the kernel takes one and are overwritten otherwise. A mismatch of
//! lengths is a bug of the caller and panics.

use crate::forest::Forest;
use std::borrow::Cow;

/// What matrix products read. Sums are f32 either way, and so are the master weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Products of f32 values.
    #[default]
    F32,
    /// Both factors rounded to bfloat16. Keys and values are rounded too, as the cache of sampling keeps
    /// them.
    Bf16,
}

/// Whether an output is replaced or added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The output's previous contents do not matter.
    Overwrite,
    /// The result is added to the output.
    Add,
}

/// The rows of a matrix inside a buffer: row r is `buffer[offset + r·stride ..][.. width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Number of rows.
    pub rows: usize,
    /// Elements per row.
    pub width: usize,
    /// Where row 0 starts.
    pub offset: usize,
    /// Elements from one row's start to the next's.
    pub stride: usize,
}

impl Rows {
    /// A matrix that fills its buffer.
    pub fn dense(rows: usize, width: usize) -> Self {
        Self { rows, width, offset: 0, stride: width }
    }

    /// The columns `start .. start + width` of the same rows.
    ///
    /// # Panics
    /// If the columns end beyond the stride.
    #[must_use]
    pub fn columns(self, start: usize, width: usize) -> Self {
        assert!(start + width <= self.stride, "columns {start}+{width} of {}", self.stride);
        Self { width, offset: self.offset + start, ..self }
    }

    /// The elements a buffer must have for these rows.
    pub fn end(self) -> usize {
        if self.rows == 0 { 0 } else { self.offset + (self.rows - 1) * self.stride + self.width }
    }
}

/// A matrix to read.
#[derive(Debug)]
pub struct View<'a, B> {
    /// Where the elements are.
    pub buffer: &'a B,
    /// Which of them.
    pub rows: Rows,
}

impl<B> Clone for View<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for View<'_, B> {}

impl<'a, B> View<'a, B> {
    /// A view of `rows` of `buffer`.
    pub fn new(buffer: &'a B, rows: Rows) -> Self {
        Self { buffer, rows }
    }
}

/// A matrix to write.
#[derive(Debug)]
pub struct ViewMut<'a, B> {
    /// Where the elements are.
    pub buffer: &'a mut B,
    /// Which of them.
    pub rows: Rows,
}

impl<'a, B> ViewMut<'a, B> {
    /// A view of `rows` of `buffer`.
    pub fn new(buffer: &'a mut B, rows: Rows) -> Self {
        Self { buffer, rows }
    }
}

/// How a weight matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[outputs, inputs]`, as PyTorch's `Linear`: y = x·Wᵀ.
    OutputsByInputs,
    /// `[inputs, outputs]`, as GPT-2's `Conv1D`: y = x·W.
    InputsByOutputs,
}

/// The dimensions of a weight matrix and how products read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightShape {
    /// Width of the input rows.
    pub inputs: usize,
    /// Width of the output rows.
    pub outputs: usize,
    /// Order in memory.
    pub layout: Layout,
    /// What products with it, forward and backward, read.
    pub precision: Precision,
}

/// A weight matrix with the copies that its device derived from it.
#[derive(Debug)]
pub struct Weight<'a, D: Device> {
    /// The f32 master values.
    pub values: &'a D::Buffer,
    /// Derived copies, made at first use; see [`Device::Prepared`].
    pub prepared: &'a D::Prepared,
    /// Dimensions.
    pub shape: WeightShape,
}

#[expect(clippy::expl_impl_clone_on_copy, reason = "a derive would ask D to be Clone and Copy")]
impl<D: Device> Clone for Weight<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Device> Copy for Weight<'_, D> {}

/// One of several products of the same rows; see [`Device::linear_parts`].
#[derive(Debug)]
pub struct LinearPart<'a, D: Device> {
    /// The weight.
    pub weight: Weight<'a, D>,
    /// Added to each row of the product.
    pub bias: Option<&'a D::Buffer>,
    /// Where the product goes; parts have no element in common.
    pub y: Rows,
}

/// The heads of one of query, key and value inside the rows of a fused buffer:
/// element i of head h in row t is `buffer[t·row_stride + offset + h·head_stride + i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Where head 0 starts within a row.
    pub offset: usize,
    /// Elements from one head's start to the next's.
    pub head_stride: usize,
    /// Number of heads.
    pub heads: usize,
}

/// Where query, key and value lie in a fused buffer of T rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QkvLayout {
    /// Elements per row of the buffer.
    pub row_stride: usize,
    /// D, the width of a head.
    pub head_dim: usize,
    /// H query heads.
    pub query: Heads,
    /// G key heads; query head h reads key head h·G/H.
    pub key: Heads,
    /// G value heads.
    pub value: Heads,
}

/// Parameters of attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Multiplies the products of queries and keys; usually 1/√D.
    pub scale: f32,
    /// A row sees at most this many positions along its path, itself included.
    pub window: Option<usize>,
}

/// Cosines and sines for rotary position embeddings, `[positions, rotary_dim/2]` each.
#[derive(Debug)]
pub struct Rotary<'a, B> {
    /// cos(position · frequency), times the attention factor if the scaling has one.
    pub cos: &'a B,
    /// sin(position · frequency), likewise.
    pub sin: &'a B,
    /// How many leading elements of a head are rotated; pairs are (i, i + `rotary_dim`/2).
    pub rotary_dim: usize,
}

impl<B> Clone for Rotary<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Rotary<'_, B> {}

/// Which way to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// By the position's angle.
    Forward,
    /// By its negative: the transpose, which carries gradients back.
    Backward,
}

/// The forms of the Gaussian error linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// ½x(1 + tanh(√(2/π)(x + 0.044715x³))): `gelu_new`, `gelu_pytorch_tanh`.
    Tanh,
    /// ½x(1 + erf(x/√2)): `gelu`.
    Erf,
}

/// One thing to predict: the token that follows a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Row of the head's input. Rows may repeat; logits are computed once per distinct row, so the
    /// rows given to a head are 0..n with every one used.
    pub row: u32,
    /// The token whose log-probability is wanted.
    pub token: u32,
}

/// Derivatives of the loss with respect to what the head gives for one prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PredictionGrad {
    /// ∂loss/∂logprob.
    pub logprob: f32,
    /// ∂loss/∂entropy of the row's distribution.
    pub entropy: f32,
}

/// How the log-probability head computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadOptions {
    /// Logits are divided by it before the softmax.
    pub temperature: f32,
    /// The most bytes of logits that may exist at once.
    pub chunk_bytes: usize,
    /// Whether entropy, Σp² and the argmax are wanted too.
    pub statistics: bool,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self { temperature: 1.0, chunk_bytes: 16 << 20, statistics: false }
    }
}

impl HeadOptions {
    /// Rows of hidden states whose logits exist at once.
    pub fn chunk_rows(&self, vocabulary: usize) -> usize {
        (self.chunk_bytes / (size_of::<f32>() * vocabulary)).max(1)
    }
}

/// What the log-probability head gives, one entry per prediction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadOutput {
    /// ln p(token), in nats.
    pub logprobs: Vec<f32>,
    /// Entropy of the row's distribution in nats; empty unless statistics were asked for.
    pub entropy: Vec<f32>,
    /// Σ p² of the row's distribution; empty unless statistics were asked for.
    pub sum_squares: Vec<f32>,
    /// Whether the token is the row's most probable; empty unless statistics were asked for.
    pub argmax_hit: Vec<bool>,
}

/// One step of `AdamW` for one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: the parameter is first multiplied by 1 − `lr·weight_decay`.
    pub weight_decay: f64,
    /// Count of steps, this one included, from 1.
    pub step: u64,
    /// The gradient is multiplied by it first (clipping).
    pub grad_scale: f64,
}

/// One row of queries against a key/value cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedRow<'a> {
    /// Pages of the cache that hold the row's sequence, in order of position.
    pub pages: &'a [u32],
    /// The row's position; it sees the positions 0 ..= position, less what a window hides.
    pub position: u32,
}

/// Keys and values of one layer for many sequences, in pages of equal length. A page holds one key
/// head after the other, and of each head one position after the other; how the elements of a
/// position lie in [`head_words`] elements of a buffer is the device's business.
#[derive(Debug)]
pub struct Cache<'a, B> {
    /// Keys after rotation.
    pub keys: &'a B,
    /// Values.
    pub values: &'a B,
    /// Positions per page.
    pub page_len: usize,
    /// How keys and values are kept.
    pub precision: Precision,
}

/// As [`Cache`], to write to.
#[derive(Debug)]
pub struct CacheMut<'a, B> {
    /// Keys after rotation.
    pub keys: &'a mut B,
    /// Values.
    pub values: &'a mut B,
    /// Positions per page.
    pub page_len: usize,
    /// How keys and values are kept.
    pub precision: Precision,
}

/// Elements of a buffer that one key or value of one head takes in a cache: one for each of its
/// elements, or for two of them that are rounded to bfloat16.
pub fn head_words(head_dim: usize, precision: Precision) -> usize {
    match precision {
        Precision::F32 => head_dim,
        Precision::Bf16 => head_dim.div_ceil(2),
    }
}

/// What a machine must be able to compute for models to run on it.
pub trait Device: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// A vector of f32 on the device.
    type Buffer: std::fmt::Debug + Send + Sync;
    /// What the device derives from a weight's master values to multiply faster, made when first
    /// used: packed, rounded to bfloat16, or nothing. Holds nothing when new.
    type Prepared: std::fmt::Debug + Default + Send + Sync;

    // ---- buffers ------------------------------------------------------------------------------

    /// A buffer of zeros.
    fn zeros(&self, len: usize) -> Self::Buffer;
    /// A buffer with unspecified (but initialized) contents, reused from dropped ones if it can be.
    fn scratch(&self, len: usize) -> Self::Buffer;
    /// As [`Device::scratch`], for what is kept long and read often, such as the keys and values of
    /// sampling: where memory has pages of several sizes, it lies in large ones.
    fn resident(&self, len: usize) -> Self::Buffer;
    /// Number of elements.
    fn len(&self, buffer: &Self::Buffer) -> usize;
    /// A new buffer with these values.
    fn upload(&self, values: &[f32]) -> Self::Buffer;
    /// The elements from `offset` on, as many as `out` takes.
    fn download(&self, buffer: &Self::Buffer, offset: usize, out: &mut [f32]);
    /// All elements, where the host can read them: borrowed if they lie there.
    fn read<'a>(&self, buffer: &'a Self::Buffer) -> Cow<'a, [f32]>;
    /// Replaces the elements from `offset` on.
    fn write(&self, buffer: &mut Self::Buffer, offset: usize, values: &[f32]);
    /// Copies all of `from` over all of `to`.
    fn copy(&self, from: &Self::Buffer, to: &mut Self::Buffer);
    /// Sets every element.
    fn fill(&self, buffer: &mut Self::Buffer, value: f32);
    /// `to += factor · from`.
    fn add_scaled(&self, from: &Self::Buffer, factor: f32, to: &mut Self::Buffer);

    // ---- rows ---------------------------------------------------------------------------------

    /// `out[i] = table[ids[i]]` for rows of a dense table of `out.rows.width` columns.
    fn gather_rows(
        &self,
        table: &Self::Buffer,
        ids: &[u32],
        out: ViewMut<'_, Self::Buffer>,
        write: Write,
    );
    /// `table[ids[i]] += rows[i]`, in the order of i; ids may repeat.
    fn scatter_add_rows(&self, rows: View<'_, Self::Buffer>, ids: &[u32], table: &mut Self::Buffer);

    // ---- products -----------------------------------------------------------------------------

    /// Makes the copy of a weight that [`Device::linear`] reads, if it reads one; gives whether it
    /// does, and so leaves the master values alone from then on.
    fn prepare(&self, weight: Weight<'_, Self>) -> bool;
    /// y = x·Wᵀ (+ bias), `[T, inputs]` to `[T, outputs]`.
    fn linear(
        &self,
        x: View<'_, Self::Buffer>,
        weight: Weight<'_, Self>,
        bias: Option<&Self::Buffer>,
        y: ViewMut<'_, Self::Buffer>,
        write: Write,
    );
    /// [`Device::linear`] of the same rows for several weights, into parts of one buffer.
    fn linear_parts(
        &self,
        x: View<'_, Self::Buffer>,
        parts: &[LinearPart<'_, Self>],
        y: &mut Self::Buffer,
        write: Write,
    ) {
        for part in parts {
            self.linear(x, part.weight, part.bias, ViewMut::new(y, part.y), write);
        }
    }
    /// dx = dy·W, `[T, outputs]` to `[T, inputs]`.
    fn linear_backward_input(
        &self,
        dy: View<'_, Self::Buffer>,
        weight: Weight<'_, Self>,
        dx: ViewMut<'_, Self::Buffer>,
        write: Write,
    );
    /// dW += dyᵀ·x, in the weight's layout.
    fn linear_backward_weight(
        &self,
        dy: View<'_, Self::Buffer>,
        x: View<'_, Self::Buffer>,
        shape: WeightShape,
        dweight: &mut Self::Buffer,
    );
    /// dbias += the sum of the rows of dy.
    fn sum_rows(&self, dy: View<'_, Self::Buffer>, dbias: &mut Self::Buffer);

    // ---- norms --------------------------------------------------------------------------------

    /// y = x / √(mean(x²) + eps) · weight over each of `groups` equal parts of every row.
    ///
    /// `weight` has width/groups elements; `rstd[T·groups]` receives the reciprocal roots.
    fn rms_norm(
        &self,
        x: View<'_, Self::Buffer>,
        groups: usize,
        weight: &Self::Buffer,
        eps: f32,
        y: ViewMut<'_, Self::Buffer>,
        rstd: &mut Self::Buffer,
    );
    /// Adds or writes dx, and adds dweight if it is wanted.
    #[expect(clippy::too_many_arguments, reason = "x, its statistics and three gradients")]
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
    );
    /// y = (x − mean) / √(variance + eps) · weight + bias; `statistics[T·2]` receives mean and
    /// reciprocal root for each row.
    fn layer_norm(
        &self,
        x: View<'_, Self::Buffer>,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        eps: f32,
        y: ViewMut<'_, Self::Buffer>,
        statistics: &mut Self::Buffer,
    );
    /// Adds or writes dx, and adds (dweight, dbias) where they are wanted.
    #[expect(clippy::too_many_arguments, reason = "x, its statistics and four gradients")]
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
    );

    // ---- attention ----------------------------------------------------------------------------

    /// Rotates the heads of every row in place by its position.
    fn rotary(
        &self,
        buffer: &mut Self::Buffer,
        layout: QkvLayout,
        heads: Heads,
        positions: &[u32],
        rotary: Rotary<'_, Self::Buffer>,
        rotation: Rotation,
    );
    /// Softmax attention over a forest: `out[T, H·D]`, and `log_sum_exp[T, H]` of the scaled scores
    /// for the backward pass. No T × T matrix ever exists.
    fn attention(
        &self,
        qkv: &Self::Buffer,
        layout: QkvLayout,
        forest: &Forest,
        attention: Attention,
        out: &mut Self::Buffer,
        log_sum_exp: &mut Self::Buffer,
    );
    /// Overwrites the query, key and value parts of `dqkv` (same layout) with their gradients.
    #[expect(clippy::too_many_arguments, reason = "inputs, outputs and their gradients")]
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
    );
    /// Rounds the heads of every row in place to bfloat16, as a cache of that precision keeps them.
    fn round_heads(&self, buffer: &mut Self::Buffer, layout: QkvLayout, heads: Heads);
    /// Copies the keys and values of each row of `qkv` to `slots[row]` (= `page·page_len + offset`)
    /// of the cache, rounded if it keeps bfloat16.
    fn cache_write(
        &self,
        qkv: &Self::Buffer,
        layout: QkvLayout,
        slots: &[u32],
        cache: CacheMut<'_, Self::Buffer>,
    );
    /// Attention of each row of queries over its own sequence in the cache; `out[rows, H·D]`. What
    /// [`Device::attention`] gives for the same path, on the processor to the last bit, if keys and
    /// values have been rounded where the cache rounds them.
    fn attention_cached(
        &self,
        qkv: &Self::Buffer,
        layout: QkvLayout,
        cache: Cache<'_, Self::Buffer>,
        rows: &[CachedRow<'_>],
        attention: Attention,
        out: &mut Self::Buffer,
    );

    // ---- activations --------------------------------------------------------------------------

    /// y = gelu(x), element by element.
    fn gelu(&self, gelu: Gelu, x: &Self::Buffer, y: &mut Self::Buffer);
    /// dx = gelu'(x)·dy.
    fn gelu_backward(&self, gelu: Gelu, x: &Self::Buffer, dy: &Self::Buffer, dx: &mut Self::Buffer);
    /// y = silu(gate)·up for rows `[gate | up]` of 2·inner elements; y is `[T, inner]`.
    fn silu_gated(&self, gate_up: &Self::Buffer, inner: usize, y: &mut Self::Buffer);
    /// Overwrites the gradient of `[gate | up]`.
    fn silu_gated_backward(
        &self,
        gate_up: &Self::Buffer,
        inner: usize,
        dy: &Self::Buffer,
        dgate_up: &mut Self::Buffer,
    );

    // ---- the log-probability head -------------------------------------------------------------

    /// Log-probabilities of `predictions` from `hidden[n, d]` and the head's weight `[V, d]`. The
    /// logits of the first rows are left in `logits[k, V]`, if it is there: all rows, or whole chunks.
    fn logprob_head(
        &self,
        hidden: &Self::Buffer,
        weight: Weight<'_, Self>,
        predictions: &[Prediction],
        options: HeadOptions,
        logits: Option<&mut Self::Buffer>,
    ) -> HeadOutput;
    /// The same, with the backward pass in one go: overwrites `dhidden[n, d]`, adds to `dweight`.
    /// Logits that [`Device::logprob_head`] left are used up instead of being computed again, which
    /// changes no bit of the result.
    ///
    /// d logits(row) = Σⱼ [gⱼ·(onehotⱼ − p) − eⱼ·p·(ln p + entropy)] / temperature, over the row's
    /// predictions j with derivatives gⱼ (log-probability) and eⱼ (entropy).
    #[expect(clippy::too_many_arguments, reason = "inputs, gradients in and gradients out")]
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
    ) -> HeadOutput;

    // ---- the optimizer ------------------------------------------------------------------------

    /// Σx², in f64.
    fn sum_of_squares(&self, x: &Self::Buffer) -> f64;
    /// The index of the first element that is NaN or infinite.
    fn first_non_finite(&self, x: &Self::Buffer) -> Option<usize>;
    /// One `AdamW` step (Loshchilov and Hutter 2019, arXiv:1711.05101, with bias correction as in
    /// PyTorch) in place, in one pass over the four buffers.
    fn adamw(
        &self,
        step: AdamW,
        parameter: &mut Self::Buffer,
        grad: &Self::Buffer,
        first_moment: &mut Self::Buffer,
        second_moment: &mut Self::Buffer,
    );
}
