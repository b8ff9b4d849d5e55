//! How fast this machine trains on records.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use hearken_config::{Configuration, LoadedConfig};
use hearken_data::RecordKind;
use hearken_recipes::check::{self, Check, CheckMethod, Machine};
use hearken_run::run_dir::Start;
use hearken_train::reward::RewardConfig;
use hearken_train::sft::SftConfig;
use toml::{Table, Value};

use crate::device;

/// Records that are read, and of these an optimizer step's.
const RECORDS: u32 = 64;
const BATCH: u32 = 8;

/// Tokens a second in training all weights of a model on records: fine-tuning on demonstrations, a reward model on
/// preferences, one step of which is looked at as `hearken check` does; `None` of other records. `lengths` are
/// those of the examples, from the first on.
///
/// # Errors
/// If the model or the records cannot be read.
pub(super) fn tokens_per_s(
    path: &Path,
    kind: RecordKind,
    model: &Path,
    columns: &BTreeMap<String, String>,
    lengths: &[usize],
) -> Result<Option<f64>> {
    let scratch = tempfile::tempdir().context("a scratch folder")?;
    let of_run = Table::from_iter([("dir".to_owned(), text(&scratch.path().join("run")))]);
    let of_model = Table::from_iter([("path".to_owned(), text(model))]);
    let named = columns.iter().map(|(name, own)| (name.clone(), own.as_str().into()));
    let of_data = Table::from_iter([
        ("train".to_owned(), text(path)),
        ("limit".to_owned(), RECORDS.into()),
        ("on_bad_record".to_owned(), "skip".into()),
        ("truncation".to_owned(), "right".into()),
        ("columns".to_owned(), Value::Table(named.collect())),
    ]);
    let of_train = Table::from_iter([
        ("steps".to_owned(), Value::Integer(1)),
        ("batch_size".to_owned(), BATCH.into()),
    ]);
    let sections = [("run", of_run), ("model", of_model), ("data", of_data), ("train", of_train)];
    let settings: Table =
        sections.into_iter().map(|(name, table)| (name.to_owned(), Value::Table(table))).collect();
    let machine = Machine { memory_bytes: None, disk_bytes: None };
    let device = &device::open();
    let found: Check = match kind {
        RecordKind::Demonstrations => {
            check::sft(device, &loaded::<SftConfig>(settings)?, Start::Fresh, machine)?
        }
        RecordKind::Preferences => {
            check::reward(device, &loaded::<RewardConfig>(settings)?, Start::Fresh, machine)?
        }
        _ => return Ok(None),
    };
    let CheckMethod::Steps { time: Some(time), .. } = found.work else { return Ok(None) };
    let read = &lengths[..lengths.len().min(RECORDS as usize)];
    let mean = read.iter().sum::<usize>() as f64 / read.len().max(1) as f64;
    Ok(Some(mean * (BATCH as usize).min(read.len()) as f64 / time.seconds))
}

fn loaded<C: Configuration>(settings: Table) -> Result<LoadedConfig<C>> {
    let mut layers = C::defaults(Path::new("--speed"));
    layers.merge(settings);
    Ok(C::from_layers(layers)?)
}

fn text(path: &Path) -> Value {
    Value::String(path.display().to_string())
}
