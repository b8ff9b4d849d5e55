//! What happens to examples that are too long.

use std::ops::Range;

use hearken_config::Truncation;
use hearken_data::Source;

use crate::error::EncodeError;

/// The most tokens of an example, and what happens above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthLimit {
    /// The most tokens.
    pub tokens_max: usize,
    /// What happens to more.
    pub truncation: Truncation,
}

/// Which tokens of an example stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeptSide {
    /// All.
    Whole,
    /// These.
    Part(Range<usize>),
    /// The example is left out.
    Nothing,
}

impl LengthLimit {
    /// Which of `found` tokens stay.
    pub(super) fn keep(self, found: usize, at: &Source) -> Result<KeptSide, EncodeError> {
        let limit = self.tokens_max;
        if found <= limit {
            return Ok(KeptSide::Whole);
        }
        match self.truncation {
            Truncation::Error => Err(EncodeError::TooLong { at: at.clone(), found, limit }),
            Truncation::Drop => Ok(KeptSide::Nothing),
            Truncation::Left => Ok(KeptSide::Part(found - limit..found)),
            Truncation::Right => Ok(KeptSide::Part(0..limit)),
        }
    }
}
