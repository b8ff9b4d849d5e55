//! Scores from outside the process: the clients of `hearken-judge` as reward sources.

use hearken_judge::{CommandOptions, CommandScorer, HttpOptions, HttpScorer, Item, JudgeError};

use super::{RewardError, RewardSource, RolloutView, Score};

/// A program that is started once and asked batch after batch; see [`CommandScorer`].
#[derive(Debug)]
pub struct CommandSource {
    name: String,
    scorer: CommandScorer,
}

impl CommandSource {
    /// Starts the program.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, options: &CommandOptions) -> Result<Self, RewardError> {
        let scorer = CommandScorer::start(options).map_err(|source| judge_error(name, source))?;
        Ok(Self { name: name.to_owned(), scorer })
    }
}

impl RewardSource for CommandSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let scores = self.scorer.score(&items(rollouts));
        let scores = scores.map_err(|source| judge_error(&self.name, source))?;
        Ok(scores.into_iter().map(Score::Whole).collect())
    }
}

/// A server that is sent batches; see [`HttpScorer`].
#[derive(Debug)]
pub struct HttpSource {
    name: String,
    scorer: HttpScorer,
}

impl HttpSource {
    /// A client of the server. Nothing is sent.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(name: &str, options: HttpOptions) -> Result<Self, RewardError> {
        let scorer = HttpScorer::new(options).map_err(|source| judge_error(name, source))?;
        Ok(Self { name: name.to_owned(), scorer })
    }
}

impl RewardSource for HttpSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let scores = self.scorer.score(&items(rollouts));
        let scores = scores.map_err(|source| judge_error(&self.name, source))?;
        Ok(scores.into_iter().map(Score::Whole).collect())
    }
}

pub(crate) fn items<'a>(rollouts: &[RolloutView<'a>]) -> Vec<Item<'a>> {
    let item = |rollout: &RolloutView<'a>| Item {
        prompt: rollout.prompt,
        messages: rollout.messages,
        completion: rollout.completion,
        fields: rollout.fields,
    };
    rollouts.iter().map(item).collect()
}

pub(crate) fn judge_error(name: &str, source: JudgeError) -> RewardError {
    RewardError::Judge { name: name.to_owned(), source: Box::new(source) }
}
