//! What connects processes.

use std::fmt::Debug;

/// Numbers on their way between processes, in memory that is used again.
#[derive(Debug, Default)]
pub struct Parcel {
    /// What this process gives: the piece of each process behind that of the one before, or one for all.
    pub given: Vec<f32>,
    /// How much of it goes to each process; nothing to itself.
    pub given_lens: Vec<usize>,
    /// What the others gave to this one, in the order of the processes.
    pub taken: Vec<f32>,
    /// How much each gave.
    pub taken_lens: Vec<usize>,
}

impl Parcel {
    /// What each process gave, in their order.
    pub fn pieces(&self) -> impl Iterator<Item = &[f32]> {
        let mut rest = self.taken.as_slice();
        self.taken_lens.iter().map(move |&len| {
            let (piece, others) = rest.split_at(len);
            rest = others;
            piece
        })
    }
}

/// What connects the processes. All of them make the same calls in the same order; where one of them is gone, no
/// call returns.
pub trait Communicator: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// Whether all of them are on one machine.
    fn is_one_machine(&self) -> bool;

    /// What every process gave, in the order of their numbers.
    fn gather(&self, own: Vec<u8>) -> Vec<Vec<u8>>;

    /// Gives each process its piece, and fills `taken`, which has the length of all that comes.
    fn exchange(&self, parcel: Parcel) -> Parcel;

    /// Gives all that is given to every process, and fills `taken`, which has the length of all that comes: what this
    /// process gives too.
    fn collect(&self, parcel: Parcel) -> Parcel;
}
