//! What every trainer's command takes, and how it ends.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use hearken_config::{Configuration, LoadedConfig};
use hearken_run::run::{RunOutcome, Status};
use hearken_run::run_dir::{OpenFor, Start};

use crate::hub::HubNames;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::screen::Screen;
use crate::{output, ranks};

#[derive(Args, Debug)]
pub(crate) struct TrainerArguments {
    /// The configuration; the commented files under configs/ list every key
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,

    /// Change a key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) overrides: Vec<String>,

    /// Start anew: the run in the run directory is moved aside, and removed at the first checkpoint
    #[arg(long)]
    fresh: bool,

    /// Train with so many processes on this machine, which mpirun starts; docs/scaling.md
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    ranks: Option<usize>,
}

impl TrainerArguments {
    /// Whether a run that is there goes on.
    pub(crate) fn start(&self) -> Start {
        if self.fresh { Start::Fresh } else { Start::Resume }
    }

    /// Refuses ranks, which a command of one process would not start.
    pub(super) fn check_is_one_process(&self, command: &str) -> Result<()> {
        if let Some(ranks) = self.ranks {
            bail!(
                "--ranks: found {ranks}, expected none: `hearken {command}` is one process; the trainers have \
                 ranks as commands of their own"
            );
        }
        Ok(())
    }
}

/// What a trainer runs with.
pub(crate) struct Going<'a> {
    /// Who runs it, and whether a run that is there goes on.
    pub(crate) entry: OpenFor,
    /// Who is told.
    pub(crate) screen: &'a mut Screen,
}

impl Going<'_> {
    /// Puts folders in the places of names of the hub; the first rank fetches what is not there.
    pub(crate) fn fetch<C: Configuration>(
        &mut self,
        loaded: &mut LoadedConfig<C>,
        start: Start,
    ) -> Result<()> {
        let ranks = self.entry.ranks();
        if !ranks.is_first() {
            ranks.meet();
        }
        HubNames::new(self.screen).configuration(loaded, start)?;
        if ranks.is_first() {
            ranks.meet();
        }
        Ok(())
    }
}

impl TrainerArguments {
    /// Runs a trainer: alone, or as one of the ranks that a launcher started, or that it is asked to start.
    pub(crate) fn run(
        &self,
        train: impl FnOnce(Going<'_>) -> Result<RunOutcome>,
    ) -> Result<ExitCode> {
        let Some(ranks) = ranks::join(self.ranks)? else {
            return ranks::launch(self.ranks.unwrap_or(1));
        };
        let mut screen = match (ranks.size(), ranks.is_first()) {
            (1, _) => Screen::new(Interrupt::of_steps()?),
            (_, true) => Screen::new(Interrupt::of_ranks()?),
            (_, false) => Screen::quiet(Interrupt::of_ranks()?),
        };
        let entry = OpenFor::Run(self.start(), ranks.clone());
        let outcome = match train(Going { entry, screen: &mut screen }) {
            Err(error) if 1 < ranks.size() => ranks::fail(error, &ranks),
            outcome => outcome?,
        };
        drop(screen);
        match (ranks.is_first(), outcome.status) {
            (true, _) => Ok(conclude(&outcome)?),
            (false, Status::Stopped) => Ok(ExitCode::from(INTERRUPTED)),
            (false, _) => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Says how a run ended, and prints the folder of the model that came of it.
pub(crate) fn conclude(outcome: &RunOutcome) -> std::io::Result<ExitCode> {
    let steps = outcome.steps;
    match outcome.status {
        Status::Finished => output::say(&format!("finished after {steps} steps")),
        Status::AlreadyFinished => {
            output::say(&format!("this run has made its {steps} steps; --fresh starts it anew"));
        }
        // The trainer has said where it stopped, and how it goes on.
        Status::Stopped => return Ok(ExitCode::from(INTERRUPTED)),
    }
    output::print(&format!("{}\n", outcome.model_dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
