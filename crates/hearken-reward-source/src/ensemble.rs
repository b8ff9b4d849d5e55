//! One score of several reward models.

use hearken_objective::ensemble::{Combination, spread};
use hearken_tensor::Device;

use super::{Measure, Pace, RewardError, RewardModel, RewardSource, RolloutView, Score};

/// Several reward models whose scores become one; how far they are apart is measured too. The particles of a model are as many
/// reward models.
#[derive(Debug)]
pub struct Ensemble<D: Device> {
    name: String,
    members: Vec<RewardModel<D>>,
    combination: Combination,
}

impl<D: Device> Ensemble<D> {
    /// An ensemble of reward models for one policy.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(name: &str, members: Vec<RewardModel<D>>, combination: Combination) -> Self {
        assert!(!members.is_empty(), "an ensemble has members");
        Self { name: name.to_owned(), members, combination }
    }

    /// An ensemble of reward models and of the particles beside them.
    ///
    /// # Errors
    /// If a file of particles cannot be used, or there is one reward model alone, without any.
    ///
    /// # Panics
    /// If there is no reward model.
    pub fn of_particles(
        name: &str,
        mut members: Vec<RewardModel<D>>,
        combination: Combination,
    ) -> Result<Self, RewardError> {
        let mut opinions = 0;
        for member in &mut members {
            opinions += member.load_particles()?.max(1);
        }
        match (opinions, members.first()) {
            (..2, Some(alone)) => Err(RewardError::Load {
                path: alone.path().to_owned(),
                reason: "found no particles, expected some: it is the only one of its ensemble"
                    .to_owned(),
            }),
            _ => Ok(Self::new(name, members, combination)),
        }
    }

    /// The scores of each rollout, one for each member or particle.
    fn opinions(&self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Vec<f64>>, RewardError> {
        let mut opinions = vec![Vec::with_capacity(self.members.len()); rollouts.len()];
        for member in &self.members {
            let scores = member.opinions(&member.sequences(rollouts)?);
            for ((of_one, scores), rollout) in opinions.iter_mut().zip(scores).zip(rollouts) {
                if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
                    return Err(RewardError::not_finite(member.name(), *score, rollout));
                }
                of_one.extend(scores);
            }
        }
        Ok(opinions)
    }
}

impl<D: Device> RewardSource for Ensemble<D> {
    fn name(&self) -> &str {
        &self.name
    }

    /// As its members.
    fn pace(&self) -> Pace {
        Pace::Afterwards
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let combined = |scores: Vec<f64>| self.combination.combine(&scores).into();
        Ok(self.opinions(rollouts)?.into_iter().map(combined).collect())
    }

    /// The combined score; then how far the members are apart, which counts for nothing.
    fn measures(&self) -> Vec<Measure> {
        Measure::beside(&self.name, "spread", self.pace())
    }

    fn measured(
        &mut self,
        pace: Pace,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<Vec<Score>>, RewardError> {
        if pace != self.pace() {
            return Ok(Vec::new());
        }
        let opinions = self.opinions(rollouts)?;
        let combined = opinions.iter().map(|scores| self.combination.combine(scores).into());
        let spreads = opinions.iter().map(|scores| spread(scores).into());
        Ok(vec![combined.collect(), spreads.collect()])
    }
}
