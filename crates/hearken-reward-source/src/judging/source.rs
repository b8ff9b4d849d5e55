//! Ratings of language models as scores.

use std::path::{Path, PathBuf};

use hearken_config::{
    Base, Configuration as _, Dtype, ScoreConfig, SourceConfig, UnreadableAnswer,
};
use hearken_judge::Item;
use hearken_judge::model::KeptAnswers;
use hearken_judge::rating::RatingJudge;
use hearken_tensor::Device;

use super::config::{AskedTask, JudgingConfig, MemberKind};
use super::opening::{Asking, open_model, prompt_text, rating, with_template};
use crate::api::Conduct;
use crate::service::{items, judge_error};
use crate::{Measure, Pace, RewardError, RewardSource, RolloutView, Score};

/// Names the measurement of how many completions no judge has rated.
const UNREADABLE: &str = "unreadable";

/// Language models that say how good a completion is: the mean of their ratings, by the weights of judges and axes.
///
/// A completion that none of them gives a number gets the middle of the scale, and counts in a measurement of its own,
/// `unreadable`.
pub struct JudgeSource {
    name: String,
    raters: Vec<Rater>,
    pace: Pace,
    /// What stands in for a rating; nothing where its lack is an error.
    stand_in: Option<f64>,
    asking: Asking,
}

/// A judge that is asked about one axis.
struct Rater {
    weight: f64,
    judge: RatingJudge,
}

impl JudgeSource {
    /// Opens the judges that the configuration in `file` names; what they answer is kept in `answers`, and not asked again.
    /// Nobody is asked.
    ///
    /// # Errors
    /// If the configuration asks for something else than ratings, or a judge, the file of the template or that of the answers cannot be used.
    pub fn open<D: Device>(
        device: &D,
        name: &str,
        file: &Path,
        answers: Option<&Path>,
    ) -> Result<Self, RewardError> {
        let failed = |reason: String| RewardError::Judges { name: name.to_owned(), reason };
        let config = read(name, file)?;
        let kept = match answers {
            Some(path) => KeptAnswers::open(path).map_err(|error| failed(error.to_string()))?,
            None => KeptAnswers::in_memory(),
        };
        let asking = Asking::new(&config.budget, kept);
        let config = with_template(&config).map_err(|error| failed(error.to_string()))?;
        let conduct =
            Conduct { limit: config.ask.timeout_s.duration(), retries: config.ask.retries };
        let weights = || config.axes.iter().map(|axis| *axis.weight);
        let mut raters = Vec::new();
        let mut pace = Pace::Meanwhile;
        for member in &config.judges {
            let opened = open_model(device, member, conduct, &asking);
            let opened = opened.map_err(|source| judge_error(name, source))?;
            let (model, is_local, _) = opened.expect("language models alone");
            if is_local {
                pace = Pace::Afterwards;
            }
            let of_axes = rating(&config, &model, *config.ask.parallel, &asking);
            let weights = weights().chain(std::iter::repeat(1.0));
            raters.extend(
                of_axes
                    .into_iter()
                    .zip(weights)
                    .map(|((_, judge), weight)| Rater { weight: *member.weight * weight, judge }),
            );
        }
        let is_error = config.ask.on_unreadable == UnreadableAnswer::Error;
        let stand_in = (!is_error).then(|| 0.5 * (1.0 + *config.template.scale as f64));
        Ok(Self { name: name.to_owned(), raters, pace, stand_in, asking })
    }

    /// A rating of each, where there is one.
    fn ratings(&self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Option<f64>>, RewardError> {
        // A conversation as people would write it down, not as the policy's template renders it.
        let prompts: Vec<Option<String>> =
            rollouts.iter().map(|one| one.messages.map(prompt_text)).collect();
        let mut items: Vec<Item<'_>> = items(rollouts);
        for (item, prompt) in items.iter_mut().zip(&prompts) {
            item.prompt = prompt.as_deref().unwrap_or(item.prompt);
        }
        let mut sums = vec![(0.0, 0.0); rollouts.len()];
        for Rater { weight, judge } in &self.raters {
            let ratings = judge.rate(&items).map_err(|source| judge_error(&self.name, source))?;
            for ((sum, weights), rating) in sums.iter_mut().zip(ratings) {
                if let Some(score) = rating.score {
                    *sum += weight * score;
                    *weights += weight;
                }
            }
        }
        let mean = |(sum, weights): (f64, f64)| (0.0 < weights).then(|| sum / weights);
        Ok(sums.into_iter().map(mean).collect())
    }

    /// What none of the judges gives a number for.
    fn unrated(&self, rollout: &RolloutView<'_>) -> RewardError {
        let too_long = self.asking.kept.too_long();
        let why = if 0 < too_long { " (the question is longer than the model takes)" } else { "" };
        let reason =
            format!("found no number in the judge's answer{why}, expected one of the scale");
        RewardError::unreadable(&self.name, reason, rollout)
    }
}

impl RewardSource for JudgeSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        Ok(self.measured(self.pace, rollouts)?.swap_remove(0))
    }

    fn measures(&self) -> Vec<Measure> {
        let measure =
            |name: &str, weight| Measure { name: name.to_owned(), weight, pace: self.pace };
        vec![measure(&self.name, 1.0), measure(UNREADABLE, 0.0)]
    }

    fn measured(
        &mut self,
        pace: Pace,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<Vec<Score>>, RewardError> {
        if pace != self.pace {
            return Ok(Vec::new());
        }
        let (mut scores, mut unreadable) = (Vec::new(), Vec::new());
        for (rating, rollout) in self.ratings(rollouts)?.into_iter().zip(rollouts) {
            let score = rating.or(self.stand_in).ok_or_else(|| self.unrated(rollout))?;
            scores.push(Score::Whole(score));
            unreadable.push(Score::Whole(f64::from(u8::from(rating.is_none()))));
        }
        Ok(vec![scores, unreadable])
    }
}

/// A judge in this process, as memory is planned for it.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalJudge {
    /// Its folder.
    pub path: PathBuf,
    /// What its products read.
    pub dtype: Dtype,
    /// How its weights are held.
    pub base: Base,
}

/// The judges in this process that scores come from. Reads the configurations of judges, and opens none.
///
/// # Errors
/// If one of them cannot be used.
pub fn local_judges(scores: &[ScoreConfig]) -> Result<Vec<LocalJudge>, RewardError> {
    let mut found = Vec::new();
    for score in scores {
        let SourceConfig::Judge { config, .. } = &score.source else { continue };
        for member in read(score.label(), config)?.judges {
            if let MemberKind::Local { path, dtype, base } = member.who {
                found.push(LocalJudge { path, dtype, base });
            }
        }
    }
    Ok(found)
}

/// The configuration of judges that rate.
fn read(name: &str, file: &Path) -> Result<JudgingConfig, RewardError> {
    let failed = |reason: String| RewardError::Judges { name: name.to_owned(), reason };
    let config = JudgingConfig::load(file, &[]).map_err(|error| failed(error.to_string()))?.config;
    let unlike = |found: &str, expected: &str| {
        failed(format!("{}: found {found}, expected {expected}", file.display()))
    };
    if config.ask.task != AskedTask::Rate {
        let expected = "\"rate\": a score is of one completion";
        return Err(unlike("`ask.task` = \"compare\"", expected));
    }
    if config.judges.iter().any(|one| matches!(one.who, MemberKind::Reward { .. })) {
        let expected = "a language model: `kind = \"model\"` of [[score]] is a reward model";
        return Err(unlike("a judge of kind \"reward\"", expected));
    }
    Ok(config)
}
