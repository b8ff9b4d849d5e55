//! Signing in and out, invitations, the own account.

use axum::extract::{Form, FromRequest as _, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use hearken_http::network;
use minijinja::context;
use serde::Deserialize;
use serde_json::{Value, json};

use super::PageNotice;
use crate::accounts::{self, Account, invitations, resets, sessions};
use crate::codec;
use crate::distribute;
use crate::error::AppError;
use crate::session;
use crate::state::{AppState, Mode};
use crate::user::CurrentUser;

/// Where to go after signing in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AfterSignIn {
    next: String,
    done: Option<String>,
}

/// A path of this service, or the start page: an address of another site is none. Browsers leave tabs and line
/// breaks out of an address and take `\\` for `/`, so that what holds one is no path.
pub(super) fn own_path(next: &str) -> &str {
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_own = is_plain && next.starts_with('/') && !next.starts_with("//");
    if is_own { next } else { "/" }
}

/// `GET /login`.
pub(crate) async fn login_page(
    State(state): State<AppState>,
    Query(wanted): Query<AfterSignIn>,
) -> Result<Response, AppError> {
    if state.mode() == Mode::Local {
        return Ok(Redirect::to("/").into_response());
    }
    let notice = super::notice(wanted.done.as_deref());
    login_form(&state, &wanted.next, "", notice, None).await
}

pub(super) async fn login_form(
    state: &AppState,
    next: &str,
    name: &str,
    done: Option<&'static str>,
    wrong: Option<String>,
) -> Result<Response, AppError> {
    let (next, name) = (own_path(next).to_owned(), name.to_owned());
    let is_wrong = wrong.is_some();
    let page = state
        .blocking(move |state| {
            let project = state.settings()?.title.clone();
            let openid = state.openid().map(|provider| provider.settings.name());
            let address = codec::percent(&next);
            state.render(
                "login.html",
                context! { project, next, name, done, wrong, openid, address },
            )
        })
        .await?;
    let status = if is_wrong { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    Ok((status, page).into_response())
}

/// What the sign-in form sends.
#[derive(Deserialize)]
pub(crate) struct Login {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// `POST /login`.
pub(crate) async fn login(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, AppError> {
    if state.mode() == Mode::Local {
        return Ok(Redirect::to("/").into_response());
    }
    let address = session::address(&state, &request);
    let login: Login = form(&state, request).await?;
    state.limits().spend_login(&login.name, address)?;
    let found = {
        let (name, password) = (login.name.clone(), login.password);
        hashing(&state, move |state| {
            let account = accounts::named(state.store(), &name)?;
            let account = account.filter(|account| account.erased_at.is_none());
            let is_right = if let Some(account) = &account {
                account.verify(&password)
            } else {
                accounts::verify_nobody(&password);
                false
            };
            let details = json!({"from": address.map(network)});
            tell_sign_in(state, account.as_ref(), is_right, details)?;
            Ok(account.filter(|_| is_right))
        })
        .await?
    };
    if let Some(account) = found {
        return sign_in(&state, account, own_path(&login.next)).await;
    }
    let wrong = Some("Name or password is wrong.".to_owned());
    login_form(&state, &login.next, &login.name, None, wrong).await
}

/// Writes down that somebody was signed in, or was not. What was typed is not kept: it may be a password.
pub(super) fn tell_sign_in(
    state: &AppState,
    who: Option<&Account>,
    is_right: bool,
    details: Value,
) -> Result<(), AppError> {
    let actor = who.map_or("nobody", |account| &*account.pseudonym);
    let action = if is_right { "account.signed_in" } else { "account.sign_in_refused" };
    state.audit(actor, action, details)
}

/// Does what a form with a password asks for and signs in; where the form is wrong it is shown again, with what is.
async fn by_form(
    state: &AppState,
    next: &str,
    work: impl FnOnce(&AppState) -> Result<Account, AppError> + Send + 'static,
    again: impl FnOnce(&AppState, String) -> Result<Html<String>, AppError> + Send + 'static,
) -> Result<Response, AppError> {
    let done = hashing(state, move |state| match work(state) {
        Ok(account) => Ok(Ok(account)),
        Err(
            error @ (AppError::Unprocessable(_) | AppError::Forbidden(_) | AppError::Conflict(_)),
        ) => Ok(Err((error.status(), again(state, error.to_string())?))),
        Err(error) => Err(error),
    })
    .await?;
    match done {
        Ok(account) if state.mode() == Mode::Accounts => sign_in(state, account, next).await,
        Ok(_) => Ok(Redirect::to("/").into_response()),
        Err(page) => Ok(page.into_response()),
    }
}

/// The form of a request from somebody who is not signed in, after the limit of its address.
async fn form<T: serde::de::DeserializeOwned>(
    state: &AppState,
    request: Request,
) -> Result<T, AppError> {
    if let Some(address) = session::address(state, &request) {
        state.limits().spend_login_address(address)?;
    }
    let form = Form::<T>::from_request(request, state).await;
    form.map(|Form(form)| form).map_err(|problem| AppError::BadRequest(problem.body_text()))
}

/// Runs `work`, which computes a password hash, when there is room for another.
pub(super) async fn hashing<T: Send + 'static>(
    state: &AppState,
    work: impl FnOnce(&AppState) -> Result<T, AppError> + Send + 'static,
) -> Result<T, AppError> {
    let _room = state.hashing().acquire().await.expect("invariant: the semaphore stays open");
    state.blocking(work).await
}

pub(super) async fn sign_in(
    state: &AppState,
    account: Account,
    next: &str,
) -> Result<Response, AppError> {
    let now = state.steady_now();
    let token = state.read(move |store| sessions::start(store, &account, now)).await?;
    let cookie = [(header::SET_COOKIE, session::set_cookie(state, &token))];
    Ok((cookie, Redirect::to(next)).into_response())
}

/// `POST /logout`.
pub(crate) async fn logout(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<Response, AppError> {
    let key = user.session.clone();
    state
        .blocking(move |state| {
            distribute::release(state, &user.annotator)?;
            state.audit(&user.annotator, "account.signed_out", json!({}))?;
            if let Some(key) = key {
                state.store().delete_document("session", &key)?;
            }
            Ok(())
        })
        .await?;
    Ok(signed_out(&state))
}

/// `POST /logout/everywhere`.
pub(crate) async fn logout_everywhere(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<Response, AppError> {
    state
        .blocking(move |state| {
            distribute::release(state, &user.annotator)?;
            state.audit(&user.annotator, "account.signed_out_everywhere", json!({}))?;
            Ok(sessions::end_all(state.store(), &user.annotator)?)
        })
        .await?;
    Ok(signed_out(&state))
}

fn signed_out(state: &AppState) -> Response {
    let cookie = [(header::SET_COOKIE, session::set_cookie(state, ""))];
    (cookie, Redirect::to("/login?done=out")).into_response()
}

fn account_page(
    state: &AppState,
    user: &CurrentUser,
    done: Option<&'static str>,
    wrong: Option<String>,
) -> Result<Html<String>, AppError> {
    let openid = state.openid().map(|provider| provider.settings.name());
    state.page(user, "account.html", context! { done, openid, wrong })
}

/// `GET /account`.
pub(super) fn show(
    state: &AppState,
    user: &CurrentUser,
    (done, _): PageNotice,
) -> Result<Html<String>, AppError> {
    account_page(state, user, done, None)
}

/// What the form for a new password sends.
#[derive(Deserialize)]
pub(crate) struct NewPassword {
    password: String,
    new: String,
    again: String,
}

/// `POST /account/password`: ends every session, and starts one here.
pub(crate) async fn change_password(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(form): Form<NewPassword>,
) -> Result<Response, AppError> {
    state.limits().spend_login(&user.annotator, None)?;
    let owner = user.clone();
    by_form(
        &state,
        "/account?done=password",
        move |state| changed(state, &owner, &form),
        move |state, wrong| account_page(state, &user, None, Some(wrong)),
    )
    .await
}

fn changed(state: &AppState, user: &CurrentUser, form: &NewPassword) -> Result<Account, AppError> {
    check_again(&form.new, &form.again)?;
    let account = accounts::find(state.store(), &user.annotator)?;
    let account = account.filter(|account| account.verify(&form.password));
    let account =
        account.ok_or_else(|| AppError::Forbidden("the present password is not right".into()))?;
    accounts::set_password(state.store(), &account.pseudonym, &form.new)?;
    state.audit(&account.pseudonym, "account.password", json!({}))?;
    Ok(account)
}

fn check_again(password: &str, again: &str) -> Result<(), AppError> {
    accounts::check_password(password).map_err(AppError::Unprocessable)?;
    if password == again {
        return Ok(());
    }
    Err(AppError::Unprocessable("the two passwords differ".into()))
}

/// `GET /invite/{secret}`.
pub(crate) async fn invitation(
    State(state): State<AppState>,
    Path(secret): Path<String>,
) -> Result<Html<String>, AppError> {
    state.blocking(move |state| invitation_form(state, &secret, None, None)).await
}

fn invitation_form(
    state: &AppState,
    secret: &str,
    name: Option<&str>,
    wrong: Option<String>,
) -> Result<Html<String>, AppError> {
    let invitation = invitations::find(state.store(), secret, state.now())?;
    let name = name.unwrap_or(&invitation.name);
    let project = state.settings()?.title.clone();
    let openid = state.openid().map(|provider| provider.settings.name());
    let role = invitation.role.as_str();
    state.render("invite.html", context! { project, role, name, wrong, openid, secret })
}

/// What the form of an invitation sends.
#[derive(Deserialize)]
pub(crate) struct Accept {
    name: String,
    password: String,
    again: String,
}

/// `POST /invite/{secret}`: makes the account and signs in.
pub(crate) async fn accept(
    State(state): State<AppState>,
    Path(secret): Path<String>,
    request: Request,
) -> Result<Response, AppError> {
    let form: Accept = form(&state, request).await?;
    let (link, name) = (secret.clone(), form.name.clone());
    let accepted = move |state: &AppState| {
        check_again(&form.password, &form.again)?;
        let (name, password) = (&*form.name, &*form.password);
        let account = invitations::accept(state.store(), &secret, name, password, state.now())?;
        state.audit(&account.pseudonym, "account.created", json!({"role": account.role}))?;
        Ok(account)
    };
    let again =
        move |state: &AppState, wrong| invitation_form(state, &link, Some(&name), Some(wrong));
    by_form(&state, "/", accepted, again).await
}

/// `GET /reset/{secret}`.
pub(crate) async fn reset(
    State(state): State<AppState>,
    Path(secret): Path<String>,
) -> Result<Html<String>, AppError> {
    state.blocking(move |state| reset_form(state, &secret, None)).await
}

fn reset_form(
    state: &AppState,
    secret: &str,
    wrong: Option<String>,
) -> Result<Html<String>, AppError> {
    let account = resets::find(state.store(), secret, state.now())?;
    let project = state.settings()?.title.clone();
    state.render("reset.html", context! { project, name => account.name, wrong })
}

/// What the form for a forgotten password sends.
#[derive(Deserialize)]
pub(crate) struct Reset {
    password: String,
    again: String,
}

/// `POST /reset/{secret}`: sets the password and signs in.
pub(crate) async fn set_forgotten(
    State(state): State<AppState>,
    Path(secret): Path<String>,
    request: Request,
) -> Result<Response, AppError> {
    let form: Reset = form(&state, request).await?;
    let link = secret.clone();
    let set = move |state: &AppState| {
        check_again(&form.password, &form.again)?;
        let account = resets::accept(state.store(), &secret, &form.password, state.now())?;
        state.audit(&account.pseudonym, "account.password_reset", json!({}))?;
        Ok(account)
    };
    by_form(&state, "/", set, move |state, wrong| reset_form(state, &link, Some(wrong))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_no_other_site() {
        assert_eq!(own_path("/label?x=1"), "/label?x=1");
        for bad in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/\u{b}/evil.example",
            "/a\\..//evil.example",
            "/é",
            "",
            "label",
        ] {
            assert_eq!(own_path(bad), "/", "{bad:?}");
        }
    }
}
