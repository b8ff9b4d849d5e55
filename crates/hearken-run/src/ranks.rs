//! Processes that train one model together, and what one of them must know of the others.
//!
//! All of them go through the same steps in the same order, over the same records from the same seed. The
//! parts of a step are shared out ([`Ranks::shares`]), what each process finds of its parts goes to all
//! ([`Ranks::join`], [`Ranks::whole`]), and gradients are summed ([`Ranks::sum`]), in the order of ranks
//! throughout: no bit depends on who was first. A process that is alone adds nothing to anything: its
//! numbers are, bit for bit, those of a program that knows of no others.
//!
//! Not here: how messages travel: that is a [`Communicator`]'s.

mod communicator;
mod shares;
mod threads;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hearken_objective::Mean;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use communicator::{Communicator, Parcel};
pub use shares::Shares;
pub use threads::together;

/// What processes find of their parts of a step, and what all of them found together.
pub trait Joined: Serialize + DeserializeOwned {
    /// What two processes found, the one with the lower number first.
    fn join(self, other: Self) -> Self;
}

impl<T: Serialize + DeserializeOwned> Joined for Vec<T> {
    fn join(mut self, other: Self) -> Self {
        self.extend(other);
        self
    }
}

/// The processes that share optimizer steps and iterations; by default there is one.
#[derive(Clone, Debug, Default)]
pub struct Ranks(Option<Arc<Connected>>);

#[derive(Debug)]
struct Connected {
    communicator: Box<dyn Communicator>,
    /// Bytes that this process gave to others.
    sent: AtomicU64,
    /// What numbers travel in, kept from call to call: memory that is new costs more than the numbers do.
    parcel: Mutex<Parcel>,
}

/// Numbers that travel at once over a network where there are few processes, so that what waits to be sent or added
/// takes little memory.
const PORTION: usize = 1 << 22;
/// Numbers that one process gives another at once at least: a message costs time of its own, whatever its length.
/// Within a machine no more than these: a piece, what came for it and their sum stay in a core's cache, and it is
/// memory's speed that bounds them there.
const PIECE_MIN: usize = 1 << 17;

/// Numbers that one of so many processes gives another at once.
pub fn piece_len(processes: usize, is_one_machine: bool) -> usize {
    if is_one_machine { PIECE_MIN } else { (PORTION / processes.max(1)).max(PIECE_MIN) }
}

/// What of each process's numbers, which begin at these bounds, goes at once: a range of each, portion after portion.
fn portions(bounds: &[usize], at_once: usize) -> impl Iterator<Item = Vec<Range<usize>>> {
    let parts = || bounds.windows(2).map(|pair| pair[0]..pair[1]);
    let longest = parts().map(|part| part.len()).max().unwrap_or(0);
    (0..longest).step_by(at_once).map(move |start| {
        let portion = |part: Range<usize>| {
            (part.start + start).min(part.end)..(part.start + start + at_once).min(part.end)
        };
        parts().map(portion).collect()
    })
}

impl Ranks {
    /// Those that `communicator` connects.
    pub fn new(communicator: impl Communicator + 'static) -> Self {
        let communicator = Box::new(communicator);
        let (sent, parcel) = (AtomicU64::new(0), Mutex::default());
        Self(Some(Arc::new(Connected { communicator, sent, parcel })))
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |all| all.communicator.rank())
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |all| all.communicator.size())
    }

    /// Whether this process writes what all of them do: files, the screen.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Bytes that this process gave to others so far.
    pub fn bytes_sent(&self) -> u64 {
        self.0.as_ref().map_or(0, |all| all.sent.load(Ordering::Relaxed))
    }

    /// What every process gave, in the order of their numbers.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, own: T) -> Vec<T> {
        let Some(all) = &self.0 else { return vec![own] };
        let own = postcard::to_stdvec(&own).expect("plain values become bytes");
        all.count_bytes(own.len() * (all.communicator.size() - 1));
        let found = all.communicator.gather(own);
        let value =
            |bytes: &Vec<u8>| postcard::from_bytes(bytes).expect("the same program wrote them");
        found.iter().map(value).collect()
    }

    /// Waits for all of them.
    pub fn meet(&self) {
        self.gather(());
    }

    /// What the first one says; the others give nothing.
    pub fn of_first<T: Serialize + DeserializeOwned>(&self, own: impl FnOnce() -> T) -> T {
        let own = self.is_first().then(own);
        let first = self.gather(own).into_iter().next().flatten();
        first.expect("the first process has said something")
    }

    /// Whether one of them says so.
    pub fn any(&self, own: bool) -> bool {
        self.gather(own).into_iter().any(|one| one)
    }

    /// What all of them found.
    pub fn join<T: Joined>(&self, own: T) -> T {
        self.gather(own).into_iter().reduce(T::join).expect("there is one process at least")
    }

    /// The mean over what all processes have counted.
    pub fn mean(&self, own: Mean) -> Mean {
        let all = self.gather((own.sum, own.count)).into_iter();
        all.map(|(sum, count)| Mean { sum, count }).reduce(|a, b| a + b).unwrap_or(own)
    }

    /// Who does which of some parts that take so much work each; whoever has the least gets the next.
    pub fn shares(&self, work: &[usize]) -> Shares {
        Shares::of(work, self.rank(), self.size())
    }

    /// The same of parts with a number and work each: neighbors with one number stay together.
    pub fn shares_together(&self, parts: &[(u64, usize)]) -> Shares {
        let groups: Vec<_> = parts.chunk_by(|(one, _), (other, _)| one == other).collect();
        let work = |group: &&[(u64, usize)]| group.iter().map(|(_, work)| work).sum();
        let work: Vec<usize> = groups.iter().map(work).collect();
        let counts: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        self.shares(&work).unfolded(&counts)
    }

    /// One thing per part, in the order of the parts, where every process gives those of its share.
    ///
    /// # Panics
    /// If a process gives more or fewer.
    pub fn whole<T: Serialize + DeserializeOwned>(&self, shares: &Shares, own: Vec<T>) -> Vec<T> {
        shares.put_together(self.gather(own))
    }

    /// The sums, over all processes, of the numbers that are this one's: `bounds` says where the numbers of each
    /// begin among those of all, and where the last end; `own` reads some of this process's addends, and `add`
    /// is told sums, by their places. Each number is added in the order of ranks.
    pub fn sum(
        &self,
        bounds: &[usize],
        mut own: impl FnMut(Range<usize>, &mut [f32]),
        mut add: impl FnMut(usize, &[f32]),
    ) {
        let Some(all) = &self.0 else { return };
        let rank = self.rank();
        let mut sums = Vec::new();
        for portion in portions(bounds, all.piece_len()) {
            sums.resize(portion[rank].len(), 0.0);
            // What stays here goes nowhere.
            let elsewhere = |(of, len): (usize, usize)| if of == rank { 0 } else { len };
            let of_others = portion.iter().map(Range::len).enumerate().map(elsewhere);
            let to_this = portion.iter().map(|_| sums.len()).enumerate().map(elsewhere);
            let mut parcel = all.parcel(of_others, to_this);
            let mut given = parcel.given.as_mut_slice();
            for (of, range) in portion.iter().enumerate() {
                if of == rank {
                    own(range.clone(), &mut sums);
                    continue;
                }
                let (piece, rest) = given.split_at_mut(range.len());
                own(range.clone(), piece);
                given = rest;
            }
            all.count(parcel.given.len());
            let mut parcel = all.communicator.exchange(parcel);
            add_in_order(&mut sums, rank, &mut parcel.taken);
            add(portion[rank].start, &sums);
            all.keep(parcel);
        }
    }

    /// Gives everybody the numbers of all: `bounds` as in [`Ranks::sum`], `own` reads some of this process's, and
    /// `put` is told those of the others, by their places.
    pub fn spread(
        &self,
        bounds: &[usize],
        mut own: impl FnMut(Range<usize>, &mut [f32]),
        mut put: impl FnMut(usize, &[f32]),
    ) {
        let Some(all) = &self.0 else { return };
        let (rank, size) = (self.rank(), self.size());
        for portion in portions(bounds, all.piece_len()) {
            let given = std::iter::once(portion[rank].len());
            let mut parcel = all.parcel(given, portion.iter().map(Range::len));
            own(portion[rank].clone(), &mut parcel.given);
            all.count(parcel.given.len() * (size - 1));
            let parcel = all.communicator.collect(parcel);
            for (of, piece) in parcel.pieces().enumerate() {
                if of != rank && !piece.is_empty() {
                    put(portion[of].start, piece);
                }
            }
            all.keep(parcel);
        }
    }
}

/// Adds to a process's numbers those that the others gave, one behind the other, as if all had been added in the order
/// of the processes.
fn add_in_order(own: &mut [f32], rank: usize, taken: &mut [f32]) {
    let add = |sum: &mut [f32], piece: &[f32]| {
        sum.iter_mut().zip(piece).for_each(|(sum, one)| *sum += one);
    };
    let len = own.len();
    let (before, after) = taken.split_at_mut(rank * len);
    if let Some((first, others)) = before.split_at_mut_checked(len).filter(|_| 0 < len) {
        // Two numbers may be added in either order, three not.
        others.chunks(len).for_each(|piece| add(first, piece));
        add(own, first);
    }
    after.chunks(len.max(1)).for_each(|piece| add(own, piece));
}

impl Connected {
    /// Numbers that one process gives another at once.
    fn piece_len(&self) -> usize {
        piece_len(self.communicator.size(), self.communicator.is_one_machine())
    }

    /// Counts numbers that go to others.
    fn count(&self, numbers: usize) {
        self.count_bytes(4 * numbers);
    }

    fn count_bytes(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Room for numbers of such lengths.
    fn parcel(
        &self,
        given: impl Iterator<Item = usize>,
        taken: impl Iterator<Item = usize>,
    ) -> Parcel {
        let mut parcel = std::mem::take(&mut *self.kept());
        parcel.given_lens.clear();
        parcel.given_lens.extend(given);
        parcel.taken_lens.clear();
        parcel.taken_lens.extend(taken);
        parcel.given.resize(parcel.given_lens.iter().sum(), 0.0);
        parcel.taken.resize(parcel.taken_lens.iter().sum(), 0.0);
        parcel
    }

    /// Keeps the memory of what has been read.
    fn keep(&self, parcel: Parcel) {
        *self.kept() = parcel;
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Parcel> {
        self.parcel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_changes_no_bit() {
        let (alone, mean) = (Ranks::default(), Mean { sum: 0.1 + 0.2, count: 3 });
        assert_eq!(alone.mean(mean), mean);
        assert_eq!(alone.join(vec![0.1 + 0.2]), [0.1 + 0.2]);
        assert_eq!(alone.shares(&[3, 1, 2]).own(), [0, 1, 2]);
        assert_eq!((alone.rank(), alone.size(), alone.bytes_sent()), (0, 1, 0));
    }

    #[test]
    fn means_and_parts_are_those_of_all_ranks() {
        let found = together(3, |ranks| {
            let rank = ranks.rank();
            let mean = ranks.mean(Mean { sum: rank as f64, count: 1 }).value();
            let shares = ranks.shares(&[5, 1, 9, 2, 2]);
            let own = shares.own().iter().map(|part| part * 10).collect();
            let said = ranks.of_first(|| format!("by {rank}"));
            (mean, ranks.whole(&shares, own), ranks.any(rank == 2), said)
        });
        let all = (Some(1.0), vec![0, 10, 20, 30, 40], true, "by 0".to_owned());
        assert!(found.iter().all(|one| *one == all), "{found:?}");
    }

    /// Numbers whose sum depends on the order.
    fn addends(rank: usize, len: usize) -> Vec<f32> {
        (0..len).map(|at| [1e8, 1.0, -1e8][(rank + at) % 3] + at as f32).collect()
    }

    /// Sums by all of four ranks, with these bounds, are those in the order of ranks.
    fn check_sums(bounds: [usize; 5]) {
        let len = bounds[4];
        let each: Vec<_> = (0..4).map(|rank| addends(rank, len)).collect();
        let sum = |at: usize| each.iter().map(|one| one[at]).reduce(|a, b| a + b).unwrap();
        let expected: Vec<f32> = (0..len).map(sum).collect();
        let found = together(4, |ranks| {
            let own = addends(ranks.rank(), len);
            let mut sums = vec![f32::NAN; len];
            ranks.sum(
                &bounds,
                |at, to| to.copy_from_slice(&own[at]),
                |at, sum| {
                    sums[at..at + sum.len()].copy_from_slice(sum);
                },
            );
            let before = sums.clone();
            ranks.spread(
                &bounds,
                |at, to| to.copy_from_slice(&before[at]),
                |at, sum| {
                    sums[at..at + sum.len()].copy_from_slice(sum);
                },
            );
            (sums, 0 < ranks.bytes_sent())
        });
        for (rank, (sums, has_sent)) in found.iter().enumerate() {
            assert!(*sums == expected && *has_sent, "rank {rank}, {bounds:?}");
        }
    }

    #[test]
    fn sums_are_taken_in_the_order_of_ranks() {
        // The second of them has nothing to add up.
        check_sums([0, 4, 4, 7, 11]);
        // Several portions, of which the last ones are not everybody's.
        check_sums([0, PIECE_MIN + 3, PIECE_MIN + 3, 3 * PIECE_MIN + 1, 3 * PIECE_MIN + 2]);
    }

    #[test]
    fn nobody_waits_for_a_rank_that_has_gone() {
        let found = std::panic::catch_unwind(|| {
            together(2, |ranks| {
                assert!(ranks.is_first(), "the second one fails");
                ranks.meet();
            })
        });
        assert!(found.is_err());
    }
}
