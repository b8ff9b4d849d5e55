//! Names of models and data sets on the Hugging Face Hub, and folders of its cache.
//!
//! Nothing is fetched here: a name is told from a path, and a folder of the cache from any other.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Stands between a data set and one of its splits, as in `org/name#test` or `org/name#main/test`.
pub(crate) const SPLIT_MARK: char = '#';
const REVISION_MARK: char = '@';
/// How files are called that are given where a name could stand.
const FILE_ENDINGS: [&str; 20] = [
    "jsonl",
    "ndjson",
    "json",
    "csv",
    "tsv",
    "gz",
    "zst",
    "parquet",
    "txt",
    "db",
    "sqlite",
    "sqlite3",
    "gguf",
    "bin",
    "safetensors",
    "toml",
    "yaml",
    "md",
    "py",
    "jinja",
];

/// What a name of the hub is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HubKind {
    /// A model, or an adapter of one.
    Model,
    /// A data set.
    Dataset,
}

impl HubKind {
    /// As addresses and the cache have it: `models` or `datasets`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// One of them, in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        }
    }
}

/// `organization/name`, perhaps with a revision and a split: `org/name@v1.0#main/test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `organization/name`.
    pub repository: String,
    /// A branch, a tag or a commit; `None` is the branch `main`.
    pub revision: Option<String>,
    /// The split of a data set, or its configuration and split.
    pub part: Option<String>,
}

impl HubName {
    /// Reads a name; `None` of what cannot be one, such as a path with other than two parts.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, part) = match text.split_once(SPLIT_MARK) {
            Some((text, part)) => (text, Some(part.to_owned())),
            None => (text, None),
        };
        let (repository, revision) = match text.split_once(REVISION_MARK) {
            Some((repository, revision)) => (repository, Some(revision.to_owned())),
            None => (text, None),
        };
        let (owner, name) = repository.split_once('/')?;
        let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
        let is_file = end.is_some_and(|end| FILE_ENDINGS.contains(&end.as_str()));
        let is_name = is_part(owner) && is_part(name) && !is_file;
        let is_whole = revision.as_deref().is_none_or(is_revision)
            && part.as_deref().is_none_or(|part| !part.is_empty());
        (is_name && is_whole).then(|| Self { repository: repository.to_owned(), revision, part })
    }

    /// [`HubName::parse`] of what is given where a folder or a file is expected.
    pub fn of_path(path: &Path) -> Option<Self> {
        Self::parse(path.to_str()?)
    }

    /// The revision, or the branch that is meant without one.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match &self.revision {
            Some(revision) => write!(f, "{REVISION_MARK}{revision}"),
            None => Ok(()),
        }
    }
}

fn is_part(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A branch or tag may have slashes, as `refs/pr/1`; it becomes a path in the cache.
fn is_revision(revision: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+'))
    };
    !revision.is_empty() && revision.split('/').all(is_part)
}

/// Whether a text is the name of a commit.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A folder of the hub's cache: one model or data set as it was at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSnapshot {
    /// What it holds.
    pub kind: HubKind,
    /// `organization/name`.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

impl HubSnapshot {
    /// What the folder `path`, or the folder before a `#`, holds; `None` of any other folder. Only names
    /// are looked at.
    pub fn of_path(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        let folder = Path::new(text.split_once(SPLIT_MARK).map_or(text, |(folder, _)| folder));
        let mut parts = folder.components().rev().filter_map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        });
        let commit = parts.next().filter(|commit| is_commit(commit))?;
        parts.next().filter(|name| *name == "snapshots")?;
        let name = parts.next()?;
        let (plural, repository) = name.split_once("--")?;
        let kinds = [HubKind::Model, HubKind::Dataset];
        let kind = kinds.into_iter().find(|kind| kind.plural() == plural)?;
        let repository = repository.replacen("--", "/", 1);
        Some(Self { kind, repository, commit: commit.to_owned() })
    }

    /// The folder of a repository in a cache.
    pub fn repository_folder(cache: &Path, kind: HubKind, repository: &str) -> PathBuf {
        cache.join(format!("{}--{}", kind.plural(), repository.replace('/', "--")))
    }
}

impl fmt::Display for HubSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{REVISION_MARK}{}", self.repository, self.commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_are_told_from_files() {
        for name in ["trl-lib/tldr", "openai/gsm8k", "Qwen/Qwen2.5-0.5B"] {
            let found = HubName::parse(name).unwrap();
            assert_eq!((found.repository.as_str(), found.revision()), (name, "main"));
        }
        for name in [
            "data/pairs.jsonl",
            "pairs",
            "a/b/c",
            "/a/b",
            "../a",
            "./a",
            "a/b.csv.gz",
            "a/b@",
            "a/b@../x",
            "a/b#",
            "runs/store.db",
            "postgres://a/b",
            "data/*",
        ] {
            assert_eq!(HubName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_may_have_a_revision_and_a_split() {
        let found = HubName::parse("a/b@refs/pr/1#main/test").unwrap();
        assert_eq!(found.revision.as_deref(), Some("refs/pr/1"));
        assert_eq!(found.part.as_deref(), Some("main/test"));
        assert_eq!(found.to_string(), "a/b@refs/pr/1");
    }

    #[test]
    fn a_folder_of_the_cache_tells_what_it_holds() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let cache = Path::new("/caches/hub");
        let folder = HubSnapshot::repository_folder(cache, HubKind::Dataset, "org/na--me");
        let folder = folder.join("snapshots").join(commit);
        let found = HubSnapshot::of_path(&folder).unwrap();
        assert_eq!((found.kind, found.repository.as_str()), (HubKind::Dataset, "org/na--me"));
        let with_split = format!("{}#test", folder.display());
        assert_eq!(HubSnapshot::of_path(Path::new(&with_split)), Some(found));
        assert_eq!(HubSnapshot::of_path(&folder.with_file_name("main")), None);
        assert_eq!(HubSnapshot::of_path(Path::new("models/gpt2")), None);
    }
}
