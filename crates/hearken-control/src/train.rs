//! A run of `hearken control train`.

use std::path::Path;
use std::time::Duration;

use hearken_config::{LoadedConfig, NonNegative};
use hearken_env::{ActionSpace, ObservationSpace, Spaces};
use hearken_model::checkpoint::TensorFiles;
use hearken_run::error::{StateError, TrainError};
use hearken_run::metrics::{Cost, Stopwatch};
use hearken_run::progress::{Progress, StepReport};
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::checkpoint::{Checkpoint, Files};
use hearken_run::run_dir::{RunDir, Start, write_atomically};
use hearken_run::seeds::Seeds;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clip::film;
use crate::config::{Algorithm, ControlConfig, Method};
use crate::convolution::{Convolution, fit};
use crate::demonstrations::{DemonstrationError, read_demonstrations};
use crate::evaluation::evaluate;
use crate::imitation::adversarial::AdversarialLearner;
use crate::imitation::bc::BcLearner;
use crate::imitation::dagger::DaggerLearner;
use crate::kept::LearnerState;
use crate::learner::{AdvanceError, Learner, fields};
use crate::ppo::PpoLearner;
use crate::preference::learner::PreferenceLearner;
use crate::reward_model::RewardModel;
use crate::rewarded::RewardedLearner;
use crate::rollout::Stage;
use crate::sac::SacLearner;
use crate::saved::{
    Acting, EnterError, SavedError, load_moments, load_networks, save_moments, save_networks,
    save_vectors,
};

impl From<DemonstrationError> for TrainError {
    fn from(error: DemonstrationError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<EnterError> for TrainError {
    fn from(error: EnterError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<SavedError> for TrainError {
    fn from(error: SavedError) -> Self {
        Self::Other(error.to_string())
    }
}

/// What a checkpoint keeps besides files of tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counters {
    iteration: u64,
    seconds: f64,
    learner: LearnerState,
}

/// Trains a policy in a run directory, from its beginning or from the last checkpoint.
///
/// # Errors
/// If the directory is in use or another run's, a file cannot be read or written, or a number is not finite.
pub fn run(
    loaded: &LoadedConfig<ControlConfig>,
    start: Start,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    let config = &loaded.config;
    let seeds = Seeds::new(config.run.seed);
    let opened = config.environment.setup().open(*config.environment.copies);
    let environments = opened.map_err(EnterError::from)?;
    let stage = Stage::new(environments, seeds).map_err(EnterError::from)?;
    check_spaces(config, stage.spaces()).map_err(TrainError::Other)?;
    if let Some(folder) = &config.environment.reward {
        let reward = RewardModel::load(folder, &config.environment.id, stage.spaces())?;
        let learner = RewardedLearner::new(config, reward, stage, seeds);
        return drive(loaded, start, learner, progress);
    }
    if config.imitation.method != Method::None {
        return imitate(loaded, start, stage, progress);
    }
    if 0 < config.preference.labels {
        return match config.train.algorithm {
            Algorithm::Ppo => {
                let learner = PreferenceLearner::<PpoLearner>::new(config, stage, seeds);
                drive(loaded, start, learner, progress)
            }
            Algorithm::Sac => {
                let learner = PreferenceLearner::<SacLearner>::new(config, stage, seeds);
                drive(loaded, start, learner, progress)
            }
        };
    }
    match config.train.algorithm {
        Algorithm::Ppo => drive(loaded, start, PpoLearner::new(config, stage, seeds), progress),
        Algorithm::Sac => drive(loaded, start, SacLearner::new(config, stage, seeds), progress),
    }
}

/// Whether a run can be made with what is seen and done, which of environments of other processes is known only now.
fn check_spaces(config: &ControlConfig, spaces: Spaces) -> Result<(), String> {
    let id = &config.environment.id;
    let is_discrete = matches!(spaces.actions, ActionSpace::Discrete { .. });
    if config.train.algorithm == Algorithm::Sac && is_discrete {
        return Err(format!(
            "`train.algorithm`: found \"sac\", expected \"ppo\": SAC is for continuous actions, and {id} has discrete ones"
        ));
    }
    let is_image = matches!(spaces.observation, ObservationSpace::Image { .. });
    if is_image && config.network.normalize_observations {
        return Err(format!(
            "`network.normalize_observations`: found true, expected false: {id} is seen in pixels, which are at scale"
        ));
    }
    let fits = |key: &str, convolutions: &[Convolution]| {
        fit(convolutions, spaces.observation).map_err(|error| format!("`{key}`: {error}"))
    };
    fits("network.convolutions", &config.network.convolutions)?;
    if 0 < config.preference.labels {
        fits("preference.convolutions", &config.preference.convolutions)?;
    }
    Ok(())
}

/// A run that learns from demonstrations.
fn imitate(
    loaded: &LoadedConfig<ControlConfig>,
    start: Start,
    stage: Stage,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    let config = &loaded.config;
    let (seeds, id, imitation) =
        (Seeds::new(config.run.seed), &config.environment.id, &config.imitation);
    let episodes = match &imitation.demonstrations {
        None => Vec::new(),
        Some(path) => read_demonstrations(path, id, stage.spaces(), imitation.episodes)?,
    };
    match imitation.method {
        Method::None => unreachable!("a run that imitates has a method"),
        Method::Bc => {
            let setup = stage.environments.setup().clone();
            let learner = BcLearner::new(config, setup, stage.spaces(), &episodes, seeds);
            drive(loaded, start, learner, progress)
        }
        Method::Dagger => {
            let folder = imitation.expert.as_deref().unwrap_or(Path::new(""));
            let expert = Acting::load_run(folder)?;
            let is_of_task = expert.environment.id.is_same_task(id);
            if !is_of_task || expert.policy.spaces() != stage.spaces() {
                return Err(TrainError::Other(format!(
                    "`imitation.expert`: found a policy of {}, expected one of {}",
                    expert.environment.id,
                    id.task_name()
                )));
            }
            let learner = DaggerLearner::new(config, expert, &episodes, stage, seeds);
            drive(loaded, start, learner, progress)
        }
        Method::Gail | Method::Airl => {
            let learner = AdversarialLearner::new(config, &episodes, stage, seeds);
            drive(loaded, start, learner, progress)
        }
        Method::Sqil => {
            let learner = SacLearner::new(config, stage, seeds).imitating(&episodes);
            drive(loaded, start, learner, progress)
        }
    }
}

/// A run with its directory.
struct ControlRun<'a, L> {
    config: &'a ControlConfig,
    dir: RunDir,
    learner: L,
    seeds: Seeds,
    iteration: u64,
    /// Iterations of the whole run.
    total: u64,
    /// Seconds of earlier sessions.
    before: f64,
    watch: Stopwatch,
}

fn drive<L: Learner>(
    loaded: &LoadedConfig<ControlConfig>,
    start: Start,
    learner: L,
    progress: &mut dyn Progress,
) -> Result<RunOutcome, TrainError> {
    let config = &loaded.config;
    let (mut dir, checkpoint) = RunDir::open(&config.run, config.log, &loaded.frozen, start)?;
    dir.check_inputs()?;
    let total = learner.iterations(*config.train.environment_steps);
    let mut session = ControlRun {
        config,
        dir,
        learner,
        seeds: Seeds::new(config.run.seed),
        iteration: 0,
        total,
        before: 0.0,
        watch: Stopwatch::start(),
    };
    if let Some(checkpoint) = &checkpoint {
        session.restore(checkpoint)?;
        if session.dir.has_final() && session.is_over() {
            return Ok(session.outcome(Status::AlreadyFinished));
        }
    }
    for note in session.dir.begin()? {
        progress.note(&note);
    }
    if 0 < session.iteration {
        progress.note(&session.dir.going_on_note(session.learner.step()));
    }
    session.steps(progress)
}

impl<L: Learner> ControlRun<'_, L> {
    fn steps(mut self, progress: &mut dyn Progress) -> Result<RunOutcome, TrainError> {
        progress.stage(&format!("{}", self.config.environment.id), Some(self.total));
        if self.iteration == 0 {
            self.evaluate()?;
            self.film("before")?;
        }
        while !self.is_over() {
            if self.is_stopped_waiting(progress)? {
                return Ok(self.stop(progress));
            }
            let watch = Stopwatch::start();
            let record = self.learner.advance(self.seeds, self.iteration);
            let mut record = record.map_err(|error| self.failed(&error))?;
            self.iteration += 1;
            record.insert("seconds".to_owned(), json!(watch.seconds()));
            self.tell(&record, progress);
            let record = self.with_place(record);
            self.dir.metrics.append(&record)?;
            let is_end = self.is_over();
            if is_end || self.is_evaluation_due() {
                self.evaluate()?;
            }
            let stop = progress.stop_requested() && !is_end;
            let is_time =
                self.dir.is_save_due(self.config.train.save_minutes.map(NonNegative::get));
            if is_end || stop || is_time {
                self.save()?;
            }
            if stop {
                return Ok(self.stop(progress));
            }
        }
        self.film("after")?;
        let acting = self.learner.acting();
        self.dir.replace_folder("final", |dir| {
            acting.save(dir)?;
            self.learner.save_beside(dir)?;
            Ok::<_, TrainError>(self.dir.write_card(dir, None)?)
        })?;
        Ok(self.outcome(Status::Finished))
    }

    fn failed(&self, error: &AdvanceError) -> TrainError {
        let step = self.learner.step();
        TrainError::Other(format!("step {step}: {error}; the last checkpoint is kept"))
    }

    /// Ends before its time, with a checkpoint that was just saved.
    fn stop(&self, progress: &mut dyn Progress) -> RunOutcome {
        let steps = self.environment_steps();
        progress
            .note(&format!("stopped after {steps} environment steps; the same command goes on"));
        self.outcome(Status::Stopped)
    }

    /// Waits as long as the learner does, behind a checkpoint; whether it was asked to stop meanwhile.
    fn is_stopped_waiting(&mut self, progress: &mut dyn Progress) -> Result<bool, TrainError> {
        const STEP: Duration = Duration::from_millis(100);
        let mut told = String::new();
        loop {
            let awaited = self.learner.awaited().map_err(|error| self.failed(&error))?;
            let Some(awaited) = awaited else { return Ok(false) };
            if told.is_empty() && 0 < self.iteration {
                self.save()?;
            }
            if told != awaited.text {
                progress.note(&awaited.text);
                told = awaited.text;
            }
            let watch = Stopwatch::start();
            while watch.seconds() < awaited.poll_s {
                if progress.stop_requested() {
                    return Ok(true);
                }
                std::thread::sleep(STEP.min(Duration::from_secs_f64(awaited.poll_s)));
            }
        }
    }

    /// Whether all iterations are made, or there is nothing more to be learned.
    fn is_over(&self) -> bool {
        self.total <= self.iteration || self.learner.is_done()
    }

    fn environment_steps(&self) -> u64 {
        self.iteration * self.learner.steps_per_iteration()
    }

    /// A record behind where it stands.
    fn with_place(&self, record: Map<String, Value>) -> Map<String, Value> {
        let mut whole = Map::new();
        whole.insert("step".to_owned(), json!(self.learner.step()));
        whole.insert("environment_steps".to_owned(), json!(self.environment_steps()));
        whole.extend(record);
        whole
    }

    fn tell(&self, record: &Map<String, Value>, progress: &mut dyn Progress) {
        let number = |key: &str| record.get(key).and_then(Value::as_f64);
        let per_second =
            number("seconds").map_or(0.0, |s| self.learner.steps_per_iteration() as f64 / s);
        let mut figures = vec![("steps/s", per_second)];
        figures.extend(number("episode_return").map(|value| ("return", value)));
        figures.reverse();
        progress.step(&StepReport {
            step: self.iteration,
            total: self.total,
            tokens: 0,
            tokens_per_s: 0.0,
            loss: number("loss/value_avg").unwrap_or(f64::NAN),
            figures: &figures,
        });
    }

    fn is_evaluation_due(&self) -> bool {
        let per = self.learner.steps_per_iteration();
        let (now, before) = (self.environment_steps(), self.environment_steps() - per);
        self.config.train.eval_every.is_some_and(|every| before / every < now / every)
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let seeds = Seeds::new(self.seeds.derive("evaluation", 0, 0));
        let episodes = *self.config.train.eval_episodes;
        let acting = self.learner.acting();
        let evaluation = evaluate(&acting, &acting.environment, episodes, seeds)?;
        let record = self.with_place(fields(&evaluation));
        Ok(self.dir.metrics.append(&record)?)
    }

    /// Leaves an episode of the policy as it is in `clips/`; another process that serves the environment may not be able to draw it.
    fn film(&self, name: &str) -> Result<(), TrainError> {
        const FRAMES_PER_SECOND: u16 = 30;
        let frames_max = self.config.train.clip_frames;
        if frames_max == 0 || self.config.environment.id.task().is_none() {
            return Ok(());
        }
        let acting = self.learner.acting();
        let seeds = Seeds::new(self.seeds.derive("evaluation", 0, 0));
        let clip = film(&acting, &acting.environment, frames_max, seeds)?;
        let bytes = clip.apng(FRAMES_PER_SECOND);
        let bytes = bytes.map_err(|error| TrainError::Other(error.to_string()))?;
        let folder = self.dir.path("clips");
        std::fs::create_dir_all(&folder).map_err(|error| unwritten(&folder, &error))?;
        Ok(write_atomically(&folder.join(format!("{name}.png")), &bytes)?)
    }

    fn seconds(&self) -> f64 {
        self.before + self.watch.seconds()
    }

    fn save(&mut self) -> Result<(), TrainError> {
        let networks = self.learner.networks();
        let values = networks.iter().map(|(_, network)| 12 * network.values().len());
        let vectors = self.learner.vectors();
        let rows = vectors.iter().map(|(_, _, values)| 4 * values.len());
        let step = self.learner.step();
        let files = Files {
            step,
            optimizer_steps: step,
            optimizer_dropped: false,
            bytes: values.chain(rows).sum::<usize>() as u64,
        };
        let (iteration, seconds) = (self.iteration, self.seconds());
        let counters = Counters { iteration, seconds, learner: self.learner.kept() };
        self.dir.save_files(files, &counters, |dir| {
            save_networks(&dir.join("model.safetensors"), &networks)?;
            let state = dir.join("state");
            std::fs::create_dir_all(&state).map_err(|error| unwritten(&state, &error))?;
            save_moments(&state.join("optimizer.safetensors"), &networks)?;
            if !vectors.is_empty() {
                save_vectors(&state.join("experience.safetensors"), &borrowed(&vectors))?;
            }
            Ok(())
        })
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let dir = checkpoint.model_dir(None);
        let counters: Counters = checkpoint.counters()?;
        load_networks(&dir, &mut self.learner.networks_mut())?;
        let moments = dir.join("state/optimizer.safetensors");
        load_moments(&moments, &mut self.learner.networks_mut())?;
        let path = dir.join("state/state.json");
        let wrong = |message| StateError::Broken { path: path.clone(), message };
        self.learner.restore(counters.learner).map_err(wrong)?;
        let experience = dir.join("state/experience.safetensors");
        if !self.learner.vectors().is_empty() {
            let files = TensorFiles::open_file(&experience).map_err(SavedError::from)?;
            self.learner
                .restore_vectors(|name, shape| files.read(name, shape).map_err(SavedError::from))?;
        }
        (self.iteration, self.before) = (counters.iteration, counters.seconds);
        Ok(())
    }

    fn outcome(&self, status: Status) -> RunOutcome {
        let cost = Cost { tokens: 0, flops: 0.0, seconds: self.seconds() };
        let (steps, model_dir) = (self.learner.step(), self.dir.path("final"));
        RunOutcome { status, steps, cost, model_dir }
    }
}

type Vectors<'a> = Vec<(String, Vec<usize>, &'a [f32])>;

fn borrowed(vectors: &[(String, Vec<usize>, Vec<f32>)]) -> Vectors<'_> {
    vectors
        .iter()
        .map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice()))
        .collect()
}

fn unwritten(path: &Path, error: &std::io::Error) -> TrainError {
    TrainError::Other(format!("{}: cannot be created: {error}", path.display()))
}
