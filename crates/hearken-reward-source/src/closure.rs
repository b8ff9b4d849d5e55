//! Scores from a Rust function.

use std::fmt;

use super::{RewardError, RewardSource, RolloutView, Score};

type Function<'f> = dyn FnMut(&RolloutView<'_>) -> Result<f64, String> + Send + 'f;

/// A function of one rollout, called for each in order.
///
/// ```
/// use hearken_reward_source::{Closure, RewardSource};
/// let politeness = Closure::new("politeness", |rollout| {
///     Ok(rollout.completion.matches("please").count() as f64)
/// });
/// assert_eq!(politeness.name(), "politeness");
/// ```
pub struct Closure<'f> {
    name: String,
    function: Box<Function<'f>>,
}

impl<'f> Closure<'f> {
    /// Names a function. An `Err` of the function stops the run with that text.
    pub fn new(
        name: &str,
        function: impl FnMut(&RolloutView<'_>) -> Result<f64, String> + Send + 'f,
    ) -> Self {
        Self { name: name.to_owned(), function: Box::new(function) }
    }
}

impl RewardSource for Closure<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let one = |rollout| (self.function)(rollout).map(Score::Whole);
        rollouts
            .iter()
            .map(one)
            .collect::<Result<_, _>>()
            .map_err(|reason| RewardError::Closure { name: self.name.clone(), reason })
    }
}

impl fmt::Debug for Closure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closure").field("name", &self.name).finish_non_exhaustive()
    }
}
