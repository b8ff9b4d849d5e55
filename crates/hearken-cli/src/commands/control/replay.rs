//! `hearken control replay`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use hearken_data::{Form, ReadOptions, ReadReport, Record, Source, read, read_from, write_jsonl};
use hearken_env::{
    EnvironmentId, EnvironmentSetup, Replayed, ServerOptions, replay, replay_served,
};
use serde_json::Value;

use super::super::output_file::{STANDARD, check_output};
use super::served::Server;
use crate::{hub, output};

/// Do single steps from given states, for comparison with other implementations
///
/// Every line of the input, {"state": [...], "action": ...}, becomes a line {"state", "observation",
/// "reward", "terminated"}: the state after the step, and what is observed of it. States have the order of
/// Gymnasium's; a discrete action is a number from 0, a continuous one a list. Nothing is written where a
/// line is wrong. Of environments that another process serves, states are those of `unwrapped.state`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Replay {
    /// The environment, by Gymnasium's id
    #[arg(long, value_name = "NAME")]
    env: EnvironmentId,

    /// JSON lines; - is standard input
    #[arg(long, value_name = "IN.jsonl")]
    input: PathBuf,

    /// Where the lines go, in the order of the input; - is standard output
    #[arg(long, value_name = "OUT.jsonl")]
    output: PathBuf,

    #[command(flatten)]
    server: Server,
}

const EXAMPLES: &str = "\
Example:
  echo '{\"state\": [0.01, 0.02, 0.03, 0.04], \"action\": 1}' > in.jsonl
  hearken control replay --env CartPole-v1 --input in.jsonl --output out.jsonl";

/// A step to be done, and where it stands.
struct ReplayRequest {
    state: Value,
    action: Value,
    source: Source,
}

impl Record for ReplayRequest {
    const FORMS: &'static [Form<Self>] = &[Form {
        required: &["state", "action"],
        optional: &[],
        parse: |row| {
            let (state, action) = (row.value("state")?.clone(), row.value("action")?.clone());
            Ok(Self { state, action, source: row.source() })
        },
    }];
}

impl Replay {
    fn replay(&self, asked: &[ReplayRequest]) -> Result<Vec<Replayed>> {
        let Some(task) = self.env.task() else {
            let server = ServerOptions::default();
            let setup = self.server.of(EnvironmentSetup { id: self.env.clone(), server });
            let mut environments = setup.open(1)?;
            let done = asked.iter().map(|ReplayRequest { state, action, source }| {
                let done = replay_served(&mut environments, state, action);
                done.map_err(|error| anyhow!("{source}: {error}"))
            });
            return done.collect();
        };
        let done = asked.iter().map(|ReplayRequest { state, action, source }| {
            replay(task, state, action).map_err(|refused| anyhow!("{source}: {refused}"))
        });
        done.collect()
    }

    pub(crate) fn run(self) -> Result<ExitCode> {
        if let EnvironmentId::Native { task, has_fixed_horizon: true } = &self.env {
            let (task, given) = (task.id(), &self.env);
            bail!("--env: found {given}, expected {task}: single steps have no horizon");
        }
        check_output(&self.output, &[&self.input])?;
        let options = ReadOptions::default();
        let (asked, _): (Vec<ReplayRequest>, ReadReport) = if self.input == Path::new(STANDARD) {
            read_from(io::stdin(), Path::new("standard input"), &options)?
        } else {
            read(&hub::records(&self.input)?, &options)?
        };
        let done = self.replay(&asked)?;
        if self.output == Path::new(STANDARD) {
            let lines = done.iter().map(|line| Ok(serde_json::to_string(line)? + "\n"));
            output::print(&lines.collect::<Result<String>>()?)?;
        } else {
            write_jsonl(&self.output, done)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
