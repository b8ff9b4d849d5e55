//! How commands that take a policy start the server of its environment.

use std::time::Duration;

use clap::Args;
use hearken_control::saved::Acting;
use hearken_env::{EnvironmentId, EnvironmentSetup};

/// Of environments that another process serves: what starts it, which no folder of a policy says.
#[derive(Args, Debug)]
pub(super) struct Server {
    /// The Python that has Gymnasium, for gymnasium:NAME
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,

    /// The program that serves served:NAME; may be repeated, for its arguments
    #[arg(long = "server", value_name = "PROGRAM", allow_hyphen_values = true)]
    command: Vec<String>,

    /// Seconds that an answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout_s: u64,
}

impl Server {
    /// An environment with this server.
    pub(super) fn of(&self, mut setup: EnvironmentSetup) -> EnvironmentSetup {
        setup.server.python.clone_from(&self.python);
        setup.server.command.clone_from(&self.command);
        setup.server.timeout = Duration::from_secs(self.timeout_s);
        setup
    }

    /// What a policy acts in: another environment where one is given, made as its own.
    pub(super) fn entered(
        &self,
        acting: &Acting,
        other: Option<EnvironmentId>,
    ) -> EnvironmentSetup {
        let mut setup = acting.environment.clone();
        setup.id = other.unwrap_or(setup.id);
        self.of(setup)
    }
}
