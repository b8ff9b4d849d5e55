//! What is fetched of a model or data set.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hearken_data::{HubKind, HubName, is_commit, listed_files, record_files};
use serde_json::Value;

use crate::Watcher;
use crate::cache::{Repository, stays_inside};
use crate::client::{Client, HubSubject};
use crate::download::Download;
use crate::error::HubError;
use crate::settings::HubSettings;

/// Weights in one file, the file that says which shards they are in, and those of an adapter.
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// Further weights that a model of this program has beside its own.
const HEADS: [&str; 3] =
    ["value_head.safetensors", "particles.safetensors", "score_normalization.json"];
const CONFIGS: [&str; 2] = ["config.json", "adapter_config.json"];
/// What a tokenizer is made of, and what texts become before it.
const TOKENIZER: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.json",
    "chat_template.jinja",
];
const TEMPLATES: &str = "additional_chat_templates/";
const README: &str = "README.md";

/// What of a model is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelPart {
    /// All that computing with it takes: weights, configuration, tokenizer and templates.
    Whole,
    /// All but the weights.
    Tokenizer,
}

/// The hub, and its cache.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    client: Client,
}

/// One model or data set that is asked for.
struct RepositoryRequest<'a> {
    hub: &'a Hub,
    kind: HubKind,
    name: &'a HubName,
    what: String,
    repository: Repository,
}

/// What the hub says of it.
struct Listing {
    commit: String,
    files: Vec<String>,
}

impl Hub {
    /// Nothing is asked yet.
    pub fn new(settings: HubSettings) -> Self {
        Self { client: Client::new(settings.clone()), settings }
    }

    /// The folder of a model, or of an adapter, with what is needed of it.
    ///
    /// # Errors
    /// If there is none, the hub cannot be reached and the cache does not have it, what comes is damaged, or it has
    /// no weights that are read here.
    pub fn model(
        &self,
        name: &HubName,
        part: ModelPart,
        watcher: &mut dyn Watcher,
    ) -> Result<PathBuf, HubError> {
        let request = self.request(HubKind::Model, name);
        let Some(listing) = request.listing(watcher)? else {
            return request.cached_model(part);
        };
        let mut wanted = papers(&listing);
        if part == ModelPart::Whole {
            wanted.extend(request.weights(&listing, watcher)?);
        }
        request.fetch(&listing, &wanted, watcher)?;
        request.settle(&listing)
    }

    /// The folder of a data set with the files of one split, and the split behind it, as a path of records.
    ///
    /// # Errors
    /// If there is none, the hub cannot be reached and the cache does not have it, what comes is damaged, or it has
    /// no such split.
    pub fn dataset(&self, name: &HubName, watcher: &mut dyn Watcher) -> Result<PathBuf, HubError> {
        let request = self.request(HubKind::Dataset, name);
        let Some(listing) = request.listing(watcher)? else { return request.cached_dataset() };
        let has_readme = listing.files.iter().any(|file| file == README);
        if has_readme {
            request.fetch(&listing, &BTreeSet::from([README.to_owned()]), watcher)?;
        }
        let folder = request.repository.snapshot(&listing.commit);
        let readme = has_readme.then(|| fs::read_to_string(folder.join(README)));
        let readme = readme.transpose().map_err(HubError::io(folder.join(README), "read"))?;
        let part = name.part.as_deref();
        let found = listed_files(&request.what, &listing.files, readme.as_deref(), part);
        let wanted =
            found.map_err(|reason| request.unusable(&format!("{reason}{}", hint(&listing))))?;
        request.fetch(&listing, &wanted.into_iter().collect(), watcher)?;
        Ok(with_part(request.settle(&listing)?, part))
    }

    fn request<'a>(&'a self, kind: HubKind, name: &'a HubName) -> RepositoryRequest<'a> {
        let repository = Repository::new(&self.settings.cache, kind, &name.repository);
        RepositoryRequest { hub: self, kind, name, what: name.to_string(), repository }
    }
}

impl RepositoryRequest<'_> {
    fn asked(&self) -> HubSubject<'_> {
        HubSubject { what: &self.what, noun: self.kind.noun(), revision: self.name.revision() }
    }

    /// What there is at the revision; `None` where the hub is not asked, or gives no answer and the cache has
    /// something.
    fn listing(&self, watcher: &mut dyn Watcher) -> Result<Option<Listing>, HubError> {
        let settings = &self.hub.settings;
        if settings.offline {
            return Ok(None);
        }
        let (kind, revision) = (self.kind.plural(), self.name.revision());
        let url = format!(
            "{}/api/{kind}/{}/revision/{}",
            settings.endpoint,
            self.name.repository,
            escaped(revision, "")
        );
        let answer = match self.hub.client.json(&url, &self.asked()) {
            Ok(answer) => answer,
            Err(error) if error.is_unreachable() && self.cached().is_some() => {
                let note = format!("{}: {error}; what the cache has of it is used", self.what);
                watcher.note(&note);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Listing::read(&url, &answer).map(Some)
    }

    /// The folder of the commit that the cache has.
    fn cached(&self) -> Option<PathBuf> {
        let commit = self.repository.commit(self.name.revision())?;
        Some(self.repository.snapshot(&commit)).filter(|folder| folder.is_dir())
    }

    fn cached_or_not(&self) -> Result<PathBuf, HubError> {
        self.cached().ok_or_else(|| HubError::NotCached {
            what: self.what.clone(),
            cache: self.hub.settings.cache.clone(),
        })
    }

    fn cached_model(&self, part: ModelPart) -> Result<PathBuf, HubError> {
        let folder = self.cached_or_not()?;
        let lacks = |missing: &str| HubError::PartlyCached {
            what: self.what.clone(),
            folder: folder.clone(),
            missing: missing.to_owned(),
        };
        let has = |file: &str| folder.join(file).exists();
        if !CONFIGS.into_iter().any(has) {
            return Err(lacks("config.json"));
        }
        if part == ModelPart::Tokenizer || has(WEIGHTS) || has(ADAPTER_WEIGHTS) {
            return Ok(folder);
        }
        if !has(INDEX) {
            return Err(lacks("model.safetensors"));
        }
        let shards = shards(&folder.join(INDEX))?;
        match shards.iter().find(|shard| !has(shard)) {
            Some(shard) => Err(lacks(shard)),
            None => Ok(folder),
        }
    }

    fn cached_dataset(&self) -> Result<PathBuf, HubError> {
        let folder = self.cached_or_not()?;
        let path = with_part(folder.clone(), self.name.part.as_deref());
        match record_files(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(HubError::PartlyCached {
                what: self.what.clone(),
                folder,
                missing: format!("records ({error})"),
            }),
        }
    }

    /// The files with the weights of a model: one, or the shards that its index names, and no other format.
    fn weights(
        &self,
        listing: &Listing,
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<String>, HubError> {
        let has = |file: &str| listing.files.iter().any(|one| one == file);
        let mut wanted: Vec<String> = [WEIGHTS, ADAPTER_WEIGHTS]
            .into_iter()
            .filter(|file| has(file))
            .map(str::to_owned)
            .collect();
        if wanted.is_empty() && has(INDEX) {
            self.fetch(listing, &BTreeSet::from([INDEX.to_owned()]), watcher)?;
            let index = self.repository.snapshot(&listing.commit).join(INDEX);
            wanted.extend(shards(&index)?);
            if let Some(missing) = wanted.iter().find(|shard| !has(shard)) {
                return Err(self.unusable(&format!("{INDEX} names {missing}, which is not there")));
            }
        }
        if !wanted.is_empty() {
            return Ok(wanted);
        }
        let ends = |end: &str| listing.files.iter().find(|file| file.ends_with(end));
        let found = match ends(".gguf").or(ends(".bin")).or(ends(".safetensors")) {
            Some(file) => format!("found {file}"),
            None => format!("found {} files without weights", listing.files.len()),
        };
        Err(self.unusable(&format!(
            "{found}, expected model.safetensors, or its shards and their index"
        )))
    }

    fn unusable(&self, reason: &str) -> HubError {
        HubError::Unusable { what: self.what.clone(), reason: reason.to_owned() }
    }

    /// Puts files into the folder of the commit, unless they are there.
    fn fetch(
        &self,
        listing: &Listing,
        wanted: &BTreeSet<String>,
        watcher: &mut dyn Watcher,
    ) -> Result<(), HubError> {
        let settings = &self.hub.settings;
        let folder = self.repository.snapshot(&listing.commit);
        for name in wanted.iter().filter(|name| !folder.join(name).exists()) {
            if watcher.stop_requested() {
                return Err(HubError::Stopped { what: self.what.clone() });
            }
            let place = match self.kind {
                HubKind::Model => String::new(),
                HubKind::Dataset => format!("{}/", self.kind.plural()),
            };
            let url = format!(
                "{}/{place}{}/resolve/{}/{}",
                settings.endpoint,
                self.name.repository,
                listing.commit,
                escaped(name, "/")
            );
            let (client, asked) = (&self.hub.client, &self.asked());
            let (repository, commit) = (&self.repository, listing.commit.as_str());
            Download { client, repository, asked, commit, name, url }.run(watcher)?;
        }
        Ok(())
    }

    /// The folder of the commit, to which the revision refers now that all of it is there.
    fn settle(&self, listing: &Listing) -> Result<PathBuf, HubError> {
        self.repository.note(self.name.revision(), &listing.commit)?;
        Ok(self.repository.snapshot(&listing.commit))
    }
}

impl Listing {
    fn read(url: &str, answer: &Value) -> Result<Self, HubError> {
        let wrong = |found: String, expected| {
            Err(HubError::Answer { url: url.to_owned(), found, expected })
        };
        let commit = answer.get("sha").and_then(Value::as_str).unwrap_or_default();
        if !is_commit(commit) {
            return wrong(format!("the commit {commit:?}"), "40 hexadecimal digits as `sha`");
        }
        let Some(siblings) = answer.get("siblings").and_then(Value::as_array) else {
            return wrong("no list of files".to_owned(), "`siblings`");
        };
        let mut files = Vec::with_capacity(siblings.len());
        for sibling in siblings {
            match sibling.get("rfilename").and_then(Value::as_str) {
                Some(name) if stays_inside(name) => files.push(name.to_owned()),
                _ => return wrong(format!("the file {sibling}"), "a name inside the folder"),
            }
        }
        Ok(Self { commit: commit.to_owned(), files })
    }
}

/// The files of a model beside its weights.
fn papers(listing: &Listing) -> BTreeSet<String> {
    let is_wanted = |file: &&String| {
        let name = file.as_str();
        CONFIGS.contains(&name)
            || TOKENIZER.contains(&name)
            || HEADS.contains(&name)
            || name.starts_with(TEMPLATES)
    };
    listing.files.iter().filter(is_wanted).cloned().collect()
}

/// The names of the shards that an index names.
fn shards(index: &Path) -> Result<BTreeSet<String>, HubError> {
    let bytes = fs::read(index).map_err(HubError::io(index, "read"))?;
    let wrong = |found: String| HubError::Unusable {
        what: index.display().to_string(),
        reason: format!("{found}, expected the names of shards as `weight_map`"),
    };
    let parsed: Value = serde_json::from_slice(&bytes)
        .map_err(|error| wrong(format!("found no JSON ({error})")))?;
    let map = parsed.get("weight_map").and_then(Value::as_object);
    let names = map.ok_or_else(|| wrong("found no `weight_map`".to_owned()))?.values();
    names
        .map(|name| match name.as_str() {
            Some(name) if stays_inside(name) => Ok(name.to_owned()),
            _ => Err(wrong(format!("found {name}"))),
        })
        .collect()
}

/// What to do about a data set that is a program.
fn hint(listing: &Listing) -> &'static str {
    match listing
        .files
        .iter()
        .any(|file| Path::new(file).extension().is_some_and(|end| end == "py"))
    {
        true => {
            "; it is read by a program, which is not run here: the hub may have its records at the revision \
             refs/convert/parquet"
        }
        false => "",
    }
}

fn with_part(folder: PathBuf, part: Option<&str>) -> PathBuf {
    match part {
        Some(part) => PathBuf::from(format!("{}#{part}", folder.display())),
        None => folder,
    }
}

/// A text as a part of an address; what is in `kept` stays as it is.
fn escaped(text: &str, kept: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        byte if kept.as_bytes().contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
