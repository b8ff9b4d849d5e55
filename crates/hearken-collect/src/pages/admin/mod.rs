//! Pages for those who run a project.

mod exchange;
mod people;
mod project;
mod services;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::state::AppState;

/// The page that takes files.
pub(crate) fn uploads(state: &AppState) -> Router<AppState> {
    Router::new()
        .route("/admin/items", get(exchange::items).post(exchange::import))
        .layer(DefaultBodyLimit::max(state.options().upload_bytes))
}

/// Every other page below `/admin`.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/admin/export", get(exchange::export_page))
        .route("/admin/export/file", get(exchange::export_file))
        .route("/admin/people", get(people::page))
        .route("/admin/people/invite", post(people::invite))
        .route("/admin/people/withdraw", post(people::withdraw))
        .route("/admin/people/role", post(people::set_role))
        .route("/admin/people/sign-out", post(people::sign_out))
        .route("/admin/people/erase", post(people::erase))
        .route("/admin/guidelines", get(project::guidelines).post(project::write_guidelines))
        .route("/admin/settings", get(project::settings).post(project::write_settings))
        .route("/admin/audit", get(project::audit))
        .route("/admin/tokens", get(services::tokens).post(services::add_token))
        .route("/admin/tokens/revoke", post(services::revoke_token))
        .route("/admin/webhooks", get(services::webhooks).post(services::add_webhook))
        .route("/admin/webhooks/remove", post(services::remove_webhook))
}
