//! How well a process reward model finds bad steps of held-out solutions.

use hearken_reward_source::process_file::ProcessRewardFile;
use hearken_run::encode::StepsExample;
use hearken_stats::bootstrap::bootstrap;
use hearken_stats::calibration::{Prediction, expected_calibration_error, reliability};
use hearken_stats::first_error::{FirstError, first_error_scores};
use hearken_stats::mean::mean;
use hearken_stats::proportion::wilson;
use rand::Rng;

use super::JudgedStep;
use super::metrics::ProcessEvaluation;
use crate::reward::ReliabilityBin;

/// Bins of the reliability curve over [0, 1].
const BINS: usize = 10;
/// Replicates of bootstrap intervals.
const ROUNDS: usize = 500;

/// What was judged of the labelled steps of each solution; `None` without any. `file` says how steps are scored.
pub(super) fn evaluate(
    file: &ProcessRewardFile,
    solutions: &[StepsExample],
    judged: &[Vec<JudgedStep>],
    rng: &mut impl Rng,
) -> Option<ProcessEvaluation> {
    let steps: Vec<&JudgedStep> = judged.iter().flatten().collect();
    let losses: Vec<f64> = steps.iter().map(|step| step.loss).collect();
    let right = steps.iter().filter(|step| step.is_right()).count();
    let predictions: Vec<Prediction> = steps
        .iter()
        .map(|step| Prediction {
            probability: file.score(&step.probabilities).clamp(0.0, 1.0),
            outcome: file.score(&step.target),
        })
        .collect();
    let firsts: Vec<FirstError> = solutions
        .iter()
        .zip(judged)
        .filter_map(|(one, steps)| first_error(file, one, steps))
        .collect();
    let first = first_error_scores(&firsts, ROUNDS, rng);
    let bins = reliability(&predictions, BINS).into_iter();
    Some(ProcessEvaluation {
        eval_loss: mean(&losses)?,
        eval_accuracy: wilson(right as f64, steps.len())?,
        eval_first_error_f1: first.f1,
        eval_first_error: first.erroneous,
        eval_all_good: first.correct,
        eval_step_f1: bootstrap(&predictions, f1_of_bad, ROUNDS, rng),
        eval_calibration_error: expected_calibration_error(&predictions, BINS, ROUNDS, rng)?,
        eval_reliability: bins.map(ReliabilityBin::from).collect(),
    })
}

/// The first bad step of a solution, as labelled and as found, counted among the labelled steps up to that which is
/// labelled bad: what follows a mistake is not asked for. `None` where steps without a label leave it open.
fn first_error(
    file: &ProcessRewardFile,
    solution: &StepsExample,
    judged: &[JudgedStep],
) -> Option<FirstError> {
    let is_bad = |probabilities: &[f64]| file.score(probabilities) < 0.5;
    let expected = judged.iter().position(|step| is_bad(&step.target));
    let labelled = solution.steps.iter().position(|step| step.label.is_none());
    let ends = expected.map_or(solution.steps.len(), |first| first + 1);
    if labelled.is_some_and(|gap| gap < ends) {
        return None;
    }
    let found = judged.iter().position(|step| is_bad(&step.probabilities));
    Some(FirstError { expected, found })
}

/// F1 of steps that are bad and of those that are called so.
fn f1_of_bad(predictions: &[&Prediction]) -> Option<f64> {
    let is_bad = |probability: f64| probability < 0.5;
    let (mut both, mut either) = (0, 0);
    for prediction in predictions {
        let (found, bad) = (is_bad(prediction.probability), is_bad(prediction.outcome));
        both += usize::from(found && bad);
        either += usize::from(found) + usize::from(bad);
    }
    (0 < either).then(|| 2.0 * both as f64 / either as f64)
}

#[cfg(test)]
mod tests {
    use hearken_data::Source;
    use hearken_run::encode::StepEnd;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn solution(labels: &[Option<f64>], scores: &[f64]) -> (StepsExample, Vec<JudgedStep>) {
        let step = |(row, label): (usize, &Option<f64>)| StepEnd { row, label: *label };
        let steps = labels.iter().enumerate().map(step).collect();
        let source = Source::default();
        let solution = StepsExample { ids: vec![0; labels.len()], steps, scale: None, source };
        let judged = labels.iter().zip(scores).filter_map(|(label, score)| {
            let label = (*label)?;
            let (target, probabilities) = (vec![1.0 - label, label], vec![1.0 - score, *score]);
            Some(JudgedStep { target, probabilities, loss: 0.5 })
        });
        let judged = judged.collect();
        (solution, judged)
    }

    #[test]
    fn the_first_bad_step_is_the_first_with_a_score_below_one_half() {
        let all = [
            // Found; what follows has no label.
            solution(&[Some(1.0), Some(0.0), None], &[0.9, 0.2, 0.9]),
            // Missed: an earlier one is called bad.
            solution(&[Some(1.0), Some(0.0)], &[0.4, 0.2]),
            // All good, and said so.
            solution(&[Some(1.0), Some(1.0)], &[0.9, 0.6]),
            // Whether it is all good, nobody knows.
            solution(&[None, Some(1.0)], &[0.9, 0.9]),
        ];
        let (solutions, judged): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let file = ProcessRewardFile::default();
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        let found = evaluate(&file, &solutions, &judged, rng).unwrap();
        assert_eq!(found.eval_first_error.map(|share| (share.value, share.n)), Some((0.5, 2)));
        assert_eq!(found.eval_all_good.map(|share| (share.value, share.n)), Some((1.0, 1)));
        assert!((found.eval_first_error_f1.unwrap().value - 2.0 / 3.0).abs() < 1e-12);
        // Two bad steps, both found, and one good one called bad.
        assert!((found.eval_step_f1.unwrap().value - 0.8).abs() < 1e-12);
        assert_eq!((found.eval_accuracy.value, found.eval_accuracy.n), (6.0 / 7.0, 7));
    }
}
