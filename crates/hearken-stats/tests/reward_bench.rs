//! RewardBench 2 beside the functions of its authors.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use hearken_stats::reward_bench::{RewardBenchError, ScoredPrompt, reward_bench};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(0)
}

fn prompt(id: &str, subset: &str, scores: &[f64], num_correct: usize) -> ScoredPrompt {
    ScoredPrompt {
        id: id.to_owned(),
        subset: subset.to_owned(),
        scores: scores.to_vec(),
        num_correct,
    }
}

#[test]
fn scores_are_those_of_the_authors_functions() {
    let text = include_str!("fixtures/reward_bench_2.json");
    let sets: Vec<Value> = serde_json::from_str(text).unwrap();
    assert_eq!(sets.len(), 3);
    for set in sets {
        let row = |row: &Value| {
            let scores: Vec<f64> =
                row["scores"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            let num_correct = row["num_correct"].as_u64().unwrap() as usize;
            ScoredPrompt { id: text("id"), subset: text("subset"), scores, num_correct }
        };
        let rows: Vec<ScoredPrompt> = set["rows"].as_array().unwrap().iter().map(row).collect();
        assert_eq!(rows.len(), 200);
        let found = reward_bench(&rows, 100, &mut rng()).unwrap();
        for (name, expected) in set["expected"].as_object().unwrap() {
            let expected = expected.as_f64().unwrap();
            let value = found.subsets.get(name).unwrap_or(&found.total).value;
            assert!((value - expected).abs() < 1e-12, "{name}: {value} and {expected}");
        }
    }
}

#[test]
fn an_answer_among_equals_gets_its_part() {
    let rows = [prompt("1", "Math", &[2.0, 2.0, 1.0, 2.0], 1), prompt("2", "Math", &[0.0, 1.0], 1)];
    let found = reward_bench(&rows, 0, &mut rng()).unwrap();
    assert!((found.total.value - 1.0 / 6.0).abs() < 1e-15);
}

#[test]
fn what_is_no_row_of_the_benchmark_is_named() {
    let error = |rows: &[ScoredPrompt]| reward_bench(rows, 0, &mut rng()).unwrap_err();
    assert_eq!(error(&[]), RewardBenchError::Nothing);
    let found = error(&[prompt("a", "Math", &[1.0], 1)]).to_string();
    assert!(found.contains("a: found 1 right of 1 answers"), "{found}");
    let found = error(&[prompt("x:1", "Ties", &[1.0, 0.0], 1)]).to_string();
    assert!(found.contains("\"x:1\""), "{found}");
    let found = error(&[prompt("ref:1", "Ties", &[1.0, 0.0], 1)]).to_string();
    assert!(found.contains("both ref:NUMBER and tied:NUMBER"), "{found}");
    let found = error(&[prompt("1", "Math", &[f64::NAN, 0.0], 1)]).to_string();
    assert!(found.contains("NaN"), "{found}");
}
