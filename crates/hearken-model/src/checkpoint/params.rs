//! From the names in the files to the parameters of a model.

use std::collections::BTreeSet;

use super::{CheckpointError, MissingTensor, TensorFiles};
use crate::params::ParamSpec;

/// What may differ between the names in the files and those of the model.
#[derive(Clone, Copy, Debug)]
pub struct NameRules<'a> {
    /// The base model's prefix, with its dot: `"model."`, `"transformer."`, `"gpt_neox."`. A
    /// checkpoint of the bare base model lacks it. Empty: there is none.
    pub prefix: &'a str,
    /// (head, embedding), both by their full names, where the head is tied to the embedding. The head
    /// need not be stored; if it is, it must equal the embedding bit for bit.
    pub tied_head: Option<(&'a str, &'a str)>,
    /// Parameters that may be missing.
    pub optional: &'a [&'a str],
    /// Tensors that are skipped if they are stored.
    pub ignored: &'a [&'a str],
}

/// Constants that some versions of Transformers stored beside the parameters.
///
/// Each pattern is a whole path segment and what follows it, so that no parameter matches:
/// `self_attn.bias` is not `attn.bias`.
const BUFFERS: [&str; 5] = [
    "attn.bias",
    "attn.masked_bias",
    "rotary_emb.inv_freq",
    "attention.bias",
    "attention.masked_bias",
];

/// Checks that the parameters `wanted` can be read, and reads one after the other, in that order, as
/// the iterator is asked for them.
///
/// An entry is `None` only for a name in [`NameRules::optional`]. A checkpoint that stores a tied
/// matrix under the head's name alone is read from there.
///
/// # Errors
///
/// A parameter is missing or stored twice; a stored tensor belongs to nothing (known buffers aside).
/// Of an entry: it is misshapen or damaged; a stored tied head differs from the embedding.
pub fn read_params<'a>(
    files: &'a TensorFiles,
    wanted: &'a [ParamSpec],
    rules: &'a NameRules<'a>,
) -> Result<impl Iterator<Item = Result<Option<Vec<f32>>, CheckpointError>>, CheckpointError> {
    let stored = stored_names(files, wanted, rules)?;
    check_names(files, wanted, &stored, rules)?;
    Ok(wanted.iter().zip(stored).map(move |(spec, name)| {
        let Some(name) = name else { return Ok(None) };
        let values = files.read(&name, &spec.shape)?;
        check_tied_head(files, spec, &name, &values, rules)?;
        Ok(Some(values))
    }))
}

/// The name under which each wanted parameter is stored.
fn stored_names(
    files: &TensorFiles,
    wanted: &[ParamSpec],
    rules: &NameRules<'_>,
) -> Result<Vec<Option<String>>, CheckpointError> {
    let mut stored = Vec::with_capacity(wanted.len());
    for spec in wanted {
        let full = spec.name.as_str();
        let short =
            full.strip_prefix(rules.prefix).filter(|short| *short != full && files.contains(short));
        let name = match (files.contains(full), short) {
            (true, None) => Some(full),
            (false, Some(short)) => Some(short),
            (true, Some(short)) => {
                return Err(CheckpointError::TwoNames {
                    path: files.path().into(),
                    full: full.into(),
                    short: short.into(),
                });
            }
            (false, None) => {
                rules.tied_head.filter(|tied| tied.1 == full && files.contains(tied.0)).map(|t| t.0)
            }
        };
        stored.push(name.map(str::to_owned));
    }
    Ok(stored)
}

/// Everything wanted is stored, and everything stored is accounted for.
fn check_names(
    files: &TensorFiles,
    wanted: &[ParamSpec],
    stored: &[Option<String>],
    rules: &NameRules<'_>,
) -> Result<(), CheckpointError> {
    let claimed: BTreeSet<&str> = stored.iter().flatten().map(String::as_str).collect();
    let unknown: Vec<String> = files
        .names()
        .filter(|name| {
            !claimed.contains(name)
                && !is_buffer(name)
                && !rules.ignored.contains(name)
                && rules.tied_head.is_none_or(|(head, _)| head != *name)
        })
        .map(str::to_owned)
        .collect();
    let missing: Vec<MissingTensor> = wanted
        .iter()
        .zip(stored)
        .filter(|(spec, name)| name.is_none() && !rules.optional.contains(&spec.name.as_str()))
        .map(|(spec, _)| MissingTensor {
            name: spec.name.clone(),
            closest: unknown
                .iter()
                .min_by_key(|name| strsim::levenshtein(name, &spec.name))
                .cloned(),
        })
        .collect();
    if missing.is_empty() && unknown.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::Names { path: files.path().into(), missing, unknown })
}

fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|buffer| {
        name.strip_suffix(buffer).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

/// `spec` was read as `values` under `name`: if it is an embedding with a stored head, they agree.
fn check_tied_head(
    files: &TensorFiles,
    spec: &ParamSpec,
    name: &str,
    values: &[f32],
    rules: &NameRules<'_>,
) -> Result<(), CheckpointError> {
    let Some((head, embedding)) = rules.tied_head else { return Ok(()) };
    if spec.name != embedding || name == head || !files.contains(head) {
        return Ok(());
    }
    let head_values = files.read(head, &spec.shape)?;
    match head_values.iter().zip(values).position(|(a, b)| a.to_bits() != b.to_bits()) {
        None => Ok(()),
        Some(element) => Err(CheckpointError::TiedHead {
            path: files.path().into(),
            head: head.into(),
            embedding: name.into(),
            element,
            head_value: head_values[element],
            embedding_value: values[element],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_whole_segments() {
        for name in ["h.0.attn.bias", "gpt_neox.layers.1.attention.masked_bias", "attn.bias"] {
            assert!(is_buffer(name), "{name}");
        }
        for name in [
            "model.layers.0.self_attn.bias",
            "h.0.attn.c_attn.bias",
            "gpt_neox.layers.0.attention.dense.bias",
        ] {
            assert!(!is_buffer(name), "{name}");
        }
    }
}
