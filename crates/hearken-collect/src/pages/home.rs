//! The start page, progress, guidelines, health.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::context;
use minijinja::value::Serde;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::Permission;
use crate::distribute;
use crate::error::AppError;
use crate::language::{self, Language};
use crate::render::{Heading, markdown};
use crate::security;
use crate::state::AppState;
use crate::user::CurrentUser;

/// `GET /`: to where the one who asks has something to do.
pub(crate) async fn start(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<Redirect, AppError> {
    let counts = state.read(|store| store.counts()).await?;
    let to = if counts.items == 0 && user.role.may(Permission::Manage) {
        "/admin/items"
    } else if user.role.may(Permission::Label) {
        "/label"
    } else {
        "/progress"
    };
    Ok(Redirect::to(to))
}

#[derive(Deserialize)]
pub(crate) struct HomeQuery {
    to: String,
}

/// `GET /language`: keeps the language that somebody has chosen, and goes back to the page before.
pub(crate) async fn language(
    State(state): State<AppState>,
    Query(HomeQuery { to }): Query<HomeQuery>,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    let language = Language::of_code(&to);
    let language = language.ok_or_else(|| AppError::NotFound("there is no such page".into()))?;
    let (name, code) = (language::COOKIE, language.code());
    let cookie = format!("{name}={code}; Path=/; SameSite=Lax; Max-Age=31536000");
    let back = security::page_before(&state, &headers, "");
    let back = back.and_then(|back| back.strip_prefix(&*state.options().base).map(str::to_owned));
    let back = back.filter(|back| back.starts_with('/')).unwrap_or_else(|| "/".into());
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(&back)).into_response())
}

/// `GET /health`: whether the store can be read and written.
pub(crate) async fn health(State(state): State<AppState>) -> Result<Json<Value>, AppError> {
    state.blocking(|state| Ok(state.health().check(state.store(), state.now())?)).await?;
    Ok(Json(json!({"status": "ok"})))
}

/// `GET /progress`.
pub(crate) async fn progress(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            let counts = state.store().counts()?;
            let progress = distribute::progress(state)?;
            let values = context! { here => "progress", counts => Serde(counts), progress => Serde(progress) };
            state.page(&user, "progress.html", values)
        })
        .await
}

/// `GET /guidelines`.
pub(crate) async fn guidelines(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            let guidelines = state.guidelines()?;
            let values = context! {
                here => "guidelines",
                version => guidelines.version,
                at => guidelines.at,
                html => markdown(&guidelines.text, Heading::Page),
            };
            state.page(&user, "guidelines.html", values)
        })
        .await
}
