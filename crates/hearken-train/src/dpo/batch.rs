//! The gradient of one optimizer step.

use std::borrow::Cow;

use hearken_model::{Keep, Model, OutputGrads};
use hearken_objective::Mean;
use hearken_objective::dpo::unpaired::RewardShift;
use hearken_run::metrics::inference_flops;
use hearken_run::ranks::{Joined, Shares};
use hearken_run::run::{Run, TrainerState};
use hearken_tensor::Device;
use hearken_tensor::device::HeadOptions;
use serde::{Deserialize, Serialize};

use super::loss::{Evidence, Losses, RefLogprobs, StepShare};
use super::objective::Objective;
use super::tree::{Tree, TreeMicrobatch, TreeReading, TreeTokens, deal};
use super::{LossState, RecordsState};
use crate::rollout::session::Iterating;
use hearken_model::microbatch::microbatches;

/// Counters that keep the state of the loss.
pub(super) trait KeepsLoss: TrainerState {
    fn loss(&mut self) -> &mut LossState;
}

impl KeepsLoss for RecordsState {
    fn loss(&mut self) -> &mut LossState {
        &mut self.own
    }
}

impl KeepsLoss for Iterating<LossState> {
    fn loss(&mut self) -> &mut LossState {
        &mut self.own
    }
}

/// The trees of an optimizer step with what the reference says of them, and whose they are.
pub(super) struct StepBatch<'a> {
    pub(super) trees: Vec<&'a Tree>,
    pub(super) references: Vec<Cow<'a, RefLogprobs>>,
    pub(super) shares: &'a Shares,
}

/// What a step found, its gradients aside.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StepResult {
    pub(super) tokens: Vec<TreeTokens>,
    pub(super) losses: Losses,
    /// What the likelihood adds to the loss.
    nll: f64,
    /// BCO's running mean, this step's rewards included.
    pub(super) shift: Option<RewardShift>,
}

impl Joined for StepResult {
    fn join(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.join(other.tokens),
            losses: Losses { trees: self.losses.trees.join(other.losses.trees), ..self.losses },
            nll: self.nll + other.nll,
            shift: self.shift,
        }
    }
}

impl StepBatch<'_> {
    /// The evidence of the trees at these places, of which `tokens` has the policy's.
    fn evidence<'t>(&'t self, places: &[usize], tokens: &'t [TreeTokens]) -> Vec<Evidence<'t>> {
        let one = |(&place, tokens): (&usize, &'t TreeTokens)| Evidence {
            tree: self.trees[place],
            tokens,
            reference: &self.references[place],
        };
        places.iter().zip(tokens).map(one).collect()
    }
}

/// Leaves the gradients that this process's share has of the step's loss in the run. Objectives that couple the batch
/// look at all of it, whoever has read it, before the first derivative, and BCO's running mean sees its rewards.
pub(super) fn learn<D: Device, K: KeepsLoss>(
    run: &mut Run<D, K>,
    objective: &Objective,
    batch: &StepBatch<'_>,
) -> StepResult {
    let (tokens_max, logits_bytes) =
        (run.settings.train.microbatch_tokens, run.settings.train.logits_bytes);
    let share =
        StepShare { trees: batch.trees.len(), nll_counts: objective.nll_counts(&batch.trees) };
    let own = batch.shares.own();
    let own_trees = batch.shares.pick(&batch.trees);
    let coupled = objective.couples_batch();
    let mut result =
        if coupled { read_whole(run, objective, batch) } else { StepResult::default() };
    let reading = objective.grad_reading();
    let rows: Vec<usize> = own_trees.iter().map(|tree| tree.rows(reading.branches)).collect();
    for group in microbatches(&rows, tokens_max) {
        let trees = &own_trees[group.clone()];
        let microbatch = TreeMicrobatch::new(trees, reading);
        let mut pass = run.forward(&microbatch.batch);
        if !coupled {
            let (predictions, head) = (&microbatch.predictions, reading.head());
            let output = run.model.logprobs_keeping(&mut pass, predictions, head, logits_bytes);
            let tokens = deal(trees, reading, &output);
            let found = objective.losses(&batch.evidence(&own[group.clone()], &tokens), 0.0);
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
        run.backward(pass, &grads);
    }
    run.counters.own.loss().reward_shift = result.shift.map_or(0.0, RewardShift::delta);
    let weighted = own_trees.iter().zip(&result.losses.trees);
    result.nll =
        weighted.map(|(tree, loss)| objective.nll_weight(tree, share.nll_counts) * loss.nll).sum();
    result
}

/// What the whole step says, of which this process keeps what its own trees have.
fn read_whole<D: Device, K: KeepsLoss>(
    run: &mut Run<D, K>,
    objective: &Objective,
    batch: &StepBatch<'_>,
) -> StepResult {
    let value = run.counters.own.loss().reward_shift;
    let mut shift = objective.shift_decay.map(|decay| RewardShift { decay, value });
    // The passes with gradients drop the same.
    let (tokens_max, dropout) = (run.settings.train.microbatch_tokens, Some(run.dropout()));
    let trees = batch.shares.pick(&batch.trees);
    let (own, flops) = read_dropping(&run.model, &trees, objective.reading(), tokens_max, dropout);
    run.book_reading(flops);
    let tokens = run.ranks.whole(batch.shares, own);
    let places: Vec<usize> = (0..tokens.len()).collect();
    let evidence = batch.evidence(&places, &tokens);
    if let Some(shift) = &mut shift {
        shift.observe(objective.mean_rewards(&evidence));
    }
    let found = objective.losses(&evidence, shift.map_or(0.0, RewardShift::delta));
    StepResult {
        losses: Losses { trees: batch.shares.pick(&found.trees), ..found },
        tokens: batch.shares.pick(&tokens),
        shift,
        nll: 0.0,
    }
}

impl StepResult {
    /// The loss of the step.
    pub(super) fn loss(&self) -> f64 {
        let losses: Mean = self.losses.trees.iter().map(|tree| tree.loss).collect();
        losses.value().expect("a step has trees") + self.nll
    }

    /// The likelihood term before its weight.
    pub(super) fn nll_loss(&self, objective: &Objective) -> Option<f64> {
        objective.nll().map(|of| self.nll / of.weight)
    }

    /// Mean entropy of what predicts the completions that are trained on.
    pub(super) fn entropy(&self, objective: &Objective) -> Option<f64> {
        self.mean(objective.grad_reading().branches, |tokens| tokens.entropy)
    }

    /// Share of the tokens of first completions that are the most probable ones.
    pub(super) fn token_accuracy(&self) -> Option<f64> {
        self.mean(1, |tokens| tokens.hits as f64)
    }

    fn mean(&self, branches: usize, of: fn(&super::tree::PredictedTokens) -> f64) -> Option<f64> {
        let read = self.tokens.iter().flat_map(|tree| tree.branches.iter().take(branches));
        let sum = |mean: Mean, tokens: &super::tree::PredictedTokens| {
            mean + Mean { sum: of(tokens), count: tokens.logprobs.len() }
        };
        read.fold(Mean::default(), sum).value()
    }
}

/// What the policy says of some trees, without derivatives, and the work that it took.
pub(super) fn read<D: Device>(
    model: &Model<D>,
    trees: &[&Tree],
    reading: TreeReading,
    tokens_max: usize,
) -> (Vec<TreeTokens>, f64) {
    read_dropping(model, trees, reading, tokens_max, None)
}

/// [`read`] with what a training pass drops, if anything.
fn read_dropping<D: Device>(
    model: &Model<D>,
    trees: &[&Tree],
    reading: TreeReading,
    tokens_max: usize,
    dropout: Option<u64>,
) -> (Vec<TreeTokens>, f64) {
    let rows: Vec<usize> = trees.iter().map(|tree| tree.rows(reading.branches)).collect();
    let (mut all, mut flops) = (Vec::with_capacity(trees.len()), 0.0);
    for group in microbatches(&rows, tokens_max) {
        let trees = &trees[group];
        let mut microbatch = TreeMicrobatch::new(trees, reading);
        microbatch.batch.dropout = dropout;
        flops += inference_flops(model, &microbatch.batch);
        let pass = model.forward(&microbatch.batch, Keep::Nothing);
        let output = model.logprobs(&pass, &microbatch.predictions, reading.head());
        all.extend(deal(trees, reading, &output));
    }
    (all, flops)
}
