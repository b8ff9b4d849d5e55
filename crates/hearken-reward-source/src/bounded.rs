//! A source whose scores flatten above those of the reference.

use std::collections::HashMap;

use hearken_objective::bounded::Bound;
use serde_json::Value;

use super::{Measure, Pace, RewardError, RewardSource, RolloutView, Score, finite_scores};

/// A source of scores of whole completions, each replaced by what it gains over the scores of the reference's
/// completions of the same prompt, which are a column of the prompts; or over 0, which is the mean score of a
/// reward model that is normalized. The reference's completions are scored once a run.
pub struct Bounded<'s> {
    source: Box<dyn RewardSource + 's>,
    bound: Bound,
    reference: Option<Reference>,
}

/// Who the completions are compared with.
struct Reference {
    column: String,
    /// The scores of those that were asked for: by prompt and texts.
    known: HashMap<(String, Vec<String>), Vec<f64>>,
}

impl<'s> Bounded<'s> {
    /// A source whose scores are bounded; `column` of the prompts has the reference's completions, as texts.
    pub fn new(source: Box<dyn RewardSource + 's>, bound: Bound, column: Option<&str>) -> Self {
        let reference =
            column.map(|column| Reference { column: column.to_owned(), known: HashMap::new() });
        Self { source, bound, reference }
    }

    /// What each score gains over the reference.
    fn bounded(
        &mut self,
        rollouts: &[RolloutView<'_>],
        scores: Vec<Score>,
    ) -> Result<Vec<Score>, RewardError> {
        let references = match &mut self.reference {
            None => vec![vec![0.0]; rollouts.len()],
            Some(reference) => reference.scores(&mut *self.source, rollouts)?,
        };
        let gain = |(score, references): (Score, Vec<f64>)| {
            Score::Whole(self.bound.of(score.total(), &references))
        };
        Ok(scores.into_iter().zip(references).map(gain).collect())
    }
}

impl Reference {
    /// The scores of the reference's completions of each rollout's prompt.
    fn scores(
        &mut self,
        source: &mut dyn RewardSource,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<Vec<f64>>, RewardError> {
        let mut of_each = Vec::with_capacity(rollouts.len());
        for rollout in rollouts {
            let key = (rollout.prompt.to_owned(), self.texts(source.name(), rollout)?);
            let known = match self.known.get(&key) {
                Some(known) => known.clone(),
                None => scores_of(source, rollout, &key.1)?,
            };
            of_each.push(known.clone());
            self.known.insert(key, known);
        }
        Ok(of_each)
    }

    /// The reference's completions of a prompt.
    fn texts(&self, name: &str, rollout: &RolloutView<'_>) -> Result<Vec<String>, RewardError> {
        let column = &self.column;
        let found = rollout.fields.get(column);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = match found {
            Some(Value::Array(several)) if !several.is_empty() => {
                several.iter().map(text).collect::<Option<Vec<_>>>()
            }
            Some(value) => text(value).map(|text| vec![text]),
            None => None,
        };
        texts.ok_or_else(|| {
            let found = found.map_or_else(|| "nothing".to_owned(), Value::to_string);
            let expected = "expected a completion of the reference, or a list of them";
            let reason = format!("found {found} in the column `{column}`, {expected}");
            RewardError::unreadable(name, reason, rollout)
        })
    }
}

/// The scores of completions that are known as texts, in place of the rollout's own.
fn scores_of(
    source: &mut dyn RewardSource,
    rollout: &RolloutView<'_>,
    texts: &[String],
) -> Result<Vec<f64>, RewardError> {
    let view =
        |completion| RolloutView { completion, completion_ids: &[], ended: true, ..*rollout };
    let views: Vec<RolloutView<'_>> = texts.iter().map(|text| view(text.as_str())).collect();
    Ok(finite_scores(source, &views)?.iter().map(Score::total).collect())
}

impl RewardSource for Bounded<'_> {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn pace(&self) -> Pace {
        self.source.pace()
    }

    fn score(&mut self, rollouts: &[RolloutView<'_>]) -> Result<Vec<Score>, RewardError> {
        let scores = finite_scores(&mut *self.source, rollouts)?;
        self.bounded(rollouts, scores)
    }

    /// Those of the source; what is bounded is its score, the first of them. The unbounded one is measured too.
    fn measures(&self) -> Vec<Measure> {
        let mut measures = self.source.measures();
        let raw = Measure { name: "unbounded".to_owned(), weight: 0.0, pace: measures[0].pace };
        measures.insert(1, raw);
        measures
    }

    fn measured(
        &mut self,
        pace: Pace,
        rollouts: &[RolloutView<'_>],
    ) -> Result<Vec<Vec<Score>>, RewardError> {
        let mut found = self.source.measured(pace, rollouts)?;
        if let Some(scores) = found.first().cloned() {
            found[0] = self.bounded(rollouts, scores.clone())?;
            found.insert(1, scores);
        }
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exact by construction.
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::{Closure, WeightedSum};

    fn fields(reference: Value) -> Map<String, Value> {
        [("best".to_owned(), reference)].into_iter().collect()
    }

    fn view<'a>(completion: &'a str, fields: &'a Map<String, Value>) -> RolloutView<'a> {
        RolloutView {
            prompt: "p",
            messages: None,
            completion,
            prompt_ids: &[1],
            completion_ids: &[2],
            ended: false,
            fields,
        }
    }

    /// As many points as characters.
    fn length() -> Box<dyn RewardSource> {
        Box::new(Closure::new("length", |one| Ok(one.completion.len() as f64)))
    }

    #[test]
    fn a_completion_as_good_as_the_references_gains_a_half() {
        let mut source = Bounded::new(length(), Bound::Sigmoid, Some("best"));
        let (one, two) = (fields(json!("abc")), fields(json!(["abc", "abcde"])));
        let scores = source.score(&[view("abc", &one), view("abcd", &two), view("", &one)]);
        let scores: Vec<f64> = scores.unwrap().iter().map(Score::total).collect();
        assert_eq!(scores[0], 0.5);
        // Above one as much as it is below the other.
        assert!((scores[1] - 0.5).abs() < 1e-15 && scores[2] < 0.05);
    }

    #[test]
    fn without_a_column_the_reference_is_at_0() {
        let none = Map::new();
        let mut source = Bounded::new(length(), Bound::LogSigmoid, None);
        let score = source.score(&[view("", &none)]).unwrap()[0].total();
        assert_eq!(score, Bound::LogSigmoid.of(0.0, &[0.0]));
    }

    #[test]
    fn both_the_bounded_and_the_unbounded_score_are_measured() {
        let mut sum = WeightedSum::new();
        sum.push(Box::new(Bounded::new(length(), Bound::Sigmoid, None)), 2.0);
        sum.label_last("shape");
        let none = Map::new();
        let scores = sum.sum(&[view("abc", &none)]).unwrap();
        let bounded = Bound::Sigmoid.of(3.0, &[0.0]);
        assert_eq!(scores.total, [2.0 * bounded]);
        let measured = [("shape", bounded), ("shape/unbounded", 3.0)];
        let measured = measured.map(|(name, score)| (name.to_owned(), vec![score]));
        assert_eq!(scores.by_source, measured);
    }

    #[test]
    fn a_prompt_without_a_reference_is_named_with_what_it_has() {
        let mut source = Bounded::new(length(), Bound::Sigmoid, Some("best"));
        for (reference, found) in
            [(json!(3), "found 3"), (json!([]), "found []"), (json!([1]), "[1]")]
        {
            let fields = fields(reference);
            let error = source.score(&[view("a", &fields)]).unwrap_err().to_string();
            assert!(error.contains(found) && error.contains("the column `best`"), "{error}");
        }
        let error = source.score(&[view("a", &Map::new())]).unwrap_err().to_string();
        assert!(error.contains("found nothing in the column `best`"), "{error}");
    }
}
