//! Files in and out, and tokens.

use std::io::{self, BufWriter, Seek as _};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hearken_data::feedback::formats::{
    ExportOptions, ExportReport, Format, NeutralSteps, TextForm, Ties, UnknownFormat,
};
use hearken_data::feedback::{Combine, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tokens::{self, Scope, Token};
use super::{known_name, no_such};
use crate::error::AppError;
use crate::exchange::{self, Imported, Upload};
use crate::pieces;
use crate::state::AppState;

/// How to export; the fields of the form on the page and of the address in the API.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Export {
    /// The name of the format; empty where none is chosen.
    #[serde(default)]
    pub(crate) format: String,
    /// `drop` or `half`.
    #[serde(default)]
    pub(crate) ties: Option<String>,
    /// `drop`, `good` or `bad`.
    #[serde(default)]
    pub(crate) neutral_steps: Option<String>,
    /// `as-imported`, `text` or `messages`.
    #[serde(default)]
    pub(crate) form: Option<String>,
    /// `majority`, `probability`, `model` or `each`.
    #[serde(default)]
    pub(crate) votes: Option<String>,
    /// Names of annotators, with commas between them.
    #[serde(default)]
    pub(crate) exclude_annotators: Option<String>,
    /// The fewest votes on a pair.
    #[serde(default, deserialize_with = "unless_empty")]
    pub(crate) min_votes: Option<usize>,
    /// The least share of votes that says the same.
    #[serde(default, deserialize_with = "unless_empty")]
    pub(crate) min_agreement: Option<f64>,
    /// Whether judgements on gold and screening items are taken.
    #[serde(default)]
    pub(crate) gold: bool,
    /// Whether judgements by language models are taken.
    #[serde(default)]
    pub(crate) ai: bool,
}

/// A number; a field of a form that is left empty is none.
fn unless_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    let text = text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

impl Export {
    /// Which judgements become training records, in formats that hold these.
    pub(crate) fn selection(&self) -> Result<Selection, AppError> {
        let combine = match self.votes.as_deref() {
            None | Some("majority") => Combine::Majority,
            Some("probability") => Combine::Probability,
            Some("model") => Combine::Model,
            Some("each") => Combine::Each,
            Some(found) => {
                let known = "majority, probability, model, each";
                let what = format!("votes is one of {known}, found {found:?}");
                return Err(AppError::BadRequest(what));
            }
        };
        let agreement_min = self.min_agreement.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&agreement_min) {
            let what = format!("min_agreement lies between 0 and 1, found {agreement_min}");
            return Err(AppError::BadRequest(what));
        }
        let votes_min = self.min_votes.unwrap_or(1);
        if votes_min == 0 {
            return Err(AppError::BadRequest("min_votes is at least 1, found 0".into()));
        }
        let names = self.exclude_annotators.as_deref().unwrap_or_default().split(',');
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let exclude_annotators = names.map(str::to_owned).collect();
        let (gold, ai) = (self.gold, self.ai);
        Ok(Selection { combine, exclude_annotators, votes_min, agreement_min, gold, ai })
    }

    pub(crate) fn parse(&self) -> Result<(Format, ExportOptions), AppError> {
        let format = parse_format(&self.format)?;
        if !format.is_written() {
            let what = format!("files of the format {format} are read, but not written");
            return Err(AppError::BadRequest(what));
        }
        let unknown = |name: &str, known: &str, found: &str| {
            AppError::BadRequest(format!("{name} is one of {known}, found {found:?}"))
        };
        let options = ExportOptions {
            ties: match self.ties.as_deref() {
                None | Some("drop") => Ties::Drop,
                Some("half") => Ties::Half,
                Some(found) => return Err(unknown("ties", "drop, half", found)),
            },
            neutral_steps: match self.neutral_steps.as_deref() {
                None | Some("drop") => NeutralSteps::Drop,
                Some("good") => NeutralSteps::Good,
                Some("bad") => NeutralSteps::Bad,
                Some(found) => return Err(unknown("neutral_steps", "drop, good, bad", found)),
            },
            form: match self.form.as_deref() {
                None | Some("as-imported") => TextForm::AsImported,
                Some("text") => TextForm::Text,
                Some("messages") => TextForm::Messages,
                Some(found) => return Err(unknown("form", "as-imported, text, messages", found)),
            },
        };
        Ok((format, options))
    }
}

fn parse_format(name: &str) -> Result<Format, AppError> {
    name.parse().map_err(|error: UnknownFormat| AppError::BadRequest(error.to_string()))
}

/// The file that an export makes, as an answer. It is written to the disk first: an error is told
/// before anything is sent, and a slow connection holds no memory.
pub(crate) async fn file(state: &AppState, export: &Export) -> Result<Response, AppError> {
    let ((format, options), selection) = (export.parse()?, export.selection()?);
    let (file, bytes) = state
        .long(move |state| {
            let failed =
                |error: io::Error| AppError::Unavailable(format!("temporary file: {error}"));
            let mut file = BufWriter::new(tempfile::tempfile().map_err(failed)?);
            exchange::export(state, format, options, &selection, &mut file)?;
            let mut file = file.into_inner().map_err(|error| failed(error.into_error()))?;
            let bytes = file.stream_position().map_err(failed)?;
            file.rewind().map_err(failed)?;
            Ok((file, bytes))
        })
        .await?;
    let (kind, name) = exchange::file_of(format);
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    Ok((headers, exchange::body_of(file, bytes)).into_response())
}

/// What an export would write, drop and lose.
pub(crate) async fn dry_run(state: &AppState, export: &Export) -> Result<ExportReport, AppError> {
    let ((format, options), selection) = (export.parse()?, export.selection()?);
    let work = move |state: &AppState| {
        exchange::export(state, format, options, &selection, &mut io::sink())
    };
    state.long(work).await
}

/// `GET /export`.
pub(crate) async fn export(
    State(state): State<AppState>,
    token: Token,
    Query(export): Query<Export>,
) -> Result<Response, AppError> {
    token.must(Scope::Read)?;
    file(&state, &export).await
}

/// `GET /export/report`.
pub(crate) async fn report(
    State(state): State<AppState>,
    token: Token,
    Query(export): Query<Export>,
) -> Result<Json<ExportSummary>, AppError> {
    token.must(Scope::Read)?;
    Ok(Json(ExportSummary::of(&dry_run(&state, &export).await?)))
}

/// What an export writes, drops and loses.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExportReport")]
pub(crate) struct ExportSummary {
    format: &'static str,
    judgements: usize,
    written: usize,
    dropped: Vec<Reason>,
    lost: Vec<Reason>,
}

/// Why, and how often.
#[derive(Serialize, JsonSchema)]
struct Reason {
    why: String,
    count: usize,
}

impl ExportSummary {
    pub(crate) fn of(report: &ExportReport) -> Self {
        let counted = |list: &[(String, usize)]| {
            list.iter().map(|(why, count)| Reason { why: why.clone(), count: *count }).collect()
        };
        Self {
            format: report.format.as_str(),
            judgements: report.judgements,
            written: report.written,
            dropped: counted(&report.dropped),
            lost: counted(&report.lost),
        }
    }
}

/// How to import.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Import {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    skip_bad: bool,
    #[serde(default)]
    items_only: bool,
}

/// `POST /import`: the body is the file.
pub(crate) async fn import(
    State(state): State<AppState>,
    token: Token,
    Query(import): Query<Import>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Imported>), AppError> {
    token.must(Scope::Write)?;
    let format = import.format.as_deref().map(parse_format).transpose()?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    let name = match kind {
        "text/csv" => "body.csv",
        "application/gzip" => "body.jsonl.gz",
        "application/json" => "body.json",
        "application/x-ndjson" => "body.jsonl",
        _ => {
            let known = "application/x-ndjson, application/json, text/csv, application/gzip";
            let message = format!("the type of the body is one of {known}, found {kind:?}");
            return Err(AppError::Unsupported(message));
        }
    };
    let bytes_max = state.options().upload_bytes;
    let (mut upload, mut body, mut bytes) = (Upload::named(name)?, body, 0);
    while let Some(piece) = pieces::next(&mut body).await {
        let piece =
            piece.map_err(|error| AppError::BadRequest(format!("the body breaks off: {error}")))?;
        bytes += piece.len();
        if bytes_max < bytes {
            let what = format!("a file may have {bytes_max} bytes, this one has more");
            return Err(AppError::TooLarge(what));
        }
        upload.take(&piece).await?;
    }
    Ok((
        StatusCode::CREATED,
        Json(upload.import(&state, format, import.skip_bad, import.items_only).await?),
    ))
}

/// `GET /tokens`.
pub(crate) async fn tokens(
    State(state): State<AppState>,
    token: Token,
) -> Result<Json<Tokens>, AppError> {
    token.must(Scope::Manage)?;
    let tokens = state.read(tokens::all).await?;
    Ok(Json(Tokens { tokens }))
}

/// All tokens, without their secrets.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Tokens {
    tokens: Vec<Token>,
}

/// A token to make.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    #[schemars(length(min = 1, max = 100))]
    name: String,
    #[schemars(length(min = 1))]
    scopes: Vec<Scope>,
}

/// A token with its secret, which is told once.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TokenWithSecret {
    #[serde(flatten)]
    token: Token,
    secret: String,
}

/// `POST /tokens`.
pub(crate) async fn add_token(
    State(state): State<AppState>,
    token: Token,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<TokenWithSecret>), AppError> {
    token.must(Scope::Manage)?;
    // Whoever manages tokens gives away what their own token opens, and nothing else.
    new.scopes.iter().try_for_each(|scope| token.must(*scope))?;
    let work = move |state: &AppState| {
        let (made, secret) = tokens::create(state.store(), &new.name, &new.scopes, state.now())?;
        let details = json!({"token": made.id, "scopes": made.scopes});
        state.audit(&token.id, "token.created", details)?;
        Ok((StatusCode::CREATED, Json(TokenWithSecret { token: made, secret })))
    };
    state.blocking(work).await
}

/// `DELETE /tokens/{id}`.
pub(crate) async fn revoke_token(
    State(state): State<AppState>,
    token: Token,
    Path(id): Path<String>,
) -> Result<StatusCode, AppError> {
    token.must(Scope::Manage)?;
    known_name("token", &id)?;
    let work = move |state: &AppState| {
        if id == token.id {
            return Err(AppError::Conflict("a token cannot revoke itself".into()));
        }
        if !tokens::revoke(state.store(), &id)? {
            return Err(no_such("token"));
        }
        state.audit(&token.id, "token.revoked", json!({"token": id}))?;
        Ok(StatusCode::NO_CONTENT)
    };
    state.blocking(work).await
}
