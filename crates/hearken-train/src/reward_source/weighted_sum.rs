//! Several sources at once.

use super::{Pace, RewardError, RewardSource, RolloutView, finite_scores};

/// A sum of sources, each times its weight. A source of weight 0 is only measured.
#[derive(Default)]
pub struct WeightedSum<'s> {
    sources: Vec<Weighted<'s>>,
}

struct Weighted<'s> {
    label: String,
    source: Box<dyn RewardSource + 's>,
    weight: f64,
}

/// The scores of a batch of rollouts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Σ weight·score, one per rollout.
    pub total: Vec<f64>,
    /// Each source's name and its own scores, unweighted.
    pub by_source: Vec<(String, Vec<f64>)>,
}

impl<'s> WeightedSum<'s> {
    /// No source: every total is 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source.
    #[must_use]
    pub fn with(mut self, source: impl RewardSource + 's, weight: f64) -> Self {
        self.push(Box::new(source), weight);
        self
    }

    /// Adds a source.
    pub fn push(&mut self, source: Box<dyn RewardSource + 's>, weight: f64) {
        let label = source.name().to_owned();
        self.sources.push(Weighted { label, source, weight });
    }

    /// Names the source added last anew, for metrics.
    ///
    /// # Panics
    /// If there is none.
    pub fn label_last(&mut self, label: &str) {
        let last = self.sources.last_mut().expect("a source was added");
        label.clone_into(&mut last.label);
    }

    /// Whether no source counts: all weights are 0, or there is none.
    pub fn is_silent(&self) -> bool {
        self.sources.iter().all(|one| one.weight == 0.0)
    }

    /// The names of the sources, in order.
    pub fn names(&self) -> Vec<String> {
        self.sources.iter().map(|one| one.label.clone()).collect()
    }

    /// The weights of the sources, in order.
    pub fn weights(&self) -> Vec<f64> {
        self.sources.iter().map(|one| one.weight).collect()
    }

    /// Scores from every source, and their weighted sum.
    ///
    /// # Errors
    /// Of the first source that fails or gives anything but one finite score per rollout.
    pub fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Scores, RewardError> {
        let meanwhile = self.scores_of(Pace::Meanwhile, rollouts)?;
        let afterwards = self.scores_of(Pace::Afterwards, rollouts)?;
        Ok(self.sum(meanwhile, afterwards, rollouts.len()))
    }

    /// The labels of the sources of one pace, in order.
    pub(crate) fn names_of(&self, pace: Pace) -> Vec<&str> {
        let of_pace = self.sources.iter().filter(|one| one.source.pace() == pace);
        of_pace.map(|one| one.label.as_str()).collect()
    }

    /// The unweighted scores of each source of one pace, in order.
    pub(crate) fn scores_of(
        &mut self,
        pace: Pace,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<Vec<f64>>, RewardError> {
        if rollouts.is_empty() {
            return Ok(vec![Vec::new(); self.names_of(pace).len()]);
        }
        let of_pace = self.sources.iter_mut().filter(|one| one.source.pace() == pace);
        of_pace.map(|one| finite_scores(one.source.as_mut(), rollouts)).collect()
    }

    /// The weighted sum of the scores of both paces, for so many rollouts.
    pub(crate) fn sum(
        &self,
        meanwhile: Vec<Vec<f64>>,
        afterwards: Vec<Vec<f64>>,
        rollouts: usize,
    ) -> Scores {
        let (mut meanwhile, mut afterwards) = (meanwhile.into_iter(), afterwards.into_iter());
        let mut scores = Scores { total: vec![0.0; rollouts], by_source: Vec::new() };
        for one in &self.sources {
            let own = match one.source.pace() {
                Pace::Meanwhile => meanwhile.next(),
                Pace::Afterwards => afterwards.next(),
            };
            let own = own.expect("scores of every source");
            for (total, score) in scores.total.iter_mut().zip(&own) {
                *total += one.weight * score;
            }
            scores.by_source.push((one.label.clone(), own));
        }
        scores
    }
}

impl std::fmt::Debug for WeightedSum<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.sources.iter().map(|one| (&one.label, one.weight))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward_source::{Closure, Heuristic};

    fn views(completions: &[&'static str]) -> Vec<RolloutView<'static>> {
        static NO_FIELDS: std::sync::LazyLock<serde_json::Map<String, serde_json::Value>> =
            std::sync::LazyLock::new(serde_json::Map::new);
        let view = |completion: &&'static str| RolloutView {
            prompt: "p",
            completion,
            prompt_ids: &[1],
            completion_ids: &[2],
            ended: true,
            fields: &NO_FIELDS,
        };
        completions.iter().map(view).collect()
    }

    #[test]
    fn totals_are_weighted_and_a_weight_of_zero_only_measures() {
        let mut sum = WeightedSum::new()
            .with(Heuristic::Contains("a".to_owned()), 2.0)
            .with(Closure::new("length", |r| Ok(r.completion.len() as f64)), -0.5)
            .with(Closure::new("watched", |_| Ok(100.0)), 0.0);
        let scores = sum.score(&views(&["ab", "b"])).unwrap();
        assert_eq!(scores.total, [1.0, -0.5]);
        assert_eq!(scores.by_source[1], ("length".to_owned(), vec![2.0, 1.0]));
        assert_eq!(scores.by_source[2].1, [100.0, 100.0]);
        assert!(!sum.is_silent() && WeightedSum::new().is_silent());
    }

    #[test]
    fn a_score_that_is_not_finite_names_source_and_completion() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut sum = WeightedSum::new().with(
                Closure::new("broken", |r| Ok(if r.completion == "b" { bad } else { 0.0 })),
                0.0,
            );
            let error = sum.score(&views(&["a", "b"])).unwrap_err().to_string();
            assert!(error.contains("broken") && error.contains("\"b\""), "{error}");
        }
    }

    #[test]
    fn a_source_with_too_few_scores_is_an_error() {
        struct Lazy;
        impl RewardSource for Lazy {
            fn name(&self) -> &'static str {
                "lazy"
            }
            fn score(&mut self, _: &[RolloutView<'_>]) -> Result<Vec<f64>, RewardError> {
                Ok(vec![1.0])
            }
        }
        let error = WeightedSum::new().with(Lazy, 1.0).score(&views(&["a", "b"])).unwrap_err();
        assert!(matches!(error, RewardError::Count { found: 1, expected: 2, .. }), "{error}");
    }

    #[test]
    fn a_closure_may_refuse() {
        let mut sum =
            WeightedSum::new().with(Closure::new("c", |_| Err("no answer".to_owned())), 1.0);
        assert!(sum.score(&views(&["a"])).unwrap_err().to_string().contains("no answer"));
    }
}
