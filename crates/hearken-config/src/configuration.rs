//! What all configurations have in common: how they are read.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::error::{Complaint, ConfigError};
use super::frozen::LoadedConfig;
use super::keys::SchemaKeys;
use super::layers::Layers;
use super::named::Named;

/// A trainer's configuration: a field for each section, each of which reads itself.
pub trait Configuration: DeserializeOwned + JsonSchema {
    /// The command that reads it.
    const COMMAND: &'static str;
    /// The commented file with every key and its default.
    const DEFAULTS: &'static str;
    /// Keys of shared sections that say nothing to this trainer.
    const WITHOUT: &'static [&'static str] = &[];

    /// Writes down keys that follow from others.
    ///
    /// # Errors
    /// Names the keys that contradict each other.
    fn prepare(_: &mut Layers) -> Result<(), Complaint> {
        Ok(())
    }

    /// Checks what several keys say together, and works out what follows from them.
    ///
    /// # Errors
    /// Names the key that is missing, or contradicts another.
    fn settle(&mut self) -> Result<(), Complaint>;

    /// The models and records that are read: whoever knows the hub puts the folders there that names of it
    /// lead to.
    fn named(&mut self) -> Vec<Named<'_>>;

    /// Reads `file` over the defaults and `overrides` over that.
    ///
    /// # Errors
    /// Names the file, the line and the key that is not usable.
    fn load(file: &Path, overrides: &[String]) -> Result<LoadedConfig<Self>, ConfigError> {
        Self::from_layers(Layers::read(Self::DEFAULTS, file, overrides)?)
    }

    /// The defaults alone, for a configuration that is made in memory; errors name `file`.
    fn defaults(file: &Path) -> Layers {
        Layers::new(Self::DEFAULTS, file)
    }

    /// Reads what was laid over the defaults.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    fn from_layers(mut layers: Layers) -> Result<LoadedConfig<Self>, ConfigError> {
        let keys = keys::<Self>();
        layers.check(&keys)?;
        Self::prepare(&mut layers).map_err(|complaint| layers.error(complaint))?;
        let (mut config, missing): (Self, _) = layers.parse(&keys)?;
        let settled = config.settle();
        let complaint = match (settled, missing) {
            (Err(complaint @ Complaint::Missing { .. }), missing) => missing.or(Some(complaint)),
            (Err(complaint), _) => Some(complaint),
            (Ok(()), missing) => missing,
        };
        if let Some(complaint) = complaint {
            return Err(layers.error(complaint));
        }
        Ok(LoadedConfig { config, frozen: layers.freeze(Self::COMMAND) })
    }

    /// The JSON schema of its files.
    fn schema() -> serde_json::Value {
        let defaults = Self::DEFAULTS.parse().expect("embedded defaults are valid TOML");
        keys::<Self>().to_json_schema(&defaults)
    }
}

/// The keys of a configuration.
fn keys<C: Configuration>() -> SchemaKeys {
    SchemaKeys::of::<C>(C::COMMAND, C::WITHOUT)
}
