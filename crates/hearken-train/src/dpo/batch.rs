//! The gradient of one optimizer step.

use std::borrow::Cow;

use hearken_model::{Gradients, Keep, Model, OutputGrads};
use hearken_objective::Mean;
use hearken_objective::dpo::unpaired::RewardShift;
use hearken_tensor::Device;
use hearken_tensor::device::HeadOptions;

use super::loss::{Evidence, Losses, RefLogprobs, StepShare};
use super::objective::Objective;
use super::tree::{Microbatch, Reading, Tree, TreeTokens, deal};
use crate::config::TrainConfig;
use crate::metrics::{inference_flops, training_flops};
use crate::microbatch::microbatches;

/// The trees of an optimizer step with what the reference says of them.
pub(super) struct StepBatch<'a> {
    pub(super) trees: Vec<&'a Tree>,
    pub(super) references: Vec<Cow<'a, RefLogprobs>>,
}

/// How trees go through the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassOptions {
    /// The most rows of a pass.
    pub(super) tokens_max: usize,
    /// What a pass with derivatives keeps.
    pub(super) keep: Keep,
    /// The most bytes of logits that it keeps.
    pub(super) logits_bytes: usize,
}

impl PassOptions {
    pub(super) fn new(train: &TrainConfig, keep: Keep) -> Self {
        Self { tokens_max: train.microbatch_tokens, keep, logits_bytes: train.logits_bytes }
    }
}

/// What a step found, its gradients aside.
#[derive(Debug, Default)]
pub(super) struct StepResult {
    pub(super) tokens: Vec<TreeTokens>,
    pub(super) losses: Losses,
    /// The loss of the step.
    pub(super) loss: f64,
    /// The likelihood term before its weight.
    pub(super) nll_loss: Option<f64>,
    pub(super) flops: f64,
}

impl StepBatch<'_> {
    fn evidence<'t>(&'t self, start: usize, tokens: &'t [TreeTokens]) -> Vec<Evidence<'t>> {
        let known = self.trees[start..].iter().zip(&self.references[start..]).zip(tokens);
        known.map(|((tree, reference), tokens)| Evidence { tree, tokens, reference }).collect()
    }
}

/// Leaves the gradient of the step's loss in `gradients`. Objectives that couple the batch look at
/// all of it in forward passes before the first derivative, and BCO's `shift` sees its rewards.
pub(super) fn step_gradients<D: Device>(
    model: &Model<D>,
    objective: &Objective,
    batch: &StepBatch<'_>,
    options: PassOptions,
    shift: &mut Option<RewardShift>,
    gradients: &mut Gradients<D>,
) -> StepResult {
    let share =
        StepShare { trees: batch.trees.len(), nll_counts: objective.nll_counts(&batch.trees) };
    let mut result = StepResult::default();
    let coupled = objective.couples_batch();
    if coupled {
        (result.tokens, result.flops) =
            read(model, &batch.trees, objective.reading(), options.tokens_max);
        let evidence = batch.evidence(0, &result.tokens);
        if let Some(shift) = shift {
            shift.observe(objective.mean_rewards(&evidence));
        }
        let delta = shift.map_or(0.0, RewardShift::delta);
        result.losses = objective.losses(&evidence, delta);
    }
    gradients.zero();
    let reading = objective.grad_reading();
    let rows: Vec<usize> = batch.trees.iter().map(|tree| tree.rows(reading.branches)).collect();
    for group in microbatches(&rows, options.tokens_max) {
        let trees = &batch.trees[group.clone()];
        let microbatch = Microbatch::new(trees, reading);
        result.flops += training_flops(model, &microbatch.batch);
        let mut pass = model.forward(&microbatch.batch, options.keep);
        if !coupled {
            let (predictions, head) = (&microbatch.predictions, reading.head());
            let output = model.logprobs_keeping(&mut pass, predictions, head, options.logits_bytes);
            let tokens = deal(trees, reading, &output);
            let found = objective.losses(&batch.evidence(group.start, &tokens), 0.0);
            result.losses.trees.extend(found.trees);
            result.tokens.extend(tokens);
        }
        let mut grads = Vec::with_capacity(microbatch.predictions.len());
        for (tree, loss) in trees.iter().zip(&result.losses.trees[group]) {
            objective.push_grads(&mut grads, tree, loss, share, reading);
        }
        let grads = OutputGrads {
            predictions: &microbatch.predictions,
            prediction_grads: &grads,
            head: HeadOptions { statistics: false, ..reading.head() },
            ..OutputGrads::default()
        };
        model.backward(pass, &grads, gradients);
    }
    result.add_up(objective, batch, share);
    result
}

impl StepResult {
    fn add_up(&mut self, objective: &Objective, batch: &StepBatch<'_>, share: StepShare) {
        let losses: Mean = self.losses.trees.iter().map(|tree| tree.loss).collect();
        let weighted = batch.trees.iter().zip(&self.losses.trees);
        let nll: f64 = weighted
            .map(|(tree, loss)| objective.nll_weight(tree, share.nll_counts) * loss.nll)
            .sum();
        self.loss = losses.value().expect("a step has trees") + nll;
        self.nll_loss = objective.nll().map(|of| nll / of.weight);
    }

    /// Mean entropy of what predicts the completions that are trained on.
    pub(super) fn entropy(&self, objective: &Objective) -> Option<f64> {
        self.mean(objective.grad_reading().branches, |tokens| tokens.entropy)
    }

    /// Share of the tokens of first completions that are the most probable ones.
    pub(super) fn token_accuracy(&self) -> Option<f64> {
        self.mean(1, |tokens| tokens.hits as f64)
    }

    fn mean(&self, branches: usize, of: fn(&super::tree::Tokens) -> f64) -> Option<f64> {
        let read = self.tokens.iter().flat_map(|tree| tree.branches.iter().take(branches));
        let sum = |mean: Mean, tokens: &super::tree::Tokens| {
            mean + Mean { sum: of(tokens), count: tokens.logprobs.len() }
        };
        read.fold(Mean::default(), sum).value()
    }
}

/// What the policy says of some trees, without derivatives, and the work that it took.
pub(super) fn read<D: Device>(
    model: &Model<D>,
    trees: &[&Tree],
    reading: Reading,
    tokens_max: usize,
) -> (Vec<TreeTokens>, f64) {
    let rows: Vec<usize> = trees.iter().map(|tree| tree.rows(reading.branches)).collect();
    let (mut all, mut flops) = (Vec::with_capacity(trees.len()), 0.0);
    for group in microbatches(&rows, tokens_max) {
        let trees = &trees[group];
        let microbatch = Microbatch::new(trees, reading);
        flops += inference_flops(model, &microbatch.batch);
        let pass = model.forward(&microbatch.batch, Keep::Nothing);
        let output = model.logprobs(&pass, &microbatch.predictions, reading.head());
        all.extend(deal(trees, reading, &output));
    }
    (all, flops)
}
