//! Actions and the sets that they are from.

/// What a policy may do in a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ActionSpace {
    /// One of `count` actions, numbered from 0.
    Discrete {
        /// How many there are.
        count: usize,
    },
    /// A vector of numbers; the task clips each to ±`bound`.
    Continuous {
        /// Length of the vector.
        dimensions: usize,
        /// The largest magnitude that makes a difference to the dynamics.
        bound: f64,
    },
}

impl ActionSpace {
    /// How many numbers a policy gives for an action: a logit for each, or a mean for each dimension.
    pub fn outputs(self) -> usize {
        match self {
            Self::Discrete { count } => count,
            Self::Continuous { dimensions, .. } => dimensions,
        }
    }
}

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action<'a> {
    /// The number of one of several actions.
    Discrete(usize),
    /// A number for each dimension.
    Continuous(&'a [f64]),
}

impl Action<'_> {
    /// The number of a discrete action.
    ///
    /// # Panics
    /// If it is continuous: a policy for another kind of task.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Discrete(index) => index,
            Self::Continuous(_) => panic!("this task has discrete actions"),
        }
    }

    /// The only number of a continuous action.
    ///
    /// # Panics
    /// If it is discrete, or has no dimension.
    pub(crate) fn scalar(self) -> f64 {
        match self {
            Self::Continuous(values) => values[0],
            Self::Discrete(_) => panic!("this task has continuous actions"),
        }
    }
}
