//! Who is asking: sessions, tokens against forged requests, and what each path asks for.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use hearken_data::hexadecimal;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::io;
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq as _;

use crate::accounts::{Permission, Role, sessions};
use crate::codec;
use crate::error::AppError;
use crate::language::{self, Language};
use crate::pieces;
use crate::security;
use crate::state::{AppState, Mode};
use crate::user::CurrentUser;

/// Bytes of a form without files.
pub(crate) const FORM_BYTES: usize = 2 << 20;
/// Bytes at the beginning of a form with files in which its first field is.
const HEAD_BYTES: usize = 2048;
/// The name of the cookie; that of a project among several has the project's name behind it.
const COOKIE: &str = "hearken_session";

/// What a path asks for; `None` for what anybody may see. What is not listed asks for a session.
fn required(path: &str) -> Option<Permission> {
    let below = |folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // The API asks for tokens; it decides by itself.
    if [
        "/login",
        "/invite",
        "/reset",
        "/assets",
        "/health",
        "/api",
        "/favicon.ico",
        "/language",
        "/openid",
    ]
    .into_iter()
    .any(below)
    {
        return None;
    }
    Some(if below("/admin/export") {
        Permission::Export
    } else if below("/admin") {
        Permission::Manage
    } else if below("/analysis") || below("/progress") {
        Permission::SeeResults
    } else if below("/review") {
        Permission::Review
    } else if below("/label") || below("/live") {
        Permission::Label
    } else {
        Permission::SignedIn
    })
}

/// The address of the one who asks: the peer, or what a proxy on this machine says, where the
/// service is behind one.
pub(crate) fn address(state: &AppState, request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>()?.0.ip();
    if state.options().is_behind_tls() && peer.is_loopback() {
        return Some(forwarded(request.headers()).unwrap_or(peer));
    }
    Some(peer)
}

/// The address that the proxy saw: the last of all lines of the header together, since a proxy adds at the end what
/// it knows and what stands before comes from the one who asks. Further proxies on this machine are passed over.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let lines = headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or(""));
    let lines: Vec<&str> = lines.collect();
    for entry in lines.join(",").rsplit(',') {
        let address: IpAddr = entry.trim().parse().ok()?;
        if !address.is_loopback() {
            return Some(address);
        }
    }
    None
}

/// The layer around every handler: finds out who asks, and refuses those who may not, requests that
/// another site forged, and too many.
pub(crate) async fn guard(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, AppError> {
    let language = Language::of(request.headers());
    language::answering(language, guarded(state, request, next)).await
}

async fn guarded(state: AppState, request: Request, next: Next) -> Result<Response, AppError> {
    if state.mode() == Mode::Local {
        state.blocking(AppState::look_for_accounts).await?;
    }
    security::check_host(&state, request.headers())?;
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let path = request.uri().path();
    if path == "/api" || path.starts_with("/api/") {
        return Ok(next.run(request).await);
    }
    if changes {
        security::check_origin(&state, request.headers())?;
    }
    let Some(permission) = required(path) else {
        // Files of the program cost nothing; signing in has a stricter limit of its own.
        if !path.starts_with("/assets/")
            && let Some(address) = address(&state, &request)
        {
            state.limits().spend_address(&address.to_string())?;
        }
        return Ok(next.run(request).await);
    };
    let Some(user) = find_user(&state, request.headers()).await? else {
        return Ok(ask_to_sign_in(&request));
    };
    let admitted = admit(&state, &user, permission, request).await;
    let mut response = match admitted {
        Ok(mut request) => {
            request.extensions_mut().insert(user.clone());
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    // Also the page of an error has everything around it.
    response.extensions_mut().insert(user);
    Ok(response)
}

/// The request of somebody who is signed in, if it is one they may send.
async fn admit(
    state: &AppState,
    user: &CurrentUser,
    permission: Permission,
    request: Request,
) -> Result<Request, AppError> {
    state.limits().spend_account(&user.annotator)?;
    user.must(permission)?;
    match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS => Ok(request),
        _ => check_token(user, request).await,
    }
}

pub(crate) async fn find_user(
    state: &AppState,
    headers: &HeaderMap,
) -> Result<Option<CurrentUser>, AppError> {
    if state.mode() == Mode::Local {
        return Ok(Some(local_user(state, headers)));
    }
    let Some(token) = cookie_named(headers, &cookie_of(state)) else { return Ok(None) };
    let key = codec::sha256_hex(token.as_bytes());
    let reached = state.options().project_url_for(headers.get(header::HOST));
    state
        .blocking(move |state| {
            let account = sessions::find(state.store(), &key, state.steady_now())?;
            Ok(account.map(|account| CurrentUser {
                annotator: account.pseudonym,
                name: account.name,
                role: account.role,
                csrf: csrf_of(state.secret(), &key),
                session: Some(key),
                reached,
            }))
        })
        .await
}

/// The one annotator of a service without accounts.
fn local_user(state: &AppState, headers: &HeaderMap) -> CurrentUser {
    CurrentUser {
        annotator: "local".into(),
        name: "local".into(),
        role: Role::Administrator,
        csrf: csrf_of(state.secret(), "local"),
        session: None,
        reached: state.options().project_url_for(headers.get(header::HOST)),
    }
}

/// The name of the cookie of a session. Projects of one service have people of their own, and a browser may be signed in to
/// several.
fn cookie_of(state: &AppState) -> String {
    match state.options().base.rsplit_once('/') {
        Some((_, project)) => format!("{COOKIE}_{project}"),
        None => COOKIE.to_owned(),
    }
}

/// The value of a cookie of the request.
pub(crate) fn cookie_named(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value.to_owned())
}

/// The `Set-Cookie` of a session; an empty token takes it away.
pub(crate) fn set_cookie(state: &AppState, token: &str) -> String {
    let age_s = if token.is_empty() { 0 } else { sessions::LIFE_MS / 1000 };
    let secure = if state.options().is_behind_tls() { "; Secure" } else { "" };
    let name = cookie_of(state);
    // The list of projects says to which of them somebody is signed in.
    format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age_s}{secure}")
}

fn ask_to_sign_in(request: &Request) -> Response {
    let wants_page = *request.method() == Method::GET && security::wants_html(request.headers());
    if !wants_page {
        return AppError::NotSignedIn.into_response();
    }
    let wanted = request.uri().path_and_query().map_or("/", |path| path.as_str());
    Redirect::to(&format!("/login?next={}", codec::percent(wanted).replace('/', "%2F")))
        .into_response()
}

/// The token against forged requests that belongs to a session.
pub(crate) fn csrf_of(secret: &[u8], session: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(b"csrf:");
    mac.update(session.as_bytes());
    hexadecimal(&mac.finalize().into_bytes())
}

/// Refuses a request that changes something without the token of its session: as the header
/// `X-CSRF-Token`, or as the field `csrf` of a form. In a form with files it is the first field.
async fn check_token(user: &CurrentUser, request: Request) -> Result<Request, AppError> {
    let headers = request.headers();
    if let Some(token) = headers.get("x-csrf-token") {
        return compare(token.as_bytes(), user).map(|()| request);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let is_upload = kind.starts_with("multipart/form-data");
    if !is_upload && !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(forged());
    }
    let (parts, mut body) = request.into_parts();
    if is_upload {
        // The token stands at the beginning; what follows goes on as it comes.
        let mut start = Vec::new();
        while start.len() < HEAD_BYTES
            && let Some(piece) = pieces::next(&mut body).await
        {
            let breaks = |error| AppError::BadRequest(format!("the form breaks off: {error}"));
            start.extend_from_slice(&piece.map_err(breaks)?);
        }
        compare(&first_field(&start).unwrap_or_default(), user)?;
        return Ok(Request::from_parts(parts, followed(start.into(), body)));
    }
    let bytes = to_bytes(body, FORM_BYTES).await.map_err(|_| {
        AppError::TooLarge(format!("a form may have {FORM_BYTES} bytes, this one has more"))
    })?;
    compare(&form_field(&bytes).unwrap_or_default(), user)?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// A body that begins with `start`.
fn followed(start: Bytes, rest: Body) -> Body {
    pieces::body((Some(start), rest), |(start, mut rest)| async {
        if let Some(start) = start {
            return Ok(Some((start, (None, rest))));
        }
        let piece = pieces::next(&mut rest).await.transpose().map_err(io::Error::other)?;
        Ok(piece.map(|piece| (piece, (None, rest))))
    })
}

pub(crate) fn compare(token: &[u8], user: &CurrentUser) -> Result<(), AppError> {
    if bool::from(token.ct_eq(user.csrf.as_bytes())) { Ok(()) } else { Err(forged()) }
}

fn forged() -> AppError {
    AppError::Forbidden(
        "the request did not come from a page of this session; reload the page and try again"
            .into(),
    )
}

/// The field `csrf` of an URL-encoded form. A token is hexadecimal, so nothing in it is encoded.
fn form_field(bytes: &Bytes) -> Option<Vec<u8>> {
    let mut fields = bytes.split(|byte| *byte == b'&');
    fields.find_map(|field| field.strip_prefix(b"csrf=")).map(<[u8]>::to_vec)
}

/// The value of the first part of a multipart form, if that part is called `csrf`.
fn first_field(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(&bytes[..bytes.len().min(HEAD_BYTES)])
        .or_else(|error| std::str::from_utf8(&bytes[..error.valid_up_to()]))
        .ok()?;
    let (part, rest) = head.split_once("\r\n\r\n")?;
    let value = rest.split_once("\r\n")?.0;
    part.contains("name=\"csrf\"").then(|| value.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_asks_for_a_session() {
        assert_eq!(required("/surprise"), Some(Permission::SignedIn));
        assert_eq!(required("/admin/export"), Some(Permission::Export));
        assert_eq!(required("/admin/people"), Some(Permission::Manage));
        assert_eq!(required("/administration"), Some(Permission::SignedIn));
        assert_eq!(required("/login"), None);
        assert_eq!(required("/loginx"), Some(Permission::SignedIn));
    }

    #[test]
    fn the_address_is_what_the_nearest_proxy_saw() {
        let seen = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            forwarded(&headers).map(|address| address.to_string())
        };
        assert_eq!(seen(&["10.0.0.1"]).unwrap(), "10.0.0.1");
        assert_eq!(seen(&["1.1.1.1, 10.0.0.1"]).unwrap(), "10.0.0.1");
        assert_eq!(seen(&["1.1.1.1", "10.0.0.1"]).unwrap(), "10.0.0.1");
        assert_eq!(seen(&["1.1.1.1", "10.0.0.1, 127.0.0.1"]).unwrap(), "10.0.0.1");
        assert_eq!(seen(&["1.1.1.1", "unknown"]), None);
        assert_eq!(seen(&[]), None);
    }

    #[test]
    fn the_token_is_found_in_both_kinds_of_form() {
        assert_eq!(form_field(&Bytes::from("a=b&csrf=12ab&c=d")), Some(b"12ab".to_vec()));
        assert_eq!(form_field(&Bytes::from("a=csrf=12")), None);
        let upload = "--x\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\n12ab\r\n--x\r\n";
        assert_eq!(first_field(upload.as_bytes()), Some(b"12ab".to_vec()));
        assert_eq!(first_field(upload.replace("csrf", "file").as_bytes()), None);
    }

    #[test]
    fn sessions_have_different_tokens() {
        assert_ne!(csrf_of(b"k", "a"), csrf_of(b"k", "b"));
        assert_ne!(csrf_of(b"k", "a"), csrf_of(b"l", "a"));
    }
}
