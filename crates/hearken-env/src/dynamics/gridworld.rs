//! A square of cells with a goal in the last one: a task small enough that everything about it can be computed.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Transition;

/// Cells along a side.
pub(crate) const SIDE: usize = 5;
/// Cells.
pub const CELLS: usize = SIDE * SIDE;

/// Which cells there are to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GridLayout {
    /// All.
    Open,
    /// All but a wall in the middle row, which is open in the first column only.
    Wall,
}

impl GridLayout {
    /// Whether one can be in a cell.
    fn has(self, cell: usize) -> bool {
        self == Self::Open || cell / SIDE != SIDE / 2 || cell.is_multiple_of(SIDE)
    }
}

/// Row and column: up, right, down, left; against the edge or a wall one stays.
pub(crate) fn step(state: &mut [f64], action: usize, layout: GridLayout) -> Transition {
    let from = cell(state);
    let to = moved(from, action);
    let cell = if layout.has(to) { to } else { from };
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
pub(crate) fn reset(state: &mut [f64], layout: GridLayout, rng: &mut ChaCha8Rng) {
    let cell = loop {
        let cell = rng.random_range(0..CELLS - 1);
        if layout.has(cell) {
            break cell;
        }
    };
    (state[0], state[1]) = ((cell / SIDE) as f64, (cell % SIDE) as f64);
}

/// 1 at the cell's number, 0 elsewhere.
pub(crate) fn observe(state: &[f64], observation: &mut [f32]) {
    observation.fill(0.0);
    observation[cell(state)] = 1.0;
}

/// Whether two numbers are a cell that one can be in.
pub(crate) fn is_cell(state: &[f64], layout: GridLayout) -> bool {
    let is_cell = state.iter().all(|&x| x.fract() == 0.0 && (0.0..SIDE as f64).contains(&x));
    is_cell && layout.has(cell(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_is_passed_in_the_first_column_alone() {
        for column in 0..SIDE {
            let mut state = [1.0, column as f64];
            step(&mut state, 2, GridLayout::Wall);
            assert_eq!(state[0], if column == 0 { 2.0 } else { 1.0 });
            let mut state = [1.0, column as f64];
            step(&mut state, 2, GridLayout::Open);
            assert_eq!(state[0], 2.0);
        }
        assert!(is_cell(&[2.0, 3.0], GridLayout::Open) && !is_cell(&[2.0, 3.0], GridLayout::Wall));
    }
}
