//! Lines of results that are written as they come.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hearken_data::{JsonLinesAppender, ReadOptions, ReadReport, Record, read_from, write_jsonl};
use hearken_store::read_records;
use serde::Serialize;
use serde_json::{Map, Value};

use super::output_file::{STANDARD, check_output};
use crate::{hub, output};

/// Where lines come from and where they go.
#[derive(Args, Debug)]
pub(crate) struct LineArguments {
    /// JSON lines; - is standard input
    #[arg(long, value_name = "IN.jsonl")]
    pub(super) input: PathBuf,

    /// Where the lines go, each as it is ready, in the order of the input; - is standard output. A file
    /// that is there is replaced when all lines are (until then it has the name OUT.jsonl.old)
    #[arg(long, value_name = "OUT.jsonl")]
    pub(super) output: PathBuf,

    /// Go on after the last whole line of an output that is there, of the same command: what comes is what would
    /// have come, but for the last digits of log-probabilities, which depend on what is computed together
    #[arg(long)]
    pub(super) resume: bool,

    /// Every line begins with the columns of its input
    #[arg(long)]
    pub(super) keep: bool,
}

/// A record with all of its columns.
pub(super) trait WithColumns: Record {
    /// The columns, and where they stand.
    fn columns(&self) -> (&Map<String, Value>, &hearken_data::Source);
}

impl LineArguments {
    /// Refuses what could not be written or would overwrite what is read.
    pub(super) fn check(&self, model: &Path) -> Result<()> {
        check_output(&self.output, &[&self.input, model])
    }

    /// The records of the input; `own` are the columns of the output.
    pub(super) fn read<T: WithColumns>(&self, own: &[&str]) -> Result<Vec<T>> {
        let options = ReadOptions::default();
        let (records, report): (Vec<T>, ReadReport) = if self.input == Path::new(STANDARD) {
            read_from(io::stdin(), Path::new("standard input"), &options)?
        } else {
            read_records(&hub::records(&self.input)?, &options)?
        };
        for (what, count) in &report.left_out {
            output::say(&format!("{}: left out {count} × {what}", self.input.display()));
        }
        if self.keep {
            for (columns, at) in records.iter().map(WithColumns::columns) {
                if let Some(name) = own.iter().find(|&&name| columns.contains_key(name)) {
                    bail!(
                        "{at}: found a column `{name}`, which the output has too; rename it, or go \
                         without --keep"
                    );
                }
            }
        }
        Ok(records)
    }

    /// The columns that a line begins with.
    pub(super) fn kept<'a, T: WithColumns>(&self, record: &'a T) -> Option<&'a Map<String, Value>> {
        self.keep.then(|| record.columns().0)
    }

    /// How many whole lines the output has already, where it is to be resumed. `is_own` says whether a
    /// line, of this number from 0, can be of the same command.
    pub(super) fn present(
        &self,
        expected: usize,
        is_own: impl Fn(usize, &Map<String, Value>) -> bool,
    ) -> Result<usize> {
        if !self.resume || !self.output.exists() {
            return Ok(0);
        }
        let path = self.output.display();
        if !can_grow(&self.output) {
            bail!("{path}: cannot be resumed; expected a file that is not compressed");
        }
        // This completes or removes a last line without its end.
        drop(JsonLinesAppender::open(&self.output)?);
        let file = File::open(&self.output).with_context(|| format!("{path}"))?;
        let (mut count, mut last) = (0, String::new());
        for line in BufReader::new(file).lines() {
            last = line.with_context(|| format!("{path}:{}", count + 1))?;
            count += 1;
        }
        if expected < count {
            bail!("{path}: found {count} lines, expected at most the {expected} of this command");
        }
        let columns = || serde_json::from_str::<Map<String, Value>>(&last);
        if 0 < count && !columns().is_ok_and(|columns| is_own(count - 1, &columns)) {
            bail!("{path}:{count}: is no line of this command; expected what it wrote before");
        }
        Ok(count)
    }

    /// Opens the output for the lines after the first `present`.
    pub(super) fn open<T: Serialize>(&self, present: usize) -> Result<OutputLines<T>> {
        let path = self.output.clone();
        if path == Path::new(STANDARD) {
            return Ok(OutputLines { sink: Sink::Standard, earlier: None, path });
        }
        if is_gzip(&path) {
            return Ok(OutputLines { sink: Sink::Whole(Vec::new()), earlier: None, path });
        }
        let earlier = match 0 < present || !can_grow(&path) || !path.exists() {
            true => None,
            false => Some(move_aside(&path)?),
        };
        let sink = Sink::Growing(JsonLinesAppender::open(&path)?);
        Ok(OutputLines { sink, earlier, path })
    }
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// Whether lines can be appended and found again: not in a pipe, nor behind gzip.
fn can_grow(path: &Path) -> bool {
    !is_gzip(path) && (!path.exists() || path.is_file())
}

/// Gives a file a name that no other has.
fn move_aside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let number = |n: usize| if n == 1 { String::new() } else { format!("-{n}") };
    let mut names = (1..).map(|n| path.with_file_name(format!("{name}.old{}", number(n))));
    let free = names.find(|name| !name.exists()).expect("names do not end");
    fs::rename(path, &free).with_context(|| format!("{}: cannot be renamed", path.display()))?;
    Ok(free)
}

/// Lines on their way out.
pub(super) struct OutputLines<T> {
    sink: Sink<T>,
    /// The file that the lines will have replaced.
    earlier: Option<PathBuf>,
    path: PathBuf,
}

enum Sink<T> {
    Standard,
    Growing(JsonLinesAppender),
    /// A compressed file is written whole.
    Whole(Vec<T>),
}

impl<T: Serialize> OutputLines<T> {
    pub(super) fn write(&mut self, line: T) -> Result<()> {
        match &mut self.sink {
            Sink::Standard => output::print(&(serde_json::to_string(&line)? + "\n"))?,
            Sink::Growing(file) => file.append(&line)?,
            Sink::Whole(lines) => lines.push(line),
        }
        Ok(())
    }

    /// All lines are written: what they replace goes.
    pub(super) fn finish(mut self) -> Result<()> {
        if let Some(earlier) = self.earlier.take() {
            fs::remove_file(&earlier).with_context(|| format!("{}", earlier.display()))?;
        }
        self.close()
    }

    /// No more lines come, though some are missing.
    pub(super) fn stop(mut self, written: usize, expected: usize) -> Result<()> {
        let path = self.path.display();
        match &self.sink {
            Sink::Growing(_) => output::say(&format!(
                "stopped: {path} has {written} of {expected} lines; --resume goes on after them"
            )),
            _ => output::say(&format!("stopped after {written} of {expected} lines")),
        }
        self.close()
    }

    fn close(&mut self) -> Result<()> {
        if let Sink::Whole(lines) = &mut self.sink {
            write_jsonl(&self.path, std::mem::take(lines))?;
        }
        Ok(())
    }
}

impl<T> Drop for OutputLines<T> {
    fn drop(&mut self) {
        if let Some(earlier) = &self.earlier {
            output::say(&format!(
                "{}: what was there before is in {}",
                self.path.display(),
                earlier.display()
            ));
        }
    }
}
