//! Pages for those who run a project.

mod exchange;
mod items;
mod people;
mod project;
mod services;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, State};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;

use super::{noticed, then};
use crate::error::AppError;
use crate::state::AppState;
use crate::user::CurrentUser;

/// The page that takes files.
pub(crate) fn uploads(state: &AppState) -> Router<AppState> {
    Router::new()
        .route("/admin/items", get(items::page).post(exchange::import))
        .layer(DefaultBodyLimit::max(state.options().upload_bytes))
}

/// Every other page below `/admin`.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/admin/export", get(exchange::export_page))
        .route("/admin/export/file", get(exchange::export_file))
        .route("/admin/items/change", post(items::change))
        .route("/admin/people", get(people::page))
        .route("/admin/people/invite", post(people::invite))
        .route("/admin/people/withdraw", on_one(people::withdraw, "/admin/people?done=withdrawn"))
        .route("/admin/people/reset", post(people::reset))
        .route("/admin/people/admit", post(people::admit))
        .route("/admin/people/role", post(people::set_role))
        .route("/admin/people/sign-out", on_one(people::sign_out, "/admin/people?done=saved"))
        .route("/admin/people/erase", post(people::erase))
        .route("/admin/guidelines", noticed(project::guidelines).post(project::write_guidelines))
        .route("/admin/settings", noticed(project::settings).post(project::write_settings))
        .route("/admin/audit", get(project::audit))
        .route("/admin/tokens", noticed(services::tokens).post(services::add_token))
        .route(
            "/admin/tokens/revoke",
            on_one(services::revoke_token, "/admin/tokens?done=withdrawn"),
        )
        .route("/admin/webhooks", noticed(services::webhooks).post(services::add_webhook))
        .route(
            "/admin/webhooks/remove",
            on_one(services::remove_webhook, "/admin/webhooks?done=withdrawn"),
        )
}

/// A form that names one thing.
#[derive(Deserialize)]
struct Named {
    key: String,
}

/// The route of a form that does something to one thing, named by its key; it leads to the page `to`.
fn on_one(
    work: fn(&AppState, &CurrentUser, &str) -> Result<(), AppError>,
    to: &'static str,
) -> MethodRouter<AppState> {
    post(async move |State(state): State<AppState>, user: CurrentUser, Form(form): Form<Named>| {
        then(&state, to, move |state| work(state, &user, &form.key)).await
    })
}
