//! Several sources at once.

use super::{Measure, Pace, RewardError, RewardSource, RolloutView, Score};

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
pub struct BatchScores {
    /// Σ weight·score of the whole completion, one per rollout.
    pub total: Vec<f64>,
    /// Σ weight·score of each token, one list per rollout, where a source scores tokens or steps; it is
    /// part of the total. Empty where none does.
    pub of_tokens: Vec<Vec<f64>>,
    /// Each measure's name and its own scores of whole completions, unweighted.
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

    /// Scores from every source, and their weighted sum.
    ///
    /// # Errors
    /// Of the first source that fails or gives anything but one finite score per rollout.
    pub fn sum(&mut self, rollouts: &[RolloutView<'_>]) -> Result<BatchScores, RewardError> {
        let meanwhile = self.measured(Pace::Meanwhile, rollouts)?;
        let afterwards = self.measured(Pace::Afterwards, rollouts)?;
        let tokens: Vec<usize> = rollouts.iter().map(|one| one.completion_ids.len()).collect();
        Ok(sum_of(&self.measures(), meanwhile, afterwards, &tokens))
    }
}

impl RewardSource for WeightedSum<'_> {
    fn name(&self) -> &'static str {
        "sum"
    }

    /// With the slowest of its sources.
    fn pace(&self) -> Pace {
        let waits = self.sources.iter().any(|one| one.source.pace() == Pace::Afterwards);
        if waits { Pace::Afterwards } else { Pace::Meanwhile }
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let BatchScores { total, of_tokens, .. } = self.sum(rollouts)?;
        if of_tokens.is_empty() {
            return Ok(total.into_iter().map(Score::Whole).collect());
        }
        let with_rest = |(total, mut tokens): (f64, Vec<f64>)| {
            let rest = total - tokens.iter().sum::<f64>();
            match tokens.last_mut() {
                Some(last) => *last += rest,
                None => return Score::Whole(total),
            }
            Score::Tokens(tokens)
        };
        Ok(total.into_iter().zip(of_tokens).map(with_rest).collect())
    }

    fn measures(&self) -> Vec<Measure> {
        let of_source = |one: &Weighted<'_>| {
            let of_own = |own: Measure| {
                let is_score = own.name == one.source.name();
                let name = if is_score {
                    one.label.clone()
                } else {
                    format!("{}/{}", one.label, own.name)
                };
                Measure { name, weight: one.weight * own.weight, pace: own.pace }
            };
            one.source.measures().into_iter().map(of_own).collect::<Vec<_>>()
        };
        self.sources.iter().flat_map(of_source).collect()
    }

    fn measured(
        &mut self,
        pace: Pace,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<Vec<Score>>, RewardError> {
        let mut found = Vec::new();
        for one in &mut self.sources {
            found.extend(one.source.measured(pace, rollouts)?);
        }
        Ok(found)
    }
}

/// The weighted sum of what was measured at both paces, of rollouts of so many tokens each.
///
/// # Panics
/// If a measure has no scores.
pub fn sum_of(
    measures: &[Measure],
    meanwhile: Vec<Vec<Score>>,
    afterwards: Vec<Vec<Score>>,
    tokens: &[usize],
) -> BatchScores {
    let (mut meanwhile, mut afterwards) = (meanwhile.into_iter(), afterwards.into_iter());
    let mut scores = BatchScores { total: vec![0.0; tokens.len()], ..BatchScores::default() };
    for Measure { name, weight, pace } in measures {
        let own = match pace {
            Pace::Meanwhile => meanwhile.next(),
            Pace::Afterwards => afterwards.next(),
        };
        let own = own.expect("scores of every measure");
        let of_parts = own.iter().any(|score| !matches!(score, Score::Whole(_)));
        if of_parts && scores.of_tokens.is_empty() && *weight != 0.0 {
            scores.of_tokens = tokens.iter().map(|&count| vec![0.0; count]).collect();
        }
        for (score, rewards) in own.iter().zip(&mut scores.of_tokens) {
            score.add_to(*weight, rewards);
        }
        let own: Vec<f64> = own.iter().map(Score::total).collect();
        for (total, score) in scores.total.iter_mut().zip(&own) {
            *total += weight * score;
        }
        scores.by_source.push((name.clone(), own));
    }
    scores
}

impl std::fmt::Debug for WeightedSum<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.sources.iter().map(|one| (&one.label, one.weight))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Closure, Heuristic};

    fn views(completions: &[&'static str]) -> Vec<RolloutView<'static>> {
        static NO_FIELDS: std::sync::LazyLock<serde_json::Map<String, serde_json::Value>> =
            std::sync::LazyLock::new(serde_json::Map::new);
        let view = |completion: &&'static str| RolloutView {
            prompt: "p",
            messages: None,
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
        let scores = sum.sum(&views(&["ab", "b"])).unwrap();
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
            let error = sum.sum(&views(&["a", "b"])).unwrap_err().to_string();
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
            fn score(&mut self, _: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
                Ok(vec![1.0.into()])
            }
        }
        let error = WeightedSum::new().with(Lazy, 1.0).sum(&views(&["a", "b"])).unwrap_err();
        assert!(matches!(error, RewardError::Count { found: 1, expected: 2, .. }), "{error}");
    }

    #[test]
    fn scores_of_tokens_and_steps_are_part_of_the_total() {
        struct Parts;
        impl RewardSource for Parts {
            fn name(&self) -> &'static str {
                "parts"
            }
            fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
                let step = |last| crate::StepScore { last, score: 3.0 };
                let of = |one: &RolloutView<'_>| match one.completion {
                    "far" => Score::Steps(vec![step(7)]),
                    "steps" => Score::Steps(vec![step(0)]),
                    _ => Score::Tokens(vec![0.5]),
                };
                Ok(rollouts.iter().map(of).collect())
            }
        }
        let mut sum =
            WeightedSum::new().with(Closure::new("whole", |_| Ok(1.0)), 2.0).with(Parts, 2.0);
        let scores = sum.sum(&views(&["tokens", "steps"])).unwrap();
        assert_eq!((scores.total, scores.of_tokens), (vec![3.0, 8.0], vec![vec![1.0], vec![6.0]]));
        assert_eq!(scores.by_source[1], ("parts".to_owned(), vec![0.5, 3.0]));
        let error = sum.sum(&views(&["far"])).unwrap_err().to_string();
        assert!(error.contains("parts") && error.contains("which has 1"), "{error}");
    }

    #[test]
    fn a_closure_may_refuse() {
        let mut sum =
            WeightedSum::new().with(Closure::new("c", |_| Err("no answer".to_owned())), 1.0);
        assert!(sum.sum(&views(&["a"])).unwrap_err().to_string().contains("no answer"));
    }
}
