//! Images and clips that items name by a path.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path as FilePath};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::distribute;
use crate::error::AppError;
use crate::exchange;
use crate::options::Media;
use crate::render::{images, media_path};
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

/// `GET /media/{path}`: a file below the folder that the service was given, or the part of it that is asked for: browsers
/// ask for parts of clips.
pub(crate) async fn get(
    State(state): State<AppState>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    let wanted =
        headers.get(header::RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned);
    let part = state.blocking(move |state| part(state, &path, wanted.as_deref())).await?;
    let FileRange { kind, file, bytes, length } = part;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let Some(range) = bytes else {
        headers.insert(header::CONTENT_RANGE, text(&format!("bytes */{length}")));
        *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
        return Ok(response);
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if range != (0..length) {
        let shown = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        headers.insert(header::CONTENT_RANGE, text(&shown));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    *response.body_mut() = exchange::body_of(file, range.end - range.start);
    Ok(response)
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("invariant: digits and letters")
}

/// A part of a file.
struct FileRange {
    kind: &'static str,
    /// At the beginning of the part.
    file: File,
    /// Which bytes; `None` where what was asked for is not there.
    bytes: Option<Range<u64>>,
    /// Bytes of the whole file.
    length: u64,
}

fn part(state: &AppState, path: &str, wanted: Option<&str>) -> Result<FileRange, AppError> {
    let none = || AppError::NotFound("there is no such image".into());
    let folder = match state.options().media.as_ref().ok_or_else(none)? {
        Media::Folder(folder) => folder,
        Media::Named(folder) if is_named(state, path)? => folder,
        Media::Named(_) => return Err(none()),
    };
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
    let mut file = File::open(&file).map_err(|_| none())?;
    let length = file.metadata().map_err(|_| none())?.len();
    let bytes = wanted.map_or(Some(0..length), |wanted| range(wanted, length));
    let start = bytes.as_ref().map_or(0, |bytes| bytes.start);
    file.seek(SeekFrom::Start(start)).map_err(|_| none())?;
    Ok(FileRange { kind, file, bytes, length })
}

/// Whether an item names the file, or the guidelines.
fn is_named(state: &AppState, path: &str) -> Result<bool, AppError> {
    let by_item = || state.distributor().index().names_media(path);
    if by_item() {
        return Ok(true);
    }
    let guidelines = images(&state.guidelines()?.text);
    if guidelines.iter().any(|source| media_path(source) == Some(path)) {
        return Ok(true);
    }
    // Another process may have added the item a moment ago.
    distribute::look_again(state)?;
    Ok(by_item())
}

/// Which bytes of `length` a header asks for: all where it asks for several parts, or for what is no part; `None` where
/// it asks for what is not there.
fn range(wanted: &str, length: u64) -> Option<Range<u64>> {
    let all = Some(0..length);
    let Some((first, last)) = wanted.strip_prefix("bytes=").and_then(|it| it.split_once('-'))
    else {
        return all;
    };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if last < first => return all,
        (Ok(first), Ok(last)) => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..length,
        (Err(_), Ok(count)) if first.trim().is_empty() => length.saturating_sub(count)..length,
        _ => return all,
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn parts_of_files() {
        for (wanted, expected) in [
            ("bytes=0-", Some(0..10)),
            ("bytes=2-4", Some(2..5)),
            ("bytes=2-400", Some(2..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-30", Some(0..10)),
            ("bytes=10-", None),
            ("bytes=-0", None),
            ("bytes=4-2", Some(0..10)),
            ("bytes=0-1,3-4", Some(0..10)),
            ("lines=1-2", Some(0..10)),
        ] {
            assert_eq!(range(wanted, 10), expected, "{wanted}");
        }
    }
}
