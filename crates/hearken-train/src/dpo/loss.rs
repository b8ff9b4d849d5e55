//! From log-probabilities of trees to losses, derivatives and figures.

use hearken_objective::Mean;
use hearken_objective::aggregation::StepCounts;
use hearken_objective::dpo::nll::{Nll, NllTokens};
use hearken_objective::dpo::unpaired::{Desirability, UnpairedLoss, kto_reference_point};
use hearken_objective::dpo::weights::{TokenLikelihood, length_desensitized, wpo};
use hearken_objective::dpo::{CompletionSums, PairObjective, PairTerms, Reference, log_odds};
use hearken_objective::kl::ReferenceTerms;
use hearken_objective::numerics::log_sigmoid;
use hearken_objective::online::{NashMd, exploration};
use hearken_tensor::device::PredictionGrad;
use serde::{Deserialize, Serialize};

use super::objective::{Objective, ObjectiveKind, Reported};
use super::tree::{PredictedTokens, Tree, TreeLabel, TreeReading, TreeTokens};

/// Token log-probabilities under the reference, by branch; no branch where there is no reference.
pub(super) type RefLogprobs = Vec<Vec<f32>>;

/// All that the loss of a tree depends on.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) tree: &'a Tree,
    pub(super) tokens: &'a TreeTokens,
    pub(super) reference: &'a RefLogprobs,
}

/// What a tree adds to the loss of a step, and how that depends on its log-probabilities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TreeLoss {
    /// The loss, likelihood excluded; the step's is the mean over its trees.
    pub(super) loss: f64,
    /// Its derivative with respect to the weighted sum of each branch's log-probabilities.
    pub(super) branch_grads: Vec<f64>,
    /// On top of that, the derivative with respect to single tokens of the first branch; empty where
    /// they are all alike.
    pub(super) token_grads: Vec<f64>,
    /// The second term of a loss that has two, as far as it is in `loss`: XPO's α·log π, or Nash-MD's
    /// Σ w·log π before its β.
    pub(super) second: Option<f64>,
    /// −Σ log π of the tokens that the likelihood covers.
    pub(super) nll: f64,
    /// β times log-ratio, or what stands for it, of the first and of the second completion; of a
    /// single completion only on the side of its verdict.
    pub(super) rewards: [Option<f64>; 2],
    /// Log-probabilities, alike.
    pub(super) logprobs: [Option<f64>; 2],
    /// Log-odds of the chosen completion minus those of the rejected one.
    pub(super) log_odds: Option<f64>,
}

/// The losses of trees that were looked at together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Losses {
    pub(super) trees: Vec<TreeLoss>,
    /// KTO's reference point, in nats.
    pub(super) kl: Option<f64>,
}

impl Objective {
    /// The loss of every tree. Objectives that couple a batch take all of its trees at once.
    /// `reward_shift` is BCO's δ.
    pub(super) fn losses(&self, evidence: &[Evidence<'_>], reward_shift: f64) -> Losses {
        match &self.kind {
            ObjectiveKind::Paired(objective) => {
                let pairs: Vec<PairTerms> =
                    evidence.iter().map(|one| self.pair_terms(objective, one)).collect();
                let shifted =
                    self.shift_decay.map(|_| objective.clone().with_reward_shift(reward_shift));
                let values = shifted.as_ref().unwrap_or(objective).losses(&pairs);
                let trees = evidence.iter().zip(pairs).zip(values);
                let trees = trees.map(|((one, pair), value)| {
                    let figures = TreeLoss {
                        loss: value.loss,
                        branch_grads: vec![value.grad_chosen, value.grad_rejected],
                        nll: self.nll_sum(one),
                        ..self.pair_figures(&pair)
                    };
                    self.explore(one.tree, &pair, figures)
                });
                Losses { trees: trees.collect(), kl: None }
            }
            ObjectiveKind::Nash(objective) => {
                let tree = |one: &Evidence<'_>| nash_loss(*objective, one);
                Losses { trees: evidence.iter().map(tree).collect(), kl: None }
            }
            ObjectiveKind::Likelihood(_) => {
                let tree = |one: &Evidence<'_>| TreeLoss {
                    branch_grads: vec![0.0],
                    nll: self.nll_sum(one),
                    logprobs: [Some(self.sums(one, 0).logprob), None],
                    ..TreeLoss::default()
                };
                Losses { trees: evidence.iter().map(tree).collect(), kl: None }
            }
            ObjectiveKind::Unpaired(objective) => {
                let kl = (objective.loss == UnpairedLoss::Kto).then(|| {
                    let mismatched = evidence.iter().filter(|one| 1 < one.tokens.branches.len());
                    let ratios: Mean =
                        mismatched.map(|one| self.sums(one, 1).log_ratio()).collect();
                    let mean = ratios.value();
                    kto_reference_point(mean.as_slice())
                });
                let point = match objective.loss {
                    UnpairedLoss::Kto => kl.unwrap_or(0.0),
                    UnpairedLoss::Bco => reward_shift / objective.beta,
                    UnpairedLoss::ApoZero | UnpairedLoss::Outcome => 0.0,
                };
                let tree = |one: &Evidence<'_>| {
                    let (sums, verdict) = (self.sums(one, 0), one.tree.label.verdict());
                    let value = objective.loss(sums, verdict, point);
                    let reward = self.reward(sums);
                    TreeLoss {
                        loss: value.loss,
                        branch_grads: vec![value.grad],
                        rewards: on_side(verdict, reward),
                        logprobs: on_side(verdict, sums.logprob),
                        ..TreeLoss::default()
                    }
                };
                Losses { trees: evidence.iter().map(tree).collect(), kl }
            }
        }
    }

    /// Means of the implicit rewards of desirable and undesirable completions.
    pub(super) fn mean_rewards(&self, evidence: &[Evidence<'_>]) -> [Mean; 2] {
        let mut means = [Mean::default(); 2];
        for one in evidence {
            match self.kind {
                ObjectiveKind::Paired(_) => {
                    for (branch, mean) in means.iter_mut().enumerate() {
                        mean.push(self.reward(self.sums(one, branch)));
                    }
                }
                ObjectiveKind::Nash(_) | ObjectiveKind::Likelihood(_) => {}
                ObjectiveKind::Unpaired(_) => {
                    let side = usize::from(one.tree.label.verdict() == Desirability::Undesirable);
                    means[side].push(self.reward(self.sums(one, 0)));
                }
            }
        }
        means
    }

    /// Adds XPO's term for the branch that the reference wrote.
    fn explore(&self, tree: &Tree, pair: &PairTerms, mut loss: TreeLoss) -> TreeLoss {
        let Some(branch) = tree.explored else { return loss };
        let written = [pair.chosen, pair.rejected][branch];
        let (term, slope) = exploration(self.exploration, written.logprob);
        loss.loss += term;
        loss.branch_grads[branch] += slope;
        loss.second = Some(term);
        loss
    }

    fn pair_terms(&self, objective: &PairObjective, one: &Evidence<'_>) -> PairTerms {
        let TreeLabel { probability, margin } = one.tree.label;
        let weight = match self.wpo {
            true => one.tokens.branches.iter().map(likelihood).product(),
            false => 1.0,
        };
        let (chosen, rejected) = (self.sums(one, 0), self.sums(one, 1));
        debug_assert!(objective.reference == Reference::Free || !one.reference.is_empty());
        PairTerms { chosen, rejected, probability, margin, weight }
    }

    /// Sums over the tokens of a branch, under policy and reference.
    fn sums(&self, one: &Evidence<'_>, branch: usize) -> CompletionSums {
        let logprobs = &one.tokens.branches[branch].logprobs;
        let ref_logprobs: Vec<f64> = match one.reference.get(branch) {
            Some(of) => of.iter().map(|&logprob| logprob.into()).collect(),
            None => vec![0.0; logprobs.len()],
        };
        let terms = ReferenceTerms { logprobs, ref_logprobs: &ref_logprobs };
        match self.token_weights(one.tree) {
            None => CompletionSums::of(terms),
            Some(weights) => CompletionSums::weighted(terms, &weights[branch]),
        }
    }

    /// The weights of the tokens of both completions; `None` where each weighs 1.
    fn token_weights(&self, tree: &Tree) -> Option<[Vec<f64>; 2]> {
        let ObjectiveKind::Paired(objective) = &self.kind else { return None };
        let tokens = [0, 1].map(|branch| tree.completion_tokens(branch));
        (objective.tail_weight < 1.0).then(|| length_desensitized(tokens, objective.tail_weight))
    }

    fn pair_figures(&self, pair: &PairTerms) -> TreeLoss {
        let sides = [pair.chosen, pair.rejected];
        let odds = |sums: CompletionSums| log_odds(sums.logprob / sums.tokens.max(1) as f64);
        TreeLoss {
            rewards: sides.map(|sums| Some(self.reward(sums))),
            logprobs: sides.map(|sums| Some(self.reported_logprob(sums))),
            log_odds: self.reports_odds.then(|| odds(pair.chosen) - odds(pair.rejected)),
            ..TreeLoss::default()
        }
    }

    fn reward(&self, sums: CompletionSums) -> f64 {
        match self.reported {
            Reported::LogRatio => self.reward_scale * sums.log_ratio(),
            Reported::Sum | Reported::PerToken => self.reward_scale * self.reported_logprob(sums),
        }
    }

    fn reported_logprob(&self, sums: CompletionSums) -> f64 {
        match self.reported {
            Reported::LogRatio | Reported::Sum => sums.logprob,
            Reported::PerToken => sums.logprob / sums.tokens.max(1) as f64,
        }
    }

    fn nll_sum(&self, one: &Evidence<'_>) -> f64 {
        let Some(nll) = self.nll() else { return 0.0 };
        let sum = |tokens: &PredictedTokens| tokens.logprobs.iter().sum::<f64>();
        let prompt = match nll.tokens {
            NllTokens::PromptAndCompletion => sum(&one.tokens.prompt),
            NllTokens::Completion => 0.0,
        };
        -prompt - sum(&one.tokens.branches[0])
    }

    /// What −log π of each covered token of a tree weighs in the loss of the step; 0 without
    /// likelihood.
    pub(super) fn nll_weight(&self, tree: &Tree, counts: StepCounts) -> f64 {
        self.nll().map_or(0.0, |nll| nll.token_weight(nll_tokens(nll, tree), counts))
    }

    /// Chosen sequences and covered tokens of a whole step.
    pub(super) fn nll_counts(&self, trees: &[&Tree]) -> StepCounts {
        let nll = self.nll();
        StepCounts::of(trees.iter().map(|tree| nll.map_or(0, |nll| nll_tokens(nll, tree))))
    }

    /// Appends the derivative of the step's loss with respect to every prediction of a tree, in the
    /// order of the predictions.
    pub(super) fn push_grads(
        &self,
        grads: &mut Vec<PredictionGrad>,
        tree: &Tree,
        loss: &TreeLoss,
        step: StepShare,
        reading: TreeReading,
    ) {
        let nll_weight = self.nll_weight(tree, step.nll_counts);
        let mut push = |logprob: f64| {
            grads.push(PredictionGrad { logprob: logprob as f32, entropy: 0.0 });
        };
        if reading.prompt {
            (0..tree.prompt_tokens()).for_each(|_| push(-nll_weight));
        }
        let weights = self.token_weights(tree);
        for branch in 0..reading.branches.min(tree.branches.len()) {
            let grad = loss.branch_grads[branch] / step.trees as f64;
            let nll_weight = if branch == 0 { nll_weight } else { 0.0 };
            for token in 0..tree.completion_tokens(branch) {
                let weight = weights.as_ref().map_or(1.0, |weights| weights[branch][token]);
                let own = loss.token_grads.get(token).filter(|_| branch == 0);
                let own = own.map_or(0.0, |own| own / step.trees as f64);
                push(grad * weight + own - nll_weight);
            }
        }
    }
}

fn nash_loss(objective: NashMd, one: &Evidence<'_>) -> TreeLoss {
    let ref_logprobs: Vec<f64> = one.reference[0].iter().map(|&x| x.into()).collect();
    let logprobs = &one.tokens.branches[0].logprobs;
    let terms = ReferenceTerms { logprobs, ref_logprobs: &ref_logprobs };
    let found = objective.loss(terms, one.tree.label.probability);
    TreeLoss {
        loss: found.loss,
        branch_grads: vec![0.0],
        token_grads: found.grad_logprobs,
        second: Some(found.kl),
        ..TreeLoss::default()
    }
}

/// The sizes of a whole step.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepShare {
    pub(super) trees: usize,
    pub(super) nll_counts: StepCounts,
}

/// The mean of ln σ of the differences of log-odds.
pub(super) fn log_odds_ratio(trees: &[TreeLoss]) -> Mean {
    trees.iter().filter_map(|tree| tree.log_odds).map(log_sigmoid).collect()
}

/// How many tokens of a tree the likelihood covers.
fn nll_tokens(nll: Nll, tree: &Tree) -> usize {
    let prompt = match nll.tokens {
        NllTokens::PromptAndCompletion => tree.prompt_tokens(),
        NllTokens::Completion => 0,
    };
    prompt + tree.completion_tokens(0)
}

/// WPO's weight of one completion.
fn likelihood(tokens: &PredictedTokens) -> f64 {
    let of = tokens.logprobs.iter().zip(&tokens.log_square_sums);
    let tokens: Vec<TokenLikelihood> =
        of.map(|(&logprob, &log_square_sum)| TokenLikelihood { logprob, log_square_sum }).collect();
    wpo(&tokens)
}

fn on_side(verdict: Desirability, value: f64) -> [Option<f64>; 2] {
    match verdict {
        Desirability::Desirable => [Some(value), None],
        Desirability::Undesirable => [None, Some(value)],
    }
}
