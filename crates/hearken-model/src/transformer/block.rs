//! One block forward: norm, attention, norm, feed-forward, added to the residual stream.

use std::sync::Arc;

use hearken_tensor::Device;
use hearken_tensor::device::{
    Activation, Attention, Cache, CacheMut, Precision, Rotation, Rows, View, ViewMut,
};

use super::model::Model;
use super::pass::{AttentionActivations, BlockActivations, HeadNormTape, MlpActivations, NormTape};
use super::rotary_table::Tables;
use crate::architecture::{LayerPlan, LinearParams, MlpParams, NormParams, QkvParams};
use crate::config::{Mlp, QueryKeyNorm, Residual};

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
}

/// One block of a model.
pub(crate) struct Block<'a, D: Device> {
    pub(crate) model: &'a Model<D>,
    pub(crate) plan: &'a LayerPlan,
    pub(crate) layer: usize,
    pub(crate) rows: usize,
    /// The keys of the rows, where adapters drop elements of what they read.
    pub(crate) dropout: Option<&'a D::Ids>,
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
        let (attention, mlp) = match self.model.config.residual {
            Residual::NormedOutputs => {
                let (attention, first) =
                    self.then_norm(x, plan.attention_norm, keep, |input, y| {
                        self.attention(input, y, geometry, over)
                    });
                let (mlp, second) =
                    self.then_norm(x, plan.mlp_norm, keep, |input, y| self.mlp(input, y));
                let outputs = Some([first?, second?]);
                return Some(BlockActivations { attention: attention?, mlp: mlp?, outputs });
            }
            Residual::Serial => {
                let normed = self.norm(x, self.plan.attention_norm, self.kept(x, keep));
                let attention = self.attention(normed, x, geometry, over);
                let normed = self.norm(x, self.plan.mlp_norm, self.kept(x, keep));
                (attention, self.mlp(normed, x))
            }
            Residual::Parallel => {
                let input = self.kept(x, keep);
                let for_attention = self.norm(x, self.plan.attention_norm, input.clone());
                let for_mlp = self.norm(x, self.plan.mlp_norm, input);
                (self.attention(for_attention, x, geometry, over), self.mlp(for_mlp, x))
            }
        };
        Some(BlockActivations { attention: attention?, mlp: mlp?, outputs: None })
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

    /// The normed stream, and the norm's tape if its input is kept.
    fn norm(
        &self,
        x: &D::Buffer,
        params: NormParams,
        input: Option<Arc<D::Buffer>>,
    ) -> (D::Buffer, Option<NormTape<D>>) {
        let width = self.model.config.width;
        let mut normed = self.scratch(width);
        let statistics = self.model.norm(self.view(x, width), params, &mut normed);
        (normed, input.map(|input| NormTape { input, statistics }))
    }

    /// Adds to the residual stream what a part of the block makes of it, normed.
    fn then_norm<T>(
        &self,
        x: &mut D::Buffer,
        params: NormParams,
        keep: bool,
        part: impl FnOnce((D::Buffer, Option<NormTape<D>>), &mut D::Buffer) -> Option<T>,
    ) -> (Option<T>, Option<NormTape<D>>) {
        let (model, device) = (self.model, &self.model.device);
        let width = model.config.width;
        let mut input = self.scratch(width);
        device.copy(x, &mut input);
        // The part reads the stream as it is: its tape has that, and no statistics.
        let tape =
            self.kept(x, keep).map(|input| NormTape { input, statistics: device.scratch(1) });
        let mut output = self.scratch(width);
        device.fill(&mut output, 0.0);
        let left = part((input, tape), &mut output);
        let mut normed = self.scratch(width);
        let statistics = model.norm(self.view(&output, width), params, &mut normed);
        device.add_scaled(&normed, 1.0, x);
        (left, keep.then(|| NormTape { input: Arc::new(output), statistics }))
    }

    /// What a part of the block read, from what was kept.
    pub(super) fn normed(&self, tape: &NormTape<D>, params: NormParams) -> D::Buffer {
        if self.model.config.residual == Residual::NormedOutputs {
            let mut input = self.scratch(self.model.config.width);
            self.model.device.copy(&tape.input, &mut input);
            return input;
        }
        self.norm(&tape.input, params, None).0
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
        (normed, norm): (D::Buffer, Option<NormTape<D>>),
        x: &mut D::Buffer,
        geometry: &Geometry<D>,
        over: AttendOver<'_, D>,
    ) -> Option<AttentionActivations<D>> {
        let (model, device, config) = (self.model, &self.model.device, &self.model.config);
        let (qkv, head_norms) = self.queries_keys_values(&normed, geometry);
        let layout = model.plan.qkv_layout;
        let parameters = Attention {
            scale: config.attention_scales[self.layer],
            window: config.windows[self.layer],
        };
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
        Some(AttentionActivations { norm: norm?, head_norms, qkv, attended, log_sum_exp })
    }

    /// What the layer's queries and keys are rotated by, if they are.
    pub(super) fn tables<'g>(&self, geometry: &'g Geometry<D>) -> Option<&'g Tables<D::Buffer>> {
        geometry.rotary.as_deref().filter(|_| self.model.config.rotated[self.layer])
    }

    /// Queries, keys and values, normalized where the family does so, and rotated.
    fn queries_keys_values(
        &self,
        normed: &D::Buffer,
        geometry: &Geometry<D>,
    ) -> (D::Buffer, Option<HeadNormTape<D>>) {
        let (model, device) = (self.model, &self.model.device);
        let layout = model.plan.qkv_layout;
        let mut qkv = self.scratch(layout.row_stride);
        let rows = self.view(normed, model.config.width);
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
            let weight = &self.model.param(weight).values;
            device.rms_norm(x, heads, weight, config.norm_eps, y, &mut rstd);
            rstd
        };
        let [queries, keys] = self.query_key_columns();
        let [query_parts, key_parts] = self.normed_parts();
        let query_rstd = norm(queries, query_parts, query);
        let key_rstd = norm(keys, key_parts, key);
        HeadNormTape { projected, query_rstd, key_rstd }
    }

    fn mlp(
        &self,
        (normed, norm): (D::Buffer, Option<NormTape<D>>),
        x: &mut D::Buffer,
    ) -> Option<MlpActivations<D>> {
        let config = &self.model.config;
        let mut before = self.scratch(self.mlp_width());
        self.linear_parts(self.view(&normed, config.width), &self.mlp_parts(), &mut before);
        let after = self.activated(&before);
        let (rows, x) = (self.view(&after, config.inner), self.view_mut(x, config.width));
        self.linear(rows, self.mlp_down(), x);
        Some(MlpActivations { norm: norm?, before })
    }

    /// The activation of the feed-forward part, `[T, inner]`.
    pub(super) fn activated(&self, before: &D::Buffer) -> D::Buffer {
        let (device, config) = (&self.model.device, &self.model.config);
        let mut after = self.scratch(config.inner);
        match config.mlp {
            Mlp::Gelu(gelu) => device.activation(Activation::Gelu(gelu), before, &mut after),
            Mlp::SiluGated => device.silu_gated(before, config.inner, &mut after),
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
