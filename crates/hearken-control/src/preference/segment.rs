//! Pieces of episodes, and comparisons of two of them.

use hearken_env::{ActionSpace, Environments, StepEnd};

use crate::rollout::Rollout;

/// Consecutive steps of one episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// What a reward model reads: what was seen and what was done, step by step.
    pub rows: Vec<f32>,
    /// What a teacher goes by: the environment's reward of each step, or the utility of its state.
    pub utilities: Vec<f32>,
}

/// Two segments, and which is the better one.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedSegments {
    /// The segments.
    pub segments: [Segment; 2],
    /// The probability that the first is the better one: 1, 0, or ½ for a tie.
    pub first_is_better: f64,
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

/// The segments of `length` steps that a rollout has, one behind another, none across the end of an episode.
pub fn segments_of(
    rollout: &Rollout,
    rows: &[f32],
    environments: &Environments,
    length: usize,
) -> Vec<Segment> {
    let (task, copies) = (environments.id().task(), rollout.copies);
    let (width, state_len) = (rows.len() / rollout.len(), rollout.states.len() / rollout.len());
    let utility = |entry: usize| {
        let state = &rollout.states[entry * state_len..][..state_len];
        let utility = task.and_then(|task| task.utility(state));
        utility.unwrap_or(rollout.rewards[entry]) as f32
    };
    let mut segments = Vec::new();
    for copy in 0..copies {
        let mut first = 0;
        for step in 0..rollout.steps {
            let is_whole = step + 1 - first == length;
            if is_whole {
                let entries = (first..=step).map(|step| step * copies + copy);
                let rows = entries.clone().flat_map(|entry| &rows[entry * width..][..width]);
                let rows = rows.copied().collect();
                segments.push(Segment { rows, utilities: entries.map(utility).collect() });
            }
            if is_whole || rollout.ends[step * copies + copy] != StepEnd::Running {
                first = step + 1;
            }
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use hearken_env::{ControlTask, EnvironmentSetup};

    use super::*;

    #[test]
    fn no_segment_goes_across_the_end_of_an_episode() {
        let space = ActionSpace::Discrete { count: 4 };
        let mut rollout = Rollout::new(space);
        (rollout.steps, rollout.copies) = (7, 1);
        rollout.rewards = (0..7).map(f64::from).collect();
        rollout.states = vec![0.0; 14];
        rollout.ends = vec![StepEnd::Running; 7];
        rollout.ends[2] = StepEnd::Terminated;
        let environments = EnvironmentSetup::from(ControlTask::Gridworld).open(1).unwrap();
        let rows: Vec<f32> = (0..7_u8).map(f32::from).collect();
        let segments = segments_of(&rollout, &rows, &environments, 2);
        let found: Vec<&[f32]> = segments.iter().map(|segment| segment.rows.as_slice()).collect();
        assert_eq!(found, [[0.0, 1.0], [3.0, 4.0], [5.0, 6.0]]);
        assert_eq!(segments[1].utilities, [3.0, 4.0]);
    }
}
