//! The analysis page: closed at first, then computed once for each state of the store.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use minijinja::context;

use crate::desk::{Content, Desk, Slot};
use crate::error::AppError;
use crate::exchange::records;
use crate::state::AppState;
use crate::user::CurrentUser;

/// Judgements from which on there is an analysis.
pub(crate) const NEEDED: u64 = 20;
/// How long a request waits for a computation before it shows that one is under way.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an analysis is shown although there are newer judgements.
const FRESH_MS: i64 = 15_000;

/// The pages.
pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/analysis", get(page)).route("/analysis/features", post(train))
}

/// Which of the results.
type Which<T> = fn(&Desk) -> &Slot<T>;

/// What there is where it is new enough; otherwise starts a computation unless one is under way, waits a little, and gives
/// what there is then.
pub(super) async fn fresh<T: Send + Sync + 'static>(
    state: &AppState,
    which: Which<T>,
    judgements: u64,
    work: impl FnOnce(&AppState) -> Result<T, AppError> + Send + 'static,
) -> Content<T> {
    let content = which(state.desk()).lock().clone();
    let age = state.now() - content.at;
    let usable = content.result.is_some()
        && (content.judgements == judgements || (0..FRESH_MS).contains(&age));
    if usable { content } else { computed(state, which, judgements, work).await }
}

/// Starts a computation unless one is under way, waits a little, and gives what there is.
async fn computed<T: Send + Sync + 'static>(
    state: &AppState,
    which: Which<T>,
    judgements: u64,
    work: impl FnOnce(&AppState) -> Result<T, AppError> + Send + 'static,
) -> Content<T> {
    let slot = which(state.desk());
    let done = slot.done.notified();
    tokio::pin!(done);
    done.as_mut().enable();
    let starts = !std::mem::replace(&mut slot.lock().running, true);
    if starts {
        let state = state.clone();
        tokio::spawn(async move {
            let result = state.long(work).await;
            let slot = which(state.desk());
            {
                let mut content = slot.lock();
                content.running = false;
                content.judgements = judgements;
                content.at = state.now();
                match result {
                    Ok(made) => (content.result, content.problem) = (Some(made.into()), None),
                    Err(error) => content.problem = Some(error.to_string()),
                }
            }
            slot.done.notify_waiters();
        });
    }
    // Either way the page shows what there is.
    let _ = tokio::time::timeout(PATIENCE, done).await;
    slot.lock().clone()
}

async fn page(State(state): State<AppState>, user: CurrentUser) -> Result<Html<String>, AppError> {
    let counts = state.read(|store| store.counts()).await?;
    let judgements = counts.judgements;
    let open = NEEDED <= judgements;
    let content = match open {
        true => fresh(&state, |desk| &desk.analysis, judgements, analyze).await,
        false => Content::default(),
    };
    let features = state.desk().features.lock().clone();
    let values = context! {
        here => "analysis",
        needed => NEEDED,
        judgements,
        open,
        computing => open && (content.running || features.running),
        analysed => content.judgements,
        stale => content.judgements != judgements,
        html => content.result.as_deref(),
        problem => content.problem.or(features.problem),
        can_train => state.parts().feature_trainer.is_some(),
        training => features.running,
        feature_html => features.result.as_deref(),
    };
    state.blocking(move |state| state.page(&user, "analysis.html", values)).await
}

/// Trains the feature reward model, then shows the page again.
async fn train(State(state): State<AppState>, _user: CurrentUser) -> Result<Redirect, AppError> {
    if state.parts().feature_trainer.is_none() {
        return Err(AppError::NotFound(
            "this service was started without the feature model".into(),
        ));
    }
    let judgements = state.read(|store| store.counts()).await?.judgements;
    if judgements < NEEDED {
        return Err(AppError::Conflict(format!(
            "the feature model needs {NEEDED} judgements, there are {judgements}"
        )));
    }
    computed(&state, |desk| &desk.features, judgements, train_features).await;
    Ok(Redirect::to("/analysis"))
}

fn analyze(state: &AppState) -> Result<String, AppError> {
    let records = records(state.store())?;
    let analysis = hearken_analysis::analyze(&records, &hearken_analysis::Options::default());
    Ok(hearken_analysis::fragment(&analysis))
}

fn train_features(state: &AppState) -> Result<String, AppError> {
    let records = records(state.store())?;
    let trainer = state.parts().feature_trainer.as_ref();
    let trainer = trainer.ok_or_else(|| AppError::NotFound("there is no feature model".into()))?;
    let report = trainer.train(&records).map_err(AppError::Unprocessable)?;
    Ok(hearken_analysis::feature_report_fragment(&report))
}
