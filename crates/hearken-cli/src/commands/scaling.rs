//! `hearken scaling`.

mod measured;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use hearken_data::write_whole;
use hearken_recipes::cluster::{
    Bound, Draws, IterationPlan, Lengths, Network, Sampler, Step, StepPlan, Summation, Trainer,
    iterations, steps,
};
use serde::Serialize;

use super::output_file::check_output;
use crate::output;
use crate::table::table;
use measured::Measured;

/// Say how fast many ranks and servers would be, from measured speeds
///
/// A model of events in time: ranks pass over their shares of a step's records, gradients travel in the portions in which they
/// do, servers give every running sequence a token a step until it ends. Speeds are those of one rank; without
/// them, those of a model of 27.8 million parameters, measured on two CPU cores (docs/results/performance.json). Lengths are
/// drawn from log-normal distributions. Two tables: steps of supervised fine-tuning, by ranks, and iterations of GRPO,
/// sampled by the ranks themselves, by servers, and by servers ahead of training.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Scaling {
    /// Numbers of ranks
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8", value_parser = positive)]
    ranks: Vec<usize>,

    /// Ranks of a machine
    #[arg(long, value_name = "N", default_value = "8", value_parser = positive)]
    ranks_per_node: usize,

    /// Records of a step, and prompts of an iteration, for each rank, in place of --records and --prompts for all
    #[arg(long)]
    grow: bool,

    /// Trained parameters [default: of the model that was measured]
    #[arg(long, value_name = "N", value_parser = above_zero)]
    parameters: Option<f64>,

    /// Tokens a second that a rank trains on [default: as measured]
    #[arg(long, value_name = "N", value_parser = above_zero)]
    train_tokens_per_s: Option<f64>,

    /// Milliseconds of a step of sampling whatever runs [default: as measured]
    #[arg(long, value_name = "MS", value_parser = from_zero)]
    step_ms: Option<f64>,

    /// Milliseconds that each running sequence adds to it [default: as measured]
    #[arg(long, value_name = "MS", value_parser = from_zero)]
    sequence_ms: Option<f64>,

    /// Sequences that a sampler runs at a time
    #[arg(long, value_name = "N", default_value = "64", value_parser = positive)]
    slots: usize,

    /// Gigabytes a second that a rank sends to others of its machine
    #[arg(long, value_name = "GB/S", default_value = "5", value_parser = above_zero)]
    link: f64,

    /// Gigabytes a second that a machine sends to others, all of its ranks together
    #[arg(long, value_name = "GB/S", default_value = "1.25", value_parser = above_zero)]
    network: f64,

    /// Microseconds that a message takes beside its bytes
    #[arg(long, value_name = "US", default_value = "50", value_parser = from_zero)]
    latency: f64,

    /// Gigabytes a second of a rank's memory
    #[arg(long, value_name = "GB/S", default_value = "10", value_parser = above_zero)]
    memory: f64,

    /// How gradients are summed: as Hearken does, or round a ring, which it does not
    #[arg(long, value_enum, default_value = "exchange")]
    summation: SummationName,

    /// Records of a step of supervised fine-tuning
    #[arg(long, value_name = "N", default_value = "64", value_parser = positive)]
    records: usize,

    /// Tokens of a record, mean
    #[arg(long, value_name = "N", default_value = "256", value_parser = above_zero)]
    record_tokens: f64,

    /// Prompts of an iteration
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    prompts: usize,

    /// Completions of a prompt
    #[arg(long, value_name = "N", default_value = "8", value_parser = positive)]
    completions: usize,

    /// Tokens of a prompt
    #[arg(long, value_name = "N", default_value = "64")]
    prompt_tokens: usize,

    /// Tokens of a completion, mean
    #[arg(long, value_name = "N", default_value = "64", value_parser = above_zero)]
    completion_tokens: f64,

    /// Standard deviation of the logarithm of lengths; 0 is one length for all
    #[arg(long, value_name = "N", default_value = "0.7", value_parser = from_zero)]
    spread: f64,

    /// The most tokens of a record or completion, in means of theirs
    #[arg(long, value_name = "N", default_value = "8", value_parser = above_zero)]
    longest: f64,

    /// Servers that sample for each rank
    #[arg(long, value_name = "N", default_value = "1", value_parser = above_zero)]
    servers: f64,

    /// Seconds in which servers get new weights [default: what the file takes at 1 GB a second to write and to read]
    #[arg(long, value_name = "S", value_parser = from_zero)]
    loading: Option<f64>,

    /// Steps and iterations that are averaged over
    #[arg(long, value_name = "N", default_value = "20", value_parser = positive)]
    steps: usize,

    /// Of the random numbers
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Write every number to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  hearken scaling --ranks 1,2,4,8 --json scaling.json
  hearken scaling --ranks 8,64,512 --grow --parameters 7e9 \\
      --train-tokens-per-s 9000 --step-ms 8 --sequence-ms 0.02 --slots 256 \\
      --link 300 --network 50 --latency 5 --memory 3000 --record-tokens 1024 \\
      --prompt-tokens 256 --completion-tokens 1024";

/// Bytes a second at which files of weights are written and read where nothing else is said.
const FILE_BYTES_PER_S: f64 = 1e9;
/// Bytes of a number in such a file.
const FILE_BYTES: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SummationName {
    Exchange,
    Ring,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| 0 < n).ok_or_else(|| "expected a whole number from 1".to_owned())
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&n: &f64| 0.0 < n && n.is_finite());
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

fn from_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&n: &f64| 0.0 <= n && n.is_finite());
    number.ok_or_else(|| "expected a number from 0".to_owned())
}

/// Steps of supervised fine-tuning by so many ranks.
#[derive(Debug, Serialize)]
struct StepRow {
    ranks: usize,
    records: usize,
    step_s: f64,
    /// Times as fast, record by record, as one rank without others.
    speedup: f64,
    /// The speedup of one rank.
    efficiency: f64,
    computing_s: f64,
    waiting_s: f64,
    bytes_s: f64,
    messages_s: f64,
    updating_s: f64,
    bound: &'static str,
}

/// Iterations by so many ranks.
#[derive(Debug, Serialize)]
struct IterationRow {
    ranks: usize,
    servers: usize,
    sampled: &'static str,
    iteration_s: f64,
    sampling_s: f64,
    /// Of the sampling, what those who sample have nothing to do.
    idle_share: f64,
    training_s: f64,
    tokens_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Rows {
    sft: Vec<StepRow>,
    grpo: Vec<IterationRow>,
}

impl Scaling {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.json.as_deref().map_or(Ok(()), |path| check_output(path, &[]))?;
        let measured = Measured::of_this_program()?;
        let rows = Rows { sft: self.step_rows(&measured), grpo: self.iteration_rows(&measured) };
        output::print(&rows.text())?;
        if let Some(path) = &self.json {
            let json = serde_json::to_vec_pretty(&rows)?;
            write_whole(path, |file| file.write_all(&json))
                .with_context(|| format!("{}: cannot be written", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn trainer(&self, measured: &Measured) -> Trainer {
        Trainer {
            tokens_per_s: self.train_tokens_per_s.unwrap_or(measured.train_tokens_per_s),
            numbers: self.numbers(measured),
            memory_bytes_per_s: 1e9 * self.memory,
            network: Network {
                ranks_per_node: self.ranks_per_node,
                link_bytes_per_s: 1e9 * self.link,
                network_bytes_per_s: 1e9 * self.network,
                latency_s: 1e-6 * self.latency,
            },
            summation: match self.summation {
                SummationName::Exchange => Summation::Exchange,
                SummationName::Ring => Summation::Ring,
            },
        }
    }

    fn numbers(&self, measured: &Measured) -> usize {
        self.parameters.map_or(measured.parameters, |parameters| parameters.round() as usize)
    }

    fn lengths(&self, mean: f64) -> Lengths {
        Lengths { mean, spread: self.spread, max: (self.longest * mean).ceil() as usize }
    }

    fn draws(&self) -> Draws {
        Draws { count: self.steps, seed: self.seed }
    }

    /// Of one rank, or of each.
    fn of_all(&self, count: usize, ranks: usize) -> usize {
        if self.grow { count * ranks } else { count }
    }

    fn step_rows(&self, measured: &Measured) -> Vec<StepRow> {
        let (trainer, lengths) = (self.trainer(measured), self.lengths(self.record_tokens));
        let of = |ranks: usize| -> Step {
            let records = self.of_all(self.records, ranks);
            steps(&trainer, &StepPlan { records, lengths, ranks }, self.draws())
        };
        let alone = of(1);
        let row = |&ranks: &usize| {
            let step = of(ranks);
            let records = self.of_all(self.records, ranks);
            let of_one = self.of_all(self.records, 1);
            let speedup = alone.seconds() / step.seconds() * records as f64 / of_one as f64;
            let Step { computing_s, waiting_s, bytes_s, messages_s, updating_s } = step;
            StepRow {
                ranks,
                records,
                step_s: step.seconds(),
                speedup,
                efficiency: speedup / ranks as f64,
                computing_s,
                waiting_s,
                bytes_s,
                messages_s,
                updating_s,
                bound: bound(step.bound()),
            }
        };
        self.ranks.iter().map(row).collect()
    }

    fn iteration_rows(&self, measured: &Measured) -> Vec<IterationRow> {
        let trainer = self.trainer(measured);
        let sampler = Sampler {
            step_s: self.step_ms.map_or(measured.step_s, |ms| 1e-3 * ms),
            sequence_s: self.sequence_ms.map_or(measured.sequence_s, |ms| 1e-3 * ms),
            slots: self.slots,
        };
        let written_s = trainer.numbers as f64 * FILE_BYTES / FILE_BYTES_PER_S;
        let plan = |ranks: usize, servers: usize, is_ahead: bool| IterationPlan {
            prompts: self.of_all(self.prompts, ranks),
            completions: self.completions,
            prompt_tokens: self.prompt_tokens,
            lengths: self.lengths(self.completion_tokens),
            ranks,
            servers,
            is_ahead,
            loading_s: self.loading.unwrap_or(2.0 * written_s),
        };
        let row = |ranks: usize, servers: usize, is_ahead: bool| {
            let plan = plan(ranks, servers, is_ahead);
            let all = iterations(&trainer, sampler, &plan, self.draws());
            IterationRow {
                ranks,
                servers,
                sampled: match (servers, is_ahead) {
                    (0, _) => "by the ranks",
                    (_, false) => "by servers",
                    (_, true) => "by servers, ahead",
                },
                iteration_s: all.seconds,
                sampling_s: all.sampling_s,
                idle_share: all.idle_s / all.sampling_s,
                training_s: all.training.seconds(),
                tokens_per_s: all.tokens / all.seconds,
            }
        };
        let rows = |&ranks: &usize| {
            let servers = ((self.servers * ranks as f64).round() as usize).max(1);
            [row(ranks, 0, false), row(ranks, servers, false), row(ranks, servers, true)]
        };
        self.ranks.iter().flat_map(rows).collect()
    }
}

impl Rows {
    /// Both tables.
    fn text(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let step = |row: &StepRow| {
            let share = |seconds: f64| percent(seconds / row.step_s);
            vec![
                row.ranks.to_string(),
                row.records.to_string(),
                format!("{:.3}", row.step_s),
                format!("{:.2}", row.speedup),
                percent(row.efficiency),
                share(row.computing_s),
                share(row.waiting_s),
                share(row.bytes_s),
                share(row.messages_s),
                share(row.updating_s),
                row.bound.to_owned(),
            ]
        };
        let header = [
            "ranks",
            "records",
            "step, s",
            "speedup",
            "of ideal",
            "computing",
            "waiting",
            "bytes",
            "messages",
            "updating",
            "bound by",
        ];
        let steps: Vec<_> = self.sft.iter().map(step).collect();
        let iteration = |row: &IterationRow| {
            vec![
                row.ranks.to_string(),
                row.servers.to_string(),
                format!("{:.2}", row.iteration_s),
                format!("{:.2}", row.sampling_s),
                percent(row.idle_share),
                format!("{:.2}", row.training_s),
                format!("{:.0}", row.tokens_per_s),
                row.sampled.to_owned(),
            ]
        };
        let iterations: Vec<_> = self.grpo.iter().map(iteration).collect();
        let of_iterations = [
            "ranks",
            "servers",
            "iteration, s",
            "sampling",
            "idle",
            "training",
            "tokens/s",
            "sampled",
        ];
        format!(
            "steps of supervised fine-tuning\n{}\niterations of grpo\n{}",
            table(&header, &steps),
            table(&of_iterations, &iterations)
        )
    }
}

fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Computing => "computing",
        Bound::Shares => "uneven shares",
        Bound::Bandwidth => "bandwidth",
        Bound::Messages => "messages",
        Bound::Memory => "memory",
    }
}
