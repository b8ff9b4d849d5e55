//! What a step comes to, and what it looks like.

/// Whether an episode goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// It goes on.
    Running,
    /// The task ended: what follows is worth 0.
    Terminated,
    /// A time limit cut it off: what follows is worth what the value of the last state says.
    Truncated,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnvironmentStep {
    /// The reward of the action.
    pub reward: f64,
    /// Whether the episode is over.
    pub end: StepEnd,
}

/// A picture of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Red, green and blue of each pixel, row by row.
    pub pixels: Vec<u8>,
}
