//! One result.

use hearken_config::{Dtype, SamplingDtype};
use hearken_recipes::bench::{Bench, Kernels, TimedSteps};
use serde::{Deserialize, Serialize};

/// What was measured, as the JSON file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BenchRow {
    /// The work.
    pub(super) work: String,
    /// The model's dimensions.
    pub(super) shape: String,
    /// What matrix products read.
    pub(super) dtype: String,
    /// Tokens per second of the median step; null for the machine itself.
    pub(super) tokens_per_s: Option<f64>,
    /// 10⁹ useful floating-point operations per second.
    pub(super) gflops: f64,
    /// Of what the processor does at best.
    pub(super) peak_share: f64,
    /// The most memory held, in MiB; null where the operating system keeps no account.
    pub(super) peak_rss_mb: Option<u64>,
    /// Threads.
    pub(super) threads: usize,
    /// Bytes per second read from memory at best, in 10⁹; where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bandwidth_gb_per_s: Option<f64>,
    /// Of these, the share that weights read in decoding one sequence reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bandwidth_share: Option<f64>,
    /// The steps, where there are any.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub(super) timed: Option<Timed>,
    /// Seconds per step by kind of kernel, the longest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<Vec<StepPart>>,
}

/// The steps that were timed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Timed {
    /// Sequences, pairs or prompts.
    pub(super) batch: usize,
    /// Tokens of a prompt.
    pub(super) prompt_tokens: usize,
    /// Tokens of a completion.
    pub(super) completion_tokens: usize,
    /// Tokens that speed is counted in.
    pub(super) tokens_per_step: usize,
    /// Seconds of the median step.
    pub(super) step_s: f64,
    /// Seconds of each step.
    pub(super) steps_s: Vec<f64>,
}

/// A part of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StepPart {
    /// The kind of kernel.
    pub(super) kernels: String,
    /// Seconds per step.
    pub(super) seconds: f64,
    /// Of the step.
    pub(super) share: f64,
}

const GIGA: f64 = 1e9;
/// What no kernel accounts for.
const REST: &str = "between kernels";

impl BenchRow {
    /// The processor at its best: `peak` operations and `bandwidth` bytes per second.
    pub(super) fn of_peak(
        shape: &str,
        dtype: &str,
        peak: f64,
        bandwidth: f64,
        peak_rss_mb: Option<u64>,
    ) -> Self {
        Self {
            work: "peak".to_owned(),
            shape: shape.to_owned(),
            dtype: dtype.to_owned(),
            tokens_per_s: None,
            gflops: peak / GIGA,
            peak_share: 1.0,
            peak_rss_mb,
            threads: rayon::current_num_threads(),
            bandwidth_gb_per_s: Some(bandwidth / GIGA),
            bandwidth_share: None,
            timed: None,
            profile: None,
        }
    }

    /// A work on a processor that does `peak` operations per second at best.
    pub(super) fn of_work(
        bench: &Bench,
        measured: &TimedSteps,
        peak: f64,
        peak_rss_mb: Option<u64>,
    ) -> Self {
        let sampled = bench.work.samples() && bench.sampling == SamplingDtype::Int8;
        let dtype = match (bench.dtype, sampled) {
            (Dtype::F32, false) => "f32",
            (Dtype::Bf16, false) => "bf16",
            (Dtype::F32, true) => "f32, sampled in int8",
            (Dtype::Bf16, true) => "bf16, sampled in int8",
        };
        Self {
            work: bench.work.name().to_owned(),
            shape: bench.shape.name().to_owned(),
            dtype: dtype.to_owned(),
            tokens_per_s: Some(measured.tokens_per_s()),
            gflops: measured.flops_per_s() / GIGA,
            peak_share: measured.flops_per_s() / peak,
            peak_rss_mb,
            threads: rayon::current_num_threads(),
            bandwidth_gb_per_s: None,
            bandwidth_share: None,
            timed: Some(Timed {
                batch: bench.sizes.batch,
                prompt_tokens: bench.sizes.prompt,
                completion_tokens: bench.sizes.completion,
                tokens_per_step: measured.tokens,
                step_s: measured.seconds(),
                steps_s: measured.laps.iter().map(|lap| lap.seconds).collect(),
            }),
            profile: None,
        }
    }

    /// Bytes per second that decoding reads, beside what the machine reads at best.
    pub(super) fn set_bandwidth(&mut self, bytes_per_s: f64, best: f64) {
        self.bandwidth_gb_per_s = Some(best / GIGA);
        self.bandwidth_share = Some(bytes_per_s / best);
    }

    /// The seconds of all kernels in all steps, which took `total` seconds together.
    pub(super) fn set_profile(&mut self, kernels: &[(Kernels, f64)], total: f64) {
        let rest = total - kernels.iter().map(|(_, seconds)| seconds).sum::<f64>();
        let named = kernels.iter().map(|(kernels, seconds)| (kernels.name(), *seconds));
        let steps = self.timed.as_ref().map_or(1, |timed| timed.steps_s.len()) as f64;
        let mut parts: Vec<StepPart> = named
            .chain([(REST, rest)])
            .filter(|(_, seconds)| 0.0 < *seconds)
            .map(|(name, seconds)| StepPart {
                kernels: name.to_owned(),
                seconds: seconds / steps,
                share: seconds / total,
            })
            .collect();
        parts.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        self.profile = Some(parts);
    }
}
