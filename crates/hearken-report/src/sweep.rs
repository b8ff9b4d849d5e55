//! What runs of one trainer with different settings came to, side by side.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use hearken_page::{Cell, ChartLabels, ChartSeries, LineChart, Mark, document, escape, table};
use hearken_run::run_dir::write_atomically;
use toml::Value;

use crate::ReportError;
use crate::series::Curves;

/// Runs that are drawn over their course: more than these lie on each other.
const CURVES_MAX: usize = 6;

/// Runs of one trainer with different settings, compared by one figure of theirs.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The folder that holds the runs' folders.
    pub dir: PathBuf,
    /// The figure: a field of `metrics.jsonl`.
    pub metric: String,
    /// Whether a higher one is better.
    pub greater_is_better: bool,
    /// The runs, as they were made.
    pub runs: Vec<SweptRun>,
}

/// One run of a [`Sweep`].
#[derive(Clone, Debug)]
pub struct SweptRun {
    /// The name of its folder.
    pub name: String,
    /// The keys in which runs differ, with this run's values.
    pub settings: Vec<(String, Value)>,
    /// Where it stands.
    pub state: RunState,
    /// The figure over its course.
    pub measured: Option<FigureCourse>,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It has not begun.
    Waiting,
    /// It was asked to stop.
    Stopped,
    /// It is done.
    Finished,
    /// It ended with this error.
    Failed(String),
}

/// A figure over the course of a run.
#[derive(Clone, Debug)]
pub struct FigureCourse {
    /// Its last value, by which runs are compared.
    pub last: f64,
    /// Its best one.
    pub best: f64,
    /// The step of the best one.
    pub best_step: f64,
    curve: ChartSeries,
}

impl FigureCourse {
    /// Reads a figure from the metrics of a run; `None` where no record has it.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn read(
        run: &Path,
        metric: &str,
        greater_is_better: bool,
    ) -> Result<Option<Self>, ReportError> {
        let curve = Curves::read(&run.join("metrics.jsonl"))?.series("step", metric);
        let Some(last) = curve.points.last().copied() else { return Ok(None) };
        let mut best = last;
        for point in &curve.points {
            let is_better = if greater_is_better { best.y < point.y } else { point.y < best.y };
            if is_better {
                best = *point;
            }
        }
        Ok(Some(Self { last: last.y, best: best.y, best_step: best.x, curve }))
    }
}

impl Sweep {
    /// The runs, best first by the last value of the figure; those without one come last, as they were made.
    pub fn ranked(&self) -> Vec<&SweptRun> {
        let mut runs: Vec<&SweptRun> = self.runs.iter().collect();
        let sign = if self.greater_is_better { -1.0 } else { 1.0 };
        let rank = |run: &SweptRun| run.measured.as_ref().map_or(f64::INFINITY, |m| sign * m.last);
        runs.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
        runs
    }

    /// The keys in which runs differ.
    pub fn keys(&self) -> Vec<&str> {
        let first = self.runs.first();
        first
            .map(|run| run.settings.iter().map(|(key, _)| key.as_str()).collect())
            .unwrap_or_default()
    }

    /// The table's header, and its rows, best run first.
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut header = vec!["run".to_owned()];
        header.extend(self.keys().into_iter().map(str::to_owned));
        header.extend([self.metric.clone(), "best".into(), "at step".into(), "state".into()]);
        let row = |run: &&SweptRun| {
            let mut row = vec![run.name.clone()];
            row.extend(run.settings.iter().map(|(_, value)| shown(value)));
            match &run.measured {
                Some(FigureCourse { last, best, best_step, .. }) => {
                    row.extend([number(*last), number(*best), format!("{best_step:.0}")]);
                }
                None => row.extend(std::iter::repeat_n("–".to_owned(), 3)),
            }
            row.push(match &run.state {
                RunState::Waiting => "waiting".to_owned(),
                RunState::Stopped => "stopped".to_owned(),
                RunState::Finished => "finished".to_owned(),
                RunState::Failed(reason) => format!("failed: {reason}"),
            });
            row
        };
        (header, self.ranked().iter().map(row).collect())
    }

    /// Writes `sweep.csv`, the table, and `report.html`, the table with charts; gives the page's path.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self) -> Result<PathBuf, ReportError> {
        let (header, rows) = self.table();
        let line = |cells: &Vec<String>| {
            cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",") + "\n"
        };
        let csv: String = std::iter::once(&header).chain(&rows).map(line).collect();
        let written = |path: &Path, text: &str| {
            write_atomically(path, text.as_bytes()).map_err(ReportError::Written)
        };
        written(&self.dir.join("sweep.csv"), &csv)?;
        let page = self.dir.join("report.html");
        written(&page, &self.html())?;
        Ok(page)
    }

    fn html(&self) -> String {
        let (header, rows) = self.table();
        let mut body = String::new();
        if let Some(SweptRun { name, measured: Some(best), .. }) = self.ranked().first() {
            let better = if self.greater_is_better { "highest" } else { "lowest" };
            let _ = writeln!(
                body,
                "<p>The {better} <code>{}</code> at the end of a run is {}: run {}.</p>",
                escape(&self.metric),
                number(best.last),
                escape(name)
            );
        }
        let headings: Vec<&str> = header.iter().map(String::as_str).collect();
        let cells = |row: &Vec<String>| -> Vec<Cell> {
            let first = Cell::Heading(escape(&row[0]));
            let others = row[1..].iter().map(|cell| Cell::Number(escape(cell)));
            std::iter::once(first).chain(others).collect()
        };
        let rows: Vec<Vec<Cell>> = rows.iter().map(cells).collect();
        body.push_str(&table("numbers", &headings, &rows));
        body.push_str("<div class=\"figures\">\n");
        for key in self.keys() {
            body.push_str(&self.by_key(key).html());
        }
        body.push_str(&self.curves().html());
        body.push_str("</div>\n");
        let name = self.dir.file_name().unwrap_or(self.dir.as_os_str()).to_string_lossy();
        document(&format!("Sweep: {name}"), &body)
    }

    /// The figure at the end of every run against one key; of words there is no chart.
    fn by_key(&self, key: &str) -> LineChart {
        let points = self.runs.iter().filter_map(|run| {
            let value =
                run.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value)?;
            let value =
                value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))?;
            Some((value, run.measured.as_ref()?.last))
        });
        let mut points: Vec<(f64, f64)> = points.collect();
        // Rates that span orders of magnitude would lie on each other at the left.
        let (least, most) = points
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(least, most), (x, _)| (least.min(*x), most.max(*x)));
        let is_wide = 0.0 < least && least * 20.0 <= most;
        if is_wide {
            for (x, _) in &mut points {
                *x = x.log10();
            }
        }
        let axis = if is_wide { format!("log10 of {key}") } else { key.to_owned() };
        let labels = ChartLabels::new(&format!("{} by {key}", self.metric), &axis, &self.metric);
        LineChart {
            mark: Mark::Point,
            ..LineChart::new(labels, vec![ChartSeries::new("runs", points)])
        }
    }

    /// The figure over the course of the best runs.
    fn curves(&self) -> LineChart {
        let named = |run: &&SweptRun| {
            let curve = run.measured.as_ref()?.curve.clone();
            Some(ChartSeries { name: format!("run {}", run.name), ..curve })
        };
        let lines = self.ranked().iter().filter_map(named).take(CURVES_MAX).collect();
        let title = format!("{} of the best runs", self.metric);
        LineChart::new(ChartLabels::new(&title, "optimizer step", &self.metric), lines)
    }
}

/// A value as configurations write it, text without its quotation marks.
fn shown(value: &Value) -> String {
    match value {
        Value::Float(value) => number(*value),
        value => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    }
}

/// Few digits, whatever the magnitude.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value != 0.0 && !(1e-3..1e6).contains(&magnitude) {
        format!("{value:.3e}")
    } else {
        let text = format!("{value:.4}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text.is_empty() || text == "-0" { "0".to_owned() } else { text.to_owned() }
    }
}

/// A cell of CSV.
fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(dir: &Path, greater_is_better: bool) -> Sweep {
        let runs = [(1e-5, &[3.0, 1.0, 2.0][..]), (1e-3, &[3.0, 0.5]), (1e-4, &[])];
        let run = |(index, (rate, values)): (usize, (f64, &[f64]))| {
            let name = index.to_string();
            let folder = dir.join(&name);
            std::fs::create_dir_all(&folder).unwrap();
            let line = |(step, value)| format!("{{\"step\": {step}, \"eval_loss\": {value}}}\n");
            let lines: String = values.iter().enumerate().map(line).collect();
            std::fs::write(folder.join("metrics.jsonl"), lines).unwrap();
            let measured = FigureCourse::read(&folder, "eval_loss", greater_is_better).unwrap();
            let failed = RunState::Failed("it \"diverged\", at once".to_owned());
            let state = if values.is_empty() { failed } else { RunState::Finished };
            let settings = vec![("optimizer.lr".to_owned(), Value::Float(rate))];
            SweptRun { name, settings, state, measured }
        };
        Sweep {
            dir: dir.to_owned(),
            metric: "eval_loss".to_owned(),
            greater_is_better,
            runs: runs.into_iter().enumerate().map(run).collect(),
        }
    }

    #[test]
    fn runs_are_ranked_by_where_they_end_and_failures_come_last() {
        let folder = tempfile::tempdir().unwrap();
        let names = |greater| -> Vec<String> {
            sweep(folder.path(), greater).ranked().iter().map(|run| run.name.clone()).collect()
        };
        assert_eq!(names(false), ["1", "0", "2"]);
        assert_eq!(names(true), ["0", "1", "2"]);
        let (_, rows) = sweep(folder.path(), false).table();
        assert_eq!(rows[1], ["0", "1.000e-5", "2", "1", "1", "finished"]);
    }

    #[test]
    fn the_page_and_the_table_hold_every_run() {
        let folder = tempfile::tempdir().unwrap();
        let page = sweep(folder.path(), false).write().unwrap();
        let html = std::fs::read_to_string(page).unwrap();
        for part in ["run 1", "log10 of optimizer.lr", "it &quot;diverged&quot;", "<svg"] {
            assert!(html.contains(part), "{part}");
        }
        let csv = std::fs::read_to_string(folder.path().join("sweep.csv")).unwrap();
        assert_eq!(csv.lines().count(), 4);
        assert!(csv.ends_with("\"failed: it \"\"diverged\"\", at once\"\n"), "{csv}");
    }
}
