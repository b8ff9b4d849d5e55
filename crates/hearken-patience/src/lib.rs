//! When a client repeats a request, and after which pause: judges, scorers, teachers, servers that sample and the
//! hub are asked by these rules.
//!
//! Not here: which answers are worth a repetition, which every protocol says for itself.
#![deny(missing_docs)]

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::HeaderMap;

/// What is left of the time and the repetitions that a request may take.
#[derive(Debug)]
pub struct Patience {
    start: Instant,
    limit: Duration,
    retries_max: usize,
    first_pause: Duration,
    pause_max: Duration,
    retries: usize,
}

impl Patience {
    /// The request may be repeated `retries_max` times. Each pause is twice as long as the one before, and up to a
    /// half longer by chance.
    pub fn new(retries_max: usize, first_pause: Duration) -> Self {
        let (limit, pause_max) = (Duration::MAX, Duration::MAX);
        Self { start: Instant::now(), limit, retries_max, first_pause, pause_max, retries: 0 }
    }

    /// Attempts and pauses take no longer than this together, from now on.
    pub fn within(self, limit: Duration) -> Self {
        Self { start: Instant::now(), limit, ..self }
    }

    /// Pauses double up to this; what a server asks for may be longer.
    pub fn with_pause_max(self, pause_max: Duration) -> Self {
        Self { pause_max, ..self }
    }

    /// The time that is left.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }

    /// Since when the request is under way.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Something new came: repetitions and pauses are counted from here.
    pub fn renew(&mut self) {
        self.retries = 0;
    }

    /// The pause before the next attempt, and no shorter than the server `asked` for; `None` where there is no further one.
    pub fn next_pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.retries == self.retries_max {
            return None;
        }
        let doubled = 2_u32.saturating_pow(u32::try_from(self.retries).unwrap_or(u32::MAX));
        let own = with_jitter(self.first_pause.saturating_mul(doubled).min(self.pause_max));
        let wait = asked.map_or(own, |asked| asked.max(own));
        if self.left() <= wait {
            return None;
        }
        self.retries += 1;
        Some(wait)
    }
}

/// The pause that a server asks for by `Retry-After`: seconds, or a date ([RFC 9110, section
/// 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)). `None` where it says neither; no pause where the
/// date is over.
pub fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Up to a half more, so that clients that were turned away together do not come back together.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
    pause.saturating_add((pause / 2).mul_f64(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_last_repetition() {
        let first = Duration::from_millis(100);
        let mut patience = Patience::new(3, first).within(Duration::from_secs(60));
        for factor in [1, 2, 4] {
            let pause = patience.next_pause(None).unwrap();
            assert!(first * factor <= pause && pause <= first * factor * 3 / 2, "{pause:?}");
        }
        assert_eq!(patience.next_pause(None), None);
        patience.renew();
        let pause = patience.next_pause(None).unwrap();
        assert!(first <= pause && pause <= first * 3 / 2, "{pause:?}");
    }

    #[test]
    fn pauses_have_a_longest_one_however_often_a_request_is_repeated() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(8));
        let mut patience = Patience::new(100, first).with_pause_max(longest);
        let last = (0..100).filter_map(|_| patience.next_pause(None)).last().unwrap();
        assert!(longest <= last && last <= longest * 3 / 2, "{last:?}");
        assert_eq!(patience.next_pause(None), None);
    }

    #[test]
    fn what_the_server_asks_for_is_waited_and_never_longer_than_the_time_that_is_left() {
        let patience = || Patience::new(3, Duration::from_millis(1));
        let asked = Duration::from_secs(7);
        let mut limited = patience().within(Duration::from_secs(60));
        assert_eq!(limited.next_pause(Some(asked)), Some(asked));
        assert_eq!(limited.next_pause(Some(Duration::from_secs(61))), None);
        assert_eq!(patience().next_pause(Some(Duration::MAX)), None);
    }

    #[test]
    fn servers_ask_in_seconds_or_by_a_date() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().unwrap());
            asked_pause(&headers)
        };
        assert_eq!(asked(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-3"), None);
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let hour = Duration::from_secs(3600);
        let pause = asked(&httpdate::fmt_http_date(SystemTime::now() + hour)).unwrap();
        assert!(Duration::from_secs(3590) < pause && pause <= hour, "{pause:?}");
        assert_eq!(asked_pause(&HeaderMap::new()), None);
    }
}
