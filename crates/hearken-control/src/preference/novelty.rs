//! How new a state is: its distance to those that were seen.
//!
//! The entropy of states by the distance to the k-th nearest one, as PEBBLE's code has it (Lee, Smith and Abbeel 2021,
//! arXiv:2106.05091, section 4.1): the distance itself over its deviation, where the paper has its logarithm.

use crate::replay::Replay;

/// Which neighbor's distance counts.
const NEIGHBOR: usize = 5;
/// The most states that are compared with.
const STATES: usize = 1000;
/// Added to the deviation of distances, which is 0 where all states are the same.
const DEVIATION_EPS: f64 = 1e-8;

/// States that were seen, and the scale of the distances between them.
#[derive(Clone, Debug)]
pub struct Novelty {
    states: Vec<f32>,
    len: usize,
    deviation: f64,
}

impl Novelty {
    /// Of the states of a replay, spread over it where there are many.
    pub fn of(replay: &Replay) -> Self {
        let len = replay.observation_len();
        let every = replay.len().div_ceil(STATES).max(1);
        let states = replay.observations().chunks(len).step_by(every).flatten().copied().collect();
        let mut novelty = Self { states, len, deviation: 1.0 };
        let distances: Vec<f64> =
            novelty.states.chunks(len).map(|state| novelty.distance(state)).collect();
        if !distances.is_empty() {
            let count = distances.len() as f64;
            let mean = distances.iter().sum::<f64>() / count;
            let variance = distances.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            novelty.deviation = variance.sqrt() + DEVIATION_EPS;
        }
        novelty
    }

    /// Distance to the fifth nearest state, or to the farthest of fewer.
    fn distance(&self, state: &[f32]) -> f64 {
        let mut nearest = [f64::INFINITY; NEIGHBOR];
        for other in self.states.chunks(self.len) {
            let square: f64 = state.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            if square < nearest[NEIGHBOR - 1] {
                nearest[NEIGHBOR - 1] = square;
                nearest.sort_by(f64::total_cmp);
            }
        }
        let farthest = nearest.into_iter().rfind(|square| square.is_finite());
        farthest.unwrap_or(0.0).sqrt()
    }

    /// What a state is worth.
    pub fn reward(&self, state: &[f32]) -> f32 {
        (self.distance(state) / self.deviation) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_from_all_that_was_seen_is_worth_most() {
        let mut replay = Replay::new(100, 2, 1);
        for step in 0..50_u8 {
            let x = [f32::from(step % 10) * 0.1, f32::from(step / 10) * 0.1];
            replay.push(&x, &[0.0], &x, 0.0, true);
        }
        let novelty = Novelty::of(&replay);
        let rewards =
            [[0.5, 0.2], [0.0, 0.0], [2.0, 0.0], [5.0, 5.0]].map(|at| novelty.reward(&at));
        assert!(rewards.is_sorted_by(|a, b| a < b), "{rewards:?}");
        // The fifth nearest of a grid's inner point, itself among them, is a neighbor at 0.1.
        assert!((novelty.distance(&[0.5, 0.2]) - 0.1).abs() < 1e-6);
        assert_eq!(Novelty::of(&Replay::new(5, 2, 1)).reward(&[1.0, 1.0]), 0.0);
    }
}
