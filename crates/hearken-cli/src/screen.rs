//! The progress of a trainer on the screen: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use hearken_hub::Watcher;
use hearken_run::progress::{Progress, StepReport};
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt::Interrupt;
use crate::output;
use crate::time_left::{shown, time_left};

/// Plain lines are at least this far apart, but for the first and the last of a stage.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// A file with fewer bytes is fetched without a word, where there is no bar.
const WORTH_A_LINE: u64 = 1_000_000;
/// Figures shown beside the loss; the rest is in metrics.jsonl.
const FIGURES_MAX: usize = 4;
/// What a plain line, or the message beside a bar, may take: half a screen beside something else.
const COLUMNS: usize = 60;

/// Writes progress to standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    interrupt: Interrupt,
    is_terminal: bool,
    /// Whether another rank says everything.
    is_quiet: bool,
    stage: Stage,
}

/// What is going on.
#[derive(Debug)]
struct Stage {
    name: String,
    bar: Option<ProgressBar>,
    /// The first step made here and when it was done: what comes before it (reading, evaluating)
    /// says nothing about the speed of steps, and a resumed run does not start at 0.
    first: Option<(u64, Instant)>,
    last_line: Option<Instant>,
}

impl Stage {
    fn new(name: &str, bar: Option<ProgressBar>) -> Self {
        Self { name: name.to_owned(), bar, first: None, last_line: None }
    }
}

impl Screen {
    /// A screen that passes interrupts on.
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { interrupt, is_terminal, is_quiet: false, stage: Stage::new("", None) }
    }

    /// One that shows nothing: another rank shows what is the same on all.
    pub(crate) fn quiet(interrupt: Interrupt) -> Self {
        let mut screen = Self::new(interrupt);
        screen.is_quiet = true;
        screen
    }

    /// A screen of a command that an interrupt ends.
    pub(crate) fn without_interrupts() -> Self {
        Self::new(Interrupt::never())
    }

    fn say(&self, text: &str) {
        if self.is_quiet {
            return;
        }
        match &self.stage.bar {
            Some(bar) => bar.suspend(|| output::say(text)),
            None => output::say(text),
        }
    }

    fn end_stage(&mut self) {
        if let Some(bar) = self.stage.bar.take() {
            bar.abandon();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end_stage();
    }
}

impl Progress for Screen {
    fn stage(&mut self, name: &str, steps: Option<u64>) {
        if self.is_quiet {
            return;
        }
        self.end_stage();
        let bar = self.is_terminal.then(|| bar(name, steps));
        if bar.is_none() {
            output::say(&match steps {
                Some(steps) => format!("{name}: {steps} steps"),
                None => name.to_owned(),
            });
        }
        self.stage = Stage::new(name, bar);
    }

    fn step(&mut self, report: &StepReport<'_>) {
        if self.is_quiet {
            return;
        }
        let now = Instant::now();
        let stage = &mut self.stage;
        let is_first = stage.first.is_none();
        let (first, since) = *stage.first.get_or_insert((report.step, now));
        let left = time_left(now - since, report.step - first, report.total.saturating_sub(first));
        if let Some(bar) = &stage.bar {
            bar.set_length(report.total);
            bar.set_position(report.step);
            bar.set_message(line("", report, left));
            return;
        }
        let is_due = stage.last_line.is_none_or(|last| LINE_EVERY <= now - last);
        if is_first || is_due || report.step == report.total {
            stage.last_line = Some(now);
            let place = format!("{} {}/{}", stage.name, report.step, report.total);
            output::say(&line(&place, report, left));
        }
    }

    fn note(&mut self, text: &str) {
        self.say(text);
    }

    fn stop_requested(&self) -> bool {
        self.interrupt.requested()
    }
}

impl Watcher for Screen {
    fn bytes(&mut self, file: &str, done: u64, total: u64) {
        if self.is_quiet {
            return;
        }
        let now = Instant::now();
        if self.stage.name != file {
            self.end_stage();
            self.stage = Stage::new(file, self.is_terminal.then(|| bar_of_bytes(file, total)));
            self.stage.last_line = Some(now);
        }
        let ended = done == total;
        if let Some(bar) = &self.stage.bar {
            bar.set_position(done);
        } else if ended && WORTH_A_LINE <= total
            || self.stage.last_line.is_some_and(|last| LINE_EVERY <= now - last)
        {
            self.stage.last_line = Some(now);
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let (done, total) = (megabytes(done), megabytes(total));
            output::say(&format!("fetch {file}: {done:.1} of {total:.1} MB"));
        }
        if ended {
            self.end_stage();
            self.stage = Stage::new("", None);
        }
    }

    fn note(&mut self, text: &str) {
        self.say(text);
    }

    fn stop_requested(&self) -> bool {
        self.interrupt.requested()
    }
}

fn bar_of_bytes(file: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("fetch {msg} {bar:12} {bytes}/{total_bytes}  {eta}");
    let bar = ProgressBar::new(total).with_style(style.expect("the template is valid"));
    bar.with_message(file.to_owned())
}

fn bar(name: &str, steps: Option<u64>) -> ProgressBar {
    let template = match steps {
        Some(_) => "{prefix} {bar:12} {pos}/{len}  {wide_msg}",
        None => "{prefix} {spinner} {wide_msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = steps.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.set_style(style);
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// "sft 3/10  2m 10s left  loss 2.3456  score 0.5100  1234 tokens/s", as far as [`COLUMNS`] reach: what
/// matters most comes first, and what does not fit is left out.
fn line(place: &str, report: &StepReport<'_>, left: Option<Duration>) -> String {
    let mut parts = vec![place.to_owned()];
    parts.extend(left.map(|left| format!("{} left", shown(left))));
    // A step without an update has none.
    if !report.loss.is_nan() {
        parts.push(format!("loss {:.4}", report.loss));
    }
    let figures = report.figures.iter().take(FIGURES_MAX);
    parts.extend(figures.map(|(name, value)| format!("{name} {value:.4}")));
    if 0 < report.tokens {
        parts.push(format!("{:.0} tokens/s", report.tokens_per_s));
    }
    let mut text = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let gap = if text.is_empty() { "" } else { "  " };
        if text.is_empty() || text.chars().count() + gap.len() + part.chars().count() <= COLUMNS {
            text.push_str(gap);
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_shows_the_time_left_its_loss_and_its_speed() {
        let figures = &[("accuracy", 0.25), ("a figure with a very long name", 1.0)];
        let (total, tokens) = (10, 512);
        let report =
            StepReport { step: 3, total, tokens, tokens_per_s: 1234.4, loss: 2.5, figures };
        let text = line("reward 3/10", &report, Some(Duration::from_secs(70)));
        assert_eq!(text, "reward 3/10  1m 10s left  loss 2.5000  accuracy 0.2500");
        let report = StepReport { figures: &figures[..1], ..report };
        assert_eq!(line("", &report, None), "loss 2.5000  accuracy 0.2500  1234 tokens/s");
    }

    #[test]
    fn the_longest_line_fits_sixty_columns_and_keeps_the_time_left() {
        let figures = [("objective/scores", -1234.5), ("objective/kl", 1e6), ("lr", 1e-5)];
        let (step, total, tokens) = (99_999, 100_000, 1 << 20);
        let report = StepReport {
            step,
            total,
            tokens,
            tokens_per_s: 1e6,
            loss: -123.456,
            figures: &figures,
        };
        let left = Some(Duration::from_secs(100 * 3600));
        let text = line("online dpo 99999/100000", &report, left);
        assert!(text.chars().count() <= 60 && text.contains("100h 00m left"), "{text}");
    }
}
