//! How much one account, address or token may ask for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hearken_http::network;

use crate::error::AppError;
use crate::options::Options;

/// Buckets of tokens: `burst` at first, refilled at `per_s`.
#[derive(Debug)]
struct Buckets {
    per_s: f64,
    burst: f64,
    levels: Mutex<HashMap<String, (Instant, f64)>>,
}

/// Buckets that are kept; when there are more, the full ones are dropped.
const BUCKETS_MAX: usize = 10_000;

impl Buckets {
    fn new(per_s: f64, burst: f64) -> Self {
        Self { per_s, burst, levels: Mutex::default() }
    }

    fn spend(&self, key: &str, now: Instant) -> Result<(), AppError> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let refilled = |(at, level): (Instant, f64)| {
            (level + now.duration_since(at).as_secs_f64() * self.per_s).min(self.burst)
        };
        if BUCKETS_MAX <= levels.len() {
            levels.retain(|_, bucket| refilled(*bucket) < self.burst);
        }
        let level = levels.get(key).map_or(self.burst, |bucket| refilled(*bucket));
        if level < 1.0 {
            levels.insert(key.to_owned(), (now, level));
            let wait_s = (1.0 - level) / self.per_s;
            return Err(AppError::TooMany { retry_after_s: (wait_s.ceil() as u64).max(1) });
        }
        levels.insert(key.to_owned(), (now, level - 1.0));
        Ok(())
    }
}

/// What may go on at the same time: so much in all, and so much for one.
#[derive(Debug)]
pub(crate) struct Room {
    max: usize,
    max_each: usize,
    /// What takes place, for messages.
    what: &'static str,
    inside: Mutex<HashMap<String, usize>>,
}

/// One of those inside; its place is free when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    room: Arc<Room>,
    whose: String,
}

/// How long one who finds no place should wait.
const SEAT_WAIT_S: u64 = 5;

impl Room {
    fn new((max, max_each): (usize, usize), what: &'static str) -> Arc<Self> {
        Arc::new(Self { max, max_each, what, inside: Mutex::default() })
    }

    /// A place for one more.
    ///
    /// # Errors
    ///
    /// All are taken, or all that one may have.
    pub(crate) fn enter(self: &Arc<Self>, whose: &str) -> Result<Seat, AppError> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |text: String| AppError::Busy { text, retry_after_s: SEAT_WAIT_S };
        let what = self.what;
        if self.max_each <= inside.get(whose).copied().unwrap_or(0) {
            return Err(busy(format!(
                "you have {} {what} under way; one has to end first",
                self.max_each
            )));
        }
        if self.max <= inside.values().sum() {
            return Err(busy(format!("there are {} {what} under way; try again soon", self.max)));
        }
        *inside.entry(whose.to_owned()).or_default() += 1;
        Ok(Seat { room: Arc::clone(self), whose: whose.to_owned() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inside = self.room.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.whose);
            }
        }
    }
}

/// How much one account, address or token may ask for.
#[derive(Debug)]
pub(crate) struct RateLimits {
    account: Buckets,
    address: Buckets,
    token: Buckets,
    login: Buckets,
    login_address: Buckets,
    live: Buckets,
    live_room: Arc<Room>,
    stream_room: Arc<Room>,
}

impl RateLimits {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            account: Buckets::new(options.account_per_s, options.account_per_s * 5.0),
            address: Buckets::new(options.account_per_s, options.account_per_s * 5.0),
            token: Buckets::new(options.token_per_s, options.token_per_s * 2.0),
            login: Buckets::new(LOGINS_PER_MINUTE / 60.0, LOGINS_PER_MINUTE),
            login_address: Buckets::new(
                ADDRESS_LOGINS_PER_MINUTE / 60.0,
                ADDRESS_LOGINS_PER_MINUTE,
            ),
            live: Buckets::new(
                f64::from(options.live_per_day) / DAY_S,
                f64::from(options.live_per_day),
            ),
            live_room: Room::new((options.live_at_once, LIVE_EACH), "live prompts"),
            stream_room: Room::new((STREAMS, STREAMS_EACH), "streams of judgements"),
        }
    }

    pub(crate) fn spend_account(&self, annotator: &str) -> Result<(), AppError> {
        self.account.spend(annotator, Instant::now())
    }

    pub(crate) fn spend_address(&self, address: &str) -> Result<(), AppError> {
        self.address.spend(address, Instant::now())
    }

    pub(crate) fn spend_token(&self, token: &str) -> Result<(), AppError> {
        self.token.spend(token, Instant::now())
    }

    /// An attempt at the password of `name` from `address`. Each address has a bucket of its own for
    /// each name: a stranger who guesses does not lock out the one whose name it is.
    pub(crate) fn spend_login(&self, name: &str, address: Option<IpAddr>) -> Result<(), AppError> {
        let from = address.map(network).unwrap_or_default();
        self.login.spend(&format!("{from} {}", name.trim().to_lowercase()), Instant::now())
    }

    /// A prompt of a person to the models; its answers are under way until the seat is dropped.
    pub(crate) fn spend_live(&self, annotator: &str) -> Result<Seat, AppError> {
        let seat = self.live_room.enter(annotator)?;
        self.live.spend(annotator, Instant::now())?;
        Ok(seat)
    }

    /// A stream of judgements; it is under way until the seat is dropped.
    pub(crate) fn stream(&self, token: &str) -> Result<Seat, AppError> {
        self.stream_room.enter(token)
    }

    /// An attempt to sign in or to use an invitation, with any name.
    pub(crate) fn spend_login_address(&self, address: IpAddr) -> Result<(), AppError> {
        self.login_address.spend(&network(address), Instant::now())
    }
}

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;
/// Prompts of one person that are answered at the same time.
const LIVE_EACH: usize = 2;
/// Streams of judgements at the same time, and those of one token.
const STREAMS: usize = 32;
const STREAMS_EACH: usize = 4;
/// Attempts to sign in with one name from one address.
const LOGINS_PER_MINUTE: f64 = 10.0;
/// Attempts to sign in with any name from one address, which an office may share.
const ADDRESS_LOGINS_PER_MINUTE: f64 = 60.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_runs_dry_and_fills_again() {
        let buckets = Buckets::new(2.0, 3.0);
        let start = Instant::now();
        for _ in 0..3 {
            buckets.spend("a", start).unwrap();
        }
        let refused = buckets.spend("a", start).unwrap_err();
        assert!(matches!(refused, AppError::TooMany { retry_after_s: 1 }), "{refused:?}");
        buckets.spend("b", start).unwrap();
        buckets.spend("a", start + Duration::from_millis(600)).unwrap();
        assert!(buckets.spend("a", start + Duration::from_millis(700)).is_err());
    }

    #[test]
    fn a_room_has_places_for_each_and_for_all() {
        let room = Room::new((3, 2), "things");
        let seats = [room.enter("a").unwrap(), room.enter("a").unwrap()];
        assert!(matches!(room.enter("a"), Err(AppError::Busy { .. })));
        let other = room.enter("b").unwrap();
        assert!(room.enter("c").is_err());
        drop(seats);
        let _again = room.enter("a").unwrap();
        drop(other);
        assert_eq!(room.inside.lock().unwrap().len(), 1);
    }
}
