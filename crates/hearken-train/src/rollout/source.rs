//! Where rollouts come from: a model here, a mixture of two, or a file; servers are in
//! [`served`](super::served).

use std::ops::ControlFlow;
use std::sync::Arc;

use hearken_config::SamplingDtype;
use hearken_data::Completion;
use hearken_generate::{
    Mixture, SamplingRequest, TokenSampled, generate_mixed, generate_with, unobserved,
};
use hearken_model::{Model, Tokenizer};
use hearken_reward_source::{BatchScores, RewardSource};
use hearken_run::encode::PromptExample;
use hearken_run::error::TrainError;
use hearken_tensor::Device;

use super::sample::{SampleOptions, refused, sample_scored, sample_scored_by};
use super::{RecordedIteration, Rollout};

/// Whoever completes prompts.
///
/// What comes says itself which version of the policy wrote it, with which probabilities, and whether it was
/// recorded: [`Rollout::origin`](super::Rollout::origin) and the log-probabilities of its completion.
pub(crate) trait RolloutSource {
    /// The rollouts of the iteration [`SampleOptions::index`], on `prompts` where the source asks for any,
    /// with the scores of `sources` or with those that were recorded.
    fn rollouts(
        &mut self,
        prompts: &[Arc<PromptExample>],
        options: &SampleOptions<'_>,
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError>;
}

/// A model in this process.
pub(crate) struct Local<'a, D: Device> {
    pub(crate) model: &'a Model<D>,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    /// What its weights are held in meanwhile.
    pub(crate) dtype: SamplingDtype,
}

impl<D: Device> Local<'_, D> {
    /// Completes requests whose completions nobody scores yet.
    pub(crate) fn complete(
        &self,
        requests: &[SamplingRequest],
        options: &SampleOptions<'_>,
    ) -> Result<Vec<Vec<Completion>>, TrainError> {
        let sampled = self.model.for_sampling(self.dtype.int8());
        let model = sampled.as_ref().unwrap_or(self.model);
        let SampleOptions { sampling, engine, .. } = options;
        let observer = &mut unobserved();
        generate_with(model, self.tokenizer, requests, sampling, engine, observer).map_err(refused)
    }
}

impl<D: Device> RolloutSource for Local<'_, D> {
    fn rollouts(
        &mut self,
        prompts: &[Arc<PromptExample>],
        options: &SampleOptions<'_>,
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
        // Completions take many passes, for which weights are worth merging and rounding.
        let sampled = self.model.for_sampling(self.dtype.int8());
        let model = sampled.as_ref().unwrap_or(self.model);
        sample_scored(model, self.tokenizer, prompts, options, sources)
    }
}

/// A model in this process with a share of another's distribution.
pub(crate) struct Mixed<'a, D: Device> {
    pub(crate) model: &'a Model<D>,
    pub(crate) other: &'a Model<D>,
    /// Of the other.
    pub(crate) share: f64,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    /// What the weights of both are held in meanwhile.
    pub(crate) dtype: SamplingDtype,
}

impl<D: Device> RolloutSource for Mixed<'_, D> {
    fn rollouts(
        &mut self,
        prompts: &[Arc<PromptExample>],
        options: &SampleOptions<'_>,
        sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
        let Self { model, other, share, tokenizer, dtype } = *self;
        let sampled = [model, other].map(|model| model.for_sampling(dtype.int8()));
        let model = sampled[0].as_ref().unwrap_or(model);
        let other = sampled[1].as_ref().unwrap_or(other);
        let mut sampler =
            |requests: &[SamplingRequest],
             observer: &mut dyn FnMut(TokenSampled<'_>) -> ControlFlow<()>| {
                let mixture = Mixture { model: other, share };
                generate_mixed(model, &mixture, tokenizer, requests, options.sampling, observer)
                    .map_err(refused)
            };
        sample_scored_by(&mut sampler, tokenizer, prompts, options, sources)
    }
}

/// A file, iteration after iteration, and again from its start.
pub(crate) struct Replay<'a>(pub(crate) &'a [RecordedIteration]);

impl RolloutSource for Replay<'_> {
    fn rollouts(
        &mut self,
        _prompts: &[Arc<PromptExample>],
        options: &SampleOptions<'_>,
        _sources: &mut dyn RewardSource,
    ) -> Result<(Vec<Rollout>, BatchScores), TrainError> {
        let index = (options.index % self.0.len() as u64) as usize;
        let (rollouts, total) = self.0[index].rollouts.iter().cloned().unzip();
        Ok((rollouts, BatchScores { total, ..BatchScores::default() }))
    }
}
