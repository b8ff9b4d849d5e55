//! Rewards for the steps of completions, from a process reward model.

use std::path::PathBuf;

use hearken_config::StepRewards;
use hearken_model::steps::{StepTokens, encode_steps, with_first_token};
use hearken_model::tokenizer::ContinuationDecoder;
use hearken_model::{Head, LoadOptions, Masters, Model, Tokenizer, stored_head};
use hearken_objective::process::StepAggregation;
use hearken_tensor::Device;
use hearken_tensor::device::Precision;

use super::reward_model::encoded_prompt;
use super::step_scorer::StepScorer;
use super::{Pace, RewardError, RewardSource, RolloutView, Score, StepScore};
use crate::process_file::ProcessRewardFile;

/// Which process reward model scores, and how.
#[derive(Clone, Debug)]
pub struct ProcessRewardOptions {
    /// Names the source in metrics and errors.
    pub name: String,
    /// A Hugging Face directory of a `*ForTokenClassification` model with two or three classes.
    pub path: PathBuf,
    /// What matrix products read.
    pub precision: Precision,
    /// How its weights are held; they are only read.
    pub masters: Masters,
    /// How the scores of steps become one.
    pub aggregate: StepAggregation,
    /// Where rewards fall.
    pub rewards: StepRewards,
    /// The most rows of one forward pass.
    pub microbatch_tokens: usize,
}

/// A process reward model. It reads a completion as text, step by step, in tokens of its own; a step's reward falls on
/// the policy's token that ends it.
#[derive(Debug)]
pub struct ProcessReward<D: Device> {
    options: ProcessRewardOptions,
    scorer: StepScorer<D>,
    tokenizer: Tokenizer,
    policy: ContinuationDecoder,
}

impl<D: Device> ProcessReward<D> {
    /// Loads a process reward model that scores what a policy with `policy_tokenizer` samples.
    ///
    /// # Errors
    /// If the checkpoint or its tokenizer cannot be used, or the policy has no tokenizer: steps are parts of a text.
    pub fn load(
        device: D,
        options: ProcessRewardOptions,
        policy_tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, RewardError> {
        let path = options.path.clone();
        let failed = |reason: String| RewardError::Load { path: path.clone(), reason };
        let Some(policy) = policy_tokenizer.map(Tokenizer::continuation_decoder) else {
            let reason = "it reads steps, and the policy has no tokenizer: found no text";
            return Err(failed(reason.to_owned()));
        };
        let head = stored_head(&path).map_err(|error| failed(error.to_string()))?;
        if !matches!(head, Head::StepClasses(2 | 3)) {
            let reason = "found no head of two or three classes, expected a process reward model";
            return Err(failed(reason.to_owned()));
        }
        let (precision, masters) = (options.precision, options.masters);
        let load = LoadOptions { precision, masters, head, ..LoadOptions::language_model() };
        let (model, _) =
            Model::load(device, &path, &load).map_err(|error| failed(error.to_string()))?;
        let tokenizer = Tokenizer::load(&path).map_err(|error| failed(error.to_string()))?;
        let file = ProcessRewardFile::load(&path).map_err(|error| failed(error.to_string()))?;
        let scorer = StepScorer::of_classes(model, file.unwrap_or_default());
        Ok(Self { options, scorer, tokenizer, policy })
    }

    /// The tokens of a rollout's steps.
    fn tokens(
        &self,
        rollout: &RolloutView<'_>,
        steps: &[CompletionStep<'_>],
    ) -> Result<StepTokens, RewardError> {
        let unreadable =
            |reason: String| RewardError::unreadable(&self.options.name, reason, rollout);
        let mut prompt = encoded_prompt(&self.tokenizer, rollout).map_err(unreadable)?;
        if rollout.messages.is_none() {
            prompt = with_first_token(&self.tokenizer, prompt);
        }
        let texts: Vec<String> = steps.iter().map(|step| step.text.to_owned()).collect();
        let separator = self.scorer.separator();
        let tokens = encode_steps(&self.tokenizer, &prompt, &texts, separator)
            .map_err(|error| unreadable(error.to_string()))?;
        let (found, limit) = (tokens.ids.len(), self.scorer.model().config().max_positions);
        if limit < found {
            return Err(unreadable(format!("found {found} tokens, expected at most {limit}")));
        }
        Ok(tokens)
    }

    /// What the scores of a rollout's steps are worth.
    fn reward(
        &self,
        rollout: &RolloutView<'_>,
        steps: &[CompletionStep<'_>],
        scores: &[f64],
    ) -> Score {
        let aggregate = |scores: &[f64]| self.options.aggregate.of(scores).unwrap_or(0.0);
        if self.options.rewards == StepRewards::Whole {
            return Score::Whole(aggregate(scores));
        }
        let mut before = 0.0;
        let step = |(index, step): (usize, &CompletionStep<'_>)| {
            let score = match self.options.rewards {
                StepRewards::Steps => scores[index],
                // Their sum is the score of the whole, however many steps there are.
                StepRewards::Differences | StepRewards::Whole => {
                    let value = aggregate(&scores[..=index]);
                    value - std::mem::replace(&mut before, value)
                }
            };
            StepScore { last: self.last_token(rollout, step.end), score }
        };
        Score::Steps(steps.iter().enumerate().map(step).collect())
    }

    /// The token of the completion that ends its first `end` bytes: the first one up to which the text has so many.
    fn last_token(&self, rollout: &RolloutView<'_>, end: usize) -> usize {
        let ids = rollout.completion_ids;
        let written = |count: usize| self.policy.decode(&ids[..count]).len();
        let (mut few, mut enough) = (0, ids.len());
        while few + 1 < enough {
            let middle = few.midpoint(enough);
            if written(middle) < end { few = middle } else { enough = middle }
        }
        enough.saturating_sub(1)
    }
}

impl<D: Device> RewardSource for ProcessReward<D> {
    fn name(&self) -> &str {
        &self.options.name
    }

    /// It wants the device that samples, and its batches are the same whatever ends first.
    fn pace(&self) -> Pace {
        Pace::Afterwards
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let separator = self.scorer.separator();
        let steps: Vec<Vec<CompletionStep<'_>>> =
            rollouts.iter().map(|one| steps(one.completion, separator)).collect();
        let both = || rollouts.iter().zip(&steps);
        let tokens = both().filter(|(_, steps)| !steps.is_empty());
        let tokens: Vec<StepTokens> =
            tokens.map(|(one, steps)| self.tokens(one, steps)).collect::<Result<_, _>>()?;
        let mut scores = self.scorer.scores(&tokens, self.options.microbatch_tokens).into_iter();
        let mut reward = |(one, steps): (&RolloutView<'_>, &Vec<CompletionStep<'_>>)| {
            if steps.is_empty() {
                // Who writes nothing has earned nothing.
                return self.reward(one, steps, &[]);
            }
            let scores = scores.next().expect("scores of every solution");
            self.reward(one, steps, &scores)
        };
        Ok(both().map(&mut reward).collect())
    }
}

/// A step of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CompletionStep<'a> {
    text: &'a str,
    /// Bytes of the completion up to its end, the separator included.
    end: usize,
}

/// The steps of a completion, as [`hearken_data::Content::steps`] has them, with their ends.
fn steps<'a>(completion: &'a str, separator: &str) -> Vec<CompletionStep<'a>> {
    let mut end = 0;
    let mut found = Vec::new();
    for text in completion.split(separator) {
        end = (end + text.len() + separator.len()).min(completion.len());
        let text = text.trim_end();
        if !text.trim().is_empty() {
            found.push(CompletionStep { text, end });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_behind_their_separators() {
        let step = |text, end| CompletionStep { text, end };
        assert_eq!(steps("1\n22\n", "\n"), [step("1", 2), step("22", 5)]);
        assert_eq!(steps("1\n\n22 ", "\n"), [step("1", 2), step("22", 6)]);
        assert_eq!(steps("\n \n", "\n"), []);
        let text = "a\n\nb\n\n\nc";
        let texts: Vec<&str> = steps(text, "\n\n").iter().map(|step| step.text).collect();
        assert_eq!(texts, hearken_data::Content::Text(text.into()).steps("\n\n"));
    }
}
