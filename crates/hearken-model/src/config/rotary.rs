//! Rotary position embeddings as a config.json describes them.

use super::{ConfigError, Keys, says_none};

/// How frequencies are stretched beyond the length a model was first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RotaryScaling {
    /// Not at all.
    Default,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided, high ones kept, those between interpolated.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths beyond original_positions / low_freq_factor are low.
        low_freq_factor: f64,
        /// Wavelengths below original_positions / high_freq_factor are high.
        high_freq_factor: f64,
        /// The length the model was first trained on.
        original_positions: f64,
    },
}

/// Rotary position embeddings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryConfig {
    /// How many leading elements of a head are rotated.
    pub dim: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// Stretching.
    pub scaling: RotaryScaling,
}

/// Names that differ between families and versions of Transformers.
pub(crate) struct RotaryKeys {
    /// Key of θ in version 4.
    pub(crate) theta: &'static str,
    /// Key of the rotated share of a head in version 4, if the family has one.
    pub(crate) fraction: Option<&'static str>,
    /// The share where no key says otherwise.
    pub(crate) default_fraction: f64,
}

impl RotaryConfig {
    /// Reads `rope_parameters` (version 5), or θ and `rope_scaling` (version 4).
    pub(crate) fn read(
        keys: &Keys<'_>,
        head_dim: usize,
        names: &RotaryKeys,
    ) -> Result<Self, ConfigError> {
        let mut theta = keys.number(names.theta, 10_000.0)?;
        let mut fraction = names.default_fraction;
        if let Some(key) = names.fraction {
            fraction = keys.number(key, fraction)?;
        }
        let (parameters, scaling) = (keys.object("rope_parameters")?, keys.object("rope_scaling")?);
        if let Some(parameters) = parameters {
            theta = parameters.number("rope_theta", theta)?;
            if scaling.is_some_and(|scaling| scaling.map() != parameters.map()) {
                return Err(keys.unusable("rope_scaling", "null beside `rope_parameters`"));
            }
        }
        let scaling = parameters.or(scaling);
        fraction = fraction_of(keys, scaling.as_ref(), fraction, names)?;
        let scaling = scaling.map_or(Ok(RotaryScaling::Default), |keys| read_scaling(&keys))?;
        let dim = (head_dim as f64 * fraction) as usize;
        if dim == 0 || !dim.is_multiple_of(2) || head_dim < dim {
            let key = names.fraction.unwrap_or("head_dim");
            return Err(keys.unusable(key, "an even, positive number of rotated elements"));
        }
        Ok(Self { dim, theta, scaling })
    }

    /// Angle per position for each of the dim/2 pairs, in f32 as Transformers computes them, so
    /// that angles at far positions round alike.
    pub fn frequencies(&self) -> Vec<f32> {
        let base = self.theta as f32;
        let plain = |i: usize| 1.0 / base.powf((2 * i) as f32 / self.dim as f32);
        (0..self.dim / 2).map(|i| self.scaling.apply(plain(i))).collect()
    }
}

impl RotaryScaling {
    fn apply(self, frequency: f32) -> f32 {
        match self {
            Self::Default => frequency,
            Self::Linear { factor } => frequency / factor as f32,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                let wavelength = 2.0 * std::f64::consts::PI / f64::from(frequency);
                let turns = original_positions / wavelength;
                let frequency = f64::from(frequency);
                let scaled = if turns < low_freq_factor {
                    frequency / factor
                } else if high_freq_factor < turns {
                    frequency
                } else {
                    let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                };
                scaled as f32
            }
        }
    }
}

/// The rotated share of a head that `partial_rotary_factor` says, among the rotary parameters or
/// beside them.
///
/// Where whole heads are rotated, Transformers passes over the key and other programs rotate a part:
/// no reading is right for both, so another value than 1 is refused.
fn fraction_of(
    keys: &Keys<'_>,
    parameters: Option<&Keys<'_>>,
    fraction: f64,
    names: &RotaryKeys,
) -> Result<f64, ConfigError> {
    const KEY: &str = "partial_rotary_factor";
    let inner = parameters.map_or(Ok(fraction), |parameters| parameters.number(KEY, fraction))?;
    let differs = |value: f64, expected: f64| 1e-12 < (value - expected).abs();
    if names.fraction.is_none() {
        let expected = "1.0 or no such key: this family rotates whole heads";
        if let Some(parameters) = parameters.filter(|_| differs(inner, fraction)) {
            return Err(parameters.unusable(KEY, expected));
        }
        if differs(keys.number(KEY, fraction)?, fraction) {
            return Err(keys.unusable(KEY, expected));
        }
    } else if differs(keys.number(KEY, inner)?, inner) {
        return Err(keys.unusable(KEY, &format!("{inner}, as the other rotary keys say")));
    }
    Ok(inner)
}

/// Keys among the rotary parameters that are read elsewhere, or that a form may have beside those it
/// needs without another meaning.
const KNOWN: [&str; 5] = [
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "original_max_position_embeddings",
];

/// Refuses rotary parameters that are neither among `needed` nor known.
fn refuse_others(keys: &Keys<'_>, needed: &[&str]) -> Result<(), ConfigError> {
    let is_known = |key: &&String| KNOWN.contains(&key.as_str()) || needed.contains(&key.as_str());
    for (key, value) in keys.map().iter().filter(|(key, _)| !is_known(key)) {
        let is_one = value.as_f64().is_some_and(|number| (number - 1.0).abs() < 1e-12);
        // A factor of 1 stretches nothing.
        let is_neutral = is_one && ["factor", "attention_factor"].contains(&key.as_str());
        if !is_neutral && !says_none(value) {
            return Err(keys.unusable(key, "no such key among these rotary parameters"));
        }
    }
    Ok(())
}

fn read_scaling(keys: &Keys<'_>) -> Result<RotaryScaling, ConfigError> {
    let required = |key: &str| {
        keys.get(key)
            .and_then(serde_json::Value::as_f64)
            .ok_or_else(|| keys.unusable(key, "a number (rotary scaling)"))
    };
    let key = if keys.get("rope_type").is_some() { "rope_type" } else { "type" };
    let form = keys.text(key, "default")?;
    refuse_others(
        keys,
        match form {
            "linear" => &["factor"],
            "llama3" => &["factor", "low_freq_factor", "high_freq_factor"],
            "default" | "none" => &[],
            _ => return Err(keys.unusable(key, "\"default\", \"linear\" or \"llama3\"")),
        },
    )?;
    match form {
        "linear" => Ok(RotaryScaling::Linear { factor: required("factor")? }),
        "llama3" => Ok(RotaryScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_positions: required("original_max_position_embeddings")?,
        }),
        _ => Ok(RotaryScaling::Default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Llama 3.1's table at its published setting: the first frequencies are kept, the last are
    /// divided by 8.
    #[test]
    fn llama3_scaling_keeps_high_and_divides_low_frequencies() {
        let scaling = RotaryScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_positions: 8192.0,
        };
        let plain = RotaryConfig { dim: 128, theta: 500_000.0, scaling: RotaryScaling::Default };
        let scaled = RotaryConfig { scaling, ..plain };
        let (plain, scaled) = (plain.frequencies(), scaled.frequencies());
        assert_eq!(plain[..20], scaled[..20]);
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-5);
        let middle = plain[32] / scaled[32];
        assert!(1.0 < middle && middle < 8.0, "{middle}");
    }
}
