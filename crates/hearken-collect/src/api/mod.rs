//! `/api/v1`: what the pages do, for programs. [`openapi`] describes it.

mod exchange;
mod openapi;
mod records;
pub mod tokens;
mod work;

pub(crate) use exchange::{Export, ExportSummary, dry_run, file};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use serde::Deserialize;

use crate::error::AppError;
use crate::state::AppState;

/// Every path below `/api/v1`.
pub(crate) fn router(state: &AppState) -> Router<AppState> {
    Router::new()
        .route("/progress", get(records::progress))
        .route("/guidelines", get(records::guidelines))
        .route("/items", get(records::items).post(records::add_items))
        .route("/items/{id}", get(records::item))
        .route("/judgements", get(records::judgements).post(records::add_judgements))
        .route("/judgements/stream", get(records::stream))
        .route("/judgements/{id}", get(records::judgement))
        .route("/judgements/{id}/revision", post(work::revise))
        .route("/next", post(work::next))
        .route("/assignments/{id}/judgement", post(work::submit))
        .route("/assignments/{id}/skip", post(work::skip))
        .route("/assignments/{id}/renewal", post(work::renew))
        .route("/export", get(exchange::export))
        .route("/export/report", get(exchange::report))
        .route("/import", post(exchange::import))
        .route("/tokens", get(exchange::tokens).post(exchange::add_token))
        .route("/tokens/{id}", delete(exchange::revoke_token))
        .layer(DefaultBodyLimit::max(state.options().upload_bytes))
        .layer(from_fn_with_state(state.clone(), tokens::check))
        // Below the layers: the description is everybody's.
        .route("/openapi.json", get(openapi::get))
}

/// The most records of a page.
const LIMIT_MAX: usize = 1_000;
/// Places fit into the integers of every store.
const PLACE_MAX: u64 = i64::MAX as u64;

/// Which page of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    /// The place after which the page starts.
    #[serde(default)]
    after: u64,
    /// How many records it has at most.
    #[serde(default = "limit")]
    limit: usize,
}

fn limit() -> usize {
    100
}

impl Paging {
    fn check(&self) -> Result<(), AppError> {
        if !(1..=LIMIT_MAX).contains(&self.limit) {
            let found = self.limit;
            let what = format!("limit is between 1 and {LIMIT_MAX}, found {found}");
            return Err(AppError::BadRequest(what));
        }
        if PLACE_MAX < self.after {
            return Err(AppError::BadRequest(format!("after is at most {PLACE_MAX}")));
        }
        Ok(())
    }
}

/// A name that a store may be asked for: what holds a character that none holds is not there.
fn known_name<'a>(what: &str, name: &'a str) -> Result<&'a str, AppError> {
    if name.contains('\0') { Err(no_such(what)) } else { Ok(name) }
}

fn no_such(what: &str) -> AppError {
    AppError::NotFound(format!("there is no such {what}"))
}
