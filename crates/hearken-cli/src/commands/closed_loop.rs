//! `hearken loop`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Args;
use hearken_config::LoadedConfig;
use hearken_recipes::closed_loop::{
    self, ByHand, Deploy, LoopConfig, LoopStatus, RoundSummary, summaries,
};
use hearken_run::run_dir::Start;
use hearken_stats::Estimate;
use hearken_stats::estimate::Interval;

use crate::device;
use crate::hub::HubNames;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::output;
use crate::screen::Screen;
use crate::server::Server;
use crate::table::table;

/// Ask, learn, update the policy, compare, promote or roll back, round by round
///
/// The policy answers; pairs of its answers are chosen and labelled by simulated users, judges or people; reward models learn from all
/// labels so far, the policy from the reward models; it takes the place of the one before it if it is better, by a test that may be looked at
/// at any time, and keeps its limits. A loop that is interrupted, or waits for people, goes on when it is started again.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ClosedLoop {
    /// The configuration; configs/loop.toml lists every key
    #[arg(value_name = "CONFIG.toml")]
    config: PathBuf,

    /// Change a key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,

    /// Print the rounds so far, and do nothing
    #[arg(long)]
    status: bool,

    /// Promote the policy of a round that has passed the gate, with gate.approve = "manual"; then go on
    #[arg(long, value_name = "ROUND", requires = "by", conflicts_with_all = ["reject", "status"])]
    approve: Option<u64>,

    /// Roll it back; then go on
    #[arg(long, value_name = "ROUND", requires = "by", conflicts_with = "status")]
    reject: Option<u64>,

    /// Who approves or rejects
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  # The quickstart's world with simulated users, from the policy that
  # `hearken rlhf configs/quickstart.toml` fine-tunes
  hearken loop configs/loop.toml
  hearken loop configs/loop.toml --status
  # A person decides about the policy that has passed in round 2
  hearken loop configs/loop.toml --set gate.approve=manual --approve 2 --by Ann
  # A file of your own, which `hearken config loop > my.toml` begins
  hearken loop my.toml";

impl ClosedLoop {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut loaded = LoopConfig::load(&self.config, &self.overrides)?;
        let root = loaded.config.run.dir.clone();
        if self.status {
            return status(&root);
        }
        let by_hand = self.approve.map(|round| (round, true));
        if let Some((round, promoted)) = by_hand.or(self.reject.map(|round| (round, false))) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let at = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
            let by = self.by.unwrap_or_default();
            closed_loop::decide(&root, &ByHand { round, promoted, by, at })?;
        }
        let mut screen = Screen::new(Interrupt::of_steps()?);
        HubNames::new(&mut screen).closed_loop(&mut loaded, Start::Resume)?;
        go(&loaded, &mut screen, &root)
    }
}

fn go(loaded: &LoadedConfig<LoopConfig>, screen: &mut Screen, root: &Path) -> Result<ExitCode> {
    let mut server = loaded.config.serve.as_ref().map(Server::open).transpose()?;
    let deploy = server.as_mut().map(|server| -> &mut dyn Deploy { server });
    let ended = closed_loop::run(device::open(), loaded, deploy, screen)?;
    output::print(&text(&summaries(root)?))?;
    output::print(&format!("\nreport: {}\n", closed_loop::report(root)?.display()))?;
    Ok(match ended {
        LoopStatus::Finished => ExitCode::SUCCESS,
        LoopStatus::Stopped => ExitCode::from(INTERRUPTED),
        LoopStatus::Waiting(what) | LoopStatus::Enough(what) => {
            output::say(&what);
            ExitCode::SUCCESS
        }
    })
}

fn status(root: &Path) -> Result<ExitCode> {
    let rounds = summaries(root)?;
    if rounds.is_empty() {
        bail!("{}: found no round of a loop, expected `rounds/001`", root.display());
    }
    output::print(&text(&rounds))?;
    Ok(ExitCode::SUCCESS)
}

/// The rounds as a table, and below it why each was decided as it was.
fn text(rounds: &[RoundSummary]) -> String {
    let header = [
        "round", "policy", "asked", "labels", "foreseen", "win rate", "KL, nats", "tokens",
        "decision",
    ];
    let rows: Vec<Vec<String>> = rounds.iter().map(row).collect();
    let mut text = table(&header, &rows);
    for round in rounds.iter().filter(|round| !round.reasons.is_empty()) {
        let _ = writeln!(text, "\nround {}: {}", round.round, round.what());
        for reason in &round.reasons {
            let _ = writeln!(text, "  {reason}");
        }
    }
    text
}

fn row(round: &RoundSummary) -> Vec<String> {
    let shown = |estimate: Option<Estimate>| {
        estimate.map_or_else(String::new, |found| {
            let Estimate { value, low, high, .. } = found;
            format!("{value:.3} {}", Interval { low, high, digits: 3 })
        })
    };
    let mean = |estimate: Option<Estimate>| {
        estimate.map_or_else(String::new, |found| format!("{:.2}", found.value))
    };
    vec![
        round.round.to_string(),
        round.policy.clone(),
        round.asked.to_string(),
        round.labels.to_string(),
        shown(round.foreseen),
        shown(round.win_rate),
        mean(round.kl_nats),
        mean(round.tokens),
        round.what(),
    ]
}
