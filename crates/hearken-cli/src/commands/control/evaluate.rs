//! `hearken control evaluate`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use hearken_control::evaluation::evaluate;
use hearken_control::saved::Acting;
use hearken_env::EnvironmentId;
use hearken_run::seeds::Seeds;

use super::served::Server;
use crate::output;

/// Measure a policy: episodes with its likeliest actions
///
/// Prints {"eval_return": ..., "eval_length": ...}: means over the episodes with intervals of 95 %.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Evaluate {
    /// The folder of a policy, or the run directory that it is in as final/
    #[arg(value_name = "DIR")]
    policy: PathBuf,

    /// Episodes
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,

    /// Another environment than the one that it was trained in, with the same observations and actions
    #[arg(long, value_name = "NAME")]
    env: Option<EnvironmentId>,

    /// What initial states are drawn from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,

    #[command(flatten)]
    server: Server,
}

const EXAMPLES: &str = "\
Example:
  hearken control evaluate runs/CartPole-v1 --episodes 50";

impl Evaluate {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let acting = Acting::load_run(&self.policy)?;
        let environment = self.server.entered(&acting, self.env);
        let evaluation =
            evaluate(&acting, &environment, self.episodes as usize, Seeds::new(self.seed))?;
        output::print(&(serde_json::to_string(&evaluation)? + "\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}
