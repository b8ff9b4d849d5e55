//! Models from files, when the service starts and when new weights come.

use std::path::Path;

use anyhow::Context as _;
use hearken_hub::ModelPart;
use hearken_model::Head;
use hearken_model::chat::BUILT_IN_FORMAT;
use hearken_model::config::base_dir;
use hearken_serve::parts::{LoadedAdapter, LoadedModel, Loader, WeightsPlace};

use crate::commands::model_arguments::ReadingArguments;
use crate::{hub, output};

/// Reads models as the command line says.
pub(super) struct LocalLoader {
    reading: ReadingArguments,
}

impl LocalLoader {
    pub(super) fn new(reading: ReadingArguments) -> Self {
        Self { reading }
    }

    fn read_adapter(&self, place: &WeightsPlace) -> anyhow::Result<Option<LoadedAdapter>> {
        let Some(adapter) = &place.adapter else { return Ok(None) };
        let base = hub::model(&place.model, ModelPart::Whole)?;
        let (adapter, tokenizer) = self.reading.load_adapter(&base, &hub::adapter(adapter)?)?;
        let tokenizer = tokenizer.with_context(|| no_tokenizer(&base))?;
        Ok(Some(LoadedAdapter { adapter, tokenizer, base }))
    }

    fn read(&self, place: &WeightsPlace) -> anyhow::Result<LoadedModel> {
        let dir = hub::model(&place.model, ModelPart::Whole)?;
        let adapter = place.adapter.as_deref().map(hub::adapter).transpose()?;
        let (model, tokenizer) =
            self.reading.load(&dir, adapter.as_deref(), Head::LanguageModel)?;
        let tokenizer = tokenizer.with_context(|| no_tokenizer(&dir))?;
        if tokenizer.chat_templates().is_none() {
            output::say(&format!("{}: {BUILT_IN_FORMAT}", place.model.display()));
        }
        // A model that is an adapter itself is its base's files, too.
        let base = base_dir(&dir).ok().filter(|base| *base != dir);
        let directories = [Some(dir), base, adapter].into_iter().flatten().collect();
        Ok(LoadedModel { model, tokenizer, directories })
    }
}

fn no_tokenizer(dir: &Path) -> String {
    format!("{}: has no tokenizer.json", dir.display())
}

impl Loader for LocalLoader {
    fn load(&self, place: &WeightsPlace) -> Result<LoadedModel, String> {
        self.read(place).map_err(|error| format!("{error:#}"))
    }

    fn load_adapter(&self, place: &WeightsPlace) -> Result<Option<LoadedAdapter>, String> {
        self.read_adapter(place).map_err(|error| format!("{error:#}"))
    }
}
