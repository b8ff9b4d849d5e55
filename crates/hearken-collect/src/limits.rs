//! How much one account, address or token may ask for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

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

/// How much one account, address or token may ask for.
#[derive(Debug)]
pub(crate) struct Limits {
    account: Buckets,
    address: Buckets,
    token: Buckets,
    login: Buckets,
    login_address: Buckets,
}

impl Limits {
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

    /// An attempt to sign in or to use an invitation, with any name.
    pub(crate) fn spend_login_address(&self, address: IpAddr) -> Result<(), AppError> {
        self.login_address.spend(&network(address), Instant::now())
    }
}

/// What one subscriber can choose addresses from: all of IPv4's, the upper half of IPv6's.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

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
    fn an_address_counts_as_its_network() {
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }
}
