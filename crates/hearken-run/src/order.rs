//! In which order examples are trained on.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::seeds::Seeds;

/// How far a run is in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Completed passes over the data.
    pub epoch: u64,
    /// Examples taken in the current pass.
    pub index: usize,
}

/// A place in an epoch that its examples do not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`data.train`: found {found} examples, expected more than the {used} that the checkpoint has been \
     through: the run cannot go on with other data"
)]
pub struct FewerExamples {
    /// Examples that there are.
    pub found: usize,
    /// Examples that the run has taken in its epoch.
    pub used: usize,
}

/// What one source gives to every epoch of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Examples that it has.
    pub examples: usize,
    /// Of these, or more where they repeat, examples of an epoch.
    pub drawn: usize,
}

/// The order of the examples of every epoch: a function of the seed and the epoch alone.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    examples: usize,
    batch_size: usize,
    shuffle: Option<Seeds>,
    /// The sources of the examples, one after another; empty where each example is in an epoch once.
    shares: Vec<Share>,
    /// The epoch of `indices`.
    epoch: Option<u64>,
    indices: Vec<usize>,
}

impl EpochOrder {
    /// The files' order.
    ///
    /// # Panics
    /// If there is no example, or batches are empty.
    pub fn sequential(examples: usize, batch_size: usize) -> Self {
        assert!(0 < examples && 0 < batch_size, "{examples} examples in batches of {batch_size}");
        let indices = (0..examples).collect();
        Self { examples, batch_size, shuffle: None, shares: Vec::new(), epoch: None, indices }
    }

    /// The order in which every epoch has these shares of the examples, source after source as they lie; as it
    /// was without any. An epoch is as long as there are examples.
    ///
    /// A source gives its examples in passes, one after another over all epochs, each in an order of its own: it
    /// repeats none before it has given all. With shuffling an epoch's examples are then mixed at random; else
    /// they alternate evenly, each source's in the order of its files.
    ///
    /// # Panics
    /// If the shares are not of all examples, or do not make an epoch of as many.
    pub fn mixed(self, shares: Vec<Share>) -> Self {
        if shares.is_empty() {
            return self;
        }
        let count = |of: fn(&Share) -> usize| shares.iter().map(of).sum::<usize>();
        let found = (count(|share| share.examples), count(|share| share.drawn));
        assert_eq!(found, (self.examples, self.examples), "shares of all examples");
        Self { shares, epoch: None, ..self }
    }

    /// Shuffled by `seeds`, or the files' order without them.
    ///
    /// # Panics
    /// As [`EpochOrder::sequential`].
    pub fn new(seeds: Option<Seeds>, examples: usize, batch_size: usize) -> Self {
        Self { shuffle: seeds, ..Self::sequential(examples, batch_size) }
    }

    /// Batches per epoch; the last may be smaller.
    pub fn batches_per_epoch(&self) -> u64 {
        self.examples.div_ceil(self.batch_size) as u64
    }

    /// The examples of an epoch, in their order.
    pub fn epoch(&self, epoch: u64) -> Vec<usize> {
        let mut order = self.clone();
        order.prepare(epoch);
        order.indices
    }

    /// Every example as often as an epoch can have it.
    pub fn at_most(&self) -> Vec<usize> {
        if self.shares.is_empty() {
            return (0..self.examples).collect();
        }
        let mut first = 0;
        let mut found = Vec::new();
        for share in &self.shares {
            // An epoch begins and ends within passes over the source.
            let times = share.drawn.min(share.drawn.div_ceil(share.examples) + 1);
            (0..times).for_each(|_| found.extend(first..first + share.examples));
            first += share.examples;
        }
        found
    }

    /// Whether epochs have shares of several sources.
    pub fn is_mixed(&self) -> bool {
        !self.shares.is_empty()
    }

    /// Refuses a place that is not in these examples: they have become fewer since it was noted.
    ///
    /// # Errors
    /// Says how many there are, and how many there were at least.
    pub fn check(&self, cursor: Cursor) -> Result<(), FewerExamples> {
        if cursor.index < self.examples {
            return Ok(());
        }
        Err(FewerExamples { found: self.examples, used: cursor.index })
    }

    /// The examples of the next batch, which lies within one epoch; moves the cursor behind it.
    pub fn next_batch(&mut self, cursor: &mut Cursor) -> Vec<usize> {
        self.prepare(cursor.epoch);
        let end = (cursor.index + self.batch_size).min(self.examples);
        let batch = self.indices[cursor.index..end].to_vec();
        cursor.index = end;
        if end == self.examples {
            *cursor = Cursor { epoch: cursor.epoch + 1, index: 0 };
        }
        batch
    }

    /// The order of an epoch.
    fn prepare(&mut self, epoch: u64) {
        if self.epoch == Some(epoch) || (self.shuffle.is_none() && self.shares.is_empty()) {
            return;
        }
        self.indices =
            if self.shares.is_empty() { (0..self.examples).collect() } else { self.mixture(epoch) };
        if let Some(seeds) = self.shuffle {
            shuffle(&mut self.indices, &mut seeds.stream("shuffle", epoch));
        }
        self.epoch = Some(epoch);
    }

    /// The examples of an epoch of a mixture, those of each source evenly spread.
    fn mixture(&self, epoch: u64) -> Vec<usize> {
        let mut placed = Vec::with_capacity(self.examples);
        let mut first = 0;
        for (source, share) in self.shares.iter().enumerate() {
            let drawn = self.drawn(source, *share, epoch).into_iter().enumerate();
            placed.extend(drawn.map(|(number, index)| {
                ((number as f64 + 0.5) / share.drawn as f64, first + index)
            }));
            first += share.examples;
        }
        // A stable sort: sources that meet stay in their order.
        placed.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        placed.into_iter().map(|(_, index)| index).collect()
    }

    /// What a source gives to an epoch, by the numbers of its own examples.
    fn drawn(&self, source: usize, share: Share, epoch: u64) -> Vec<usize> {
        let (examples, drawn) = (share.examples as u64, share.drawn as u64);
        let (mut at, end) = (epoch * drawn, (epoch + 1) * drawn);
        let mut found = Vec::with_capacity(share.drawn);
        while at < end {
            let pass = at / examples;
            let mut order: Vec<usize> = (0..share.examples).collect();
            if let Some(seeds) = self.shuffle {
                shuffle(&mut order, &mut seeds.stream(&format!("mix/{source}"), pass));
            }
            let until = end.min((pass + 1) * examples);
            found.extend(
                &order[(at - pass * examples) as usize..(until - pass * examples) as usize],
            );
            at = until;
        }
        found
    }
}

/// Fisher and Yates' shuffle.
fn shuffle(indices: &mut [usize], rng: &mut impl Rng) {
    for last in (1..indices.len()).rev() {
        indices.swap(last, rng.random_range(0..=last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_example_once_and_the_next_another_order() {
        let mut order = EpochOrder::new(Some(Seeds::new(1)), 10, 4);
        let mut cursor = Cursor::default();
        let mut epoch = |order: &mut EpochOrder| -> Vec<usize> {
            let batches: Vec<_> = (0..3).map(|_| order.next_batch(&mut cursor)).collect();
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
            batches.concat()
        };
        let (first, second) = (epoch(&mut order), epoch(&mut order));
        assert_ne!(first, second);
        for mut indices in [first, second] {
            indices.sort_unstable();
            assert_eq!(indices, (0..10).collect::<Vec<_>>());
        }
        assert_eq!(cursor, Cursor { epoch: 2, index: 0 });
    }

    #[test]
    fn a_cursor_is_all_it_takes_to_go_on() {
        let mut whole = EpochOrder::new(Some(Seeds::new(3)), 7, 2);
        let mut cursor = Cursor::default();
        for _ in 0..5 {
            whole.next_batch(&mut cursor);
        }
        let mut resumed = EpochOrder::new(Some(Seeds::new(3)), 7, 2);
        let mut copy = cursor;
        for _ in 0..6 {
            assert_eq!(whole.next_batch(&mut cursor), resumed.next_batch(&mut copy));
        }
    }

    #[test]
    fn a_place_behind_the_last_example_is_refused() {
        let order = EpochOrder::sequential(3, 2);
        order.check(Cursor { epoch: 4, index: 2 }).unwrap();
        let error = order.check(Cursor { epoch: 0, index: 3 }).unwrap_err().to_string();
        assert!(error.contains("found 3 examples"), "{error}");
    }

    #[test]
    fn without_shuffling_the_order_is_the_files() {
        let mut order = EpochOrder::sequential(3, 2);
        let mut cursor = Cursor::default();
        assert_eq!(order.next_batch(&mut cursor), [0, 1]);
        assert_eq!(order.next_batch(&mut cursor), [2]);
        assert_eq!(order.next_batch(&mut cursor), [0, 1]);
    }

    const SHARES: [Share; 2] = [Share { examples: 2, drawn: 6 }, Share { examples: 8, drawn: 4 }];

    /// How often each example is in an epoch.
    fn counts(order: &mut EpochOrder, cursor: &mut Cursor) -> [usize; 10] {
        let (epoch, mut counts) = (cursor.epoch, [0; 10]);
        while cursor.epoch == epoch {
            order.next_batch(cursor).into_iter().for_each(|index| counts[index] += 1);
        }
        counts
    }

    #[test]
    fn a_mixture_has_its_shares_in_every_epoch_and_repeats_nothing_before_all_was_given() {
        for seeds in [Some(Seeds::new(5)), None] {
            let mut order = EpochOrder::new(seeds, 10, 3).mixed(SHARES.to_vec());
            let mut cursor = Cursor::default();
            assert_eq!(order.batches_per_epoch(), 4);
            let epochs = [(); 4].map(|()| counts(&mut order, &mut cursor));
            for pair in epochs.chunks(2) {
                assert!(pair.iter().all(|counts| counts[..2] == [3, 3]), "{pair:?}");
                // Eight examples, four of them in every epoch: two epochs have each once.
                let both: Vec<usize> =
                    (2..10).map(|index| pair[0][index] + pair[1][index]).collect();
                assert_eq!(both, [1; 8]);
            }
            assert_eq!(cursor, Cursor { epoch: 4, index: 0 });
        }
    }

    #[test]
    fn no_epoch_has_an_example_more_often_than_is_said() {
        let shares = vec![Share { examples: 3, drawn: 2 }, Share { examples: 2, drawn: 3 }];
        let order = EpochOrder::new(Some(Seeds::new(2)), 5, 5).mixed(shares);
        let count = |list: &[usize], index| list.iter().filter(|one| **one == index).count();
        let most = order.at_most();
        assert_eq!([0, 2, 3].map(|index| count(&most, index)), [2, 2, 3]);
        for epoch in 0..50 {
            let found = order.epoch(epoch);
            assert!((0..5).all(|index| count(&found, index) <= count(&most, index)), "{found:?}");
        }
        assert_eq!(EpochOrder::sequential(4, 3).at_most(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_mixture_goes_on_from_its_cursor_alone() {
        let make = || EpochOrder::new(Some(Seeds::new(3)), 10, 3).mixed(SHARES.to_vec());
        let (mut whole, mut cursor) = (make(), Cursor::default());
        for _ in 0..6 {
            whole.next_batch(&mut cursor);
        }
        let (mut resumed, mut copy) = (make(), cursor);
        for _ in 0..9 {
            assert_eq!(whole.next_batch(&mut cursor), resumed.next_batch(&mut copy));
        }
    }

    #[test]
    fn a_mixture_without_shuffling_alternates_in_the_order_of_the_files() {
        let shares = vec![Share { examples: 4, drawn: 2 }, Share { examples: 2, drawn: 4 }];
        let mut order = EpochOrder::sequential(6, 6).mixed(shares);
        let mut cursor = Cursor::default();
        assert_eq!(order.next_batch(&mut cursor), [4, 0, 5, 4, 1, 5]);
        assert_eq!(order.next_batch(&mut cursor), [4, 2, 5, 4, 3, 5]);
        let plain = EpochOrder::sequential(6, 6).mixed(Vec::new()).next_batch(&mut cursor);
        assert_eq!(plain, [0, 1, 2, 3, 4, 5]);
    }
}
