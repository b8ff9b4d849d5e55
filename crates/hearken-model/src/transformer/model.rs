//! The model: parameters on a device, and the passes through all of its blocks.

use std::sync::Arc;

use hearken_tensor::Device;
use hearken_tensor::device::{
    HeadOutput, Int8Scales, LinearPart, Precision, View, ViewMut, Weight, WeightShape, Write,
};
use hearken_tensor::device::{Prediction, Rows};

use super::adapter::Lora;
use super::batch::Batch;
use super::block::{AttendOver, Block, Geometry};
use super::heads::{LogitLoss, OutputGrads};
use super::masters::Masters;
use super::particles::Particles;
use super::pass::{BlockTape, Keep, NormTape, Pass, Placed};
use super::rotary_table::RotaryTable;
use crate::architecture::{Head, LinearParams, NormParams, Plan};
use crate::config::{ModelConfig, Norm, Positions};
use crate::params::{Gradients, Param, ParamId, ParamSpec, ParamStore};

/// A transformer with its weights.
#[derive(Debug)]
pub struct Model<D: Device> {
    pub(crate) device: D,
    pub(crate) config: ModelConfig,
    pub(crate) plan: Plan,
    pub(crate) params: ParamStore<D>,
    pub(crate) precision: Precision,
    pub(crate) head: Head,
    pub(crate) rotary: Option<RotaryTable<D::Buffer>>,
    pub(crate) local_rotary: Option<RotaryTable<D::Buffer>>,
    pub(crate) lora: Option<Arc<Lora>>,
    /// How the weights of blocks' linear maps are held in eight bits, if they are.
    pub(crate) int8: Option<Int8Scales>,
    /// Networks that say how sure a score is, if there are any.
    pub(super) particles: Option<Particles>,
}

/// What a norm multiplies by.
pub(super) enum NormFactors<'a, B> {
    /// Its weights.
    Stored(&'a B),
    /// 1 + its weights.
    Shifted(B),
}

impl<B> NormFactors<'_, B> {
    pub(super) fn values(&self) -> &B {
        match self {
            Self::Stored(values) => values,
            Self::Shifted(values) => values,
        }
    }
}

/// Tables of what layers are rotated by, as far as a model has them: the shared one, and that of layers with
/// windows.
fn rotary_tables<B>(config: &ModelConfig) -> [Option<RotaryTable<B>>; 2] {
    let shared = match &config.positions {
        Positions::Learned => None,
        Positions::Rotary(rotary) => Some(rotary),
    };
    [shared, config.local_rotary.as_ref()].map(|rotary| rotary.cloned().map(RotaryTable::new))
}

impl<D: Device> Model<D> {
    /// A model of which `next` gives the values of each parameter, in the order of the plan.
    pub(super) fn assemble<E>(
        device: D,
        config: ModelConfig,
        head: Head,
        precision: Precision,
        masters: Masters,
        mut next: impl FnMut(&ParamSpec) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let plan = Plan::new(&config, head);
        let [rotary, local_rotary] = rotary_tables(&config);
        let params = ParamStore::new(device.clone());
        let mut model = Self {
            device,
            config,
            plan,
            params,
            precision,
            head,
            rotary,
            local_rotary,
            lora: None,
            int8: masters.int8(),
            particles: None,
        };
        for index in 0..model.plan.params.len() {
            let spec = &model.plan.params[index];
            let values = next(spec)?;
            let is_trained = matches!(masters, Masters::Keep | Masters::Bf16);
            model.params.push(spec, &values, is_trained);
            model.hold_weight(index, masters);
        }
        Ok(model)
    }

    /// A model over the same weights, which are not copied: what either changes becomes its own.
    pub fn duplicate(&self) -> Self {
        let [rotary, local_rotary] = rotary_tables(&self.config);
        Self {
            device: self.device.clone(),
            config: self.config.clone(),
            plan: self.plan.clone(),
            params: self.params.clone(),
            precision: self.precision,
            head: self.head,
            rotary,
            local_rotary,
            lora: self.lora.clone(),
            int8: self.int8,
            particles: self.particles,
        }
    }

    /// The dimensions and choices of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where it runs.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// What its matrix products read.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Which head it has.
    pub fn head(&self) -> Head {
        self.head
    }

    /// All parameters, in the order that gradients and optimizers use.
    pub fn params(&self) -> &ParamStore<D> {
        &self.params
    }

    /// The parameters, to choose which are trained and to change them.
    pub fn params_mut(&mut self) -> &mut ParamStore<D> {
        &mut self.params
    }

    pub(crate) fn param(&self, id: ParamId) -> &Param<D> {
        &self.params[id.0]
    }

    /// Chooses by name which parameters training changes.
    pub fn set_trainable(&mut self, trainable: impl Fn(&str) -> bool) {
        self.params.set_trained(|name| !Self::is_prior(name) && trainable(name));
    }

    /// The values of a parameter on the host.
    ///
    /// # Panics
    /// If they have been dropped.
    pub fn values(&self, index: usize) -> Vec<f32> {
        self.params.values(index)
    }

    /// Zero gradients for the trainable parameters.
    pub fn gradients(&self) -> Gradients<D> {
        self.params.gradients()
    }

    /// The hidden states of a batch.
    ///
    /// # Panics
    /// If the batch is empty, a token is not in the vocabulary, or a position lies beyond a
    /// learned table.
    pub fn forward(&self, batch: &Batch, keep: Keep) -> Pass<D> {
        let placed = self.place(batch);
        let Placed { tokens, geometry, forest, dropout } = &placed;
        let mut x = self.embed(tokens, geometry, batch.rows());
        let mut blocks = Vec::new();
        for layer in 0..self.config.layers {
            let block = self.block(layer, batch.rows(), dropout.as_ref());
            if keep == Keep::BlockInputs {
                let mut input = block.scratch(self.config.width);
                self.device.copy(&x, &mut input);
                blocks.push(BlockTape::Input(input));
            }
            let over = AttendOver::Forest(forest);
            let tape = block.forward(&mut x, geometry, over, keep == Keep::Activations);
            blocks.extend(tape.map(|tape| BlockTape::Full(Box::new(tape))));
        }
        let mut hidden = self.device.scratch(batch.rows() * self.config.width);
        let rows = View::new(&x, Rows::dense(batch.rows(), self.config.width));
        let statistics = self.norm(rows, self.plan.final_norm, &mut hidden);
        let final_norm =
            (keep != Keep::Nothing).then(|| NormTape { input: Arc::new(x), statistics });
        Pass { batch: batch.clone(), placed, blocks, final_norm, hidden, logits: None }
    }

    /// Adds the gradients of a loss, given by its derivatives with respect to the heads' outputs,
    /// to `gradients`; returns what the log-probability head computed on the way.
    ///
    /// # Panics
    /// If the pass kept nothing.
    pub fn backward(
        &self,
        mut pass: Pass<D>,
        grads: &OutputGrads<'_>,
        gradients: &mut Gradients<D>,
    ) -> HeadOutput {
        let mut dhidden = self.device.scratch(pass.batch.rows() * self.config.width);
        let output = self.heads_backward(&mut pass, grads, &mut dhidden, gradients);
        self.trunk_backward(pass, dhidden, gradients);
        output
    }

    /// Adds the gradients of a loss that depends on whole distributions: on all logits of `rows`, which may repeat.
    /// `loss` is given those of some of them, in order, and writes what the loss changes with each; no more than
    /// `logits_bytes` of logits are there at a time.
    ///
    /// # Panics
    /// If the pass kept nothing, or the model is a scorer without a language-model head.
    pub fn backward_of_logits(
        &self,
        pass: Pass<D>,
        rows: &[usize],
        logits_bytes: usize,
        loss: LogitLoss<'_>,
        gradients: &mut Gradients<D>,
    ) {
        let mut dhidden = self.device.scratch(pass.batch.rows() * self.config.width);
        self.logits_backward(&pass, rows, logits_bytes, loss, &mut dhidden, gradients);
        self.trunk_backward(pass, dhidden, gradients);
    }

    /// Adds the gradients of everything below the heads; `dhidden[T, d]` is what they read.
    fn trunk_backward(&self, mut pass: Pass<D>, dhidden: D::Buffer, gradients: &mut Gradients<D>) {
        let rows = pass.batch.rows();
        let final_norm = pass.final_norm.take().expect("a pass that kept its activations");
        let Some(lowest) = self.lowest_trained(gradients) else { return };
        let mut dx = self.device.scratch(rows * self.config.width);
        let dense = Rows::dense(rows, self.config.width);
        let (dy, out) = (View::new(&dhidden, dense), ViewMut::new(&mut dx, dense));
        let params = self.plan.final_norm;
        self.norm_backward(&final_norm, params, dy, out, Write::Overwrite, gradients);
        drop((dhidden, final_norm));

        let Placed { tokens, geometry, forest, dropout } = &pass.placed;
        while lowest <= pass.blocks.len() && !pass.blocks.is_empty() {
            let block = self.block(pass.blocks.len() - 1, rows, dropout.as_ref());
            let tape = match pass.blocks.pop().expect("a block is left") {
                BlockTape::Full(tape) => tape,
                BlockTape::Input(mut input) => {
                    let over = AttendOver::Forest(forest);
                    let tape = block.forward(&mut input, geometry, over, true);
                    Box::new(tape.expect("activations were asked for"))
                }
            };
            block.backward(&tape, geometry, forest, &mut dx, gradients);
        }
        if lowest == 0 {
            let rows = View::new(&dx, dense);
            self.embed_backward(tokens, geometry, rows, gradients);
        }
    }

    /// Below which depth nothing is trained: 0 if the embeddings are, 1 for the first block, …;
    /// `None` if only heads are.
    fn lowest_trained(&self, gradients: &Gradients<D>) -> Option<usize> {
        let embeddings = [Some(self.plan.embedding), self.plan.position_embedding];
        if embeddings.iter().flatten().any(|&id| gradients.wants(id)) {
            return Some(0);
        }
        // Parameters lie in the order of use, and those of a layer are contiguous.
        let starts: Vec<usize> = self.plan.layers.iter().map(|layer| layer.first.0).collect();
        let heads = self.plan.final_norm.weight.0;
        let end = self.lora.as_ref().map_or(self.params.len(), |lora| lora.first);
        let trained = (starts.first().copied().unwrap_or(heads)..end)
            .filter(|&index| gradients.wants(ParamId(index)))
            .find(|&index| !self.is_head(ParamId(index)));
        let depth = |trained: usize| {
            starts.partition_point(|&start| start <= trained).max(1) + usize::from(heads <= trained)
        };
        let adapted = self.lora.as_ref().and_then(|lora| lora.lowest_trained(gradients));
        trained.map(depth).into_iter().chain(adapted.map(|layer| layer + 1)).min()
    }

    fn is_head(&self, id: ParamId) -> bool {
        let scalar = self.plan.scalar_head;
        self.plan.head == Some(id)
            || scalar.is_some_and(|scalar| scalar.weight == id || scalar.bias == Some(id))
    }

    /// Takes a batch to the device.
    fn place(&self, batch: &Batch) -> Placed<D> {
        Placed {
            tokens: self.token_ids(&batch.tokens),
            geometry: self.geometry(&batch.forest.positions()),
            forest: self.device.plan(&batch.forest),
            dropout: self.dropout_keys(batch),
        }
    }

    /// Takes tokens to the device.
    pub(crate) fn token_ids(&self, tokens: &[u32]) -> D::Ids {
        assert!(!tokens.is_empty(), "a batch has at least one token");
        let last = tokens.iter().max().map_or(0, |&token| token as usize);
        assert!(last < self.config.vocab, "token {last} of a vocabulary of {}", self.config.vocab);
        self.device.ids(tokens)
    }

    pub(crate) fn geometry(&self, positions: &[u32]) -> Geometry<D> {
        let len = positions.iter().max().map_or(0, |&last| last as usize + 1);
        let covering = |table: &Option<RotaryTable<D::Buffer>>| {
            table.as_ref().map(|table| table.covering(&self.device, len))
        };
        let (rotary, local_rotary) = (covering(&self.rotary), covering(&self.local_rotary));
        assert!(
            rotary.is_some() || len <= self.config.max_positions,
            "{len} positions in a model of {}",
            self.config.max_positions
        );
        Geometry { positions: self.device.ids(positions), rotary, local_rotary }
    }

    pub(crate) fn block<'a>(
        &'a self,
        layer: usize,
        rows: usize,
        dropout: Option<&'a D::Ids>,
    ) -> Block<'a, D> {
        let plan = &self.plan.layers[layer];
        Block { model: self, plan, layer, rows, dropout, adapted: &[] }
    }

    /// The residual stream before the first block, `[T, d]`.
    pub(crate) fn embed(&self, tokens: &D::Ids, geometry: &Geometry<D>, rows: usize) -> D::Buffer {
        let mut x = self.device.scratch(rows * self.config.width);
        let rows = Rows::dense(rows, self.config.width);
        let table = &self.param(self.plan.embedding).values;
        self.device.gather_rows(table, tokens, ViewMut::new(&mut x, rows), Write::Overwrite);
        if let Some(scale) = self.config.embedding_scale.factor(self.precision) {
            x = self.scaled(&x, rows.end(), scale);
        }
        if let Some(table) = self.plan.position_embedding {
            let table = &self.param(table).values;
            let x = ViewMut::new(&mut x, rows);
            self.device.gather_rows(table, &geometry.positions, x, Write::Add);
        }
        x
    }

    fn embed_backward(
        &self,
        tokens: &D::Ids,
        geometry: &Geometry<D>,
        dx: View<'_, D::Buffer>,
        gradients: &mut Gradients<D>,
    ) {
        if let Some(dtable) = gradients.get_mut(self.plan.embedding) {
            let scale = self.config.embedding_scale.factor(self.precision);
            let scaled =
                scale.map(|scale| self.scaled(dx.buffer, self.device.len(dx.buffer), scale));
            let dx = View::new(scaled.as_ref().unwrap_or(dx.buffer), dx.rows);
            self.device.scatter_add_rows(dx, tokens, dtable);
        }
        if let Some(dtable) = self.plan.position_embedding.and_then(|id| gradients.get_mut(id)) {
            self.device.scatter_add_rows(dx, &geometry.positions, dtable);
        }
    }

    /// `factor` times the first `len` elements, which are all there are.
    pub(super) fn scaled(&self, values: &D::Buffer, len: usize, factor: f32) -> D::Buffer {
        let mut scaled = self.device.scratch(len);
        self.device.fill(&mut scaled, 0.0);
        self.device.add_scaled(values, factor, &mut scaled);
        scaled
    }

    /// What a norm with these weights multiplies by. Its gradient is that of the weights in either case.
    pub(super) fn norm_factors(&self, weight: ParamId) -> NormFactors<'_, D::Buffer> {
        let Param { values, .. } = self.param(weight);
        if self.config.norm != Norm::ShiftedRmsNorm {
            return NormFactors::Stored(values);
        }
        let mut factors = self.device.scratch(self.device.len(values));
        self.device.fill(&mut factors, 1.0);
        self.device.add_scaled(values, 1.0, &mut factors);
        NormFactors::Shifted(factors)
    }

    /// Norms all rows of `x` into the dense `y`; returns the statistics for the backward pass.
    pub(crate) fn norm(
        &self,
        x: View<'_, D::Buffer>,
        params: NormParams,
        y: &mut D::Buffer,
    ) -> D::Buffer {
        let eps = self.config.norm_eps;
        let factors = self.norm_factors(params.weight);
        let weight = factors.values();
        let y = ViewMut::new(y, Rows::dense(x.rows.rows, x.rows.width));
        match params.bias {
            None => {
                let mut rstd = self.device.scratch(x.rows.rows);
                self.device.rms_norm(x, 1, weight, eps, y, &mut rstd);
                rstd
            }
            Some(bias) => {
                debug_assert_eq!(self.config.norm, Norm::LayerNorm);
                let mut statistics = self.device.scratch(2 * x.rows.rows);
                let bias = &self.param(bias).values;
                self.device.layer_norm(x, weight, bias, eps, y, &mut statistics);
                statistics
            }
        }
    }

    pub(super) fn norm_backward(
        &self,
        tape: &NormTape<D>,
        params: NormParams,
        dy: View<'_, D::Buffer>,
        dx: ViewMut<'_, D::Buffer>,
        write: Write,
        gradients: &mut Gradients<D>,
    ) {
        let (device, factors) = (&self.device, self.norm_factors(params.weight));
        let weight = factors.values();
        let x = View::new(&*tape.input, dx.rows);
        match params.bias {
            None => {
                let dweight = gradients.get_mut(params.weight);
                device.rms_norm_backward(x, 1, weight, &tape.statistics, dy, dx, write, dweight);
            }
            Some(bias) => {
                let (dweight, dbias) = gradients.pair_mut(params.weight, bias);
                let statistics = &tape.statistics;
                device.layer_norm_backward(x, weight, statistics, dy, dx, write, dweight, dbias);
            }
        }
    }

    pub(super) fn weight_shape(&self, params: LinearParams) -> WeightShape {
        WeightShape {
            inputs: params.inputs,
            outputs: params.outputs,
            layout: params.layout,
            precision: self.precision,
        }
    }

    pub(super) fn weight(&self, params: LinearParams) -> Weight<'_, D::Buffer, D::Prepared> {
        let param = self.param(params.weight);
        let shape = self.weight_shape(params);
        Weight { values: &param.values, prepared: &param.prepared, shape }
    }

    /// Several products of the same rows, each into its own columns of `y`.
    pub(super) fn linear_parts(
        &self,
        x: View<'_, D::Buffer>,
        parts: &[(LinearParams, Rows)],
        y: &mut D::Buffer,
    ) {
        let part = |&(params, y): &(LinearParams, Rows)| LinearPart {
            weight: self.weight(params),
            bias: params.bias.map(|bias| &self.param(bias).values),
            y,
        };
        let parts = parts.iter().map(part).collect();
        self.device.linear_parts(x, parts, y, Write::Overwrite);
    }

    pub(super) fn linear_backward_parameters(
        &self,
        x: View<'_, D::Buffer>,
        params: LinearParams,
        dy: View<'_, D::Buffer>,
        gradients: &mut Gradients<D>,
    ) {
        if let Some(dweight) = gradients.get_mut(params.weight) {
            self.device.linear_backward_weight(dy, x, self.weight_shape(params), dweight);
        }
        if let Some(dbias) = params.bias.and_then(|bias| gradients.get_mut(bias)) {
            self.device.sum_rows(dy, dbias);
        }
    }

    /// Number of trainable and of all elements.
    pub fn parameter_counts(&self) -> (usize, usize) {
        self.params.counts()
    }

    /// Floating-point operations of a forward pass for one token that sees `context` tokens, with
    /// the head; a multiplication and an addition count as two.
    pub fn forward_flops(&self, context: f64) -> f64 {
        let tables = [Some(self.plan.embedding), self.plan.position_embedding];
        let products: usize = self
            .params
            .iter()
            .enumerate()
            .filter(|(index, param)| {
                2 <= param.shape.len() && !tables.contains(&Some(ParamId(*index)))
            })
            .map(|(_, param)| param.len())
            .sum();
        let tied = self.plan.head == Some(self.plan.embedding);
        let head = if tied { self.config.vocab * self.config.width } else { 0 };
        let attention = 4.0 * context * (self.config.layers * self.config.query_width()) as f64;
        2.0 * (products + head) as f64 + attention
    }

    /// The predictions of a plain sequence: row t predicts token t + 1.
    pub fn next_token_predictions(tokens: &[u32], first_row: usize) -> Vec<Prediction> {
        let predict = |(index, &token)| Prediction { row: (first_row + index) as u32, token };
        tokens.iter().skip(1).enumerate().map(predict).collect()
    }
}
