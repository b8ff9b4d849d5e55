//! What connects processes.

use std::fmt::Debug;

/// What connects the processes. All of them make the same calls in the same order; where one of them is gone, no
/// call returns.
pub trait Communicator: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// What every process gave, in the order of their numbers.
    fn gather(&self, own: Vec<u8>) -> Vec<Vec<u8>>;

    /// Gives `pieces[r]` to process r, and returns the pieces of `len` numbers that this one was given, in the order
    /// of the processes.
    fn exchange(&self, pieces: Vec<Vec<f32>>, len: usize) -> Vec<Vec<f32>>;

    /// The numbers of every process, of which process r has `lens[r]`, in the order of the processes.
    fn collect(&self, own: Vec<f32>, lens: &[usize]) -> Vec<Vec<f32>>;
}
