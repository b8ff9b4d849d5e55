//! `hearken reward`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use hearken_analysis::{FeatureReport, feature_report_html};
use hearken_config::Configuration;
use hearken_train::feature_reward::FeatureOptions;
use hearken_train::reward::{self, RewardConfig};

use super::analyze::{check_results, figure, write};
use super::trainer_arguments::TrainerArguments;
use crate::device;
use crate::output::{print, say};
use crate::table::table;
use crate::{features, sources};

/// Train a reward model: scores that put chosen completions above rejected ones
///
/// With a configuration, prints the folder of the trained model, a sequence-classification checkpoint with one
/// output; a model without a score head gets a new one. With --features, trains a small network on features of
/// answers (length, readability, sentiment, …) from a store or files of judgements, in seconds, and prints how it
/// compares with length alone and with a logistic regression.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Reward {
    #[command(flatten)]
    trainer: Option<TrainerArguments>,

    #[command(flatten)]
    small: FeatureArguments,
}

#[derive(Args, Debug)]
struct FeatureArguments {
    /// Train on features of the answers in stores or files of judgements
    #[arg(long, value_name = "STORE_OR_FILE", num_args = 1.., conflicts_with = "config")]
    features: Vec<String>,

    /// With --features: write every number to FILE
    #[arg(long, value_name = "FILE", requires = "features")]
    json: Option<PathBuf>,

    /// With --features: write the report, a page by itself, to FILE
    #[arg(long, value_name = "FILE", requires = "features")]
    html: Option<PathBuf>,

    /// With --features: write the network to feature_reward.json in DIR
    #[arg(long, value_name = "DIR", requires = "features")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  hearken reward configs/reward.toml --set run.dir=runs/reward \\
      --set model.path=runs/quickstart/sft/final --set train.epochs=1 \\
      --set data.train=runs/quickstart/data/preferences.jsonl
  # A file of your own, which `hearken config reward > my.toml` begins
  hearken reward my.toml --set data.eval_fraction=0.1 \\
      --set data.on_bad_record=skip
  # In seconds: what do length, readability, sentiment, … explain?
  hearken import runs/quickstart/data/preferences.jsonl --into runs/judged.db
  hearken reward --features runs/judged.db --html features.html";

impl Reward {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Some(trainer) = self.trainer else { return self.small.run() };
        trainer.run(|mut going| {
            let mut loaded = RewardConfig::load(&trainer.config, &trainer.overrides)?;
            going.fetch(&mut loaded, trainer.start())?;
            Ok(reward::run(device::open(), &loaded, going.entry, going.screen)?)
        })
    }
}

impl FeatureArguments {
    fn run(self) -> Result<ExitCode> {
        check_results([&self.json, &self.html], &self.features)?;
        let records = sources::load(&self.features)?;
        say(&format!(
            "{} items, {} judgements; training …",
            records.items.len(),
            records.judgements.len()
        ));
        let (network, report) = features::train(&records, &FeatureOptions::default())?;
        if let Some(folder) = &self.output {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            let path = folder.join("feature_reward.json");
            network.save(&path)?;
            say(&format!("wrote {}", path.display()));
        }
        if let Some(path) = &self.json {
            write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
        }
        if let Some(path) = &self.html {
            write(path, &feature_report_html(&report))?;
        }
        print(&summary(&report))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn summary(report: &FeatureReport) -> String {
    let mut text = format!(
        "{} pairs of {} prompts, {} folds, {:.1} s\n\n",
        report.pairs, report.groups, report.folds, report.seconds
    );
    let rows = [
        ("this model", &report.accuracy),
        ("the longer answer wins", &report.longer_wins),
        ("length alone, either direction", &report.length_only),
        ("logistic regression", &report.logistic),
        ("this model less length alone", &report.over_length),
        ("this model less the regression", &report.over_logistic),
        ("calibration error", &report.calibration_error),
    ];
    let row = |name: &str, of: &hearken_analysis::Figure| {
        let [value, interval, n] = figure(of, 100.0, 1);
        vec![name.to_owned(), value, interval, n]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(|(name, of)| row(name, of)).collect();
    text += &table(&["held-out accuracy", "%", "95 % interval", "n"], &rows);
    let rows: Vec<Vec<String>> =
        report.importance.iter().map(|i| row(&i.feature, &i.loss)).collect();
    text += "\n";
    text += &table(&["feature", "accuracy lost without it, %", "95 % interval", "n"], &rows);
    for warning in &report.warnings {
        let _ = write!(text, "\nwarning: {warning}\n");
    }
    text
}
