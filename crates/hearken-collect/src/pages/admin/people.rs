//! People: invitations, roles, signing out, erasing.

use std::collections::HashMap;

use axum::extract::{Form, State};
use axum::response::{Html, Redirect};
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::accounts::{self, Role, invitations, sessions};
use crate::distribute;
use crate::error::AppError;
use crate::pages::{Said, then};
use crate::state::AppState;
use crate::user::CurrentUser;

const DAY_MS: i64 = 86_400_000;

#[derive(Serialize)]
struct Person {
    pseudonym: String,
    name: String,
    role: Role,
    created_at: i64,
    erased: bool,
    sessions: usize,
}

/// `GET /admin/people`.
pub(super) fn show(
    state: &AppState,
    user: &CurrentUser,
    (done, link): Said,
) -> Result<Html<String>, AppError> {
    let (store, now) = (state.store(), state.now());
    let mut open: HashMap<String, usize> = HashMap::new();
    for document in store.documents("session")? {
        if let Some(account) = document.body["account"].as_str() {
            *open.entry(account.to_owned()).or_default() += 1;
        }
    }
    let people: Vec<Person> = accounts::all(store)?
        .into_iter()
        .map(|account| Person {
            sessions: open.get(&account.pseudonym).copied().unwrap_or(0),
            erased: account.erased_at.is_some(),
            pseudonym: account.pseudonym,
            name: account.name,
            role: account.role,
            created_at: account.created_at,
        })
        .collect();
    let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    let values = context! {
        admin => "people",
        done,
        link,
        people => Serde(people),
        roles,
        invitations => Serde(invitations::open(store, now)?),
        home => store.home(),
    };
    state.page(user, "admin/people.html", values)
}

/// What the form for an invitation sends.
#[derive(Deserialize)]
pub(crate) struct Invite {
    role: Role,
    days: i64,
    /// How many links.
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

/// Links that are made at once.
const LINKS_MAX: u32 = 100;

/// `POST /admin/people/invite`: the page shows the links, once.
pub(crate) async fn invite(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(form): Form<Invite>,
) -> Result<Html<String>, AppError> {
    if !(1..=90).contains(&form.days) {
        return Err(AppError::Unprocessable("an invitation holds for 1 to 90 days".into()));
    }
    if !(1..=LINKS_MAX).contains(&form.count) {
        let what = format!("1 to {LINKS_MAX} links are made at once, found {}", form.count);
        return Err(AppError::Unprocessable(what));
    }
    state
        .blocking(move |state| {
            let expires_at = state.now() + form.days * DAY_MS;
            let links = (0..form.count).map(|_| {
                let (store, by) = (state.store(), &user.annotator);
                let secret = invitations::create(store, form.role, by, expires_at)?;
                let details = json!({"role": form.role, "days": form.days});
                state.audit(by, "account.invited", details)?;
                Ok(format!("{}/invite/{secret}", user.reached))
            });
            let links = links.collect::<Result<Vec<String>, AppError>>()?.join("\n");
            show(state, &user, (None, Some(links)))
        })
        .await
}

/// `POST /admin/people/withdraw`: takes an invitation back.
pub(super) fn withdraw(state: &AppState, user: &CurrentUser, key: &str) -> Result<(), AppError> {
    invitations::withdraw(state.store(), key)?;
    state.audit(&user.annotator, "account.invitation_withdrawn", json!({}))
}

/// `POST /admin/people/sign-out`: ends every session of an account.
pub(super) fn sign_out(state: &AppState, user: &CurrentUser, key: &str) -> Result<(), AppError> {
    sessions::end_all(state.store(), key)?;
    distribute::release(state, key)?;
    state.audit(&user.annotator, "account.signed_out", json!({"account": key}))
}

/// A form that gives somebody a role.
#[derive(Deserialize)]
pub(crate) struct NewRole {
    key: String,
    role: Role,
}

/// `POST /admin/people/role`.
pub(crate) async fn set_role(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(form): Form<NewRole>,
) -> Result<Redirect, AppError> {
    then(&state, "/admin/people?done=saved", move |state| {
        accounts::set_role(state.store(), &form.key, form.role)?;
        let details = json!({"account": form.key, "role": form.role});
        state.audit(&user.annotator, "account.role", details)
    })
    .await
}

/// A form that erases an account; the pseudonym is typed once more.
#[derive(Deserialize)]
pub(crate) struct Erase {
    key: String,
    again: String,
}

/// `POST /admin/people/erase`.
pub(crate) async fn erase(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(form): Form<Erase>,
) -> Result<Redirect, AppError> {
    if form.again.trim() != form.key {
        let what = format!("type the pseudonym {} to erase the account", form.key);
        return Err(AppError::Unprocessable(what));
    }
    then(&state, "/admin/people?done=erased", move |state| {
        accounts::erase(state.store(), &form.key, state.now())?;
        distribute::release(state, &form.key)?;
        state.audit(&user.annotator, "account.erased", json!({"account": form.key}))
    })
    .await
}
