//! The schema of the database and its migrations.

use super::address::Address;
use super::session::{PostgresSession, Purpose, problem};
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
pub(super) fn prepare(address: &Address, create: Create) -> Result<PostgresSession, StoreError> {
    upgrade(address, create, &MIGRATIONS)
}

/// Whole, or not at all where a step fails or the process ends.
fn upgrade(
    address: &Address,
    create: Create,
    migrations: &[&str],
) -> Result<PostgresSession, StoreError> {
    let home = &address.shown;
    let mut session = PostgresSession::connect(address, Purpose::Write)?;
    let known = i64::try_from(migrations.len()).expect("a handful of migrations");
    let found = version(home, &mut session)?;
    if found == 0 && create == Create::No {
        return Err(StoreError::Missing { home: home.clone() });
    }
    if found > known {
        return Err(StoreError::TooNew { home: home.clone(), found, known });
    }
    if found < known {
        migrate(home, &mut session, migrations)?;
    }
    Ok(session)
}

fn version(home: &str, session: &mut PostgresSession) -> Result<i64, StoreError> {
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

fn migrate(
    home: &str,
    session: &mut PostgresSession,
    migrations: &[&str],
) -> Result<(), StoreError> {
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
    for (schema, migration) in (1_i64..).zip(migrations).filter(|(schema, _)| *schema > found) {
        session.run(migration).map_err(failed)?;
        session
            .run(&format!("UPDATE hearken.schema_version SET version = {schema}"))
            .map_err(failed)?;
    }
    session.run("COMMIT").map_err(failed)
}

#[cfg(test)]
#[path = "../../tests/support/postgres_server.rs"]
mod postgres_server;

#[cfg(test)]
mod tests {
    use hearken_data::feedback::{Candidate, Item, Task};

    use super::postgres_server::PostgresServer;
    use super::*;

    const SECOND: &str = "ALTER TABLE hearken.items ADD COLUMN note text NOT NULL DEFAULT 'none'";
    const BROKEN: &str = "ALTER TABLE hearken.items ADD COLUMN other text;
                          ALTER TABLE hearken.nowhere ADD COLUMN x text";

    fn columns(session: &mut PostgresSession, name: &str) -> i64 {
        let sql = "SELECT count(*) FROM information_schema.columns
                   WHERE table_schema = 'hearken' AND table_name = 'items' AND column_name = $1";
        session.query(sql, &[&name]).unwrap()[0].get(0)
    }

    #[test]
    fn an_upgrade_is_whole_or_leaves_the_store_as_it_was() {
        let Some(server) = PostgresServer::start() else { return };
        let url = server.new_database("upgraded");
        let candidates = vec![Candidate::text("a"), Candidate::text("b")];
        let items = [Item::new(Task::Pairwise, vec![], candidates)];
        crate::open(&url).unwrap().add_items(&items).unwrap();
        let address = Address::parse(&url).unwrap();

        // The second step succeeds, the third fails in its middle.
        let broken = upgrade(&address, Create::No, &[MIGRATIONS[0], SECOND, BROKEN]);
        let error = broken.err().unwrap().to_string();
        assert!(error.contains("nowhere"), "{error}");
        let mut session = prepare(&address, Create::No).unwrap();
        assert_eq!(version(&address.shown, &mut session).unwrap(), 1);
        assert_eq!(["note", "other"].map(|name| columns(&mut session, name)), [0, 0]);
        assert_eq!(crate::open(&url).unwrap().counts().unwrap().items, 1);

        for _ in 0..2 {
            let mut session = upgrade(&address, Create::No, &[MIGRATIONS[0], SECOND]).unwrap();
            assert_eq!(version(&address.shown, &mut session).unwrap(), 2);
            assert_eq!(columns(&mut session, "note"), 1);
            let rows = session.query("SELECT note FROM hearken.items", &[]).unwrap();
            assert_eq!((rows.len(), rows[0].get::<_, String>(0)), (1, "none".to_owned()));
        }
        let error = crate::open(&url).err().unwrap();
        assert!(matches!(error, StoreError::TooNew { found: 2, known: 1, .. }), "{error}");
    }
}
