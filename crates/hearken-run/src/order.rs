//! In which order examples are trained on.

use rand::RngExt;
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

/// The order of the examples of every epoch: a function of the seed and the epoch alone.
#[derive(Clone, Debug)]
pub struct Order {
    examples: usize,
    batch_size: usize,
    shuffle: Option<Seeds>,
    /// The epoch of `indices`.
    epoch: Option<u64>,
    indices: Vec<usize>,
}

impl Order {
    /// The files' order.
    ///
    /// # Panics
    /// If there is no example, or batches are empty.
    pub fn sequential(examples: usize, batch_size: usize) -> Self {
        assert!(0 < examples && 0 < batch_size, "{examples} examples in batches of {batch_size}");
        let indices = (0..examples).collect();
        Self { examples, batch_size, shuffle: None, epoch: None, indices }
    }

    /// Shuffled by `seeds`, or the files' order without them.
    ///
    /// # Panics
    /// As [`Order::sequential`].
    pub fn new(seeds: Option<Seeds>, examples: usize, batch_size: usize) -> Self {
        Self { shuffle: seeds, ..Self::sequential(examples, batch_size) }
    }

    /// Batches per epoch; the last may be smaller.
    pub fn batches_per_epoch(&self) -> u64 {
        self.examples.div_ceil(self.batch_size) as u64
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

    /// Fisher and Yates' shuffle from the epoch's own stream.
    fn prepare(&mut self, epoch: u64) {
        let Some(seeds) = self.shuffle else { return };
        if self.epoch == Some(epoch) {
            return;
        }
        let mut rng = seeds.stream("shuffle", epoch);
        self.indices = (0..self.examples).collect();
        for last in (1..self.examples).rev() {
            self.indices.swap(last, rng.random_range(0..=last));
        }
        self.epoch = Some(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_example_once_and_the_next_another_order() {
        let mut order = Order::new(Some(Seeds::new(1)), 10, 4);
        let mut cursor = Cursor::default();
        let mut epoch = |order: &mut Order| -> Vec<usize> {
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
        let mut whole = Order::new(Some(Seeds::new(3)), 7, 2);
        let mut cursor = Cursor::default();
        for _ in 0..5 {
            whole.next_batch(&mut cursor);
        }
        let mut resumed = Order::new(Some(Seeds::new(3)), 7, 2);
        let mut copy = cursor;
        for _ in 0..6 {
            assert_eq!(whole.next_batch(&mut cursor), resumed.next_batch(&mut copy));
        }
    }

    #[test]
    fn a_place_behind_the_last_example_is_refused() {
        let order = Order::sequential(3, 2);
        order.check(Cursor { epoch: 4, index: 2 }).unwrap();
        let error = order.check(Cursor { epoch: 0, index: 3 }).unwrap_err().to_string();
        assert!(error.contains("found 3 examples"), "{error}");
    }

    #[test]
    fn without_shuffling_the_order_is_the_files() {
        let mut order = Order::sequential(3, 2);
        let mut cursor = Cursor::default();
        assert_eq!(order.next_batch(&mut cursor), [0, 1]);
        assert_eq!(order.next_batch(&mut cursor), [2]);
        assert_eq!(order.next_batch(&mut cursor), [0, 1]);
    }
}
