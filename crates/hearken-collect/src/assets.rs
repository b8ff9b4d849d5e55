//! Styles and scripts, embedded in the binary. The address of each holds its hash, so that a browser
//! keeps it for good and still gets the new one when the program changes.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::codec;
use crate::error::AppError;
use crate::state::AppState;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and content of every asset.
const ASSETS: &[(&str, &str, &[u8])] = &[
    ("style.css", "text/css; charset=utf-8", include_bytes!("assets/style.css")),
    ("label.css", "text/css; charset=utf-8", include_bytes!("assets/label.css")),
    ("wire.js", SCRIPT, include_bytes!("assets/wire.js")),
    ("tasks.js", SCRIPT, include_bytes!("assets/tasks.js")),
    ("label.js", SCRIPT, include_bytes!("assets/label.js")),
    ("live.js", SCRIPT, include_bytes!("assets/live.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
];

const FOR_GOOD: &str = "public, max-age=31536000, immutable";

struct Asset {
    kind: &'static str,
    content: &'static [u8],
}

/// The assets by the last part of their address.
pub(crate) struct Assets {
    by_address: BTreeMap<String, Asset>,
    addresses: BTreeMap<String, String>,
}

impl Assets {
    pub(crate) fn new() -> Self {
        let mut assets = Self { by_address: BTreeMap::new(), addresses: BTreeMap::new() };
        for (name, kind, content) in ASSETS {
            let hash = &codec::sha256_hex(content)[..12];
            let (stem, ending) = name.rsplit_once('.').expect("invariant: assets have endings");
            let hashed = format!("{stem}.{hash}.{ending}");
            assets.addresses.insert((*name).to_owned(), format!("/assets/{hashed}"));
            assets.by_address.insert(hashed, Asset { kind, content });
        }
        assets
    }

    /// The address of each asset by its name.
    pub(crate) fn addresses(&self) -> BTreeMap<String, String> {
        self.addresses.clone()
    }
}

/// `GET /assets/{name}`.
pub(crate) async fn get(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, AppError> {
    let asset = state.assets().by_address.get(&name);
    let asset = asset.ok_or_else(|| AppError::NotFound("there is no such asset".into()))?;
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, FOR_GOOD)];
    Ok((headers, asset.content).into_response())
}
