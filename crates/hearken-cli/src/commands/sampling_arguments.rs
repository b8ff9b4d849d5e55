//! How a command samples.

use clap::Args;
use hearken_generate::Sampling;

#[derive(Args, Debug)]
pub(crate) struct SamplingArguments {
    /// Sampling temperature; 0 always takes the likeliest token
    #[arg(long, default_value_t = 1.0, value_parser = from_zero, allow_negative_numbers = true)]
    pub(crate) temperature: f64,

    /// Sample among the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_parser = fraction, allow_negative_numbers = true)]
    top_p: f64,

    /// Sample among this many likeliest tokens; 0 for all
    #[arg(long, default_value_t = 0)]
    top_k: usize,

    /// Sample among tokens at least this fraction as likely as the likeliest
    #[arg(long, default_value_t = 0.0, value_parser = fraction, allow_negative_numbers = true)]
    min_p: f64,

    /// Text at which a completion ends; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Go on after an end-of-text token
    #[arg(long)]
    ignore_eos: bool,

    /// Seed of the sampling: the same seed gives the same completions
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

impl SamplingArguments {
    pub(crate) fn sampling(&self, max_new_tokens: usize) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: (0 < self.top_k).then_some(self.top_k),
            min_p: self.min_p,
            max_new_tokens,
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
        }
    }
}

/// A finite number from 0.
pub(super) fn from_zero(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && 0.0 <= *number);
    number.ok_or_else(|| "expected a number from 0".to_owned())
}

/// A count from 1.
pub(super) fn from_one(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| 0 < *number);
    number.ok_or_else(|| "expected an integer from 1".to_owned())
}

fn fraction(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
