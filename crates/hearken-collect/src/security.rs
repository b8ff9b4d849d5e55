//! Headers, and where requests may come from.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hearken_http::host::{authority_of, host_name, is_loopback};
use minijinja::context;

use crate::error::{AppError, Problem, problem_json};
use crate::language::{self, Language};
use crate::state::{AppState, Mode};
use crate::user::CurrentUser;

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
    let base = &*state.options().base;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let shown = match wants_page {
        true => ErrorView::Page {
            back: page_before(&state, request.headers(), &format!("{base}{path}")),
        },
        false => ErrorView::Json,
    };
    // Programs get errors in English.
    let language = if is_api { Language::English } else { Language::of(request.headers()) };
    let started = Instant::now();
    let mut response = next.run(request).await;
    let status = response.status();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        state.health().doubt();
    }
    let is_error = status.is_client_error() || status.is_server_error();
    if is_error && !is_page(&response) {
        let dressing = dress_error(&state, response, shown);
        response = language::answering(language, dressing).await;
    }
    let headers = response.headers_mut();
    protect(headers);
    // What leads elsewhere in the project does not know where the project is.
    let leads = headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
    if let Some(to) = leads.filter(|to| !base.is_empty() && to.starts_with('/'))
        && let Ok(to) = HeaderValue::from_str(&format!("{base}{to}"))
    {
        headers.insert(header::LOCATION, to);
    }
    if state.options().is_behind_tls() {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    tracing::info!("{method} {base}{} {} {took_ms:.1} ms", without_secret(&path), status.as_u16());
    response
}

/// Adds the headers of every answer.
pub(crate) fn protect(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// A path as a log may keep it: the secret of an invitation makes an account, that of a reset takes one over.
fn without_secret(path: &str) -> &str {
    match path {
        _ if path.starts_with("/invite/") => "/invite/…",
        _ if path.starts_with("/reset/") => "/reset/…",
        _ => path,
    }
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

/// Whether a handler has drawn a page already, as it does where a form has to be filled in again.
fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/html"))
}

/// The path of the page of this service that led here, where the browser tells it and it is another one.
pub(crate) fn page_before(state: &AppState, headers: &HeaderMap, here: &str) -> Option<String> {
    let before = headers.get(header::REFERER)?.to_str().ok()?;
    let authority = authority_of(before);
    let own = state.options().public_url.as_deref().map(authority_of);
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if Some(authority) != own && Some(authority) != asked {
        return None;
    }
    let path = before.split_once(authority)?.1;
    let is_other = path.starts_with('/') && path != here && !path.starts_with("//");
    is_other.then(|| path.to_owned())
}

/// How an error is shown.
enum ErrorView {
    Json,
    /// With a way back to the page before, where there is one.
    Page {
        back: Option<String>,
    },
}

async fn dress_error(state: &AppState, response: Response, shown: ErrorView) -> Response {
    let status = response.status();
    let (mut parts, body) = response.into_parts();
    let message = match parts.extensions.get::<Problem>() {
        Some(Problem(message)) => message.clone(),
        None => foreign_message(status, body).await,
    };
    let dressed = match shown {
        ErrorView::Page { back } => {
            let user = parts.extensions.get::<CurrentUser>().cloned();
            error_page(state, user, status, &message, back).await
        }
        ErrorView::Json => None,
    };
    let dressed =
        dressed.unwrap_or_else(|| problem_json(status, &language::current().words(&message)));
    // `Allow` and `Retry-After` stay; type and length are those of the new body.
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let (new_parts, body) = dressed.into_parts();
    parts.headers.extend(new_parts.headers);
    Response::from_parts(parts, body)
}

/// The page of an error: for one who is signed in with everything around it, as far as the store can be asked.
async fn error_page(
    state: &AppState,
    user: Option<CurrentUser>,
    status: StatusCode,
    message: &str,
    back: Option<String>,
) -> Option<Response> {
    let values = context! { status => status.as_u16(), message, back };
    if let Some(user) = user.filter(|_| status.is_client_error()) {
        let values = values.clone();
        let page = state.blocking(move |state| state.page(&user, "error.html", values)).await;
        if let Ok(page) = page {
            return Some((status, page).into_response());
        }
    }
    let page = state.render("error.html", context! { project => "Hearken", ..values }).ok()?;
    Some((status, page).into_response())
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
