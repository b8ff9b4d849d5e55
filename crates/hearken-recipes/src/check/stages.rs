//! Runs of several stages.

use std::fs;
use std::path::{Path, PathBuf};

use hearken_config::{DataConfig, LoadedConfig, ScoreConfig};
use hearken_data::feedback::formats::{ImportOptions, import};
use hearken_judge::model::KeptAnswers;
use hearken_model::config::is_adapter;
use hearken_reward_source::judging::{Asking, MemberConfig, MemberKind};
use hearken_run::error::TrainError;
use hearken_run::metrics::Stopwatch;
use hearken_run::run_dir::{OpenFor, RunDirError, Start, refuse_held};
use hearken_run::seeds::Seeds;
use hearken_tensor::Device;
use hearken_train::ppo::{CriticSource, Ppo};
use hearken_train::sft::Sft;

use super::{Check, CheckMethod, Machine, Time, records, rollouts};
use crate::judging::Panel;
use crate::quickstart::{Corpus, write_base};
use crate::rlhf::{
    RlhfConfig, Stage, Todo, refuse_others, score_inputs, stage_of_data, stage_of_labels,
    stage_of_ppo, stage_of_reward, stage_of_sft,
};

/// What a run of several stages would do, stage by stage. A stage whose model an earlier one makes is looked
/// at with the model that the run begins with, which has the same shape and tokenizer; the quickstart's data
/// and model, where they are still to be made, are made in `scratch`.
///
/// # Errors
/// Those of the run before the first step of each stage; also if `scratch` cannot be written.
pub fn rlhf<D: Device>(
    device: &D,
    loaded: &LoadedConfig<RlhfConfig>,
    start: Start,
    machine: Machine,
    scratch: &Path,
) -> Result<Vec<Check>, TrainError> {
    let config = &loaded.config;
    refuse_others(&config.run.dir)?;
    refuse_held(&config.run.dir)?;
    let mut look = Look { config, start, machine, device, scratch, checks: Vec::new() };
    look.data()?;
    look.sft()?;
    look.labels()?;
    look.reward()?;
    look.ppo()?;
    let Look { mut checks, .. } = look;
    let (made, root) = (scratch.display().to_string(), config.run.dir.display().to_string());
    for fact in checks.iter_mut().flat_map(|check| &mut check.facts) {
        fact.text = fact.text.replace(&made, &root);
    }
    Ok(checks)
}

struct Look<'a, D: Device> {
    config: &'a RlhfConfig,
    start: Start,
    machine: Machine,
    device: &'a D,
    /// Where what the first stage makes is made meanwhile.
    scratch: &'a Path,
    checks: Vec<Check>,
}

impl<D: Device> Look<'_, D> {
    fn data(&mut self) -> Result<(), TrainError> {
        let Some(quickstart) = &self.config.quickstart else { return Ok(()) };
        let root = &self.config.run.dir;
        let stage = stage_of_data(self.config, quickstart)?;
        if stage.is_foreign(&[root.join("base")])? {
            return Err(RunDirError::Foreign { dir: root.clone(), name: "data or base" }.into());
        }
        let mut check = Check::new("data");
        if let Todo::Skip(_) = stage.decide(self.start)? {
            check.work = CheckMethod::Done;
        } else {
            let (corpus, base) = (quickstart.corpus(), &quickstart.model);
            let seeds = Seeds::new(self.config.run.seed);
            let watch = Stopwatch::start();
            let made = Corpus::generate(&corpus, seeds);
            let device = self.device.clone();
            write_base(device, base, &made, seeds, &self.scratch.join("base"))?;
            let folder = self.scratch.join("data");
            fs::create_dir_all(&folder).map_err(RunDirError::io(&folder, "be created"))?;
            made.write(&folder).map_err(|error| TrainError::Other(error.to_string()))?;
            let basis = "it took that long to make them in a scratch folder".to_owned();
            let time = Time { seconds: watch.seconds(), basis, is_most: false };
            check.work = CheckMethod::Steps { left: 0, total: 0, time: Some(time) };
            check.tell("run", format!("{}: would be made, with data and a model", root.display()));
            check.tell(
                "data",
                format!(
                    "{} demonstrations, {} comparisons and {} held out, {} held-out prompts",
                    corpus.demonstrations,
                    corpus.preferences,
                    corpus.preferences_eval,
                    corpus.prompts_eval
                ),
            );
            check.tell("model", format!("{} layers of width {}", base.layers, base.width));
        }
        self.checks.push(check);
        Ok(())
    }

    fn sft(&mut self) -> Result<(), TrainError> {
        let Some(loaded) = &self.config.sft else { return Ok(()) };
        let Some(entry) = self.entry("sft", &stage_of_sft(loaded)?)? else { return Ok(()) };
        let mut loaded = loaded.clone();
        let config = &mut loaded.config;
        self.stand_in(&mut config.shared.model.path);
        self.data_stand_in(&mut config.shared.data);
        let found = records::check::<D, Sft>(self.device, &loaded, entry, self.machine)?;
        self.checks.push(found);
        Ok(())
    }

    fn labels(&mut self) -> Result<(), TrainError> {
        let (Some(labels), Some(judges)) = (&self.config.labels, &self.config.judge) else {
            return Ok(());
        };
        let stage = stage_of_labels(self.config, labels, judges)?;
        if self.entry("labels", &stage)?.is_none() {
            return Ok(());
        }
        let mut check = Check::new("labels");
        for pairs in &labels.pairs {
            let mut place = pairs.clone();
            self.file_stand_in(&mut place);
            let read = import(&[&place], None, &ImportOptions::default());
            let read = read.map_err(|error| TrainError::Other(error.to_string()))?;
            let count = read.items.len();
            check.tell("data", format!("{}: {count} items would be labelled", pairs.display()));
        }
        if 0 < labels.sampled {
            let count = labels.sampled;
            check.tell("data", format!("the policy would sample {count} pairs, to be labelled"));
        }
        // Opened as the stage opens them; nobody is asked.
        let asking = Asking::new(&judges.config.budget, KeptAnswers::in_memory());
        let is_made_here = |judge: &MemberConfig| match &judge.who {
            MemberKind::Local { path, .. } | MemberKind::Reward { path, .. } => {
                self.is_made_here(path)
            }
            _ => false,
        };
        if judges.config.judges.iter().any(is_made_here) {
            check.tell("judge", "a judge is still to be made by an earlier stage".to_owned());
        } else {
            let panel = Panel::open(self.device, &judges.config, &asking);
            let panel = panel.map_err(|error| TrainError::Other(error.to_string()))?;
            check.tell("judge", format!("{} would be asked; it was not asked now", panel.name()));
        }
        self.checks.push(check);
        Ok(())
    }

    /// The pairs in the place of labels that are still to be made; nothing where these are still to be sampled.
    fn labels_stand_in(&self, data: &mut DataConfig) -> bool {
        let made = self.config.run.dir.join("labels");
        let is_missing = |path: &PathBuf| path.starts_with(&made) && !path.exists();
        let Some(at) = data.train.iter().position(is_missing) else { return true };
        let pairs = self.config.labels.iter().flat_map(|labels| &labels.pairs);
        data.train.splice(at..=at, pairs.cloned());
        !data.train.is_empty()
    }

    fn reward(&mut self) -> Result<(), TrainError> {
        let Some(loaded) = &self.config.reward else { return Ok(()) };
        let Some(entry) = self.entry("reward", &stage_of_reward(loaded)?)? else { return Ok(()) };
        let mut loaded = loaded.clone();
        let config = &mut loaded.config;
        let note = self.stand_in(&mut config.shared.model.path);
        if !self.labels_stand_in(&mut config.shared.data) {
            let mut check = Check::new("reward");
            check.tell("data", "its pairs are still to be sampled and labelled".to_owned());
            self.checks.push(check);
            return Ok(());
        }
        self.data_stand_in(&mut config.shared.data);
        config.reward.normalize_on.iter_mut().for_each(|path| self.file_stand_in(path));
        let mut found = super::reward_entry(self.device, &loaded, entry, self.machine)?;
        found.tell_all("model", note);
        self.checks.push(found);
        Ok(())
    }

    fn ppo(&mut self) -> Result<(), TrainError> {
        let Some(loaded) = &self.config.ppo else { return Ok(()) };
        let Some(entry) = self.entry("ppo", &stage_of_ppo(loaded)?)? else { return Ok(()) };
        let mut loaded = loaded.clone();
        let mut notes: Vec<String> =
            self.stand_in(&mut loaded.config.shared.model.path).into_iter().collect();
        let config = &mut loaded.config;
        self.data_stand_in(&mut config.shared.data);
        let (later, now) = std::mem::take(&mut config.scores)
            .into_iter()
            .partition(|score| score_inputs(score).iter().any(|path| self.is_made_here(path)));
        config.scores = now;
        notes.extend(later.iter().map(|score: &ScoreConfig| {
            format!(
                "the reward model `{}` is still to be made, and not counted here",
                score.label()
            )
        }));
        if let CriticSource::Checkpoint(path) = &config.ppo.critic
            && self.is_made_here(path)
        {
            notes.push("the critic is still to be made; a head of the policy stands in".to_owned());
            config.ppo.critic = CriticSource::ValueHead;
        }
        let scores_come = !later.is_empty();
        let mut found = rollouts::check_configured::<D, Ppo>(
            self.device,
            &loaded,
            entry,
            self.machine,
            scores_come,
        )?;
        found.tell_all("model", notes);
        self.checks.push(found);
        Ok(())
    }

    /// How a stage's run would open; `None` where it is done.
    fn entry(&mut self, name: &'static str, stage: &Stage) -> Result<Option<OpenFor>, TrainError> {
        if let Todo::Run(start) = stage.decide(self.start)? {
            return Ok(Some(OpenFor::Look(start)));
        }
        self.checks.push(Check { work: CheckMethod::Done, ..Check::new(name) });
        Ok(None)
    }

    /// Puts the model that the run begins with in the place of one that is still to be made, and says so.
    fn stand_in(&self, path: &mut PathBuf) -> Option<String> {
        if !self.is_made_here(path) {
            return None;
        }
        let mut base = self.config.base.clone();
        self.file_stand_in(&mut base);
        let made = std::mem::replace(path, base);
        Some(format!("it stands in for {}, which is still to be made", made.display()))
    }

    /// The same of records.
    fn data_stand_in(&self, data: &mut DataConfig) {
        let mixed = data.mix.iter_mut().flat_map(|source| &mut source.path);
        let files = data.train.iter_mut().chain(mixed).chain(&mut data.eval);
        files.for_each(|path| self.file_stand_in(path));
    }

    /// The same of a file or folder of the first stage.
    fn file_stand_in(&self, path: &mut PathBuf) {
        let Ok(inside) = path.strip_prefix(&self.config.run.dir) else { return };
        let made = self.scratch.join(inside);
        if !path.exists() && made.exists() {
            *path = made;
        }
    }

    /// Whether a model is still to be made by an earlier stage.
    fn is_made_here(&self, path: &Path) -> bool {
        let is_there = path.join("config.json").exists() || is_adapter(path);
        path.starts_with(&self.config.run.dir) && !is_there
    }
}
