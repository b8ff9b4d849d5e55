//! The side that writes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use hearken_data::feedback::Judgement;
use rusqlite::{Connection, OptionalExtension, Params, Row, Statement, params};
use serde::de::DeserializeOwned;

use super::checkpoint::{Checkpointer, LOG_PAGES_MAX};
use super::connect::problem;
use super::{signed, unsigned};
use crate::error::StoreError;
use crate::ledger::{Facts, Known, LedgerChanges, NewItem, NewJudgement, Places, Seats, json};
use crate::record::{Assignment, AssignmentState, Document, Placed};
use crate::write::StoreWrite;
use crate::writer::Home;

/// The one connection of this process that writes.
pub(crate) struct SqliteHome {
    // Dropped first: the last connection that is closed cleans up.
    checkpointer: Checkpointer,
    connection: Connection,
    home: String,
    /// Records written in the transaction under way.
    written: usize,
}

impl SqliteHome {
    pub(super) fn new(connection: Connection, path: &Path) -> Result<Self, StoreError> {
        let home = path.display().to_string();
        let checkpointer = Checkpointer::start(path)?;
        let new = Self { checkpointer, connection, home, written: 0 };
        new.run(&format!("PRAGMA wal_autocheckpoint = {LOG_PAGES_MAX}"))?;
        Ok(new)
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(|error| problem(&self.home, &error))
    }
}

/// Statements that are prepared once and used for all requests of a transaction.
struct Statements<'c> {
    connection: &'c Connection,
    home: &'c str,
    prepared: HashMap<&'static str, Statement<'c>>,
}

impl<'c> Statements<'c> {
    fn new(home: &'c SqliteHome) -> Self {
        Self { connection: &home.connection, home: &home.home, prepared: HashMap::new() }
    }

    fn with<T>(
        &mut self,
        sql: &'static str,
        run: impl FnOnce(&mut Statement<'c>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let attempt = || match self.prepared.entry(sql) {
            Entry::Occupied(mut statement) => run(statement.get_mut()),
            Entry::Vacant(place) => run(place.insert(self.connection.prepare(sql)?)),
        };
        attempt().map_err(|error| problem(self.home, &error))
    }

    fn execute(&mut self, sql: &'static str, params: impl Params) -> Result<(), StoreError> {
        self.with(sql, |statement| statement.execute(params)).map(|_| ())
    }

    fn row<T>(
        &mut self,
        sql: &'static str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.with(sql, |statement| statement.query_row(params, read).optional())
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, body: &str) -> Result<T, StoreError> {
        super::parse(self.home, what, body)
    }

    fn add_item(&mut self, item: &NewItem) -> Result<(), StoreError> {
        let NewItem { place, known } = item;
        self.execute(
            "INSERT INTO items (place, id, hash) VALUES (?1, ?2, ?3)",
            params![signed(*place), known.item.id, known.hash],
        )?;
        self.execute(
            "INSERT INTO item_bodies (place, body) VALUES (?1, ?2)",
            params![signed(*place), json(&known.item)],
        )
    }

    fn add_judgement(&mut self, new: &NewJudgement) -> Result<(), StoreError> {
        let NewJudgement { place, record, revises, first } = new;
        let annotator = self.annotator(&record.annotator)?;
        self.execute(
            "INSERT INTO judgements (place, id, item, annotator, revises, body) VALUES (?1, ?2,
             (SELECT place FROM items WHERE id = ?3), ?4, ?5, ?6)",
            params![
                signed(*place),
                record.id,
                record.item,
                annotator,
                revises.map(signed),
                json(record)
            ],
        )?;
        self.execute(
            "UPDATE annotators SET judgements = judgements + 1 WHERE number = ?1",
            [annotator],
        )?;
        match first {
            true => self.execute(
                "UPDATE items SET judged = judged + 1 WHERE id = ?1",
                params![record.item],
            ),
            false => Ok(()),
        }
    }

    fn put_assignment(&mut self, assignment: &Assignment) -> Result<(), StoreError> {
        let annotator = self.annotator(&assignment.annotator)?;
        self.execute(
            "INSERT INTO assignments (id, item, annotator, state, expires_at, body) VALUES (?1,
             (SELECT place FROM items WHERE id = ?2), ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state,
             expires_at = excluded.expires_at, body = excluded.body",
            params![
                assignment.id,
                assignment.item,
                annotator,
                state_number(assignment.state),
                assignment.expires_at,
                json(assignment)
            ],
        )
    }

    /// The number of an annotator, who is entered where unknown.
    fn annotator(&mut self, name: &str) -> Result<i64, StoreError> {
        let sql = "SELECT number FROM annotators WHERE name = ?1";
        if let Some(number) = self.row(sql, [name], |row| row.get(0))? {
            return Ok(number);
        }
        self.execute("INSERT INTO annotators (name) VALUES (?1)", [name])?;
        Ok(self.connection.last_insert_rowid())
    }
}

pub(super) fn state_number(state: AssignmentState) -> i64 {
    match state {
        AssignmentState::Live => 0,
        AssignmentState::Judged => 1,
        AssignmentState::Skipped => 2,
    }
}

impl Home for SqliteHome {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.rollback();
        self.written = 0;
        self.run("BEGIN IMMEDIATE")
    }

    fn facts(&mut self, _writes: &[StoreWrite<'_>]) -> Result<Box<dyn Facts + '_>, StoreError> {
        Ok(Box::new(Statements::new(self)))
    }

    fn flush(&mut self, changes: LedgerChanges) -> Result<(), StoreError> {
        self.written += changes.len();
        Statements::new(self).write(&changes)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.run("COMMIT")?;
        self.checkpointer.committed(self.written);
        Ok(())
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // A rollback that fails has been done by SQLite itself, or is done when it recovers.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}

impl Statements<'_> {
    fn write(&mut self, changes: &LedgerChanges) -> Result<(), StoreError> {
        for ((kind, key), document) in &changes.documents {
            match document {
                Some(it) => self.execute(
                    "INSERT OR REPLACE INTO documents (kind, key, version, body)
                     VALUES (?1, ?2, ?3, ?4)",
                    params![kind, key, signed(it.version), json(&it.body)],
                )?,
                None => self.execute(
                    "DELETE FROM documents WHERE kind = ?1 AND key = ?2",
                    params![kind, key],
                )?,
            }
        }
        changes.items.iter().try_for_each(|item| self.add_item(item))?;
        changes.assignments.iter().try_for_each(|it| self.put_assignment(it))?;
        changes.judgements.iter().try_for_each(|it| self.add_judgement(it))?;
        changes.events.iter().try_for_each(|event| {
            self.execute(
                "INSERT INTO events (place, body) VALUES (?1, ?2)",
                params![signed(event.place), json(&event.record)],
            )
        })
    }
}

impl Facts for Statements<'_> {
    fn places(&mut self) -> Result<Places, StoreError> {
        let sql = "SELECT coalesce((SELECT max(place) FROM items), 0),
                   coalesce((SELECT max(place) FROM judgements), 0),
                   coalesce((SELECT max(place) FROM events), 0)";
        let places = self.row(sql, [], |row| {
            Ok(Places {
                items: unsigned(row, 0)?,
                judgements: unsigned(row, 1)?,
                events: unsigned(row, 2)?,
            })
        })?;
        Ok(places.unwrap_or_default())
    }

    fn item(&mut self, id: &str) -> Result<Option<Known>, StoreError> {
        let sql = "SELECT hash, body FROM items JOIN item_bodies USING (place) WHERE id = ?1";
        let found: Option<(String, String)> =
            self.row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.map(|(hash, body)| Ok(Known { item: self.parse("item", &body)?, hash })).transpose()
    }

    fn seats(&mut self, item: &str) -> Result<Option<Seats>, StoreError> {
        let sql = "SELECT place, judged FROM items WHERE id = ?1";
        let found = self.row(sql, [item], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        let Some((place, judged)) = found else { return Ok(None) };
        let sql = "SELECT name, expires_at FROM assignments
                   JOIN annotators ON annotators.number = annotator
                   WHERE item = ?1 AND state = 0";
        let holds = self.with(sql, |statement| {
            statement.query_map([place], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        Ok(Some(Seats { judged, holds }))
    }

    fn has_judged(&mut self, item: &str, annotator: &str) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM judgements WHERE item = (SELECT place FROM items WHERE id = ?1)
                   AND annotator = (SELECT number FROM annotators WHERE name = ?2) LIMIT 1";
        Ok(self.row(sql, [item, annotator], |_| Ok(()))?.is_some())
    }

    fn judgement(&mut self, id: &str) -> Result<Option<Placed<Judgement>>, StoreError> {
        let sql = "SELECT place, body FROM judgements WHERE id = ?1";
        let found: Option<(u64, String)> =
            self.row(sql, [id], |row| Ok((unsigned(row, 0)?, row.get(1)?)))?;
        let place = |(place, body): (u64, String)| {
            Ok(Placed { place, record: self.parse("judgement", &body)? })
        };
        found.map(place).transpose()
    }

    fn reviser(&mut self, id: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT id FROM judgements
                   WHERE revises = (SELECT place FROM judgements WHERE id = ?1)";
        self.row(sql, [id], |row| row.get(0))
    }

    fn assignment(&mut self, id: &str) -> Result<Option<Assignment>, StoreError> {
        let sql = "SELECT body FROM assignments WHERE id = ?1";
        let found: Option<String> = self.row(sql, [id], |row| row.get(0))?;
        found.map(|body| self.parse("assignment", &body)).transpose()
    }

    fn assignment_of(
        &mut self,
        item: &str,
        annotator: &str,
    ) -> Result<Option<Assignment>, StoreError> {
        let sql =
            "SELECT body FROM assignments WHERE item = (SELECT place FROM items WHERE id = ?1)
                   AND annotator = (SELECT number FROM annotators WHERE name = ?2)";
        let found: Option<String> = self.row(sql, [item, annotator], |row| row.get(0))?;
        found.map(|body| self.parse("assignment", &body)).transpose()
    }

    fn document(&mut self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        let sql = "SELECT version, body FROM documents WHERE kind = ?1 AND key = ?2";
        let found: Option<(u64, String)> =
            self.row(sql, [kind, key], |row| Ok((unsigned(row, 0)?, row.get(1)?)))?;
        let document = |(version, body): (u64, String)| {
            let body = self.parse("document", &body)?;
            Ok(Document { kind: kind.into(), key: key.into(), version, body })
        };
        found.map(document).transpose()
    }
}
