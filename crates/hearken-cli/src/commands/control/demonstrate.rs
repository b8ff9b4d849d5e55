//! `hearken control demonstrate`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_control::demonstrations::{Manner, demonstrate, write_demonstrations};
use hearken_control::saved::Acting;
use hearken_env::EnvironmentId;
use hearken_run::seeds::Seeds;

use super::super::output_file::check_output;
use super::served::Server;
use crate::output;

/// Write down episodes of a policy, for `hearken control imitate` to learn from
///
/// Every line of the file is an episode, with Minari's columns: {"environment", "observations", "actions",
/// "rewards", "terminated", "truncated"}; of T steps there are T + 1 observations, the last one behind the
/// last action. A discrete action is a number from 0, a continuous one a list.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Demonstrate {
    /// The folder of a policy, or the run directory that it is in as final/
    #[arg(long, value_name = "DIR")]
    policy: PathBuf,

    /// Episodes
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,

    /// Where they go; compressed where the name ends in .gz or .zst
    #[arg(long, value_name = "FILE.jsonl")]
    output: PathBuf,

    /// Another environment than the one that it was trained in, with the same observations and actions
    #[arg(long, value_name = "NAME")]
    env: Option<EnvironmentId>,

    /// Draw actions from the policy's distribution, in place of the likeliest ones
    #[arg(long)]
    sample: bool,

    /// What initial states and actions are drawn from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,

    #[command(flatten)]
    server: Server,
}

const EXAMPLES: &str = "\
Example:
  hearken control demonstrate --policy runs/CartPole-v1 --output demos.jsonl";

impl Demonstrate {
    pub(crate) fn run(self) -> Result<ExitCode> {
        check_output(&self.output, &[])?;
        let acting = Acting::load_run(&self.policy)?;
        let environment = self.server.entered(&acting, self.env);
        let id = &environment.id;
        let manner = if self.sample { Manner::Sampled } else { Manner::Likeliest };
        let (episodes, seeds) = (self.episodes as usize, Seeds::new(self.seed));
        let episodes = demonstrate(&acting, &environment, episodes, manner, seeds)?;
        write_demonstrations(&self.output, id, &episodes)?;
        let total: f64 = episodes.iter().flat_map(|episode| &episode.rewards).sum();
        let steps: usize = episodes.iter().map(|episode| episode.actions.len()).sum();
        let mean = total / f64::from(self.episodes);
        output::say(&format!(
            "{}: {} episodes of {id}, {steps} steps, mean return {mean:.2}",
            self.output.display(),
            self.episodes
        ));
        Ok(ExitCode::SUCCESS)
    }
}
