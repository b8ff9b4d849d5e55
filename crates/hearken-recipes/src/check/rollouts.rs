//! Runs that sample.

use hearken_config::{Frozen, LoadedConfig, ScoreConfig, SharedSections, SourceConfig};
use hearken_generate::Sampling;
use hearken_model::OutputGrads;
use hearken_reward_source::WeightedSum;
use hearken_run::budget::BudgetModel;
use hearken_run::error::TrainError;
use hearken_run::metrics::Stopwatch;
use hearken_run::run::{Opened, Stored};
use hearken_run::run_dir::OpenFor;
use hearken_tensor::Device;
use hearken_tensor::device::PredictionGrad;
use hearken_train::rollout::feed::Feed;
use hearken_train::rollout::session::RolloutSession;
use hearken_train::rollout::settings::{Configured, RolloutSettings};
use hearken_train::rollout::train::{
    Configurable, Inputs, Iterations, RolloutTrainer, look_at_sources,
};
use hearken_train::rollout::{
    CompletionBatch, SampleOptions, Sequence, completion_microbatches, sample,
};

use super::{
    Check, CheckMethod, ENOUGH_SECONDS, FORWARD, Machine, Notes, Time, evaluations, fastest,
    lengths, seconds, share,
};

/// Tokens of a first, short sample; the difference to a longer one is what a token takes.
const SHORT: usize = 2;
/// Tokens of the longer sample at most.
const LONG: usize = 18;

/// What the run of a configuration that samples would do; with `scores_come`, more sources will be there
/// when it runs.
pub(super) fn check_configured<D: Device, T: Configurable<D>>(
    device: &D,
    loaded: &LoadedConfig<T::Config>,
    entry: OpenFor,
    machine: Machine,
    scores_come: bool,
) -> Result<Check, TrainError> {
    let config = T::within_memory(&loaded.config)?;
    let (run, mut settings) = config.settings();
    settings.needs_scores &= !scores_come;
    let looked = || {
        look_at_sources(&run, &settings, device, loaded.frozen.file())?;
        Ok((T::new(config), (run, settings)))
    };
    check(device, &loaded.frozen, entry, machine, looked)
}

/// What the trainer that `look` returns would do; `look` opens who scores, which loads reward models.
pub(super) fn check<D: Device, T: RolloutTrainer<D>>(
    device: &D,
    frozen: &Frozen,
    entry: OpenFor,
    machine: Machine,
    look: impl FnOnce() -> Result<(T, (SharedSections, RolloutSettings)), TrainError>,
) -> Result<Check, TrainError> {
    let (trainer, (run, settings)) = look()?;
    let mut check = Check::new(T::STAGE);
    check.model(&run)?;
    if check.is_too_large(&run, machine)? {
        return Ok(check);
    }
    let mut notes = Notes::default();
    let mut sources = WeightedSum::new();
    let inputs = Inputs { frozen, entry, sources: &mut sources };
    let opened = Iterations::open(device.clone(), trainer, (run, settings), inputs, &mut notes)?;
    let mut iterations = match opened {
        Opened::Finished(outcome) => return Ok(check.done(notes, &outcome)),
        Opened::Ready(iterations) => iterations,
    };
    notes.told_of("data", &mut check);
    let feed = &iterations.session.feed;
    let what = if matches!(feed, Feed::Replay(_)) { "recorded tree" } else { "prompt" };
    check.tell("data", lengths(&feed.rows(), what));
    let mut plan = Notes::default();
    iterations.announce(&mut plan)?;
    plan.told_of("plan", &mut check);
    let session = &mut iterations.session;
    if matches!(session.feed, Feed::Prompts(_)) {
        session.settings.scores.iter().for_each(|score| check.tell("scores", source(score)));
    }
    let memory = session.memory()?;
    let (run, more) = session.saved();
    check.run(run, more, &memory, machine)?;
    let (total, left) = (session.run.total, session.run.total - session.run.step);
    check.work = CheckMethod::Steps { left, total, time: Some(time(session, left)?) };
    Ok(check)
}

/// A source by its name, and what becomes of it.
fn source(score: &ScoreConfig) -> String {
    let what = match &score.source {
        SourceConfig::Model { path, .. } => format!("the reward model {}", path.display()),
        SourceConfig::Ensemble { paths, .. } => format!("{} reward models", paths.len()),
        SourceConfig::Distance { path, baseline, .. } => {
            format!("distance from {}, as {} sees it", baseline.display(), path.display())
        }
        SourceConfig::Process { path, .. } => {
            format!("the process reward model {}", path.display())
        }
        SourceConfig::Heuristic { .. }
        | SourceConfig::Regex { .. }
        | SourceConfig::Contains { .. } => "a function of the text".to_owned(),
        SourceConfig::Verifier { answer, .. } => format!("answers are in the column `{answer}`"),
        SourceConfig::Code { program, .. } => {
            format!("{program} would run what is sampled; it was not started now")
        }
        SourceConfig::Command { program, .. } => {
            format!("the program {program} would be asked; it was not started now")
        }
        SourceConfig::Judge { config, .. } => {
            format!("the judges of {} would be asked; they were not asked now", config.display())
        }
        SourceConfig::Http { url, .. } => {
            format!("the server {url} would be asked; it was not asked now")
        }
    };
    format!("{} × {}: {what}", *score.weight, score.label())
}

/// The longest that the run can take: every completion as long as it may be.
fn time<D: Device, E: Stored>(
    session: &mut RolloutSession<D, E>,
    left: u64,
) -> Result<Time, TrainError> {
    let RolloutSettings { prompts, epochs, minibatches, .. } = session.settings;
    let rollout = &session.settings.rollout;
    let completions = *rollout.completions;
    let new = session.feed.new_tokens_max(*rollout.max_new_tokens);
    let iterations = left.div_ceil((epochs * minibatches) as u64) as f64;
    let lengths = session.feed.rows();
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
    let (sampling, rows, is_most) = match &session.feed {
        Feed::Prompts(_) => {
            let sampling = sampling_seconds(session, prompts * completions, new)?;
            (sampling, prompts as f64 * (mean + (completions * new) as f64), true)
        }
        // Trees of all iterations, each of which is learned from.
        Feed::Replay(recorded) => {
            let all = lengths.iter().sum::<usize>() as f64;
            (0.0, all / recorded.len().max(1) as f64, false)
        }
    };
    let per_row = pass_seconds_per_row(session, mean.round().max(1.0) as usize, new);
    let critic = session.run.companion.as_ref();
    let critic = critic.map_or(0.0, |critic| share(&critic.model, &session.run.model));
    let policy = session.run.model.footprint().parameters.max(1) as f64;
    let mut scorers = 0.0;
    if is_most {
        for part in BudgetModel::scores(&session.settings.scores) {
            scorers += part.footprint()?.parameters as f64 / policy;
        }
    }
    // The policy before the first update, its reference, the critic and the reward models read.
    let passes = epochs as f64 * (1.0 + critic) + FORWARD * (2.0 + critic + scorers);
    let learning = rows * per_row * passes;
    let held_out = session.feed.eval().len() as f64;
    let evaluations = evaluations(&session.run.settings.train, left);
    let per_completion =
        (sampling + rows * per_row * FORWARD * (2.0 + scorers)) / (prompts * completions) as f64;
    let basis = format!(
        "an estimate: an iteration of {} steps takes {} of sampling and {} of learning, as timed here; \
         without programs, servers, samples and checkpoints",
        epochs * minibatches,
        seconds(sampling),
        seconds(learning),
    );
    let evaluating = held_out * evaluations as f64 * per_completion;
    Ok(Time { seconds: iterations * (sampling + learning) + evaluating, basis, is_most })
}

/// Seconds in which so many completions of `new` tokens are sampled.
fn sampling_seconds<D: Device, E: Stored>(
    session: &mut RolloutSession<D, E>,
    count: usize,
    new: usize,
) -> Result<f64, TrainError> {
    let completions = *session.settings.rollout.completions;
    let at_once = count.min(session.engine_options().batch_rows_max);
    let asked = at_once.div_ceil(completions);
    let mut cursor = session.run.counters.cursor;
    let prompts = session.feed.next(asked, &mut cursor);
    let sampled = (asked * completions) as f64;
    let timed = |session: &RolloutSession<D, E>, tokens: usize| -> Result<f64, TrainError> {
        let max_new_tokens = tokens.min(new);
        let stop = Vec::new();
        let own = Sampling { max_new_tokens, stop, ignore_eos: true, ..session.sampling.clone() };
        let options = SampleOptions { sampling: &own, ..session.sample_options("check") };
        let watch = Stopwatch::start();
        sample(&session.run.model, session.run.tokenizer.as_ref(), &prompts, &options)?;
        Ok(watch.seconds())
    };
    let mut short = timed(session, SHORT)?;
    if short < ENOUGH_SECONDS {
        // The first one prepared weights and buffers.
        short = timed(session, SHORT)?;
    }
    let tokens = (ENOUGH_SECONDS * SHORT as f64 / short.max(1e-6)) as usize;
    let tokens = tokens.clamp(SHORT + 2, LONG).min(new);
    if tokens <= SHORT {
        return Ok(short * count as f64 / sampled);
    }
    let long = timed(session, tokens)?;
    let per_token = ((long - short) / (tokens - SHORT) as f64).max(long / (20 * tokens) as f64);
    Ok((long + (new - tokens) as f64 * per_token) * count as f64 / sampled)
}

/// Seconds of a forward and a backward pass for each row of a microbatch of completions.
fn pass_seconds_per_row<D: Device, E: Stored>(
    session: &mut RolloutSession<D, E>,
    prompt: usize,
    new: usize,
) -> f64 {
    let forward = session.forward_options();
    let positions = session.run.model.config().max_positions;
    // Any token will do: a pass takes as long whatever it reads.
    let ids = vec![0_u32; positions];
    let (prompt, completion) = (prompt.min(positions - 1), new.min(positions - 1));
    let completion = completion.min(positions - prompt).max(1);
    let one = Sequence { prompt: &ids[..prompt], completion: &ids[..completion] };
    let rows = prompt + completion * *session.settings.rollout.completions;
    let count = *session.settings.rollout.completions * (forward.microbatch_tokens / rows).max(1);
    let sequences = vec![one; count.min(forward.microbatch_tokens / completion).max(1)];
    let group = completion_microbatches(&sequences, forward.microbatch_tokens).swap_remove(0);
    let batch = CompletionBatch::new(&sequences[group]);
    let grad = PredictionGrad { logprob: 1e-6, entropy: 0.0 };
    let prediction_grads = vec![grad; batch.predictions.len()];
    let run = &mut session.run;
    let best = fastest(|| {
        run.begin_step();
        let mut pass = run.forward(&batch.batch);
        let (predictions, head) = (&batch.predictions, forward.head(true));
        run.model.logprobs_keeping(&mut pass, predictions, head, forward.logits_bytes);
        let grads = OutputGrads {
            predictions,
            prediction_grads: &prediction_grads,
            head: forward.head(false),
            ..OutputGrads::default()
        };
        run.backward(pass, &grads);
    });
    best / batch.batch.rows() as f64
}
