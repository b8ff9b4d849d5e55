//! A policy that has passed the gate answers a share of the conversations before it is promoted.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use hearken_run::error::TrainError;
use hearken_run::progress::Progress;
use hearken_run::run_dir::RunDirError;
use serde::{Deserialize, Serialize};

use super::config::CanaryConfig;
use super::records::{CANARY, CANARY_PLACED, Check, read_json, write_json};
use super::round::RoundEnd;

/// How a canary fares with the users of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryReport {
    /// The version that the server calls it.
    pub version: String,
    /// How it stands.
    pub standing: CanaryStanding,
    /// Comparisons that users have made by what they said of its answers and of those of the version beside it.
    pub comparisons: usize,
    /// How often it wins, ties being half, with an interval that holds whenever one looks.
    pub win_rate: Option<CanaryRate>,
}

/// A rate with its interval of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryRate {
    /// The rate.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Comparisons.
    pub n: usize,
}

/// How a canary stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryStanding {
    /// It answers.
    Running,
    /// Users found it worse.
    RolledBack,
    /// It was taken away.
    Withdrawn,
    /// It is what the server serves.
    Promoted,
}

/// Whoever serves the current policy.
pub trait Deploy {
    /// Serves the weights in `folder` from now on; gives the version that answers name.
    ///
    /// # Errors
    /// Why it cannot, as a sentence.
    fn swap(&mut self, folder: &Path) -> Result<String, String>;

    /// Has the weights in `folder` answer a share of the conversations; gives their version.
    ///
    /// # Errors
    /// As [`Deploy::swap`].
    fn try_out(&mut self, folder: &Path, share: f64) -> Result<String, String>;

    /// How the last weights that were tried out fare; `None` where there have been none since the server was started.
    ///
    /// # Errors
    /// As [`Deploy::swap`].
    fn tried(&mut self) -> Result<Option<CanaryReport>, String>;
}

/// What a server called the version that it was given.
#[derive(Serialize, Deserialize)]
struct Placed {
    version: String,
}

/// A round whose policy is tried out.
pub(super) struct TriedRound<'a> {
    pub(super) config: &'a CanaryConfig,
    /// The round.
    pub(super) number: u64,
    /// Its folder.
    pub(super) dir: &'a Path,
    /// Its policy.
    pub(super) policy: &'a Path,
}

impl TriedRound<'_> {
    /// What users find, once they have said enough: they do not find it worse, or they do.
    pub(super) fn check(
        &self,
        deploy: &mut dyn Deploy,
        progress: &mut dyn Progress,
    ) -> Result<ControlFlow<RoundEnd, Check>, TrainError> {
        let found = self.dir.join(CANARY);
        loop {
            let (report, is_known) = match read_json::<CanaryReport>(&found)? {
                Some(report) => (report, true),
                None => (self.report(deploy)?, false),
            };
            let enough = *self.config.comparisons <= report.comparisons;
            let is_worse = report.standing == CanaryStanding::RolledBack;
            if is_known || enough || is_worse {
                if !is_known {
                    write_json(&found, &report)?;
                }
                return Ok(ControlFlow::Continue(check(&report)));
            }
            let text = format!(
                "round {}: its policy answers a share of {} of the conversations; users have made {} of {} comparisons",
                self.number, *self.config.share, report.comparisons, *self.config.comparisons
            );
            let Some(poll) = self.config.poll_s.map(|seconds| Duration::from_secs_f64(*seconds))
            else {
                let text = format!("{text}; start the loop again when they have said more");
                return Ok(ControlFlow::Break(RoundEnd::Waiting(text)));
            };
            progress.note(&text);
            let until = Instant::now() + poll;
            while Instant::now() < until {
                if progress.stop_requested() {
                    return Ok(ControlFlow::Break(RoundEnd::Stopped));
                }
                std::thread::sleep(Duration::from_millis(200).min(poll));
            }
        }
    }

    /// How it fares. A server that knows nothing of it, as one that was started again, gets it anew.
    fn report(&self, deploy: &mut dyn Deploy) -> Result<CanaryReport, TrainError> {
        let failed = |error: String| {
            TrainError::Other(format!(
                "`serve.canary`: {error}; round {} goes on with its canary when the loop is started again",
                self.number
            ))
        };
        let path = self.dir.join(CANARY_PLACED);
        let placed: Option<Placed> = read_json(&path)?;
        let tried = deploy.tried().map_err(failed)?;
        let is_of = |report: &CanaryReport| {
            // Somebody who takes it away wants no canary of it now; who starts the loop again does.
            report.standing != CanaryStanding::Withdrawn
                && placed.as_ref().is_some_and(|placed| placed.version == report.version)
        };
        if let Some(report) = tried.filter(is_of) {
            return Ok(report);
        }
        let folder =
            std::fs::canonicalize(self.policy).map_err(RunDirError::io(self.policy, "be read"))?;
        let version = deploy.try_out(&folder, *self.config.share).map_err(failed)?;
        write_json(&path, &Placed { version: version.clone() })?;
        let standing = CanaryStanding::Running;
        Ok(CanaryReport { version, standing, comparisons: 0, win_rate: None })
    }
}

fn check(report: &CanaryReport) -> Check {
    let rate = report.win_rate.map_or_else(
        || "nothing was compared".to_owned(),
        |rate| {
            let CanaryRate { value, low, high, n } = rate;
            format!("win rate {value:.4} [{low:.4}, {high:.4}] n={n}")
        },
    );
    let passed = report.standing != CanaryStanding::RolledBack;
    let what = if passed { "users do not find it worse" } else { "users find it worse" };
    let says = format!("{what}: {rate} by {} comparisons of answers", report.comparisons);
    Check { name: "canary".to_owned(), passed, says }
}
