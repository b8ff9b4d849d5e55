//! What a trainer says while it runs, and how it is asked to stop.

/// One optimizer step, as a screen shows it.
#[derive(Clone, Copy, Debug)]
pub struct StepReport<'a> {
    /// The step, counted from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Tokens that went through the model in this step.
    pub tokens: u64,
    /// Tokens per second of this step.
    pub tokens_per_s: f64,
    /// The loss.
    pub loss: f64,
    /// A few more numbers with their names.
    pub figures: &'a [(&'a str, f64)],
}

/// The other side of a trainer: a screen, a test, or nothing.
///
/// Nothing below the command line prints; this is where the words go.
pub trait Progress {
    /// A part of the work begins; `steps` is its length where that is known.
    fn stage(&mut self, name: &str, steps: Option<u64>);
    /// An optimizer step is done.
    fn step(&mut self, report: &StepReport<'_>);
    /// Something that a reader should know, in a sentence.
    fn note(&mut self, text: &str);
    /// Whether the trainer should save a checkpoint and stop after the current step.
    fn stop_requested(&self) -> bool;
}

/// Says nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&mut self, _: &str, _: Option<u64>) {}

    fn step(&mut self, _: &StepReport<'_>) {}

    fn note(&mut self, _: &str) {}

    fn stop_requested(&self) -> bool {
        false
    }
}
