//! Records as token examples.
//!
//! Prompt and completion are encoded apart and joined as tokens, so that where one ends is known and
//! never searched for. What is trained on follows from that structure, never from the value of a
//! token: an end token counts like any other, also where it doubles as padding elsewhere.

mod answered_prompt;
mod demonstration;
mod encoder;
mod example;
mod judged;
mod length;
mod preference;
mod prompt;
mod steps;
mod unpaired;

pub use answered_prompt::AnsweredPrompt;
pub use demonstration::DemonstrationExample;
pub use encoder::Encoder;
pub use example::{Encoded, Example};
pub use judged::{Judged, JudgedExamples};
pub use length::LengthLimit;
pub use preference::{PairSegments, PreferenceExample};
pub use prompt::PromptExample;
pub use steps::{StepEnd, StepsExample};
pub use unpaired::UnpairedExample;
