//! Connections to the server.

use std::collections::HashMap;
use std::error::Error as _;

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, NoTls, Row, RowIter, Statement};

use super::address::Address;
use crate::error::StoreError;

/// How long a transaction waits for those of other processes.
const LOCK_SECONDS: u32 = 30;

pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// A connection with its prepared statements.
pub(super) struct PostgresSession {
    client: Client,
    statements: HashMap<&'static str, Statement>,
}

impl PostgresSession {
    pub(super) fn connect(address: &Address, purpose: Purpose) -> Result<Self, StoreError> {
        let connect = || {
            let mut client = address.config.connect(NoTls)?;
            client.batch_execute(&settings(purpose))?;
            Ok(Self { client, statements: HashMap::new() })
        };
        connect().map_err(|error| problem(&address.shown, &error))
    }

    fn prepare(&mut self, sql: &'static str) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    pub(super) fn query(
        &mut self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, postgres::Error> {
        let statement = self.prepare(sql)?;
        self.client.query(&statement, parameters)
    }

    /// The number of rows that were written.
    pub(super) fn execute(
        &mut self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<u64, postgres::Error> {
        let statement = self.prepare(sql)?;
        self.client.execute(&statement, parameters)
    }

    /// The rows of a query one by one.
    pub(super) fn stream(&mut self, sql: &'static str) -> Result<RowIter<'_>, postgres::Error> {
        self.client.query_raw(sql, std::iter::empty::<i64>())
    }

    pub(super) fn run(&mut self, sql: &str) -> Result<(), postgres::Error> {
        self.client.batch_execute(sql)
    }
}

/// Settings of a connection. What the writer looks up it looks up by key: scans, which a planner
/// without statistics prefers, are ruled out, and lists of thousands of keys are not looked at to make
/// a plan.
fn settings(purpose: Purpose) -> String {
    let purpose = match purpose {
        Purpose::Read => "SET default_transaction_read_only = on;",
        Purpose::Write => {
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
             SET plan_cache_mode = force_generic_plan;"
        }
    };
    format!(
        "SET synchronous_commit = on; SET lock_timeout = '{LOCK_SECONDS}s'; \
         SET standard_conforming_strings = on; SET client_min_messages = warning; SET jit = off; \
         {purpose}"
    )
}

/// Whether the connection is of no use any more: the server has gone, or ends it.
pub(super) fn is_lost(error: &postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW]
                .contains(code)
        }
        None => true,
    }
}

/// What the server or the connection says, as an error of the home.
pub(super) fn problem(home: &str, error: &postgres::Error) -> StoreError {
    let Some(said) = error.as_db_error() else {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        return StoreError::unavailable(
            home,
            &format!("the PostgreSQL server cannot be reached ({error}{cause}); is it running?"),
        );
    };
    let code = said.code();
    let message = said.message();
    let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED {
        return StoreError::corrupt(home, &format!("the server says: {message}{detail}"));
    }
    let problem = if *code == SqlState::DISK_FULL {
        "the disk of the server is full; nothing of this request was stored; make room and try \
         again"
            .to_owned()
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        format!("another process has kept the store locked for {LOCK_SECONDS} s")
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        format!("{message}: make it with `createdb`")
    } else if is_lost(error) {
        format!("the PostgreSQL server is stopping or starting: {message}")
    } else {
        format!("the PostgreSQL server says: {message}{detail}")
    };
    StoreError::unavailable(home, &problem)
}
