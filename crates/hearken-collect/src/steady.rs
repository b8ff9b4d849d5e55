//! A clock for what must not end because the machine's clock is wrong for a moment.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A difference between two clocks that is a jump of one of them.
const JUMP_MS: i64 = 3_600_000;
/// How long a jump has to last to be believed.
const BELIEVED_MS: i64 = 600_000;

/// Follows the clock of the machine, except where it jumps: then it goes on as before, until the machine's clock
/// has stayed where it jumped to for ten minutes.
#[derive(Debug)]
pub(crate) struct Steady {
    started: Instant,
    state: Mutex<Option<Anchor>>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    /// What was read last without a jump: milliseconds since the start, and since 1970.
    ran: i64,
    wall: i64,
    /// Where the clock jumped to, and when.
    jumped: Option<(i64, i64)>,
}

impl Steady {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), state: Mutex::default() }
    }

    /// The time that holds where the machine's clock says `wall`: milliseconds since 1970 in UTC.
    pub(crate) fn time(&self, wall: i64) -> i64 {
        let ran = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (anchor, time) = read(*state, ran, wall);
        *state = Some(anchor);
        time
    }
}

/// What to remember, and the time.
fn read(before: Option<Anchor>, ran: i64, wall: i64) -> (Anchor, i64) {
    let here = Anchor { ran, wall, jumped: None };
    let Some(before) = before else { return (here, wall) };
    let is_near =
        |(then_ran, then_wall): (i64, i64)| ((wall - then_wall) - (ran - then_ran)).abs() < JUMP_MS;
    if is_near((before.ran, before.wall)) {
        return (here, wall);
    }
    let jumped = before.jumped.filter(|jumped| is_near(*jumped)).unwrap_or((ran, wall));
    if BELIEVED_MS <= ran - jumped.0 {
        return (here, wall);
    }
    (Anchor { jumped: Some(jumped), ..before }, before.wall + (ran - before.ran))
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 365 * 86_400_000;

    /// The times that a clock gives which is read at `(ran, wall)`.
    fn times(readings: &[(i64, i64)]) -> Vec<i64> {
        let mut state = None;
        let times = readings.iter().map(|(ran, wall)| {
            let (anchor, time) = read(state, *ran, *wall);
            state = Some(anchor);
            time
        });
        times.collect()
    }

    #[test]
    fn a_clock_that_jumps_for_a_moment_changes_nothing() {
        for away in [YEAR, -YEAR] {
            let readings = [(0, 5_000), (10, 5_010 + away), (20, 5_020 + away), (30, 5_030)];
            assert_eq!(times(&readings), [5_000, 5_010, 5_020, 5_030]);
        }
    }

    #[test]
    fn a_clock_that_was_put_right_is_believed_after_a_while_and_small_steps_at_once() {
        let readings =
            [(0, 0), (1, YEAR + 1), (700_000, YEAR + 700_000), (700_001, YEAR + 700_001)];
        assert_eq!(times(&readings), [0, 1, YEAR + 700_000, YEAR + 700_001]);
        assert_eq!(times(&[(0, 0), (10, 60_010), (20, 20)]), [0, 60_010, 20]);
    }
}
