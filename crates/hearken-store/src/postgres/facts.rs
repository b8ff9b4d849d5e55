//! What the server has of what the requests of a transaction will ask for, fetched with a few
//! queries for all of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use hearken_data::feedback::Judgement;

use super::parse;
use super::session::{PostgresSession, problem};
use crate::error::StoreError;
use crate::ledger::{Facts, Known, Places, Seats};
use crate::record::{Assignment, Document, Placed, Record};
use crate::write::StoreWrite;

/// The keys that requests will ask for.
#[derive(Default)]
struct Needs<'w> {
    items: BTreeSet<&'w str>,
    seats: BTreeSet<&'w str>,
    /// Item and annotator.
    pairs: BTreeSet<(&'w str, &'w str)>,
    judgements: BTreeSet<&'w str>,
    assignments: BTreeSet<&'w str>,
    /// Kind and key.
    documents: BTreeSet<(&'w str, &'w str)>,
}

impl<'w> Needs<'w> {
    fn of(writes: &'w [StoreWrite<'_>]) -> Self {
        let mut needs = Self::default();
        for write in writes {
            match write {
                StoreWrite::AddItems(items) => {
                    needs.items.extend(items.iter().map(|item| item.id.as_str()));
                }
                StoreWrite::AddJudgements(all) => all.iter().for_each(|it| needs.judgement(it)),
                StoreWrite::Claim(claim) => needs.pair(&claim.item, &claim.annotator),
                StoreWrite::Renew { assignment, .. } | StoreWrite::Skip { assignment } => {
                    needs.assignments.insert(assignment);
                }
                StoreWrite::Submit { judgement, .. } => needs.judgement(judgement),
                StoreWrite::PutDocument { kind, key, .. }
                | StoreWrite::DeleteDocument { kind, key } => {
                    needs.documents.insert((kind, key));
                }
                StoreWrite::Record(_) => {}
                StoreWrite::Restore(records) => records.iter().for_each(|it| needs.record(it)),
            }
        }
        needs
    }

    fn record(&mut self, record: &'w Record) {
        match record {
            Record::Document(document) => {
                self.documents.insert((&document.kind, &document.key));
            }
            Record::Item(item) => {
                self.items.insert(&item.id);
            }
            Record::Assignment(assignment) => {
                self.assignments.insert(&assignment.id);
                self.items.insert(&assignment.item);
                self.pair(&assignment.item, &assignment.annotator);
            }
            Record::Judgement(judgement) => self.judgement(judgement),
            Record::Event(_) => {}
        }
    }

    fn judgement(&mut self, judgement: &'w Judgement) {
        self.judgements.insert(&judgement.id);
        self.judgements.extend(judgement.revises.as_deref());
        self.assignments.extend(judgement.assignment.as_deref());
        self.items.insert(&judgement.item);
        self.pair(&judgement.item, &judgement.annotator);
    }

    fn pair(&mut self, item: &'w str, annotator: &'w str) {
        self.seats.insert(item);
        self.pairs.insert((item, annotator));
    }
}

/// What was fetched. What was not asked for counts as not there.
#[derive(Default)]
pub(super) struct Fetched {
    places: Places,
    items: HashMap<String, Known>,
    seats: HashMap<String, Seats>,
    judged: HashSet<(String, String)>,
    judgements: HashMap<String, Placed<Judgement>>,
    revisers: HashMap<String, String>,
    assignments: HashMap<String, Assignment>,
    assignments_of: HashMap<(String, String), String>,
    documents: HashMap<(String, String), Document>,
}

/// A set of keys as a parameter.
fn keys<'a>(set: &BTreeSet<&'a str>) -> Option<Vec<&'a str>> {
    (!set.is_empty()).then(|| set.iter().copied().filter(|key| !key.contains('\0')).collect())
}

/// A set of pairs as two parameters.
fn pairs<'a>(set: &BTreeSet<(&'a str, &'a str)>) -> Option<(Vec<&'a str>, Vec<&'a str>)> {
    let possible = set.iter().filter(|(a, b)| !a.contains('\0') && !b.contains('\0'));
    (!set.is_empty()).then(|| possible.copied().unzip())
}

/// Fetches what `writes` will ask for.
pub(super) fn fetch(
    home: &str,
    session: &mut PostgresSession,
    writes: &[StoreWrite<'_>],
) -> Result<Fetched, StoreError> {
    let mut fetched = Fetched::default();
    let needs = Needs::of(writes);
    let failed = |error: postgres::Error| problem(home, &error);
    fetched.places(session).map_err(failed)?;
    if let Some(keys) = keys(&needs.items) {
        fetched.items(home, session, &keys)?;
    }
    if let Some(keys) = keys(&needs.judgements) {
        fetched.judgements(home, session, &keys)?;
    }
    if let Some(keys) = keys(&needs.assignments) {
        let sql = "SELECT body FROM hearken.assignments WHERE id = ANY($1)";
        fetched.assignments(home, &session.query(sql, &[&keys]).map_err(failed)?)?;
    }
    if let Some((items, annotators)) = pairs(&needs.pairs) {
        let parameters: [&(dyn postgres::types::ToSql + Sync); 2] = [&items, &annotators];
        let rows = session.query(ASSIGNMENTS_OF, &parameters).map_err(failed)?;
        fetched.assignments(home, &rows)?;
        let rows = session.query(JUDGED, &parameters).map_err(failed)?;
        fetched.judged.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
    }
    let assigned: Vec<String> = fetched.assignments.values().map(|it| it.item.clone()).collect();
    let seats = needs.seats.iter().copied().chain(assigned.iter().map(String::as_str)).collect();
    if let Some(keys) = keys(&seats) {
        fetched.seats(session, &keys).map_err(failed)?;
    }
    if let Some((kinds, names)) = pairs(&needs.documents) {
        let rows = session.query(DOCUMENTS, &[&kinds, &names]).map_err(failed)?;
        fetched.documents(home, &rows)?;
    }
    Ok(fetched)
}

// The queries for many keys at once are written so that there is one way to run them: key by key,
// through an index. A planner that knows little of the tables, or much from last week, finds worse
// ones. `OFFSET 0` keeps it from rearranging a subquery.

const ASSIGNMENTS_OF: &str = "
    SELECT a.body FROM unnest($1::text[], $2::text[]) AS pair (item, annotator),
    LATERAL (SELECT body FROM hearken.assignments
             WHERE item = (SELECT place FROM hearken.items WHERE id = pair.item)
             AND annotator = (SELECT number FROM hearken.annotators WHERE name = pair.annotator)
             OFFSET 0) AS a";

const JUDGED: &str = "
    SELECT pair.item, pair.annotator FROM unnest($1::text[], $2::text[]) AS pair (item, annotator),
    LATERAL (SELECT FROM hearken.judgements
             WHERE item = (SELECT place FROM hearken.items WHERE id = pair.item)
             AND annotator = (SELECT number FROM hearken.annotators WHERE name = pair.annotator)
             LIMIT 1) AS j";

const HOLDS: &str = "
    SELECT wanted.id, (SELECT name FROM hearken.annotators WHERE number = a.annotator), a.expires_at
    FROM unnest($1::text[]) AS wanted (id),
    LATERAL (SELECT annotator, expires_at FROM hearken.assignments
             WHERE item = (SELECT place FROM hearken.items WHERE id = wanted.id) AND state = 0
             OFFSET 0) AS a";

const REVISERS: &str = "
    SELECT revised.id, reviser.id FROM
    (SELECT id, place FROM hearken.judgements WHERE id = ANY($1) OFFSET 0) AS revised,
    LATERAL (SELECT id FROM hearken.judgements WHERE revises = revised.place OFFSET 0) AS reviser";

const DOCUMENTS: &str = "
    SELECT d.kind, d.key, d.version, d.body
    FROM unnest($1::text[], $2::text[]) AS wanted (kind, key),
    LATERAL (SELECT * FROM hearken.documents
             WHERE kind = wanted.kind AND key = wanted.key OFFSET 0) AS d";

impl Fetched {
    fn places(&mut self, session: &mut PostgresSession) -> Result<(), postgres::Error> {
        let sql =
            "SELECT coalesce((SELECT place FROM hearken.items ORDER BY place DESC LIMIT 1), 0),
                   coalesce((SELECT place FROM hearken.judgements ORDER BY place DESC LIMIT 1), 0),
                   coalesce((SELECT place FROM hearken.events ORDER BY place DESC LIMIT 1), 0)";
        let rows = session.query(sql, &[])?;
        let place = |column| rows[0].get::<_, i64>(column).unsigned_abs();
        self.places = Places { items: place(0), judgements: place(1), events: place(2) };
        Ok(())
    }

    fn items(
        &mut self,
        home: &str,
        session: &mut PostgresSession,
        keys: &[&str],
    ) -> Result<(), StoreError> {
        let sql = "SELECT id, hash,
                   (SELECT body FROM hearken.item_bodies AS bodies WHERE bodies.place = items.place)
                   FROM hearken.items WHERE id = ANY($1)";
        for row in session.query(sql, &[&keys]).map_err(|error| problem(home, &error))? {
            let item = parse(home, "item", row.get(2))?;
            self.items.insert(row.get(0), Known { item, hash: row.get(1) });
        }
        Ok(())
    }

    fn judgements(
        &mut self,
        home: &str,
        session: &mut PostgresSession,
        keys: &[&str],
    ) -> Result<(), StoreError> {
        let failed = |error| problem(home, &error);
        let sql = "SELECT place, id, body FROM hearken.judgements WHERE id = ANY($1)";
        for row in session.query(sql, &[&keys]).map_err(failed)? {
            let place = row.get::<_, i64>(0).unsigned_abs();
            let record = parse(home, "judgement", row.get(2))?;
            self.judgements.insert(row.get(1), Placed { place, record });
        }
        if !self.judgements.is_empty() {
            let rows = session.query(REVISERS, &[&keys]).map_err(failed)?;
            self.revisers.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
        }
        Ok(())
    }

    fn assignments(&mut self, home: &str, rows: &[postgres::Row]) -> Result<(), StoreError> {
        for row in rows {
            let assignment: Assignment = parse(home, "assignment", row.get(0))?;
            let pair = (assignment.item.clone(), assignment.annotator.clone());
            self.assignments_of.insert(pair, assignment.id.clone());
            self.assignments.insert(assignment.id.clone(), assignment);
        }
        Ok(())
    }

    fn seats(
        &mut self,
        session: &mut PostgresSession,
        keys: &[&str],
    ) -> Result<(), postgres::Error> {
        let sql = "SELECT id, judged FROM hearken.items WHERE id = ANY($1)";
        for row in session.query(sql, &[&keys])? {
            let judged = row.get::<_, i32>(1).unsigned_abs();
            self.seats.insert(row.get(0), Seats { judged, holds: Vec::new() });
        }
        for row in session.query(HOLDS, &[&keys])? {
            if let Some(seats) = self.seats.get_mut(row.get::<_, &str>(0)) {
                seats.holds.push((row.get(1), row.get(2)));
            }
        }
        Ok(())
    }

    fn documents(&mut self, home: &str, rows: &[postgres::Row]) -> Result<(), StoreError> {
        for row in rows {
            let document = super::document(home, row)?;
            self.documents.insert((document.kind.clone(), document.key.clone()), document);
        }
        Ok(())
    }
}

impl Facts for Fetched {
    fn places(&mut self) -> Result<Places, StoreError> {
        Ok(self.places)
    }

    fn item(&mut self, id: &str) -> Result<Option<Known>, StoreError> {
        // The ledger remembers what it has asked for.
        Ok(self.items.remove(id))
    }

    fn seats(&mut self, item: &str) -> Result<Option<Seats>, StoreError> {
        Ok(self.seats.get(item).cloned())
    }

    fn has_judged(&mut self, item: &str, annotator: &str) -> Result<bool, StoreError> {
        Ok(self.judged.contains(&(item.into(), annotator.into())))
    }

    fn judgement(&mut self, id: &str) -> Result<Option<Placed<Judgement>>, StoreError> {
        Ok(self.judgements.get(id).cloned())
    }

    fn reviser(&mut self, id: &str) -> Result<Option<String>, StoreError> {
        Ok(self.revisers.get(id).cloned())
    }

    fn assignment(&mut self, id: &str) -> Result<Option<Assignment>, StoreError> {
        Ok(self.assignments.get(id).cloned())
    }

    fn assignment_of(
        &mut self,
        item: &str,
        annotator: &str,
    ) -> Result<Option<Assignment>, StoreError> {
        let id = self.assignments_of.get(&(item.into(), annotator.into()));
        Ok(id.and_then(|id| self.assignments.get(id)).cloned())
    }

    fn document(&mut self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        Ok(self.documents.get(&(kind.into(), key.into())).cloned())
    }
}
