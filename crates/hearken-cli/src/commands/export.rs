//! `hearken export`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use hearken_data::feedback::formats::{
    ExportOptions, ExportReport, Format, FormatError, NeutralSteps, TextForm, Ties, export,
};
use hearken_data::feedback::{Combine, Item, Judgement, Selection, in_force};
use hearken_data::{Split, split_by_prompt, write_file};
use hearken_store::select;

use super::output_file::check_output;
use crate::output;
use crate::records::{self, StoredRecords};
use crate::table::table;

/// Write judgements as training data, or in another format
///
/// The table says how many rows were written, how many judgements the format cannot hold and why,
/// and which details of the others it has no place for.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Export {
    /// A store, or a file in any of the formats of `hearken import`
    #[arg(value_name = "STORE_OR_FILE")]
    source: String,

    /// trl (preferences), trl-unpaired, trl-stepwise, trl-demonstrations, trl-prompt, hearken (keeps
    /// everything), hh-rlhf, ultrafeedback, lmarena, label-studio, argilla, … (docs/formats.md)
    #[arg(long, value_name = "FORMAT", default_value = "trl")]
    format: Format,

    /// The file; gzip where its name ends in .gz
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// What becomes of ties in trl: dropped, or pairs with probability 0.5
    #[arg(long, value_name = "WHAT", default_value = "drop")]
    ties: TiesArgument,

    /// What neutral steps count as in trl-stepwise
    #[arg(long, value_name = "WHAT", default_value = "drop")]
    neutral: NeutralArgument,

    /// How trl formats write prompts and answers: as the imported file did, as text, or as messages
    #[arg(long, value_name = "FORM", default_value = "as-imported")]
    form: FormArgument,

    /// What the judgements on one pair become: what most of them say, the share of votes or the probability by the
    /// model of annotators as `probability`, or each a row of its own. For trl, trl-unpaired, trl-demonstrations,
    /// trl-stepwise and hh-rlhf, as the next five; other formats keep each judgement
    #[arg(long, value_name = "WHAT", default_value = "majority")]
    votes: VotesArgument,

    /// Leave out the judgements of this annotator; may be given several times
    #[arg(long, value_name = "NAME")]
    exclude_annotator: Vec<String>,

    /// Leave out pairs with fewer votes
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_votes: usize,

    /// Leave out pairs of whose votes a smaller share says the same
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    min_agreement: f64,

    /// Take judgements on gold and screening items too
    #[arg(long)]
    gold: bool,

    /// Take the judgements of language models in a store too
    #[arg(long)]
    ai: bool,

    /// Hold out this share of the prompts, in FILE.eval.…
    #[arg(long, value_name = "FRACTION")]
    split: Option<f64>,

    /// Which prompts are held out
    #[arg(long, value_name = "N", default_value_t = 0, requires = "split")]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  hearken import runs/quickstart/data/preferences.jsonl --into runs/judged.db
  hearken export runs/judged.db --output preferences.jsonl
  hearken export runs/judged.db --output shares.jsonl --votes probability
  hearken export runs/judged.db --output halves.jsonl --ties half --split 0.1
  hearken export runs/judged.db --output agreed.jsonl --min-votes 3
  hearken export runs/judged.db --output demonstrations.jsonl \\
      --format trl-demonstrations
  # Judged answers of two named models
  hearken export arena.db --output battles.jsonl.gz --format lmarena";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TiesArgument {
    Drop,
    Half,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VotesArgument {
    Majority,
    Probability,
    Model,
    Each,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NeutralArgument {
    Drop,
    Good,
    Bad,
    /// Stay, in a column `ratings` of -1, 0, 1 and null
    Keep,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormArgument {
    AsImported,
    Text,
    Messages,
}

impl Export {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let source = Path::new(&self.source);
        check_output(&self.output, &[source])?;
        if self.split.is_some() {
            check_output(&eval_path(&self.output), &[source])?;
        }
        let selection = self.selection()?;
        let mut records = records::load(&self.source)?;
        let withdrawn: Vec<(String, usize)> = records.left_out.take().into_iter().collect();
        let mut judged = in_force(&records.judgements).len();
        let mut left_out = Vec::new();
        if let Some(kind) = self.format.trains() {
            // What another program's file says is converted, whoever judged.
            let selection = Selection { ai: selection.ai || !records.is_store, ..selection };
            let selected = select(&records.items, &records.judgements, &selection, kind);
            let selected = selected.map_err(|what| anyhow!("{}: {what}", self.source))?;
            (records.items, records.judgements) = (selected.items, selected.judgements);
            left_out = selected.left_out;
        }
        judged += withdrawn.iter().map(|(_, count)| count).sum::<usize>();
        left_out.extend(withdrawn);
        let Some(fraction) = self.split else {
            let mut report = self.write(&records.items, &records.judgements, &self.output)?;
            report.leave_out(judged, left_out);
            output::print(&shown(&report, &self.output))?;
            return Ok(ExitCode::SUCCESS);
        };
        let StoredRecords { items, judgements, .. } = records;
        let Split { train, eval } = split_by_prompt(items, fraction, self.seed)?;
        let held_out: HashSet<String> = eval.iter().map(|item| item.id.clone()).collect();
        let (of_eval, of_train): (Vec<Judgement>, Vec<Judgement>) =
            judgements.into_iter().partition(|judgement| held_out.contains(&judgement.item));
        let beside = eval_path(&self.output);
        let reports = [
            (self.write(&train, &of_train, &self.output)?, self.output.clone()),
            (self.write(&eval, &of_eval, &beside)?, beside),
        ];
        let shown: Vec<String> = reports.iter().map(|(report, path)| shown(report, path)).collect();
        output::print(&shown.join("\n"))?;
        if !left_out.is_empty() {
            let rows = left_out.iter().map(|(why, count)| vec![count.to_string(), why.clone()]);
            let rows: Vec<Vec<String>> = rows.collect();
            output::print(&format!("\n{}", table(&["left out before the split", ""], &rows)))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn selection(&self) -> Result<Selection> {
        let share = 0.0..=1.0;
        ensure!(
            share.contains(&self.min_agreement),
            "--min-agreement: found {}, expected a share between 0 and 1",
            self.min_agreement
        );
        ensure!(0 < self.min_votes, "--min-votes: found 0, expected at least 1");
        let selection = Selection {
            combine: match self.votes {
                VotesArgument::Majority => Combine::Majority,
                VotesArgument::Probability => Combine::Probability,
                VotesArgument::Model => Combine::Model,
                VotesArgument::Each => Combine::Each,
            },
            exclude_annotators: self.exclude_annotator.clone(),
            votes_min: self.min_votes,
            agreement_min: self.min_agreement,
            gold: self.gold,
            ai: self.ai,
        };
        ensure!(
            self.format.trains().is_some() || selection == Selection::default(),
            "--format {}: found an option that chooses or combines judgements; the format keeps each of them",
            self.format
        );
        Ok(selection)
    }

    fn write(&self, items: &[Item], judgements: &[Judgement], path: &Path) -> Result<ExportReport> {
        let options = ExportOptions {
            ties: match self.ties {
                TiesArgument::Drop => Ties::Drop,
                TiesArgument::Half => Ties::Half,
            },
            neutral_steps: match self.neutral {
                NeutralArgument::Drop => NeutralSteps::Drop,
                NeutralArgument::Good => NeutralSteps::Good,
                NeutralArgument::Bad => NeutralSteps::Bad,
                NeutralArgument::Keep => NeutralSteps::Keep,
            },
            form: match self.form {
                FormArgument::AsImported => TextForm::AsImported,
                FormArgument::Text => TextForm::Text,
                FormArgument::Messages => TextForm::Messages,
            },
        };
        write_file::<_, FormatError>(path, |writer| {
            export(items, judgements, self.format, &options, writer)
        })
        .with_context(|| format!("{}", path.display()))
    }
}

/// `pairs.jsonl` → `pairs.eval.jsonl`.
fn eval_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = match name.split_once('.') {
        Some((stem, extensions)) => format!("{stem}.eval.{extensions}"),
        None => format!("{name}.eval"),
    };
    path.with_file_name(name)
}

fn shown(report: &ExportReport, path: &Path) -> String {
    let row = |what: &str, count: usize, why: &str| {
        vec![what.to_owned(), count.to_string(), why.to_owned()]
    };
    let mut rows = vec![
        row("judgements", report.judgements, ""),
        row("written", report.written, report.format.as_str()),
    ];
    rows.extend(report.dropped.iter().map(|(why, count)| row("dropped", *count, why)));
    rows.extend(report.lost.iter().map(|(what, count)| row("without", *count, what)));
    table(&[&path.display().to_string(), "count", ""], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_rows_go_beside_the_others() {
        let check = |path: &str, expected: &str| {
            assert_eq!(eval_path(Path::new(path)), Path::new(expected));
        };
        check("a/pairs.jsonl", "a/pairs.eval.jsonl");
        check("pairs.jsonl.gz", "pairs.eval.jsonl.gz");
        check("pairs", "pairs.eval");
    }
}
