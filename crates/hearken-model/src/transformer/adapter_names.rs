//! The tensors of an adapter's file against the parameters of a model.

use std::collections::BTreeSet;
use std::path::Path;

use hearken_tensor::Device;

use super::adapter::{Linear, factors};
use super::model::Model;
use crate::architecture::names;
use crate::checkpoint::CheckpointError;
use crate::lora::{Adapter, AdapterError, Chosen, Misfit, PREFIX};

impl<D: Device> Model<D> {
    /// Everything that is wanted is stored, in its shape, and everything that is stored is wanted.
    pub(super) fn check_names(
        &self,
        adapter: &Adapter,
        base: &Path,
        linears: &[Linear],
        chosen: &[Chosen],
    ) -> Result<(), AdapterError> {
        let tensors = adapter.tensors();
        let mut wanted = BTreeSet::new();
        let mut missing = Vec::new();
        for chosen in chosen {
            let Linear { name, params, .. } = &linears[chosen.index];
            for spec in factors(name, *params, chosen.rank) {
                match tensors.shape(&spec.name) {
                    None => missing.push(spec.name.clone()),
                    Some(found) if found == spec.shape => {}
                    Some(found) => {
                        let weight = &self.params[params.weight.0];
                        return Err(AdapterError::Shape(Box::new(Misfit {
                            path: tensors.path().to_owned(),
                            found: found.to_vec(),
                            expected: spec.shape,
                            name: spec.name,
                            weight: weight.name.clone(),
                            shape: weight.shape.clone(),
                            base: base.to_owned(),
                        })));
                    }
                }
                wanted.insert(spec.name);
            }
        }
        let is_known = |name: &str| wanted.contains(name) || self.stored_whole(name).is_some();
        let unknown: Vec<String> =
            tensors.names().filter(|name| !is_known(name)).map(str::to_owned).collect();
        if missing.is_empty() && unknown.is_empty() {
            return Ok(());
        }
        let problem = [("missing", &missing), ("unknown to the model", &unknown)]
            .into_iter()
            .filter_map(|(what, names)| {
                let more = match names.len() {
                    0 => return None,
                    1 => String::new(),
                    more => format!(" and {} more", more - 1),
                };
                Some(format!("tensor {}{more}: {what}", names[0]))
            });
        Err(AdapterError::Names {
            path: tensors.path().to_owned(),
            problem: problem.collect::<Vec<_>>().join("; "),
            base: base.to_owned(),
        })
    }

    /// The parameter that a tensor of an adapter's file replaces whole: the index, unless it is a tied
    /// head, which is the embedding.
    fn stored_whole(&self, tensor: &str) -> Option<usize> {
        let name = tensor.strip_prefix(PREFIX)?;
        let head = format!("{}.weight", names(self.config.family).head);
        // Transformers calls NeoX's head `lm_head` in memory.
        let name = if name == "lm_head.weight" { head.as_str() } else { name };
        let found = self.params.iter().position(|param| param.name == name);
        found.or_else(|| (name == head).then(|| self.plan.head.map(|head| head.0))?)
    }

    /// Replaces the parameters that the adapter's file holds whole.
    pub(super) fn read_whole(
        &mut self,
        adapter: &Adapter,
        base: &Path,
    ) -> Result<(), AdapterError> {
        let tensors = adapter.tensors();
        let whole: Vec<(String, usize)> = tensors
            .names()
            .filter_map(|name| Some((name.to_owned(), self.stored_whole(name)?)))
            .filter(|(_, index)| !self.is_adapter(*index))
            .collect();
        self.check_tied(adapter, base, &whole)?;
        for (name, index) in whole {
            let param = &self.params[index];
            let values = tensors.read(&name, &param.shape).map_err(|error| match error {
                CheckpointError::Shape { path, name, found, expected } => {
                    AdapterError::Shape(Box::new(Misfit {
                        path,
                        name,
                        found,
                        expected: expected.clone(),
                        weight: param.name.clone(),
                        shape: expected,
                        base: base.to_owned(),
                    }))
                }
                other => other.into(),
            })?;
            self.params.set_values(index, &values);
        }
        Ok(())
    }

    /// Where head and embedding are one, what replaces them is one, too.
    fn check_tied(
        &self,
        adapter: &Adapter,
        base: &Path,
        whole: &[(String, usize)],
    ) -> Result<(), AdapterError> {
        let tied = self.plan.head == Some(self.plan.embedding);
        let of_both: Vec<&(String, usize)> =
            whole.iter().filter(|(_, index)| tied && *index == self.plan.embedding.0).collect();
        let param = &self.params[self.plan.embedding.0];
        let is_one = match of_both.as_slice() {
            [] => true,
            [_] => adapter.ties_weights(),
            several => {
                let read = |(name, _): &(String, usize)| adapter.tensors().read(name, &param.shape);
                let first = read(several[0])?;
                let mut same = true;
                for other in &several[1..] {
                    same &= read(other)? == first;
                }
                same
            }
        };
        if is_one {
            return Ok(());
        }
        Err(AdapterError::Tied {
            path: adapter.tensors().path().to_owned(),
            name: of_both[0].0.clone(),
            embedding: format!("{PREFIX}{}", param.name),
            base: base.to_owned(),
        })
    }
}
