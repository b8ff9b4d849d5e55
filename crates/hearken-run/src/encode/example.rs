//! What trainers make of records.

use hearken_data::{Prompted, Record};

use super::encoder::Encoder;
use crate::error::EncodeError;

/// What a trainer makes of one record.
pub trait Example: Sized {
    /// The record.
    type Record: Record + Prompted;

    /// Makes tokens of a record.
    ///
    /// # Errors
    /// If the record does not make an example.
    fn encode(record: &Self::Record, encoder: &Encoder<'_>) -> Result<Encoded<Self>, EncodeError>;

    /// The rows that the example takes in a batch.
    fn rows(&self) -> usize;
}

/// An example, and what became of its length.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoded<E> {
    /// Every token is there.
    Whole(E),
    /// Some tokens were cut off.
    Truncated(E),
    /// It was too long and is left out, or what was cut off left nothing to learn from.
    Dropped,
}
