//! How long the rest will take.

use std::time::Duration;

/// Time left after `done` of `total` equal parts took `elapsed`; `None` before the first.
pub(crate) fn time_left(elapsed: Duration, done: u64, total: u64) -> Option<Duration> {
    if done == 0 {
        return None;
    }
    Some(elapsed.mul_f64(total.saturating_sub(done) as f64 / done as f64))
}

/// A duration in its two largest units: "2h 05m", "3m 20s", "12s".
pub(crate) fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m {rest:02}s"),
        _ => format!("{hours}h {minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_per_part_as_what_is_done() {
        let elapsed = Duration::from_secs(30);
        assert_eq!(time_left(elapsed, 10, 40), Some(Duration::from_secs(90)));
        assert_eq!(time_left(elapsed, 0, 40), None);
        assert_eq!(time_left(elapsed, 41, 40), Some(Duration::ZERO));
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        let shown = |seconds| shown(Duration::from_secs(seconds));
        assert_eq!(shown(12), "12s");
        assert_eq!(shown(200), "3m 20s");
        assert_eq!(shown(7500), "2h 05m");
    }
}
