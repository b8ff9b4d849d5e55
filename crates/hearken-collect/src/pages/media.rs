//! Images and clips that items name by a path.

use std::path::{Component, Path as FilePath};

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::error::AppError;
use crate::state::AppState;

/// Endings that are served, with their types. Nothing that a browser would run.
const KINDS: [(&str, &str); 8] = [
    ("png", "image/png"),
    ("apng", "image/apng"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
];

/// `GET /media/{path}`: a file below the folder that the service was given.
pub(crate) async fn get(
    State(state): State<AppState>,
    Path(path): Path<String>,
) -> Result<Response, AppError> {
    let (kind, bytes) = state.blocking(move |state| read(state, &path)).await?;
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "private, max-age=86400")];
    Ok((headers, bytes).into_response())
}

fn read(state: &AppState, path: &str) -> Result<(&'static str, Vec<u8>), AppError> {
    let none = || AppError::NotFound("there is no such image".into());
    let folder = state.options().media.as_deref().ok_or_else(none)?;
    let relative = FilePath::new(path);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let ending = relative.extension().and_then(|ending| ending.to_str()).ok_or_else(none)?;
    let kind = KINDS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known));
    let (true, Some((_, kind)), false) = (plain, kind, path.contains(['\0', '\\'])) else {
        return Err(none());
    };
    // A link may lead out of the folder although the path does not.
    let file = folder.join(relative).canonicalize().map_err(|_| none())?;
    let folder = folder.canonicalize().map_err(|_| none())?;
    if !file.starts_with(&folder) || !file.is_file() {
        return Err(none());
    }
    Ok((kind, std::fs::read(&file).map_err(|_| none())?))
}
