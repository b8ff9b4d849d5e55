//! From records to tokens: what is supervised, what is cut, what is shared.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use hearken_config::Truncation;
use hearken_data::{Demonstration, Preference};
use hearken_model::steps::STEP_SEPARATOR;
use hearken_model::{Batch, Tokenizer};
use hearken_run::encode::{
    DemonstrationExample, Encoded, Encoder, Example, LengthLimit, PreferenceExample,
    UnpairedExample,
};
use hearken_run::error::EncodeError;
use hearken_testing::llama;

const END: u32 = 0;

fn encode<E: Example>(
    line: &str,
    tokens_max: usize,
    truncation: Truncation,
) -> Result<Encoded<E>, EncodeError>
where
    E::Record: for<'de> serde::Deserialize<'de>,
{
    let tokenizer = Tokenizer::load(&llama()).unwrap();
    let encoder = Encoder {
        tokenizer: Some(&tokenizer),
        vocab: 384,
        length: LengthLimit { tokens_max, truncation },
        completion_only: true,
        step_separator: STEP_SEPARATOR,
    };
    E::encode(&serde_json::from_str::<E::Record>(line).unwrap(), &encoder)
}

fn whole<E: Example>(line: &str) -> E
where
    E::Record: for<'de> serde::Deserialize<'de>,
{
    match encode(line, 1000, Truncation::Error).unwrap() {
        Encoded::Whole(example) => example,
        _ => panic!("{line} was cut"),
    }
}

fn text(ids: &[u32]) -> String {
    Tokenizer::load(&llama()).unwrap().decode_with_special(ids)
}

/// The text of the tokens that count.
fn supervised(example: &DemonstrationExample) -> String {
    text(&example.targets().map(|index| example.ids[index]).collect::<Vec<_>>())
}

/// Masks by the token's value leave a model that never ends: huggingface/trl#1623.
#[test]
fn text_is_supervised_to_its_end_token() {
    let example: DemonstrationExample = whole(r#"{"text": "To be, or not"}"#);
    assert_eq!(example.ids.last(), Some(&END));
    assert!(example.supervised.iter().all(|&counts| counts));
    // Nothing predicts the first token.
    assert_eq!(example.target_count(), example.ids.len() - 1);
}

/// Found elsewhere in tokenizers whose templates write it themselves: huggingface/trl#1591.
#[test]
fn an_end_token_that_is_there_is_not_doubled() {
    let once: DemonstrationExample = whole(r#"{"text": "To be"}"#);
    let twice: DemonstrationExample = whole(r#"{"text": "To be<|endoftext|>"}"#);
    assert_eq!(once.ids, twice.ids);
}

#[test]
fn a_completion_is_supervised_and_its_prompt_is_not() {
    let example: DemonstrationExample = whole(r#"{"prompt": "To be,", "completion": " or not"}"#);
    assert_eq!(supervised(&example), " or not<|endoftext|>");
    assert_eq!(text(example.prompt()), "To be,");
}

/// Text around the boundary that would merge if it were encoded together stays apart.
#[test]
fn prompt_and_completion_are_split_between_tokens() {
    let tokenizer = Tokenizer::load(&llama()).unwrap();
    let encode = |text| tokenizer.encode(text, hearken_model::tokenizer::Bos::Never).unwrap();
    assert!(encode("he").len() < encode("h").len() + encode("e").len(), "a word that merges");
    let example: DemonstrationExample = whole(r#"{"prompt": "h", "completion": "e"}"#);
    assert_eq!(supervised(&example), "e<|endoftext|>");
}

#[test]
fn of_messages_every_turn_of_the_assistant_counts_with_its_end() {
    let line = r#"{"messages": [{"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "I."}, {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."}]}"#;
    let example: DemonstrationExample = whole(&line.replace('\n', ""));
    assert_eq!(supervised(&example), " I.<|endoftext|> Because.<|endoftext|>");
    let line = r#"{"prompt": [{"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "I."}, {"role": "user", "content": "Why?"}],
        "completion": [{"role": "assistant", "content": "Because."}]}"#;
    let last: DemonstrationExample = whole(&line.replace('\n', ""));
    assert_eq!(last.ids, example.ids);
    assert_eq!(supervised(&last), " Because.<|endoftext|>");
}

#[test]
fn token_columns_stay_as_they_are() {
    let line = r#"{"input_ids": [5, 6, 0, 7], "loss_mask": [1, 0, 1, 1]}"#;
    let example: DemonstrationExample = whole(line);
    assert_eq!(example.ids, [5, 6, 0, 7]);
    assert_eq!(example.targets().collect::<Vec<_>>(), [2, 3]);
    let line = r#"{"prompt_ids": [5, 6], "completion_ids": [7]}"#;
    let example: DemonstrationExample = whole(line);
    assert_eq!((example.ids.as_slice(), example.target_count()), (&[5, 6, 7][..], 1));
}

#[test]
fn nothing_supervised_is_an_error_and_so_is_an_unknown_token() {
    let failure = |line: &str| {
        encode::<DemonstrationExample>(line, 1000, Truncation::Error).unwrap_err().to_string()
    };
    let first_only = failure(r#"{"input_ids": [5, 6], "loss_mask": [1, 0]}"#);
    assert!(first_only.contains("no supervised token among 2"), "{first_only}");
    let unknown = failure(r#"{"input_ids": [5, 600], "loss_mask": [0, 1]}"#);
    assert!(unknown.contains("token id 600, expected less than the model's vocabulary of 384"));
}

#[test]
fn long_examples_follow_the_policy() {
    let line = r#"{"input_ids": [5, 6, 7, 8], "loss_mask": [0, 1, 1, 1]}"#;
    let cut = |truncation| encode::<DemonstrationExample>(line, 3, truncation);
    assert!(matches!(cut(Truncation::Error), Err(EncodeError::TooLong { found: 4, limit: 3, .. })));
    assert_eq!(cut(Truncation::Drop).unwrap(), Encoded::Dropped);
    for (truncation, expected) in [(Truncation::Left, [6, 7, 8]), (Truncation::Right, [5, 6, 7])] {
        match cut(truncation).unwrap() {
            Encoded::Truncated(example) => assert_eq!(example.ids, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_pair_shares_the_longest_common_beginning() {
    let line = r#"{"prompt": "To be,", "chosen": " or not", "rejected": " or so"}"#;
    let pair: PreferenceExample = whole(line);
    assert_eq!(text(&[&pair.prefix[..], &pair.chosen].concat()), "To be, or not<|endoftext|>");
    assert_eq!(text(&[&pair.prefix[..], &pair.rejected].concat()), "To be, or so<|endoftext|>");
    assert_ne!(pair.chosen.first(), pair.rejected.first());
    assert!(pair.prompt_len < pair.prefix.len());
    assert_eq!(pair.rows(), pair.prefix.len() + pair.chosen.len() + pair.rejected.len());
}

#[test]
fn a_branch_may_be_empty_and_a_prefix_too() {
    let pair: PreferenceExample = whole(r#"{"chosen_ids": [5, 6, 7], "rejected_ids": [5, 6]}"#);
    assert!(pair.rejected.is_empty());
    let mut batch = Batch::new();
    let segments = pair.push(&mut batch);
    assert_eq!(batch.last_row(segments.rejected), Some(1));
    assert_eq!(batch.last_row(segments.chosen), Some(2));
    let pair: PreferenceExample = whole(r#"{"chosen_ids": [5, 7], "rejected_ids": [6, 7]}"#);
    assert!(pair.prefix.is_empty());
    let segments = pair.push(&mut Batch::new());
    assert_eq!((segments.chosen, segments.rejected), (0, 1));
}

/// Nothing predicts the first token of a sequence, and what is in the prompt is not the completion's.
#[test]
fn a_completion_of_which_nothing_is_predicted_makes_a_bad_record() {
    for (line, field) in [
        (r#"{"chosen_ids": [7], "rejected_ids": [8, 9]}"#, "1 tokens in chosen"),
        (r#"{"chosen_ids": [7, 8], "rejected_ids": [9]}"#, "1 tokens in rejected"),
    ] {
        for truncation in [Truncation::Error, Truncation::Left, Truncation::Right, Truncation::Drop]
        {
            let error = encode::<PreferenceExample>(line, 100, truncation).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}

#[test]
fn what_truncation_leaves_nothing_of_is_left_out() {
    let dropped = |line: &str, limit, truncation| {
        assert_eq!(encode::<PreferenceExample>(line, limit, truncation).unwrap(), Encoded::Dropped);
    };
    // The rejected completion fits, but the pair loses as many tokens as the chosen one must.
    let line = r#"{"prompt_ids": [5, 6, 7], "chosen_ids": [10, 11, 12, 13, 14, 15, 16], "rejected_ids": [8, 0]}"#;
    for limit in 1..=6 {
        dropped(line, limit, Truncation::Left);
    }
    match encode::<PreferenceExample>(line, 7, Truncation::Left).unwrap() {
        Encoded::Truncated(pair) => assert_eq!(pair.rejected, [8, 0]),
        other => panic!("{other:?}"),
    }
    for limit in 1..=3 {
        dropped(line, limit, Truncation::Right);
    }
    let single = r#"{"prompt_ids": [5, 6, 7], "completion_ids": [8, 0], "label": true}"#;
    for (limit, truncation) in
        [(1, Truncation::Left), (1, Truncation::Right), (3, Truncation::Right)]
    {
        let found = encode::<UnpairedExample>(single, limit, truncation).unwrap();
        assert_eq!(found, Encoded::Dropped);
    }
    let line = r#"{"input_ids": [5, 6, 7, 8], "loss_mask": [0, 0, 0, 1]}"#;
    let found = encode::<DemonstrationExample>(line, 3, Truncation::Right).unwrap();
    assert_eq!(found, Encoded::Dropped);
}

#[test]
fn a_long_pair_loses_the_same_tokens_at_its_start() {
    let line = r#"{"prompt_ids": [1, 2, 3], "chosen_ids": [7, 8], "rejected_ids": [9]}"#;
    match encode::<PreferenceExample>(line, 4, Truncation::Left).unwrap() {
        Encoded::Truncated(pair) => {
            assert_eq!((pair.prefix, pair.prompt_len), (vec![2, 3], 2));
            assert_eq!((pair.chosen, pair.rejected), (vec![7, 8], vec![9]));
        }
        other => panic!("{other:?}"),
    }
    // What tells the two apart may be what is cut.
    let line = r#"{"chosen_ids": [1, 2, 3, 4], "rejected_ids": [1, 2, 3, 5]}"#;
    let error = encode::<PreferenceExample>(line, 3, Truncation::Right).unwrap_err();
    assert!(error.to_string().contains("are the same 3 tokens"), "{error}");
}

#[test]
fn text_without_a_tokenizer_is_an_error() {
    let encoder = Encoder {
        tokenizer: None,
        vocab: 384,
        length: LengthLimit { tokens_max: 10, truncation: Truncation::Error },
        completion_only: true,
        step_separator: STEP_SEPARATOR,
    };
    let record: Preference = serde_json::from_str(r#"{"chosen": "a", "rejected": "b"}"#).unwrap();
    let error = PreferenceExample::encode(&record, &encoder).unwrap_err();
    assert!(matches!(error, EncodeError::NoTokenizer { .. }));
    let record: Demonstration =
        serde_json::from_str(r#"{"prompt_ids": [5], "completion_ids": [6]}"#).unwrap();
    DemonstrationExample::encode(&record, &encoder).unwrap();
}
