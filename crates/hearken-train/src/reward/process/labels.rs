//! What labels of steps say to a process reward model.

use std::cmp::Ordering;

use hearken_config::DataConfig;
use hearken_data::StepScale;
use hearken_run::encode::StepsExample;
use hearken_run::error::TrainError;

use super::super::config::{LabelledSteps, NeutralSteps};

/// How labels are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::reward) struct StepLabels {
    /// 2 or 3.
    pub(in crate::reward) classes: usize,
    pub(in crate::reward) neutral: NeutralSteps,
    pub(in crate::reward) steps: LabelledSteps,
    /// Of numbers whose record does not say.
    pub(in crate::reward) scale: StepScale,
}

impl StepLabels {
    /// Makes the labels of a solution those that are trained on: of two classes probabilities of good, of three −1, 0
    /// and 1. Says whether one is left.
    ///
    /// # Errors
    /// If a label is not of the scale.
    pub(super) fn settle(self, solution: &mut StepsExample) -> Result<bool, TrainError> {
        let scale = solution.scale.unwrap_or(self.scale);
        let at = &solution.source;
        let mut is_over = false;
        for (index, step) in solution.steps.iter_mut().enumerate() {
            let Some(label) = step.label else { continue };
            if is_over {
                step.label = None;
                continue;
            }
            let wrong = |expected: &str| {
                let place = index + 1;
                Err(TrainError::Other(format!(
                    "{at}: found the label {label} of step {place}, expected {expected}"
                )))
            };
            let is_bad;
            (step.label, is_bad) = match (scale, self.classes) {
                (StepScale::Binary, 2) if label < 0.0 => {
                    return wrong(
                        "0 to 1; where -1 is bad, 0 neutral and 1 good, set `reward.scale = \"ternary\"`",
                    );
                }
                (StepScale::Binary, 2) => (Some(label), label < 0.5),
                (StepScale::Binary, _) => {
                    if 0.0 < label && label < 1.0 {
                        return wrong("0 or 1: three classes have no probabilities as labels");
                    }
                    (Some(if label <= 0.0 { -1.0 } else { 1.0 }), label <= 0.0)
                }
                (StepScale::Ternary, _) if label.fract().abs() > 0.0 => {
                    return wrong("-1, 0 or 1, as `reward.scale = \"ternary\"` says");
                }
                (StepScale::Ternary, 3) => (Some(label), label < 0.0),
                (StepScale::Ternary, _) => (self.binary(label), label < 0.0),
            };
            is_over = is_bad && self.steps == LabelledSteps::FirstError;
        }
        Ok(solution.steps.iter().any(|step| step.label.is_some()))
    }

    /// The probability of good that −1, 0 or 1 stands for.
    fn binary(self, label: f64) -> Option<f64> {
        match (label < 0.0, 0.0 < label, self.neutral) {
            (true, ..) => Some(0.0),
            (_, true, _) | (.., NeutralSteps::Good) => Some(1.0),
            (.., NeutralSteps::Bad) => Some(0.0),
            (.., NeutralSteps::Drop) => None,
        }
    }

    /// The same for all solutions; those of which no label is left are taken away and counted.
    ///
    /// # Errors
    /// If a label is not of the scale.
    pub(super) fn settle_all(self, solutions: &mut Vec<StepsExample>) -> Result<usize, TrainError> {
        let (all, mut kept) = (solutions.len(), Vec::with_capacity(solutions.len()));
        for mut solution in std::mem::take(solutions) {
            if self.settle(&mut solution)? {
                kept.push(solution);
            }
        }
        *solutions = kept;
        Ok(all - solutions.len())
    }

    /// The probabilities of the classes of a settled label.
    pub(super) fn target(self, label: f64) -> Vec<f64> {
        match self.classes {
            2 => vec![1.0 - label, label],
            // Bad, neutral, good.
            _ => match label.total_cmp(&0.0) {
                Ordering::Less => vec![1.0, 0.0, 0.0],
                Ordering::Equal => vec![0.0, 1.0, 0.0],
                Ordering::Greater => vec![0.0, 0.0, 1.0],
            },
        }
    }

    /// How many settled labels say what.
    pub(super) fn count(self, solutions: &[StepsExample]) -> LabelCounts {
        let mut counts = LabelCounts::default();
        for label in solutions.iter().flat_map(|one| &one.steps).filter_map(|step| step.label) {
            let middle = if self.classes == 2 { 0.5 } else { 0.0 };
            match label.total_cmp(&middle) {
                Ordering::Less => counts.bad += 1,
                Ordering::Equal => counts.neutral += 1,
                Ordering::Greater => counts.good += 1,
            }
        }
        counts
    }
}

/// How many labels say what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LabelCounts {
    bad: usize,
    neutral: usize,
    good: usize,
}

impl LabelCounts {
    /// One line for a reader.
    pub(super) fn note(self, solutions: usize) -> String {
        let Self { bad, neutral, good } = self;
        let middle = if neutral == 0 { String::new() } else { format!(", {neutral} neither") };
        format!("{solutions} solutions with {good} good and {bad} bad steps{middle}")
    }

    /// Refuses labels that all say the same: there is nothing to tell apart.
    pub(super) fn check(self, data: &DataConfig) -> Result<(), TrainError> {
        let kinds = [(self.bad, "bad"), (self.neutral, "neutral"), (self.good, "good")];
        let mut found = kinds.iter().filter(|(count, _)| 0 < *count);
        match (found.next(), found.next()) {
            (Some((count, kind)), None) => {
                let file = data.training_files().next();
                let file = file.map_or_else(String::new, |file| format!("{}: ", file.display()));
                Err(TrainError::Other(format!(
                    "{file}found {count} labels of steps, all of them {kind}, expected steps of both kinds: there is \
                     nothing to tell apart"
                )))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hearken_data::Source;
    use hearken_run::encode::StepEnd;

    use super::*;

    fn settled(
        rule: StepLabels,
        scale: Option<StepScale>,
        labels: &[f64],
    ) -> Result<Vec<Option<f64>>, String> {
        let step = |(row, label): (usize, &f64)| StepEnd { row, label: Some(*label) };
        let steps = labels.iter().enumerate().map(step).collect();
        let source = Source { path: Path::new("steps.jsonl").into(), line: 7 };
        let mut solution = StepsExample { ids: vec![0; labels.len()], steps, scale, source };
        rule.settle(&mut solution).map_err(|error| error.to_string())?;
        Ok(solution.steps.iter().map(|step| step.label).collect())
    }

    const RULE: StepLabels = StepLabels {
        classes: 2,
        neutral: NeutralSteps::Good,
        steps: LabelledSteps::Every,
        scale: StepScale::Binary,
    };

    #[test]
    fn neutral_steps_are_good_bad_or_left_out() {
        for (neutral, expected) in [
            (NeutralSteps::Good, Some(1.0)),
            (NeutralSteps::Bad, Some(0.0)),
            (NeutralSteps::Drop, None),
        ] {
            let rule = StepLabels { neutral, ..RULE };
            let found = settled(rule, Some(StepScale::Ternary), &[1.0, 0.0, -1.0]).unwrap();
            assert_eq!(found, [Some(1.0), expected, Some(0.0)]);
        }
    }

    #[test]
    fn what_follows_the_first_error_can_be_left_out() {
        let rule = StepLabels { steps: LabelledSteps::FirstError, ..RULE };
        let found = settled(rule, None, &[1.0, 0.25, 1.0]).unwrap();
        assert_eq!(found, [Some(1.0), Some(0.25), None]);
        let rule = StepLabels { classes: 3, scale: StepScale::Ternary, ..rule };
        assert_eq!(settled(rule, None, &[0.0, -1.0, -1.0]).unwrap(), [Some(0.0), Some(-1.0), None]);
    }

    #[test]
    fn labels_of_another_scale_are_refused_with_their_place() {
        let error = settled(RULE, None, &[1.0, -1.0]).unwrap_err();
        assert!(error.contains("steps.jsonl") && error.contains("step 2"), "{error}");
        assert!(error.contains("reward.scale"), "{error}");
        let three = StepLabels { classes: 3, scale: StepScale::Ternary, ..RULE };
        assert!(settled(three, None, &[0.5]).unwrap_err().contains("0.5"));
        assert!(settled(three, Some(StepScale::Binary), &[0.5]).is_err());
    }

    #[test]
    fn targets_are_probabilities_of_the_classes_in_their_order() {
        assert_eq!(RULE.target(0.375), [0.625, 0.375]);
        let three = StepLabels { classes: 3, ..RULE };
        assert_eq!(three.target(-1.0), [1.0, 0.0, 0.0]);
        assert_eq!(three.target(0.0), [0.0, 1.0, 0.0]);
        let found = settled(three, Some(StepScale::Binary), &[0.0, 1.0]).unwrap();
        assert_eq!(found, [Some(-1.0), Some(1.0)]);
    }
}
