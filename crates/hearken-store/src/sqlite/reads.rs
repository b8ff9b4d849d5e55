//! The side that reads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hearken_data::feedback::{Item, Judgement};
use rusqlite::{Connection, Params, Row, params};
use serde::de::DeserializeOwned;

use super::connect::{open_reader, open_writer, problem};
use super::{signed, unsigned};
use crate::error::StoreError;
use crate::kept::StoreReads;
use crate::record::{Assignment, Counts, Document, Event, Placed, Record, Taken};
use crate::store::Sink;

/// Connections that are kept open while nobody reads.
const IDLE_MAX: usize = 8;

/// Connections to read with, as many as callers read at the same time.
pub(crate) struct SqliteReads {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteReads {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), idle: Mutex::new(Vec::new()) }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Runs `read` on an idle connection, or a new one.
    fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let result = read(&connection);
        let mut idle = idle();
        if idle.len() < IDLE_MAX && connection.is_autocommit() {
            idle.push(connection);
        }
        result
    }

    /// The rows of a query, each read by `read`.
    fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.with(|connection| {
            let run = || {
                let mut statement = connection.prepare(sql)?;
                statement.query_map(params, read)?.collect::<rusqlite::Result<_>>()
            };
            run().map_err(|error| problem(&self.name(), &error))
        })
    }

    /// The first row of a query.
    fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.rows(sql, params, read)?.into_iter().next())
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, body: &str) -> Result<T, StoreError> {
        super::parse(&self.name(), what, body)
    }

    /// The rows of a query of one column, parsed.
    fn bodies<T: DeserializeOwned>(
        &self,
        what: &str,
        sql: &str,
        params: impl Params,
    ) -> Result<Vec<T>, StoreError> {
        let bodies: Vec<String> = self.rows(sql, params, |row| row.get(0))?;
        bodies.iter().map(|body| self.parse(what, body)).collect()
    }

    /// The rows of a query of place and body, parsed.
    fn page<T: DeserializeOwned>(
        &self,
        what: &str,
        sql: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Placed<T>>, StoreError> {
        let params = [signed(after), signed(limit as u64)];
        let rows: Vec<(u64, String)> =
            self.rows(sql, params, |row| Ok((unsigned(row, 0)?, row.get(1)?)))?;
        let parse =
            |(place, body): (u64, String)| Ok(Placed { place, record: self.parse(what, &body)? });
        rows.into_iter().map(parse).collect()
    }
}

impl StoreReads for SqliteReads {
    fn home(&self) -> String {
        self.name()
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let sql = "SELECT (SELECT count(*) FROM items), coalesce(sum(judgements), 0), count(*)
                   FROM annotators WHERE judgements > 0";
        let counts = self.row(sql, [], |row| {
            Ok(Counts {
                items: unsigned(row, 0)?,
                judgements: unsigned(row, 1)?,
                annotators: unsigned(row, 2)?,
            })
        })?;
        Ok(counts.unwrap_or_default())
    }

    fn item(&self, id: &str) -> Result<Option<Item>, StoreError> {
        let sql = "SELECT body FROM items JOIN item_bodies USING (place) WHERE id = ?1";
        Ok(self.bodies("item", sql, [id])?.pop())
    }

    fn items(&self, after: u64, limit: usize) -> Result<Vec<Placed<Item>>, StoreError> {
        let sql = "SELECT place, body FROM item_bodies WHERE place > ?1 ORDER BY place LIMIT ?2";
        self.page("item", sql, after, limit)
    }

    fn judgements(&self, after: u64, limit: usize) -> Result<Vec<Placed<Judgement>>, StoreError> {
        let sql = "SELECT place, body FROM judgements WHERE place > ?1 ORDER BY place LIMIT ?2";
        self.page("judgement", sql, after, limit)
    }

    fn judgement(&self, id: &str) -> Result<Option<Judgement>, StoreError> {
        Ok(self.bodies("judgement", "SELECT body FROM judgements WHERE id = ?1", [id])?.pop())
    }

    fn judgements_of(&self, item: &str) -> Result<Vec<Judgement>, StoreError> {
        let sql = "SELECT body FROM judgements
                   WHERE item = (SELECT place FROM items WHERE id = ?1) ORDER BY place";
        self.bodies("judgement", sql, [item])
    }

    fn skipped(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "SELECT name, count(*) FROM assignments JOIN annotators ON annotator = annotators.number
                   WHERE state = 2 GROUP BY name ORDER BY name";
        self.rows(sql, [], |row| Ok((row.get(0)?, unsigned(row, 1)?)))
    }

    fn judgements_by(&self, annotator: &str, limit: usize) -> Result<Vec<Judgement>, StoreError> {
        let sql = "SELECT body FROM judgements
                   WHERE annotator = (SELECT number FROM annotators WHERE name = ?1)
                   ORDER BY place DESC LIMIT ?2";
        self.bodies("judgement", sql, params![annotator, signed(limit as u64)])
    }

    fn assignment(&self, id: &str) -> Result<Option<Assignment>, StoreError> {
        Ok(self.bodies("assignment", "SELECT body FROM assignments WHERE id = ?1", [id])?.pop())
    }

    fn live_assignments(&self, annotator: &str, now: i64) -> Result<Vec<Assignment>, StoreError> {
        let sql = "SELECT body FROM assignments
                   WHERE annotator = (SELECT number FROM annotators WHERE name = ?1)
                   AND state = 0 AND expires_at > ?2 ORDER BY number";
        let mut live: Vec<Assignment> = self.bodies("assignment", sql, params![annotator, now])?;
        live.sort_by_key(|assignment| assignment.granted_at);
        Ok(live)
    }

    fn taken(&self, now: i64) -> Result<Vec<Taken>, StoreError> {
        let sql = "SELECT id, judged, coalesce(held, 0) FROM items LEFT JOIN
                   (SELECT item, count(*) AS held FROM assignments
                    WHERE state = 0 AND expires_at > ?1 GROUP BY item) AS holds ON item = place
                   WHERE judged > 0 OR held > 0 ORDER BY place";
        self.rows(sql, [now], |row| {
            Ok(Taken { item: row.get(0)?, judged: row.get(1)?, held: row.get(2)? })
        })
    }

    fn seen_at(&self, annotator: &str, now: i64) -> Result<Vec<String>, StoreError> {
        let sql = "WITH who AS (SELECT number FROM annotators WHERE name = ?1)
                   SELECT id FROM items WHERE place IN (
                       SELECT item FROM judgements WHERE annotator = (SELECT number FROM who)
                       UNION
                       SELECT item FROM assignments WHERE annotator = (SELECT number FROM who)
                       AND (state <> 0 OR expires_at > ?2)) ORDER BY place";
        self.rows(sql, params![annotator, now], |row| row.get(0))
    }

    fn document(&self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        let sql = "SELECT version, body FROM documents WHERE kind = ?1 AND key = ?2";
        let found: Option<(u64, String)> =
            self.row(sql, [kind, key], |row| Ok((unsigned(row, 0)?, row.get(1)?)))?;
        let document = |(version, body): (u64, String)| {
            let body = self.parse("document", &body)?;
            Ok(Document { kind: kind.into(), key: key.into(), version, body })
        };
        found.map(document).transpose()
    }

    fn documents(&self, kind: &str) -> Result<Vec<Document>, StoreError> {
        let sql = "SELECT key, version, body FROM documents WHERE kind = ?1 ORDER BY key";
        let rows: Vec<(String, u64, String)> =
            self.rows(sql, [kind], |row| Ok((row.get(0)?, unsigned(row, 1)?, row.get(2)?)))?;
        let document = |(key, version, body): (String, u64, String)| {
            let body = self.parse("document", &body)?;
            Ok(Document { kind: kind.into(), key, version, body })
        };
        rows.into_iter().map(document).collect()
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Placed<Event>>, StoreError> {
        let sql = "SELECT place, body FROM events WHERE place > ?1 ORDER BY place LIMIT ?2";
        self.page("event", sql, after, limit)
    }

    fn export(&self, sink: &mut Sink<'_>) -> Result<(), StoreError> {
        self.with(|connection| {
            // The first query fixes what every later one of the transaction sees.
            let transaction =
                connection.unchecked_transaction().map_err(|it| problem(&self.name(), &it))?;
            self.export_all(&transaction, sink)
        })
    }

    fn backup_whole(&self, to: &Path) -> Result<bool, StoreError> {
        let name = to.to_str().ok_or_else(|| {
            StoreError::unavailable(&to.display().to_string(), "its name is not valid Unicode")
        })?;
        // The connections of the pool write nothing, not even another file.
        let connection = open_writer(&self.path)?;
        connection.execute("VACUUM INTO ?1", [name]).map_err(|error| problem(name, &error))?;
        Ok(true)
    }
}

impl SqliteReads {
    fn export_all(&self, from: &Connection, sink: &mut Sink<'_>) -> Result<(), StoreError> {
        let documents = "SELECT kind, key, version, body FROM documents ORDER BY kind, key";
        self.each(from, documents, |row| {
            let (kind, key) = (row.get(0)?, row.get(1)?);
            let (version, body): (u64, String) = (unsigned(row, 2)?, row.get(3)?);
            Ok(self
                .parse("document", &body)
                .and_then(|body| sink(Record::Document(Document { kind, key, version, body }))))
        })?;
        let items = "SELECT body FROM item_bodies ORDER BY place";
        self.each_body(from, "item", items, |it| sink(Record::Item(it)))?;
        let assignments = "SELECT body FROM assignments ORDER BY number";
        self.each_body(from, "assignment", assignments, |it| sink(Record::Assignment(it)))?;
        let judgements = "SELECT body FROM judgements ORDER BY place";
        self.each_body(from, "judgement", judgements, |it| sink(Record::Judgement(it)))?;
        let events = "SELECT body FROM events ORDER BY place";
        self.each_body(from, "event", events, |it| sink(Record::Event(it)))
    }

    fn each_body<T: DeserializeOwned>(
        &self,
        from: &Connection,
        what: &str,
        sql: &str,
        mut take: impl FnMut(T) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each(from, sql, |row| {
            let body: String = row.get(0)?;
            Ok(self.parse(what, &body).and_then(&mut take))
        })
    }

    /// Goes through the rows one by one, without holding them all.
    fn each(
        &self,
        from: &Connection,
        sql: &str,
        mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let failed = |error: rusqlite::Error| problem(&self.name(), &error);
        let mut statement = from.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            take(row).map_err(failed)??;
        }
        Ok(())
    }
}
