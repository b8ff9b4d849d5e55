//! What a served model wrote and what its users said of it, put together when all lines are read: what is said of a completion may
//! stand in another file.

use serde_json::Value;

use super::error::FormatError;
use super::import::{Collector, FormatReader};
use crate::bad_record::BadRecord;
use crate::content::{Content, Message, Role};
use crate::feedback::served::{ServedLine, ServedLog};
use crate::report::ReadError;
use crate::row::Row;
use crate::source::Source;

/// The lines of all files, until the last is read.
#[derive(Default)]
pub(super) struct Served {
    log: ServedLog,
    last: Option<Source>,
}

impl FormatReader for Served {
    fn row(&mut self, row: &Row<'_>, _: &mut Collector<'_>) -> Result<(), BadRecord> {
        let line = ServedLine::of(Value::Object(row.columns().clone()));
        self.log.add(line.map_err(|what| BadRecord::Unfit { what })?);
        self.last = Some(row.source());
        Ok(())
    }

    fn finish(&mut self, into: &mut Collector<'_>) -> Result<(), FormatError> {
        let at = self.last.clone();
        let bad = |reason| {
            let at = at.clone().expect("what is said was read");
            FormatError::from(ReadError::Bad { at, reason })
        };
        for (item, judgement) in self.log.judgements() {
            into.item(item).map_err(bad)?;
            into.judgement(judgement).map_err(bad)?;
        }
        let without = self.log.feedback().iter().filter(|one| self.log.answer(&one.of).is_none());
        for _ in without {
            into.leave_out("feedback on an answer that is not in the files");
        }
        for prompt in self.log.prompts() {
            into.prompt(match prompt {
                Content::Messages(messages) => messages,
                Content::Text(text) => vec![Message::new(Role::User, text)],
                Content::Ids(_) => continue,
            });
        }
        Ok(())
    }
}
