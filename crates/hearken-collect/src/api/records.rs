//! Items, judgements, progress, guidelines.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hearken_data::feedback::{Item, Judgement};
use hearken_store::{Added, Counts, Placed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::tokens::{Scope, Token};
use super::{Paging, known_name, no_such};
use crate::distribute::check_duration;
use crate::distribute::{self, Progress};
use crate::error::AppError;
use crate::pieces;
use crate::state::AppState;
use crate::storable::storable;

/// Judgements of a piece of the stream.
const STREAM_CHUNK: usize = 250;

/// How far the project is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Progress")]
pub(crate) struct ProgressBody {
    #[serde(flatten)]
    counts: Counts,
    progress: Progress,
}

/// `GET /progress`.
pub(crate) async fn progress(
    State(state): State<AppState>,
    token: Token,
) -> Result<Json<ProgressBody>, AppError> {
    token.must(Scope::Read)?;
    let work = |state: &AppState| {
        let progress = distribute::progress(state)?;
        Ok(Json(ProgressBody { counts: state.store().counts()?, progress }))
    };
    state.blocking(work).await
}

/// The guidelines that hold.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Guidelines {
    /// 0 stands for none.
    version: u32,
    /// As Markdown.
    text: String,
}

/// `GET /guidelines`.
pub(crate) async fn guidelines(
    State(state): State<AppState>,
    _token: Token,
) -> Result<Json<Guidelines>, AppError> {
    let guidelines = state.blocking(AppState::guidelines).await?;
    Ok(Json(Guidelines { version: guidelines.version, text: guidelines.text.clone() }))
}

/// A page of a list: records with their places, and where the next page starts.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Page<T> {
    records: Vec<PlacedRecord<T>>,
    /// The `after` of the next page; null on the last one.
    next: Option<u64>,
}

/// A record and its place in the store.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PlacedRecord<T> {
    place: u64,
    record: T,
}

fn page<T>(records: Vec<Placed<T>>, limit: usize) -> Json<Page<T>> {
    let next = if records.len() < limit { None } else { records.last().map(|last| last.place) };
    let records = records.into_iter();
    let records = records.map(|Placed { place, record }| PlacedRecord { place, record }).collect();
    Json(Page { records, next })
}

/// `GET /items`.
pub(crate) async fn items(
    State(state): State<AppState>,
    token: Token,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Item>>, AppError> {
    token.must(Scope::Read)?;
    paging.check()?;
    let limit = paging.limit;
    Ok(page(state.read(move |store| store.items(paging.after, limit)).await?, limit))
}

/// `GET /items/{id}`.
pub(crate) async fn item(
    State(state): State<AppState>,
    token: Token,
    Path(id): Path<String>,
) -> Result<Json<Item>, AppError> {
    token.must(Scope::Read)?;
    known_name("item", &id)?;
    let item = state.read(move |store| store.item(&id)).await?;
    item.map(Json).ok_or_else(|| no_such("item"))
}

/// Items to add.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Items {
    #[schemars(with = "Vec<Item>")]
    items: Vec<Value>,
}

/// Each record of a list, or which one is wrong and why.
fn each<T: serde::de::DeserializeOwned>(
    name: &str,
    values: Vec<Value>,
) -> Result<Vec<T>, AppError> {
    let parse = |(index, value)| {
        serde_json::from_value(value)
            .map_err(|error| AppError::Unprocessable(format!("{name}[{index}]: {error}")))
    };
    values.into_iter().enumerate().map(parse).collect()
}

/// `POST /items`: all or none.
pub(crate) async fn add_items(
    State(state): State<AppState>,
    token: Token,
    Json(body): Json<Items>,
) -> Result<(StatusCode, Json<Added>), AppError> {
    token.must(Scope::Write)?;
    let mut items: Vec<Item> = each("items", body.items)?;
    for (index, item) in items.iter_mut().enumerate() {
        if item.id.is_empty() {
            item.id = item.hash();
        }
        let check = item.check_new().and_then(|()| storable(&json!(item)));
        check.map_err(|what| AppError::Unprocessable(format!("items[{index}]: {what}")))?;
    }
    let work = move |state: &AppState| {
        let added = state.store().add_items(&items)?;
        state.distributor().forget();
        Ok((StatusCode::CREATED, Json(added)))
    };
    state.blocking(work).await
}

/// `GET /judgements`.
pub(crate) async fn judgements(
    State(state): State<AppState>,
    token: Token,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Judgement>>, AppError> {
    token.must(Scope::Read)?;
    paging.check()?;
    let limit = paging.limit;
    Ok(page(state.read(move |store| store.judgements(paging.after, limit)).await?, limit))
}

/// `GET /judgements/{id}`.
pub(crate) async fn judgement(
    State(state): State<AppState>,
    token: Token,
    Path(id): Path<String>,
) -> Result<Json<Judgement>, AppError> {
    token.must(Scope::Read)?;
    known_name("judgement", &id)?;
    let judgement = state.read(move |store| store.judgement(&id)).await?;
    judgement.map(Json).ok_or_else(|| no_such("judgement"))
}

/// Judgements to add.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Judgements {
    #[schemars(with = "Vec<Judgement>")]
    judgements: Vec<Value>,
}

/// `POST /judgements`: judgements that were made elsewhere; all or none.
pub(crate) async fn add_judgements(
    State(state): State<AppState>,
    token: Token,
    Json(body): Json<Judgements>,
) -> Result<(StatusCode, Json<Added>), AppError> {
    token.must(Scope::Write)?;
    let judgements: Vec<Judgement> = each("judgements", body.judgements)?;
    for (index, judgement) in judgements.iter().enumerate() {
        let named = !judgement.id.is_empty() && !judgement.annotator.is_empty();
        let check = if named { Ok(()) } else { Err("an empty \"id\" or \"annotator\"".into()) };
        let check = check
            .and_then(|()| storable(&json!(judgement)))
            .and_then(|()| check_duration(judgement.duration_ms));
        check.map_err(|what| AppError::Unprocessable(format!("judgements[{index}]: {what}")))?;
    }
    let work = move |state: &AppState| {
        let added = state.store().add_judgements(&judgements).map_err(|error| match error {
            // An item that a body names is no part of the address.
            hearken_store::StoreError::NotFound { .. } => {
                AppError::Unprocessable(error.to_string())
            }
            other => other.into(),
        })?;
        state.distributor().forget();
        state.bell().ring();
        Ok((StatusCode::CREATED, Json(added)))
    };
    state.blocking(work).await
}

/// `GET /judgements/stream`: all judgements as JSON lines, in the order in which they were appended.
pub(crate) async fn stream(
    State(state): State<AppState>,
    token: Token,
) -> Result<Response, AppError> {
    token.must(Scope::Read)?;
    let seat = Arc::new(state.limits().stream(&token.id)?);
    let piece = move |after| {
        // The place is taken as long as the body is there.
        let (state, _seat) = (state.clone(), Arc::clone(&seat));
        async move {
            let read = state.read(move |store| store.judgements(after, STREAM_CHUNK)).await;
            let judgements = read.map_err(|error| io::Error::other(error.to_string()))?;
            let Some(last) = judgements.last() else { return Ok(None) };
            let (mut lines, after) = (String::new(), last.place);
            for placed in &judgements {
                lines.push_str(&json!(placed.record).to_string());
                lines.push('\n');
            }
            Ok(Some((Bytes::from(lines), after)))
        }
    };
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, pieces::body(0, piece)).into_response())
}
