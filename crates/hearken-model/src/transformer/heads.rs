//! The heads: log-probabilities of chosen predictions, scores and values of chosen rows, and the
//! start of the backward pass.

use std::ops::Range;

use hearken_tensor::Device;
use hearken_tensor::device::{
    HeadOptions, HeadOutput, Precision, Prediction, PredictionGrad, Rows, View, ViewMut, Weight,
    WeightLayout, WeightShape, Write,
};

use super::model::Model;
use super::pass::{KeptLogits, Pass};
use crate::architecture::ScalarParams;
use crate::config::Logits;
use crate::params::Gradients;

/// Derivatives of a loss with respect to what the heads gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputGrads<'a> {
    /// Which tokens were predicted from which rows of the batch; rows may repeat.
    pub predictions: &'a [Prediction],
    /// One for each prediction.
    pub prediction_grads: &'a [PredictionGrad],
    /// How the log-probabilities were computed.
    pub head: HeadOptions,
    /// Rows whose score, value or classes were read.
    pub scalar_rows: &'a [usize],
    /// ∂loss/∂score, one for each of these rows; of a head with classes, one for each class of a row.
    pub scalar_grads: &'a [f32],
}

/// A loss that reads all logits of some rows: is told which, by their numbers among those that were named, and
/// given their logits `[n, V]`; overwrites the derivative with respect to each, `[n, V]`.
pub type LogitLoss<'a> = &'a mut dyn FnMut(Range<usize>, &[f32], &mut [f32]);

/// The distinct rows of some predictions, and the predictions with rows counted among them.
struct Distinct {
    rows: Vec<u32>,
    predictions: Vec<Prediction>,
}

impl Distinct {
    fn new(predictions: &[Prediction]) -> Self {
        let mut rows: Vec<u32> = predictions.iter().map(|prediction| prediction.row).collect();
        rows.sort_unstable();
        rows.dedup();
        let renumber = |prediction: &Prediction| Prediction {
            row: rows.binary_search(&prediction.row).expect("a row of the predictions") as u32,
            ..*prediction
        };
        let predictions = predictions.iter().map(renumber).collect();
        Self { rows, predictions }
    }
}

impl<D: Device> Model<D> {
    /// Log-probabilities of `predictions`, whose rows are rows of the batch.
    ///
    /// # Panics
    /// If the model is a scorer without a language-model head, or a row or token does not exist.
    pub fn logprobs(
        &self,
        pass: &Pass<D>,
        predictions: &[Prediction],
        options: HeadOptions,
    ) -> HeadOutput {
        if predictions.is_empty() {
            return HeadOutput::default();
        }
        self.read_logprobs(pass, &Distinct::new(predictions), options, None)
    }

    /// The same, before a backward pass with the same predictions: up to so many bytes of logits stay
    /// in `pass`, so that they need not be computed again. No result depends on how many.
    ///
    /// # Panics
    /// As [`Self::logprobs`].
    pub fn logprobs_keeping(
        &self,
        pass: &mut Pass<D>,
        predictions: &[Prediction],
        options: HeadOptions,
        logits_bytes: usize,
    ) -> HeadOutput {
        let (distinct, vocab) = (Distinct::new(predictions), self.config.vocab);
        let (rows, chunk) = (distinct.rows.len(), options.chunk_rows(vocab));
        let room = logits_bytes / (size_of::<f32>() * vocab);
        let kept = if rows <= room { rows } else { room - room % chunk };
        if kept == 0 {
            return self.logprobs(pass, predictions, options);
        }
        let mut values = self.device.scratch(kept * vocab);
        let output = self.read_logprobs(pass, &distinct, options, Some(&mut values));
        pass.logits = Some(KeptLogits { rows: distinct.rows, values });
        output
    }

    fn read_logprobs(
        &self,
        pass: &Pass<D>,
        distinct: &Distinct,
        options: HeadOptions,
        logits: Option<&mut D::Buffer>,
    ) -> HeadOutput {
        let hidden =
            self.gather(&pass.hidden, &self.device.ids(&distinct.rows), distinct.rows.len());
        let (weight, predictions) = (self.head_weight(), &distinct.predictions);
        let options = self.head_options(options);
        let output = self.device.logprob_head(&hidden, weight, predictions, options, logits);
        self.device.wait(output)
    }

    /// The score, or value, read at each of `rows`; of a head with classes, their logits: `[rows.len(), classes]`.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn scalars(&self, pass: &Pass<D>, rows: &[usize]) -> Vec<f32> {
        if rows.is_empty() {
            return Vec::new();
        }
        let scalar = self.scalar_head();
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let hidden = self.gather(&pass.hidden, &self.device.ids(&rows), rows.len());
        let len = rows.len() * scalar.outputs;
        let mut out = self.device.scratch(len);
        let x = View::new(&hidden, Rows::dense(rows.len(), self.config.width));
        let y = ViewMut::new(&mut out, Rows::dense(rows.len(), scalar.outputs));
        let bias = scalar.bias.map(|bias| &self.param(bias).values);
        self.device.linear(x, self.scalar_weight(scalar), bias, y, Write::Overwrite);
        self.download(&out, len)
    }

    /// The hidden state of each of `rows` after the final norm, which the heads read: `[rows.len(), d]`.
    pub fn hidden(&self, pass: &Pass<D>, rows: &[usize]) -> Vec<f32> {
        if rows.is_empty() {
            return Vec::new();
        }
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let hidden = self.gather(&pass.hidden, &self.device.ids(&rows), rows.len());
        self.download(&hidden, rows.len() * self.config.width)
    }

    /// The logits of `rows`, `[rows.len(), V]`.
    ///
    /// # Panics
    /// If the model is a scorer without a language-model head.
    pub fn logits(&self, pass: &Pass<D>, rows: &[usize]) -> Vec<f32> {
        self.device.read(&self.logits_of(&pass.hidden, rows)).into_owned()
    }

    pub(crate) fn logits_of(&self, hidden: &D::Buffer, rows: &[usize]) -> D::Buffer {
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let hidden = self.gather(hidden, &self.device.ids(&rows), rows.len());
        let (n, vocab) = (rows.len(), self.config.vocab);
        let mut out = self.device.scratch(n * vocab);
        let x = View::new(&hidden, Rows::dense(n, self.config.width));
        let y = ViewMut::new(&mut out, Rows::dense(n, vocab));
        self.device.linear(x, self.head_weight(), None, y, Write::Overwrite);
        match self.config.logits {
            Logits::Products => {}
            Logits::Divided(divisor) => out = self.scaled(&out, n * vocab, 1.0 / divisor),
            Logits::Capped(cap) => self.device.softcap(cap, &mut out),
        }
        out
    }

    /// The same options for products that the model turns to logits in its own way.
    fn head_options(&self, options: HeadOptions) -> HeadOptions {
        let softcap = None;
        match self.config.logits {
            Logits::Products => HeadOptions { softcap, ..options },
            // Both divide: no logits are there in between.
            Logits::Divided(divisor) => {
                HeadOptions { temperature: options.temperature * divisor, softcap, ..options }
            }
            Logits::Capped(cap) => HeadOptions { softcap: Some(cap), ..options },
        }
    }

    /// Writes the gradient of the hidden rows that the heads read in `pass`, `dhidden[T, d]`, and adds the
    /// gradients of the heads' parameters.
    pub(super) fn heads_backward(
        &self,
        pass: &mut Pass<D>,
        grads: &OutputGrads<'_>,
        dhidden: &mut D::Buffer,
        gradients: &mut Gradients<D>,
    ) -> HeadOutput {
        self.device.fill(dhidden, 0.0);
        if !grads.scalar_rows.is_empty() {
            self.scalar_backward(&pass.hidden, grads, dhidden, gradients);
        }
        if grads.predictions.is_empty() {
            return HeadOutput::default();
        }
        let distinct = Distinct::new(grads.predictions);
        let (ids, n) = (self.device.ids(&distinct.rows), distinct.rows.len());
        let rows = self.gather(&pass.hidden, &ids, n);
        let kept = pass.logits.take().filter(|kept| kept.rows == distinct.rows);
        let mut drows = self.device.scratch(n * self.config.width);
        let output = self.device.logprob_head_backward(
            &rows,
            self.head_weight(),
            &distinct.predictions,
            grads.prediction_grads,
            self.head_options(grads.head),
            kept.map(|kept| kept.values),
            &mut drows,
            gradients.get_mut(self.plan.head.expect("a language-model head")),
        );
        self.scatter(&drows, &ids, n, dhidden);
        self.device.wait(output)
    }

    /// Writes the gradient of the hidden rows that a loss reads by their logits, `dhidden[T, d]`, and adds that of the
    /// head's weight.
    pub(super) fn logits_backward(
        &self,
        pass: &Pass<D>,
        rows: &[usize],
        logits_bytes: usize,
        loss: LogitLoss<'_>,
        dhidden: &mut D::Buffer,
        gradients: &mut Gradients<D>,
    ) {
        let (width, vocab, weight) = (self.config.width, self.config.vocab, self.head_weight());
        let options = HeadOptions { chunk_bytes: logits_bytes, ..HeadOptions::default() };
        let chunk = options.chunk_rows(vocab);
        self.device.fill(dhidden, 0.0);
        let mut grads = vec![0.0; chunk.min(rows.len()) * vocab];
        for (index, rows) in rows.chunks(chunk).enumerate() {
            let (first, n) = (index * chunk, rows.len());
            let logits = self.logits_of(&pass.hidden, rows);
            let logits = self.device.read(&logits);
            let grads = &mut grads[..n * vocab];
            loss(first..first + n, &logits, grads);
            self.through_logits(&logits, grads);
            let dy = self.device.upload(grads);
            let dy = View::new(&dy, Rows::dense(n, vocab));
            let ids = self.device.ids(&rows.iter().map(|&row| row as u32).collect::<Vec<_>>());
            let mut drows = self.device.scratch(n * width);
            let dx = ViewMut::new(&mut drows, Rows::dense(n, width));
            self.device.linear_backward_input(dy, weight, dx, Write::Overwrite);
            self.scatter(&drows, &ids, n, dhidden);
            if let Some(dweight) = self.plan.head.and_then(|id| gradients.get_mut(id)) {
                let x = self.gather(&pass.hidden, &ids, n);
                let x = View::new(&x, Rows::dense(n, width));
                self.device.linear_backward_weight(dy, x, weight.shape, dweight);
            }
        }
    }

    /// Makes derivatives with respect to logits those with respect to the products that became them.
    fn through_logits(&self, logits: &[f32], grads: &mut [f32]) {
        match self.config.logits {
            Logits::Products => {}
            Logits::Divided(divisor) => grads.iter_mut().for_each(|grad| *grad /= divisor),
            Logits::Capped(cap) => {
                for (grad, logit) in grads.iter_mut().zip(logits) {
                    *grad *= 1.0 - (logit / cap) * (logit / cap);
                }
            }
        }
    }

    fn scalar_backward(
        &self,
        hidden: &D::Buffer,
        grads: &OutputGrads<'_>,
        dhidden: &mut D::Buffer,
        gradients: &mut Gradients<D>,
    ) {
        let scalar = self.scalar_head();
        let n = grads.scalar_rows.len();
        let outputs = scalar.outputs;
        assert_eq!(grads.scalar_grads.len(), n * outputs, "scalar_grads: one per row and output");
        let rows: Vec<u32> = grads.scalar_rows.iter().map(|&row| row as u32).collect();
        let ids = self.device.ids(&rows);
        let dy = self.device.upload(grads.scalar_grads);
        let dy = View::new(&dy, Rows::dense(n, outputs));
        let weight = self.scalar_weight(scalar);
        if let Some(dweight) = gradients.get_mut(scalar.weight) {
            let x = self.gather(hidden, &ids, n);
            let x = View::new(&x, Rows::dense(n, self.config.width));
            self.device.linear_backward_weight(dy, x, weight.shape, dweight);
        }
        if let Some(dbias) = scalar.bias.and_then(|bias| gradients.get_mut(bias)) {
            self.device.sum_rows(dy, dbias);
        }
        let mut drows = self.device.scratch(n * self.config.width);
        let dx = ViewMut::new(&mut drows, Rows::dense(n, self.config.width));
        self.device.linear_backward_input(dy, weight, dx, Write::Overwrite);
        self.scatter(&drows, &ids, n, dhidden);
    }

    fn scalar_head(&self) -> ScalarParams {
        self.plan.scalar_head.expect("a score, value or class head")
    }

    /// A scalar head multiplies f32 values even in bf16 models: it costs nothing.
    fn scalar_weight(&self, scalar: ScalarParams) -> Weight<'_, D::Buffer, D::Prepared> {
        let param = self.param(scalar.weight);
        let shape = WeightShape {
            inputs: self.config.width,
            outputs: scalar.outputs,
            layout: WeightLayout::OutputsByInputs,
            precision: Precision::F32,
        };
        Weight { values: &param.values, prepared: &param.prepared, shape }
    }

    fn head_weight(&self) -> Weight<'_, D::Buffer, D::Prepared> {
        let param = self.param(self.plan.head.expect("a language-model head"));
        let shape = WeightShape {
            inputs: self.config.width,
            outputs: self.config.vocab,
            layout: WeightLayout::OutputsByInputs,
            precision: self.precision,
        };
        Weight { values: &param.values, prepared: &param.prepared, shape }
    }

    /// The `n` rows that `ids` names.
    fn gather(&self, hidden: &D::Buffer, ids: &D::Ids, n: usize) -> D::Buffer {
        let width = self.config.width;
        let mut out = self.device.scratch(n * width);
        let view = ViewMut::new(&mut out, Rows::dense(n, width));
        self.device.gather_rows(hidden, ids, view, Write::Overwrite);
        out
    }

    fn scatter(&self, drows: &D::Buffer, ids: &D::Ids, n: usize, dhidden: &mut D::Buffer) {
        let view = View::new(drows, Rows::dense(n, self.config.width));
        self.device.scatter_add_rows(view, ids, dhidden);
    }

    fn download(&self, buffer: &D::Buffer, len: usize) -> Vec<f32> {
        let mut values = vec![0.0; len];
        self.device.download(buffer, 0, &mut values);
        values
    }
}
