//! Items in, judgements out.

use axum::extract::multipart::MultipartError;
use axum::extract::{Multipart, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, Response};
use hearken_data::feedback::formats::Format;
use minijinja::context;
use minijinja::value::Serde;
use serde_json::json;

use crate::api::{Export, ExportSummary, dry_run, file};
use crate::error::AppError;
use crate::exchange::Upload;
use crate::state::AppState;
use crate::user::CurrentUser;

pub(super) fn formats(formats: impl Iterator<Item = Format>) -> Vec<&'static str> {
    let mut names: Vec<&str> = formats.map(Format::as_str).collect();
    names.sort_unstable();
    names
}

/// `POST /admin/items`: a file to import.
pub(crate) async fn import(
    State(state): State<AppState>,
    user: CurrentUser,
    mut form: Multipart,
) -> Result<Html<String>, AppError> {
    let (mut upload, mut format, mut skip_bad) = (None, String::new(), false);
    let mut items_only = false;
    let unreadable = |error: MultipartError| {
        let what = format!("the upload cannot be read: {}", error.body_text());
        match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => AppError::TooLarge(what),
            _ => AppError::BadRequest(what),
        }
    };
    while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
        match field.name().unwrap_or_default() {
            "file" => {
                let name = field.file_name().unwrap_or_default().to_owned();
                let mut file = Upload::named(&name)?;
                while let Some(piece) = field.chunk().await.map_err(unreadable)? {
                    file.take(&piece).await?;
                }
                upload = Some(file).filter(|_| !name.is_empty());
            }
            "format" => format = field.text().await.map_err(unreadable)?,
            "skip_bad" => skip_bad = true,
            "items_only" => items_only = true,
            _ => {}
        }
    }
    let upload = upload.ok_or_else(|| AppError::Unprocessable("choose a file".into()))?;
    let format = (!format.is_empty())
        .then(|| format.parse::<Format>())
        .transpose()
        .map_err(|error| AppError::Unprocessable(error.to_string()))?;
    let imported = upload.import(&state, format, skip_bad, items_only).await?;
    state
        .blocking(move |state| {
            let details = json!({
                "items": imported.items_added,
                "judgements": imported.judgements_added,
            });
            state.audit(&user.annotator, "items.imported", details)?;
            super::items::show(state, &user, &super::items::ItemsQuery::default(), Some(imported))
        })
        .await
}

/// `GET /admin/export`: with a format chosen, what the file will hold and what it will lack.
pub(crate) async fn export_page(
    State(state): State<AppState>,
    Query(chosen): Query<Export>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    let report = match chosen.format.is_empty() {
        false => Some(ExportSummary::of(&dry_run(&state, &chosen).await?)),
        true => None,
    };
    let or = |chosen: Option<String>, usual: &str| chosen.unwrap_or_else(|| usual.to_owned());
    state
        .blocking(move |state| {
            let values = context! {
                admin => "export",
                formats => formats(Format::all().filter(|format| format.is_written())),
                report => report.map(Serde),
                format => or(Some(chosen.format).filter(|name| !name.is_empty()), "hearken"),
                ties => or(chosen.ties, "drop"),
                neutral_steps => or(chosen.neutral_steps, "drop"),
                form => or(chosen.form, "as-imported"),
                votes => or(chosen.votes, "majority"),
                exclude_annotators => chosen.exclude_annotators,
                min_votes => chosen.min_votes,
                min_agreement => chosen.min_agreement,
                gold => chosen.gold,
                ai => chosen.ai,
            };
            state.page(&user, "admin/export.html", values)
        })
        .await
}

/// `GET /admin/export/file`.
pub(crate) async fn export_file(
    State(state): State<AppState>,
    Query(export): Query<Export>,
    user: CurrentUser,
) -> Result<Response, AppError> {
    let format = export.parse()?.0;
    let answer = file(&state, &export).await?;
    state
        .blocking(move |state| {
            let details = json!({"format": format.as_str()});
            state.audit(&user.annotator, "judgements.exported", details)
        })
        .await?;
    Ok(answer)
}
