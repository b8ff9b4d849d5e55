//! Which layers of Llama's kin have windows.

use crate::config::{ConfigError, JsonKeys, says_none};

/// What Transformers assumes of most families where config.json has no `sliding_window` key at all.
pub(super) const DEFAULT: usize = 4096;

/// How long windows are where there are any, `default` without a key: `None` where the key says that there
/// are none.
pub(super) fn length(
    keys: &JsonKeys<'_>,
    default: Option<usize>,
) -> Result<Option<usize>, ConfigError> {
    match keys.map().contains_key("sliding_window") {
        true => keys.window("sliding_window"),
        false => Ok(default),
    }
}

/// Refuses `layer_types` that has another kind.
pub(super) fn all_layers_are(keys: &JsonKeys<'_>, kind: &str) -> Result<(), ConfigError> {
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
pub(super) fn listed(keys: &JsonKeys<'_>, layers: usize) -> Result<Option<Vec<bool>>, ConfigError> {
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
    keys: &JsonKeys<'_>,
    layers: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let window = length(keys, Some(DEFAULT))?;
    let has_window = listed(keys, layers)?.unwrap_or_else(|| (0..layers).map(rule).collect());
    if window.is_none() && has_window.contains(&true) {
        let expected = "a count of positions: layers of this model have windows";
        return Err(keys.unusable("sliding_window", expected));
    }
    Ok(has_window.into_iter().map(|has_window| window.filter(|_| has_window)).collect())
}

/// The windows of families that have some where `use_sliding_window` says so: by `layer_types`, or by a rule
/// where that is not there.
pub(super) fn where_on(
    keys: &JsonKeys<'_>,
    layers: usize,
    default: Option<usize>,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let window = match keys.flag("use_sliding_window", false)? {
        true => length(keys, default)?,
        false => None,
    };
    let listed = listed(keys, layers)?;
    if window.is_none() && listed.as_ref().is_some_and(|listed| listed.contains(&true)) {
        let expected =
            "\"full_attention\" for every layer, or `use_sliding_window` and a `sliding_window`";
        return Err(keys.unusable("layer_types", expected));
    }
    let has_window = listed.unwrap_or_else(|| (0..layers).map(rule).collect());
    Ok(has_window.into_iter().map(|has_window| window.filter(|_| has_window)).collect())
}
