//! Headers, limits, and where requests may come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use minijinja::context;

use crate::error::{AppError, Problem, problem_json};
use crate::server::Options;
use crate::state::{AppState, Mode};

/// Scripts, styles and pictures from this service only; nothing may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; media-src 'self' data:; font-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), payment=()",
    ),
];

/// The outermost layer: every answer gets the headers of [`HEADERS`], and every error becomes a page
/// for a browser and JSON for a program.
pub(crate) async fn dress(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api");
    let wants_page = !is_api && wants_html(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let mut response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        response = dress_error(&state, response, wants_page).await;
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if state.options().is_behind_tls() {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    tracing::info!("{method} {} {} {took_ms:.1} ms", without_secret(&path), status.as_u16());
    response
}

/// A path as a log may keep it: the secret of an invitation makes an account.
fn without_secret(path: &str) -> &str {
    if path.starts_with("/invite/") { "/invite/…" } else { path }
}

/// Turns a panic of a handler into an answer, so that one bad request does not cut a connection.
pub(crate) async fn survive(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            AppError::Internal("the handler of this request broke off".into()).into_response()
        }
    }
}

async fn dress_error(state: &AppState, response: Response, wants_page: bool) -> Response {
    let status = response.status();
    let (mut parts, body) = response.into_parts();
    let message = match parts.extensions.get::<Problem>() {
        Some(Problem(message)) => message.clone(),
        None => foreign_message(status, body).await,
    };
    let page =
        context! { status => status.as_u16(), message => message.clone(), project => "Hearken" };
    let dressed = match wants_page.then(|| state.render("error.html", page)) {
        Some(Ok(page)) => (status, page).into_response(),
        _ => problem_json(status, &message),
    };
    // `Allow` and `Retry-After` stay; type and length are those of the new body.
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let (new_parts, body) = dressed.into_parts();
    parts.headers.extend(new_parts.headers);
    Response::from_parts(parts, body)
}

/// The text of an error that the framework made.
async fn foreign_message(status: StatusCode, body: axum::body::Body) -> String {
    let bytes = axum::body::to_bytes(body, 4096).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    match (text.trim(), status) {
        ("", StatusCode::NOT_FOUND) => "there is no such page".into(),
        ("", _) => status.canonical_reason().unwrap_or("error").to_lowercase(),
        (text, _) => text.to_owned(),
    }
}

/// Whether the one who asks is a browser that shows a page.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Without accounts, refuses a request that was sent to another name than this machine's: a page of
/// another site whose name was made to point here could otherwise read everything.
pub(crate) fn check_host(state: &AppState, headers: &HeaderMap) -> Result<(), AppError> {
    if state.mode() == Mode::Accounts {
        return Ok(());
    }
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    let name = host_name(host);
    if is_loopback(name) {
        return Ok(());
    }
    Err(AppError::Forbidden(format!(
        "without accounts this service answers to localhost, not to {host:?}; `hearken collect \
         --add-admin NAME` makes the first account"
    )))
}

/// Whether a host's name means this machine.
pub(crate) fn is_loopback(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host:port` without the port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The host of an address with a scheme.
pub(crate) fn host_of(url: &str) -> &str {
    host_name(authority_of(url))
}

/// The `host:port` of an address with a scheme.
fn authority_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// Refuses a request that changes something and that a browser sent from a page of another site.
pub(crate) fn check_origin(state: &AppState, headers: &HeaderMap) -> Result<(), AppError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let from_elsewhere =
        text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let origin_differs = text("origin").is_some_and(|origin| {
        let own = state.options().public_url.as_deref().map(authority_of);
        let asked = text("host");
        let origin = authority_of(origin);
        Some(origin) != asked && Some(origin) != own
    });
    if from_elsewhere || origin_differs {
        return Err(AppError::Forbidden("the request came from a page of another site".into()));
    }
    Ok(())
}

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

    #[test]
    fn names_of_hosts() {
        assert_eq!(host_name("localhost:8080"), "localhost");
        assert_eq!(host_name("[::1]:8080"), "[::1]");
        assert!(is_loopback("[::1]") && is_loopback("127.0.0.1") && is_loopback("LOCALHOST"));
        assert!(!is_loopback("localhost.evil.example") && !is_loopback("10.0.0.1"));
        assert_eq!(host_of("https://a.example:8443/x?y"), "a.example");
        assert_eq!(authority_of("https://a.example:8443/x?y"), "a.example:8443");
    }
}
