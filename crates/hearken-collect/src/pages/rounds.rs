//! The page about the rounds that people judge for.

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use minijinja::context;

use crate::error::AppError;
use crate::state::AppState;
use crate::user::CurrentUser;

/// The page.
pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/rounds", get(page))
}

async fn page(State(state): State<AppState>, user: CurrentUser) -> Result<Html<String>, AppError> {
    let drawn = move |state: &AppState| {
        let rounds = state.parts().rounds.as_ref();
        let rounds = rounds
            .ok_or_else(|| AppError::NotFound("this service was started without a loop".into()))?;
        let (html, problem) = match rounds.html() {
            Ok(html) => (Some(html), None),
            Err(problem) => (None, Some(problem)),
        };
        state.page(&user, "rounds.html", context! { here => "rounds", html, problem })
    };
    state.blocking(drawn).await
}
