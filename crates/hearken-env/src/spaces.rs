//! What is seen of an environment, and what may be done in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::ActionSpace;

/// What is seen of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ObservationSpace {
    /// Numbers.
    Vector {
        /// How many.
        length: usize,
    },
    /// Pixels, `[height, width, channels]`, from 0 to 1.
    Image {
        /// Numbers of each pixel; frames that are stacked have theirs one behind another.
        channels: usize,
        /// Rows of pixels.
        height: usize,
        /// Pixels of a row.
        width: usize,
    },
}

impl ObservationSpace {
    /// How many numbers an observation is.
    pub fn len(self) -> usize {
        match self {
            Self::Vector { length } => length,
            Self::Image { channels, height, width } => channels * height * width,
        }
    }

    /// Whether nothing is seen.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for ObservationSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector { length } => write!(f, "observations of {length} numbers"),
            Self::Image { channels, height, width } => {
                write!(f, "images of {height} × {width} pixels of {channels}")
            }
        }
    }
}

/// What is seen of an environment, and what may be done in it: what a policy must fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spaces {
    /// What is seen.
    pub observation: ObservationSpace,
    /// What may be done.
    pub actions: ActionSpace,
}

impl fmt::Display for Spaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and ", self.observation)?;
        match self.actions {
            ActionSpace::Discrete { count } => write!(f, "{count} actions"),
            ActionSpace::Continuous { dimensions, bound } => {
                write!(f, "actions of {dimensions} numbers within ±{bound}")
            }
        }
    }
}
