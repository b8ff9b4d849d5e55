//! What a reader is told of a run besides its steps: evaluations, a sample, and advice where nothing is
//! learned.

use serde_json::{Map, Value};

use crate::metrics::Log;
use crate::progress::Progress;

/// Figures of an evaluation that are shown; the rest is in metrics.jsonl.
const FIGURES_MAX: usize = 4;
/// Characters of a prompt and of a completion that are shown.
const SHOWN_CHARS: usize = 60;
/// Records from which on it can be said that nothing is learned.
const RECORDS_MIN: usize = 8;

/// Says what is new in the logs of a run.
#[derive(Debug, Default)]
pub(crate) struct Commentary {
    /// What has been advised already.
    advised: Vec<Hopeless>,
}

/// Why a run teaches nothing, however long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hopeless {
    FlatGroups,
    CutOff,
    Chance,
}

impl Commentary {
    /// Tells of evaluations and of the first sample that were written since the last call, and gives each
    /// advice once.
    pub(crate) fn tell(
        &mut self,
        metrics: &mut Log,
        samples: &mut Log,
        progress: &mut dyn Progress,
    ) {
        let evaluations = metrics.take_news();
        evaluations.iter().filter_map(evaluation).for_each(|text| progress.note(&text));
        if let Some(text) = samples.take_news().first().and_then(sample) {
            progress.note(&text);
        }
        for hopeless in Hopeless::of(metrics) {
            if !self.advised.contains(&hopeless) {
                self.advised.push(hopeless);
                progress.note(hopeless.advice());
            }
        }
    }

    /// What still holds at the end of a run is said again, where it is seen.
    pub(crate) fn conclude(&self, metrics: &Log, progress: &mut dyn Progress) {
        for hopeless in Hopeless::of(metrics) {
            if self.advised.contains(&hopeless) {
                progress.note(hopeless.advice());
            }
        }
    }
}

impl Hopeless {
    /// What the last records of a run say.
    fn of(metrics: &Log) -> Vec<Self> {
        let records: Vec<&Map<String, Value>> =
            metrics.recent().filter_map(Value::as_object).collect();
        let all = |key: &str, holds: &dyn Fn(f64) -> bool| {
            let values: Vec<f64> =
                records.iter().filter_map(|record| record.get(key)?.as_f64()).collect();
            RECORDS_MIN <= values.len() && values.into_iter().all(holds)
        };
        let mut found = Vec::new();
        if all("frac_reward_zero_std", &|share| 1.0 <= share) {
            found.push(Self::FlatGroups);
        }
        if all("completions/clipped_ratio", &|share| 1.0 <= share)
            || all("completions/share_ended", &|share| share <= 0.0)
        {
            found.push(Self::CutOff);
        }
        let last = records.iter().rev().find_map(|record| record.get("eval_accuracy"));
        // One evaluation at the start says nothing about learning.
        let later = records.iter().filter(|record| record.contains_key("loss")).count();
        if RECORDS_MIN <= later && last.is_some_and(is_chance) {
            found.push(Self::Chance);
        }
        found
    }

    /// Two lines: what is wrong, and which key changes it.
    fn advice(self) -> &'static str {
        match self {
            Self::FlatGroups => {
                "nothing is learned: in every group all completions have the same score\n\
                 → scores that differ (`score`), or a higher `rollout.temperature` or `rollout.completions`"
            }
            Self::CutOff => {
                "every completion is cut off by the length limit, and none ends by itself\n\
                 → a higher `rollout.max_new_tokens`, or a `model.path` that has learned to end (hearken sft)"
            }
            Self::Chance => {
                "the accuracy on held-out pairs is that of a coin\n\
                 → more `train.steps`, a higher `optimizer.lr`, or more pairs in `data.train`"
            }
        }
    }
}

/// Whether the interval of an accuracy holds a half.
fn is_chance(accuracy: &Value) -> bool {
    let end = |key: &str| accuracy.get(key).and_then(Value::as_f64);
    end("low").zip(end("high")).is_some_and(|(low, high)| low <= 0.5 && 0.5 <= high)
}

/// "evaluation after step 40: eval_loss 0.6450, eval_accuracy 0.7020".
fn evaluation(record: &Value) -> Option<String> {
    let record = record.as_object()?;
    let number = |value: &Value| value.as_f64().or_else(|| value.get("value")?.as_f64());
    let named = record.iter().filter(|(key, _)| key.starts_with("eval_"));
    let figures = named.filter_map(|(key, value)| Some(format!("{key} {:.4}", number(value)?)));
    let figures: Vec<String> = figures.take(FIGURES_MAX).collect();
    let step = record.get("step")?.as_u64()?;
    let text = || format!("evaluation after step {step}: {}", figures.join(", "));
    (!figures.is_empty()).then(text)
}

/// "sample after step 40: the end of the prompt → its completion".
fn sample(record: &Value) -> Option<String> {
    let text = |key: &str| Some(record.get(key)?.as_str()?.split_whitespace().collect::<Vec<_>>());
    let (prompt, completion) = (text("prompt")?.join(" "), text("completion")?.join(" "));
    let skipped = prompt.chars().count().saturating_sub(SHOWN_CHARS);
    let prompt: String = prompt.chars().skip(skipped).collect();
    let shown: String = completion.chars().take(SHOWN_CHARS).collect();
    let (before, after) =
        (mark(0 < skipped), mark(shown.chars().count() < completion.chars().count()));
    let step = record.get("step")?.as_u64()?;
    Some(format!("sample after step {step}: {before}{prompt} → {shown}{after}"))
}

/// Where something is left out.
fn mark(left_out: bool) -> &'static str {
    if left_out { "…" } else { "" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Progress for Heard {
        fn stage(&mut self, _: &str, _: Option<u64>) {}
        fn step(&mut self, _: &crate::progress::StepReport<'_>) {}
        fn note(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
        fn stop_requested(&self) -> bool {
            false
        }
    }

    /// What is said of these records, told of after each, and at the end.
    fn heard(records: &[Value], samples: &[Value]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Log::open(&folder.path().join("metrics.jsonl"), 0).unwrap();
        let mut written = Log::open(&folder.path().join("samples.jsonl"), 0).unwrap();
        for sample in samples {
            written.append(sample).unwrap();
        }
        let (mut commentary, mut heard) = (Commentary::default(), Heard::default());
        for record in records {
            metrics.append(record).unwrap();
            commentary.tell(&mut metrics, &mut written, &mut heard);
        }
        commentary.conclude(&metrics, &mut heard);
        heard.0
    }

    #[test]
    fn evaluations_and_the_first_sample_are_told_once() {
        let estimate = json!({"value": 0.75, "low": 0.7, "high": 0.8, "n": 99});
        let records = [
            json!({"step": 3, "loss": 1.0}),
            json!({"step": 3, "eval_loss": 0.5, "eval_accuracy": estimate}),
            json!({"step": 4, "loss": 1.0}),
        ];
        let sample = |text: &str| json!({"step": 3, "prompt": "Hi,\nyou", "completion": text});
        let samples = [sample(&"so ".repeat(40)), sample("other")];
        let heard = heard(&records, &samples);
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert!(
            heard[0].starts_with("sample after step 3: Hi, you → so so") && heard[0].ends_with('…')
        );
        assert_eq!(heard[1], "evaluation after step 3: eval_loss 0.5000, eval_accuracy 0.7500");
    }

    #[test]
    fn a_run_that_cannot_learn_is_told_which_key_to_change() {
        let repeated = |record: Value, times: usize| vec![record; times];
        let flat =
            json!({"loss": 0.0, "frac_reward_zero_std": 1.0, "completions/clipped_ratio": 0.5});
        assert!(heard(&repeated(flat.clone(), 7), &[]).is_empty());
        let told = heard(&repeated(flat, 20), &[]);
        assert_eq!(told.len(), 2, "once when it is seen and once at the end: {told:?}");
        assert!(told[0].contains("rollout.temperature") && told[0].lines().count() == 2);

        let cut = json!({"loss": 0.0, "completions/share_ended": 0.0});
        assert!(heard(&repeated(cut, 9), &[])[0].contains("rollout.max_new_tokens"));

        let accuracy = |low: f64| json!({"step": 9, "eval_accuracy": {"value": 0.55, "low": low, "high": 0.6}});
        let mut records = repeated(json!({"loss": 0.7}), 9);
        records.push(accuracy(0.45));
        assert!(heard(&records, &[]).iter().any(|text| text.contains("that of a coin")));
        records.push(accuracy(0.52));
        assert!(!heard(&records[..9], &[]).iter().any(|text| text.contains("coin")));
        assert!(!heard(&records, &[]).last().unwrap().contains("coin"));
    }
}
