//! Tokens: what programs show instead of a session.

use std::fmt;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderValue, header, request::Parts};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hearken_store::{Expected, Store, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::codec;
use crate::error::AppError;
use crate::state::AppState;

/// How every token starts, so that a search for leaked secrets finds it.
const PREFIX: &str = "hearken_";

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read items, judgements, progress; export.
    Read,
    /// Add items and judgements that were made elsewhere.
    Write,
    /// Take items to label, for any annotator, and send judgements.
    Label,
    /// Make and revoke tokens.
    Manage,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Label, Scope::Manage];

    /// The name in documents and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Label => "label",
            Scope::Manage => "manage",
        }
    }

    /// The scope of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its name among tokens.
    pub id: String,
    /// What its maker calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// When it was made: milliseconds since 1970 in UTC.
    pub created_at: i64,
}

impl Token {
    /// Refuses a token without the scope.
    pub(crate) fn must(&self, scope: Scope) -> Result<(), AppError> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        Err(AppError::Forbidden(format!(
            "this token has not the scope {scope:?}",
            scope = scope.as_str()
        )))
    }
}

/// Makes a token; gives it with its secret, which is stored nowhere. May block.
///
/// # Errors
///
/// The name or the scopes are unfit; the store cannot be written.
pub fn create(
    store: &dyn Store,
    name: &str,
    scopes: &[Scope],
    now: i64,
) -> Result<(Token, String), AppError> {
    let name = name.trim();
    let fits = (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if !fits {
        return Err(AppError::Unprocessable("the name of a token has 1 to 100 characters".into()));
    }
    if scopes.is_empty() {
        return Err(AppError::Unprocessable("a token has at least one scope".into()));
    }
    let scopes = Scope::ALL.into_iter().filter(|scope| scopes.contains(scope)).collect();
    let secret = format!("{PREFIX}{}", codec::random_hex::<32>());
    let id = format!("t-{}", codec::random_hex::<6>());
    let token = Token { id, name: name.to_owned(), scopes, created_at: now };
    let key = codec::sha256_hex(secret.as_bytes());
    store.put_document("token", &key, &json!(token), Expected::Nothing)?;
    Ok((token, secret))
}

/// Every token. May block.
///
/// # Errors
///
/// The store cannot be read.
pub fn all(store: &dyn Store) -> Result<Vec<Token>, StoreError> {
    let documents = store.documents("token")?.into_iter();
    let mut tokens: Vec<Token> =
        documents.filter_map(|document| serde_json::from_value(document.body).ok()).collect();
    tokens.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(tokens)
}

/// Revokes a token; `false` where there was none. May block.
///
/// # Errors
///
/// The store cannot be written.
pub fn revoke(store: &dyn Store, id: &str) -> Result<bool, StoreError> {
    for document in store.documents("token")? {
        if document.body["id"].as_str() == Some(id) {
            return store.delete_document("token", &document.key);
        }
    }
    Ok(false)
}

/// The layer around the API: a request without a known token is refused.
pub(crate) async fn check(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, AppError> {
    let secret = request.headers().get(header::AUTHORIZATION).and_then(bearer);
    let Some(secret) = secret else { return Ok(unauthorized()) };
    let key = codec::sha256_hex(secret.as_bytes());
    let document = state.read(move |store| store.document("token", &key)).await?;
    let token: Option<Token> =
        document.and_then(|document| serde_json::from_value(document.body).ok());
    let Some(token) = token else { return Ok(unauthorized()) };
    state.limits().spend_token(&token.id)?;
    request.extensions_mut().insert(token);
    Ok(next.run(request).await)
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
}

fn unauthorized() -> Response {
    let mut response = AppError::NotSignedIn.into_response();
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

impl<S: Sync> FromRequestParts<S> for Token {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
        parts.extensions.get::<Token>().cloned().ok_or(AppError::NotSignedIn)
    }
}
