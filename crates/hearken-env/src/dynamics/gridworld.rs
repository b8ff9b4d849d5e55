//! A square of cells with a goal in the last one: a task small enough that everything about it can be computed.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Transition;

/// Cells along a side.
pub(crate) const SIDE: usize = 5;
/// Cells.
pub const CELLS: usize = SIDE * SIDE;

/// Row and column: up, right, down, left; against the edge one stays.
pub(crate) fn step(state: &mut [f64], action: usize) -> Transition {
    let cell = moved(cell(state), action);
    (state[0], state[1]) = ((cell / SIDE) as f64, (cell % SIDE) as f64);
    let terminated = cell == CELLS - 1;
    Transition { reward: if terminated { 1.0 } else { 0.0 }, terminated }
}

/// The cell that an action leads to.
pub fn moved(cell: usize, action: usize) -> usize {
    let (row, column) = (cell / SIDE, cell % SIDE);
    match action {
        0 if 0 < row => cell - SIDE,
        1 if column + 1 < SIDE => cell + 1,
        2 if row + 1 < SIDE => cell + SIDE,
        3 if 0 < column => cell - 1,
        _ => cell,
    }
}

/// The number of a cell, row by row.
fn cell(state: &[f64]) -> usize {
    state[0] as usize * SIDE + state[1] as usize
}

/// Anywhere but in the goal.
pub(crate) fn reset(state: &mut [f64], rng: &mut ChaCha8Rng) {
    let cell = rng.random_range(0..CELLS - 1);
    (state[0], state[1]) = ((cell / SIDE) as f64, (cell % SIDE) as f64);
}

/// 1 at the cell's number, 0 elsewhere.
pub(crate) fn observe(state: &[f64], observation: &mut [f32]) {
    observation.fill(0.0);
    observation[cell(state)] = 1.0;
}

/// Whether two numbers are a cell.
pub(crate) fn is_cell(state: &[f64]) -> bool {
    state.iter().all(|&x| x.fract() == 0.0 && (0.0..SIDE as f64).contains(&x))
}
