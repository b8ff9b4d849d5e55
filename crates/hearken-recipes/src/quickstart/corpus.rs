//! Files of demonstrations, comparisons and prompts.

use std::path::{Path, PathBuf};

use hearken_data::{WriteError, write_jsonl};
use hearken_reward_source::gold;
use hearken_run::seeds::Seeds;
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::grammar::Visit;

/// How much of everything, and how noisy the comparisons are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusOptions {
    /// Reviews to imitate.
    pub demonstrations: usize,
    /// Comparisons to learn the reward model from.
    pub preferences: usize,
    /// Comparisons to evaluate it on, about other prompts.
    pub preferences_eval: usize,
    /// Prompts to evaluate on; all that is learned from, in any stage, is about other prompts.
    pub prompts_eval: usize,
    /// κ: a comparison prefers the first review with probability σ(κ·(gold₁ − gold₂)). Large values
    /// are a sure hand, 0 is a coin.
    pub sharpness: f64,
}

/// Everything the small world has to offer to a learner.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// `{"prompt", "completion"}`.
    pub demonstrations: Vec<Value>,
    /// `{"prompt", "chosen", "rejected"}`.
    pub preferences: Vec<Value>,
    /// The same, about the prompts of `prompts_eval`.
    pub preferences_eval: Vec<Value>,
    /// `{"prompt"}`.
    pub prompts: Vec<Value>,
    /// `{"prompt"}`, none of them among `prompts`.
    pub prompts_eval: Vec<Value>,
}

/// Where [`Corpus::write`] puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusFiles {
    /// Demonstrations.
    pub demonstrations: PathBuf,
    /// Comparisons to learn from.
    pub preferences: PathBuf,
    /// Comparisons to evaluate on.
    pub preferences_eval: PathBuf,
    /// Prompts to learn on.
    pub prompts: PathBuf,
    /// Prompts to evaluate on.
    pub prompts_eval: PathBuf,
}

impl CorpusFiles {
    /// The files of a corpus in `folder`.
    pub fn under(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self {
            demonstrations: file("demonstrations.jsonl"),
            preferences: file("preferences.jsonl"),
            preferences_eval: file("preferences_eval.jsonl"),
            prompts: file("prompts.jsonl"),
            prompts_eval: file("prompts_eval.jsonl"),
        }
    }
}

impl Corpus {
    /// Writes the world down: a function of options and seed.
    ///
    /// # Panics
    /// If `prompts_eval` leaves no prompt to learn on; [`CorpusOptions::prompts_eval_max`] says how
    /// many there may be.
    pub fn generate(options: &CorpusOptions, seeds: Seeds) -> Self {
        let mut visits = Visit::all();
        assert!(options.prompts_eval < visits.len(), "prompts_eval: fewer than {}", visits.len());
        visits.shuffle(&mut seeds.stream("quickstart/prompts", 0));
        let (held_out, known) = visits.split_at(options.prompts_eval);
        let compare = |visits: &[Visit], count, name| {
            let mut rng = seeds.stream(name, 0);
            (0..count).map(|_| comparison(visits, options.sharpness, &mut rng)).collect()
        };
        let mut rng = seeds.stream("quickstart/demonstrations", 0);
        let demonstrations = (0..options.demonstrations).map(|_| {
            let visit = any(known, &mut rng);
            json!({ "prompt": visit.prompt(), "completion": visit.review(&mut rng) })
        });
        let prompts = |visits: &[Visit]| {
            visits.iter().map(|visit| json!({ "prompt": visit.prompt() })).collect()
        };
        Self {
            demonstrations: demonstrations.collect(),
            preferences: compare(known, options.preferences, "quickstart/preferences"),
            preferences_eval: compare(
                if held_out.is_empty() { known } else { held_out },
                options.preferences_eval,
                "quickstart/preferences_eval",
            ),
            prompts: prompts(known),
            prompts_eval: prompts(held_out),
        }
    }

    /// Writes five files of JSON lines under `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<CorpusFiles, WriteError> {
        let files = CorpusFiles::under(folder);
        write_jsonl(&files.demonstrations, &self.demonstrations)?;
        write_jsonl(&files.preferences, &self.preferences)?;
        write_jsonl(&files.preferences_eval, &self.preferences_eval)?;
        write_jsonl(&files.prompts, &self.prompts)?;
        write_jsonl(&files.prompts_eval, &self.prompts_eval)?;
        Ok(files)
    }

    /// All texts of the demonstrations, for a tokenizer to learn from.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        let text = |record: &Value, key| record[key].as_str().unwrap_or_default().to_owned();
        self.demonstrations
            .iter()
            .map(move |record| text(record, "prompt") + &text(record, "completion"))
    }
}

impl CorpusOptions {
    /// The most prompts that can be held out.
    pub fn prompts_eval_max() -> usize {
        Visit::all().len() - 1
    }
}

fn any(visits: &[Visit], rng: &mut ChaCha8Rng) -> Visit {
    visits[rng.random_range(0..visits.len())]
}

/// Two different reviews of one visit, and a Bradley–Terry judge.
fn comparison(visits: &[Visit], sharpness: f64, rng: &mut ChaCha8Rng) -> Value {
    let visit = any(visits, rng);
    let prompt = visit.prompt();
    let first = visit.review(rng);
    let second = loop {
        let review = visit.review(rng);
        if review != first {
            break review;
        }
    };
    let log_odds = sharpness * (gold(&prompt, &first) - gold(&prompt, &second));
    let prefers_first = rng.random_bool(1.0 / (1.0 + (-log_odds).exp()));
    let (chosen, rejected) = if prefers_first { (first, second) } else { (second, first) };
    json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn prompts_of(records: &[Value]) -> BTreeSet<&str> {
        records.iter().filter_map(|record| record["prompt"].as_str()).collect()
    }

    fn options() -> CorpusOptions {
        CorpusOptions {
            demonstrations: 300,
            preferences: 2000,
            preferences_eval: 200,
            prompts_eval: 100,
            sharpness: 1.0,
        }
    }

    #[test]
    fn the_seed_is_all_there_is_to_it() {
        let corpus = Corpus::generate(&options(), Seeds::new(3));
        assert_eq!(corpus, Corpus::generate(&options(), Seeds::new(3)));
        assert_ne!(corpus, Corpus::generate(&options(), Seeds::new(4)));
    }

    #[test]
    fn nothing_is_learned_about_the_prompts_held_out() {
        let corpus = Corpus::generate(&options(), Seeds::new(1));
        let held_out = prompts_of(&corpus.prompts_eval);
        assert_eq!(held_out.len(), 100);
        for records in [&corpus.demonstrations, &corpus.preferences, &corpus.prompts] {
            assert!(prompts_of(records).is_disjoint(&held_out));
        }
        assert!(prompts_of(&corpus.preferences_eval).is_subset(&held_out));
    }

    /// The share of comparisons that agree with gold is the mean of σ(|difference|).
    #[test]
    fn comparisons_are_as_noisy_as_bradley_and_terry_say() {
        let corpus = Corpus::generate(&options(), Seeds::new(2));
        let (mut agree, mut expected) = (0.0, 0.0);
        for record in &corpus.preferences {
            let of = |key: &str| {
                let text = |key: &str| record[key].as_str().unwrap();
                gold(text("prompt"), text(key))
            };
            let gap = of("chosen") - of("rejected");
            agree += if gap == 0.0 { 0.5 } else { f64::from(u8::from(0.0 < gap)) };
            expected += 1.0 / (1.0 + (-gap.abs()).exp());
        }
        let n = corpus.preferences.len() as f64;
        assert!(((agree - expected) / n).abs() < 3.0 * 0.5 / n.sqrt(), "{agree} of {expected}");
        assert!((0.65..0.9).contains(&(agree / n)), "{}", agree / n);
    }
}
