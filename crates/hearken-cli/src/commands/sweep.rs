//! `hearken sweep`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use hearken_config::{ConfigError, Configuration, Layers, LoadedConfig};
use hearken_recipes::sweep::{Over, Sweep as Runs, SweepPlan};
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::Start;
use hearken_train::distill::{self, DistillConfig};
use hearken_train::dpo::{self, DpoConfig};
use hearken_train::grpo::{self, GrpoConfig};
use hearken_train::ppo::{self, PpoConfig};
use hearken_train::reward::{self, RewardConfig};
use hearken_train::sft::{self, SftConfig};

use super::check::trainer;
use super::config::Trainer;
use crate::hub::HubNames;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::screen::Screen;
use crate::table::table;
use crate::{device, output};

/// Train with several values of some keys, run after run, and compare the runs
///
/// `run.dir` is the folder of the sweep: its runs are the folders 1, 2, …, ordinary runs each. All combinations of
/// lists are tried; with --draws so many are drawn, from lists and ranges. Every configuration is read before the
/// first run begins. A run that fails is noted, and the next one begins. The same command goes on where a stopped
/// sweep left off. Prints the table, best run first by the last value of the metric; sweep.csv has it too, and
/// report.html has charts.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Sweep {
    /// The configuration of a trainer
    #[arg(value_name = "CONFIG.toml")]
    config: std::path::PathBuf,

    /// A key and its values: KEY=[A, B, …], KEY=uniform(A, B) or KEY=log_uniform(A, B); may be repeated
    #[arg(long, value_name = "KEY=VALUES", required = true)]
    over: Vec<Over>,

    /// The figure of metrics.jsonl that runs are compared by, as eval_loss
    #[arg(long)]
    metric: String,

    /// Whether a higher one is better
    #[arg(long)]
    greater_is_better: bool,

    /// Draw so many combinations instead of trying all
    #[arg(long, value_name = "N")]
    draws: Option<usize>,

    /// The seed of what is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Change a key of the configuration in every run; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,

    /// The command that reads the configuration; without it, its sections say
    #[arg(long = "for", value_name = "COMMAND")]
    of: Option<Trainer>,
}

const EXAMPLES: &str = "\
Examples:
  # my.toml: a file of your own, which `hearken config` begins
  hearken sweep my.toml --metric eval_loss \\
      --over 'optimizer.lr=[1e-5, 3e-5, 1e-4]' --over 'train.batch_size=[8, 16]'
  hearken sweep my.toml --metric eval_accuracy --greater-is-better \\
      --over 'optimizer.lr=log_uniform(1e-6, 1e-3)' --draws 12";

impl Sweep {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let layers = Layers::read("", &self.config, &self.overrides)?;
        let of = self.of.unwrap_or_else(|| trainer(layers.table()));
        if of == Trainer::Rlhf {
            bail!(
                "{}: found a configuration of rlhf, expected one of a single trainer",
                self.config.display()
            );
        }
        let Some(dir) = layers.value("run", "dir").and_then(toml::Value::as_str) else {
            bail!("`run.dir`: found none, expected the folder of the sweep");
        };
        let asked = SweepPlan {
            trainer: format!("{of:?}").to_lowercase(),
            over: self.over.clone(),
            draws: self.draws,
            seed: self.seed,
            metric: self.metric.clone(),
            greater_is_better: self.greater_is_better,
        };
        for settings in asked.settings().map_err(anyhow::Error::msg)? {
            let with = settings.iter().map(|(key, value)| format!("{key}={value}"));
            self.check(of, &self.overrides.iter().cloned().chain(with).collect::<Vec<_>>())?;
        }
        let mut runs = Runs::open(Path::new(dir), asked)?;
        let count = runs.settings().len();
        let (interrupt, mut page) = (Interrupt::of_steps()?, None);
        for index in 0..count {
            let overrides = [self.overrides.clone(), runs.overrides(index)].concat();
            let shown = overrides[self.overrides.len()..overrides.len() - 1].join(", ");
            output::say(&format!("run {} of {count}: {shown}", index + 1));
            let mut screen = Screen::new(interrupt.clone());
            let outcome = self.train(of, &overrides, &mut screen);
            drop(screen);
            let ended = outcome.map(|outcome| outcome.status).map_err(|error| format!("{error:#}"));
            if let Err(reason) = &ended {
                output::say(&format!("run {} failed: {reason}", index + 1));
            }
            let is_stopped = ended == Ok(Status::Stopped) || interrupt.requested();
            page = Some(runs.note(index, ended)?);
            if is_stopped {
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
        let (header, rows) = runs.report()?.table();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        output::print(&table(&header, &rows))?;
        if let Some(page) = page {
            output::print(&format!("\nreport: {}\n", page.display()))?;
        }
        Ok(if runs.failures() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Reads a configuration as a run would.
    fn check(&self, of: Trainer, overrides: &[String]) -> Result<(), ConfigError> {
        match of {
            Trainer::Sft => SftConfig::load(&self.config, overrides).map(|_| ()),
            Trainer::Reward => RewardConfig::load(&self.config, overrides).map(|_| ()),
            Trainer::Dpo => DpoConfig::load(&self.config, overrides).map(|_| ()),
            Trainer::Ppo => PpoConfig::load(&self.config, overrides).map(|_| ()),
            Trainer::Grpo => GrpoConfig::load(&self.config, overrides).map(|_| ()),
            Trainer::Distill => DistillConfig::load(&self.config, overrides).map(|_| ()),
            Trainer::Rlhf => Ok(()),
        }
    }

    /// A run's configuration, its names of the hub in place, as the trainer's own command reads it.
    fn load<C: Configuration>(
        &self,
        overrides: &[String],
        screen: &mut Screen,
    ) -> Result<LoadedConfig<C>> {
        let mut loaded = C::load(&self.config, overrides)?;
        HubNames::new(screen).configuration(&mut loaded, Start::Resume)?;
        Ok(loaded)
    }

    fn train(&self, of: Trainer, overrides: &[String], screen: &mut Screen) -> Result<RunOutcome> {
        let (device, start) = (device::open(), Start::Resume);
        Ok(match of {
            Trainer::Sft => sft::run(device, &self.load(overrides, screen)?, start, screen)?,
            Trainer::Reward => reward::run(device, &self.load(overrides, screen)?, start, screen)?,
            Trainer::Dpo => dpo::run(device, &self.load(overrides, screen)?, start, screen)?,
            Trainer::Ppo => ppo::run(device, &self.load(overrides, screen)?, start, screen)?,
            Trainer::Grpo => grpo::run(device, &self.load(overrides, screen)?, start, screen)?,
            Trainer::Distill => {
                distill::run(device, &self.load(overrides, screen)?, start, screen)?
            }
            Trainer::Rlhf => unreachable!("refused above"),
        })
    }
}
