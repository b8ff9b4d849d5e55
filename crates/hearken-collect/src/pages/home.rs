//! The start page, progress, guidelines, health.

use axum::Json;
use axum::extract::State;
use axum::response::{Html, Redirect};
use minijinja::context;
use minijinja::value::Serde;
use serde_json::{Value, json};

use crate::accounts::Permission;
use crate::distribute;
use crate::error::AppError;
use crate::render::{Heading, markdown};
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
