//! Names of the Hugging Face Hub in place of paths: whatever takes a model or records asks here where they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hearken_config::{Configuration, Frozen, LoadedConfig, Named, NamedKind};
use hearken_data::{HubKind, HubName, HubSnapshot};
use hearken_hub::{Hub, HubSettings, ModelPart};
use hearken_model::config::{BaseName, base_dir, named_base};
use hearken_recipes::closed_loop::LoopConfig;
use hearken_recipes::rlhf::RlhfConfig;
use hearken_run::run_dir::{Start, recorded_commits};
use toml::Value;

use crate::screen::Screen;

/// Adapters of models that are adapters themselves, at most.
const ADAPTERS_MAX: usize = 16;

/// Finds what is named, and says on a screen how far it is fetched.
pub(crate) struct HubNames<'s> {
    screen: &'s mut Screen,
    hub: Option<Hub>,
    /// What was found already.
    found: BTreeMap<(HubKind, PathBuf), PathBuf>,
    /// The commits that a run goes on with.
    commits: BTreeMap<PathBuf, String>,
}

/// The folder of a model that a command is given.
///
/// # Errors
/// If it is a name of the hub, and not to be had.
pub(crate) fn model(path: &Path, part: ModelPart) -> Result<PathBuf> {
    HubNames::new(&mut Screen::without_interrupts()).model(path, part)
}

/// The folder of an adapter that a command is given beside its model.
///
/// # Errors
/// If it is a name of the hub, and not to be had.
pub(crate) fn adapter(path: &Path) -> Result<PathBuf> {
    HubNames::new(&mut Screen::without_interrupts()).place(HubKind::Model, path, ModelPart::Whole)
}

/// The file or folder of records that a command is given.
///
/// # Errors
/// If it is a name of the hub, and not to be had.
pub(crate) fn records(path: &Path) -> Result<PathBuf> {
    let mut screen = Screen::without_interrupts();
    HubNames::new(&mut screen).place(HubKind::Dataset, path, ModelPart::Whole)
}

impl<'s> HubNames<'s> {
    pub(crate) fn new(screen: &'s mut Screen) -> Self {
        Self { screen, hub: None, found: BTreeMap::new(), commits: BTreeMap::new() }
    }

    /// Puts folders in the place of the names in a configuration; what is frozen keeps the names. A run that goes
    /// on does so with the commits that it had.
    pub(crate) fn configuration<C: Configuration>(
        &mut self,
        loaded: &mut LoadedConfig<C>,
        start: Start,
    ) -> Result<()> {
        let LoadedConfig { config, frozen } = loaded;
        let run_dir = frozen.table().get("run").and_then(|run| run.get("dir"));
        if let (Some(dir), Start::Resume) = (run_dir.and_then(Value::as_str), start) {
            self.commits = recorded_commits(Path::new(dir));
        }
        self.lead(config.named(), frozen)
    }

    /// Puts folders in the place of names, and notes in what is frozen where they lead.
    fn lead(&mut self, all: Vec<Named<'_>>, frozen: &mut Frozen) -> Result<()> {
        for named in all {
            let place = match named.kind {
                NamedKind::Model => self.model(named.path, ModelPart::Whole),
                NamedKind::Adapter => self.place(HubKind::Model, named.path, ModelPart::Whole),
                NamedKind::Records => self.place(HubKind::Dataset, named.path, ModelPart::Whole),
            };
            let place = place.with_context(|| format!("`{}`", named.key))?;
            if place != *named.path {
                frozen.lead(named.path, &place);
                *named.path = place;
            }
        }
        Ok(())
    }

    /// The same for what a loop begins with, and for its judges.
    pub(crate) fn closed_loop(
        &mut self,
        loaded: &mut LoadedConfig<LoopConfig>,
        start: Start,
    ) -> Result<()> {
        let LoadedConfig { config, frozen } = loaded;
        if let Some(judge) = &mut config.judge {
            self.configuration(judge, start)?;
        }
        self.lead(config.named(), frozen)
    }

    /// The same for all stages of a run.
    pub(crate) fn stages(
        &mut self,
        loaded: &mut LoadedConfig<RlhfConfig>,
        start: Start,
    ) -> Result<()> {
        let config = &mut loaded.config;
        // What a stage makes is no name, even before it is there.
        for made in config.made() {
            for kind in [HubKind::Model, HubKind::Dataset] {
                self.found.insert((kind, made.clone()), made.clone());
            }
        }
        if let Some(sft) = &mut config.sft {
            self.configuration(sft, start)?;
        }
        if let Some(judge) = &mut config.judge {
            self.configuration(judge, start)?;
        }
        if let Some(reward) = &mut config.reward {
            self.configuration(reward, start)?;
        }
        if let Some(ppo) = &mut config.ppo {
            self.configuration(ppo, start)?;
        }
        for path in [&mut config.base, &mut config.start] {
            *path = self.model(path, ModelPart::Whole).context("`model.path`")?;
        }
        Ok(())
    }

    /// The folder of a model; where it is an adapter, its base is fetched too if it is named and no folder.
    pub(crate) fn model(&mut self, path: &Path, part: ModelPart) -> Result<PathBuf> {
        let place = self.place(HubKind::Model, path, part)?;
        let mut at = place.clone();
        for _ in 0..ADAPTERS_MAX {
            let Ok(Some(base)) = named_base(&at) else { break };
            at = match base_dir(&at) {
                Ok(found) => found,
                Err(error) => match self.base(&base, part)? {
                    Some(found) => found,
                    None => return Err(error.into()),
                },
            };
        }
        Ok(place)
    }

    /// The base of an adapter; `None` where it can be no name of the hub.
    fn base(&mut self, base: &BaseName, part: ModelPart) -> Result<Option<PathBuf>> {
        let Some(mut name) = HubName::parse(&base.name) else { return Ok(None) };
        name.revision = name.revision.or_else(|| base.revision.clone());
        let place = self.fetch(HubKind::Model, &name, part)?;
        base.clone().lead(&place);
        Ok(Some(place))
    }

    /// Where a path is: there, unless nothing is there and it can be a name of the hub.
    fn place(&mut self, kind: HubKind, path: &Path, part: ModelPart) -> Result<PathBuf> {
        let key = (kind, path.to_owned());
        if let Some(found) = self.found.get(&key) {
            return Ok(found.clone());
        }
        let Some(mut name) = HubName::of_path(path).filter(|_| !is_there(path)) else {
            return Ok(path.to_owned());
        };
        if kind == HubKind::Model && name.part.is_some() {
            return Ok(path.to_owned());
        }
        if name.revision.is_none() {
            name.revision = self.commits.get(path).cloned();
        }
        let place = self.fetch(kind, &name, part)?;
        if let (HubKind::Model, Some(found)) = (kind, HubSnapshot::of_path(&place)) {
            // An adapter of it, made here or elsewhere, names it so.
            for revision in [None, Some(found.commit)] {
                BaseName { name: found.repository.clone(), revision }.lead(&place);
            }
        }
        self.found.insert(key, place.clone());
        Ok(place)
    }

    fn fetch(&mut self, kind: HubKind, name: &HubName, part: ModelPart) -> Result<PathBuf> {
        let hub = match self.hub.take() {
            Some(hub) => hub,
            None => Hub::new(HubSettings::read(&|name| std::env::var(name).ok())?),
        };
        let found = match kind {
            HubKind::Model => hub.model(name, part, self.screen),
            HubKind::Dataset => hub.dataset(name, self.screen),
        };
        self.hub = Some(hub);
        found.with_context(|| {
            format!("there is no {name} here, and as a name of the Hugging Face Hub")
        })
    }
}

/// Whether there is something at a path, or at the folder before its split.
fn is_there(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let folder = name.rsplit_once('#').map(|(folder, _)| Path::new(folder));
    path.symlink_metadata().is_ok() || folder.is_some_and(Path::is_dir)
}
