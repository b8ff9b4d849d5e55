//! What a run reads: where it lies, what was in it, and whether it may become something else while the run
//! goes on.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hearken_config::Frozen;
use hearken_data::{HubSnapshot, hexadecimal, record_files};
use hearken_model::config::{ADAPTER_CONFIG, base_dir};
use hearken_store::{Everything, everything, is_database, open_existing};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

/// A file or folder that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    /// The key that names it.
    pub(crate) key: String,
    /// What it says.
    pub(crate) path: PathBuf,
    /// Where that is.
    pub(crate) place: PathBuf,
    pub(crate) reading: InputUse,
}

/// What of an input is read, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputUse {
    /// Records, in every session.
    Records,
    /// Weights and tokenizer of a model, in every session.
    Model,
    /// Its weights, before the first step only: afterwards the checkpoint has its own.
    StartingWeights,
    /// Its tokenizer, in every session.
    Tokenizer,
    /// A chat template, in every session.
    Template,
}

/// What an input was when a checkpoint was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(super) key: String,
    pub(super) path: PathBuf,
    /// Of a name of the hub, the commit that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<String>,
    /// What of it: records, a model, its weights or its tokenizer.
    pub(super) part: String,
    pub(super) sha256: String,
}

/// The inputs that a run's resolved configuration names.
pub(crate) fn inputs(config: &Frozen) -> Vec<Input> {
    let mut found = inputs_of(config.table());
    for input in &mut found {
        input.place = config.place_of(&input.path).to_owned();
    }
    found
}

fn inputs_of(config: &Table) -> Vec<Input> {
    let mut found = Vec::new();
    let mut add = |key: String, value: Option<&Value>, reading: InputUse| {
        let paths = match value {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one.as_str()],
            _ => Vec::new(),
        };
        let input = |path: &str| Input::new(key.clone(), path.into(), reading);
        found.extend(paths.into_iter().map(input));
    };
    let get = |section: &str, key: &str| config.get(section)?.as_table()?.get(key);
    for (section, key) in [
        ("data", "train"),
        ("data", "eval"),
        ("rollout", "replay"),
        ("reward", "normalize_on"),
        ("imitation", "demonstrations"),
    ] {
        add(format!("{section}.{key}"), get(section, key), InputUse::Records);
    }
    let mix = get("data", "mix").and_then(Value::as_array).into_iter().flatten();
    for (index, source) in mix.enumerate() {
        add(format!("data.mix[{index}].path"), source.get("path"), InputUse::Records);
    }
    let start =
        if reads_start_throughout(config) { InputUse::Model } else { InputUse::StartingWeights };
    add("model.path".to_owned(), get("model", "path"), start);
    if start == InputUse::StartingWeights {
        add("model.path".to_owned(), get("model", "path"), InputUse::Tokenizer);
    }
    add("model.adapter".to_owned(), get("model", "adapter"), start);
    // Of an adapter that training starts from, the reference is made in every session.
    add("lora.init".to_owned(), get("lora", "init"), InputUse::Model);
    add("template.file".to_owned(), get("template", "file"), InputUse::Template);
    let moves = moves(config);
    let reference = if moves { InputUse::StartingWeights } else { InputUse::Model };
    add("dpo.reference".to_owned(), get("dpo", "reference"), reference);
    add("teacher.path".to_owned(), get("teacher", "path"), InputUse::Model);
    let critic = get("ppo", "critic").filter(|critic| critic.as_str() != Some("value_head"));
    add("ppo.critic".to_owned(), critic, InputUse::StartingWeights);
    // Of control tasks: the policy that is asked, and a reward that was learned.
    for (section, key) in [("imitation", "expert"), ("environment", "reward")] {
        add(format!("{section}.{key}"), get(section, key), InputUse::Model);
    }
    let scores = config.get("score").and_then(Value::as_array).into_iter().flatten();
    for (index, score) in scores.enumerate() {
        add(format!("score[{index}].path"), score.get("path"), InputUse::Model);
    }
    found
}

/// Whether the reference of `[dpo]` follows the policy, so that checkpoints have it.
fn moves(config: &Table) -> bool {
    let steps = |dpo: &Value| dpo.get("reference_sync_steps")?.as_integer();
    let online = |dpo: &Value| dpo.get("online")?.as_str().map(|method| method == "spin");
    let dpo = config.get("dpo");
    dpo.and_then(steps).is_some_and(|steps| 0 < steps) || dpo.and_then(online).unwrap_or(false)
}

/// Whether the model that training starts from is read in every session: it is the reference too, or the base of
/// an adapter.
fn reads_start_throughout(config: &Table) -> bool {
    let lora = config.get("lora").and_then(Value::as_table);
    let has_adapter = lora.is_some_and(|lora| !lora.is_empty());
    if has_adapter || config.contains_key("ppo") || config.contains_key("grpo") {
        return true;
    }
    let dpo = config.get("dpo").and_then(Value::as_table);
    dpo.is_some_and(|dpo| !dpo.contains_key("reference")) && !moves(config)
}

impl Input {
    /// What lies where the key says.
    pub(crate) fn new(key: String, path: PathBuf, reading: InputUse) -> Self {
        Self { key, place: path.clone(), path, reading }
    }

    /// The digest of what is read of it.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub(crate) fn fingerprint(&self) -> io::Result<Fingerprint> {
        let (mut hash, place) = (Sha256::new(), &self.place);
        match self.reading {
            InputUse::Records => hash_records(place, &mut hash)?,
            InputUse::Template => hash_path(place, &mut hash)?,
            InputUse::Model => hash_files(place, &mut hash, &|_| true)?,
            InputUse::StartingWeights => hash_files(place, &mut hash, &is_weights)?,
            InputUse::Tokenizer => {
                hash_files(place, &mut hash, &|name| TOKENIZER_FILES.contains(&name))?;
            }
        }
        let part = self.reading.name().to_owned();
        let sha256 = hexadecimal(&hash.finalize());
        let commit = HubSnapshot::of_path(place).map(|found| found.commit);
        Ok(Fingerprint { key: self.key.clone(), path: self.path.clone(), commit, part, sha256 })
    }
}

impl InputUse {
    fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Model => "model",
            Self::StartingWeights => "weights",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
        }
    }
}

/// What has become of the inputs of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputChanges {
    /// The first change that makes the run another one, in words.
    pub(crate) refused: Option<String>,
    /// Changes that the run does not feel, in words.
    pub(crate) noted: Vec<String>,
}

/// Sets inputs beside what they were at a checkpoint; one that it says nothing of counts as the same.
pub(crate) fn changes(before: &[Fingerprint], now: &[Fingerprint]) -> InputChanges {
    let mut changes = InputChanges::default();
    for now in now {
        let same = |old: &&Fingerprint| {
            (&old.key, &old.path, &old.part) == (&now.key, &now.path, &now.part)
        };
        let Some(_) = before.iter().find(same).filter(|old| old.sha256 != now.sha256) else {
            continue;
        };
        let (key, path) = (&now.key, now.path.display());
        if now.part == InputUse::StartingWeights.name() {
            changes.noted.push(format!(
                "`{key}`: {path} holds another model than when the run began; the run goes on with the \
                 weights of its checkpoint"
            ));
        } else if changes.refused.is_none() {
            let what = match now.part.as_str() {
                "records" => "other data",
                "tokenizer" => "another tokenizer",
                "template" => "another template",
                _ => "another model",
            };
            changes.refused = Some(format!("`{key}`: {path} holds {what}"));
        }
    }
    changes
}

/// The folder of the templates of a model beside its first.
const TEMPLATES: &str = "additional_chat_templates";
/// What says what tokens are, how messages become text, and what ends it.
const TOKENIZER_FILES: [&str; 9] = [
    TEMPLATES,
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

fn is_weights(name: &str) -> bool {
    ["config.json", ADAPTER_CONFIG].contains(&name)
        || Path::new(name).extension().is_some_and(|extension| extension == "safetensors")
        || name.ends_with(".safetensors.index.json")
}

/// The files directly in a model's folder that make it what it is, of those that are `wanted`.
fn hash_files(dir: &Path, hash: &mut Sha256, wanted: &dyn Fn(&str) -> bool) -> io::Result<()> {
    if !dir.is_dir() {
        return hash_path(dir, hash);
    }
    for path in files(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_part = matches!(extension, Some("safetensors" | "json" | "jinja" | "txt"));
        if is_part && wanted(&name) {
            hash_path(&path, hash)?;
        }
    }
    let templates = dir.join(TEMPLATES);
    if wanted(TEMPLATES) && templates.is_dir() {
        hash_path(&templates, hash)?;
    }
    // An adapter's model lies elsewhere; where it is not, loading it says so.
    match base_dir(dir) {
        Ok(base) if base != dir => hash_files(&base, hash, wanted),
        _ => Ok(()),
    }
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<PathBuf>> =
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files: Vec<PathBuf> = entries?.into_iter().filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

/// What a store or the files of a path hold.
fn hash_records(path: &Path, hash: &mut Sha256) -> io::Result<()> {
    if let Some(name) = path.to_str().filter(|name| is_database(name)) {
        return hash_store(name, hash);
    }
    let files = record_files(path).map_err(io::Error::other)?;
    files.iter().try_for_each(|file| hash_path(file, hash))
}

/// What a database holds: its file may change where nothing does that is read of it, and a server has none.
fn hash_store(name: &str, hash: &mut Sha256) -> io::Result<()> {
    let all = open_existing(name).and_then(|store| everything(&*store));
    let Everything { items, judgements, .. } = all.map_err(io::Error::other)?;
    for item in &items {
        hash.update(serde_json::to_vec(item)?);
    }
    for judgement in &judgements {
        hash.update(serde_json::to_vec(judgement)?);
    }
    Ok(())
}

/// The content of a file, or of the files directly in a folder, with their names; what is missing counts as
/// such.
///
/// # Errors
/// If a file cannot be read.
pub fn hash_path(path: &Path, hash: &mut Sha256) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name.as_bytes());
    if path.is_dir() {
        return files(path)?.iter().try_for_each(|file| hash_path(file, hash));
    }
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            hash.update(b"missing");
            return Ok(());
        }
        opened => opened?,
    };
    hash.update(file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            bytes => hash.update(&buffer[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(config: &str) -> Vec<(String, InputUse)> {
        let table: Table = config.parse().unwrap();
        inputs_of(&table).into_iter().map(|input| (input.key, input.reading)).collect()
    }

    #[test]
    fn every_trainer_reads_what_it_reads() {
        let of = |key: &str, reading| (key.to_owned(), reading);
        let data = "[model]\npath = \"m\"\n[data]\ntrain = [\"a\", \"b\"]\neval = \"c\"\n";
        let records =
            ["data.train", "data.train", "data.eval"].map(|key| of(key, InputUse::Records));
        let start =
            [of("model.path", InputUse::StartingWeights), of("model.path", InputUse::Tokenizer)];
        let sft = [&records[..], &start[..]].concat();
        assert_eq!(read_of(data), sft);
        let mixed = "[model]\npath = \"m\"\n[[data.mix]]\npath = \"a\"\n[[data.mix]]\npath = [\"b\", \"c\"]\n";
        let records = ["data.mix[0].path", "data.mix[1].path", "data.mix[1].path"]
            .map(|key| of(key, InputUse::Records));
        assert_eq!(read_of(mixed), [&records[..], &start[..]].concat());
        let records =
            ["data.train", "data.train", "data.eval"].map(|key| of(key, InputUse::Records));
        let model = of("model.path", InputUse::Model);
        let scores = "[[score]]\nkind = \"regex\"\n[[score]]\nkind = \"model\"\npath = \"r\"\n";
        for section in ["grpo", "ppo"] {
            let found = read_of(&format!("{data}[{section}]\n{scores}"));
            let expected =
                [&records[..], &[model.clone(), of("score[1].path", InputUse::Model)]].concat();
            assert_eq!(found, expected);
        }
        let critic = read_of(&format!("{data}[ppo]\ncritic = \"k\"\n"));
        assert_eq!(critic.last(), Some(&of("ppo.critic", InputUse::StartingWeights)));
        assert_eq!(read_of(&format!("{data}[ppo]\ncritic = \"value_head\"\n")).len(), 4);
        let dpo = read_of(&format!("{data}[dpo]\n"));
        assert_eq!(dpo, [&records[..], &[model]].concat());
        let dpo = read_of(&format!("{data}[dpo]\nreference = \"r\"\n"));
        assert_eq!(dpo, [&sft[..], &[of("dpo.reference", InputUse::Model)]].concat());
        let distill = read_of(&format!("{data}[teacher]\npath = \"t\"\n[distill]\n"));
        assert_eq!(distill, [&sft[..], &[of("teacher.path", InputUse::Model)]].concat());
        let moving = read_of(&format!("{data}[dpo]\nreference_sync_steps = 3\n"));
        assert_eq!(moving, sft);
    }

    #[test]
    fn other_records_are_refused_and_another_start_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let of = |name: &str, reading| {
            let input = Input::new(name.to_owned(), root.join(name), reading);
            input.fingerprint().unwrap()
        };
        let all = || {
            [
                of("data", InputUse::Records),
                of("model", InputUse::StartingWeights),
                of("model", InputUse::Tokenizer),
            ]
        };
        fs::create_dir(root.join("model")).unwrap();
        fs::write(root.join("data"), "1").unwrap();
        fs::write(root.join("model/model.safetensors"), "1").unwrap();
        let before = all();
        fs::write(root.join("model/README.md"), "about it").unwrap();
        assert_eq!(changes(&before, &all()), InputChanges::default());
        assert_eq!(changes(&[], &all()), InputChanges::default());
        fs::write(root.join("model/model.safetensors"), "2").unwrap();
        let found = changes(&before, &all());
        assert!(found.refused.is_none() && found.noted[0].contains("another model"), "{found:?}");
        fs::write(root.join("model/tokenizer.json"), "{}").unwrap();
        assert!(changes(&before, &all()).refused.unwrap().contains("another tokenizer"));
        fs::write(root.join("data"), "2").unwrap();
        assert!(changes(&before, &all()).refused.unwrap().contains("other data"));
    }

    #[test]
    fn a_further_template_of_a_model_is_a_part_of_its_tokenizer_and_of_no_weights() {
        let folder = tempfile::tempdir().unwrap();
        let of = |reading| {
            let input = Input::new("model.path".to_owned(), folder.path().to_owned(), reading);
            input.fingerprint().unwrap().sha256
        };
        let kinds = [InputUse::Tokenizer, InputUse::Model, InputUse::StartingWeights];
        fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        let without = kinds.map(of);
        fs::create_dir(folder.path().join(TEMPLATES)).unwrap();
        fs::write(folder.path().join(TEMPLATES).join("tool_use.jinja"), "a").unwrap();
        let first = kinds.map(of);
        fs::write(folder.path().join(TEMPLATES).join("tool_use.jinja"), "b").unwrap();
        let second = kinds.map(of);
        let differ = |a: &[String; 3], b: &[String; 3]| [0, 1, 2].map(|index| a[index] != b[index]);
        assert_eq!(differ(&without, &first), [true, true, false]);
        assert_eq!(differ(&first, &second), [true, true, false]);
    }
}
