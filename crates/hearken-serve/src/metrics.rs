//! What is counted, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearken_data::StopReason;
use hearken_generate::EngineStats;

/// Upper ends of the classes of durations, in seconds.
const CLASSES: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Durations by class.
#[derive(Debug, Default)]
struct Durations {
    /// One per class, and one for what is longer than all.
    counts: [u64; CLASSES.len() + 1],
    sum_s: f64,
}

impl Durations {
    fn add(&mut self, duration: Duration) {
        let s = duration.as_secs_f64();
        let class = CLASSES.iter().position(|&end| s <= end).unwrap_or(CLASSES.len());
        self.counts[class] += 1;
        self.sum_s += s;
    }

    fn write(&self, name: &str, help: &str, out: &mut String) {
        head(name, "histogram", help, out);
        let mut total = 0;
        for (end, count) in CLASSES.iter().zip(self.counts) {
            total += count;
            line(&format!("{name}_bucket{{le=\"{end}\"}}"), total as f64, out);
        }
        total += self.counts[CLASSES.len()];
        line(&format!("{name}_bucket{{le=\"+Inf\"}}"), total as f64, out);
        line(&format!("{name}_sum"), self.sum_s, out);
        line(&format!("{name}_count"), total as f64, out);
    }
}

#[derive(Debug, Default)]
struct ServeCounts {
    /// By path and status.
    requests: BTreeMap<(String, u16), u64>,
    /// By reason.
    ended: BTreeMap<&'static str, u64>,
    first_token: Durations,
    answer: Durations,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counts: Mutex<ServeCounts>,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
    pub(crate) swaps: AtomicU64,
    pub(crate) rolled_back: AtomicU64,
    pub(crate) shadows_left_out: AtomicU64,
    pub(crate) lines_lost: AtomicU64,
}

/// A served model at this moment.
pub(crate) struct ModelFacts {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Of its engine, unless another model before it has the same.
    pub(crate) stats: Option<EngineStats>,
}

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, ServeCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request(&self, path: &str, status: u16) {
        *self.counts().requests.entry((path.to_owned(), status)).or_default() += 1;
    }

    pub(crate) fn first_token(&self, after: Duration) {
        self.counts().first_token.add(after);
    }

    pub(crate) fn answer(&self, took: Duration) {
        self.counts().answer.add(took);
    }

    /// A completion that has ended, or been broken off where there is no reason.
    pub(crate) fn ended(&self, reason: Option<StopReason>) {
        let reason = match reason {
            Some(StopReason::EndOfText) => "end_of_text",
            Some(StopReason::StopSequence) => "stop_sequence",
            Some(StopReason::Length) => "length",
            Some(StopReason::Positions) => "positions",
            None => "broken_off",
        };
        *self.counts().ended.entry(reason).or_default() += 1;
    }

    /// All of it as text. `under_way` are the completions that run or wait.
    pub(crate) fn text(&self, models: &[ModelFacts], under_way: usize) -> String {
        let mut out = String::new();
        let counts = self.counts();
        head("hearken_requests_total", "counter", "Requests answered.", &mut out);
        for ((path, status), &count) in &counts.requests {
            let series = format!("hearken_requests_total{{path=\"{path}\",status=\"{status}\"}}");
            line(&series, count as f64, &mut out);
        }
        head("hearken_completions_total", "counter", "Completions by how they ended.", &mut out);
        for (reason, &count) in &counts.ended {
            let series = format!("hearken_completions_total{{reason=\"{reason}\"}}");
            line(&series, count as f64, &mut out);
        }
        let totals = [
            ("hearken_prompt_tokens_total", "Tokens of prompts.", &self.prompt_tokens),
            ("hearken_completion_tokens_total", "Tokens sampled.", &self.completion_tokens),
            ("hearken_weights_swaps_total", "Times that new weights came.", &self.swaps),
            ("hearken_candidates_rolled_back_total", "Candidates found worse.", &self.rolled_back),
            (
                "hearken_shadows_left_out_total",
                "Answers that a shadow had no place for.",
                &self.shadows_left_out,
            ),
            ("hearken_log_lines_lost_total", "Lines that were not written.", &self.lines_lost),
        ];
        for (name, help, value) in totals {
            head(name, "counter", help, &mut out);
            line(name, value.load(Ordering::Relaxed) as f64, &mut out);
        }
        let name = "hearken_time_to_first_token_seconds";
        counts.first_token.write(name, "From a request to its first token.", &mut out);
        let name = "hearken_answer_seconds";
        counts.answer.write(name, "From a request to the end of its answer.", &mut out);
        let name = "hearken_completions_under_way";
        head(name, "gauge", "Completions that run or wait.", &mut out);
        line(name, under_way as f64, &mut out);
        models_text(models, &mut out);
        out
    }
}

/// A count of an engine.
type EngineCount = fn(&EngineStats) -> usize;

fn models_text(models: &[ModelFacts], out: &mut String) {
    head("hearken_model_info", "gauge", "The weights that new requests get.", out);
    for ModelFacts { name, version, .. } in models {
        let (name, version) = (escaped(name), escaped(version));
        let series = format!("hearken_model_info{{model=\"{name}\",version=\"{version}\"}}");
        line(&series, 1.0, out);
    }
    let readings: [(&str, &str, &str, EngineCount); 5] = [
        ("hearken_cache_pages_in_use", "gauge", "Pages of running sequences.", |of| {
            of.pages_in_use
        }),
        ("hearken_cache_pages_kept", "gauge", "Pages kept for later prompts.", |of| of.pages_kept),
        ("hearken_preempted", "gauge", "Times a sequence gave way.", |of| of.preempted),
        ("hearken_engine_prompt_tokens", "gauge", "Tokens of prompts that entered.", |of| {
            of.prompt_tokens
        }),
        ("hearken_engine_prefill_tokens", "gauge", "Those not found in the cache.", |of| {
            of.prefill_tokens
        }),
    ];
    for (reading, kind, help, value) in readings {
        head(reading, kind, help, out);
        for (name, stats) in models.iter().filter_map(|of| Some((&of.name, of.stats.as_ref()?))) {
            line(&format!("{reading}{{model=\"{}\"}}", escaped(name)), value(stats) as f64, out);
        }
    }
}

fn head(name: &str, kind: &str, help: &str, out: &mut String) {
    // Writing into a text does not fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(series: &str, value: f64, out: &mut String) {
    // As above.
    let _ = writeln!(out, "{series} {value}");
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_durations_add_up() {
        let metrics = Metrics::default();
        for ms in [5, 20, 300, 90_000] {
            metrics.first_token(Duration::from_millis(ms));
        }
        let text = metrics.text(&[], 3);
        for expected in [
            "hearken_time_to_first_token_seconds_bucket{le=\"0.01\"} 1\n",
            "hearken_time_to_first_token_seconds_bucket{le=\"0.025\"} 2\n",
            "hearken_time_to_first_token_seconds_bucket{le=\"60\"} 3\n",
            "hearken_time_to_first_token_seconds_bucket{le=\"+Inf\"} 4\n",
            "hearken_time_to_first_token_seconds_count 4\n",
            "hearken_completions_under_way 3\n",
        ] {
            assert!(text.contains(expected), "{expected}{text}");
        }
    }

    #[test]
    fn names_of_models_are_quoted() {
        let facts = ModelFacts {
            name: "a\"b\\c".into(),
            version: "0".into(),
            stats: Some(EngineStats::default()),
        };
        let text = Metrics::default().text(&[facts], 0);
        assert!(
            text.contains("hearken_model_info{model=\"a\\\"b\\\\c\",version=\"0\"} 1"),
            "{text}"
        );
    }
}
