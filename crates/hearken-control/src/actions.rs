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

    /// Appends actions of the same space.
    ///
    /// # Panics
    /// If they are of another one.
    pub fn extend(&mut self, other: &Self) {
        match (self, other) {
            (Self::Discrete(own), Self::Discrete(other)) => own.extend_from_slice(other),
            (Self::Continuous { values: own, .. }, Self::Continuous { values, .. }) => {
                own.extend_from_slice(values);
            }
            _ => panic!("actions of one space"),
        }
    }

    /// All of them as plain numbers, for a checkpoint.
    pub fn numbers(&self) -> Vec<f32> {
        match self {
            Self::Discrete(indices) => indices.iter().map(|&index| index as f32).collect(),
            Self::Continuous { values, .. } => values.iter().map(|&value| value as f32).collect(),
        }
    }

    /// Replaces all by what [`Actions::numbers`] gave.
    pub fn set_numbers(&mut self, numbers: &[f32]) {
        match self {
            Self::Discrete(indices) => {
                *indices = numbers.iter().map(|&number| number as usize).collect();
            }
            Self::Continuous { values, .. } => {
                *values = numbers.iter().map(|&number| f64::from(number)).collect();
            }
        }
    }

    /// Hands action `index` to `take` as an environment wants it: cut to the bound.
    pub fn with<T>(&self, index: usize, take: impl FnOnce(Action<'_>) -> T) -> T {
        match self {
            Self::Discrete(indices) => take(Action::Discrete(indices[index])),
            Self::Continuous { dimensions, bound, values } => {
                // What most tasks have needs no allocation.
                const FEW: usize = 8;
                let (mut few, mut many);
                let given: &mut [f64] = if *dimensions <= FEW {
                    few = [0.0; FEW];
                    &mut few[..*dimensions]
                } else {
                    many = vec![0.0; *dimensions];
                    &mut many
                };
                let values = &values[index * dimensions..][..*dimensions];
                for (given, value) in given.iter_mut().zip(values) {
                    *given = value.clamp(-1.0, 1.0) * bound;
                }
                take(Action::Continuous(given))
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
