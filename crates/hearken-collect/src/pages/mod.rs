//! Pages for people.

mod account;
mod admin;
mod analysis;
mod assets;
pub(crate) mod home;
mod media;
mod openid;
mod rounds;

pub(crate) use admin::uploads;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{Html, Redirect};
use axum::routing::{MethodRouter, get, post};

use crate::error::AppError;
use crate::security;
use crate::state::AppState;
use crate::user::CurrentUser;

/// Every page.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/", get(home::start))
        .route("/health", get(home::health))
        .route("/language", get(home::language))
        .route("/progress", get(home::progress))
        .route("/guidelines", get(home::guidelines))
        .route("/assets/{name}", get(assets::get))
        .route("/media/{*path}", get(media::get))
        .route("/login", get(account::login_page).post(account::login))
        .route("/openid", get(openid::start))
        .route("/openid/callback", get(openid::callback))
        .route("/logout", post(account::logout))
        .route("/logout/everywhere", post(account::logout_everywhere))
        .route("/account", noticed(account::show))
        .route("/account/password", post(account::change_password))
        .route("/invite/{secret}", get(account::invitation).post(account::accept))
        .route("/reset/{secret}", get(account::reset).post(account::set_forgotten))
        .merge(analysis::router())
        .merge(rounds::router())
        .merge(crate::label::router())
        .merge(crate::review::router())
        .merge(crate::live::router())
        .merge(admin::router())
}

/// The answer where no route fits.
pub(crate) async fn nothing_here() -> AppError {
    AppError::NotFound("there is no such page".into())
}

/// The answer where a route fits and its method does not. The header `Allow` is added by the router.
pub(crate) async fn not_this_way(headers: HeaderMap) -> axum::response::Response {
    let status = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    let wants_page = security::wants_html(&headers);
    let what = if wants_page { "this address is not a page" } else { "no such method here" };
    crate::error::problem_json(status, what)
}

/// The sentence for a code that a form's answer puts into the address: text from an address never
/// gets onto a page.
fn notice(code: Option<&str>) -> Option<&'static str> {
    Some(match code? {
        "saved" => "Saved.",
        "erased" => "The personal data were erased. The judgements stay under the pseudonym.",
        "withdrawn" => "Withdrawn.",
        "password" => "The password was changed. Sign in again where you were signed in.",
        "out" => "You are signed out.",
        _ => return None,
    })
}

/// What pages find in their address.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct PageQuery {
    /// A code for [`notice`].
    pub(crate) done: Option<String>,
    /// The place after which a list goes on.
    pub(crate) after: u64,
}

impl PageQuery {
    fn notice(&self) -> Option<&'static str> {
        notice(self.done.as_deref())
    }
}

/// What a page says above its content: what was just done, and a secret that is shown once.
type PageNotice = (Option<&'static str>, Option<String>);

/// Draws a page; may block.
type Show = fn(&AppState, &CurrentUser, PageNotice) -> Result<Html<String>, AppError>;

/// The route of a page that says what the form that led to it has done.
fn noticed(show: Show) -> MethodRouter<AppState> {
    get(
        async move |State(state): State<AppState>,
                    Query(asked): Query<PageQuery>,
                    user: CurrentUser| {
            let said = (asked.notice(), None);
            state.blocking(move |state| show(state, &user, said)).await
        },
    )
}

/// Does what a form asks for, on a thread that may block, then leads to a page.
async fn then(
    state: &AppState,
    to: &str,
    work: impl FnOnce(&AppState) -> Result<(), AppError> + Send + 'static,
) -> Result<Redirect, AppError> {
    state.blocking(work).await?;
    Ok(Redirect::to(to))
}
