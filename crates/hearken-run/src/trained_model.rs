//! The model of a run: its tokenizer, and what of it is trained.

use std::path::Path;

use hearken_config::{LoraSection, ModelSource};
use hearken_model::config::model_dir;
use hearken_model::{Adapter, LoraConfig, Model, ModelError, Tokenizer};
use hearken_tensor::Device;

use crate::error::TrainError;

/// The tokenizer of a model directory; `None` where neither it nor, if it is an adapter, its base has a
/// tokenizer.json.
///
/// # Errors
/// If its files are there but not usable.
pub fn load_tokenizer(dir: &Path) -> Result<Option<Tokenizer>, TrainError> {
    let is_there = |dir: &Path| dir.join("tokenizer.json").exists();
    if !is_there(dir) && !model_dir(dir).is_ok_and(|base| is_there(&base)) {
        return Ok(None);
    }
    Ok(Some(Tokenizer::load(dir)?))
}

/// The adapter of a model that starts without one: as `lora.init` is, where that is given.
pub(crate) fn new_adapter(lora: &LoraSection) -> Result<LoraConfig, TrainError> {
    match &lora.init {
        None => Ok(lora.fresh()),
        Some(dir) => Ok(Adapter::read(dir).map_err(ModelError::from)?.config().clone()),
    }
}

/// The tokenizer of the model that a configuration names, with the chat template that it chooses.
///
/// # Errors
/// As [`load_tokenizer`]; or the template cannot be used.
pub fn tokenizer_of(model: &ModelSource) -> Result<Option<Tokenizer>, TrainError> {
    let mut tokenizer = load_tokenizer(&model.path)?;
    if let Some(tokenizer) = &mut tokenizer {
        tokenizer.choose_template(&model.template.choice())?;
    }
    Ok(tokenizer)
}

/// Freezes the parameters that match one of `patterns`, and trains all others.
///
/// # Errors
/// If a pattern matches no parameter, or nothing is left to train.
pub fn freeze<D: Device>(model: &mut Model<D>, patterns: &[String]) -> Result<(), TrainError> {
    for pattern in patterns {
        if !model.params().iter().any(|param| matches(pattern, &param.name)) {
            let names = model.params().iter().take(3).map(|param| param.name.as_str());
            let examples = format!("{}, …", names.collect::<Vec<_>>().join(", "));
            return Err(TrainError::FreezeMatchesNothing { pattern: pattern.clone(), examples });
        }
    }
    model.set_trainable(|name| !is_frozen(name, patterns));
    let (trained, _) = model.parameter_counts();
    if trained == 0 { Err(TrainError::NothingToTrain) } else { Ok(()) }
}

/// Whether a parameter stays as it is.
pub(crate) fn is_frozen(name: &str, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| matches(pattern, name))
}

/// Whether `name` has the form of `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let ends = name.char_indices().map(|(index, _)| index).chain([name.len()]);
            ends.into_iter().any(|index| matches(rest, &name[index..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let name = "model.layers.0.mlp.up_proj.weight";
        for pattern in ["*", name, "model.layers.0.*", "*.mlp.*", "*weight", "model.*.0.*.weight"] {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["", "model", "*.bias", "layers.*", "model.layers.1.*"] {
            assert!(!matches(pattern, name), "{pattern}");
        }
    }
}
