//! The side that writes: one transaction at a time over all processes, each with many requests.

use std::collections::{BTreeMap, HashSet};

use super::address::Address;
use super::facts;
use super::schema::WRITE_LOCK;
use super::session::{Parameters, PostgresSession, Purpose, is_lost, problem};
use crate::error::StoreError;
use crate::ledger::{Facts, LedgerChanges, NewItem, NewJudgement, json};
use crate::record::{Assignment, AssignmentState, Document, Event, Placed};
use crate::write::StoreWrite;
use crate::writer::Home;

/// Bytes of one statement, about: the server admits 1 GiB.
const STATEMENT_BYTES: usize = 32 << 20;

/// Records after which the statistics of the server are renewed.
const MANY: usize = 10_000;

/// Records after which the statistics are renewed for the first time, also within a transaction, and
/// by how much later each further time. Plans are kept, and the ones that were made for empty tables go
/// through whole indices.
const FIRST_STATISTICS: usize = 1_000;
const NEXT_STATISTICS: usize = 4;

/// The tables that [`Growth`] is noted of.
const GROWING: [&str; 3] = ["hearken.items", "hearken.assignments", "hearken.judgements"];

const ANALYZE: &str = "ANALYZE hearken.items, hearken.item_bodies, hearken.annotators, \
                       hearken.judgements, hearken.assignments";

/// The one connection of this process that writes.
pub(crate) struct PostgresHome {
    address: Address,
    /// `None` where the connection was lost.
    session: Option<PostgresSession>,
    /// Annotators who have a number.
    annotators: HashSet<String>,
    /// Annotators who get one in the transaction under way.
    new_annotators: HashSet<String>,
    /// Judgements of each annotator in the transaction under way. They are counted at its end: a row
    /// that changes again and again in one transaction leaves versions behind that each look-up of the
    /// annotator would go through.
    judgements_of: BTreeMap<String, i32>,
    /// Records written in the transaction under way.
    written: usize,
    /// How the tables of [`GROWING`] grow.
    growth: [Growth; GROWING.len()],
}

/// How a table grows while its statistics stay.
#[derive(Clone, Copy)]
struct Growth {
    /// Rows written since the statistics were renewed because of this table.
    rows: usize,
    /// How many of them do so again.
    rows_max: usize,
}

impl PostgresHome {
    pub(super) fn new(address: Address, session: PostgresSession) -> Self {
        Self {
            address,
            session: Some(session),
            annotators: HashSet::new(),
            new_annotators: HashSet::new(),
            judgements_of: BTreeMap::new(),
            written: 0,
            growth: [Growth { rows: 0, rows_max: FIRST_STATISTICS }; GROWING.len()],
        }
    }

    fn session(&mut self) -> Result<&mut PostgresSession, StoreError> {
        if self.session.is_none() {
            self.session = Some(PostgresSession::connect(&self.address, Purpose::Write)?);
        }
        Ok(self.session.as_mut().expect("connected just now"))
    }

    fn execute(
        &mut self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<u64, StoreError> {
        let executed = self.session()?.execute(sql, parameters);
        executed.map_err(|error| problem(&self.address.shown, &error))
    }

    /// Executes a statement that writes one row for each of `rows` records.
    fn insert(
        &mut self,
        sql: &'static str,
        parameters: Parameters<'_>,
        rows: usize,
    ) -> Result<(), StoreError> {
        let written = self.execute(sql, parameters)?;
        self.written += rows;
        match written == rows as u64 {
            true => Ok(()),
            false => Err(StoreError::corrupt(
                &self.address.shown,
                &format!("{written} of {rows} rows were written: a row they refer to is missing"),
            )),
        }
    }

    /// Gives numbers to annotators who have none.
    fn enter<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Result<(), StoreError> {
        let unknown: HashSet<&str> = names
            .filter(|name| !self.annotators.contains(*name))
            .filter(|name| !self.new_annotators.contains(*name))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut names: Vec<&str> = unknown.into_iter().collect();
        names.sort_unstable();
        self.execute(
            "INSERT INTO hearken.annotators (name) SELECT unnest($1::text[])
             ON CONFLICT (name) DO NOTHING",
            &[&names],
        )?;
        self.new_annotators.extend(names.into_iter().map(str::to_owned));
        Ok(())
    }

    fn add_events(&mut self, events: &[Placed<Event>]) -> Result<(), StoreError> {
        let places: Vec<i64> = events.iter().map(|it| signed(it.place)).collect();
        let bodies: Vec<String> = events.iter().map(|it| json(&it.record)).collect();
        self.insert(
            "INSERT INTO hearken.events (place, body)
             SELECT * FROM unnest($1::bigint[], $2::text[])",
            &[&places, &bodies],
            places.len(),
        )
    }

    /// Renews the statistics of tables that have grown beyond what the statistics say.
    fn renew_statistics(&mut self) -> Result<(), StoreError> {
        let home = self.address.shown.clone();
        let failed = |error| problem(&home, &error);
        for (table, name) in GROWING.into_iter().enumerate() {
            let Growth { rows, rows_max } = self.growth[table];
            if rows < rows_max {
                continue;
            }
            self.growth[table] = Growth { rows: 0, rows_max: rows_max * NEXT_STATISTICS };
            let session = self.session()?;
            let sql = "SELECT reltuples::float8 FROM pg_class WHERE oid = $1::text::regclass";
            let known: f64 = session.query(sql, &[&name]).map_err(failed)?[0].get(0);
            if known < rows as f64 {
                session.run(&format!("ANALYZE {name}")).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Adds what annotators have judged in the transaction to what they had judged before.
    fn count_judgements(&mut self) -> Result<(), StoreError> {
        if self.judgements_of.is_empty() {
            return Ok(());
        }
        let (names, counts): (Vec<String>, Vec<i32>) =
            std::mem::take(&mut self.judgements_of).into_iter().unzip();
        self.execute(
            "UPDATE hearken.annotators SET judgements = judgements + new.count
             FROM unnest($1::text[], $2::integer[]) AS new (name, count)
             WHERE annotators.name = new.name",
            &[&names, &counts],
        )?;
        Ok(())
    }

    fn put_documents(
        &mut self,
        documents: &[((String, String), Option<Document>)],
    ) -> Result<(), StoreError> {
        for ((kind, key), document) in documents {
            match document {
                Some(it) => self.insert(
                    "INSERT INTO hearken.documents (kind, key, version, body)
                     VALUES ($1, $2, $3, $4) ON CONFLICT (kind, key)
                     DO UPDATE SET version = excluded.version, body = excluded.body",
                    &[kind, key, &signed(it.version), &json(&it.body)],
                    1,
                )?,
                None => {
                    self.execute(
                        "DELETE FROM hearken.documents WHERE kind = $1 AND key = $2",
                        &[kind, key],
                    )?;
                }
            }
        }
        Ok(())
    }

    fn add_items(&mut self, items: &[(&NewItem, String)]) -> Result<(), StoreError> {
        let places: Vec<i64> = items.iter().map(|(item, _)| signed(item.place)).collect();
        let ids: Vec<&str> = items.iter().map(|(item, _)| item.known.item.id.as_str()).collect();
        let hashes: Vec<&str> = items.iter().map(|(item, _)| item.known.hash.as_str()).collect();
        let bodies: Vec<&str> = items.iter().map(|(_, body)| body.as_str()).collect();
        self.insert(
            "INSERT INTO hearken.items (place, id, hash)
             SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])",
            &[&places, &ids, &hashes],
            items.len(),
        )?;
        self.insert(
            "INSERT INTO hearken.item_bodies (place, body)
             SELECT * FROM unnest($1::bigint[], $2::text[])",
            &[&places, &bodies],
            items.len(),
        )
    }

    fn put_assignments(&mut self, all: &[Assignment]) -> Result<(), StoreError> {
        self.enter(all.iter().map(|it| it.annotator.as_str()))?;
        let column = |of: fn(&Assignment) -> &str| all.iter().map(of).collect::<Vec<&str>>();
        let states: Vec<i16> = all.iter().map(|it| state_number(it.state)).collect();
        let ends: Vec<i64> = all.iter().map(|it| it.expires_at).collect();
        let bodies: Vec<String> = all.iter().map(json).collect();
        self.insert(
            "INSERT INTO hearken.assignments (id, item, annotator, state, expires_at, body)
             SELECT new.id, (SELECT place FROM hearken.items AS i WHERE i.id = new.item),
                    (SELECT number FROM hearken.annotators WHERE name = new.annotator),
                    new.state, new.expires_at, new.body
             FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::bigint[],
                         $6::text[]) WITH ORDINALITY
                  AS new (id, item, annotator, state, expires_at, body, number)
             ORDER BY new.number
             ON CONFLICT (id) DO UPDATE SET state = excluded.state,
             expires_at = excluded.expires_at, body = excluded.body",
            &[
                &column(|it| &it.id),
                &column(|it| &it.item),
                &column(|it| &it.annotator),
                &states,
                &ends,
                &bodies,
            ],
            all.len(),
        )
    }

    fn add_judgements(&mut self, all: &[(&NewJudgement, String)]) -> Result<(), StoreError> {
        self.enter(all.iter().map(|(it, _)| it.record.annotator.as_str()))?;
        let places: Vec<i64> = all.iter().map(|(it, _)| signed(it.place)).collect();
        let ids: Vec<&str> = all.iter().map(|(it, _)| it.record.id.as_str()).collect();
        let items: Vec<&str> = all.iter().map(|(it, _)| it.record.item.as_str()).collect();
        let annotators: Vec<&str> =
            all.iter().map(|(it, _)| it.record.annotator.as_str()).collect();
        let revises: Vec<Option<i64>> = all.iter().map(|(it, _)| it.revises.map(signed)).collect();
        let bodies: Vec<&str> = all.iter().map(|(_, body)| body.as_str()).collect();
        self.insert(
            "INSERT INTO hearken.judgements (place, id, item, annotator, revises, body)
             SELECT new.place, new.id, (SELECT place FROM hearken.items AS i WHERE i.id = new.item),
                    (SELECT number FROM hearken.annotators WHERE name = new.annotator),
                    new.revises, new.body
             FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[],
                         $6::text[]) AS new (place, id, item, annotator, revises, body)",
            &[&places, &ids, &items, &annotators, &revises, &bodies],
            all.len(),
        )?;
        for annotator in annotators {
            *self.judgements_of.entry(annotator.to_owned()).or_default() += 1;
        }
        let first = all.iter().filter(|(it, _)| it.first);
        let (items, counts) = tally(first.map(|(it, _)| it.record.item.as_str()));
        self.execute(
            "UPDATE hearken.items SET judged = judged + new.count
             FROM unnest($1::text[], $2::integer[]) AS new (id, count)
             WHERE items.id = new.id",
            &[&items, &counts],
        )?;
        Ok(())
    }
}

/// Each name once, and how often it came.
fn tally<'a>(names: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, Vec<i32>) {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts.into_iter().unzip()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn state_number(state: AssignmentState) -> i16 {
    match state {
        AssignmentState::Live => 0,
        AssignmentState::Judged => 1,
        AssignmentState::Skipped => 2,
    }
}

/// Splits records with their JSON into groups that fit into a statement.
fn groups<T>(records: &[(T, String)]) -> Vec<&[(T, String)]> {
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (end, (_, body)) in records.iter().enumerate() {
        if start < end && bytes + body.len() > STATEMENT_BYTES {
            groups.push(&records[start..end]);
            (start, bytes) = (end, 0);
        }
        bytes += body.len();
    }
    if start < records.len() {
        groups.push(&records[start..]);
    }
    groups
}

impl Home for PostgresHome {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.new_annotators.clear();
        self.judgements_of.clear();
        self.written = 0;
        let sql = format!("ROLLBACK; BEGIN; SELECT pg_advisory_xact_lock({WRITE_LOCK});");
        let had_session = self.session.is_some();
        let Err(error) = self.session()?.run(&sql) else { return Ok(()) };
        if !is_lost(&error) || !had_session {
            self.rollback();
            return Err(problem(&self.address.shown, &error));
        }
        // The connection was lost while nobody used it: nothing has been tried on it.
        self.session = None;
        self.session()?.run(&sql).map_err(|error| problem(&self.address.shown, &error))
    }

    fn facts(&mut self, writes: &[StoreWrite<'_>]) -> Result<Box<dyn Facts + '_>, StoreError> {
        let home = self.address.shown.clone();
        Ok(Box::new(facts::fetch(&home, self.session()?, writes)?))
    }

    fn flush(&mut self, changes: LedgerChanges) -> Result<(), StoreError> {
        let new = [changes.items.len(), changes.assignments.len(), changes.judgements.len()];
        self.growth.iter_mut().zip(new).for_each(|(growth, rows)| growth.rows += rows);
        self.put_documents(&changes.documents)?;
        let items: Vec<(&NewItem, String)> =
            changes.items.iter().map(|it| (it, json(&it.known.item))).collect();
        groups(&items).into_iter().try_for_each(|group| self.add_items(group))?;
        if !changes.assignments.is_empty() {
            self.put_assignments(&changes.assignments)?;
        }
        let judgements: Vec<(&NewJudgement, String)> =
            changes.judgements.iter().map(|it| (it, json(&it.record))).collect();
        groups(&judgements).into_iter().try_for_each(|group| self.add_judgements(group))?;
        if !changes.events.is_empty() {
            self.add_events(&changes.events)?;
        }
        self.renew_statistics()
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.count_judgements()?;
        if let Err(error) = self.session()?.run("COMMIT") {
            let StoreError::Unavailable { home, problem } = problem(&self.address.shown, &error)
            else {
                return Err(problem(&self.address.shown, &error));
            };
            let problem = format!(
                "{problem} (it is not known whether the last request was stored; sending it again \
                 is safe)"
            );
            return Err(StoreError::Unavailable { home, problem });
        }
        self.annotators.extend(self.new_annotators.drain());
        if self.written > MANY {
            // The server would do it by itself, later; that it fails changes no result.
            let _ = self.session()?.run(ANALYZE);
        }
        Ok(())
    }

    fn rollback(&mut self) {
        self.new_annotators.clear();
        if let Some(session) = &mut self.session
            && session.run("ROLLBACK").is_err()
        {
            // The server rolls back what a lost connection has left.
            self.session = None;
        }
    }
}

/// Closing a connection waits for the network, which is not possible on a thread that runs other
/// tasks meanwhile: a thread of its own does it.
impl Drop for PostgresHome {
    fn drop(&mut self) {
        let session = self.session.take();
        let _ = std::thread::spawn(move || drop(session)).join();
    }
}
