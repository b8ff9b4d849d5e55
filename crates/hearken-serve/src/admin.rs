//! `POST /admin/weights`: other weights under a name, while requests go on.

use std::path::PathBuf;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::parts::WeightsPlace;
use crate::request::parse;
use crate::state::AppState;

/// Which weights come.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WeightsRequest {
    /// The name of a served model; the base where it is not given.
    model: Option<String>,
    /// A model's directory; that of now where it is not given.
    path: Option<String>,
    /// An adapter's directory; without it, and with `path`, the model has none.
    adapter: Option<String>,
}

/// What has come.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WeightsBody {
    model: String,
    /// What new requests get.
    version: String,
    /// What those under way end with.
    previous: String,
    seconds: f64,
}

/// `POST /admin/weights`.
pub(crate) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<WeightsBody>, ApiError> {
    let request: WeightsRequest = parse(&headers, &body)?;
    let served = state.find(request.model.as_deref())?;
    let now = served.weights().place.clone();
    let place = match (request.path, request.adapter) {
        (None, None) => {
            let message = "expected `path`, a model's directory, or `adapter`, an adapter's";
            return Err(ApiError::param("path", message));
        }
        (path, adapter) => WeightsPlace {
            model: path.map_or(now.model, PathBuf::from),
            adapter: adapter.map(PathBuf::from),
        },
    };
    let swapped = state.swap(served, place).await?;
    Ok(Json(WeightsBody {
        model: served.name.clone(),
        version: swapped.version,
        previous: swapped.previous,
        seconds: swapped.took.as_secs_f64(),
    }))
}
