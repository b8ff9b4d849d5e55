//! Ranks that are threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Communicator, Parcel, Ranks};

/// What one of them gives to the others.
#[derive(Clone, Debug)]
enum RankMessage {
    Bytes(Vec<u8>),
    Pieces(Vec<Vec<f32>>),
    Numbers(Vec<f32>),
}

#[derive(Debug, Default)]
struct Table {
    messages: Vec<Option<RankMessage>>,
    /// How many have read the messages.
    readers: usize,
    /// The first that has left.
    gone: Option<usize>,
}

#[derive(Debug)]
struct Meeting {
    table: Mutex<Table>,
    changed: Condvar,
}

/// The place of one thread at the table.
#[derive(Debug)]
struct Seat {
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
}

impl Seat {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.meeting.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the table is as wanted.
    fn until(&self, is_so: impl Fn(&Table) -> bool) -> MutexGuard<'_, Table> {
        let mut table = self.table();
        while !is_so(&table) {
            if let Some(gone) = table.gone {
                drop(table);
                panic!("rank {gone} has gone");
            }
            table = self.meeting.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        table
    }

    /// Everybody's message.
    fn all(&self, own: RankMessage) -> Vec<RankMessage> {
        let mut table = self.until(|table| table.messages[self.rank].is_none());
        table.messages[self.rank] = Some(own);
        self.meeting.changed.notify_all();
        drop(table);
        let mut table = self.until(|table| table.messages.iter().all(Option::is_some));
        let found = table.messages.iter().flatten().cloned().collect();
        table.readers += 1;
        if table.readers == self.size {
            *table = Table { messages: vec![None; self.size], ..Table::default() };
            self.meeting.changed.notify_all();
        } else {
            // Nobody puts down the next message before everybody has read this one.
            drop(table);
            drop(self.until(|table| table.messages[self.rank].is_none()));
        }
        found
    }
}

impl Communicator for Seat {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn is_one_machine(&self) -> bool {
        true
    }

    fn gather(&self, own: Vec<u8>) -> Vec<Vec<u8>> {
        let of = |message| match message {
            RankMessage::Bytes(bytes) => bytes,
            other => unreachable!("all make the same calls, found {other:?}"),
        };
        self.all(RankMessage::Bytes(own)).into_iter().map(of).collect()
    }

    fn exchange(&self, parcel: Parcel) -> Parcel {
        let mut rest = parcel.given.as_slice();
        let piece = |&len: &usize| {
            let (piece, others) = rest.split_at(len);
            rest = others;
            piece.to_vec()
        };
        let pieces = parcel.given_lens.iter().map(piece).collect();
        let of = |message| match message {
            RankMessage::Pieces(mut pieces) => pieces.swap_remove(self.rank),
            other => unreachable!("all make the same calls, found {other:?}"),
        };
        let found: Vec<_> = self.all(RankMessage::Pieces(pieces)).into_iter().map(of).collect();
        filled(parcel, &found)
    }

    fn collect(&self, parcel: Parcel) -> Parcel {
        let of = |message| match message {
            RankMessage::Numbers(numbers) => numbers,
            other => unreachable!("all make the same calls, found {other:?}"),
        };
        let given = RankMessage::Numbers(parcel.given.clone());
        let found: Vec<_> = self.all(given).into_iter().map(of).collect();
        filled(parcel, &found)
    }
}

/// A parcel with what came.
fn filled(mut parcel: Parcel, found: &[Vec<f32>]) -> Parcel {
    let lens = &parcel.taken_lens;
    assert!(found.iter().map(Vec::len).eq(lens.iter().copied()), "numbers of {lens:?}");
    parcel.taken.copy_from_slice(&found.concat());
    parcel
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.table().gone.get_or_insert(self.rank);
        self.meeting.changed.notify_all();
    }
}

/// What `work` gives on each of so many ranks, which are threads: to try out what several processes do.
///
/// # Panics
/// If the work of one of them does; the others do not wait for it.
pub fn together<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let table = Table { messages: vec![None; size], ..Table::default() };
    let meeting = Arc::new(Meeting { table: Mutex::new(table), changed: Condvar::new() });
    let work = &work;
    thread::scope(|scope| {
        let seats: Vec<_> = (0..size)
            .map(|rank| {
                let meeting = Arc::clone(&meeting);
                scope.spawn(move || work(Ranks::new(Seat { rank, size, meeting })))
            })
            .collect();
        let join = |seat: thread::ScopedJoinHandle<'_, T>| {
            seat.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        seats.into_iter().map(join).collect()
    })
}
