//! OLMo 3: OLMo 2, most of whose layers have windows, and rotary parameters by kind of layer.

use hearken_tensor::device::Gate;

use super::llama::{self, Defaults, Kin};
use super::{olmo2, windows};
use crate::config::{ConfigError, Family, JsonKeys, Mlp, ModelConfig, RotaryConfig};

/// The keys that are read here, beside those of all of Llama's kin.
pub(super) const KEYS: &[&str] = &["attention_bias", "sliding_window"];

/// Transformers' default: of so many layers the last has no window.
const PATTERN: usize = 4;
const DEFAULTS: Defaults = Defaults { norm_eps: 1e-5, theta: 500_000.0, ..Defaults::LLAMA };

pub(super) fn resolve(keys: &JsonKeys<'_>) -> Result<ModelConfig, ConfigError> {
    llama::require_silu(keys)?;
    refuse_one_theta(keys)?;
    let head_dim = DEFAULTS.head_dim(keys)?;
    let theta = DEFAULTS.rotary_keys();
    let [rotary, local] = RotaryConfig::read_by_kind(keys, head_dim, [&theta, &theta])?;
    let mlp = Mlp::Gated(Gate::Silu);
    let kin = Kin { family: Family::Olmo3, head_dim, rotary, local_rotary: Some(local), mlp };
    let mut config = llama::resolve_kin(keys, &DEFAULTS, kin)?;
    olmo2::like_olmo(keys, &mut config)?;
    let has_window = |layer: usize| !(layer + 1).is_multiple_of(PATTERN);
    config.windows = windows::by_layer(keys, config.layers, has_window)?;
    config.rotated = llama::rotated_by_window(&config.windows);
    Ok(config)
}

/// A θ beside the parameters by kind of layer stands for all layers in version 4 of Transformers, and in
/// version 5 for those without windows.
fn refuse_one_theta(keys: &JsonKeys<'_>) -> Result<(), ConfigError> {
    let theta = keys.number("rope_theta", DEFAULTS.theta)?;
    let parameters = keys.object("rope_parameters")?;
    let has_own = |kind: &str| -> Result<bool, ConfigError> {
        let Some(parameters) = &parameters else { return Ok(false) };
        Ok(parameters.object(kind)?.is_some_and(|own| own.get("rope_theta").is_some()))
    };
    if (theta - DEFAULTS.theta).abs() > 0.0
        && !(has_own("full_attention")? && has_own("sliding_attention")?)
    {
        let expected = format!(
            "{}, or a `rope_theta` for each kind of layer in `rope_parameters`: versions of \
             Transformers differ in which layers this one is for",
            DEFAULTS.theta
        );
        return Err(keys.unusable("rope_theta", &expected));
    }
    Ok(())
}
