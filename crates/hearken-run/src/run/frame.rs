//! The loop that all runs share.

use std::cmp::Ordering;

use hearken_config::NonNegative;
use hearken_model::checkpoint::NoRoom;
use hearken_tensor::Device;

use super::{Counters, Run, TrainerState};
use crate::commentary::Commentary;
use crate::error::TrainError;
use crate::progress::Progress;
use crate::run::{RunOutcome, Status};
use crate::run_dir::checkpoint::{NamedModel, StateFile};

/// What a run does between two checkpoints.
pub trait Frame<D: Device> {
    /// What checkpoints keep.
    type Kept: TrainerState;
    /// How a better evaluation compares to a worse one.
    const BETTER: Ordering;

    /// The run that is driven.
    fn run(&mut self) -> &mut Run<D, Self::Kept>;

    /// The run, and a model that checkpoints have besides those that are trained.
    fn saved(&mut self) -> (&mut Run<D, Self::Kept>, Option<NamedModel<'_, D>>);

    /// What the checkpoint that is made now has of the trainer besides counters.
    fn state_file(&mut self) -> Option<StateFile> {
        None
    }

    /// One step, or an iteration of several.
    ///
    /// # Errors
    /// If a source of scores or preferences fails, a file cannot be written, or a number is NaN or infinite.
    fn advance(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError>;

    /// Writes an evaluation, where there is something to evaluate on; returns the figure that models are
    /// compared by.
    ///
    /// # Errors
    /// If a source fails, or a file cannot be written.
    fn evaluate(&mut self) -> Result<Option<f64>, TrainError>;

    /// Completes prompts for `samples.jsonl`, where the configuration asks for it.
    ///
    /// # Errors
    /// If sampling fails, or the file cannot be written.
    fn write_samples(&mut self) -> Result<(), TrainError>;

    /// Saves what was trained as the folder `name`. Returns the value for which the format that is asked for has no
    /// room, if there is one: then all are f32.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn save_model(&mut self, name: &str) -> Result<Option<NoRoom>, TrainError>;
}

/// Runs to the end, or until `progress` asks to stop.
///
/// # Errors
/// Those of the steps; where sources fail in the midst of a run, a checkpoint is made first.
pub fn drive<D: Device, F: Frame<D>>(
    frame: &mut F,
    stage: &str,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    let mut commentary = Commentary::default();
    let (run, more) = frame.saved();
    run.begin(more, progress)?;
    progress.stage(stage, Some(frame.run().total));
    let first_step = frame.run().step;
    evaluate_at_start(frame)?;
    tell(frame, &mut commentary, progress);
    while !frame.run().is_finished() {
        let (first_step, before) = (frame.run().step, frame.run().counters);
        let advanced = frame.advance(progress);
        or_keep(frame, before, advanced)?;
        let ranks = &frame.run().ranks;
        let stop = ranks.any(progress.stop_requested());
        pause(frame, first_step, stop)?;
        tell(frame, &mut commentary, progress);
        if stop && !frame.run().is_finished() {
            return Ok(frame.run().stopped(progress));
        }
    }
    if let Some(no_room) = save_model(frame, "final")? {
        progress.note(&format!("final: written in float32, since {no_room}"));
    }
    frame.run().note_early_stop(progress);
    note_ranks(frame.run(), first_step, progress);
    commentary.conclude(&frame.run().dir.metrics, progress);
    Ok(frame.run().outcome(Status::Finished))
}

/// Says how much ranks gave to one another, where there are several.
fn note_ranks<D: Device, K: TrainerState>(
    run: &Run<D, K>,
    first_step: u64,
    progress: &mut dyn Progress,
) {
    let (ranks, steps) = (&run.ranks, run.step.saturating_sub(first_step));
    if 1 < ranks.size() && 0 < steps {
        let megabytes = ranks.bytes_sent() as f64 / steps as f64 / 1e6;
        let size = ranks.size();
        progress.note(&format!("{size} ranks: each gave the others {megabytes:.2} MB a step"));
    }
}

/// Says what the logs have that nobody has been told.
fn tell<D: Device, F: Frame<D>>(
    frame: &mut F,
    commentary: &mut Commentary,
    progress: &mut dyn Progress,
) {
    for says in std::mem::take(&mut frame.run().says) {
        progress.note(&says);
    }
    let dir = &mut frame.run().dir;
    commentary.tell(&mut dir.metrics, &mut dir.samples, progress);
}

/// Samples, evaluation and checkpoint, where they have come due since `first_step`.
fn pause<D: Device, F: Frame<D>>(
    frame: &mut F,
    first_step: u64,
    stop: bool,
) -> Result<(), TrainError> {
    let run = frame.run();
    let (step, end, counters) = (run.step, run.is_finished(), run.counters);
    let due = |every: Option<u64>| every.is_some_and(|every| first_step / every < step / every);
    let train = &run.settings.train;
    let (samples, evaluation) = (due(train.sample_every), due(train.eval_every) || end);
    let minutes = train.save_minutes.map(NonNegative::get);
    let is_time = run.ranks.of_first(|| run.dir.is_save_due(minutes));
    let checkpoint = due(train.save_every) || is_time || stop;
    if samples {
        with_average(frame, F::write_samples)?;
    }
    if evaluation {
        let evaluated = evaluate(frame);
        or_keep(frame, Counters { owes_evaluation: true, ..counters }, evaluated)?;
    }
    // The evaluation may have ended the run.
    if checkpoint || frame.run().is_finished() {
        save_checkpoint(frame)?;
    }
    Ok(())
}

/// The evaluation before the first step, or the one that a resumed run owes.
fn evaluate_at_start<D: Device, F: Frame<D>>(frame: &mut F) -> Result<(), TrainError> {
    if frame.run().step == 0 {
        return evaluate(frame);
    }
    let before = frame.run().counters;
    if !before.owes_evaluation {
        return Ok(());
    }
    let evaluated = evaluate(frame);
    or_keep(frame, before, evaluated)?;
    frame.run().counters.owes_evaluation = false;
    save_checkpoint(frame)
}

fn evaluate<D: Device, F: Frame<D>>(frame: &mut F) -> Result<(), TrainError> {
    let own = with_average(frame, F::evaluate)?;
    let run = frame.run();
    let own = own.map(|figure| run.compared_by(figure)).transpose()?;
    // Processors differ in last bits, and all must decide alike.
    let Some(figure) = run.ranks.of_first(|| own) else {
        return frame.run().settings.train.needs_evaluations().map_or(Ok(()), |key| {
            Err(TrainError::Other(format!(
                "`{key}`: found too little to evaluate on, expected records or prompts that are held out"
            )))
        });
    };
    let better = run.better(F::BETTER);
    run.note_gain(figure, better);
    // Where its format has no room, the card says so.
    if run.is_best(figure, better) {
        save_model(frame, "best")?;
    }
    Ok(())
}

/// Does something with the mean of the weights in their place, where the run has one.
fn with_average<D: Device, F: Frame<D>, T>(
    frame: &mut F,
    what: impl FnOnce(&mut F) -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    frame.run().exchange_average();
    let result = what(frame);
    frame.run().exchange_average();
    result
}

/// What may have needed scores. Where these failed, the run is kept as of its last step, with the counters
/// `before` what failed, so that nothing else need be done again; the error says how to go on.
fn or_keep<D: Device, F: Frame<D>>(
    frame: &mut F,
    before: Counters<F::Kept>,
    result: Result<(), TrainError>,
) -> Result<(), TrainError> {
    let error = match result {
        Err(error) if error.is_of_opinions() => Box::new(error),
        other => return other,
    };
    let run = frame.run();
    let (step, root) = (run.step, run.dir.root().to_owned());
    if step == 0 {
        return Err(*error);
    }
    run.counters = before;
    if run.saved != Some(step)
        && let Err(refused) = save_checkpoint(frame)
    {
        return Err(TrainError::NotKept { error, checkpoint: Box::new(refused) });
    }
    Err(TrainError::Kept { error, run: root, step })
}

/// The first process saves what was trained, as the mean of the weights where there is one.
fn save_model<D: Device, F: Frame<D>>(
    frame: &mut F,
    name: &str,
) -> Result<Option<NoRoom>, TrainError> {
    frame.run().gather_masters();
    let saved = match frame.run().ranks.is_first() {
        true => with_average(frame, |frame| frame.save_model(name)),
        false => Ok(None),
    };
    frame.run().share_masters();
    saved
}

fn save_checkpoint<D: Device, F: Frame<D>>(frame: &mut F) -> Result<(), TrainError> {
    let file = frame.state_file();
    let (run, more) = frame.saved();
    run.save_checkpoint(more, file.as_ref())
}
