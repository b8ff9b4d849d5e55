//! The progress of sampling, or of reading, on the screen.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;
use crate::time_left::{shown, time_left};

/// Plain lines are at least this far apart.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Counts sequences and tokens on standard error.
#[derive(Debug)]
pub(crate) struct Counter {
    began: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
    tokens: u64,
    ended: u64,
    total: u64,
}

impl Counter {
    /// Starts counting towards `total` sequences.
    pub(crate) fn new(total: usize) -> Self {
        let now = Instant::now();
        let total = total as u64;
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:16} {pos}/{len}  {wide_msg}");
            ProgressBar::new(total).with_style(style.expect("the template is valid"))
        });
        Self { began: now, last_line: now, bar, tokens: 0, ended: 0, total }
    }

    /// Takes sequences that have ended and tokens, of them or of others.
    pub(crate) fn add(&mut self, ended: usize, tokens: usize) {
        self.tokens += tokens as u64;
        self.ended += ended as u64;
        if let Some(bar) = &self.bar {
            bar.set_position(self.ended);
            bar.set_message(self.message());
        } else if LINE_EVERY <= self.last_line.elapsed() {
            self.last_line = Instant::now();
            output::say(&format!("{}/{}  {}", self.ended, self.total, self.message()));
        }
    }

    /// Says what it came to; `noun` is what one sequence is.
    pub(crate) fn finish(self, noun: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let (ended, plural) = (self.ended, if self.ended == 1 { "" } else { "s" });
        let speed = self.speed().map(|speed| format!(", {} tokens, {speed}", self.tokens));
        output::say(&format!("{ended} {noun}{plural}{}", speed.unwrap_or_default()));
    }

    /// Nothing where no tokens are counted.
    fn speed(&self) -> Option<String> {
        let seconds = self.began.elapsed().as_secs_f64();
        let is_counted = 0 < self.tokens && 0.0 < seconds;
        is_counted.then(|| format!("{:.0} tokens/s", self.tokens as f64 / seconds))
    }

    fn message(&self) -> String {
        let left = time_left(self.began.elapsed(), self.ended, self.total);
        let left = left.map(|left| format!("{} left", shown(left)));
        let parts: Vec<String> = left.into_iter().chain(self.speed()).collect();
        parts.join("  ")
    }
}
