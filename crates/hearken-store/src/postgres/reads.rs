//! The side that reads.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use hearken_data::feedback::{Item, Judgement};
use postgres::Row;
use postgres::fallible_iterator::FallibleIterator;
use serde::de::DeserializeOwned;

use super::address::Address;
use super::session::{Parameters, PostgresSession, Purpose, is_lost, problem};
use super::{document, parse};
use crate::error::StoreError;
use crate::kept::StoreReads;
use crate::record::{Assignment, Counts, Document, Event, Placed, Record, Taken};
use crate::store::Sink;

/// Connections of this process that read.
const SESSIONS_MAX: usize = 8;

/// Connections to read with.
pub(crate) struct PostgresReads {
    address: Address,
    pool: Mutex<ConnectionPool>,
    returned: Condvar,
}

#[derive(Default)]
struct ConnectionPool {
    idle: Vec<PostgresSession>,
    in_use: usize,
}

impl PostgresReads {
    pub(super) fn new(address: Address) -> Self {
        Self { address, pool: Mutex::default(), returned: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` on a connection. One that was lost while idle is replaced once.
    fn with<T>(
        &self,
        mut read: impl FnMut(&mut PostgresSession) -> Result<T, postgres::Error>,
    ) -> Result<T, StoreError> {
        let mut pool = self.lock();
        while pool.idle.is_empty() && pool.in_use >= SESSIONS_MAX {
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        let kept = pool.idle.pop();
        pool.in_use += 1;
        drop(pool);
        let _place = InUse { reads: self };
        if let Some(mut session) = kept {
            match read(&mut session) {
                Err(error) if is_lost(&error) => {
                    // The other idle ones are lost as well.
                    let lost = std::mem::take(&mut self.lock().idle);
                    drop(lost);
                }
                Err(error) => return Err(self.give_back(session, &error)),
                Ok(result) => {
                    self.lock().idle.push(session);
                    return Ok(result);
                }
            }
        }
        let mut session = PostgresSession::connect(&self.address, Purpose::Read)?;
        match read(&mut session) {
            Ok(result) => {
                self.lock().idle.push(session);
                Ok(result)
            }
            Err(error) => Err(self.give_back(session, &error)),
        }
    }

    /// Keeps a connection on which a query has failed, unless it was lost.
    fn give_back(&self, mut session: PostgresSession, error: &postgres::Error) -> StoreError {
        if !is_lost(error) && session.run("ROLLBACK").is_ok() {
            self.lock().idle.push(session);
        }
        problem(&self.address.shown, error)
    }

    fn rows(&self, sql: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        self.with(|session| session.query(sql, parameters))
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, body: &str) -> Result<T, StoreError> {
        parse(&self.address.shown, what, body)
    }

    /// The rows of a query of one column, parsed.
    fn bodies<T: DeserializeOwned>(
        &self,
        what: &str,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<T>, StoreError> {
        self.rows(sql, parameters)?.iter().map(|row| self.parse(what, row.get(0))).collect()
    }

    /// The rows of a query of place and body, parsed.
    fn page<T: DeserializeOwned>(
        &self,
        what: &str,
        sql: &'static str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Placed<T>>, StoreError> {
        let rows = self.rows(sql, &[&signed(after), &signed(limit as u64)])?;
        let placed = |row: &Row| {
            let place = row.get::<_, i64>(0).unsigned_abs();
            Ok(Placed { place, record: self.parse(what, row.get(1))? })
        };
        rows.iter().map(placed).collect()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A connection in use; gives its place free at the end, whatever happens.
struct InUse<'a> {
    reads: &'a PostgresReads,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.reads.lock().in_use -= 1;
        self.reads.returned.notify_one();
    }
}

/// As for the connection that writes: a thread of its own closes the connections.
impl Drop for PostgresReads {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut self.lock().idle);
        let _ = std::thread::spawn(move || drop(idle)).join();
    }
}

impl StoreReads for PostgresReads {
    fn home(&self) -> String {
        self.address.shown.clone()
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let sql = "SELECT (SELECT count(*) FROM hearken.items),
                   coalesce(sum(judgements), 0)::bigint, count(*)
                   FROM hearken.annotators WHERE judgements > 0";
        let rows = self.rows(sql, &[])?;
        let count = |column| rows[0].get::<_, i64>(column).unsigned_abs();
        Ok(Counts { items: count(0), judgements: count(1), annotators: count(2) })
    }

    fn item(&self, id: &str) -> Result<Option<Item>, StoreError> {
        let sql = "SELECT body FROM hearken.item_bodies
                   WHERE place = (SELECT place FROM hearken.items WHERE id = $1)";
        Ok(self.bodies("item", sql, &[&id])?.pop())
    }

    fn items(&self, after: u64, limit: usize) -> Result<Vec<Placed<Item>>, StoreError> {
        let sql = "SELECT place, body FROM hearken.item_bodies
                   WHERE place > $1 ORDER BY place LIMIT $2";
        self.page("item", sql, after, limit)
    }

    fn judgements(&self, after: u64, limit: usize) -> Result<Vec<Placed<Judgement>>, StoreError> {
        let sql = "SELECT place, body FROM hearken.judgements
                   WHERE place > $1 ORDER BY place LIMIT $2";
        self.page("judgement", sql, after, limit)
    }

    fn judgement(&self, id: &str) -> Result<Option<Judgement>, StoreError> {
        let sql = "SELECT body FROM hearken.judgements WHERE id = $1";
        Ok(self.bodies("judgement", sql, &[&id])?.pop())
    }

    fn judgements_of(&self, item: &str) -> Result<Vec<Judgement>, StoreError> {
        let sql = "SELECT body FROM hearken.judgements
                   WHERE item = (SELECT place FROM hearken.items WHERE id = $1) ORDER BY place";
        self.bodies("judgement", sql, &[&item])
    }

    fn skipped(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "SELECT name, count(*) FROM hearken.assignments AS one
                   JOIN hearken.annotators AS who ON one.annotator = who.number
                   WHERE state = 2 GROUP BY name ORDER BY name";
        let skipped = |row: &Row| (row.get(0), row.get::<_, i64>(1).unsigned_abs());
        Ok(self.rows(sql, &[])?.iter().map(skipped).collect())
    }

    fn judgements_by(&self, annotator: &str, limit: usize) -> Result<Vec<Judgement>, StoreError> {
        let sql = "SELECT body FROM hearken.judgements
                   WHERE annotator = (SELECT number FROM hearken.annotators WHERE name = $1)
                   ORDER BY place DESC LIMIT $2";
        self.bodies("judgement", sql, &[&annotator, &signed(limit as u64)])
    }

    fn assignment(&self, id: &str) -> Result<Option<Assignment>, StoreError> {
        let sql = "SELECT body FROM hearken.assignments WHERE id = $1";
        Ok(self.bodies("assignment", sql, &[&id])?.pop())
    }

    fn live_assignments(&self, annotator: &str, now: i64) -> Result<Vec<Assignment>, StoreError> {
        let sql = "SELECT body FROM hearken.assignments
                   WHERE annotator = (SELECT number FROM hearken.annotators WHERE name = $1)
                   AND state = 0 AND expires_at > $2 ORDER BY number";
        let mut live: Vec<Assignment> = self.bodies("assignment", sql, &[&annotator, &now])?;
        live.sort_by_key(|assignment| assignment.granted_at);
        Ok(live)
    }

    fn taken(&self, now: i64) -> Result<Vec<Taken>, StoreError> {
        let sql = "SELECT id, judged, coalesce(held, 0) FROM hearken.items LEFT JOIN
                   (SELECT item, count(*) AS held FROM hearken.assignments
                    WHERE state = 0 AND expires_at > $1 GROUP BY item) AS holds ON item = place
                   WHERE judged > 0 OR held > 0 ORDER BY place";
        let taken = |row: &Row| Taken {
            item: row.get(0),
            judged: row.get::<_, i32>(1).unsigned_abs(),
            held: u32::try_from(row.get::<_, i64>(2)).unwrap_or(u32::MAX),
        };
        Ok(self.rows(sql, &[&now])?.iter().map(taken).collect())
    }

    fn seen_at(&self, annotator: &str, now: i64) -> Result<Vec<String>, StoreError> {
        let sql = "WITH who AS (SELECT number FROM hearken.annotators WHERE name = $1)
                   SELECT id FROM hearken.items WHERE place IN (
                       SELECT item FROM hearken.judgements
                       WHERE annotator = (SELECT number FROM who)
                       UNION
                       SELECT item FROM hearken.assignments
                       WHERE annotator = (SELECT number FROM who)
                       AND (state <> 0 OR expires_at > $2)) ORDER BY place";
        Ok(self.rows(sql, &[&annotator, &now])?.iter().map(|row| row.get(0)).collect())
    }

    fn document(&self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        let sql = "SELECT kind, key, version, body FROM hearken.documents
                   WHERE kind = $1 AND key = $2";
        let rows = self.rows(sql, &[&kind, &key])?;
        rows.first().map(|row| document(&self.address.shown, row)).transpose()
    }

    fn documents(&self, kind: &str) -> Result<Vec<Document>, StoreError> {
        let sql = "SELECT kind, key, version, body FROM hearken.documents
                   WHERE kind = $1 ORDER BY key";
        let rows = self.rows(sql, &[&kind])?;
        rows.iter().map(|row| document(&self.address.shown, row)).collect()
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Placed<Event>>, StoreError> {
        let sql = "SELECT place, body FROM hearken.events
                   WHERE place > $1 ORDER BY place LIMIT $2";
        self.page("event", sql, after, limit)
    }

    fn export(&self, sink: &mut Sink<'_>) -> Result<(), StoreError> {
        // Outside the pool: it may take long, and an error leaves it in an unknown state.
        let mut session = PostgresSession::connect(&self.address, Purpose::Read)?;
        let exported = self.export_all(&mut session, sink);
        drop(session);
        exported
    }
}

impl PostgresReads {
    fn export_all(
        &self,
        session: &mut PostgresSession,
        sink: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let home = &self.address.shown;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        session.run(begin).map_err(|error| problem(home, &error))?;
        let documents = "SELECT kind, key, version, body FROM hearken.documents ORDER BY kind, key";
        self.each(session, documents, |row| sink(Record::Document(document(home, row)?)))?;
        let items = "SELECT body FROM hearken.item_bodies ORDER BY place";
        self.each(session, items, |row| sink(Record::Item(self.parse("item", row.get(0))?)))?;
        let assignments = "SELECT body FROM hearken.assignments ORDER BY number";
        self.each(session, assignments, |row| {
            sink(Record::Assignment(self.parse("assignment", row.get(0))?))
        })?;
        let judgements = "SELECT body FROM hearken.judgements ORDER BY place";
        self.each(session, judgements, |row| {
            sink(Record::Judgement(self.parse("judgement", row.get(0))?))
        })?;
        let events = "SELECT body FROM hearken.events ORDER BY place";
        self.each(session, events, |row| sink(Record::Event(self.parse("event", row.get(0))?)))?;
        session.run("COMMIT").map_err(|error| problem(home, &error))
    }

    /// Goes through the rows one by one, without holding them all.
    fn each(
        &self,
        session: &mut PostgresSession,
        sql: &'static str,
        mut take: impl FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed = |error| problem(&self.address.shown, &error);
        let mut rows = session.stream(sql).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            take(&row)?;
        }
        Ok(())
    }
}
