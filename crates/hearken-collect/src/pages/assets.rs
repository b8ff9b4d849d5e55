//! Styles and scripts.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::error::AppError;
use crate::state::AppState;

const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// `GET /assets/{name}`.
pub(crate) async fn get(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, AppError> {
    let asset = state.assets().get(&name);
    let asset = asset.ok_or_else(|| AppError::NotFound("there is no such asset".into()))?;
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, FOR_GOOD)];
    Ok((headers, asset.content.clone()).into_response())
}
