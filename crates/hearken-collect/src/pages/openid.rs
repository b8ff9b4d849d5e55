//! Signing in by the account of an organization.

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use hearken_http::network;
use hearken_store::Expected;
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::account::{hashing, login_form, own_path, sign_in, tell_sign_in};
use crate::accounts::{self, Account, NewAccount, Role, invitations};
use crate::codec;
use crate::error::AppError;
use crate::openid::{Attempt, Identity, Provider};
use crate::session;
use crate::state::{AppState, Mode};

/// What the browser keeps while somebody is at the provider.
const COOKIE: &str = "hearken_openid";
/// For how long, in seconds.
const AGE_S: u32 = 600;
/// Names that are tried for an account.
const NAMES: usize = 100;

/// Where a sign-in leads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OpenIdReturn {
    next: String,
    /// The secret of an invitation.
    invite: String,
    /// The token of the session whose account the provider is to know from now on: no page of another site can ask for
    /// that.
    link: String,
}

fn provider(state: &AppState) -> Result<&Provider, AppError> {
    let none = || AppError::NotFound("there is no such page".into());
    state.openid().ok_or_else(none)
}

fn back(state: &AppState, headers: &HeaderMap) -> String {
    state.options().project_url_for(headers.get(header::HOST)) + "/openid/callback"
}

fn cookie(state: &AppState, value: &str, age_s: u32) -> String {
    let secure = if state.options().is_behind_tls() { "; Secure" } else { "" };
    let base = &state.options().base;
    format!("{COOKIE}={value}; Path={base}/openid; HttpOnly; SameSite=Lax; Max-Age={age_s}{secure}")
}

/// `GET /openid`: to the provider.
pub(crate) async fn start(
    State(state): State<AppState>,
    Query(wanted): Query<OpenIdReturn>,
    request: Request,
) -> Result<Response, AppError> {
    provider(&state)?;
    if state.mode() == Mode::Local {
        return Ok(Redirect::to("/").into_response());
    }
    if let Some(address) = session::address(&state, &request) {
        state.limits().spend_login_address(address)?;
    }
    let is_linking = !wanted.link.is_empty();
    if is_linking {
        let user = session::find_user(&state, request.headers()).await?;
        session::compare(wanted.link.as_bytes(), &user.ok_or(AppError::NotSignedIn)?)?;
    }
    let seed = codec::random_hex::<16>();
    let (attempt, to) = (Attempt::of(state.secret(), &seed), back(&state, request.headers()));
    let address = state
        .blocking(move |state| Ok(provider(state)?.sign_in_address(&attempt, &to, state.now())))
        .await?;
    match address {
        Ok(address) => {
            let (next, invite) = (packed(&wanted.next), packed(&wanted.invite));
            let link = if is_linking { "link" } else { "" };
            let value = format!("{seed}!{next}!{invite}!{link}");
            let set = [(header::SET_COOKIE, cookie(&state, &value, AGE_S))];
            Ok((set, Redirect::to(&address)).into_response())
        }
        Err(why) => refused(&state, &why).await,
    }
}

/// A text that a cookie can hold.
fn packed(text: &str) -> String {
    codec::percent(text).replace('/', "%2F")
}

/// What the browser has kept: the seed, and where the sign-in leads.
fn kept(headers: &HeaderMap) -> Option<(String, OpenIdReturn)> {
    let value = session::cookie_named(headers, COOKIE)?;
    let mut parts = value.split('!');
    let (seed, next, invite) = (parts.next()?, parts.next()?, parts.next()?);
    let link = parts.next()?.to_owned();
    let (next, invite) = (codec::unpercent(next)?, codec::unpercent(invite)?);
    Some((seed.to_owned(), OpenIdReturn { next, invite, link }))
}

/// What the provider sends the browser back with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Came {
    code: String,
    state: String,
    error: String,
}

/// `GET /openid/callback`: who comes back is signed in, if they are known or may be.
pub(crate) async fn callback(
    State(state): State<AppState>,
    Query(came): Query<Came>,
    request: Request,
) -> Result<Response, AppError> {
    provider(&state)?;
    let from = session::address(&state, &request);
    if let Some(address) = from {
        state.limits().spend_login_address(address)?;
    }
    let headers = request.headers();
    let begun = kept(headers).map(|(seed, wanted)| (Attempt::of(state.secret(), &seed), wanted));
    let is_own = |attempt: &Attempt| attempt.state.as_bytes().ct_eq(came.state.as_bytes()).into();
    let Some((attempt, wanted)) = begun.filter(|(attempt, _)| is_own(attempt)) else {
        let why = "the sign-in was not begun in this browser, or took too long";
        return refused(&state, why).await;
    };
    if !came.error.is_empty() || came.code.is_empty() {
        return refused(&state, "the provider has not signed anybody in").await;
    }
    let to = back(&state, headers);
    let identity = state
        .blocking(move |state| {
            Ok(provider(state)?.identity(&attempt, &came.code, &to, state.now()))
        })
        .await?;
    let identity = match identity {
        Ok(identity) => identity,
        Err(why) => return refused(&state, &why).await,
    };
    let here = match wanted.link.is_empty() {
        true => None,
        false => session::find_user(&state, headers).await?.map(|user| user.annotator),
    };
    let next = own_path(&wanted.next).to_owned();
    let found = hashing(&state, move |state| {
        let found = account_of(state, &identity, here.as_deref(), &wanted.invite)?;
        let details = json!({"from": from.map(network), "by": "openid"});
        tell_sign_in(state, found.as_ref(), found.is_some(), details)?;
        Ok(found)
    })
    .await?;
    let Some(account) = found else {
        let why = "nobody is known here under this account; ask an administrator for an invitation";
        return refused(&state, why).await;
    };
    let mut response = sign_in(&state, account, &next).await?;
    let done = cookie(&state, "", 0).parse().expect("invariant: cookies are plain");
    response.headers_mut().append(header::SET_COOKIE, done);
    Ok(response)
}

/// The page for signing in, with what went wrong.
async fn refused(state: &AppState, why: &str) -> Result<Response, AppError> {
    tracing::warn!("sign-in by OpenID Connect: {why}");
    login_form(state, "", "", None, Some(why.to_owned())).await
}

/// The account of somebody whom the provider knows: the one that they have, the one to which it is to belong, one by
/// invitation, or one of the role for everybody. May block.
fn account_of(
    state: &AppState,
    identity: &Identity,
    here: Option<&str>,
    invite: &str,
) -> Result<Option<Account>, AppError> {
    let store = state.store();
    if let Some(document) = store.document(accounts::OPENID, &identity.key)? {
        let pseudonym = document.body["account"].as_str().unwrap_or_default();
        let account = accounts::find(store, pseudonym)?;
        return Ok(account.filter(|account| account.erased_at.is_none()));
    }
    let account = match (here, invite, provider(state)?.settings.role) {
        (Some(here), ..) => accounts::find(store, here)?,
        (None, "", None) => None,
        (None, "", Some(role)) => Some(new_account(state, identity, role)?),
        (None, secret, _) => Some(invited(state, identity, secret)?),
    };
    if let Some(account) = &account {
        let body = json!({"account": account.pseudonym});
        store.put_document(accounts::OPENID, &identity.key, &body, Expected::Nothing)?;
    }
    Ok(account)
}

fn new_account(state: &AppState, identity: &Identity, role: Role) -> Result<Account, AppError> {
    named(identity, |name, password| {
        accounts::create(state.store(), NewAccount { name, password, role }, state.now())
    })
    .and_then(|account| created(state, account))
}

fn invited(state: &AppState, identity: &Identity, secret: &str) -> Result<Account, AppError> {
    named(identity, |name, password| {
        invitations::accept(state.store(), secret, name, password, state.now())
    })
    .and_then(|account| created(state, account))
}

fn created(state: &AppState, account: Account) -> Result<Account, AppError> {
    let details = json!({"role": account.role, "by": "openid"});
    state.audit(&account.pseudonym, "account.created", details)?;
    Ok(account)
}

/// Makes an account under the first name that is free. Nobody knows its password.
fn named(
    identity: &Identity,
    make: impl Fn(&str, &str) -> Result<Account, AppError>,
) -> Result<Account, AppError> {
    let password = codec::random_hex::<24>();
    let name = if identity.name.is_empty() { "somebody" } else { &*identity.name };
    let mut made = make(name, &password);
    for number in 2..=NAMES {
        if !matches!(made, Err(AppError::Conflict(_))) {
            break;
        }
        made = make(&format!("{name} {number}"), &password);
    }
    made
}
