//! Requests to the hub: redirections, repetitions, and what its refusals mean.

use std::io::Read as _;
use std::thread;
use std::time::Duration;

use hearken_patience::{Patience, asked_pause};
use ureq::http::{HeaderMap, Method, Request, Response, Uri};
use ureq::{Agent, Body};

use crate::error::HubError;
use crate::settings::HubSettings;

/// How often a request is repeated that is worth it.
const RETRIES_MAX: usize = 4;
/// How often in all where there is no connection: without a network there is none a minute later.
const ATTEMPTS_UNCONNECTED_MAX: usize = 2;
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause that a server may ask for.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(300);
const REDIRECTIONS_MAX: usize = 10;
/// The longest time to connect, or for nothing to come.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The longest answer that is no file.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const EXCERPT_CHARS: usize = 200;
/// Says who somebody is asked about, in errors.
pub(crate) struct HubSubject<'a> {
    /// The name of a model or data set.
    pub(crate) what: &'a str,
    /// `model` or `data set`.
    pub(crate) noun: &'static str,
    /// The revision that is asked for.
    pub(crate) revision: &'a str,
}

/// A client of one hub.
#[derive(Debug)]
pub(crate) struct Client {
    requests: Agent,
    settings: HubSettings,
}

/// A request that failed.
enum Failed {
    /// For good.
    Refused(HubError),
    /// Perhaps not the next time; with the pause that the server asks for.
    Passing(HubError, Option<Duration>),
}

impl Client {
    pub(crate) fn new(settings: HubSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(SILENCE_MAX))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .user_agent(concat!("hearken/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { requests: config.new_agent(), settings }
    }

    /// An answer that is JSON.
    pub(crate) fn json(
        &self,
        url: &str,
        asked: &HubSubject<'_>,
    ) -> Result<serde_json::Value, HubError> {
        self.repeated(|attempts| {
            let response = self.send(&Method::GET, url, 0, asked, attempts)?;
            let mut text = String::new();
            let mut body = response.into_body().into_reader().take(ANSWER_BYTES_MAX);
            body.read_to_string(&mut text)
                .map_err(|error| broken(url, attempts, &error.to_string()))?;
            serde_json::from_str(&text).map_err(|error| {
                let found = format!("no JSON ({error}): {}", excerpt(&text));
                let expected = "what the hub says of a model or data set";
                // A cut off answer is no JSON either.
                Failed::Passing(HubError::Answer { url: url.to_owned(), found, expected }, None)
            })
        })
    }

    /// The headers that describe a file.
    pub(crate) fn head(&self, url: &str, asked: &HubSubject<'_>) -> Result<HeaderMap, HubError> {
        self.repeated(|attempts| {
            let response = self.send(&Method::HEAD, url, 0, asked, attempts)?;
            Ok(response.headers().clone())
        })
    }

    /// A file from its byte `from` on, or from its start, as the status says. One attempt; the caller
    /// repeats it by [`Client::repeated`].
    fn open(
        &self,
        url: &str,
        from: u64,
        asked: &HubSubject<'_>,
        attempts: usize,
    ) -> Result<Response<Body>, Failed> {
        self.send(&Method::GET, url, from, asked, attempts)
    }

    /// Hands answers for a file to `take` until it has all of it: `take` gets an answer, and says from where to
    /// go on, or `None` when it is done. What brings nothing new counts as a failed attempt.
    pub(crate) fn file(
        &self,
        url: &str,
        mut from: u64,
        asked: &HubSubject<'_>,
        mut take: impl FnMut(Response<Body>) -> Result<Taken, HubError>,
    ) -> Result<(), HubError> {
        let mut failures = 0;
        let mut patience = self.patience();
        loop {
            let failed = match self.open(url, from, asked, failures + 1) {
                Ok(response) => match take(response)? {
                    Taken::Whole => return Ok(()),
                    Taken::Until(place, reason) => {
                        if from < place {
                            failures = 0;
                            patience.renew();
                        }
                        from = place;
                        broken(url, failures + 1, &reason)
                    }
                },
                Err(failed) => failed,
            };
            failures += 1;
            pause(&mut patience, failed, failures)?;
        }
    }

    fn repeated<T>(
        &self,
        mut attempt: impl FnMut(usize) -> Result<T, Failed>,
    ) -> Result<T, HubError> {
        let mut patience = self.patience();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match attempt(attempts) {
                Ok(found) => return Ok(found),
                Err(failed) => pause(&mut patience, failed, attempts)?,
            }
        }
    }

    fn patience(&self) -> Patience {
        Patience::new(RETRIES_MAX, self.settings.first_pause).with_pause_max(PAUSE_MAX)
    }

    /// One request. Redirections are followed here, so that the token stays with the hub, and so that headers
    /// that describe a file are seen, which only the hub itself gives.
    fn send(
        &self,
        method: &Method,
        url: &str,
        from: u64,
        asked: &HubSubject<'_>,
        attempts: usize,
    ) -> Result<Response<Body>, Failed> {
        let mut at = url.to_owned();
        for _ in 0..REDIRECTIONS_MAX {
            let mut request =
                Request::builder().method(method).uri(&at).header("accept-encoding", "identity");
            if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_of_hub(&at)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if 0 < from {
                request = request.header("range", format!("bytes={from}-"));
            }
            let request = request.body(()).map_err(|error| {
                let found = error.to_string();
                Failed::Refused(HubError::Answer { url: at.clone(), found, expected: "an address" })
            })?;
            let response =
                self.requests.run(request).map_err(|error| transport(&at, attempts, &error))?;
            let status = response.status().as_u16();
            if response.status().is_success() || status == 416 {
                return Ok(response);
            }
            if !response.status().is_redirection() {
                return Err(self.refused(&at, response, asked, attempts));
            }
            let target = location(&response, &at).map_err(Failed::Refused)?;
            let describes = response.headers().contains_key("x-linked-etag")
                || response.headers().contains_key("etag");
            if *method == Method::HEAD && describes && !self.is_of_hub(&target) {
                return Ok(response);
            }
            at = target;
        }
        let (found, expected) = (format!("{REDIRECTIONS_MAX} redirections"), "an end of them");
        Err(Failed::Refused(HubError::Answer { url: url.to_owned(), found, expected }))
    }

    fn is_of_hub(&self, url: &str) -> bool {
        let origin = |url: &str| {
            let uri: Uri = url.parse().ok()?;
            Some((uri.scheme_str()?.to_owned(), uri.authority()?.as_str().to_owned()))
        };
        origin(url).is_some_and(|one| origin(&self.settings.endpoint) == Some(one))
    }

    /// What a status that is no success means.
    fn refused(
        &self,
        url: &str,
        response: Response<Body>,
        asked: &HubSubject<'_>,
        attempts: usize,
    ) -> Failed {
        let status = response.status().as_u16();
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let code = header("x-error-code").unwrap_or_default();
        let message = header("x-error-message");
        let pause = asked_pause(response.headers());
        let (what, endpoint) = (asked.what.to_owned(), self.settings.endpoint.clone());
        let has_token = self.settings.token.is_some();
        let error = match (status, code.as_str()) {
            (_, "GatedRepo") | (403, _) => {
                let hint = match has_token {
                    true => "; ask for it on its page, with the account of this HF_TOKEN",
                    false => "; ask for it on its page, and set HF_TOKEN",
                };
                HubError::Gated { what, endpoint, hint }
            }
            (_, "RevisionNotFound") => {
                HubError::NoRevision { what, endpoint, revision: asked.revision.to_owned() }
            }
            (401 | 404, _) if code != "EntryNotFound" => {
                let hint = match has_token {
                    true => "",
                    false => "; a private one is read with HF_TOKEN",
                };
                HubError::NotFound { what, endpoint, noun: asked.noun, hint }
            }
            _ => {
                let mut text = String::new();
                let body =
                    response.into_body().into_reader().take(1 << 12).read_to_string(&mut text);
                let text = message.or_else(|| body.ok().map(|_| text)).unwrap_or_default();
                let body = excerpt(&text);
                HubError::Status { url: url.to_owned(), status, attempts, body }
            }
        };
        match status {
            408 | 429 | 500.. => Failed::Passing(error, pause),
            _ => Failed::Refused(error),
        }
    }
}

/// Waits before the next attempt, or gives up.
fn pause(patience: &mut Patience, failed: Failed, attempts: usize) -> Result<(), HubError> {
    let (error, asked) = match failed {
        Failed::Refused(error) => return Err(error),
        Failed::Passing(error, asked) => (error, asked),
    };
    let unconnected = matches!(error, HubError::Transport { unconnected: true, .. });
    if unconnected && ATTEMPTS_UNCONNECTED_MAX <= attempts {
        return Err(error);
    }
    let asked = asked.map(|asked| asked.min(ASKED_PAUSE_MAX));
    thread::sleep(patience.next_pause(asked).ok_or(error)?);
    Ok(())
}

/// What came of one answer for a file.
pub(crate) enum Taken {
    /// All of it is there.
    Whole,
    /// It ended before the file did, at this byte, for this reason.
    Until(u64, String),
}

fn transport(url: &str, attempts: usize, error: &ureq::Error) -> Failed {
    let unconnected = matches!(
        error,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Io(_)
    );
    let (url, reason) = (url.to_owned(), format!("cannot be reached ({error})"));
    Failed::Passing(HubError::Transport { url, attempts, reason, unconnected }, None)
}

fn broken(url: &str, attempts: usize, reason: &str) -> Failed {
    let (url, reason) = (url.to_owned(), format!("the answer was cut off ({reason})"));
    Failed::Passing(HubError::Transport { url, attempts, reason, unconnected: false }, None)
}

/// Where a redirection leads, seen from `at`.
fn location(response: &Response<Body>, at: &str) -> Result<String, HubError> {
    let target = response.headers().get("location").and_then(|value| value.to_str().ok());
    let absolute = target.and_then(|target| {
        if target.starts_with("http://") || target.starts_with("https://") {
            return Some(target.to_owned());
        }
        let uri: Uri = at.parse().ok()?;
        let rest = target.starts_with('/').then_some(target)?;
        Some(format!("{}://{}{rest}", uri.scheme_str()?, uri.authority()?))
    });
    absolute.ok_or_else(|| HubError::Answer {
        url: at.to_owned(),
        found: format!("a redirection to {:?}", target.unwrap_or_default()),
        expected: "an address",
    })
}

/// The start of an answer, in one line.
fn excerpt(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(EXCERPT_CHARS).collect()
}
