//! The schema of the database and its migrations.

use super::address::Address;
use super::session::{Purpose, Session, problem};
use crate::error::StoreError;
use crate::sqlite::Create;

/// The lock under which one process at a time writes. Such locks belong to a database.
pub(super) const WRITE_LOCK: i64 = 0x4845_4152_4b45_4e01;

/// The lock under which one process at a time migrates.
const MIGRATION_LOCK: i64 = 0x4845_4152_4b45_4e02;

/// The migrations: the first makes schema 1, each further one the next schema. One that has been
/// released never changes.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Brings the schema up to date, and makes it where there is none.
pub(super) fn prepare(address: &Address, create: Create) -> Result<Session, StoreError> {
    let home = &address.shown;
    let mut session = Session::connect(address, Purpose::Write)?;
    let known = i64::try_from(MIGRATIONS.len()).expect("a handful of migrations");
    let found = version(home, &mut session)?;
    if found == 0 && create == Create::No {
        return Err(StoreError::Missing { home: home.clone() });
    }
    if found > known {
        return Err(StoreError::TooNew { home: home.clone(), found, known });
    }
    if found < known {
        migrate(home, &mut session)?;
    }
    Ok(session)
}

fn version(home: &str, session: &mut Session) -> Result<i64, StoreError> {
    let mut read = || {
        let sql = "SELECT to_regclass('hearken.schema_version') IS NOT NULL";
        match session.query(sql, &[])?[0].get(0) {
            true => {
                let rows = session.query("SELECT version FROM hearken.schema_version", &[])?;
                Ok(rows.first().map_or(0, |row| row.get(0)))
            }
            false => Ok(0),
        }
    };
    read().map_err(|error| problem(home, &error))
}

fn migrate(home: &str, session: &mut Session) -> Result<(), StoreError> {
    let failed = |error| problem(home, &error);
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({MIGRATION_LOCK});");
    session.run(&begin).map_err(failed)?;
    // Another process may have been faster.
    let found = version(home, session)?;
    if found == 0 {
        let sql = "CREATE SCHEMA IF NOT EXISTS hearken;
                   CREATE TABLE hearken.schema_version (version bigint NOT NULL);
                   INSERT INTO hearken.schema_version VALUES (0);";
        session.run(sql).map_err(failed)?;
    }
    for (schema, migration) in (1_i64..).zip(MIGRATIONS).filter(|(schema, _)| *schema > found) {
        session.run(migration).map_err(failed)?;
        session
            .run(&format!("UPDATE hearken.schema_version SET version = {schema}"))
            .map_err(failed)?;
    }
    session.run("COMMIT").map_err(failed)
}
