//! `hearken rlhf`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use hearken_config::LoadedConfig;
use hearken_recipes::rlhf::{self, RlhfConfig};
use hearken_report::outcome::{
    Evaluation, Figure, PolicyComparison, PolicyComparisons, StageSummary,
};
use hearken_run::run::Status;
use hearken_run::run_dir::Start;
use hearken_stats::Estimate;
use hearken_stats::estimate::Interval;

use super::trainer_arguments::TrainerArguments;
use crate::device;
use crate::hub::HubNames;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::output;
use crate::screen::Screen;
use crate::table::{scaled, table};
use crate::time_left::shown;

/// The stages in order from one configuration: fine-tuning, reward model, PPO
///
/// A stage is skipped when its output is there and its inputs are unchanged. Prints what each stage
/// cost and what came of it, and where the report is.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Rlhf {
    #[command(flatten)]
    trainer: TrainerArguments,
}

const EXAMPLES: &str = "\
Examples:
  hearken rlhf configs/quickstart.toml
  hearken rlhf configs/quickstart.toml --set run.seed=1 \\
      --set run.dir=runs/quickstart-1
  # A file of your own, which `hearken config rlhf > my.toml` begins
  hearken rlhf my.toml --fresh";

impl Rlhf {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.trainer.check_is_one_process("rlhf")?;
        let loaded = RlhfConfig::load(&self.trainer.config, &self.trainer.overrides)?;
        run_stages(loaded, self.trainer.start())
    }
}

/// Runs the stages of a configuration, and says what they cost and bought.
pub(super) fn run_stages(mut loaded: LoadedConfig<RlhfConfig>, start: Start) -> Result<ExitCode> {
    let mut screen = Screen::new(Interrupt::of_steps()?);
    HubNames::new(&mut screen).stages(&mut loaded, start)?;
    let done = rlhf::run(device::open(), &loaded, start, &mut screen)?;
    drop(screen);
    if done.status == Status::Stopped {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    output::print(&text(&done.outcome))?;
    if let Some(report) = done.report {
        output::print(&format!("\nreport: {}\n", report.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the stages cost and bought.
fn text(outcome: &PolicyComparisons) -> String {
    let header = ["stage", "tokens", "operations", "time", "peak memory", "what came of it"];
    let rows: Vec<Vec<String>> = outcome.stages.iter().map(row).collect();
    let mut text = table(&header, &rows);
    if let Some(evaluation) = &outcome.evaluation {
        text.push('\n');
        text += &compared(evaluation);
    }
    text
}

fn row(stage: &StageSummary) -> Vec<String> {
    let memory = stage.peak_memory_bytes.map_or_else(
        || "?".to_owned(),
        |bytes| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
    );
    let time = Duration::try_from_secs_f64(stage.seconds).unwrap_or_default();
    let tokens = scaled(stage.tokens as f64);
    vec![
        stage.name.clone(),
        tokens,
        scaled(stage.flops),
        shown(time),
        memory,
        figures(&stage.bought),
    ]
}

fn figures(figures: &[Figure]) -> String {
    let shown = figures.iter().map(|figure| format!("{} {}", figure.name, number(figure.value)));
    shown.collect::<Vec<_>>().join(", ")
}

/// A count whole, any other number with four digits behind the point.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.4}") }
}

/// The policy before and after, each number with its interval.
fn compared(evaluation: &Evaluation) -> String {
    let Evaluation { prompts, before, after, .. } = evaluation;
    let header = ["", before.as_str(), after.as_str(), "difference", "in standard errors"];
    let rows: Vec<Vec<String>> = evaluation.quantities.iter().map(quantity).collect();
    let mut text = format!(
        "{after} against {before}: means over {prompts} held-out prompts with intervals of 95 %\n\n{}\n",
        table(&header, &rows)
    );
    if let Some(rate) = &evaluation.win_rate {
        let by = &evaluation.win_rate_by;
        let _ = writeln!(text, "win rate of {after} by {by}: {rate}");
    }
    let limit = evaluation.kl_limit_nats;
    let limit = limit.map_or_else(String::new, |limit| format!("; the limit is {limit}"));
    let _ = writeln!(text, "KL to {before}, nats per completion: {}{limit}", evaluation.kl_nats);
    text
}

fn quantity(quantity: &PolicyComparison) -> Vec<String> {
    let shown = |estimate: &Estimate| {
        let Estimate { value, low, high, .. } = *estimate;
        format!("{value:.3} {}", Interval { low, high, digits: 3 })
    };
    let errors = quantity.standard_errors();
    vec![
        quantity.quantity.clone(),
        shown(&quantity.before),
        shown(&quantity.after),
        shown(&quantity.difference),
        errors.map_or_else(String::new, |errors| format!("{errors:+.1}")),
    ]
}
