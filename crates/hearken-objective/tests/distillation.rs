//! Divergences and their gradients against TRL and torch; `tests/distillation_fixtures.py` made the numbers.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use hearken_objective::distillation::Divergence;
use hearken_objective::distribution::log_softmax;
use serde::Deserialize;

/// A row of logits of each, and what torch finds in float64 with TRL 1.16's losses: of all tokens, and of the first
/// three with the rest as one.
#[derive(Debug, Deserialize)]
struct Row {
    beta: f64,
    student: Vec<f64>,
    teacher: Vec<f64>,
    loss: f64,
    grad: Vec<f64>,
    partial: f64,
    partial_grad: Vec<f64>,
}

fn logprobs(logits: &[f64]) -> Vec<f64> {
    let mut logprobs = vec![0.0; logits.len()];
    log_softmax(logits, &mut logprobs);
    logprobs
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], at: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let tolerance = 1e-12 * (1.0 + expected.abs());
        assert!((found - expected).abs() < tolerance, "β = {at}: {found}, torch has {expected}");
    }
}

#[test]
fn losses_and_gradients_are_those_of_trl() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("fixtures/distillation.json")).unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let (student, teacher) = (logprobs(&row.student), logprobs(&row.teacher));
        let divergence = Divergence::of(row.beta);
        let mut grad = vec![0.0; student.len()];
        let distance = divergence.whole(&student, &teacher, &mut grad);
        assert_close(&[distance.loss], &[row.loss], row.beta);
        assert_close(&grad, &row.grad, row.beta);
        let (distance, grad) = divergence.partial(&student[..3], &teacher[..3]);
        assert_close(&[distance.loss], &[row.partial], row.beta);
        assert_close(&grad, &row.partial_grad, row.beta);
    }
}
