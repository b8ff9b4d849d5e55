//! How the frequencies of positions are stretched, in the words of both worlds.

use std::f64::consts::PI;

use hearken_model::config::{RotaryConfig, RotaryScaling};
use serde_json::{Value as Json, json};

use crate::error::GgufError;
use crate::file::GgufFile;

/// Divisors of frequencies, one for each pair of rows of a head.
pub(crate) const FACTORS: &str = "rope_freqs.weight";

/// What Llama 3 divides each frequency by.
pub(crate) fn llama3_factors(rotary: &RotaryConfig) -> Option<Vec<f32>> {
    let RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } =
        rotary.scaling
    else {
        return None;
    };
    let (long, short) =
        (original_positions / low_freq_factor, original_positions / high_freq_factor);
    let divisor = |pair: usize| {
        let wavelength = 2.0 * PI * rotary.theta.powf(2.0 * pair as f64 / rotary.dim as f64);
        if wavelength < short {
            1.0
        } else if wavelength > long {
            factor
        } else {
            let smooth = (original_positions / wavelength - low_freq_factor)
                / (high_freq_factor - low_freq_factor);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Some((0..rotary.dim / 2).map(|pair| divisor(pair) as f32).collect())
}

/// `rope_scaling` of config.json for a file; `None` where nothing is stretched.
pub(crate) fn scaling(
    file: &GgufFile,
    arch: &str,
    theta: f64,
    dim: usize,
) -> Result<Option<Json>, GgufError> {
    if let Some(info) = file.tensors().get(FACTORS) {
        return of_factors(file, &file.values(info), theta, dim).map(Some);
    }
    let key = |name: &str| format!("{arch}.rope.scaling.{name}");
    let kind = match file.text(&key("type"))? {
        None | Some("none") => return Ok(None),
        Some(kind) => kind,
    };
    let factor = file.float(&key("factor"))?.unwrap_or(1.0);
    match kind {
        "linear" => Ok(Some(json!({"rope_type": "linear", "type": "linear", "factor": factor}))),
        "yarn" => {
            let original = file.required(&key("original_context_length"))?;
            Ok(Some(json!({
                "rope_type": "yarn",
                "type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original,
            })))
        }
        other => Err(GgufError::unsupported(
            file.path(),
            format!("stretches positions by {other:?}; expected \"none\", \"linear\" or \"yarn\""),
        )),
    }
}

/// The published settings of Llama 3.1 to 3.3 that give these divisors: the file has the divisors alone.
fn of_factors(file: &GgufFile, factors: &[f32], theta: f64, dim: usize) -> Result<Json, GgufError> {
    const TOLERANCE: f32 = 1e-3;
    let factor = f64::from(factors.iter().copied().fold(1.0_f32, f32::max));
    for original_positions in [8192.0, 4096.0, 2048.0, 16_384.0, 32_768.0] {
        let scaling = RotaryScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_positions,
        };
        let expected = llama3_factors(&RotaryConfig { dim, theta, scaling }).unwrap_or_default();
        let is_close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * b;
        if expected.len() == factors.len() && expected.iter().zip(factors).all(is_close) {
            return Ok(json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original_positions as u64,
            }));
        }
    }
    Err(GgufError::unsupported(
        file.path(),
        format!("{FACTORS} divides frequencies otherwise than Llama 3 does, by up to {factor}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_frequencies_are_divided_and_high_ones_kept() {
        let scaling = RotaryScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_positions: 8192.0,
        };
        let factors =
            llama3_factors(&RotaryConfig { dim: 128, theta: 500_000.0, scaling }).unwrap();
        assert_eq!((factors.len(), factors[0], factors[63]), (64, 1.0, 8.0));
        assert!(factors.windows(2).all(|two| two[0] <= two[1]));
        assert!(factors.iter().any(|factor| 1.0 < *factor && *factor < 8.0));
    }
}
