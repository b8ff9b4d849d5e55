//! Splitting by prompt.

use std::collections::BTreeSet;

use hearken_data::{
    Demonstration, Preference, Prompt, PromptKey, Prompted, Split, SplitError, split_by_prompt,
};
use serde_json::{Value, json};

fn record<T: serde::de::DeserializeOwned>(columns: Value) -> T {
    serde_json::from_value(columns).expect("a good record")
}

/// `each` preferences of each of `prompts` prompts, interleaved.
fn preferences(prompts: usize, each: usize) -> Vec<Preference> {
    let row = |n| {
        json!({"prompt": format!("p{}", n % prompts), "chosen": format!("c{n}"),
                         "rejected": "r"})
    };
    (0..prompts * each).map(|n| record(row(n))).collect()
}

fn keys<T: Prompted>(records: &[T]) -> BTreeSet<PromptKey> {
    records.iter().map(Prompted::prompt_key).collect()
}

#[test]
fn records_of_one_prompt_stay_together_and_none_is_lost() {
    let Split { train, eval } = split_by_prompt(preferences(50, 3), 0.2, 1).unwrap();
    assert_eq!((train.len(), eval.len()), (120, 30));
    assert!(keys(&train).is_disjoint(&keys(&eval)));
    // The order of the input is kept: completions are numbered in it.
    let number = |preference: &Preference| {
        let text = serde_json::to_value(&preference.chosen).unwrap();
        text.as_str().unwrap()[1..].parse::<usize>().unwrap()
    };
    assert!(train.is_sorted_by_key(number) && eval.is_sorted_by_key(number));
}

#[test]
fn the_split_depends_on_the_seed_and_not_on_the_order() {
    let eval =
        |records, fraction, seed| keys(&split_by_prompt(records, fraction, seed).unwrap().eval);
    let forwards = preferences(40, 2);
    let backwards: Vec<Preference> = forwards.iter().rev().cloned().collect();
    let held_out = eval(forwards.clone(), 0.25, 7);
    assert_eq!(eval(backwards, 0.25, 7), held_out);
    assert_ne!(eval(forwards.clone(), 0.25, 8), held_out);
    assert!(eval(forwards, 0.5, 7).is_superset(&held_out));
}

/// Every prompt is held out about equally often over seeds: 400 of 2,000, within 5 deviations.
#[test]
fn no_prompt_is_favored() {
    let mut times = [0; 10];
    for seed in 0..2000 {
        for preference in split_by_prompt(preferences(10, 1), 0.2, seed).unwrap().eval {
            let text = serde_json::to_value(preference.prompt).unwrap();
            times[text.as_str().unwrap()[1..].parse::<usize>().unwrap()] += 1;
        }
    }
    let deviation = (2000.0_f64 * 0.2 * 0.8).sqrt();
    assert!(times.iter().all(|n| (f64::from(*n) - 400.0).abs() < 5.0 * deviation), "{times:?}");
}

/// The three prompts of lowest rank by a separate implementation of the two hashes in Python.
#[test]
fn the_split_is_stable() {
    let eval = split_by_prompt(preferences(10, 1), 0.3, 42).unwrap().eval;
    let held_out: Vec<Value> =
        eval.iter().map(|preference| serde_json::to_value(&preference.prompt).unwrap()).collect();
    assert_eq!(held_out, ["p6", "p7", "p9"]);
}

#[test]
fn both_sides_get_at_least_one_prompt() {
    let sizes = |fraction| {
        let split = split_by_prompt(preferences(4, 1), fraction, 0).unwrap();
        (split.train.len(), split.eval.len())
    };
    assert_eq!(
        (sizes(0.0), sizes(0.01), sizes(0.5), sizes(0.99)),
        ((4, 0), (3, 1), (2, 2), (1, 3))
    );
}

#[test]
fn bad_fractions_and_lone_prompts_are_errors() {
    for fraction in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        let error = split_by_prompt(preferences(4, 1), fraction, 0).unwrap_err();
        assert!(matches!(error, SplitError::Fraction { .. }), "{error}");
    }
    assert_eq!(
        split_by_prompt(preferences(1, 5), 0.2, 0).unwrap_err().to_string(),
        "found 1 distinct prompts, expected at least 2 to hold some of them out"
    );
}

#[test]
fn the_prompt_of_a_demonstration_is_what_is_not_trained_on() {
    let key = |columns| record::<Demonstration>(columns).prompt_key();
    let user = |text: &str| json!({"role": "user", "content": text});
    let says = |text: &str| json!({"role": "assistant", "content": text});
    let opening = PromptKey::of(&record::<Prompt>(json!({"prompt": [user("a")]})).prompt);
    assert_eq!(key(json!({"messages": [user("a"), says("b"), user("c"), says("d")]})), opening);
    assert_eq!(key(json!({"prompt": [user("a")], "completion": [says("x")]})), opening);
    let masked = key(json!({"input_ids": [1, 2, 3, 4], "loss_mask": [0, 0, 1, 1]}));
    assert_eq!(masked, key(json!({"prompt_ids": [1, 2], "completion_ids": [9]})));
    assert_eq!(masked, PromptKey::of_ids(&[1, 2]));
}
