//! `hearken check`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use hearken_config::{Configuration as _, Layers, RunConfig};
use hearken_recipes::check::{self, CheckMethod, Machine, Time};
use hearken_recipes::rlhf::RlhfConfig;
use hearken_train::distill::DistillConfig;
use hearken_train::dpo::DpoConfig;
use hearken_train::grpo::GrpoConfig;
use hearken_train::ppo::PpoConfig;
use hearken_train::reward::RewardConfig;
use hearken_train::sft::SftConfig;
use toml::{Table, Value};

use super::config::Trainer;
use super::trainer_arguments::TrainerArguments;
use crate::hub::HubNames;
use crate::screen::Screen;
use crate::time_left::shown;
use crate::{device, machine, output};

/// Say what a run would do, how long it would take and how much, without doing it
///
/// Reads the configuration, the run directory, the data and the models as the run would, with the run's own errors,
/// and times a few passes on the data. Fetches what is named on the Hugging Face Hub into its cache; else writes nothing (the quickstart's data go to a scratch folder that is removed),
/// and asks no server and no program. Which command the configuration is for, its sections say; one without a
/// trainer's own section is taken for `ppo` where completions are scored, else for `sft`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    #[command(flatten)]
    trainer: TrainerArguments,

    /// The command that would read the configuration
    #[arg(long = "for", value_name = "COMMAND")]
    of: Option<Trainer>,
}

const EXAMPLES: &str = "\
Examples:
  hearken check configs/quickstart.toml
  hearken check configs/sft.toml --set run.dir=runs/sft \\
      --set model.path=runs/quickstart/base --set train.epochs=1 \\
      --set data.train=runs/quickstart/data/demonstrations.jsonl
  # A file of your own, which `hearken config` begins
  hearken check my.toml --set optimizer.lr=1e-5 --fresh
  hearken check my.toml --for dpo";

/// What a line may take: half a screen beside something else.
const COLUMNS: usize = 60;
/// What a fact is about stands in front of it.
const MARGIN: usize = 8;

impl Check {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.trainer.check_is_one_process("check")?;
        let TrainerArguments { config, overrides, .. } = &self.trainer;
        let of = match self.of {
            Some(of) => of,
            None => trainer(Layers::read("", config, overrides)?.table()),
        };
        let checks = self.checks(of)?;
        let mut text = String::new();
        if of == Trainer::Rlhf {
            text += &line("rlhf", &checks);
            text.push('\n');
        }
        let each: Vec<String> = checks.iter().map(told).collect();
        text += &each.join("\n");
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn checks(&self, of: Trainer) -> Result<Vec<check::Check>> {
        let TrainerArguments { config, overrides, .. } = &self.trainer;
        let (device, start) = (&device::open(), self.trainer.start());
        let mut screen = Screen::without_interrupts();
        let mut names = HubNames::new(&mut screen);
        Ok(match of {
            Trainer::Sft => {
                let mut loaded = SftConfig::load(config, overrides)?;
                names.configuration(&mut loaded, start)?;
                vec![check::sft(device, &loaded, start, spare(&loaded.config.shared.run))?]
            }
            Trainer::Reward => {
                let mut loaded = RewardConfig::load(config, overrides)?;
                names.configuration(&mut loaded, start)?;
                vec![check::reward(device, &loaded, start, spare(&loaded.config.shared.run))?]
            }
            Trainer::Dpo => {
                let mut loaded = DpoConfig::load(config, overrides)?;
                names.configuration(&mut loaded, start)?;
                vec![check::dpo(device, &loaded, start, spare(&loaded.config.shared.run))?]
            }
            Trainer::Ppo => {
                let mut loaded = PpoConfig::load(config, overrides)?;
                names.configuration(&mut loaded, start)?;
                vec![check::ppo(device, &loaded, start, spare(&loaded.config.shared.run))?]
            }
            Trainer::Grpo => {
                let mut loaded = GrpoConfig::load(config, overrides)?;
                names.configuration(&mut loaded, start)?;
                vec![check::grpo(device, &loaded, start, spare(&loaded.config.shared.run))?]
            }
            Trainer::Distill => {
                let mut loaded = DistillConfig::load(config, overrides)?;
                names.configuration(&mut loaded, start)?;
                vec![check::distill(device, &loaded, start, spare(&loaded.config.shared.run))?]
            }
            Trainer::Rlhf => {
                let mut loaded = RlhfConfig::load(config, overrides)?;
                names.stages(&mut loaded, start)?;
                let scratch = tempfile::tempdir().context("a scratch folder")?;
                let machine = spare(&loaded.config.run);
                check::rlhf(device, &loaded, start, machine, scratch.path())?
            }
        })
    }
}

/// The command that a configuration with these keys is for.
pub(super) fn trainer(table: &Table) -> Trainer {
    let has = |name: &str| table.contains_key(name);
    // A stage of several has sections of its own.
    let is_stage = |name: &str| {
        let stage = table.get(name).and_then(Value::as_table);
        stage.is_some_and(|stage| {
            ["data", "train", "model"].iter().any(|part| stage.contains_key(*part))
        })
    };
    let pipeline = ["quickstart", "evaluation", "sft"];
    if pipeline.into_iter().any(has) || is_stage("reward") || is_stage("ppo") {
        return Trainer::Rlhf;
    }
    let sections = [
        ("ppo", Trainer::Ppo),
        ("grpo", Trainer::Grpo),
        ("distill", Trainer::Distill),
        ("teacher", Trainer::Distill),
        ("dpo", Trainer::Dpo),
        ("online", Trainer::Dpo),
        ("judge", Trainer::Dpo),
        ("reward", Trainer::Reward),
        ("score", Trainer::Ppo),
        ("rollout", Trainer::Ppo),
    ];
    let found = sections.into_iter().find(|(name, _)| has(name));
    found.map_or(Trainer::Sft, |(_, of)| of)
}

fn spare(run: &RunConfig) -> Machine {
    let disk: Option<machine::Disk> = machine::disk(Path::new(&run.dir));
    Machine {
        memory_bytes: machine::memory().map(machine::Memory::usable),
        disk_bytes: disk.map(|disk| disk.free),
    }
}

/// A check, its verdict first.
fn told(found: &check::Check) -> String {
    let mut text = line(found.name, std::slice::from_ref(found));
    for doubt in &found.doubts {
        text += &wrapped("look", doubt);
    }
    if let CheckMethod::Steps { time: Some(Time { basis, .. }), .. } = &found.work {
        text += &wrapped("time", basis);
    }
    let mut before = "";
    for fact in &found.facts {
        let about = if fact.about == before { "" } else { fact.about };
        text += &wrapped(about, &fact.text);
        before = fact.about;
    }
    text
}

/// Whether it can start, how much there is to do and how long that takes.
fn line(name: &str, checks: &[check::Check]) -> String {
    let doubts: usize = checks.iter().map(|one| one.doubts.len()).sum();
    let verdict = match doubts {
        _ if checks.iter().all(|one| one.work == CheckMethod::Done) => {
            "done already, nothing to do"
        }
        0 => "ready to start",
        _ => "to be looked at first",
    };
    let (mut left, mut seconds, mut whole, mut most) = (0, 0.0, true, false);
    for one in checks {
        match &one.work {
            CheckMethod::Steps { left: steps, time, .. } => {
                left += steps;
                whole &= time.is_some();
                if let Some(time) = time {
                    seconds += time.seconds;
                    most |= time.is_most;
                }
            }
            CheckMethod::Unknown => whole = false,
            CheckMethod::Done => {}
        }
    }
    let mut text = format!("{name}: {verdict}");
    if 0 < left {
        let _ = write!(text, "; {left} steps");
    }
    if whole && 0 < left {
        let about = if most { "at most about" } else { "about" };
        // A second is the least that is shown.
        let time = Duration::try_from_secs_f64(seconds.max(1.0)).unwrap_or(Duration::MAX);
        let _ = write!(text, ", {about} {}", shown(time));
    }
    text.push('\n');
    text
}

/// A sentence beside what it is about, in lines as far as [`COLUMNS`] reach.
fn wrapped(about: &str, sentence: &str) -> String {
    let mut text = format!("{about:MARGIN$}");
    let mut columns = MARGIN;
    for (index, word) in sentence.split_whitespace().enumerate() {
        let width = word.chars().count();
        if 0 < index && COLUMNS < columns + 1 + width {
            let _ = write!(text, "\n{:MARGIN$}", "");
            columns = MARGIN;
        } else if 0 < index {
            text.push(' ');
            columns += 1;
        }
        text.push_str(word);
        columns += width;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_follows_from_the_sections() {
        let of = |text: &str| trainer(&text.parse().unwrap());
        assert_eq!(of("[model]\n[data]\n[train]\n"), Trainer::Sft);
        assert_eq!(of("[reward]\ncenter = 0.1\n"), Trainer::Reward);
        assert_eq!(of("[ppo]\nepochs = 1\n[[score]]\nkind = 'regex'\n"), Trainer::Ppo);
        assert_eq!(of("[model]\n[train]\n[[score]]\nkind = 'regex'\n"), Trainer::Ppo);
        assert_eq!(of("[grpo]\n[rollout]\n[[score]]\nkind = 'regex'\n"), Trainer::Grpo);
        assert_eq!(of("[teacher]\n[rollout]\n"), Trainer::Distill);
        assert_eq!(of("[dpo]\nonline = 'dpo'\n[judge]\n"), Trainer::Dpo);
        assert_eq!(of("[quickstart]\n"), Trainer::Rlhf);
        assert_eq!(of("[model]\n[ppo.train]\nsteps = 1\n"), Trainer::Rlhf);
    }

    #[test]
    fn a_sentence_is_wrapped_at_sixty_columns() {
        let text = wrapped("model", &"word ".repeat(30));
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(text.starts_with("model   word") && text.contains("\n        word"), "{text}");
    }
}
