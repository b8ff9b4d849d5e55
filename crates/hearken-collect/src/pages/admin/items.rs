//! The items of a project: found, changed one by one and many at once.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Form, Query, State};
use axum::response::{Html, Redirect};
use hearken_data::feedback::{Gold, Task, Verdict};
use hearken_store::Change;
use minijinja::context;
use minijinja::value::Serde;
use serde::Deserialize;
use serde_json::json;

use crate::codec;
use crate::distribute;
use crate::error::AppError;
use crate::exchange::Imported;
use crate::review::list::{self, Filter, LISTED, Show, Sort};
use crate::review::{named_people, rows};
use crate::state::AppState;
use crate::storable::storable;
use crate::user::CurrentUser;

/// The longest tag, in characters.
const TAG_MAX: usize = 60;

/// What the address of the list says: a [`Filter`], and what was just done.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ItemsQuery {
    q: String,
    show: String,
    task: String,
    tag: String,
    meta: String,
    person: String,
    sort: String,
    page: String,
    /// How many items were just changed.
    changed: String,
}

impl ItemsQuery {
    /// What is not known stands for everything, in the order in which it was added.
    fn filter(&self) -> Filter {
        let show = Show::ALL.iter().find(|(_, name, _)| *name == self.show);
        Filter {
            q: self.q.clone(),
            show: show.map(|(show, ..)| *show).unwrap_or_default(),
            task: self.task.clone(),
            tag: self.tag.clone(),
            meta: self.meta.clone(),
            person: self.person.clone(),
            sort: SORTS
                .iter()
                .find(|(_, name, _)| *name == self.sort)
                .map(|(sort, ..)| *sort)
                .unwrap_or_default(),
            page: self.page.parse().unwrap_or(0),
        }
    }

    /// The fields that say something.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let fields = [
            ("q", &self.q),
            ("show", &self.show),
            ("task", &self.task),
            ("tag", &self.tag),
            ("meta", &self.meta),
            ("person", &self.person),
            ("sort", &self.sort),
        ];
        let said = fields.into_iter().filter(|(_, value)| !value.is_empty());
        said.map(|(name, value)| (name, value.clone())).collect()
    }

    /// The same as a part of an address.
    fn query(&self) -> String {
        let pairs = self.fields().into_iter();
        let pairs = pairs.map(|(name, value)| format!("{name}={}&", codec::percent(&value)));
        pairs.collect()
    }
}

const SORTS: [(Sort, &str, &str); 4] = [
    (Sort::Added, "added", "As they were added"),
    (Sort::Difference, "difference", "Most disagreed first"),
    (Sort::Judged, "judged", "Judged last first"),
    (Sort::Priority, "priority", "Highest priority first"),
];

/// `GET /admin/items`.
pub(super) async fn page(
    State(state): State<AppState>,
    Query(asked): Query<ItemsQuery>,
    user: CurrentUser,
) -> Result<Html<String>, AppError> {
    state.blocking(move |state| show(state, &user, &asked, None)).await
}

/// Draws the list, with what was just imported. May block.
pub(super) fn show(
    state: &AppState,
    user: &CurrentUser,
    asked: &ItemsQuery,
    imported: Option<Imported>,
) -> Result<Html<String>, AppError> {
    let filter = asked.filter();
    let found = list::find(state, &filter)?;
    let start = filter.page.saturating_mul(LISTED).min(found.hits.len());
    let end = (start + LISTED).min(found.hits.len());
    let names = named_people(state, user)?;
    let people: BTreeMap<&String, &String> =
        names.iter().map(|(pseudonym, name)| (name, pseudonym)).collect();
    let options = |list: &[(&'static str, &'static str)]| {
        list.iter()
            .map(|(name, words)| context! { name => *name, words => *words })
            .collect::<Vec<_>>()
    };
    let values = context! {
        admin => "items",
        done => asked.changed.parse().ok().map(|count: u64| format!("Changed {count} {}.", items_of(count))),
        rows => Serde(rows(state, user, &found.hits[start..end])?),
        count => found.hits.len(),
        is_cut => found.is_cut,
        page => filter.page,
        more => end < found.hits.len(),
        filter => Serde(&filter),
        fields => asked.fields(),
        query => asked.query(),
        shows => options(&Show::ALL.map(|(_, name, words)| (name, words))),
        sorts => options(&SORTS.map(|(_, name, words)| (name, words))),
        tasks => Task::ALL.map(Task::as_str).to_vec(),
        tags => list::tags(state),
        people => people.into_iter().map(|(name, pseudonym)| context! { name, pseudonym }).collect::<Vec<_>>(),
        items => state.store().counts()?.items,
        imported => imported.map(Serde),
        formats => super::exchange::formats(hearken_data::feedback::formats::Format::all()),
    };
    state.page(user, "admin/items.html", values)
}

fn items_of(count: u64) -> &'static str {
    if count == 1 { "item" } else { "items" }
}

/// The fields of a form, of which some come several times.
struct FormFields(Vec<(String, String)>);

impl FormFields {
    fn one(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.trim())
    }

    fn several(&self, name: &str) -> Vec<String> {
        let these = self.0.iter().filter(|(field, _)| field == name);
        these.map(|(_, value)| value.clone()).collect()
    }
}

/// `POST /admin/items/change`: changes the items that are named, or all that a filter finds.
pub(super) async fn change(
    State(state): State<AppState>,
    user: CurrentUser,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Redirect, AppError> {
    let to = state.blocking(move |state| change_some(state, &user, &FormFields(fields))).await?;
    Ok(Redirect::to(&to))
}

fn change_some(
    state: &AppState,
    user: &CurrentUser,
    fields: &FormFields,
) -> Result<String, AppError> {
    let filter = ItemsQuery {
        q: fields.one("q").into(),
        show: fields.one("show").into(),
        task: fields.one("task").into(),
        tag: fields.one("tag").into(),
        meta: fields.one("meta").into(),
        person: fields.one("filter_person").into(),
        sort: fields.one("sort").into(),
        ..ItemsQuery::default()
    };
    let items = match fields.one("whole") {
        "" => fields.several("item"),
        _ => found(state, &filter.filter())?,
    };
    if items.is_empty() {
        return Err(AppError::Unprocessable("choose some items first".into()));
    }
    for item in items.iter().filter(|_| fields.one("whole").is_empty()) {
        if distribute::item(state, item)?.is_none() {
            return Err(AppError::NotFound(format!("there is no item {item:?}")));
        }
    }
    let act = fields.one("act");
    let count = items.len();
    for (items, change) in changes(state, fields, act, &items)? {
        if !items.is_empty() {
            distribute::change_items(state, &user.annotator, items, change)?;
        }
    }
    state.audit(&user.annotator, "items.changed", json!({"act": act, "items": count}))?;
    Ok(match fields.one("from") {
        "item" => {
            format!("/review/item?id={}&done=saved", codec::percent(fields.one("item")))
        }
        _ => format!("/admin/items?{}changed={count}", filter.query()),
    })
}

/// The names of all items that a filter finds.
fn found(state: &AppState, filter: &Filter) -> Result<Vec<String>, AppError> {
    let found = list::find(state, filter)?;
    if found.is_cut {
        return Err(AppError::Unprocessable(
            "so many items may hold this text that not all were read: search for more of it".into(),
        ));
    }
    let index = state.distributor().index();
    Ok(found.hits.iter().map(|hit| index.entries[hit.handle as usize].id.clone()).collect())
}

type ItemChanges = Vec<(Vec<String>, Change)>;

/// What a form asks for, as changes of items.
fn changes(
    state: &AppState,
    fields: &FormFields,
    act: &str,
    items: &[String],
) -> Result<ItemChanges, AppError> {
    let value = fields.one("value");
    let one = |change: Change| vec![(items.to_vec(), change)];
    Ok(match act {
        "withdraw" => one(Change::Withdrawn(true)),
        "restore" => one(Change::Withdrawn(false)),
        "priority" => one(Change::Priority(priority(value)?)),
        "tag" => one(Change::Tagged(tag(value)?)),
        "untag" => one(Change::Untagged(tag(value)?)),
        "assign" => one(Change::People(people(state, &[fields.one("for").to_owned()])?)),
        "everybody" => one(Change::People(Vec::new())),
        "not_gold" => one(Change::Gold(None)),
        "gold" => gold(state, items)?,
        "set" => set(state, fields, items)?,
        _ => return Err(AppError::Unprocessable("choose what to do with the items".into())),
    })
}

fn priority(text: &str) -> Result<i64, AppError> {
    text.parse().map_err(|_| {
        AppError::Unprocessable(format!("a priority is a whole number, found {text:?}"))
    })
}

fn tag(text: &str) -> Result<String, AppError> {
    let text = text.trim();
    let characters = text.chars().count();
    if !(1..=TAG_MAX).contains(&characters) || text.contains(',') {
        return Err(AppError::Unprocessable(format!(
            "a tag has 1 to {TAG_MAX} characters and no comma, found {text:?}"
        )));
    }
    storable(&json!(text)).map_err(AppError::Unprocessable)?;
    Ok(text.to_owned())
}

/// Pseudonyms of people who have accounts.
fn people(state: &AppState, pseudonyms: &[String]) -> Result<Vec<String>, AppError> {
    for pseudonym in pseudonyms {
        if crate::accounts::find(state.store(), pseudonym)?.is_none() {
            return Err(AppError::Unprocessable("choose somebody who has an account".into()));
        }
    }
    Ok(pseudonyms.to_vec())
}

/// Makes the final verdicts of items those that count as right. Items without one stay as they are.
fn gold(state: &AppState, items: &[String]) -> Result<ItemChanges, AppError> {
    distribute::read_judgements(state)?;
    let mut by_verdict: Vec<(Verdict, Vec<String>)> = Vec::new();
    {
        let board = state.board();
        for item in items {
            let decided = board.of(item).and_then(|said| said.decided.as_deref());
            let Some(verdict) = decided else { continue };
            match by_verdict.iter_mut().find(|(known, _)| known == verdict) {
                Some((_, items)) => items.push(item.clone()),
                None => by_verdict.push((verdict.clone(), vec![item.clone()])),
            }
        }
    }
    if by_verdict.is_empty() {
        return Err(AppError::Unprocessable(
            "gold is made of a final verdict, and none of the items has one".into(),
        ));
    }
    let of = |(verdict, items)| {
        (items, Change::Gold(Some(Gold { verdict, reason: None, screening: false })))
    };
    Ok(by_verdict.into_iter().map(of).collect())
}

/// Priority, tags and people of one item, where they differ from what it has.
fn set(state: &AppState, fields: &FormFields, items: &[String]) -> Result<ItemChanges, AppError> {
    let [id] = items else {
        return Err(AppError::Unprocessable("this form is about one item".into()));
    };
    let changed = {
        let index = state.distributor().index();
        let entry = index.handle(id).map(|handle| &index.entries[handle as usize]);
        let changed = entry.and_then(|entry| entry.changed.as_deref()).cloned();
        (changed.unwrap_or_default(), entry.map_or(0, |entry| entry.priority))
    };
    let (changed, priority_now) = changed;
    let mut changes = Vec::new();
    let wanted = priority(fields.one("priority"))?;
    if wanted != priority_now {
        changes.push(Change::Priority(wanted));
    }
    let wanted = fields.one("tags").split(',').map(str::trim).filter(|tag| !tag.is_empty());
    let wanted = wanted.map(tag).collect::<Result<BTreeSet<String>, AppError>>()?;
    changes.extend(wanted.difference(&changed.tags).cloned().map(Change::Tagged));
    changes.extend(changed.tags.difference(&wanted).cloned().map(Change::Untagged));
    let wanted = people(state, &fields.several("person"))?;
    if wanted.iter().collect::<BTreeSet<_>>() != changed.people.iter().collect() {
        changes.push(Change::People(wanted));
    }
    Ok(changes.into_iter().map(|change| (items.to_vec(), change)).collect())
}
