//! Real files of preferences and demonstrations, where they are at hand.
#![allow(clippy::unwrap_used, reason = "tests may panic and say why they skip")]

use std::path::PathBuf;

use hearken_config::{AtLeastOne, BadRecords, BelowOne, DataConfig, JudgementsConfig, Truncation};
use hearken_model::Tokenizer;
use hearken_model::steps::STEP_SEPARATOR;
use hearken_run::dataset::Dataset;
use hearken_run::encode::{DemonstrationExample, Encoder, Example, LengthLimit, PreferenceExample};
use hearken_run::seeds::Seeds;
use hearken_testing::data;
use hearken_testing::llama;

fn load<E: Example>(path: PathBuf, columns: &[(&str, &str)], tokens_max: usize) -> Dataset<E> {
    let tokenizer = Tokenizer::load(&llama()).unwrap();
    let encoder = Encoder {
        tokenizer: Some(&tokenizer),
        vocab: 384,
        length: LengthLimit { tokens_max, truncation: Truncation::Left },
        completion_only: true,
        step_separator: STEP_SEPARATOR,
    };
    let own = |(field, column): &(&str, &str)| ((*field).to_owned(), (*column).to_owned());
    let config = DataConfig {
        train: vec![path],
        mix: Vec::new(),
        eval: Vec::new(),
        eval_fraction: BelowOne::new(0.1).unwrap(),
        shuffle: true,
        streaming: false,
        shuffle_buffer: AtLeastOne::new(1).unwrap(),
        columns: columns.iter().map(own).collect(),
        bad_records: BadRecords::Skip,
        truncation: Truncation::Left,
        tokens_max: None,
        limit: None,
        completion_only: true,
        step_separator: STEP_SEPARATOR.to_owned(),
        judgements: JudgementsConfig::default(),
    };
    Dataset::load(&config, &encoder, Seeds::new(0)).unwrap()
}

/// Of 2,312 pairs, 5 have different prompts and 4 an empty completion.
#[test]
fn hh_rlhf_pairs_make_examples() {
    let Some(path) = data("hh-rlhf/harmless-base-test.jsonl.gz") else { return };
    let data: Dataset<PreferenceExample> = load(path, &[], 256);
    let (examples, skipped) = (data.train.len() + data.eval.len(), data.train_report.skipped);
    // Of some pairs truncation leaves nothing to predict in the shorter completion.
    let dropped = data.train_report.dropped + data.eval_report.dropped;
    assert_eq!(examples + skipped + dropped, 2312);
    assert!((5..=20).contains(&skipped), "{:?}", data.train_report);
    assert!(0 < data.train_report.truncated && !data.eval.is_empty());
    for pair in data.train.iter().chain(&data.eval) {
        assert!(pair.prefix.len() + pair.chosen.len() <= 256);
        assert!(pair.chosen != pair.rejected && pair.prompt_len <= pair.prefix.len());
    }
}

#[test]
fn gsm8k_problems_make_examples() {
    let Some(path) = data("gsm8k/test.jsonl") else { return };
    let columns = [("prompt", "question"), ("completion", "answer")];
    let data: Dataset<DemonstrationExample> = load(path, &columns, 4096);
    assert_eq!((data.train.len() + data.eval.len(), data.train_report.skipped), (1319, 0));
    let tokenizer = Tokenizer::load(&llama()).unwrap();
    for example in &data.train {
        assert_eq!(example.ids.last(), Some(&tokenizer.eos_for_training().unwrap()));
        assert!(tokenizer.decode(&example.ids).contains("####"));
        assert!(!tokenizer.decode(example.prompt()).contains("####"));
    }
}
