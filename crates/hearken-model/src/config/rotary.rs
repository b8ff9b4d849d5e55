//! Rotary position embeddings as a config.json describes them.

use super::{ConfigError, JsonKeys, says_none};

/// How frequencies are stretched beyond the length a model was first trained on.
#[derive(Clone, Debug, PartialEq)]
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
    /// YaRN (Peng et al. 2023, arXiv:2309.00071): pairs that turn rarely are divided, those that turn often
    /// kept, and those between interpolated by their place.
    Yarn {
        /// The divisor.
        factor: f64,
        /// Pairs before this place, a fraction of a pair among them, are kept.
        low: f64,
        /// Pairs behind this one are divided.
        high: f64,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
    },
    /// LongRoPE (Ding et al. 2024, arXiv:2402.13753): a divisor for each pair; of the two sets that a model has,
    /// the one for lengths that it was first trained on.
    LongRope {
        /// One for each pair.
        divisors: Vec<f64>,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
        /// The length up to which these divisors hold.
        original_positions: usize,
    },
}

/// Rotary position embeddings.
#[derive(Clone, Debug, PartialEq)]
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
    /// θ where no key says it.
    pub(crate) default_theta: f64,
    /// Key of the rotated share of a head in version 4, if the family has one.
    pub(crate) fraction: Option<&'static str>,
    /// The share where no key says otherwise.
    pub(crate) default_fraction: f64,
}

impl RotaryConfig {
    /// Reads `rope_parameters` (version 5), or θ and `rope_scaling` (version 4).
    pub(crate) fn read(
        keys: &JsonKeys<'_>,
        head_dim: usize,
        names: &RotaryKeys,
    ) -> Result<Self, ConfigError> {
        let (parameters, scaling) = (keys.object("rope_parameters")?, keys.object("rope_scaling")?);
        if let (Some(parameters), Some(scaling)) = (&parameters, &scaling)
            && scaling.map() != parameters.map()
        {
            return Err(keys.unusable("rope_scaling", "null beside `rope_parameters`"));
        }
        if parameters.is_none() {
            refuse_two_thetas(keys, scaling.as_ref(), names)?;
        }
        Self::of(keys, parameters.or(scaling).as_ref(), head_dim, names)
    }

    /// Reads what layers without windows are rotated by, and what those with windows are: `rope_parameters`
    /// by kind of layer (version 5); or a θ of each, and `rope_scaling` of the former (version 4).
    pub(crate) fn read_by_kind(
        keys: &JsonKeys<'_>,
        head_dim: usize,
        [full, sliding]: [&RotaryKeys; 2],
    ) -> Result<[Self; 2], ConfigError> {
        const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];
        let scaling = keys.object("rope_scaling")?;
        let [of_full, of_sliding] = match keys.object("rope_parameters")? {
            None => {
                refuse_two_thetas(keys, scaling.as_ref(), full)?;
                [scaling, None]
            }
            Some(parameters) => {
                let is_kind = |key: &str| KINDS.contains(&key);
                if parameters.map().iter().any(|(key, value)| !is_kind(key) && !says_none(value)) {
                    let expected = "an object of rotary parameters for \"full_attention\" and one for \
                                    \"sliding_attention\", and nothing else";
                    return Err(keys.unusable("rope_parameters", expected));
                }
                if scaling.is_some() {
                    return Err(keys.unusable("rope_scaling", "null beside `rope_parameters`"));
                }
                [parameters.object(KINDS[0])?, parameters.object(KINDS[1])?]
            }
        };
        Ok([
            Self::of(keys, of_full.as_ref(), head_dim, full)?,
            Self::of(keys, of_sliding.as_ref(), head_dim, sliding)?,
        ])
    }

    /// What rotary parameters of a model say, or its other keys where they say nothing.
    fn of(
        keys: &JsonKeys<'_>,
        parameters: Option<&JsonKeys<'_>>,
        head_dim: usize,
        names: &RotaryKeys,
    ) -> Result<Self, ConfigError> {
        let mut theta = keys.number(names.theta, names.default_theta)?;
        let mut fraction = names.default_fraction;
        if let Some(key) = names.fraction {
            fraction = keys.number(key, fraction)?;
        }
        if let Some(parameters) = parameters {
            theta = parameters.number("rope_theta", theta)?;
        }
        fraction = fraction_of(keys, parameters, fraction, names)?;
        let dim = (head_dim as f64 * fraction) as usize;
        let scaling = match parameters {
            None => RotaryScaling::Default,
            Some(own) => read_scaling(own, keys, theta, dim)?,
        };
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
        (0..self.dim / 2).map(|i| self.scaling.apply(i, plain(i))).collect()
    }

    /// What cosines and sines are multiplied by: both queries and keys, so products get its square.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RotaryScaling::Yarn { attention_factor, .. }
            | RotaryScaling::LongRope { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    /// The positions for which the frequencies hold, of a model made for `positions`.
    pub(crate) fn positions(&self, positions: usize) -> usize {
        match self.scaling {
            RotaryScaling::LongRope { original_positions, .. } => original_positions.min(positions),
            _ => positions,
        }
    }
}

impl RotaryScaling {
    /// The frequency of the pair with an index.
    fn apply(&self, index: usize, frequency: f32) -> f32 {
        match *self {
            Self::Default => frequency,
            Self::Linear { factor } => frequency / factor as f32,
            Self::Yarn { factor, low, high, .. } => {
                let ramp = ((index as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                let divided = 1.0 / (factor as f32 * (1.0 / frequency));
                divided * ramp + frequency * (1.0 - ramp)
            }
            Self::LongRope { ref divisors, .. } => {
                1.0 / (divisors[index] as f32 * (1.0 / frequency))
            }
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

/// Refuses a θ inside `rope_scaling` that is another one than beside it: version 4 of Transformers reads one,
/// version 5 the other.
fn refuse_two_thetas(
    keys: &JsonKeys<'_>,
    scaling: Option<&JsonKeys<'_>>,
    names: &RotaryKeys,
) -> Result<(), ConfigError> {
    let (Some(scaling), Some(_)) = (scaling, keys.get(names.theta)) else { return Ok(()) };
    let theta = keys.number(names.theta, names.default_theta)?;
    if 1e-12 < (scaling.number("rope_theta", theta)? - theta).abs() {
        let expected = format!("{theta}, as `{}` says beside `rope_scaling`", names.theta);
        return Err(scaling.unusable("rope_theta", &expected));
    }
    Ok(())
}

/// The rotated share of a head that `partial_rotary_factor` says, among the rotary parameters or
/// beside them.
///
/// Where whole heads are rotated, Transformers passes over the key and other programs rotate a part:
/// no reading is right for both, so another value than 1 is refused.
fn fraction_of(
    keys: &JsonKeys<'_>,
    parameters: Option<&JsonKeys<'_>>,
    fraction: f64,
    names: &RotaryKeys,
) -> Result<f64, ConfigError> {
    const KEY: &str = "partial_rotary_factor";
    let inner = parameters.map_or(Ok(fraction), |parameters| parameters.number(KEY, fraction))?;
    let differs = |value: f64, expected: f64| 1e-12 < (value - expected).abs();
    if names.fraction.is_none() {
        let expected =
            "1.0 or no such key: in Transformers this family rotates whole heads, whatever it says";
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
fn refuse_others(keys: &JsonKeys<'_>, needed: &[&str]) -> Result<(), ConfigError> {
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

/// Reads the rotary parameters `keys` of a config.json, whose own keys are `model`.
fn read_scaling(
    keys: &JsonKeys<'_>,
    model: &JsonKeys<'_>,
    theta: f64,
    dim: usize,
) -> Result<RotaryScaling, ConfigError> {
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
            // Up to the positions that the model has, "dynamic" stretches nothing.
            "linear" | "dynamic" => &["factor"],
            "llama3" => &["factor", "low_freq_factor", "high_freq_factor"],
            "yarn" => &[
                "factor",
                "beta_fast",
                "beta_slow",
                "attention_factor",
                "mscale",
                "mscale_all_dim",
                "truncate",
            ],
            "longrope" | "su" => &["factor", "short_factor", "long_factor", "attention_factor"],
            "default" | "none" => &[],
            _ => {
                let known =
                    "\"default\", \"linear\", \"llama3\", \"yarn\", \"longrope\" or \"dynamic\"";
                return Err(keys.unusable(key, known));
            }
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
        "yarn" => read_yarn(keys, model, theta, dim),
        "longrope" | "su" => read_longrope(keys, model, dim),
        _ => Ok(RotaryScaling::Default),
    }
}

/// The length a model was first trained on, and how many times longer it is made for.
fn stretched(keys: &JsonKeys<'_>, model: &JsonKeys<'_>) -> Result<(usize, f64), ConfigError> {
    const ORIGINAL: &str = "original_max_position_embeddings";
    let positions = model.optional_size("max_position_embeddings")?;
    let original = match keys.optional_size(ORIGINAL)? {
        Some(own) => own,
        None => match model.optional_size(ORIGINAL)?.or(positions) {
            Some(size) => size,
            None => return Err(keys.unusable(ORIGINAL, "a count of positions")),
        },
    };
    let ratio = positions.unwrap_or(original) as f64 / original as f64;
    Ok((original, keys.number("factor", ratio)?))
}

fn read_yarn(
    keys: &JsonKeys<'_>,
    model: &JsonKeys<'_>,
    theta: f64,
    dim: usize,
) -> Result<RotaryScaling, ConfigError> {
    let (original, factor) = stretched(keys, model)?;
    let given = |key: &str, otherwise: f64| keys.number(key, otherwise);
    let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    let (own, all) = (given("mscale", 0.0)?, given("mscale_all_dim", 0.0)?);
    let usual = if own != 0.0 && all != 0.0 { mscale(own) / mscale(all) } else { mscale(1.0) };
    let attention_factor = given("attention_factor", usual)?;
    // The place of the pair that turns so often within the length.
    let place = |turns: f64| {
        dim as f64 * (original as f64 / (turns * 2.0 * std::f64::consts::PI)).ln()
            / (2.0 * theta.ln())
    };
    let (low, high) = (place(given("beta_fast", 32.0)?), place(given("beta_slow", 1.0)?));
    let (low, high) = match keys.flag("truncate", true)? {
        true => (low.floor(), high.ceil()),
        false => (low, high),
    };
    let (low, mut high) = (low.max(0.0), high.min(dim as f64 - 1.0));
    if (high - low).abs() == 0.0 {
        high += 0.001;
    }
    Ok(RotaryScaling::Yarn { factor, low, high, attention_factor })
}

fn read_longrope(
    keys: &JsonKeys<'_>,
    model: &JsonKeys<'_>,
    dim: usize,
) -> Result<RotaryScaling, ConfigError> {
    let (original_positions, factor) = stretched(keys, model)?;
    let divisors = |key: &str| {
        let list = keys.get(key).and_then(serde_json::Value::as_array);
        let list: Option<Vec<f64>> =
            list.and_then(|list| list.iter().map(serde_json::Value::as_f64).collect());
        list.filter(|list| list.len() == dim / 2)
            .ok_or_else(|| keys.unusable(key, &format!("a list of {} numbers", dim / 2)))
    };
    divisors("long_factor")?;
    let usual = if factor <= 1.0 {
        1.0
    } else {
        (1.0 + factor.ln() / (original_positions as f64).ln()).sqrt()
    };
    let attention_factor = keys.number("attention_factor", usual)?;
    let divisors = divisors("short_factor")?;
    Ok(RotaryScaling::LongRope { divisors, attention_factor, original_positions })
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
        let scaled = RotaryConfig { scaling, ..plain.clone() };
        let (plain, scaled) = (plain.frequencies(), scaled.frequencies());
        assert_eq!(plain[..20], scaled[..20]);
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-5);
        let middle = plain[32] / scaled[32];
        assert!(1.0 < middle && middle < 8.0, "{middle}");
    }
}
