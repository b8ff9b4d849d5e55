//! The gradient of one optimizer step, microbatch by microbatch.

use hearken_config::KlPlacement;
use hearken_model::OutputGrads;
use hearken_objective::{
    Mean,
    aggregation::{Aggregation, StepCounts},
    kl::ReferenceTerms,
    surrogate::{PolicyTerms, RatioLevel, Surrogate, TokenLoss, metrics::RatioMetrics},
    value::{ValueTerms, ValuesLoss},
};
use hearken_run::ranks::Shares;
use hearken_tensor::Device;
use hearken_tensor::device::PredictionGrad;

use super::{config::PpoConfig, credit::Experience, metrics::PpoStepSums};
use crate::rollout::session::RolloutSession;
use crate::rollout::{CompletionBatch, ForwardOptions, Sequence, completion_microbatches};

/// What stays the same over a step's microbatches.
#[derive(Clone, Copy, Debug)]
struct StepContext<'a> {
    config: &'a PpoConfig,
    forward: ForwardOptions,
    /// The coefficient of the KL penalty in force.
    beta: f64,
    /// Weight of a token: one over the tokens of the whole step.
    token_weight: f64,
}

/// Adds the gradients of this process's share of a minibatch and returns its sums. What a token weighs is known
/// beforehand, so the split into shares and microbatches changes nothing.
pub(super) fn accumulate<D: Device>(
    session: &mut RolloutSession<D>,
    minibatch: &[&Experience],
    shares: &Shares,
    config: &PpoConfig,
) -> PpoStepSums {
    let forward = session.forward_options();
    let counts = StepCounts::of(minibatch.iter().map(|one| one.tokens()));
    // The same for every length: the mean runs over tokens.
    let token_weight = Aggregation::PerToken.token_weight(1, counts);
    let minibatch = &shares.pick(minibatch);
    let context = StepContext { config, forward, beta: session.kl.beta(), token_weight };
    let sequences: Vec<Sequence<'_>> =
        minibatch.iter().map(|one| one.scored.rollout.sequence()).collect();
    let mut sums = PpoStepSums::default();
    for group in completion_microbatches(&sequences, forward.microbatch_tokens) {
        let batch = CompletionBatch::new(&sequences[group.clone()]);
        let microbatch = PpoMicrobatch { batch, experience: &minibatch[group], context };
        sums = sums.merge(microbatch.policy(session));
        sums = sums.merge(microbatch.separate_critic(session));
    }
    sums
}

struct PpoMicrobatch<'a> {
    batch: CompletionBatch,
    experience: &'a [&'a Experience],
    context: StepContext<'a>,
}

impl PpoMicrobatch<'_> {
    /// The policy's pass; that of its value head too, if it has the critic's place.
    fn policy<D: Device>(&self, session: &mut RolloutSession<D>) -> PpoStepSums {
        let StepContext { config, forward, token_weight, .. } = self.context;
        let run = &mut session.run;
        let head = forward.head(*config.ppo.entropy_coef != 0.0);
        let mut pass = run.forward(&self.batch.batch);
        let predictions = &self.batch.predictions;
        let output = run.model.logprobs_keeping(&mut pass, predictions, head, forward.logits_bytes);
        let entropy = output.entropy.iter().map(|entropy| f64::from(*entropy)).collect();
        let mut sums = PpoStepSums { entropy, ..PpoStepSums::default() };
        let logprob_grads = self.policy_losses(&self.batch.split(&output.logprobs), &mut sums);
        let entropy = (-*config.ppo.entropy_coef * token_weight) as f32;
        let prediction_grads: Vec<PredictionGrad> =
            logprob_grads.into_iter().map(|logprob| PredictionGrad { logprob, entropy }).collect();
        let (mut scalar_rows, mut scalar_grads) = (Vec::new(), Vec::new());
        if run.companion.is_none() {
            scalar_rows = self.batch.rows();
            let values = self.batch.split(&run.model.scalars(&pass, &scalar_rows));
            scalar_grads = self.value_losses(&values, &mut sums);
        }
        let grads = OutputGrads {
            predictions,
            prediction_grads: &prediction_grads,
            head: forward.head(false),
            scalar_rows: &scalar_rows,
            scalar_grads: &scalar_grads,
        };
        run.backward(pass, &grads);
        sums
    }

    /// The pass of a critic of its own, if there is one.
    fn separate_critic<D: Device>(&self, session: &mut RolloutSession<D>) -> PpoStepSums {
        let (batch, mut sums) = (&self.batch, PpoStepSums::default());
        session.run.train_companion(&batch.batch, &batch.rows(), |values| {
            self.value_losses(&batch.split(values), &mut sums)
        });
        sums
    }

    /// Clipped surrogate, and the KL where it is a term of the loss; returns the derivative with
    /// respect to every log-probability.
    fn policy_losses(&self, logprobs: &[Vec<f64>], sums: &mut PpoStepSums) -> Vec<f32> {
        let StepContext { config, beta, token_weight, .. } = self.context;
        let surrogate = Surrogate::Clipped { clip: config.ppo.clip() };
        let kl_in_loss = config.kl.placement == KlPlacement::Loss;
        let mut grads = Vec::with_capacity(self.batch.predictions.len());
        for (one, logprobs) in self.experience.iter().zip(logprobs) {
            let old_logprobs = one.ratio_base(config.correction);
            let terms = PolicyTerms { logprobs, old_logprobs, advantages: &one.advantages };
            let TokenLoss { sum, mut grad_logprobs, .. } = surrogate.loss(RatioLevel::Token, terms);
            sums.policy += Mean { sum, count: logprobs.len() };
            sums.ratios = sums.ratios.merge(RatioMetrics::of(terms, config.ppo.clip()));
            if kl_in_loss {
                let ref_logprobs = &one.scored.ref_logprobs;
                let terms = ReferenceTerms { logprobs, ref_logprobs };
                sums.kl += Mean::of(&config.kl.estimator.per_token(terms));
                let slopes = config.kl.estimator.gradient(terms);
                grad_logprobs
                    .iter_mut()
                    .zip(slopes)
                    .for_each(|(grad, slope)| *grad += beta * slope);
            }
            grads.extend(grad_logprobs.iter().map(|grad| (grad * token_weight) as f32));
        }
        grads
    }

    /// Value loss; returns its derivative, coefficient included, with respect to every value.
    fn value_losses(&self, values: &[Vec<f64>], sums: &mut PpoStepSums) -> Vec<f32> {
        let StepContext { config, token_weight, .. } = self.context;
        let weight = *config.ppo.value_coef * token_weight;
        let mut grads = Vec::with_capacity(self.batch.predictions.len());
        for (one, values) in self.experience.iter().zip(values) {
            let terms = ValueTerms { values, old_values: &one.old_values, returns: &one.returns };
            let ValuesLoss { sum, grad_values, clipped } = config.ppo.value_loss.loss(terms);
            sums.value += Mean { sum, count: values.len() };
            sums.value_clipped += clipped;
            grads.extend(grad_values.iter().map(|grad| (grad * weight) as f32));
        }
        grads
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use hearken_data::{Completion, StopReason};
    use hearken_model::Model;
    use hearken_tensor::Cpu;
    use serde_json::Map;

    use super::*;
    use crate::ppo::Ppo;
    use crate::rollout::settings::Configured;
    use crate::rollout::train::{Inputs, Iterations};
    use crate::rollout::{Rollout, RolloutOrigin, ScoredRollout};
    use hearken_config::Configuration;
    use hearken_config::LoadedConfig;
    use hearken_objective::grpo::shaping::SamplerCorrection;
    use hearken_reward_source::WeightedSum;
    use hearken_run::encode::PromptExample;
    use hearken_run::progress::Silent;
    use hearken_run::run::Opened;
    use hearken_run::run_dir::Start;

    /// Two completions of one prompt; all that the past says of them is off the current policy.
    fn experience() -> Vec<Experience> {
        let prompt = Arc::new(PromptExample {
            ids: vec![5, 6, 7],
            text: String::new(),
            messages: None,
            fields: Map::new(),
            source: hearken_data::Source::default(),
        });
        let one = |ids: Vec<u32>, sign: f64| {
            let n = ids.len();
            let wave = |phase: f64| -> Vec<f64> {
                (0..n).map(|t| sign * (phase + t as f64).sin()).collect()
            };
            let logprobs = |phase| wave(phase).iter().map(|x| 0.05 * x - 5.95).collect();
            let stop_reason = StopReason::Length;
            let rollout = Rollout {
                prompt: Arc::clone(&prompt),
                group: 0,
                completion: Completion { ids, logprobs: logprobs(4.0), stop_reason },
                text: String::new(),
                origin: RolloutOrigin::Sampled { version: 0 },
            };
            Experience {
                scored: ScoredRollout {
                    rollout,
                    score: 0.0,
                    token_scores: Vec::new(),
                    ref_logprobs: logprobs(1.0),
                },
                old_logprobs: logprobs(0.0),
                old_values: vec![0.0; n],
                advantages: wave(2.0),
                returns: wave(3.0),
            }
        };
        vec![one(vec![8, 9, 10, 11], 1.0), one(vec![12, 13], -1.0)]
    }

    /// A run in `folder`; what it replays is not looked at.
    fn session(folder: &Path) -> (PpoConfig, RolloutSession<Cpu>) {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let model = crates.join("hearken-model/tests/fixtures/hf/llama");
        let replay = folder.join("rollouts.jsonl");
        let line = r#"{"iteration": 0, "prompt_ids": [5], "completion_ids": [6], "score": 0.0}"#;
        std::fs::write(&replay, line).unwrap();
        let mut layers = PpoConfig::defaults(Path::new("test"));
        for (key, value) in [("run.dir", folder.join("run")), ("model.path", model)] {
            layers.set(&format!("{key}={}", value.display())).unwrap();
        }
        layers.set(&format!("rollout.replay={}", replay.display())).unwrap();
        for text in [
            "rollout.temperature=0.8",
            "kl.placement=loss",
            "kl.estimator=k3",
            "kl.beta=0.3",
            // Nothing is clipped: the loss is smooth.
            "ppo.clip_low=1",
            "ppo.clip_high=100",
            "ppo.value_clip=0",
            "ppo.entropy_coef=0.2",
            "ppo.minibatches=1",
        ] {
            layers.set(text).unwrap();
        }
        let LoadedConfig { config, frozen } = PpoConfig::from_layers(layers).unwrap();
        let mut sources = WeightedSum::new();
        let inputs = Inputs { frozen: &frozen, entry: Start::Fresh.into(), sources: &mut sources };
        let (ppo, settings) = (Ppo { config: config.clone() }, config.settings());
        let opened = Iterations::open(Cpu::new(), ppo, settings, inputs, &mut Silent).unwrap();
        let Opened::Ready(iterations) = opened else { panic!("a new run") };
        (config, iterations.session)
    }

    fn shift(model: &mut Model<Cpu>, direction: &[Option<Vec<f32>>], by: f64) {
        let device = model.device().clone();
        model.params_mut().update(|index, values| {
            let Some(direction) = &direction[index] else { return };
            let mut new = vec![0.0; direction.len()];
            device.download(values, 0, &mut new);
            new.iter_mut().zip(direction).for_each(|(x, d)| *x += (by * f64::from(*d)) as f32);
            device.write(values, 0, &new);
        });
    }

    /// Along its own direction, the derivative of the loss is the norm of the gradient.
    #[test]
    fn policy_value_entropy_and_kl_enter_one_gradient() {
        check_gradient(SamplerCorrection::None);
    }

    #[test]
    fn so_they_do_where_ratios_are_to_the_sampler() {
        check_gradient(SamplerCorrection::Ratio);
    }

    fn check_gradient(correction: SamplerCorrection) {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, mut session) = session(folder.path());
        config.correction = correction;
        let experience = experience();
        for one in &experience {
            let sampled = correction == SamplerCorrection::Ratio;
            let expected =
                if sampled { &one.scored.rollout.completion.logprobs } else { &one.old_logprobs };
            assert_eq!(one.ratio_base(correction), expected);
        }
        let minibatch: Vec<&Experience> = experience.iter().collect();
        let step = |session: &mut RolloutSession<Cpu>| -> f64 {
            session.run.begin_step();
            let shares = session.run.ranks.shares(&[1, 1]);
            let sums = accumulate(session, &minibatch, &shares, &config);
            let mean = |mean: Mean| mean.value().unwrap();
            mean(sums.policy) + 0.1 * mean(sums.value) - 0.2 * mean(sums.entropy)
                + 0.3 * mean(sums.kl)
        };
        step(&mut session);
        let (policy, gradients) = (&session.run.model, &session.run.gradients);
        let norm = gradients.sum_of_squares().sqrt();
        let direction: Vec<Option<Vec<f32>>> = (0..policy.params().len())
            .map(|index| {
                let buffer = gradients.get(index)?;
                let mut values = vec![0.0; policy.device().len(buffer)];
                policy.device().download(buffer, 0, &mut values);
                for x in &mut values {
                    *x /= norm as f32;
                }
                Some(values)
            })
            .collect();
        let h = 2e-3;
        shift(&mut session.run.model, &direction, h);
        let above = step(&mut session);
        shift(&mut session.run.model, &direction, -2.0 * h);
        let below = step(&mut session);
        let slope = (above - below) / (2.0 * h);
        assert!((slope / norm - 1.0).abs() < 5e-3, "slope {slope}, norm {norm}");
    }
}
