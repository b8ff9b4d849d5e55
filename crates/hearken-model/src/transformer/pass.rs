//! What a forward pass leaves behind.

use std::sync::Arc;

use hearken_tensor::Device;

use super::batch::Batch;
use super::block::Geometry;
use crate::architecture::NormParams;

/// What a forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: only heads can be read.
    Nothing,
    /// What the backward pass reads, less what it recovers in one pass over memory: the outputs of
    /// norms and activations.
    Activations,
    /// The input of each block; the backward pass computes the rest again. About a third more
    /// work for a fraction of the memory.
    BlockInputs,
}

/// The result of [`super::Model::forward`].
#[derive(Debug)]
pub struct Pass<D: Device> {
    pub(crate) batch: Batch,
    pub(crate) placed: Placed<D>,
    pub(crate) blocks: Vec<BlockTape<D>>,
    /// What the backward pass through the final norm needs.
    pub(crate) final_norm: Option<NormTape<D>>,
    /// The hidden state of every row after the final norm, `[T, d]`.
    pub(crate) hidden: D::Buffer,
    /// What reading log-probabilities left for the backward pass.
    pub(crate) logits: Option<KeptLogits<D>>,
}

/// A batch on the device: taken there once, read by every layer in both directions.
#[derive(Debug)]
pub(crate) struct Placed<D: Device> {
    pub(crate) tokens: D::Ids,
    pub(crate) geometry: Geometry<D>,
    pub(crate) forest: D::ForestPlan,
    /// The keys of the rows, in a training pass of a model that drops elements.
    pub(crate) dropout: Option<D::Ids>,
}

/// Logits that the backward pass need not compute again.
#[derive(Debug)]
pub(crate) struct KeptLogits<D: Device> {
    /// The rows of the batch that log-probabilities were read from.
    pub(crate) rows: Vec<u32>,
    /// Logits of the first of them, `[k, V]`.
    pub(crate) values: D::Buffer,
}

impl<D: Device> Pass<D> {
    /// The batch that was run.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }
}

/// The input of a norm and its statistics.
#[derive(Debug)]
pub(crate) struct NormTape<D: Device> {
    pub(crate) input: Arc<D::Buffer>,
    pub(crate) statistics: D::Buffer,
}

/// What a part of a block read of the stream: through a norm, or as it is.
#[derive(Debug)]
pub(crate) enum InputTape<D: Device> {
    Normed(NormParams, NormTape<D>),
    Plain(Arc<D::Buffer>),
}

/// What a block keeps.
#[derive(Debug)]
pub(crate) enum BlockTape<D: Device> {
    Input(D::Buffer),
    Full(Box<BlockActivations<D>>),
}

/// What a block's backward pass reads.
#[derive(Debug)]
pub(crate) struct BlockActivations<D: Device> {
    pub(crate) attention: AttentionActivations<D>,
    pub(crate) mlp: MlpActivations<D>,
    /// The norms of what attention and the feed-forward part gave, where there are any.
    pub(crate) outputs: [Option<NormTape<D>>; 2],
}

#[derive(Debug)]
pub(crate) struct AttentionActivations<D: Device> {
    /// What attention read: the block's input, and statistics where that is normed.
    pub(crate) input: InputTape<D>,
    /// For families that normalize heads: queries, keys and values as projected, and the
    /// reciprocal roots of queries and keys.
    pub(crate) head_norms: Option<HeadNormTape<D>>,
    /// Queries, keys and values as attention read them.
    pub(crate) qkv: D::Buffer,
    /// Attention's output, before its projection.
    pub(crate) attended: D::Buffer,
    pub(crate) log_sum_exp: D::Buffer,
}

#[derive(Debug)]
pub(crate) struct HeadNormTape<D: Device> {
    pub(crate) projected: D::Buffer,
    pub(crate) query_rstd: D::Buffer,
    pub(crate) key_rstd: D::Buffer,
}

#[derive(Debug)]
pub(crate) struct MlpActivations<D: Device> {
    /// What the part read: the stream, and statistics where that is normed.
    pub(crate) input: InputTape<D>,
    /// Before the activation: `[T, inner]`, or `[T, gate | up]`.
    pub(crate) before: D::Buffer,
}
