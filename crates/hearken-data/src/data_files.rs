//! Which files a path means: a file, the files that fit a pattern, or one split of a folder that is laid
//! out as data sets of the Hugging Face Hub are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::foreign;
use crate::hub_name::SPLIT_MARK;
use crate::report::ReadError;

/// The split of a folder for which none is asked.
const TRAIN: &str = "train";
/// How deep files may lie in a folder.
const DEPTH_MAX: usize = 8;
/// What names of files and folders call splits, and the split that they mean.
const SPLIT_WORDS: [(&str, &str); 9] = [
    ("train", TRAIN),
    ("training", TRAIN),
    ("validation", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("dev", "validation"),
    ("test", "test"),
    ("testing", "test"),
    ("evaluation", "test"),
];
/// How names of files of records end, without what says that they are compressed.
const ENDINGS: [&str; 6] = ["jsonl", "ndjson", "json", "csv", "tsv", "parquet"];
const COMPRESSED: [&str; 2] = ["gz", "zst"];

/// What separates the cells of a file, if its name says that it has cells.
pub(crate) fn separator(path: &Path) -> Option<u8> {
    match ending(path).as_deref() {
        Some("csv") => Some(b','),
        Some("tsv") => Some(b'\t'),
        _ => None,
    }
}

/// How a file of text lays out its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextLayout {
    /// An object per line.
    Lines,
    /// One array of objects.
    Array,
    /// Cells with this between them.
    Cells(u8),
}

/// How the file of this name is written.
pub(crate) fn text_layout(path: &Path) -> TextLayout {
    match (separator(path), ending(path).as_deref()) {
        (Some(separator), _) => TextLayout::Cells(separator),
        (None, Some("json")) => TextLayout::Array,
        _ => TextLayout::Lines,
    }
}

/// Whether rows can be written into a file of this name: its ending says how.
///
/// # Errors
/// Says what the name should end in.
pub fn can_write(path: &Path) -> Result<(), String> {
    const WRITTEN: &str =
        ".parquet, .jsonl, .json, .csv or .tsv, or these but for Parquet with .gz or .zst";
    match ending(path).as_deref() {
        // Its columns are compressed already.
        Some("parquet") if !is_parquet(path) => {
            Err(format!("expected a name that ends in {WRITTEN}"))
        }
        Some(_) => Ok(()),
        None => Err(format!("expected a name that ends in {WRITTEN}")),
    }
}

/// Whether a file of this name is Parquet.
pub fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"))
}

/// Whether the file of this name starts with the names of its columns.
pub fn has_header(path: &Path) -> bool {
    separator(path).is_some()
}

/// How the name of a file ends, without what says that it is compressed; `None` where files of records
/// do not end so.
fn ending(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let plain = COMPRESSED
        .iter()
        .find_map(|end| name.strip_suffix(end)?.strip_suffix('.'))
        .unwrap_or(&name);
    let (_, end) = plain.rsplit_once('.')?;
    ENDINGS.contains(&end).then(|| end.to_owned())
}

/// The files that hold the records of `path`, in their order: of a pattern such as `data/*.jsonl` those that
/// fit it; of a folder its training split, or the one that is named behind `#` (`data#test`), as README.md of
/// the folder or the names of its files say; else `path` itself, whether it is there or not.
///
/// # Errors
/// A folder or pattern without such files, a split or configuration that a folder does not have, files
/// of several kinds in one.
pub fn record_files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    if fs::symlink_metadata(path).is_ok() && !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let name = path.to_string_lossy();
    let (folder, split) = match name.rsplit_once(SPLIT_MARK) {
        Some((folder, split)) if !path.exists() && Path::new(folder).is_dir() => {
            (Path::new(folder), Some(split))
        }
        _ => (path, None),
    };
    if folder.is_dir() {
        // What another program laid out is named as what it is.
        if foreign::is_known_folder(folder) {
            return Ok(vec![folder.into()]);
        }
        let found = Folder { name: &folder.to_string_lossy(), entries: Entries::OnDisk(folder) }
            .files(split);
        return found.map_err(|error| refused(path, error));
    }
    if name.contains(['*', '?', '[']) {
        return matching(&name).map_err(|error| refused(path, error));
    }
    Ok(vec![path.into()])
}

fn refused(path: &Path, what: String) -> ReadError {
    ReadError::Files { path: path.into(), what }
}

/// The files that fit a pattern.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let paths = glob::glob(pattern).map_err(|error| no_pattern(&error))?;
    let files: Result<Vec<PathBuf>, _> = paths.collect();
    let mut files =
        files.map_err(|error| format!("cannot be looked through: {}", error.error()))?;
    files.retain(|path| path.is_file());
    // The pattern is the reader's own word: what it fits is read, whatever its name.
    some(files)
}

fn some(files: Vec<PathBuf>) -> Result<Vec<PathBuf>, String> {
    match files.is_empty() {
        true => Err("found no file that fits the pattern".into()),
        false => Ok(files),
    }
}

fn no_pattern(error: &glob::PatternError) -> String {
    format!("found a pattern that is none ({}), expected such as data/*.jsonl", error.msg)
}

/// Which files of a data set that lies elsewhere hold the records of `part` (a split, or a configuration and a
/// split; without it those of the training split), by the same rules as those of a folder: `files` are the
/// names of all its files, `readme` is its README.md.
///
/// # Errors
/// As [`record_files`], without the name of the data set.
pub fn listed_files(
    name: &str,
    files: &[String],
    readme: Option<&str>,
    part: Option<&str>,
) -> Result<Vec<String>, String> {
    let found = Folder { name, entries: Entries::Listed { files, readme } }.files(part)?;
    Ok(found.iter().map(|file| file.to_string_lossy().into_owned()).collect())
}

/// A data set of several files.
struct Folder<'p> {
    /// What it is called in advice.
    name: &'p str,
    entries: Entries<'p>,
}

/// Its files, as they can be looked through.
enum Entries<'p> {
    OnDisk(&'p Path),
    /// Names alone.
    Listed {
        files: &'p [String],
        readme: Option<&'p str>,
    },
}

impl Entries<'_> {
    fn readme(&self) -> Result<Option<String>, String> {
        match self {
            Self::Listed { readme, .. } => Ok(readme.map(str::to_owned)),
            Self::OnDisk(folder) => match fs::read_to_string(folder.join("README.md")) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(format!("README.md cannot be read: {error}")),
            },
        }
    }

    /// The files that fit a pattern inside the folder.
    fn matching(&self, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let files = match self {
            Self::OnDisk(folder) => {
                let folder = glob::Pattern::escape(&folder.to_string_lossy());
                return matching(&format!("{folder}/{pattern}"));
            }
            Self::Listed { files, .. } => files,
        };
        let parsed = glob::Pattern::new(pattern.trim_start_matches("./"))
            .map_err(|error| no_pattern(&error))?;
        let options =
            glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::default() };
        let fits = |file: &&String| parsed.matches_with(file, options);
        let mut found: Vec<PathBuf> = files.iter().filter(fits).map(PathBuf::from).collect();
        found.sort();
        some(found)
    }

    /// All files of records, in order.
    fn all(&self) -> Result<Vec<PathBuf>, String> {
        let mut found = Vec::new();
        match self {
            Self::OnDisk(folder) => collect(folder, DEPTH_MAX, &mut found)
                .map_err(|error| format!("cannot be looked through: {error}"))?,
            Self::Listed { files, .. } => {
                let is_read = |file: &&PathBuf| {
                    let seen = file.iter().all(|part| !is_passed_over(&part.to_string_lossy()));
                    seen && file.iter().count() <= DEPTH_MAX + 1 && ending(file).is_some()
                };
                let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
                found.extend(files.iter().filter(is_read).cloned());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Where in the folder a file is.
    fn inside<'f>(&self, file: &'f Path) -> &'f Path {
        match self {
            Self::OnDisk(folder) => file.strip_prefix(folder).unwrap_or(file),
            Self::Listed { .. } => file,
        }
    }
}

/// A split and the patterns of its files.
type SplitPatterns = (String, Vec<String>);

impl Folder<'_> {
    fn files(&self, asked: Option<&str>) -> Result<Vec<PathBuf>, String> {
        let (configuration, split) = match asked.and_then(|asked| asked.rsplit_once('/')) {
            Some((configuration, split)) => (Some(configuration), Some(split)),
            None => (None, asked),
        };
        let files = match self.declared(configuration)? {
            Some(declared) => self.of_patterns(&declared, split)?,
            None if configuration.is_some() => {
                return Err("found no configurations in the head of its README.md".into());
            }
            None => self.of_names(split)?,
        };
        one_kind(&files)?;
        Ok(files)
    }

    /// What the head of README.md says of the files.
    fn declared(&self, name: Option<&str>) -> Result<Option<Vec<SplitPatterns>>, String> {
        let Some(text) = self.entries.readme()? else { return Ok(None) };
        let Some(head) = head(&text) else { return Ok(None) };
        let card: Card = serde_saphyr::from_str(head)
            .map_err(|error| format!("found a head of README.md that is no YAML ({error})"))?;
        let all: Vec<Configuration> =
            card.configs.into_iter().filter(|one| one.data_files.is_some()).collect();
        let names =
            || all.iter().map(|one| one.config_name.as_str()).collect::<Vec<_>>().join(", ");
        let chosen = match (name, all.as_slice()) {
            (None, []) => return Ok(None),
            (None, [only]) => only,
            (None, all) => all
                .iter()
                .find(|one| one.default)
                .or_else(|| all.iter().find(|one| one.config_name == "default"))
                .ok_or_else(|| {
                    let (folder, names) = (self.name, names());
                    format!(
                        "found the configurations {names}; expected one, as {folder}#NAME/train"
                    )
                })?,
            (Some(name), all) => {
                all.iter().find(|one| one.config_name == name).ok_or_else(|| {
                    format!("found no configuration {name:?}, expected one of {}", names())
                })?
            }
        };
        Ok(chosen.data_files.clone().map(DataFiles::splits))
    }

    fn of_patterns(
        &self,
        declared: &[SplitPatterns],
        asked: Option<&str>,
    ) -> Result<Vec<PathBuf>, String> {
        let names: Vec<&str> = declared.iter().map(|(name, _)| name.as_str()).collect();
        let index = chosen(&names, asked)?;
        let mut files = Vec::new();
        for pattern in &declared[index].1 {
            let stays = Path::new(pattern).components().all(|part| {
                matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir)
            });
            if !stays {
                return Err(format!(
                    "README.md names the files {pattern:?}, expected files inside the folder"
                ));
            }
            let found = self
                .entries
                .matching(pattern)
                .map_err(|error| format!("README.md names the files {pattern:?}: {error}"))?;
            files.extend(found);
        }
        Ok(files)
    }

    /// Files sorted by splits as their names tell them; where none does, they all are for training.
    fn of_names(&self, asked: Option<&str>) -> Result<Vec<PathBuf>, String> {
        let files = self.entries.all()?;
        if files.is_empty() {
            return Err(format!(
                "found a folder without files of records, expected some that end in .{} (or these with .gz, .zst)",
                ENDINGS.join(", .")
            ));
        }
        let split_of: Vec<Option<&str>> =
            files.iter().map(|file| split_word(self.entries.inside(file))).collect();
        let mut names: Vec<&str> = split_of.iter().flatten().copied().collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            names.push(TRAIN);
            chosen(&names, asked)?;
            return Ok(files);
        }
        let name = names[chosen(&names, asked)?];
        let chosen = files.into_iter().zip(split_of).filter(|(_, split)| *split == Some(name));
        Ok(chosen.map(|(file, _)| file).collect())
    }
}

/// The split that is asked for; without a word the one to train on, or the only one.
fn chosen(names: &[&str], asked: Option<&str>) -> Result<usize, String> {
    let wanted = asked.unwrap_or(TRAIN);
    match names.iter().position(|name| *name == wanted) {
        Some(index) => Ok(index),
        None if asked.is_none() && names.len() == 1 => Ok(0),
        None => Err(format!("found the splits {}, expected {wanted:?}", names.join(", "))),
    }
}

fn one_kind(files: &[PathBuf]) -> Result<(), String> {
    let mut kinds: Vec<String> = files.iter().filter_map(|file| ending(file)).collect();
    kinds.sort();
    kinds.dedup();
    match kinds.as_slice() {
        [] | [_] => Ok(()),
        kinds => Err(format!(
            "found files of several kinds ({}), which may be the same records twice; expected one kind, as by a pattern such as *.{}",
            kinds.join(", "),
            kinds[0]
        )),
    }
}

/// Whether a file or folder of this name in the folder of a data set holds no records.
fn is_passed_over(name: &str) -> bool {
    // What describes a data set or states how far a download is.
    const NO_RECORDS: [&str; 4] =
        ["dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"];
    name.starts_with(['.', '_']) || NO_RECORDS.contains(&name)
}

/// The files of records in a folder and in those inside it; names that start with a dot or an
/// underscore are passed over.
fn collect(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_passed_over(&name) {
            continue;
        }
        if path.is_dir() {
            if 0 < depth {
                collect(&path, depth - 1, into)?;
            }
        } else if ending(&path).is_some() {
            into.push(path);
        }
    }
    Ok(())
}

/// The split that the name of a file, or of a folder on the way to it, tells: a word between marks.
fn split_word(path: &Path) -> Option<&'static str> {
    let of = |part: &str| {
        let part = part.to_ascii_lowercase();
        let mut words = part.split(|c: char| !c.is_ascii_alphabetic());
        words.find_map(|word| {
            SPLIT_WORDS.iter().find(|(known, _)| *known == word).map(|(_, split)| *split)
        })
    };
    path.iter().rev().find_map(|part| of(&part.to_string_lossy()))
}

/// What stands between the lines `---` at the start of a file.
fn head(text: &str) -> Option<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rest = text.strip_prefix("---")?.trim_start_matches('\r').strip_prefix('\n')?;
    rest.find("\n---").map(|end| &rest[..end])
}

#[derive(Deserialize)]
struct Card {
    #[serde(default)]
    configs: Vec<Configuration>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default = "default_name")]
    config_name: String,
    data_files: Option<DataFiles>,
    #[serde(default)]
    default: bool,
}

fn default_name() -> String {
    "default".into()
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum DataFiles {
    One(String),
    Splits(Vec<SplitFiles>),
    Many(Vec<String>),
}

#[derive(Clone, Deserialize)]
struct SplitFiles {
    split: String,
    path: Paths,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Paths {
    One(String),
    Many(Vec<String>),
}

impl DataFiles {
    fn splits(self) -> Vec<SplitPatterns> {
        match self {
            Self::One(path) => vec![(TRAIN.into(), vec![path])],
            Self::Many(paths) => vec![(TRAIN.into(), paths)],
            Self::Splits(splits) => splits
                .into_iter()
                .map(|SplitFiles { split, path }| match path {
                    Paths::One(path) => (split, vec![path]),
                    Paths::Many(paths) => (split, paths),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn names(folder: &tempfile::TempDir, given: &str) -> Result<Vec<String>, String> {
        let given = format!("{}{given}", folder.path().display());
        let files = record_files(Path::new(&given)).map_err(|error| error.to_string())?;
        let name = |path: &PathBuf| {
            path.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned()
        };
        Ok(files.iter().map(name).collect())
    }

    #[test]
    fn a_folder_means_its_training_split() {
        let folder = folder(&[
            "README.md",
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
            ".cache/train.parquet",
        ]);
        let train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
        assert_eq!(names(&folder, "").unwrap(), train);
        assert_eq!(names(&folder, "#test").unwrap(), ["data/test-00000-of-00001.parquet"]);
        let error = names(&folder, "#validation").unwrap_err();
        assert!(error.contains("found the splits test, train, expected \"validation\""), "{error}");
    }

    #[test]
    fn without_splits_every_file_is_for_training() {
        let files = folder(&["a.jsonl", "b/c.jsonl.gz", "notes.txt", "dataset_info.json"]);
        assert_eq!(names(&files, "").unwrap(), ["a.jsonl", "b/c.jsonl.gz"]);
        let mixed = folder(&["a.jsonl", "a.csv"]);
        assert!(
            names(&mixed, "").unwrap_err().contains("found files of several kinds (csv, jsonl)")
        );
        assert_eq!(names(&mixed, "/*.csv").unwrap(), ["a.csv"]);
        assert!(names(&mixed, "/*.parquet").unwrap_err().contains("no file that fits"));
        let empty = folder(&["notes.txt"]);
        assert!(names(&empty, "").unwrap_err().contains("without files of records"));
    }

    #[test]
    fn the_head_of_the_readme_says_which_files_are_a_split() {
        let folder = folder(&["main/a.parquet", "main/b.parquet", "extra/c.parquet"]);
        let card = "---\nlicense: mit\nconfigs:\n- config_name: main\n  default: true\n  data_files:\n  - split: train\n    path: main/a*\n  - split: test\n    path:\n    - main/b.parquet\n- config_name: extra\n  data_files: extra/*.parquet\n---\n# A data set\n";
        fs::write(folder.path().join("README.md"), card).unwrap();
        assert_eq!(names(&folder, "").unwrap(), ["main/a.parquet"]);
        assert_eq!(names(&folder, "#test").unwrap(), ["main/b.parquet"]);
        assert_eq!(names(&folder, "#extra/train").unwrap(), ["extra/c.parquet"]);
        let error = names(&folder, "#none/train").unwrap_err();
        assert!(error.contains("found no configuration \"none\", expected one of main, extra"));
        let outside = "---\nconfigs:\n- data_files: ../../etc/*\n---\n";
        fs::write(folder.path().join("README.md"), outside).unwrap();
        assert!(names(&folder, "").unwrap_err().contains("expected files inside the folder"));
    }
}
