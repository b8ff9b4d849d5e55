//! Several stores and files as one set of records.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hearken_analysis::JudgedItems;
use hearken_data::feedback::formats::{ImportOptions, import};

use crate::records;

/// How files of votes end whose pairs lie beside them.
const COMPARISONS: &str = "-comparisons.csv";

/// Loads stores and files and puts them together. Files are read as one import, so that votes in one find their pairs in
/// another; a folder stands for the files of comparisons in it.
pub(crate) fn load(sources: &[String]) -> Result<JudgedItems> {
    let mut all = JudgedItems::default();
    let mut files = Vec::new();
    for source in sources {
        if Path::new(source).is_dir() {
            files.extend(comparisons(Path::new(source))?);
        } else if sources.len() > 1 && is_plain_file(source) {
            files.push(PathBuf::from(source));
        } else {
            let loaded = records::load(source)?;
            all.items.extend(loaded.items);
            all.judgements.extend(loaded.judgements);
        }
    }
    if !files.is_empty() {
        let imported = import(&files, None, &ImportOptions::default())?;
        if imported.report.without_item > 0 {
            bail!(
                "{} judgements are about items that no file holds; expected those items too",
                imported.report.without_item
            );
        }
        all.items.extend(imported.items);
        all.judgements.extend(imported.judgements);
    }
    without_repetition(all)
}

/// A file that is no SQLite store.
fn is_plain_file(source: &str) -> bool {
    !source.contains("://") && Path::new(source).is_file() && !hearken_store::is_database(source)
}

/// The files of comparisons in a folder, ascending.
fn comparisons(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let unreadable = || format!("{}: cannot be read", folder.display());
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(COMPARISONS)) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!(
            "{}: found a folder without files named *{COMPARISONS}; expected a store or the names of files",
            folder.display()
        );
    }
    found.sort();
    Ok(found)
}

/// Leaves out items and judgements that are there already; the same name with another content is an error.
fn without_repetition(all: JudgedItems) -> Result<JudgedItems> {
    let mut kept = JudgedItems::default();
    let mut items = HashMap::new();
    for item in all.items {
        match items.get(&item.id) {
            None => {
                items.insert(item.id.clone(), kept.items.len());
                kept.items.push(item);
            }
            Some(&at) if kept.items[at].hash() != item.hash() => {
                bail!("two different items have the id {:?}", item.id)
            }
            Some(_) => {}
        }
    }
    let mut judgements = HashMap::new();
    for judgement in all.judgements {
        match judgements.get(&judgement.id) {
            None => {
                judgements.insert(judgement.id.clone(), kept.judgements.len());
                kept.judgements.push(judgement);
            }
            Some(&at) if kept.judgements[at] != judgement => {
                bail!("two different judgements have the id {:?}", judgement.id)
            }
            Some(_) => {}
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use hearken_data::feedback::{Candidate, Item, Judgement, Task, Verdict};

    use super::*;

    #[test]
    fn the_same_record_twice_is_one_and_another_under_its_name_an_error() {
        let item =
            Item::new(Task::Pairwise, vec![], vec![Candidate::text("a"), Candidate::text("b")]);
        let judgement = Judgement::new("j", &item, "ada", Verdict::Tie);
        let one = JudgedItems { items: vec![item], judgements: vec![judgement] };
        let twice = |other: JudgedItems| JudgedItems {
            items: [one.items.clone(), other.items].concat(),
            judgements: [one.judgements.clone(), other.judgements].concat(),
        };
        assert_eq!(without_repetition(twice(one.clone())).unwrap(), one);
        let mut other = one.clone();
        other.judgements[0].verdict = Verdict::BothBad;
        let error = without_repetition(twice(other)).unwrap_err().to_string();
        assert_eq!(error, "two different judgements have the id \"j\"");
    }
}
