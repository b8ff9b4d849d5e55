//! `hearken bench`.

mod row;
mod table;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use hearken_data::write_whole;
use hearken_recipes::bench::{self, Bench as Settings, Profile, Sizes, TimedSteps, machine};
use hearken_tensor::device::Precision;

use super::model_arguments::Dtype;
use super::output_file::check_output;
use crate::device;
use crate::output;
use row::BenchRow;

/// Measure how fast this machine trains and samples
///
/// Every work runs on random weights, through the trainers' own steps, and prints tokens and
/// floating-point operations per second (the median step, after a first one that does not count),
/// the share of what the processor does at best, and the most memory held. `all` gives each work a
/// process of its own, so that its memory is its own.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// What to measure
    #[arg(long, value_enum)]
    work: BenchWork,

    /// The model: Llama of 28 or 135 million parameters, or GPT-2 of 124
    #[arg(long, value_enum, default_value = "small30")]
    shape: Shape,

    /// What matrix products read
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,

    /// What they read while completions are sampled
    #[arg(long, value_enum, default_value = "model")]
    sampling: Sampling,

    /// Steps that count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,

    /// Sequences, pairs, prompts or (grpo) completions of a step [default: 8; generate: 32;
    /// decode: 1]
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,

    /// Tokens of a prompt [default: reward, dpo: 128, grpo, generate: 64, ppo: 60]
    #[arg(long, value_name = "N", value_parser = positive)]
    prompt_tokens: Option<usize>,

    /// Tokens of a completion; of a whole sequence of sft [default: sft: 256, reward, dpo: 128,
    /// grpo, generate, ppo: 64]
    #[arg(long, value_name = "N", value_parser = positive)]
    completion_tokens: Option<usize>,

    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,

    /// Print where the time goes, by kind of kernel
    #[arg(long)]
    profile: bool,

    /// Write the results as a list of objects
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  hearken bench --work all --dtype bf16 --json bench.json
  hearken bench --work decode --shape smol135 --dtype bf16
  hearken bench --work sft --shape gpt2 --dtype bf16 --profile";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BenchWork {
    /// 8 sequences of 256 tokens
    Sft,
    /// 8 pairs of a prompt of 128 tokens and two completions of 128
    Reward,
    /// The same pairs, with the reference's pass
    Dpo,
    /// One prompt of 64 tokens, 8 completions of 64, KL to the reference
    Grpo,
    /// 32 prompts of 64 tokens, 64 new tokens each
    Generate,
    /// One prompt of 64 tokens, 64 new tokens: bound by memory
    Decode,
    /// 8 prompts of 60 tokens, 64 new tokens each, critic and reward model, 4 epochs
    Ppo,
    /// Multiply-adds in registers, and reads from memory
    Peak,
    /// All of these
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    Small30,
    Smol135,
    Gpt2,
}

/// What weights are held in while completions are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sampling {
    /// As they are trained
    Model,
    /// Eight bits
    Int8,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| 0 < n).ok_or_else(|| "expected a whole number from 1".to_owned())
}

impl BenchWork {
    /// What is measured in a step; `None` for the machine itself and for several works.
    fn timed(self) -> Option<bench::Workload> {
        match self {
            Self::Sft => Some(bench::Workload::Sft),
            Self::Reward => Some(bench::Workload::Reward),
            Self::Dpo => Some(bench::Workload::Dpo),
            Self::Grpo => Some(bench::Workload::Grpo),
            Self::Generate | Self::Decode => Some(bench::Workload::Generate),
            Self::Ppo => Some(bench::Workload::Ppo),
            Self::Peak | Self::All => None,
        }
    }
}

impl Shape {
    fn of_bench(self) -> bench::Shape {
        match self {
            Self::Small30 => bench::Shape::Small30,
            Self::Smol135 => bench::Shape::Smol135,
            Self::Gpt2 => bench::Shape::Gpt2,
        }
    }
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.json.as_deref().map_or(Ok(()), |path| check_output(path, &[]))?;
        let rows = match (self.work, self.threads) {
            (BenchWork::All, _) => self.measure_all()?,
            (_, None) => self.measure()?,
            (_, Some(threads)) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.context("cannot start threads")?.install(|| self.measure())?
            }
        };
        output::print(&table::table(&rows))?;
        if let Some(path) = &self.json {
            let json = serde_json::to_vec_pretty(&rows)?;
            write_whole(path, |file| file.write_all(&json))
                .with_context(|| format!("{}: cannot be written", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Each work in a process of its own: the operating system's account of memory is per process.
    fn measure_all(&self) -> Result<Vec<BenchRow>> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let scratch = Scratch::new()?;
        let results = scratch.0.path().join("results.json");
        let mut rows = Vec::new();
        for work in BenchWork::value_variants().iter().filter(|work| **work != BenchWork::All) {
            let name = value_name(work);
            output::say(&format!("{name}…"));
            let mut command = std::process::Command::new(&program);
            command.args(["bench", "--work", &name]).args(self.arguments());
            command.arg("--json").arg(&results).stdout(Stdio::null());
            let status = command.status().with_context(|| format!("{}", program.display()))?;
            if !status.success() {
                bail!("`--work {name}` failed: {status}");
            }
            let text = std::fs::read(&results)?;
            rows.extend(serde_json::from_slice::<Vec<BenchRow>>(&text)?);
        }
        Ok(rows)
    }

    /// This command's own options, but for the work and where results go.
    fn arguments(&self) -> Vec<String> {
        let numbers = [
            ("--batch", self.batch),
            ("--prompt-tokens", self.prompt_tokens),
            ("--completion-tokens", self.completion_tokens),
            ("--threads", self.threads),
        ];
        let mut arguments = vec![
            format!("--shape={}", value_name(&self.shape)),
            format!("--dtype={}", value_name(&self.dtype)),
            format!("--sampling={}", value_name(&self.sampling)),
            format!("--steps={}", self.steps),
        ];
        let given = numbers.iter().filter_map(|(name, n)| n.map(|n| format!("{name}={n}")));
        arguments.extend(given);
        arguments.extend(self.profile.then(|| "--profile".to_owned()));
        arguments
    }

    fn measure(&self) -> Result<Vec<BenchRow>> {
        match self.work.timed() {
            None => Ok(self.peaks()),
            Some(work) => Ok(vec![self.measure_work(work)?]),
        }
    }

    /// The machine at its best, in every precision that it has.
    fn peaks(&self) -> Vec<BenchRow> {
        // Before the bandwidth, which takes memory.
        let peaks = [Precision::F32, Precision::Bf16].map(machine::operations_per_s);
        let memory = machine::peak_rss_mb();
        let bandwidth = machine::read_bytes_per_s();
        let named = [Dtype::F32, Dtype::Bf16].into_iter().zip(peaks);
        let row = |(dtype, peak): (Dtype, Option<f64>)| {
            let shape = value_name(&self.shape);
            peak.map(|peak| BenchRow::of_peak(&shape, &value_name(&dtype), peak, bandwidth, memory))
        };
        named.filter_map(row).collect()
    }

    fn measure_work(&self, work: bench::Workload) -> Result<BenchRow> {
        let scratch = Scratch::new()?;
        let settings = self.settings(work, scratch.0.path());
        let profile = Profile::default();
        // Before and after: what else the machine does may slow the one or the other, but not the best.
        let before = self.peak();
        let measured = match self.profile {
            false => bench::measure(device::open(), &settings)?,
            true => bench::measure_kernels(device::open(), &settings, &profile)?,
        };
        // Read before anything else takes memory.
        let memory = machine::peak_rss_mb();
        let mut row = BenchRow::of_work(&settings, &measured, before.max(self.peak()), memory);
        row.work = value_name(&self.work);
        if let Some(bytes_per_s) = measured.decode_bytes_per_s {
            row.set_bandwidth(bytes_per_s, machine::read_bytes_per_s());
        }
        if self.profile {
            row.set_profile(&profile.seconds(), total_seconds(&measured));
        }
        Ok(row)
    }

    fn settings(&self, work: bench::Workload, scratch: &Path) -> Settings {
        let own = work.sizes();
        let batch = if self.work == BenchWork::Decode { 1 } else { own.batch };
        let sizes = Sizes {
            batch: self.batch.unwrap_or(batch),
            prompt: self.prompt_tokens.filter(|_| 0 < own.prompt).unwrap_or(own.prompt),
            completion: self.completion_tokens.unwrap_or(own.completion),
        };
        let dtype = match self.dtype {
            Dtype::F32 => hearken_config::Dtype::F32,
            Dtype::Bf16 => hearken_config::Dtype::Bf16,
        };
        let sampling = match self.sampling {
            Sampling::Model => hearken_config::SamplingDtype::Model,
            Sampling::Int8 => hearken_config::SamplingDtype::Int8,
        };
        let (shape, steps, scratch) = (self.shape.of_bench(), self.steps, scratch.into());
        Settings { work, shape, dtype, sampling, sizes, steps, scratch }
    }

    /// What the processor does at best with these products; f32 where it has no others.
    fn peak(&self) -> f64 {
        let own = machine::operations_per_s(self.dtype.precision());
        own.or_else(|| machine::operations_per_s(Precision::F32)).expect("f32 is everywhere")
    }
}

fn total_seconds(measured: &TimedSteps) -> f64 {
    measured.laps.iter().map(|lap| lap.seconds).sum()
}

/// The word on the command line.
fn value_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A folder that goes away with its content.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Result<Self> {
        let made = tempfile::Builder::new().prefix("hearken-bench-").tempdir();
        Ok(Self(made.context("cannot make a temporary folder")?))
    }
}
