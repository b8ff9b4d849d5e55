//! The models and records that a configuration names.

use std::path::PathBuf;

use super::model::ModelSource;
use super::score::{ScoreConfig, SourceConfig};
use super::sections::{DataConfig, SharedSections};

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedKind {
    /// A model; an adapter stands for the model that it was made for, too.
    Model,
    /// An adapter, whose model is named elsewhere.
    Adapter,
    /// Records.
    Records,
}

/// A key that names a model or records: a path, or a name of the hub.
#[derive(Debug)]
pub struct Named<'a> {
    /// The key.
    pub key: String,
    /// What it names.
    pub kind: NamedKind,
    /// What it says.
    pub path: &'a mut PathBuf,
}

impl<'a> Named<'a> {
    /// A key that names a model.
    pub fn model(key: impl Into<String>, path: &'a mut PathBuf) -> Self {
        Self { key: key.into(), kind: NamedKind::Model, path }
    }

    /// A key that names an adapter.
    pub fn adapter(key: impl Into<String>, path: &'a mut PathBuf) -> Self {
        Self { key: key.into(), kind: NamedKind::Adapter, path }
    }

    /// A key that names records.
    pub fn records(key: impl Into<String>, path: &'a mut PathBuf) -> Self {
        Self { key: key.into(), kind: NamedKind::Records, path }
    }
}

impl ModelSource {
    /// What `[model]` and `[lora]` name.
    pub fn named(&mut self) -> impl Iterator<Item = Named<'_>> {
        let init = self.lora.as_mut().and_then(|lora| lora.init.as_mut());
        std::iter::once(Named::model("model.path", &mut self.path))
            .chain(self.adapter.as_mut().map(|path| Named::adapter("model.adapter", path)))
            .chain(init.map(|path| Named::adapter("lora.init", path)))
    }
}

impl DataConfig {
    /// What `[data]` names.
    pub fn named(&mut self) -> impl Iterator<Item = Named<'_>> {
        let mixed = self.mix.iter_mut().enumerate().flat_map(|(index, source)| {
            let key = format!("data.mix[{index}].path");
            source.path.iter_mut().map(move |path| Named::records(key.clone(), path))
        });
        let train = self.train.iter_mut().map(|path| Named::records("data.train", path));
        let eval = self.eval.iter_mut().map(|path| Named::records("data.eval", path));
        train.chain(mixed).chain(eval)
    }
}

impl SharedSections {
    /// The model that training starts from, and the records.
    pub fn named(&mut self) -> impl Iterator<Item = Named<'_>> {
        self.model.named().chain(self.data.named())
    }
}

impl ScoreConfig {
    /// What every `[[score]]` names.
    pub fn named(scores: &mut [Self]) -> impl Iterator<Item = Named<'_>> {
        scores.iter_mut().enumerate().flat_map(|(index, score)| {
            let key = |name: &str| format!("score[{index}].{name}");
            match &mut score.source {
                SourceConfig::Model { path, .. } | SourceConfig::Process { path, .. } => {
                    vec![Named::model(key("path"), path)]
                }
                SourceConfig::Ensemble { paths, .. } => {
                    let one = |(at, path)| Named::model(key(&format!("paths[{at}]")), path);
                    paths.iter_mut().enumerate().map(one).collect()
                }
                SourceConfig::Distance { path, baseline, .. } => {
                    vec![Named::model(key("path"), path), Named::records(key("baseline"), baseline)]
                }
                _ => Vec::new(),
            }
        })
    }
}
