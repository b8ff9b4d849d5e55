//! Which layers of Llama's kin have windows.

use crate::config::{ConfigError, Keys, says_none};

/// What Transformers assumes where config.json has no `sliding_window` key at all.
const DEFAULT_WINDOW: usize = 4096;

/// How long windows are where there are any: `None` where the key says that there are none.
pub(super) fn length(keys: &Keys<'_>) -> Result<Option<usize>, ConfigError> {
    match keys.map().contains_key("sliding_window") {
        true => keys.window("sliding_window"),
        false => Ok(Some(DEFAULT_WINDOW)),
    }
}

/// Refuses `layer_types` that has another kind.
pub(super) fn all_layers_are(keys: &Keys<'_>, kind: &str) -> Result<(), ConfigError> {
    let Some(types) = keys.get("layer_types").filter(|types| !says_none(types)) else {
        return Ok(());
    };
    let types = types.as_array().map_or(&[][..], Vec::as_slice);
    match !types.is_empty() && types.iter().all(|found| found == kind) {
        true => Ok(()),
        false => Err(keys.unusable("layer_types", &format!("{kind:?} for every layer"))),
    }
}

/// Which layers have windows by `layer_types`, if it is there.
pub(super) fn listed(keys: &Keys<'_>, layers: usize) -> Result<Option<Vec<bool>>, ConfigError> {
    let Some(types) = keys.get("layer_types").filter(|types| !says_none(types)) else {
        return Ok(None);
    };
    let expected = "one \"full_attention\" or \"sliding_attention\" for each layer";
    let unusable = || keys.unusable("layer_types", expected);
    let types = types.as_array().filter(|types| types.len() == layers).ok_or_else(unusable)?;
    let kind = |layer_type: &serde_json::Value| match layer_type.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(unusable()),
    };
    types.iter().map(kind).collect::<Result<_, _>>().map(Some)
}

/// The windows of families whose layers have them by `layer_types`, or by a rule where that is not there.
pub(super) fn by_layer(
    keys: &Keys<'_>,
    layers: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let window = length(keys)?;
    let has_window = listed(keys, layers)?.unwrap_or_else(|| (0..layers).map(rule).collect());
    if window.is_none() && has_window.contains(&true) {
        let expected = "a count of positions: layers of this model have windows";
        return Err(keys.unusable("sliding_window", expected));
    }
    Ok(has_window.into_iter().map(|has_window| window.filter(|_| has_window)).collect())
}
