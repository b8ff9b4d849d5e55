//! A store made of two halves: one that reads, one that writes.

use std::borrow::Cow;
use std::path::Path;

use hearken_data::feedback::{Item, Judgement};
use serde_json::Value;

use crate::error::StoreError;
use crate::record::{
    Added, Assignment, Claim, Claimed, Counts, Document, Event, Expected, Placed, Submitted, Taken,
};
use crate::store::{RestoredRecords, Sink, Store};
use crate::write::{StoreWrite, WriteReply};
use crate::writer::{Home, StoreWriter};

/// Records that are looked up and written together when many are added.
const CHUNK: usize = 5000;

/// The side of a home that reads. The methods are those of [`Store`].
pub(crate) trait StoreReads: Send + Sync {
    fn home(&self) -> String;
    fn counts(&self) -> Result<Counts, StoreError>;
    fn item(&self, id: &str) -> Result<Option<Item>, StoreError>;
    fn items(&self, after: u64, limit: usize) -> Result<Vec<Placed<Item>>, StoreError>;
    fn judgements(&self, after: u64, limit: usize) -> Result<Vec<Placed<Judgement>>, StoreError>;
    fn judgement(&self, id: &str) -> Result<Option<Judgement>, StoreError>;
    fn judgements_of(&self, item: &str) -> Result<Vec<Judgement>, StoreError>;
    fn skipped(&self) -> Result<Vec<(String, u64)>, StoreError>;
    fn judgements_by(&self, annotator: &str, limit: usize) -> Result<Vec<Judgement>, StoreError>;
    fn assignment(&self, id: &str) -> Result<Option<Assignment>, StoreError>;
    fn live_assignments(&self, annotator: &str, now: i64) -> Result<Vec<Assignment>, StoreError>;
    fn taken(&self, now: i64) -> Result<Vec<Taken>, StoreError>;
    fn seen_at(&self, annotator: &str, now: i64) -> Result<Vec<String>, StoreError>;
    fn document(&self, kind: &str, key: &str) -> Result<Option<Document>, StoreError>;
    fn documents(&self, kind: &str) -> Result<Vec<Document>, StoreError>;
    fn events(&self, after: u64, limit: usize) -> Result<Vec<Placed<Event>>, StoreError>;
    fn export(&self, sink: &mut Sink<'_>) -> Result<(), StoreError>;
    /// Copies the whole store to a new SQLite file in a faster way than record by record; `false`
    /// where the home has none.
    fn backup_whole(&self, _to: &Path) -> Result<bool, StoreError> {
        Ok(false)
    }
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A store whose requests to write go through one [`StoreWriter`].
pub(crate) struct SharedStore<R, H> {
    pub(crate) reads: R,
    pub(crate) writer: StoreWriter<H>,
}

/// Takes the expected variant out of an answer.
macro_rules! expect_answer {
    ($answer:expr, $variant:path) => {
        match $answer {
            $variant(value) => Ok(value),
            _ => unreachable!("an answer has the variant of its request"),
        }
    };
}

impl<R: StoreReads, H: Home> SharedStore<R, H> {
    /// Adds a list: a single record shares its commit with others, more have one of their own.
    fn add<'a, T: Clone>(
        &self,
        records: &'a [T],
        write: impl Fn(Cow<'a, [T]>) -> StoreWrite<'a>,
        write_one: impl FnOnce(Vec<T>) -> StoreWrite<'static>,
    ) -> Result<Added, StoreError> {
        let answers = match records {
            [] => Vec::new(),
            [one] => vec![self.writer.write(write_one(vec![one.clone()]))?],
            many => {
                let mut chunks = many.chunks(CHUNK).map(|chunk| Ok(write(Cow::Borrowed(chunk))));
                self.writer.write_all(&mut chunks)?
            }
        };
        let mut total = Added::default();
        for answer in answers {
            let added: Added = expect_answer!(answer, WriteReply::Added)?;
            total.added += added.added;
            total.already_there += added.already_there;
        }
        Ok(total)
    }
}

impl<R: StoreReads, H: Home> Store for SharedStore<R, H> {
    fn home(&self) -> String {
        self.reads.home()
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        self.reads.counts()
    }

    fn add_items(&self, items: &[Item]) -> Result<Added, StoreError> {
        self.add(items, StoreWrite::AddItems, |one| StoreWrite::AddItems(Cow::Owned(one)))
    }

    fn item(&self, id: &str) -> Result<Option<Item>, StoreError> {
        self.reads.item(id)
    }

    fn items(&self, after: u64, limit: usize) -> Result<Vec<Placed<Item>>, StoreError> {
        self.reads.items(after, limit)
    }

    fn add_judgements(&self, judgements: &[Judgement]) -> Result<Added, StoreError> {
        self.add(judgements, StoreWrite::AddJudgements, |one| {
            StoreWrite::AddJudgements(Cow::Owned(one))
        })
    }

    fn judgements(&self, after: u64, limit: usize) -> Result<Vec<Placed<Judgement>>, StoreError> {
        self.reads.judgements(after, limit)
    }

    fn judgement(&self, id: &str) -> Result<Option<Judgement>, StoreError> {
        self.reads.judgement(id)
    }

    fn judgements_of(&self, item: &str) -> Result<Vec<Judgement>, StoreError> {
        self.reads.judgements_of(item)
    }

    fn skipped(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.reads.skipped()
    }

    fn judgements_by(&self, annotator: &str, limit: usize) -> Result<Vec<Judgement>, StoreError> {
        self.reads.judgements_by(annotator, limit)
    }

    fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        expect_answer!(self.writer.write(StoreWrite::Claim(claim.clone()))?, WriteReply::Claimed)
    }

    fn assignment(&self, id: &str) -> Result<Option<Assignment>, StoreError> {
        self.reads.assignment(id)
    }

    fn live_assignments(&self, annotator: &str, now: i64) -> Result<Vec<Assignment>, StoreError> {
        self.reads.live_assignments(annotator, now)
    }

    fn renew(&self, assignment: &str, now: i64, expires_at: i64) -> Result<bool, StoreError> {
        let write = StoreWrite::Renew { assignment: assignment.into(), now, expires_at };
        expect_answer!(self.writer.write(write)?, WriteReply::Renewed)
    }

    fn skip(&self, assignment: &str) -> Result<(), StoreError> {
        self.writer.write(StoreWrite::Skip { assignment: assignment.into() }).map(|_| ())
    }

    fn submit(
        &self,
        judgement: &Judgement,
        overlap: u32,
        now: i64,
    ) -> Result<Submitted, StoreError> {
        let write = StoreWrite::Submit { judgement: judgement.clone(), overlap, now };
        expect_answer!(self.writer.write(write)?, WriteReply::Submitted)
    }

    fn taken(&self, now: i64) -> Result<Vec<Taken>, StoreError> {
        self.reads.taken(now)
    }

    fn seen_at(&self, annotator: &str, now: i64) -> Result<Vec<String>, StoreError> {
        self.reads.seen_at(annotator, now)
    }

    fn document(&self, kind: &str, key: &str) -> Result<Option<Document>, StoreError> {
        self.reads.document(kind, key)
    }

    fn documents(&self, kind: &str) -> Result<Vec<Document>, StoreError> {
        self.reads.documents(kind)
    }

    fn put_document(
        &self,
        kind: &str,
        key: &str,
        body: &Value,
        expected: Expected,
    ) -> Result<Option<u64>, StoreError> {
        let (kind, key, body) = (kind.into(), key.into(), body.clone());
        let write = StoreWrite::PutDocument { kind, key, body, expected };
        expect_answer!(self.writer.write(write)?, WriteReply::Version)
    }

    fn delete_document(&self, kind: &str, key: &str) -> Result<bool, StoreError> {
        let write = StoreWrite::DeleteDocument { kind: kind.into(), key: key.into() };
        expect_answer!(self.writer.write(write)?, WriteReply::Deleted)
    }

    fn record(&self, event: &Event) -> Result<(), StoreError> {
        self.writer.write(StoreWrite::Record(event.clone())).map(|_| ())
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Placed<Event>>, StoreError> {
        self.reads.events(after, limit)
    }

    fn backup_whole(&self, to: &Path) -> Result<bool, StoreError> {
        self.reads.backup_whole(to)
    }

    fn export(&self, sink: &mut Sink<'_>) -> Result<(), StoreError> {
        self.reads.export(sink)
    }

    fn restore(&self, records: &mut RestoredRecords<'_>) -> Result<(), StoreError> {
        let mut chunks = std::iter::from_fn(|| {
            let chunk: Result<Vec<_>, _> = (&mut *records).take(CHUNK).collect();
            match chunk {
                Ok(chunk) if chunk.is_empty() => None,
                chunk => Some(chunk.map(StoreWrite::Restore)),
            }
        });
        self.writer.write_all(&mut chunks).map(|_| ())
    }

    fn notices(&self) -> Vec<String> {
        self.reads.notices()
    }
}
