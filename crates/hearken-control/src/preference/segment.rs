//! Pieces of episodes, and comparisons of two of them.

use std::collections::BTreeMap;

use hearken_config::Finite;
use hearken_env::{ActionSpace, ControlTask, StepEnd};
use serde::{Deserialize, Serialize};

use crate::rollout::Rollout;

/// Consecutive steps of one episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// What a reward model reads: what was seen and what was done, step by step.
    pub rows: Vec<f32>,
    /// What a teacher goes by: the environment's reward of each step, or the utility of its state.
    pub utilities: Vec<f32>,
    /// What it is drawn from: the state before each step; nothing where nobody looks at it.
    pub states: Vec<f32>,
}

/// Two segments, and which is the better one.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedSegments {
    /// The segments.
    pub segments: [Segment; 2],
    /// The probability that the first is the better one: 1, 0, or ½ for a tie.
    pub first_is_better: f64,
}

/// What a teacher goes by.
#[derive(Clone, Debug, PartialEq)]
pub enum Utility {
    /// How good the task says that a state is, or else the reward.
    Task,
    /// Σ w·s over the numbers of the state.
    Weights(Vec<f64>),
}

impl Utility {
    /// By names of a state's numbers; all that the names do not say count nothing.
    pub fn new(weights: Option<&BTreeMap<String, Finite>>, task: Option<ControlTask>) -> Self {
        let (Some(weights), Some(task)) = (weights, task) else { return Self::Task };
        let of = |name: &&str| weights.get(*name).map_or(0.0, |weight| **weight);
        Self::Weights(task.state_names().iter().map(of).collect())
    }

    fn of(&self, task: Option<ControlTask>, state: &[f64], reward: f64) -> f64 {
        match self {
            Self::Task => task.and_then(|task| task.utility(state)).unwrap_or(reward),
            Self::Weights(weights) => weights.iter().zip(state).map(|(w, x)| w * x).sum(),
        }
    }

    /// What each step of a rollout is worth to the teacher, entry by entry.
    pub fn utilities(&self, rollout: &Rollout, task: Option<ControlTask>) -> Vec<f64> {
        let state_len = rollout.states.len() / rollout.len();
        let of = |(entry, &reward): (usize, &f64)| {
            self.of(task, &rollout.states[entry * state_len..][..state_len], reward)
        };
        rollout.rewards.iter().enumerate().map(of).collect()
    }
}

/// The rows of a rollout's steps, entry by entry.
pub fn rows_of(rollout: &Rollout, space: ActionSpace) -> Vec<f32> {
    let len = rollout.seen.len() / rollout.len();
    let mut rows = Vec::with_capacity(rollout.len() * (len + space.outputs()));
    for entry in 0..rollout.len() {
        rows.extend_from_slice(&rollout.seen[entry * len..][..len]);
        rollout.actions.encode(entry, space, &mut rows);
    }
    rows
}

/// The segments of `length` steps that a rollout has, none across the end of an episode. Of every episode that has room for one
/// there are as many as it takes for each of its steps to be in one, at even distances: how an episode ends is to be judged too.
/// They keep the first `state_len` numbers of states.
pub fn segments_of(
    rollout: &Rollout,
    rows: &[f32],
    utilities: &[f64],
    length: usize,
    state_len: usize,
) -> Vec<Segment> {
    let (copies, width) = (rollout.copies, rows.len() / rollout.len());
    let utility = |entry: usize| utilities[entry] as f32;
    let state_width = rollout.states.len() / rollout.len();
    let mut segments = Vec::new();
    for copy in 0..copies {
        let mut first = 0;
        for step in 0..rollout.steps {
            let is_end = rollout.ends[step * copies + copy] != StepEnd::Running;
            if !is_end && step + 1 < rollout.steps {
                continue;
            }
            for start in starts(step + 1 - first, length) {
                let steps = first + start..first + start + length;
                let entries = steps.map(|step| step * copies + copy);
                let rows = entries.clone().flat_map(|entry| &rows[entry * width..][..width]);
                let rows = rows.copied().collect();
                let states = entries.clone();
                let states =
                    states.flat_map(|entry| &rollout.states[entry * state_width..][..state_len]);
                let states = states.map(|&number| number as f32).collect();
                let utilities = entries.map(utility).collect();
                segments.push(Segment { rows, utilities, states });
            }
            first = step + 1;
        }
    }
    segments
}

/// Where the segments of `length` begin that cover `steps`; none where there is no room for one.
fn starts(steps: usize, length: usize) -> impl Iterator<Item = usize> {
    let count = if steps < length { 0 } else { steps.div_ceil(length) };
    (0..count).map(move |index| index * (steps - length) / (count - 1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_segment_goes_across_the_end_of_an_episode() {
        let space = ActionSpace::Discrete { count: 4 };
        let mut rollout = Rollout::new(space);
        (rollout.steps, rollout.copies) = (7, 1);
        rollout.rewards = (0..7).map(f64::from).collect();
        rollout.states = (0..14).map(f64::from).collect();
        rollout.ends = vec![StepEnd::Running; 7];
        rollout.ends[2] = StepEnd::Terminated;
        let rows: Vec<f32> = (0..7_u8).map(f32::from).collect();
        let utilities = Utility::Task.utilities(&rollout, Some(ControlTask::Gridworld));
        let segments = segments_of(&rollout, &rows, &utilities, 2, 1);
        let found: Vec<&[f32]> = segments.iter().map(|segment| segment.rows.as_slice()).collect();
        assert_eq!(found, [[0.0, 1.0], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        assert_eq!(segments[2].utilities, [3.0, 4.0]);
        assert_eq!(segments[2].states, [6.0, 8.0], "one number of each state");
    }

    #[test]
    fn every_step_of_an_episode_with_room_is_in_a_segment() {
        let of = |steps: usize, length: usize| starts(steps, length).collect::<Vec<_>>();
        assert_eq!(of(200, 50), [0, 50, 100, 150]);
        assert_eq!(of(13, 10), [0, 3]);
        assert_eq!(of(10, 10), [0]);
        assert_eq!(of(9, 10), [0; 0]);
        for (steps, length) in [(37, 10), (101, 50), (64, 7), (5, 1)] {
            let starts = of(steps, length);
            assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= length));
            assert_eq!((starts[0], starts[starts.len() - 1]), (0, steps - length));
        }
    }

    #[test]
    fn a_teacher_may_go_by_numbers_of_the_state() {
        let mut rollout = Rollout::new(ActionSpace::Continuous { dimensions: 1, bound: 2.0 });
        (rollout.steps, rollout.copies) = (2, 1);
        rollout.rewards = vec![-7.0, -8.0];
        rollout.ends = vec![StepEnd::Running; 2];
        rollout.states = vec![0.5, 3.0, 0.7, -4.0];
        let task = Some(ControlTask::Pendulum);
        let weights = toml::from_str("theta_dot = 2").unwrap();
        let spin = Utility::new(Some(&weights), task);
        assert_eq!(spin.utilities(&rollout, task), [6.0, -8.0]);
        assert_eq!(Utility::new(None, task).utilities(&rollout, task), [-7.0, -8.0]);
        let cart = Some(ControlTask::CartPole);
        assert_eq!(Utility::Task.utilities(&rollout, None), [-7.0, -8.0]);
        rollout.states = vec![0.5, 3.0, 0.125, -4.0, -1.0, 0.0, -0.125, 0.0];
        assert_eq!(Utility::Task.utilities(&rollout, cart), [-0.625, -1.125]);
    }
}
