//! The analysis page: closed at first, then computed anew as judgements come in. Who wins and how far people agree is told of
//! every judgement that is there, the rest of those that there were when it was computed last.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use hearken_analysis::Report;
use minijinja::context;

use crate::desk::{Content, Desk, Slot};
use crate::error::AppError;
use crate::exchange::records;
use crate::language;
use crate::standing::standing;
use crate::state::AppState;
use crate::user::CurrentUser;

/// Judgements from which on there is an analysis.
pub(crate) const NEEDED: u64 = 20;
/// How long requests wait for a computation, from its start, before they show that one is under way: where there is nothing to
/// show, and where there is an older result.
const PATIENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_millis(300)];
/// How much of the time may go into computing, while judgements come in: a fifth.
const SHARE: i64 = 5;

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
    let fresh_ms = content.took_ms.saturating_mul(SHARE - 1);
    let usable = content.result.is_some()
        && (content.judgements == judgements || (0..fresh_ms).contains(&age));
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
    let (starts, patience) = {
        let mut content = slot.lock();
        let starts = content.running.is_none();
        let since = content.running.get_or_insert_with(Instant::now).elapsed();
        (starts, PATIENCE[usize::from(content.result.is_some())].saturating_sub(since))
    };
    if starts {
        let state = state.clone();
        tokio::spawn(async move {
            let started = Instant::now();
            let result = state.long(work).await;
            let slot = which(state.desk());
            {
                let mut content = slot.lock();
                content.running = None;
                content.judgements = judgements;
                content.at = state.now();
                content.took_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
                match result {
                    Ok(made) => (content.result, content.problem) = (Some(made.into()), None),
                    Err(error) => content.problem = Some(error.to_string()),
                }
            }
            slot.done.notify_waiters();
        });
    }
    // Either way the page shows what there is.
    let _ = tokio::time::timeout(patience, done).await;
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
    let now = if open { Some(standing(&state).await?) } else { None };
    let features = state.desk().features.lock().clone();
    let drawn = move |state: &AppState| {
        let language = language::current();
        let html = now.as_ref().map(|now| match &content.result {
            Some(report) => language.html(&report.html(Some(&now.standing))),
            None => language.html(&hearken_analysis::standing_html(&now.standing)),
        });
        let values = context! {
            here => "analysis",
            needed => NEEDED,
            judgements,
            open,
            computing => open && (content.running.is_some() || features.running.is_some()),
            analysed => content.judgements,
            is_whole => content.result.is_some(),
            counted => now.map(|now| now.judgements),
            html,
            problem => content.problem.or(features.problem),
            can_train => state.parts().feature_trainer.is_some(),
            training => features.running.is_some(),
            feature_html => features.result.map(|html| language.html(&html)),
        };
        state.page(&user, "analysis.html", values)
    };
    state.blocking(drawn).await
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

fn analyze(state: &AppState) -> Result<Report, AppError> {
    let records = records(state.store())?;
    let analysis = hearken_analysis::analyze(&records, &hearken_analysis::Options::default());
    Ok(Report::new(&analysis))
}

fn train_features(state: &AppState) -> Result<String, AppError> {
    let records = records(state.store())?;
    let trainer = state.parts().feature_trainer.as_ref();
    let trainer = trainer.ok_or_else(|| AppError::NotFound("there is no feature model".into()))?;
    let report = trainer.train(&records).map_err(AppError::Unprocessable)?;
    Ok(hearken_analysis::feature_report_fragment(&report))
}
