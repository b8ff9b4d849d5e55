//! People: invitations, roles, signing out, erasing.

use std::collections::{HashMap, HashSet};

use axum::extract::{Form, Query, State};
use axum::response::{Html, Redirect};
use hearken_analysis::Figure;
use hearken_analysis::annotators::Annotator;
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Named;
use crate::accounts::{self, Role, invitations, resets, sessions};
use crate::codec;
use crate::distribute::{self, ScreeningState};
use crate::error::AppError;
use crate::exchange::records;
use crate::pages::analysis::fresh;
use crate::pages::{PageQuery, then};
use crate::state::AppState;
use crate::user::CurrentUser;

const DAY_MS: i64 = 86_400_000;

/// Somebody, with what they have done.
#[derive(Serialize)]
struct Person {
    pseudonym: String,
    /// As a part of an address.
    address: String,
    name: String,
    /// None for those who label through the API.
    role: Option<Role>,
    created_at: i64,
    erased: bool,
    sessions: usize,
    judged: u32,
    today: u32,
    per_hour: Option<f64>,
    last_at: i64,
    decided: u32,
    skipped: u64,
    screening: Option<ScreeningState>,
    agreement: Option<Share>,
    gold: Option<Share>,
    finals: Option<Share>,
    seconds: Option<f64>,
    /// Why they are conspicuous.
    why: Vec<String>,
}

/// A share in percent, with its interval and the number of observations.
#[derive(Serialize)]
struct Share {
    value: f64,
    low: f64,
    high: f64,
    n: usize,
}

fn share(figure: &Figure) -> Option<Share> {
    let known = figure.known()?;
    let percent = |share: f64| 100.0 * share;
    let (low, high) = (percent(known.low.max(0.0)), percent(known.high.min(1.0)));
    Some(Share { value: percent(known.value), low, high, n: known.n })
}

/// `GET /admin/people`.
pub(super) async fn page(
    State(state): State<AppState>,
    Query(asked): Query<PageQuery>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    let judgements = state.read(|store| store.counts()).await?.judgements;
    if 0 < judgements {
        fresh(
            &state,
            |desk| &desk.people,
            judgements,
            |state| Ok(hearken_analysis::annotators_of(&records(state.store())?)),
        )
        .await;
    }
    state.blocking(move |state| show(state, &user, asked.notice(), &Links::default())).await
}

/// Links that are shown once.
#[derive(Default)]
struct Links {
    /// What each is for, and the link.
    links: Vec<(String, String)>,
    /// Whether they set passwords, and make no accounts.
    reset: bool,
}

fn show(
    state: &AppState,
    user: &CurrentUser,
    done: Option<&'static str>,
    links: &Links,
) -> Result<Html<String>, AppError> {
    let (store, now) = (state.store(), state.now());
    distribute::read_judgements(state)?;
    let people = everybody(state)?;
    let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    let computed = state.desk().people.lock().clone();
    let judgements = store.counts()?.judgements;
    let (present, gone): (Vec<Person>, Vec<Person>) =
        people.into_iter().partition(|person| !person.erased);
    let values = context! {
        admin => "people",
        done,
        links => links.links.clone(),
        reset => links.reset,
        people => Serde(present),
        gone => Serde(gone),
        roles,
        invitations => Serde(invitations::open(store, now)?),
        home => store.home(),
        computed => computed.result.is_some() && computed.judgements != judgements,
        computed_of => computed.judgements,
        problem => computed.problem,
    };
    state.page(user, "admin/people.html", values)
}

/// Everybody who has an account or has judged.
fn everybody(state: &AppState) -> Result<Vec<Person>, AppError> {
    let store = state.store();
    let mut open: HashMap<String, usize> = HashMap::new();
    for document in store.documents("session")? {
        if let Some(account) = document.body["account"].as_str() {
            *open.entry(account.to_owned()).or_default() += 1;
        }
    }
    let skipped: HashMap<String, u64> = store.skipped()?.into_iter().collect();
    let mut people = Vec::new();
    for account in accounts::all(store)? {
        let person = Person {
            sessions: open.get(&account.pseudonym).copied().unwrap_or(0),
            erased: account.erased_at.is_some(),
            role: Some(account.role),
            created_at: account.created_at,
            ..person(state, account.pseudonym, account.name, &skipped)?
        };
        people.push(person);
    }
    let known: HashSet<&String> = people.iter().map(|person| &person.pseudonym).collect();
    let others: Vec<String> =
        state.board().people.iter().filter(|name| !known.contains(name)).cloned().collect();
    for name in others {
        people.push(person(state, name.clone(), name, &skipped)?);
    }
    Ok(people)
}

/// What somebody has done, without an account.
fn person(
    state: &AppState,
    pseudonym: String,
    name: String,
    skipped: &HashMap<String, u64>,
) -> Result<Person, AppError> {
    let work = state.board().work(&pseudonym);
    let computed = state.desk().people.lock().result.clone();
    let measured =
        computed.as_ref().and_then(|all| all.list.iter().find(|one| one.name == pseudonym));
    let of = |figure: fn(&Annotator) -> &Figure| measured.and_then(|one| share(figure(one)));
    Ok(Person {
        screening: distribute::screening_of(state, &pseudonym)?,
        skipped: skipped.get(&pseudonym).copied().unwrap_or(0),
        judged: work.judged,
        today: work.today(state.now()),
        per_hour: work.per_hour(),
        last_at: work.last_at,
        decided: work.decided,
        agreement: of(|one| &one.agreement),
        gold: of(|one| &one.gold),
        finals: of(|one| &one.final_agreement),
        seconds: measured.and_then(|one| one.speed.median_seconds.value()),
        why: measured.map_or_else(Vec::new, |one| {
            one.conspicuous.iter().map(|reason| reason.why.clone()).collect()
        }),
        address: codec::percent(&pseudonym),
        pseudonym,
        name,
        role: None,
        created_at: 0,
        erased: false,
        sessions: 0,
    })
}

/// What the form for an invitation sends.
#[derive(Deserialize)]
pub(crate) struct Invite {
    role: Role,
    days: i64,
    /// For whom, one a line; each gets a link.
    #[serde(default)]
    names: String,
    /// How many links, where there are no names.
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

/// Links that are made at once.
const LINKS_MAX: usize = 100;
/// The longest name of an account, in characters.
const NAME_MAX: usize = 64;

impl Invite {
    /// For whom each link is; empty for nobody in particular.
    fn names(&self) -> Result<Vec<String>, String> {
        if !(1..=90).contains(&self.days) {
            return Err("an invitation holds for 1 to 90 days".into());
        }
        let lines = self.names.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut names: Vec<String> = lines.map(str::to_owned).collect();
        if let Some(long) = names.iter().find(|name| NAME_MAX < name.chars().count()) {
            return Err(format!("a name has at most {NAME_MAX} characters, found {long:?}"));
        }
        if names.is_empty() {
            names = vec![String::new(); self.count as usize];
        }
        if !(1..=LINKS_MAX).contains(&names.len()) {
            return Err(format!("1 to {LINKS_MAX} links are made at once, found {}", names.len()));
        }
        crate::storable::storable(&json!(names))?;
        Ok(names)
    }
}

/// `POST /admin/people/invite`: the page shows the links, once.
pub(crate) async fn invite(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(form): Form<Invite>,
) -> Result<Html<String>, AppError> {
    let names = form.names().map_err(AppError::Unprocessable)?;
    state
        .blocking(move |state| {
            let expires_at = state.now() + form.days * DAY_MS;
            let link = |name: String| {
                let (store, by) = (state.store(), &user.annotator);
                let secret = invitations::create(store, form.role, &name, by, expires_at)?;
                let details = json!({"role": form.role, "days": form.days});
                state.audit(by, "account.invited", details)?;
                Ok((name, format!("{}/invite/{secret}", user.reached)))
            };
            let links = names.into_iter().map(link).collect::<Result<_, AppError>>()?;
            show(state, &user, None, &Links { links, reset: false })
        })
        .await
}

/// `POST /admin/people/reset`: the page shows a link, once, with which the password is set anew.
pub(crate) async fn reset(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(form): Form<Named>,
) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            let (store, by) = (state.store(), &user.annotator);
            let secret = resets::create(store, &form.key, by, state.now())?;
            state.audit(by, "account.reset_made", json!({"account": form.key}))?;
            let name = accounts::find(store, &form.key)?.map(|account| account.name);
            let link = format!("{}/reset/{secret}", user.reached);
            let links = vec![(name.unwrap_or_default(), link)];
            show(state, &user, None, &Links { links, reset: true })
        })
        .await
}

/// A form that admits somebody, or takes that back.
#[derive(Deserialize)]
pub(crate) struct Admit {
    key: String,
    #[serde(default)]
    not: Option<String>,
}

/// `POST /admin/people/admit`.
pub(crate) async fn admit(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(Admit { key, not }): Form<Admit>,
) -> Result<Redirect, AppError> {
    then(&state, "/admin/people?done=saved", move |state| {
        let is_known =
            accounts::find(state.store(), &key)?.is_some() || state.board().number(&key).is_some();
        if !is_known {
            return Err(AppError::NotFound("there is no such annotator".into()));
        }
        distribute::admit(state, &key, &user.annotator, not.is_none())?;
        let action = if not.is_none() { "account.admitted" } else { "account.not_admitted" };
        state.audit(&user.annotator, action, json!({"account": key}))
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
