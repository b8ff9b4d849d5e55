//! API tokens and webhooks.

use axum::extract::{Query, RawForm, State};
use axum::response::Html;
use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;
use serde_json::json;

use crate::api::tokens::{self, Scope};
use crate::error::AppError;
use crate::pages::PageNotice;
use crate::state::AppState;
use crate::user::CurrentUser;
use crate::webhooks::{self, Delivery};

/// The fields of an URL-encoded form in which a field may come several times.
fn fields(form: &[u8]) -> Result<Vec<(String, String)>, AppError> {
    let uri = format!("/?{}", String::from_utf8_lossy(form));
    let uri = uri.parse().map_err(|_| AppError::BadRequest("the form cannot be read".into()))?;
    let fields = Query::<Vec<(String, String)>>::try_from_uri(&uri);
    fields.map(|Query(fields)| fields).map_err(|error| AppError::BadRequest(error.body_text()))
}

fn one<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
}

fn several<'a>(fields: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    let name = name.to_owned();
    fields.iter().filter(move |(field, _)| *field == name).map(|(_, value)| value.as_str())
}

/// `GET /admin/tokens`.
pub(super) fn tokens(
    state: &AppState,
    user: &CurrentUser,
    (done, secret): PageNotice,
) -> Result<Html<String>, AppError> {
    let tokens = tokens::all(state.store())?;
    let url = user.reached.clone();
    let values = context! { admin => "tokens", done, secret, url, tokens => Serde(tokens) };
    state.page(user, "admin/tokens.html", values)
}

/// `POST /admin/tokens`: the page shows the token, once.
pub(crate) async fn add_token(
    State(state): State<AppState>,
    user: CurrentUser,
    RawForm(form): RawForm,
) -> Result<Html<String>, AppError> {
    let fields = fields(&form)?;
    let scopes: Vec<Scope> = several(&fields, "scope").filter_map(Scope::named).collect();
    let name = one(&fields, "name").to_owned();
    state
        .blocking(move |state| {
            let (token, secret) = tokens::create(state.store(), &name, &scopes, state.now())?;
            let details = json!({"token": token.id, "scopes": token.scopes});
            state.audit(&user.annotator, "token.created", details)?;
            tokens(state, &user, (None, Some(secret)))
        })
        .await
}

/// `POST /admin/tokens/revoke`.
pub(super) fn revoke_token(state: &AppState, user: &CurrentUser, id: &str) -> Result<(), AppError> {
    tokens::revoke(state.store(), id)?;
    state.audit(&user.annotator, "token.revoked", json!({"token": id}))
}

#[derive(Serialize)]
struct Hook {
    id: String,
    url: String,
    events: String,
    created_at: i64,
    waiting: usize,
    given_up: usize,
    problem: String,
}

/// `GET /admin/webhooks`.
pub(super) fn webhooks(
    state: &AppState,
    user: &CurrentUser,
    (done, secret): PageNotice,
) -> Result<Html<String>, AppError> {
    let documents = state.store().documents("delivery")?.into_iter();
    let deliveries: Vec<Delivery> =
        documents.filter_map(|document| serde_json::from_value(document.body).ok()).collect();
    let hooks = webhooks::all(state.store())?.into_iter().map(|webhook| {
        let own: Vec<&Delivery> =
            deliveries.iter().filter(|delivery| delivery.webhook == webhook.id).collect();
        let given_up = own.iter().filter(|delivery| delivery.given_up).count();
        let problem = own.iter().rev().find(|delivery| !delivery.problem.is_empty());
        Hook {
            waiting: own.len() - given_up,
            given_up,
            problem: problem.map(|delivery| delivery.problem.clone()).unwrap_or_default(),
            events: webhook.events.join(", "),
            id: webhook.id,
            url: webhook.url,
            created_at: webhook.created_at,
        }
    });
    let hooks: Vec<Hook> = hooks.collect();
    let events = webhooks::EVENTS.to_vec();
    let values = context! { admin => "webhooks", done, secret, events, hooks => Serde(hooks) };
    state.page(user, "admin/webhooks.html", values)
}

/// `POST /admin/webhooks`: the page shows the key of the signatures, once.
pub(crate) async fn add_webhook(
    State(state): State<AppState>,
    user: CurrentUser,
    RawForm(form): RawForm,
) -> Result<Html<String>, AppError> {
    let fields = fields(&form)?;
    let events: Vec<String> = several(&fields, "event").map(str::to_owned).collect();
    let url = one(&fields, "url").trim().to_owned();
    state
        .blocking(move |state| {
            let made = webhooks::create(state.store(), &url, events, state.now())?;
            let details = json!({"webhook": made.id, "url": made.url, "events": made.events});
            state.audit(&user.annotator, "webhook.created", details)?;
            webhooks(state, &user, (None, Some(made.secret)))
        })
        .await
}

/// `POST /admin/webhooks/remove`.
pub(super) fn remove_webhook(
    state: &AppState,
    user: &CurrentUser,
    id: &str,
) -> Result<(), AppError> {
    webhooks::remove(state.store(), id)?;
    state.audit(&user.annotator, "webhook.removed", json!({"webhook": id}))
}
