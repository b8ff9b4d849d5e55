//! A ball falls, and a paddle at the bottom catches it or does not.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{PIXELS_SIDE, Transition};

/// Places along a side.
const PLACES: usize = 14;
/// Pixels of a side of a place.
const PLACE: usize = 3;
/// Places on both sides of the paddle's middle that are the paddle too.
const REACH: f64 = 1.0;

/// Row and column of the ball, column of the paddle's middle: left, stay, right. The ball falls by a row.
pub(crate) fn step(state: &mut [f64], action: usize) -> Transition {
    let last = (PLACES - 1) as f64;
    state[2] = (state[2] + action as f64 - 1.0).clamp(REACH, last - REACH);
    state[0] += 1.0;
    let terminated = state[0] == last;
    let is_caught = (state[1] - state[2]).abs() <= REACH;
    let reward = match (terminated, is_caught) {
        (false, _) => 0.0,
        (true, true) => 1.0,
        (true, false) => -1.0,
    };
    Transition { reward, terminated }
}

/// The ball anywhere in the first row, the paddle anywhere in the last.
pub(crate) fn reset(state: &mut [f64], rng: &mut ChaCha8Rng) {
    state[0] = 0.0;
    state[1] = rng.random_range(0..PLACES) as f64;
    state[2] = rng.random_range(1..PLACES - 1) as f64;
}

/// Ball and paddle in white on black.
pub(crate) fn observe(state: &[f64], observation: &mut [f32]) {
    observation.fill(0.0);
    let mut place = |row: usize, column: usize| {
        for line in row * PLACE..(row + 1) * PLACE {
            observation[line * PIXELS_SIDE + column * PLACE..][..PLACE].fill(1.0);
        }
    };
    let [row, column, paddle] = [state[0] as usize, state[1] as usize, state[2] as usize];
    place(row, column);
    (paddle - 1..=paddle + 1).for_each(|column| place(PLACES - 1, column));
}

/// Whether three numbers are places of a ball that has not landed and of a paddle.
pub(crate) fn is_state(state: &[f64]) -> bool {
    let last = (PLACES - 1) as f64;
    state.iter().all(|x| x.fract() == 0.0)
        && (0.0..last).contains(&state[0])
        && (0.0..=last).contains(&state[1])
        && (REACH..=last - REACH).contains(&state[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reward when the ball lands, and the steps until then.
    fn fall(ball: f64, paddle: f64, action: usize) -> (f64, usize) {
        let mut state = [0.0, ball, paddle];
        for steps in 1.. {
            let Transition { reward, terminated } = step(&mut state, action);
            if terminated {
                return (reward, steps);
            }
            assert_eq!(reward, 0.0);
        }
        unreachable!("every ball lands")
    }

    #[test]
    fn the_paddle_catches_what_falls_on_any_of_its_three_places() {
        assert_eq!(fall(5.0, 4.0, 1), (1.0, 13));
        assert_eq!(fall(6.0, 4.0, 1), (-1.0, 13));
        assert_eq!(fall(13.0, 3.0, 2), (1.0, 13), "it stays within the picture");
        assert_eq!(fall(13.0, 3.0, 0), (-1.0, 13));
    }

    #[test]
    fn ball_and_paddle_are_seen() {
        let mut observation = vec![0.5; PIXELS_SIDE * PIXELS_SIDE];
        observe(&[0.0, 13.0, 1.0], &mut observation);
        assert_eq!(observation.iter().sum::<f32>(), 9.0 + 27.0);
        assert_eq!([observation[PIXELS_SIDE - 1], observation[39 * PIXELS_SIDE]], [1.0; 2]);
        assert!(is_state(&[0.0, 13.0, 1.0]));
        for state in [[13.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.5, 0.0, 1.0], [0.0, 14.0, 1.0]] {
            assert!(!is_state(&state));
        }
    }
}
