//! Labels of steps without people: by what a policy makes of each beginning of a solution, and by arithmetic.
//!
//! Wang et al. 2024, arXiv:2312.08935 (Math-Shepherd): a step is as good as the share of completions from there that
//! reach the right answer.

use std::ops::ControlFlow;

use hearken_config::Verifier;
use hearken_generate::{
    Engine, EngineOptions, GenerateError, Sampling, SamplingRequest, TokenSampled, completion_text,
};
use hearken_model::steps::StepTokens;
use hearken_model::{Model, Tokenizer};
use hearken_reward_source::{step_is_right, verify};
use hearken_run::seeds::Seeds;
use hearken_tensor::Device;

/// A solution whose steps are to be labelled.
#[derive(Clone, Debug)]
pub struct Unlabelled<'a> {
    /// Prompt and steps, in the policy's tokens.
    pub tokens: StepTokens,
    /// The steps.
    pub steps: &'a [String],
    /// The right answer.
    pub answer: &'a str,
}

/// How completions are sampled and judged.
#[derive(Clone, Debug)]
pub struct Rollouts<'a> {
    /// Completions from each step.
    pub count: usize,
    /// How they are sampled.
    pub sampling: &'a Sampling,
    /// What is compared with the answer.
    pub verifier: Verifier,
    /// What stands between steps.
    pub separator: &'a str,
    /// Seed of all draws.
    pub seed: u64,
}

/// How many completions from a step were right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepEstimate {
    /// Those that reached the right answer.
    pub right: usize,
    /// All.
    pub count: usize,
}

impl StepEstimate {
    /// 1 where any completion is right, else 0: Math-Shepherd's hard estimate.
    pub fn hard(self) -> f64 {
        f64::from(u8::from(0 < self.right))
    }

    /// The share that is right: its soft estimate.
    pub fn soft(self) -> f64 {
        self.right as f64 / self.count.max(1) as f64
    }
}

/// An estimate for each step of each solution: completions from the end of each step but the last, which ends the
/// solution and is as right as its answer. What solutions and their beginnings have in common is computed once.
/// `observer` sees every token and may break off.
///
/// # Errors
/// If a prompt is too long, or a number is NaN or infinite; [`GenerateError::Stopped`] where `observer` breaks off.
pub fn by_rollouts<D: Device>(
    model: &Model<D>,
    tokenizer: &Tokenizer,
    solutions: &[Unlabelled<'_>],
    rollouts: &Rollouts<'_>,
    observer: &mut dyn FnMut(TokenSampled<'_>) -> ControlFlow<()>,
) -> Result<Vec<Vec<StepEstimate>>, GenerateError> {
    let seeds = Seeds::new(rollouts.seed);
    let (mut requests, mut places) = (Vec::new(), Vec::new());
    for (index, solution) in solutions.iter().enumerate() {
        let ends = &solution.tokens.ends;
        for (step, end) in ends[..ends.len().saturating_sub(1)].iter().enumerate() {
            let prompt_ids = solution.tokens.ids[..=*end].to_vec();
            let seed = seeds.derive("rollouts", index as u64, step as u64);
            requests.push(SamplingRequest { prompt_ids, samples: rollouts.count, seed });
            places.push((index, step));
        }
    }
    let none = StepEstimate { right: 0, count: rollouts.count };
    let mut estimates: Vec<Vec<StepEstimate>> = solutions
        .iter()
        .map(|solution| {
            let mut all = vec![none; solution.steps.len()];
            if let Some(last) = all.last_mut() {
                let right = is_right(rollouts, solution, solution.steps.len(), "");
                *last = StepEstimate { right: usize::from(right), count: 1 };
            }
            all
        })
        .collect();
    let options = EngineOptions::default();
    let sampling = rollouts.sampling;
    let mut engine = Engine::with_requests(model, Some(tokenizer), &requests, sampling, &options)?;
    let (mut tokens, mut is_stopped) = (0, false);
    while !engine.is_idle() {
        let ended = engine.step(&mut |event| {
            tokens += 1;
            let flow = if is_stopped { ControlFlow::Break(()) } else { observer(event) };
            is_stopped |= flow.is_break();
            flow
        })?;
        if is_stopped {
            return Err(GenerateError::Stopped { tokens });
        }
        for one in ended {
            let (index, step) = places[one.request];
            let text = completion_text(tokenizer, &one.completion, &sampling.stop);
            if is_right(rollouts, &solutions[index], step + 1, &text) {
                estimates[index][step].right += 1;
            }
        }
    }
    Ok(estimates)
}

/// Whether a solution's first steps with a completion behind them have the right answer.
fn is_right(rollouts: &Rollouts<'_>, solution: &Unlabelled<'_>, steps: usize, text: &str) -> bool {
    let before = solution.steps[..steps].join(rollouts.separator);
    let whole = match text.is_empty() {
        true => before,
        false => format!("{before}{}{text}", rollouts.separator),
    };
    1.0 <= verify(rollouts.verifier, &whole, solution.answer)
}

/// What arithmetic says of each step: whether all its equations hold; nothing of a step without any.
pub fn by_arithmetic(steps: &[String]) -> Vec<Option<f64>> {
    steps.iter().map(|step| step_is_right(step).map(|right| f64::from(u8::from(right)))).collect()
}

/// Labels on which two sources agree, each rounded to good or bad; of a step on which one says nothing, what the
/// other says; nothing of one on which they disagree. With how many steps both judged, and on how many they agree.
pub fn consensus(
    first: &[Option<f64>],
    second: &[Option<f64>],
) -> (Vec<Option<f64>>, (usize, usize)) {
    let (mut both, mut agree) = (0, 0);
    let label = |(first, second): (&Option<f64>, &Option<f64>)| match (*first, *second) {
        (Some(first), Some(second)) => {
            both += 1;
            let is_same = (first < 0.5) == (second < 0.5);
            agree += usize::from(is_same);
            is_same.then_some(first)
        }
        (one, other) => one.or(other),
    };
    let labels = first.iter().zip(second).map(label).collect();
    (labels, (agree, both))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_hard_or_soft() {
        let of = |right| StepEstimate { right, count: 8 };
        assert_eq!(
            (of(3).hard().to_bits(), of(3).soft().to_bits()),
            (1f64.to_bits(), 0.375f64.to_bits())
        );
        assert!(of(0).hard().abs() < f64::EPSILON);
    }

    #[test]
    fn sources_that_disagree_say_nothing() {
        let (labels, counts) = consensus(
            &[Some(1.0), Some(0.25), None, Some(0.0)],
            &[Some(0.0), Some(0.0), Some(1.0), None],
        );
        assert_eq!(labels, [None, Some(0.25), Some(1.0), Some(0.0)]);
        assert_eq!(counts, (1, 2));
        let steps = ["2 + 2 = 4".to_owned(), "so".to_owned(), "4 + 1 = 6".to_owned()];
        assert_eq!(by_arithmetic(&steps), [Some(1.0), None, Some(0.0)]);
    }
}
