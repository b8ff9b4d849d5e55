//! One writer for many callers: requests that arrive while the disk is busy share the next commit.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::StoreError;
use crate::ledger::{Facts, Ledger, LedgerChanges};
use crate::write::{StoreWrite, WriteReply};

/// Requests that share a commit at most.
const BATCH_MAX: usize = 256;

/// Requests that wait for the writer before a caller has to wait to ask.
const QUEUE_MAX: usize = 4096;

/// The side of a home that writes. A transaction is `begin`, any number of `facts` and `flush`, then
/// `commit`; where a step fails, or nothing is to be written, `rollback` ends it.
pub(crate) trait Home: Send + 'static {
    /// Starts a transaction that no other writer can interleave with.
    fn begin(&mut self) -> Result<(), StoreError>;
    /// What is there, flushed changes included; `writes` are the requests that will ask.
    fn facts(&mut self, writes: &[StoreWrite<'_>]) -> Result<Box<dyn Facts + '_>, StoreError>;
    /// Writes changes, not yet safely.
    fn flush(&mut self, changes: LedgerChanges) -> Result<(), StoreError>;
    /// Makes what was flushed safe against a crash, and visible.
    fn commit(&mut self) -> Result<(), StoreError>;
    /// Undoes what was flushed.
    fn rollback(&mut self);
}

struct Ticket {
    write: StoreWrite<'static>,
    answer: SyncSender<Result<WriteReply, StoreError>>,
}

/// A home with a thread that writes to it.
pub(crate) struct StoreWriter<H> {
    home: Arc<Mutex<H>>,
    queue: Option<SyncSender<Ticket>>,
    thread: Option<JoinHandle<()>>,
}

impl<H: Home> StoreWriter<H> {
    pub(crate) fn start(home: H) -> Self {
        let home = Arc::new(Mutex::new(home));
        let (queue, tickets) = sync_channel(QUEUE_MAX);
        let thread = std::thread::spawn({
            let home = Arc::clone(&home);
            move || serve(&home, &tickets)
        });
        Self { home, queue: Some(queue), thread: Some(thread) }
    }

    /// Answers a request that changes one record, in a transaction shared with others.
    pub(crate) fn write(&self, write: StoreWrite<'static>) -> Result<WriteReply, StoreError> {
        let (answer, answered) = sync_channel(1);
        let queue = self.queue.as_ref().expect("the queue is open until the writer is dropped");
        queue.send(Ticket { write, answer }).map_err(|_| stopped())?;
        answered.recv().map_err(|_| stopped())?
    }

    /// Answers requests in one transaction of their own, all or none.
    pub(crate) fn write_all(
        &self,
        writes: &mut dyn Iterator<Item = Result<StoreWrite<'_>, StoreError>>,
    ) -> Result<Vec<WriteReply>, StoreError> {
        let mut home = lock(&self.home);
        let answers = all(&mut *home, writes);
        if answers.is_err() {
            home.rollback();
        }
        answers
    }
}

impl<H> Drop for StoreWriter<H> {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn stopped() -> StoreError {
    StoreError::unavailable("the store", "its writer has stopped after an internal error")
}

/// A panic inside a transaction leaves a transaction open, which the next `begin` ends.
fn lock<H>(home: &Mutex<H>) -> MutexGuard<'_, H> {
    home.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve<H: Home>(home: &Mutex<H>, tickets: &Receiver<Ticket>) {
    while let Ok(first) = tickets.recv() {
        let (mut writes, mut callers) = (vec![first.write], vec![first.answer]);
        // What arrived while this thread waited for the home belongs to the batch too.
        let mut home = lock(home);
        while writes.len() < BATCH_MAX
            && let Ok(ticket) = tickets.try_recv()
        {
            writes.push(ticket.write);
            callers.push(ticket.answer);
        }
        let answers = together(&mut *home, &writes).unwrap_or_else(|error| {
            home.rollback();
            vec![Err(error); writes.len()]
        });
        drop(home);
        for (caller, answer) in callers.into_iter().zip(answers) {
            // A caller waits for its answer; were it gone, nobody would miss it.
            let _ = caller.send(answer);
        }
    }
}

/// Answers each request for itself, in one transaction. An error of the home fails them all.
fn together<H: Home>(
    home: &mut H,
    writes: &[StoreWrite<'_>],
) -> Result<Vec<Result<WriteReply, StoreError>>, StoreError> {
    home.begin()?;
    let mut ledger = Ledger::new(home.facts(writes)?)?;
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        match ledger.answer(write) {
            Err(error) if error.is_of_the_home() => return Err(error),
            answer => answers.push(answer),
        }
    }
    let changes = ledger.into_changes();
    if changes.is_empty() {
        home.rollback();
        return Ok(answers);
    }
    home.flush(changes)?;
    home.commit()?;
    Ok(answers)
}

fn all<H: Home>(
    home: &mut H,
    writes: &mut dyn Iterator<Item = Result<StoreWrite<'_>, StoreError>>,
) -> Result<Vec<WriteReply>, StoreError> {
    home.begin()?;
    let mut answers = Vec::new();
    for write in writes {
        let write = [write?];
        let mut ledger = Ledger::new(home.facts(&write)?)?;
        answers.push(ledger.answer(&write[0])?);
        let changes = ledger.into_changes();
        home.flush(changes)?;
    }
    home.commit()?;
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use hearken_data::feedback::Judgement;
    use serde_json::Value;

    use super::*;
    use crate::ledger::{Known, Places, Seats};
    use crate::record::{Assignment, Document, Event, Placed};

    /// What a disk did.
    #[derive(Default)]
    struct Disk {
        full: AtomicBool,
        commits: AtomicUsize,
        written: Mutex<Vec<String>>,
    }

    /// A home that keeps events, on a disk that is slow and may be full.
    struct EventHome {
        disk: Arc<Disk>,
        flushed: Vec<String>,
    }

    struct Nothing(Places);

    impl Facts for Nothing {
        fn places(&mut self) -> Result<Places, StoreError> {
            Ok(self.0)
        }
        fn item(&mut self, _: &str) -> Result<Option<Known>, StoreError> {
            Ok(None)
        }
        fn seats(&mut self, _: &str) -> Result<Option<Seats>, StoreError> {
            Ok(None)
        }
        fn has_judged(&mut self, _: &str, _: &str) -> Result<bool, StoreError> {
            Ok(false)
        }
        fn judgement(&mut self, _: &str) -> Result<Option<Placed<Judgement>>, StoreError> {
            Ok(None)
        }
        fn reviser(&mut self, _: &str) -> Result<Option<String>, StoreError> {
            Ok(None)
        }
        fn assignment(&mut self, _: &str) -> Result<Option<Assignment>, StoreError> {
            Ok(None)
        }
        fn assignment_of(&mut self, _: &str, _: &str) -> Result<Option<Assignment>, StoreError> {
            Ok(None)
        }
        fn document(&mut self, _: &str, _: &str) -> Result<Option<Document>, StoreError> {
            Ok(None)
        }
    }

    impl Home for EventHome {
        fn begin(&mut self) -> Result<(), StoreError> {
            assert!(self.flushed.is_empty(), "the last transaction has ended");
            Ok(())
        }

        fn facts(&mut self, _: &[StoreWrite<'_>]) -> Result<Box<dyn Facts + '_>, StoreError> {
            let events = self.disk.written.lock().unwrap().len() as u64;
            Ok(Box::new(Nothing(Places { events, ..Places::default() })))
        }

        fn flush(&mut self, changes: LedgerChanges) -> Result<(), StoreError> {
            self.flushed.extend(changes.events.into_iter().map(|event| event.record.actor));
            Ok(())
        }

        fn commit(&mut self) -> Result<(), StoreError> {
            std::thread::sleep(Duration::from_millis(20));
            if self.disk.full.load(Ordering::SeqCst) {
                return Err(StoreError::unavailable("disk", "the disk is full"));
            }
            self.disk.commits.fetch_add(1, Ordering::SeqCst);
            self.disk.written.lock().unwrap().append(&mut self.flushed);
            Ok(())
        }

        fn rollback(&mut self) {
            self.flushed.clear();
        }
    }

    fn start() -> (Arc<Disk>, StoreWriter<EventHome>) {
        let disk = Arc::new(Disk::default());
        let home = EventHome { disk: Arc::clone(&disk), flushed: Vec::new() };
        (disk, StoreWriter::start(home))
    }

    fn event(actor: String) -> StoreWrite<'static> {
        StoreWrite::Record(Event { at: 0, actor, action: "tested".into(), details: Value::Null })
    }

    /// Two hundred callers at once, each with one request.
    fn write_at_once(writer: &StoreWriter<EventHome>) -> Vec<Result<WriteReply, StoreError>> {
        std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..200).map(|n| scope.spawn(move || writer.write(event(n.to_string())))).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        })
    }

    #[test]
    fn requests_that_arrive_together_share_commits() {
        let (disk, writer) = start();
        assert!(write_at_once(&writer).iter().all(Result::is_ok));
        let mut written = disk.written.lock().unwrap().clone();
        written.sort_by_key(|actor| actor.parse::<u32>().unwrap());
        assert_eq!(written, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
        let commits = disk.commits.load(Ordering::SeqCst);
        assert!(commits <= 50, "{commits} commits for 200 requests");
    }

    #[test]
    fn nothing_is_acknowledged_when_the_commit_fails() {
        let (disk, writer) = start();
        writer.write(event("before".into())).unwrap();
        disk.full.store(true, Ordering::SeqCst);
        for answer in write_at_once(&writer) {
            let error = answer.unwrap_err();
            assert_eq!(error.to_string(), "disk: the disk is full");
        }
        let mut two = ["a", "b"].into_iter().map(|actor| Ok(event(actor.into())));
        assert!(writer.write_all(&mut two).is_err());
        disk.full.store(false, Ordering::SeqCst);
        writer.write(event("after".into())).unwrap();
        assert_eq!(*disk.written.lock().unwrap(), ["before", "after"]);
    }

    #[test]
    fn a_list_that_fails_leaves_nothing() {
        let (disk, writer) = start();
        let mut writes =
            [Ok(event("a".into())), Err(StoreError::Invalid("wrong".into()))].into_iter();
        assert_eq!(writer.write_all(&mut writes).unwrap_err().to_string(), "wrong");
        writer.write(event("after".into())).unwrap();
        assert_eq!(*disk.written.lock().unwrap(), ["after"]);
    }
}
