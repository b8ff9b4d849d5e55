//! Actions as they are stored.

use hearken_env::{Action, ActionSpace};

/// Actions of one kind, one after another. Continuous ones are in units of their space's bound.
#[derive(Clone, Debug, PartialEq)]
pub enum Actions {
    /// Numbers of discrete actions.
    Discrete(Vec<usize>),
    /// Vectors of `dimensions` numbers.
    Continuous {
        /// Length of an action.
        dimensions: usize,
        /// What an environment is given at 1.
        bound: f64,
        /// All numbers.
        values: Vec<f64>,
    },
}

impl Actions {
    /// None, of a space.
    pub fn new(space: ActionSpace) -> Self {
        match space {
            ActionSpace::Discrete { .. } => Self::Discrete(Vec::new()),
            ActionSpace::Continuous { dimensions, bound } => {
                Self::Continuous { dimensions, bound, values: Vec::new() }
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Discrete(indices) => indices.len(),
            Self::Continuous { dimensions, values, .. } => values.len() / dimensions,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all.
    pub fn clear(&mut self) {
        match self {
            Self::Discrete(indices) => indices.clear(),
            Self::Continuous { values, .. } => values.clear(),
        }
    }

    /// Hands action `index` to `take` as an environment wants it: cut to the bound.
    pub fn with<T>(&self, index: usize, take: impl FnOnce(Action<'_>) -> T) -> T {
        match self {
            Self::Discrete(indices) => take(Action::Discrete(indices[index])),
            Self::Continuous { dimensions, bound, values } => {
                const DIMENSIONS_MAX: usize = 8;
                let mut given = [0.0; DIMENSIONS_MAX];
                let values = &values[index * dimensions..][..*dimensions];
                for (given, value) in given.iter_mut().zip(values) {
                    *given = value.clamp(-1.0, 1.0) * bound;
                }
                take(Action::Continuous(&given[..*dimensions]))
            }
        }
    }

    /// Appends action `index` as a network reads it: 1 at the number of a discrete one, or the numbers cut to ±1.
    pub fn encode(&self, index: usize, space: ActionSpace, row: &mut Vec<f32>) {
        match self {
            Self::Discrete(indices) => {
                let start = row.len();
                row.resize(start + space.outputs(), 0.0);
                row[start + indices[index]] = 1.0;
            }
            Self::Continuous { dimensions, values, .. } => {
                let values = &values[index * dimensions..][..*dimensions];
                row.extend(values.iter().map(|value| value.clamp(-1.0, 1.0) as f32));
            }
        }
    }
}
