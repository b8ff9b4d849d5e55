//! Processes that train one model together, and what one of them must know of the others.
//!
//! What is counted over a whole optimizer step or measured over a whole iteration goes through
//! [`Ranks`], and so do the numbers of prompts that seeds are made of. A process that is alone adds
//! nothing to anything: its numbers are, bit for bit, those of a program that knows of no others.
//!
//! Not here: gradients, which a device holds, and how messages travel: that is a [`Communicator`]'s.

use std::fmt::Debug;
use std::sync::Arc;

use hearken_objective::aggregation::StepCounts;
use hearken_objective::{Mean, Moments};

/// What connects the processes. All of them make the same calls in the same order.
pub trait Communicator: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// What every process gave, in the order of their numbers: sums are taken in that order, so that no
    /// bit depends on who was first.
    fn gather(&self, own: &[f64]) -> Vec<Vec<f64>>;
}

/// The processes that share optimizer steps and iterations; by default there is one.
#[derive(Clone, Debug, Default)]
pub struct Ranks(Option<Arc<dyn Communicator>>);

impl Ranks {
    /// Those that `communicator` connects.
    pub fn new(communicator: Arc<dyn Communicator>) -> Self {
        Self(Some(communicator))
    }

    /// A count over all processes.
    pub fn total(&self, own: usize) -> usize {
        match &self.0 {
            None => own,
            // Counts are far below 2⁵³, where f64 has every integer.
            Some(others) => others.gather(&[own as f64]).iter().map(|of| of[0] as usize).sum(),
        }
    }

    /// Completions and tokens of all processes.
    pub fn counts(&self, own: StepCounts) -> StepCounts {
        match &self.0 {
            None => own,
            Some(_) => StepCounts {
                completions: self.total(own.completions),
                tokens: self.total(own.tokens),
            },
        }
    }

    /// The mean over what all processes have counted.
    pub fn mean(&self, own: Mean) -> Mean {
        let Some(others) = &self.0 else { return own };
        let all = others.gather(&[own.sum, own.count as f64]);
        all.iter().map(|of| Mean { sum: of[0], count: of[1] as usize }).sum()
    }

    /// The mean, and how many things it is of, where `count` things here have the mean `own`.
    pub fn weighted(&self, own: f64, count: usize) -> (f64, usize) {
        if self.0.is_none() {
            return (own, count);
        }
        let all = self.mean(Mean { sum: own * count as f64, count });
        (all.value().unwrap_or(own), all.count)
    }

    /// The moments of the numbers of all processes.
    pub fn moments(&self, own: Moments) -> Moments {
        let Some(others) = &self.0 else { return own };
        let all = others.gather(&[own.count as f64, own.mean, own.squares]);
        let of = |of: &Vec<f64>| Moments { count: of[0] as usize, mean: of[1], squares: of[2] };
        all.iter().map(of).reduce(Moments::merge).unwrap_or(own)
    }

    /// The number, among those of all processes, of the first of `len` things here.
    pub fn first(&self, len: usize) -> u64 {
        let Some(others) = &self.0 else { return 0 };
        let lens = others.gather(&[len as f64]);
        lens.iter().take(others.rank()).map(|of| of[0] as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use hearken_objective::advantage::whiten::{moments_of, whiten, whiten_by};
    use hearken_objective::moments::Variance;

    use super::*;

    /// Threads that wait for one another.
    #[derive(Debug)]
    struct Meeting {
        barrier: Barrier,
        table: Mutex<Vec<Vec<f64>>>,
    }

    #[derive(Debug)]
    struct Seat {
        rank: usize,
        meeting: Arc<Meeting>,
    }

    impl Communicator for Seat {
        fn rank(&self) -> usize {
            self.rank
        }

        fn gather(&self, own: &[f64]) -> Vec<Vec<f64>> {
            self.meeting.table.lock().unwrap()[self.rank] = own.to_vec();
            self.meeting.barrier.wait();
            let all = self.meeting.table.lock().unwrap().clone();
            // Nobody puts down the next thing before everybody has read this one.
            self.meeting.barrier.wait();
            all
        }
    }

    /// What `work` gives on each of so many ranks.
    fn together<T: Send>(count: usize, work: impl Fn(usize, Ranks) -> T + Sync) -> Vec<T> {
        let (barrier, table) = (Barrier::new(count), Mutex::new(vec![Vec::new(); count]));
        let meeting = Arc::new(Meeting { barrier, table });
        let work = &work;
        thread::scope(|scope| {
            let seats: Vec<_> = (0..count)
                .map(|rank| {
                    let meeting = Arc::clone(&meeting);
                    scope.spawn(move || work(rank, Ranks::new(Arc::new(Seat { rank, meeting }))))
                })
                .collect();
            seats.into_iter().map(|seat| seat.join().unwrap()).collect()
        })
    }

    #[test]
    fn one_process_changes_no_bit() {
        let (alone, mean) = (Ranks::default(), Mean { sum: 0.1 + 0.2, count: 3 });
        let moments = Moments::of(&[0.1, 0.2, 0.7]);
        assert_eq!(alone.mean(mean), mean);
        assert_eq!(alone.weighted(0.3, 3), (0.3, 3));
        assert_eq!(alone.moments(moments), moments);
        assert_eq!((alone.total(7), alone.first(5)), (7, 0));
    }

    #[test]
    fn ranks_whiten_as_one_process_with_all_rows_does() {
        let rows = [vec![1.0, 4.0], vec![-2.0], vec![0.5, 0.25, 9.0]];
        let mut whole = rows.to_vec();
        whiten(&mut whole, Variance::Sample);
        let parts = together(2, |rank, ranks| {
            let mut own = if rank == 0 { rows[..1].to_vec() } else { rows[1..].to_vec() };
            let moments = ranks.moments(moments_of(&own));
            whiten_by(&mut own, moments, Variance::Sample);
            own
        });
        for (x, y) in parts.concat().iter().flatten().zip(whole.iter().flatten()) {
            assert!((x - y).abs() < 1e-12, "{x} {y}");
        }
    }

    #[test]
    fn counts_means_and_numbers_are_those_of_all_ranks() {
        let found = together(3, |rank, ranks| {
            let counts = ranks.counts(StepCounts { completions: rank + 1, tokens: 10 * rank });
            let mean = ranks.mean(Mean { sum: rank as f64, count: 1 }).value();
            (counts, mean, ranks.first(rank + 1))
        });
        let counts = StepCounts { completions: 6, tokens: 30 };
        assert!(found.iter().all(|(all, mean, _)| *all == counts && *mean == Some(1.0)));
        let firsts: Vec<u64> = found.into_iter().map(|(.., first)| first).collect();
        assert_eq!(firsts, [0, 1, 3]);
    }
}
