//! How the configuration of a stage is put together.

use std::path::Path;

use hearken_config::{ConfigError, Configuration, Layers, LoadedConfig, LogConfig, RunConfig};
use toml::{Table, Value};

/// A run of several stages, as the configuration of each of them sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageOfRun<'a> {
    /// The file of the run.
    pub(crate) layers: &'a Layers,
    pub(crate) run: &'a RunConfig,
    pub(crate) log: LogConfig,
    /// The seed of the stage.
    pub(crate) seed: u64,
}

impl StageOfRun<'_> {
    /// Defaults, then what follows from the run, then the user's keys, then what is the run's alone.
    pub(crate) fn configuration<C: Configuration>(
        &self,
        dir: &Path,
        inputs: Table,
        user: Table,
    ) -> Result<LoadedConfig<C>, ConfigError> {
        let mut defaults = C::defaults(self.layers.file());
        defaults.merge(inputs);
        let mut layers = self.layers.stage(C::COMMAND, defaults, user);
        layers.derive("run", "dir", text(dir));
        layers.derive("run", "seed", self.seed.cast_signed());
        if let Some(bytes) = self.run.disk_bytes_max {
            layers.derive("run", "disk_limit_gb", bytes as f64 / 1e9);
        }
        if let Some(bytes) = self.run.memory_bytes_max {
            layers.derive("run", "memory_limit_gb", bytes as f64 / 1e9);
        }
        // What a stage's own [run] cannot say.
        let of_run = self.layers.table().get("run").and_then(Value::as_table);
        for key in ["save_dtype", "shard_size_gb"] {
            if let Some(value) = of_run.and_then(|run| run.get(key)) {
                layers.derive("run", key, value.clone());
            }
        }
        for (key, of_all) in [("tensorboard", self.log.tensorboard), ("csv", self.log.csv)] {
            if of_all {
                layers.derive("log", key, true);
            }
        }
        C::from_layers(layers)
    }
}

/// A path as a value.
pub(crate) fn text(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

/// Writes a key of a section.
pub(crate) fn set(table: &mut Table, section: &str, key: &str, value: Value) {
    let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = entry {
        section.insert(key.to_owned(), value);
    }
}
