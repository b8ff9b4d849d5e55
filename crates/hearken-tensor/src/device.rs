//! The seam between models and machines: what a device must be able to compute.
//!
//! Dimensions: T rows of a batch, d model width, H query heads, G key/value heads, D head width,
//! V vocabulary. All matrices are row-major f32 unless a [`Precision`] says what products read.
//!
//! Conventions of every kernel: gradients of *parameters* are added to what the buffer holds;
//! outputs follow [`Write`] where the kernel takes one and are overwritten otherwise. A mismatch of
//! lengths is a bug of the caller and panics. What a pass reads again and again (token ids, positions, the
//! forest, the pages of a cache) goes to the device once, as a handle. Everything but [`Device::read`],
//! [`Device::download`] and [`Device::wait`] may be put in a queue and done later.

use std::borrow::Cow;
use std::fmt::{self, Debug};

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
pub enum WeightLayout {
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
    pub layout: WeightLayout,
    /// What products with it, forward and backward, read.
    pub precision: Precision,
}

/// What of a weight in eight bits shares a scale: each value is a whole number from −127 to 127 times it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8Scales {
    /// All inputs of one output.
    PerOutput,
    /// [`Int8Scales::GROUP`] consecutive inputs of one output.
    PerGroup,
}

impl Int8Scales {
    /// Inputs of a group.
    pub const GROUP: usize = 64;

    /// How many consecutive inputs of an output share a scale.
    pub fn group(self, inputs: usize) -> usize {
        match self {
            Self::PerOutput => inputs.max(1),
            Self::PerGroup => Self::GROUP,
        }
    }

    /// Bytes of a weight's codes and scales.
    pub fn bytes(self, inputs: usize, outputs: usize) -> usize {
        inputs * outputs + 4 * outputs * inputs.div_ceil(self.group(inputs))
    }
}

/// A weight matrix with the copies that its device derived from it: B and P are the device's
/// [`Device::Buffer`] and [`Device::Prepared`].
#[derive(Debug)]
pub struct Weight<'a, B, P> {
    /// The f32 master values.
    pub values: &'a B,
    /// Derived copies, made at first use.
    pub prepared: &'a P,
    /// Dimensions.
    pub shape: WeightShape,
}

impl<B, P> Clone for Weight<'_, B, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B, P> Copy for Weight<'_, B, P> {}

/// One of several products of the same rows; see [`Device::linear_parts`].
#[derive(Debug)]
pub struct LinearPart<'a, B, P> {
    /// The weight.
    pub weight: Weight<'a, B, P>,
    /// Added to each row of the product.
    pub bias: Option<&'a B>,
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
    /// Bounds the scaled products s smoothly before the softmax, by cap·tanh(s/cap), if there is one.
    pub softcap: Option<f32>,
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

/// Functions of one number that stand between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// A Gaussian error linear unit.
    Gelu(Gelu),
    /// The hyperbolic tangent.
    Tanh,
    /// max(0, x), with derivative 0 at 0.
    Relu,
}

/// What a gated feed-forward part makes of its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// x·σ(x).
    Silu,
    /// A Gaussian error linear unit.
    Gelu(Gelu),
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

/// Where dropout happens, and how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The number of the layer, so that layers drop different elements of a row.
    pub site: u32,
    /// The probability with which an element is dropped, from 0 to below 1.
    pub rate: f32,
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
    /// Bounds the products s with the head's weight smoothly, by cap·tanh(s/cap), before anything is made
    /// of them. What a model is made with: a pass through one puts its own here.
    pub softcap: Option<f32>,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self { temperature: 1.0, chunk_bytes: 16 << 20, statistics: false, softcap: None }
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
/// position lie in [`Device::head_words`] elements of a buffer is the device's business.
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

/// The device has no room for a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no room for a buffer of {} MiB", self.bytes.div_ceil(1 << 20))
    }
}

impl std::error::Error for OutOfMemory {}

macro_rules! trait_of {
    ($($(#[$meta:meta])* $kind:ident fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?;)*) => {
        /// What a machine must be able to compute for models to run on it.
        pub trait Device: Clone + Debug + Send + Sync + 'static {
            /// A vector of f32 on the device.
            type Buffer: Debug + Send + Sync;
            /// What the device derives from a weight's master values to multiply faster, made when first
            /// used: packed, rounded to bfloat16, or nothing. Holds nothing when new.
            type Prepared: Debug + Default + Send + Sync;
            /// Rows of a table, tokens or positions, one for each row of a batch.
            type Ids: Debug + Send + Sync;
            /// What attention over a forest needs to know of it.
            type ForestPlan: Debug + Send + Sync;
            /// Where the rows of a batch are among the sequences of a cache.
            type CachePlan: Debug + Send + Sync;
            /// A result that may still be computed; see [`Device::wait`].
            type Deferred<T: Debug + Send>: Debug + Send;

            /// The result, once it is there.
            fn wait<T: Debug + Send>(&self, deferred: Self::Deferred<T>) -> T;
            /// All elements, where the host can read them: borrowed if they lie there.
            fn read<'a>(&self, buffer: &'a Self::Buffer) -> Cow<'a, [f32]>;
            $($(#[$meta])* fn $name(&self, $($arg: $type),*) $(-> $out)?;)*
        }
    };
}

device_operations!(trait_of);
