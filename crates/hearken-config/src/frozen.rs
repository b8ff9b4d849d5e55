//! A configuration that no longer changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The merged configuration of a run, as its directory keeps it.
#[derive(Clone, Debug)]
pub struct Frozen {
    file: PathBuf,
    table: Table,
    trainer: &'static str,
    command: String,
    /// Where names of the hub lead.
    places: BTreeMap<PathBuf, PathBuf>,
}

/// A trainer's configuration with the table it was read from.
#[derive(Clone, Debug)]
pub struct LoadedConfig<C> {
    /// What the trainer reads.
    pub config: C,
    /// What the run directory keeps.
    pub frozen: Frozen,
}

/// A key in which two configurations differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key with its section.
    pub key: String,
    /// Its value in the run directory.
    pub stored: String,
    /// Its value now.
    pub given: String,
}

impl Frozen {
    pub(super) fn new(file: PathBuf, table: Table, trainer: &'static str, command: String) -> Self {
        Self { file, table, trainer, command, places: BTreeMap::new() }
    }

    /// The command whose configuration it is: of a stage of several, that of the stage.
    pub fn trainer(&self) -> &'static str {
        self.trainer
    }

    /// The command line that reads it, as a shell takes it; no secret is in it.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The user's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The merged table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Notes the folder that a name of the hub leads to; the table keeps the name.
    pub fn lead(&mut self, name: &Path, place: &Path) {
        self.places.insert(name.to_owned(), place.to_owned());
    }

    /// Where what the table names is: itself, unless it is a name of the hub.
    pub fn place_of<'a>(&'a self, named: &'a Path) -> &'a Path {
        self.places.get(named).map_or(named, PathBuf::as_path)
    }

    /// The configuration as TOML with every key written out: it is a configuration file itself.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.table).expect("a table that was read can be written")
    }

    /// The first key, in the order of this configuration, whose value differs from `stored` and
    /// that is not among `free`.
    pub fn first_difference(&self, stored: &Table, free: &[&str]) -> Option<Difference> {
        first_difference("", &as_before(stored), &as_before(&self.table), free)
    }
}

/// A configuration without keys that came later and say what was so before there were any: runs of that time go on,
/// and what is done stays so.
pub fn as_before(table: &Table) -> Table {
    let mut table = table.clone();
    if let Some(Value::Table(data)) = table.get_mut("data")
        && data.get("streaming") != Some(&Value::Boolean(true))
    {
        data.remove("streaming");
        data.remove("shuffle_buffer");
    }
    table
}

fn first_difference(
    prefix: &str,
    stored: &Table,
    given: &Table,
    free: &[&str],
) -> Option<Difference> {
    let added = stored.keys().filter(|key| !given.contains_key(*key));
    given.keys().chain(added).find_map(|name| {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match (stored.get(name), given.get(name)) {
            (old, new) if old == new || free.contains(&without_indices(&key).as_str()) => None,
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                first_difference(&key, old, new, free)
            }
            (Some(Value::Table(old)), None) => first_difference(&key, old, &Table::new(), free),
            (None, Some(Value::Table(new))) => first_difference(&key, &Table::new(), new, free),
            (Some(Value::Array(old)), Some(Value::Array(new))) if are_sections(old, new) => {
                let pairs = old.iter().zip(new).enumerate();
                pairs.into_iter().find_map(|(index, (old, new))| {
                    let (old, new) = (old.as_table()?, new.as_table()?);
                    first_difference(&format!("{key}[{index}]"), old, new, free)
                })
            }
            (old, new) => Some(Difference { key, stored: shown(old), given: shown(new) }),
        }
    })
}

/// Whether both are as many tables, as `[[score]]` makes them.
fn are_sections(old: &[Value], new: &[Value]) -> bool {
    old.len() == new.len() && old.iter().chain(new).all(Value::is_table)
}

/// A key as `free` names it: `score.url` for `score[1].url`.
fn without_indices(key: &str) -> String {
    let mut rest = key.split('[');
    let first = rest.next().unwrap_or("").to_owned();
    rest.fold(first, |name, part| name + part.split_once(']').map_or(part, |(_, after)| after))
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen(table: Table) -> Frozen {
        Frozen::new("x.toml".into(), table, "sft", "hearken sft x.toml".to_owned())
    }

    fn difference(stored: &str, given: &str, free: &[&str]) -> Option<Difference> {
        let frozen = frozen(given.parse().unwrap());
        frozen.first_difference(&stored.parse().unwrap(), free)
    }

    #[test]
    fn the_first_differing_key_is_named_with_both_values() {
        let found = difference("[a]\nx = 1\ny = 2", "[a]\nx = 1\ny = 3", &[]).unwrap();
        assert_eq!(
            (found.key.as_str(), found.stored.as_str(), found.given.as_str()),
            ("a.y", "2", "3")
        );
        let added = difference("[a]", "[a]\ny = 3", &[]).unwrap();
        assert_eq!(added.stored, "nothing");
        let removed = difference("[a]\n[b]\nz = 1", "[a]", &[]).unwrap();
        assert_eq!((removed.key.as_str(), removed.given.as_str()), ("b.z", "nothing"));
    }

    #[test]
    fn a_key_that_came_later_and_changes_nothing_is_no_difference() {
        let now = "[data]\nshuffle = true\nstreaming = false\nshuffle_buffer = 10";
        assert_eq!(difference("[data]\nshuffle = true", now, &[]), None);
        let streams = now.replace("= false", "= true");
        assert_eq!(difference(now, &streams, &[]).unwrap().key, "data.streaming");
        assert_eq!(
            difference(&streams, &streams.replace("10", "20"), &[]).unwrap().key,
            "data.shuffle_buffer"
        );
    }

    #[test]
    fn free_keys_may_differ() {
        assert_eq!(difference("[a]\ny = 2", "[a]\ny = 3", &["a.y"]), None);
        assert_eq!(difference("[a]\ny = 2", "[a]\ny = 2", &[]), None);
    }

    #[test]
    fn sections_of_a_list_are_compared_key_by_key() {
        let stored = "[[score]]\nkind = \"http\"\n[[score]]\nurl = \"a\"\nweight = 1";
        let given = "[[score]]\nkind = \"http\"\n[[score]]\nurl = \"b\"\nweight = 2";
        let key = |free: &[&str]| difference(stored, given, free).map(|found| found.key);
        assert_eq!(key(&[]).unwrap(), "score[1].url");
        assert_eq!(key(&["score.url"]).unwrap(), "score[1].weight");
        assert_eq!(key(&["score.url", "score.weight"]), None);
        let fewer = difference(stored, "[[score]]\nkind = \"http\"", &["score.url"]).unwrap();
        assert_eq!(fewer.key, "score");
    }

    #[test]
    fn what_is_written_reads_as_the_same_configuration() {
        let table: Table =
            "[a]\nx = 1.5\nnames = [\"b\"]\n[[score]]\nkind = \"model\"".parse().unwrap();
        let frozen = frozen(table.clone());
        assert_eq!(frozen.to_toml().parse::<Table>().unwrap(), table);
    }
}
