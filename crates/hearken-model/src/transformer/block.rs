//! One block forward: attention and feed-forward part, each between its norms, added to the residual stream.

use std::sync::Arc;

use hearken_tensor::Device;
use hearken_tensor::device::{
    Activation, Attention, Cache, CacheMut, Precision, Rotation, Rows, View, ViewMut,
};

use super::adapted::AdaptedRows;
use super::model::Model;
use super::pass::{
    AttentionActivations, BlockActivations, HeadNormTape, InputTape, MlpActivations, NormTape,
};
use super::rotary_table::Tables;
use crate::architecture::{LayerPlan, LinearParams, MlpParams, NormParams, PartNorms, QkvParams};
use crate::config::{Mlp, QueryKeyNorm, Residual, Rotated};

/// What queries are compared with.
#[derive(Debug)]
pub(crate) enum AttendOver<'a, D: Device> {
    /// The rows of the batch itself.
    Forest(&'a D::ForestPlan),
    /// The sequences of a cache, to which the rows' keys and values are written first.
    Cache { cache: CacheMut<'a, D::Buffer>, rows: &'a D::CachePlan },
}

/// Where the rows of a pass are, on the device.
#[derive(Debug)]
pub(crate) struct Geometry<D: Device> {
    pub(crate) positions: D::Ids,
    pub(crate) rotary: Option<Arc<Tables<D::Buffer>>>,
    /// Where some layers are rotated by something else.
    pub(crate) local_rotary: Option<Arc<Tables<D::Buffer>>>,
}

/// What a part of a block reads, and what of it the backward pass needs.
type PartInput<D> = (<D as Device>::Buffer, Option<InputTape<D>>);

/// One block of a model.
pub(crate) struct Block<'a, D: Device> {
    pub(crate) model: &'a Model<D>,
    pub(crate) plan: &'a LayerPlan,
    pub(crate) layer: usize,
    pub(crate) rows: usize,
    /// The keys of the rows, where adapters drop elements of what they read.
    pub(crate) dropout: Option<&'a D::Ids>,
    /// Rows that go through adapters which the model does not have itself.
    pub(crate) adapted: &'a [AdaptedRows<'a, D>],
}

impl<D: Device> Block<'_, D> {
    /// Replaces the residual stream `x[T, d]` by the block's output; returns what the backward
    /// pass needs if `keep`.
    pub(crate) fn forward(
        &self,
        x: &mut D::Buffer,
        geometry: &Geometry<D>,
        over: AttendOver<'_, D>,
        keep: bool,
    ) -> Option<BlockActivations<D>> {
        let plan = self.plan;
        match self.model.config.residual {
            Residual::Serial => {
                let (attention, first) = self.part(x, plan.attention_norms, keep, |input, y| {
                    self.attention(input, y, geometry, over)
                });
                let (mlp, second) =
                    self.part(x, plan.mlp_norms, keep, |input, y| self.mlp(input, y));
                let outputs = [first, second];
                Some(BlockActivations { attention: attention?, mlp: mlp?, outputs })
            }
            Residual::Parallel => {
                let kept = self.kept(x, keep);
                let for_attention = self.input(x, plan.attention_norms.before, kept.clone());
                let for_mlp = self.input(x, plan.mlp_norms.before, kept);
                let attention = self.attention(for_attention, x, geometry, over);
                let mlp = self.mlp(for_mlp, x);
                Some(BlockActivations { attention: attention?, mlp: mlp?, outputs: [None, None] })
            }
        }
    }

    pub(super) fn view<'b>(&self, buffer: &'b D::Buffer, width: usize) -> View<'b, D::Buffer> {
        View::new(buffer, Rows::dense(self.rows, width))
    }

    pub(super) fn view_mut<'b>(
        &self,
        buffer: &'b mut D::Buffer,
        width: usize,
    ) -> ViewMut<'b, D::Buffer> {
        ViewMut::new(buffer, Rows::dense(self.rows, width))
    }

    pub(super) fn scratch(&self, width: usize) -> D::Buffer {
        self.model.device.scratch(self.rows * width)
    }

    /// A copy of the residual stream for the backward pass.
    fn kept(&self, x: &D::Buffer, keep: bool) -> Option<Arc<D::Buffer>> {
        keep.then(|| {
            let mut input = self.scratch(self.model.config.width);
            self.model.device.copy(x, &mut input);
            Arc::new(input)
        })
    }

    /// What a part of the block reads: the stream, normed where the family does so.
    fn input(
        &self,
        x: &D::Buffer,
        norm: Option<NormParams>,
        kept: Option<Arc<D::Buffer>>,
    ) -> PartInput<D> {
        let width = self.model.config.width;
        let mut read = self.scratch(width);
        let Some(params) = norm else {
            self.model.device.copy(x, &mut read);
            return (read, kept.map(InputTape::Plain));
        };
        let statistics = self.model.norm(self.view(x, width), params, &mut read);
        let tape = kept.map(|input| InputTape::Normed(params, NormTape { input, statistics }));
        (read, tape)
    }

    /// Adds to the residual stream what a part of the block makes of it, between its norms.
    fn part<T>(
        &self,
        x: &mut D::Buffer,
        norms: PartNorms,
        keep: bool,
        part: impl FnOnce(PartInput<D>, &mut D::Buffer) -> Option<T>,
    ) -> (Option<T>, Option<NormTape<D>>) {
        let (model, device) = (self.model, &self.model.device);
        let (width, scale) = (model.config.width, model.config.residual_scale);
        let input = self.input(x, norms.before, self.kept(x, keep));
        if norms.after.is_none() && scale.is_none() {
            return (part(input, x), None);
        }
        let scale = scale.unwrap_or(1.0);
        let mut output = self.scratch(width);
        device.fill(&mut output, 0.0);
        let left = part(input, &mut output);
        let Some(params) = norms.after else {
            device.add_scaled(&output, scale, x);
            return (left, None);
        };
        let mut normed = self.scratch(width);
        let statistics = model.norm(self.view(&output, width), params, &mut normed);
        device.add_scaled(&normed, scale, x);
        (left, keep.then(|| NormTape { input: Arc::new(output), statistics }))
    }

    /// What a part of the block read, from what was kept.
    pub(super) fn read_again(&self, tape: &InputTape<D>) -> D::Buffer {
        match tape {
            InputTape::Normed(params, tape) => self.input(&tape.input, Some(*params), None).0,
            InputTape::Plain(input) => self.input(input, None, None).0,
        }
    }

    /// Of queries and of keys, how many parts of a row are normalized by themselves.
    pub(super) fn normed_parts(&self) -> [usize; 2] {
        let config = &self.model.config;
        match config.query_key_norm {
            QueryKeyNorm::AllHeads => [1, 1],
            QueryKeyNorm::None | QueryKeyNorm::EachHead => [config.heads, config.kv_heads],
        }
    }

    fn attention(
        &self,
        (read, input): PartInput<D>,
        x: &mut D::Buffer,
        geometry: &Geometry<D>,
        over: AttendOver<'_, D>,
    ) -> Option<AttentionActivations<D>> {
        let (model, device, config) = (self.model, &self.model.device, &self.model.config);
        let (qkv, head_norms) = self.queries_keys_values(&read, geometry);
        let layout = model.plan.qkv_layout;
        let parameters = self.attention_parameters();
        let mut attended = self.scratch(config.query_width());
        let mut log_sum_exp = self.scratch(config.heads);
        match over {
            AttendOver::Forest(forest) => {
                let out = &mut attended;
                device.attention(&qkv, layout, forest, parameters, out, &mut log_sum_exp);
            }
            AttendOver::Cache { cache, rows } => {
                let CacheMut { keys, values, page_len, precision } = cache;
                let cache =
                    CacheMut { keys: &mut *keys, values: &mut *values, page_len, precision };
                device.cache_write(&qkv, layout, rows, cache);
                let cache = Cache { keys, values, page_len, precision };
                device.attention_cached(&qkv, layout, cache, rows, parameters, &mut attended);
            }
        }
        let width = config.query_width();
        let (attended_rows, x) = (self.view(&attended, width), self.view_mut(x, config.width));
        self.linear(attended_rows, self.plan.attention_output, x);
        Some(AttentionActivations { input: input?, head_norms, qkv, attended, log_sum_exp })
    }

    /// What the layer's queries and keys are rotated by, if they are.
    pub(super) fn tables<'g>(&self, geometry: &'g Geometry<D>) -> Option<&'g Tables<D::Buffer>> {
        match self.model.config.rotated[self.layer] {
            Rotated::Not => None,
            Rotated::Shared => geometry.rotary.as_deref(),
            Rotated::Local => geometry.local_rotary.as_deref(),
        }
    }

    pub(super) fn attention_parameters(&self) -> Attention {
        let config = &self.model.config;
        Attention {
            scale: config.attention_scales[self.layer],
            window: config.windows[self.layer],
            softcap: config.attention_softcap,
        }
    }

    /// Queries, keys and values, normalized where the family does so, and rotated.
    fn queries_keys_values(
        &self,
        read: &D::Buffer,
        geometry: &Geometry<D>,
    ) -> (D::Buffer, Option<HeadNormTape<D>>) {
        let (model, device) = (self.model, &self.model.device);
        let layout = model.plan.qkv_layout;
        let mut qkv = self.scratch(layout.row_stride);
        let rows = self.view(read, model.config.width);
        self.linear_parts(rows, &self.qkv_parts(), &mut qkv);
        let head_norms = self.plan.query_key_norm.is_some().then(|| self.norm_heads(&mut qkv));
        if let Some(tables) = self.tables(geometry) {
            for heads in [layout.query, layout.key] {
                let (positions, rotary) = (&geometry.positions, tables.rotary());
                device.rotary(&mut qkv, layout, heads, positions, rotary, Rotation::Forward);
            }
        }
        if model.precision == Precision::Bf16 {
            // As the cache of sampling keeps them, so that sampling and training see the same.
            for heads in [layout.key, layout.value] {
                device.round_heads(&mut qkv, layout, heads);
            }
        }
        (qkv, head_norms)
    }

    /// The projections and the columns of the fused buffer that each fills.
    pub(super) fn qkv_parts(&self) -> Vec<(LinearParams, Rows)> {
        let whole = Rows::dense(self.rows, self.model.plan.qkv_layout.row_stride);
        match self.plan.qkv {
            QkvParams::Fused(fused) => vec![(fused, whole)],
            QkvParams::Separate(parts) => parts
                .into_iter()
                .scan(0, |start, part| {
                    let columns = whole.columns(*start, part.outputs);
                    *start += part.outputs;
                    Some((part, columns))
                })
                .collect(),
        }
    }

    /// The columns of queries and of keys in the fused buffer, for families that norm heads.
    pub(super) fn query_key_columns(&self) -> [Rows; 2] {
        let config = &self.model.config;
        let whole = Rows::dense(self.rows, self.model.plan.qkv_layout.row_stride);
        let query = config.query_width();
        [whole.columns(0, query), whole.columns(query, config.key_width())]
    }

    fn norm_heads(&self, qkv: &mut D::Buffer) -> HeadNormTape<D> {
        let (device, config) = (&self.model.device, &self.model.config);
        let (query, key) = self.plan.query_key_norm.expect("the family norms heads");
        let mut projected = self.scratch(self.model.plan.qkv_layout.row_stride);
        device.copy(qkv, &mut projected);
        let mut norm = |rows: Rows, heads: usize, weight| {
            let mut rstd = self.scratch(heads);
            let (x, y) = (View::new(&projected, rows), ViewMut::new(qkv, rows));
            let factors = self.model.norm_factors(weight);
            device.rms_norm(x, heads, factors.values(), config.norm_eps, y, &mut rstd);
            rstd
        };
        let [queries, keys] = self.query_key_columns();
        let [query_parts, key_parts] = self.normed_parts();
        let query_rstd = norm(queries, query_parts, query);
        let key_rstd = norm(keys, key_parts, key);
        HeadNormTape { projected, query_rstd, key_rstd }
    }

    fn mlp(&self, (read, input): PartInput<D>, x: &mut D::Buffer) -> Option<MlpActivations<D>> {
        let config = &self.model.config;
        let mut before = self.scratch(self.mlp_width());
        self.linear_parts(self.view(&read, config.width), &self.mlp_parts(), &mut before);
        let after = self.activated(&before);
        let (rows, x) = (self.view(&after, config.inner), self.view_mut(x, config.width));
        self.linear(rows, self.mlp_down(), x);
        Some(MlpActivations { input: input?, before })
    }

    /// The activation of the feed-forward part, `[T, inner]`.
    pub(super) fn activated(&self, before: &D::Buffer) -> D::Buffer {
        let (device, config) = (&self.model.device, &self.model.config);
        let mut after = self.scratch(config.inner);
        match config.mlp {
            Mlp::Gelu(gelu) => device.activation(Activation::Gelu(gelu), before, &mut after),
            Mlp::Gated(gate) => device.gated(gate, before, config.inner, &mut after),
        }
        after
    }

    /// The width of the feed-forward part before its activation.
    pub(super) fn mlp_width(&self) -> usize {
        match self.plan.mlp {
            MlpParams::Plain { up, .. } => up.outputs,
            MlpParams::Gated { gate, up, .. } => gate.outputs + up.outputs,
            MlpParams::GatedFused { gate_up, .. } => gate_up.outputs,
        }
    }

    /// The projections before the activation and the columns that each fills.
    pub(super) fn mlp_parts(&self) -> Vec<(LinearParams, Rows)> {
        let whole = Rows::dense(self.rows, self.mlp_width());
        match self.plan.mlp {
            MlpParams::Plain { up: one, .. } | MlpParams::GatedFused { gate_up: one, .. } => {
                vec![(one, whole)]
            }
            MlpParams::Gated { gate, up, .. } => vec![
                (gate, whole.columns(0, gate.outputs)),
                (up, whole.columns(gate.outputs, up.outputs)),
            ],
        }
    }

    pub(super) fn mlp_down(&self) -> LinearParams {
        match self.plan.mlp {
            MlpParams::Plain { down, .. }
            | MlpParams::Gated { down, .. }
            | MlpParams::GatedFused { down, .. } => down,
        }
    }
}
