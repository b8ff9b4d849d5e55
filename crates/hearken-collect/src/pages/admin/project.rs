//! Guidelines, settings, audit log.

use std::collections::VecDeque;

use axum::extract::{Form, State};
use axum::response::{Html, Redirect};
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::AppError;
use crate::pages::{PageNotice, then};
use crate::settings::{ProjectSettings, Rationale, Suggestions, axes_text, parse_axes};
use crate::state::AppState;
use crate::user::CurrentUser;

/// Bytes of the guidelines.
const GUIDELINES_MAX: usize = 500_000;
/// Entries of a page of the audit log.
const ENTRIES: usize = 100;

/// `GET /admin/guidelines`.
pub(super) fn guidelines(
    state: &AppState,
    user: &CurrentUser,
    (done, _): PageNotice,
) -> Result<Html<String>, AppError> {
    let versions = state.all_guidelines()?;
    let last = versions.last();
    let (version, text) = last.map_or((0, String::new()), |last| (last.version, last.text.clone()));
    let list = versions
        .iter()
        .rev()
        .map(|one| context! { version => one.version, at => one.at, text => one.text.clone() });
    let versions: Vec<minijinja::Value> = list.collect();
    let values = context! { admin => "guidelines", done, version, text, versions };
    state.page(user, "admin/guidelines.html", values)
}

/// What the form for the guidelines sends.
#[derive(Deserialize)]
pub(crate) struct NewGuidelines {
    text: String,
    after: u32,
}

/// `POST /admin/guidelines`: a new version; earlier ones stay.
pub(crate) async fn write_guidelines(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(form): Form<NewGuidelines>,
) -> Result<Redirect, AppError> {
    if GUIDELINES_MAX < form.text.len() {
        let what = format!("guidelines have at most {GUIDELINES_MAX} bytes");
        return Err(AppError::Unprocessable(what));
    }
    crate::storable::storable(&json!(form.text)).map_err(AppError::Unprocessable)?;
    then(&state, "/admin/guidelines?done=saved", move |state| {
        let text = form.text.replace("\r\n", "\n");
        let version = state.add_guidelines(form.after, &text)?;
        state.audit(&user.annotator, "guidelines.written", json!({"version": version}))
    })
    .await
}

/// `GET /admin/settings`.
pub(super) fn settings(
    state: &AppState,
    user: &CurrentUser,
    (done, _): PageNotice,
) -> Result<Html<String>, AppError> {
    let settings = state.settings()?;
    let values = context! {
        admin => "settings",
        done,
        axes => axes_text(&settings.axes),
        orders => state.orders().into_iter().map(str::to_owned).collect::<Vec<_>>(),
        settings => Serde((*settings).clone()),
    };
    state.page(user, "admin/settings.html", values)
}

/// What the form for the settings sends. A box that is not ticked sends nothing.
#[derive(Deserialize)]
pub(crate) struct NewSettings {
    title: String,
    overlap: u32,
    lease_minutes: u32,
    strength_points: u8,
    axes: String,
    rationale: Rationale,
    #[serde(default)]
    suggestions: Suggestions,
    limit_total: String,
    limit_day: String,
    screening_percent: f64,
    #[serde(default)]
    screening_items: String,
    gold_percent: f64,
    #[serde(default)]
    ties: Option<String>,
    #[serde(default)]
    both_bad: Option<String>,
    #[serde(default)]
    stop_at_first_error: Option<String>,
    #[serde(default)]
    partial_rankings: Option<String>,
    #[serde(default)]
    better_answers: Option<String>,
    #[serde(default)]
    rate_turns: Option<String>,
    #[serde(default)]
    confirm_in_bulk: Option<String>,
    order: String,
    random_percent: f64,
}

fn limit(name: &str, text: &str) -> Result<Option<u32>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|number| *number > 0);
    number
        .map(Some)
        .ok_or_else(|| format!("the limit {name} is a number above 0 or empty, found {text:?}"))
}

impl NewSettings {
    fn settings(self) -> Result<ProjectSettings, String> {
        Ok(ProjectSettings {
            title: self.title.trim().to_owned(),
            overlap: self.overlap,
            lease_minutes: self.lease_minutes,
            strength_points: self.strength_points,
            axes: parse_axes(&self.axes)?,
            rationale: self.rationale,
            suggestions: self.suggestions,
            limit_total: limit("in all", &self.limit_total)?,
            limit_day: limit("per day", &self.limit_day)?,
            screening_threshold: self.screening_percent / 100.0,
            screening_items: limit("of screening items", &self.screening_items)?,
            gold_share: self.gold_percent / 100.0,
            ties: self.ties.is_some(),
            both_bad: self.both_bad.is_some(),
            stop_at_first_error: self.stop_at_first_error.is_some(),
            partial_rankings: self.partial_rankings.is_some(),
            better_answers: self.better_answers.is_some(),
            rate_turns: self.rate_turns.is_some(),
            confirm_in_bulk: self.confirm_in_bulk.is_some(),
            order: self.order,
            order_random_share: self.random_percent / 100.0,
        })
    }
}

/// `POST /admin/settings`.
pub(crate) async fn write_settings(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(form): Form<NewSettings>,
) -> Result<Redirect, AppError> {
    let settings = form.settings().map_err(AppError::Unprocessable)?;
    crate::storable::storable(&json!(settings)).map_err(AppError::Unprocessable)?;
    then(&state, "/admin/settings?done=saved", move |state| {
        state.put_settings(&settings)?;
        state.audit(&user.annotator, "settings.written", json!(settings))
    })
    .await
}

#[derive(Serialize)]
struct SettingEntry {
    at: i64,
    actor: String,
    action: String,
    details: String,
}

/// `GET /admin/audit`: the newest entries.
pub(crate) async fn audit(
    State(state): State<AppState>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            let mut newest = VecDeque::new();
            let mut after = 0;
            loop {
                let events = state.store().events(after, 1_000)?;
                let Some(last) = events.last() else { break };
                after = last.place;
                newest.extend(events);
                newest.drain(..newest.len().saturating_sub(ENTRIES));
            }
            let entries = newest.into_iter().rev().map(|placed| SettingEntry {
                at: placed.record.at,
                actor: placed.record.actor,
                action: placed.record.action,
                details: placed.record.details.to_string(),
            });
            let entries: Vec<SettingEntry> = entries.collect();
            state.page(
                &user,
                "admin/audit.html",
                context! { admin => "audit", entries => Serde(entries) },
            )
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_limit_is_none_and_zero_is_refused() {
        assert_eq!(limit("x", " "), Ok(None));
        assert_eq!(limit("x", "12"), Ok(Some(12)));
        assert!(limit("x", "0").is_err());
    }
}
