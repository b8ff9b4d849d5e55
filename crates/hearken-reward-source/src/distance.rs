//! How far completions are from those of a baseline, as a reward model sees them.

use std::path::{Path, PathBuf};

use hearken_data::{Content, Demonstration, DemonstrationContent, ReadOptions, Source, read};
use hearken_stats::mahalanobis::Cloud;
use hearken_tensor::Device;
use serde_json::Map;

use super::reward_model::ScoredSequence;
use super::{Measure, Pace, RewardError, RewardModel, RewardSource, RolloutView, Score};

/// Mahalanobis distances of completions from a baseline's, in the last hidden state of a reward model, and which
/// of them are outliers.
///
/// A policy that exploits a reward model writes what the model has not seen: its hidden states leave the cloud
/// of those of the policy before. Miao et al. 2025, arXiv:2510.13694, whose reward model has a bottleneck; here it
/// is any, and the limit is not that of a χ² distribution, which the cloud need not have, but one that a share of
/// held-out completions of the baseline stays within.
#[derive(Debug)]
pub struct Distance<D: Device> {
    name: String,
    model: RewardModel<D>,
    cloud: Cloud,
}

impl<D: Device> Distance<D> {
    /// Reads the completions of `baseline` with `model`. A share `within` of such completions are no outliers.
    ///
    /// # Errors
    /// If a record cannot be read, by the model neither, or there are too few, or all are alike.
    pub fn new(model: RewardModel<D>, baseline: &Path, within: f64) -> Result<Self, RewardError> {
        let name = model.name().to_owned();
        let failed = |reason: String| RewardError::Load { path: baseline.to_owned(), reason };
        let (records, _) = read::<Demonstration>(baseline, &ReadOptions::default())
            .map_err(|error| failed(error.to_string()))?;
        let mut sequences = Vec::with_capacity(records.len());
        for record in &records {
            sequences.push(sequence(&model, record)?);
        }
        let points = points(&model, &sequences);
        let (found, expected) = (points.len(), Cloud::points_min(within));
        if found < expected {
            return Err(failed(format!(
                "found {found} completions, expected at least {expected}: half of them say where outliers begin"
            )));
        }
        let cloud = Cloud::fit(&points, within).ok_or_else(|| {
            failed("found completions that are all alike, expected some that differ".to_owned())
        })?;
        Ok(Self { name, model, cloud })
    }

    fn distances(&self, rollouts: &[RolloutView<'_>]) -> Result<Vec<f64>, RewardError> {
        let points = points(&self.model, &self.model.sequences(rollouts)?);
        Ok(points.iter().map(|point| self.cloud.distance(point)).collect())
    }
}

/// The last hidden state of each sequence.
fn points<D: Device>(model: &RewardModel<D>, sequences: &[ScoredSequence]) -> Vec<Vec<f64>> {
    let hidden = model.read(sequences, |pass, rows| model.model().hidden(pass, rows));
    let of_one = |values: &[f32]| values.iter().copied().map(f64::from).collect();
    hidden.chunks_exact(model.model().config().width).map(of_one).collect()
}

/// A record of the baseline in the model's tokens.
fn sequence<D: Device>(
    model: &RewardModel<D>,
    record: &Demonstration,
) -> Result<ScoredSequence, RewardError> {
    let Source { path, line } = &record.source;
    let failed = |reason: String| {
        let at = PathBuf::from(format!("{}:{line}", path.display()));
        RewardError::Load { path: at, reason }
    };
    let DemonstrationContent::Completion { prompt, completion } = &record.content else {
        return Err(failed("expected the columns `prompt` and `completion`".to_owned()));
    };
    let fields = Map::new();
    let view = RolloutView {
        prompt: "",
        messages: None,
        completion: "",
        prompt_ids: &[],
        completion_ids: &[],
        ended: true,
        fields: &fields,
    };
    let view = match (prompt, completion) {
        (Content::Text(prompt), Content::Text(completion)) => {
            RolloutView { prompt, completion, ..view }
        }
        (Content::Ids(prompt_ids), Content::Ids(completion_ids)) => {
            RolloutView { prompt_ids, completion_ids, ended: false, ..view }
        }
        (Content::Messages(messages), Content::Text(completion)) => {
            RolloutView { messages: Some(messages), completion, ..view }
        }
        (Content::Messages(messages), Content::Messages(answer)) if answer.len() == 1 => {
            RolloutView { messages: Some(messages), completion: &answer[0].content, ..view }
        }
        _ => {
            let expected =
                "expected a prompt and a completion that are texts, or token ids, or messages";
            return Err(failed(expected.to_owned()));
        }
    };
    let ids = model.sequences(&[view]).map(|mut one| one.remove(0));
    ids.map_err(|error| failed(error.to_string()))
}

impl<D: Device> RewardSource for Distance<D> {
    fn name(&self) -> &str {
        &self.name
    }

    /// As the reward model.
    fn pace(&self) -> Pace {
        Pace::Afterwards
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        Ok(self.distances(rollouts)?.into_iter().map(Score::from).collect())
    }

    /// The distance; then whether it is an outlier's, which counts for nothing.
    fn measures(&self) -> Vec<Measure> {
        Measure::beside(&self.name, "outliers", self.pace())
    }

    fn measured(
        &mut self,
        pace: Pace,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<Vec<Score>>, RewardError> {
        if pace != self.pace() {
            return Ok(Vec::new());
        }
        let distances = self.distances(rollouts)?;
        let outlier = |distance: &f64| f64::from(u8::from(self.cloud.limit() < *distance)).into();
        let outliers = distances.iter().map(outlier).collect();
        Ok(vec![distances.into_iter().map(Score::from).collect(), outliers])
    }
}
