//! A dot that is moved about a picture, and should be in its middle: a task that is seen and not told.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{PIXELS_SIDE, Transition};

/// Places along a side.
const PLACES: usize = 20;
/// Pixels from one place to the next.
const STRIDE: usize = 2;
/// Pixels of a side of the dot.
const DOT: usize = 4;
/// Row and column of the place where the dot should be.
const MIDDLE: f64 = 10.0;

/// Row and column: stay, up, right, down, left; at the edge one stays.
pub(crate) fn step(state: &mut [f64], action: usize) -> Transition {
    let (rows, columns) = [(0.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, -1.0)][action];
    let last = (PLACES - 1) as f64;
    state[0] = (state[0] + rows).clamp(0.0, last);
    state[1] = (state[1] + columns).clamp(0.0, last);
    let distance = (state[0] - MIDDLE).abs() + (state[1] - MIDDLE).abs();
    // Between 0 and −1, which is what a corner costs.
    Transition { reward: -distance / (2.0 * MIDDLE), terminated: false }
}

/// Anywhere.
pub(crate) fn reset(state: &mut [f64], rng: &mut ChaCha8Rng) {
    state.fill_with(|| rng.random_range(0..PLACES) as f64);
}

/// A white dot on black.
pub(crate) fn observe(state: &[f64], observation: &mut [f32]) {
    observation.fill(0.0);
    let (top, left) = (STRIDE * state[0] as usize, STRIDE * state[1] as usize);
    for row in top..top + DOT {
        observation[row * PIXELS_SIDE + left..][..DOT].fill(1.0);
    }
}

/// Whether two numbers are a place.
pub(crate) fn is_state(state: &[f64]) -> bool {
    state.iter().all(|&x| x.fract() == 0.0 && (0.0..PLACES as f64).contains(&x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dot_goes_where_it_is_sent_and_stays_within_the_picture() {
        let mut state = [0.0, 19.0];
        assert_eq!(step(&mut state, 1).reward, -19.0 / 20.0);
        assert_eq!(state, [0.0, 19.0]);
        for (action, expected) in [(2, [0.0, 19.0]), (3, [1.0, 19.0]), (4, [1.0, 18.0])] {
            step(&mut state, action);
            assert_eq!(state, expected);
        }
        let mut state = [10.0, 11.0];
        assert_eq!(step(&mut state, 4), Transition { reward: 0.0, terminated: false });
    }

    #[test]
    fn all_of_the_dot_is_seen_wherever_it_is() {
        let mut observation = vec![0.5; PIXELS_SIDE * PIXELS_SIDE];
        for state in [[0.0, 0.0], [19.0, 19.0], [3.0, 8.0]] {
            observe(&state, &mut observation);
            assert_eq!(observation.iter().sum::<f32>(), 16.0);
            let first = observation.iter().position(|&x| x == 1.0).unwrap();
            assert_eq!([first / PIXELS_SIDE, first % PIXELS_SIDE].map(|x| x as f64 / 2.0), state);
        }
    }
}
