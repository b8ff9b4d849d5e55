//! What a project is like: settings and guidelines from the command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use hearken_collect::distribute::BUILT_IN;
use hearken_collect::{ProjectSettings, Service, system_clock};
use hearken_store::Store;
use serde_json::json;

use crate::output;

/// Bytes of the guidelines.
const GUIDELINES_MAX: u64 = 500_000;
/// Who the audit log says has changed something.
const BY: &str = "hearken collect";

#[derive(Args, Debug)]
pub(super) struct Project {
    /// Change settings of the project first, such as --set overlap=3 ties=false; --settings lists them
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// List the settings of the project, after those of --set, and end
    #[arg(long)]
    settings: bool,

    /// The guidelines, a Markdown file: a new version of them, where the text is not that of the last one
    #[arg(long, value_name = "FILE", conflicts_with = "settings")]
    guidelines: Option<PathBuf>,
}

impl Project {
    /// Changes the settings that are named; all or none. Whether that was all there is to do.
    pub(super) fn change(&self, store: &dyn Store, title: Option<&str>) -> Result<bool> {
        let mut settings = ProjectSettings::of(store)?.unwrap_or_else(|| {
            let usual = ProjectSettings::default();
            let title = title.map_or_else(|| usual.title.clone(), str::to_owned);
            ProjectSettings { title, ..usual }
        });
        for given in &self.set {
            let (key, value) = given
                .split_once('=')
                .with_context(|| format!("--set: found {given:?}, expected KEY=VALUE"))?;
            settings.set(key.trim(), value).map_err(|what| anyhow!("--set {given:?}: {what}"))?;
            ensure!(
                BUILT_IN.contains(&settings.order.as_str()) || key.trim() != "order",
                "--set {given:?}: expected one of the orders {}",
                BUILT_IN.join(", ")
            );
        }
        if !self.set.is_empty() {
            settings.put_by(store, BY, system_clock()())?;
        }
        if self.settings {
            let lines =
                settings.listed().into_iter().map(|(key, value)| format!("{key}={value}\n"));
            output::print(&lines.collect::<String>())?;
        }
        Ok(self.settings)
    }

    /// Puts the guidelines of the file in force.
    pub(super) fn guide(&self, service: &Service) -> Result<()> {
        let Some(file) = &self.guidelines else { return Ok(()) };
        let shown = file.display();
        let bytes = std::fs::metadata(file).with_context(|| format!("--guidelines {shown}"))?.len();
        ensure!(
            bytes <= GUIDELINES_MAX,
            "--guidelines {shown}: found {bytes} bytes, expected at most {GUIDELINES_MAX}"
        );
        let text =
            std::fs::read_to_string(file).with_context(|| format!("--guidelines {shown}"))?;
        let text = text.replace("\r\n", "\n");
        ensure!(!text.contains('\0'), "--guidelines {shown}: found a NUL character in the text");
        let state = service.state();
        let last = state.guidelines()?;
        if last.text == text {
            return Ok(());
        }
        let version = state.add_guidelines(last.version, &text)?;
        state.audit(BY, "guidelines.written", json!({"version": version}))?;
        output::say(&format!("version {version} of the guidelines"));
        Ok(())
    }
}
