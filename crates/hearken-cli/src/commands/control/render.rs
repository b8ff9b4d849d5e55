//! `hearken control render`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use hearken_control::clip::film;
use hearken_control::saved::Acting;
use hearken_data::write_whole;
use hearken_env::{EnvironmentId, StepEnd};
use hearken_run::seeds::Seeds;

use super::super::output_file::check_output;
use super::served::Server;
use crate::output;

/// Draw an episode of a policy, as an animated PNG
///
/// The policy takes its likeliest actions. Browsers play the file; an episode with more pictures than
/// --frames is cut there.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Render {
    /// The folder of a policy, or the run directory that it is in as final/
    #[arg(value_name = "DIR")]
    policy: PathBuf,

    /// Where it goes
    #[arg(long, value_name = "FILE.png")]
    output: PathBuf,

    /// Pictures in a second
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=120))]
    fps: u16,

    /// The most pictures
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    frames: u32,

    /// Another environment than the one that it was trained in, with the same observations and actions
    #[arg(long, value_name = "NAME")]
    env: Option<EnvironmentId>,

    /// What the initial state is drawn from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,

    #[command(flatten)]
    server: Server,
}

const EXAMPLES: &str = "\
Example:
  hearken control render runs/CartPole-v1 --output pole.png --fps 50";

impl Render {
    pub(crate) fn run(self) -> Result<ExitCode> {
        check_output(&self.output, &[])?;
        let acting = Acting::load_run(&self.policy)?;
        let environment = self.server.entered(&acting, self.env);
        let clip = film(&acting, &environment, self.frames as usize, Seeds::new(self.seed))?;
        let bytes = clip.apng(self.fps)?;
        write_whole(&self.output, |file| file.write_all(&bytes))
            .with_context(|| format!("{}: cannot be written", self.output.display()))?;
        let ending = match clip.end {
            StepEnd::Running => "cut at --frames",
            StepEnd::Terminated => "terminated",
            StepEnd::Truncated => "cut off by its horizon",
        };
        output::say(&format!(
            "{}: {} pictures of {}, {ending}, return {:.2}",
            self.output.display(),
            clip.frames.len(),
            environment.id,
            clip.episode.total
        ));
        Ok(ExitCode::SUCCESS)
    }
}
