//! When a request is repeated, by every client of a server.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

/// What is left of the time and the repetitions that a request may take.
#[derive(Debug)]
pub(crate) struct Patience {
    start: Instant,
    limit: Duration,
    retries_left: usize,
    pause: Duration,
}

impl Patience {
    /// The time begins now; it holds attempts and pauses. Each pause is twice as long as the one before.
    pub(crate) fn new(limit: Duration, retries_max: usize, first_pause: Duration) -> Self {
        Self { start: Instant::now(), limit, retries_left: retries_max, pause: first_pause }
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }

    /// Since when the request is under way.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// The pause before the next attempt, and no shorter than the server `asked` for; `None` where there is no further one.
    pub(crate) fn next_pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let own = with_jitter(self.pause);
        let wait = asked.map_or(own, |asked| asked.max(own));
        if self.left() <= wait {
            return None;
        }
        self.retries_left = self.retries_left.checked_sub(1)?;
        self.pause *= 2;
        Some(wait)
    }
}

/// Up to a half more, so that clients that were turned away together do not come back together.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    pause.mul_f64(1.0 + 0.5 * (random >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_last_repetition() {
        let first = Duration::from_millis(100);
        let mut patience = Patience::new(Duration::from_secs(60), 3, first);
        for factor in [1, 2, 4] {
            let pause = patience.next_pause(None).unwrap();
            assert!(first * factor <= pause && pause <= first * factor * 3 / 2, "{pause:?}");
        }
        assert_eq!(patience.next_pause(None), None);
    }

    #[test]
    fn what_the_server_asks_for_is_waited_and_never_longer_than_the_time_that_is_left() {
        let mut patience = Patience::new(Duration::from_secs(60), 3, Duration::from_millis(1));
        let asked = Duration::from_secs(7);
        assert_eq!(patience.next_pause(Some(asked)), Some(asked));
        assert_eq!(patience.next_pause(Some(Duration::from_secs(61))), None);
    }
}
