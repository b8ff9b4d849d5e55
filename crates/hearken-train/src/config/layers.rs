//! Defaults, the user's file and overrides, laid over one another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::error::ConfigError;
use super::frozen::Frozen;
use super::known_keys::{known_keys, nearest};

/// The largest count in a configuration. The product of two (prompts and completions, epochs and
/// minibatches) is still far from overflowing.
const COUNT_MAX: i64 = 1_000_000_000;

/// A configuration while it is read: tables merged key by key, the later over the earlier.
#[derive(Clone, Debug)]
pub struct Layers {
    file: PathBuf,
    table: Table,
    /// The text of the defaults: its comments name the keys that have none.
    defaults: String,
}

impl Layers {
    /// The embedded defaults alone. Errors name `file`.
    ///
    /// # Panics
    /// If `defaults` is not TOML: it is part of the program.
    pub fn new(defaults: &str, file: &Path) -> Self {
        let table = defaults.parse().expect("embedded defaults are valid TOML");
        Self { file: file.to_owned(), table, defaults: defaults.to_owned() }
    }

    /// The defaults, with `file` over them and each `section.key=value` of `overrides` over that.
    ///
    /// # Errors
    /// If the file cannot be read or is not TOML, or an override has another form.
    pub fn read(defaults: &str, file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut layers = Self::new(defaults, file);
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        let user: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::NotToml {
            file: file.to_owned(),
            message: error.to_string(),
        })?;
        layers.merge(user);
        for text in overrides {
            layers.set(text)?;
        }
        Ok(layers)
    }

    /// Lays `over` over what is there.
    pub fn merge(&mut self, over: Table) {
        merge(&mut self.table, over);
    }

    /// Applies one `section.key=value`; the value is TOML, or else taken as text.
    ///
    /// # Errors
    /// If there is no `=`, or a part of the key is empty or not a table.
    pub fn set(&mut self, text: &str) -> Result<(), ConfigError> {
        let bad = || ConfigError::BadOverride { text: text.to_owned() };
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let parts: Vec<&str> = key.trim().split('.').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(bad());
        }
        let (last, sections) = parts.split_last().ok_or_else(bad)?;
        let mut table = &mut self.table;
        for section in sections {
            let entry =
                table.entry((*section).to_owned()).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().ok_or_else(bad)?;
        }
        table.insert((*last).to_owned(), parse_value(value.trim()));
        Ok(())
    }

    /// The file that errors name.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The merged table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether there is a section `name`.
    pub fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Refuses sections that are not in `known`, and counts that no run can have.
    ///
    /// # Errors
    /// Names the first unknown section and the nearest known one, or the key of the count.
    pub fn check_sections(&self, known: &[&str]) -> Result<(), ConfigError> {
        match self.table.keys().find(|key| !known.contains(&key.as_str())) {
            None => self.check_counts("", &self.table),
            Some(key) => Err(ConfigError::UnknownKey {
                file: self.file.clone(),
                key: key.clone(),
                nearest: nearest(key, known.iter().copied()).map(str::to_owned),
            }),
        }
    }

    /// Refuses integers above [`COUNT_MAX`], but for seeds.
    fn check_counts(&self, prefix: &str, table: &Table) -> Result<(), ConfigError> {
        for (key, value) in table {
            let name = format!("{prefix}{key}");
            match value {
                Value::Table(table) => self.check_counts(&format!("{name}."), table)?,
                Value::Integer(count) if COUNT_MAX < *count && key != "seed" => {
                    let expected = format!("at most {COUNT_MAX}");
                    return Err(self.unexpected(&name, &count.to_string(), &expected));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads the section `name`; a missing one reads as an empty one.
    ///
    /// # Errors
    /// Names the key that is unknown, missing, or of the wrong type.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        match self.table.get(name) {
            None => self.read_table(name, &Table::new()),
            Some(Value::Table(table)) => self.read_table(name, table),
            Some(other) => Err(self.unexpected(name, &shown(other), "a section of keys")),
        }
    }

    /// Reads the array of tables `[[name]]`; a missing one is empty.
    ///
    /// # Errors
    /// As [`Layers::section`]; keys are named `name[index].key`.
    pub fn sections<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, ConfigError> {
        let expected = format!("a list of tables, each under a line [[{name}]]");
        let tables = match self.table.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(tables)) => tables,
            Some(other) => return Err(self.unexpected(name, &shown(other), &expected)),
        };
        let read = |(index, value): (usize, &Value)| match value {
            Value::Table(table) => self.read_table(&format!("{name}[{index}]"), table),
            other => Err(self.unexpected(name, &shown(other), &expected)),
        };
        tables.iter().enumerate().map(read).collect()
    }

    fn read_table<T: DeserializeOwned>(&self, name: &str, table: &Table) -> Result<T, ConfigError> {
        let known = known_keys::<T>();
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            let nearest = nearest(key, known.iter().copied());
            return Err(ConfigError::UnknownKey {
                file: self.file.clone(),
                key: format!("{name}.{key}"),
                nearest: nearest.map(|key| format!("{name}.{key}")),
            });
        }
        let read = Value::Table(table.clone()).try_into();
        read.map_err(|error: toml::de::Error| self.explain(name, table, &error))
    }

    /// Turns a deserializer's message into file, key, found and expected.
    fn explain(&self, name: &str, table: &Table, error: &toml::de::Error) -> ConfigError {
        let message = error.message();
        if let Some(field) = message.strip_prefix("missing field `") {
            return self.missing(&format!("{name}.{}", field.trim_end_matches('`')), "a value");
        }
        // The display adds a line "in `key`" below the message.
        let display = error.to_string();
        let inner = display.lines().find_map(|line| line.trim().strip_prefix("in `"));
        let path = inner.map_or("", |line| line.trim_end_matches('`'));
        let key = if path.is_empty() { name.to_owned() } else { format!("{name}.{path}") };
        let found = table.get(path).map(shown);
        let expected = message.rsplit_once(", expected ").map_or(message, |(_, wanted)| wanted);
        let found = found.unwrap_or_else(|| {
            let start = message.rsplit_once(", expected ").map_or(message, |(start, _)| start);
            start.split_once(": ").map_or(start, |(_, found)| found).to_owned()
        });
        ConfigError::Unexpected {
            file: self.file.clone(),
            key,
            found,
            expected: plain(expected).to_owned(),
        }
    }

    /// The error for a value out of its range. `key` carries its section.
    pub fn unexpected(&self, key: &str, found: &str, expected: &str) -> ConfigError {
        ConfigError::Unexpected {
            file: self.file.clone(),
            key: key.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }

    /// The error for a required key that is not there. `key` carries its section. Where some key looks
    /// like a misspelled one the error names that instead: it is the likelier cause.
    pub fn missing(&self, key: &str, expected: &str) -> ConfigError {
        self.misspelled().unwrap_or_else(|| ConfigError::Missing {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: expected.to_owned(),
        })
    }

    /// The first key that the defaults do not name, beside one much like it that they do.
    fn misspelled(&self) -> Option<ConfigError> {
        let documented = documented(&self.defaults);
        let of_section = |(section, value): (&String, &Value)| {
            let (known, table) = (documented.get(section.as_str())?, value.as_table()?);
            let known = || known.iter().copied();
            let mut unknown = table.keys().filter(|key| known().all(|name| name != *key));
            unknown.find_map(|key| Some((section.clone(), key.clone(), nearest(key, known())?)))
        };
        let (section, key, nearest) = self.table.iter().find_map(of_section)?;
        Some(ConfigError::UnknownKey {
            file: self.file.clone(),
            key: format!("{section}.{key}"),
            nearest: Some(format!("{section}.{nearest}")),
        })
    }

    /// The error for two settings that contradict each other.
    pub fn exclusive(&self, first: &str, second: &str, reason: &str) -> ConfigError {
        ConfigError::Exclusive {
            file: self.file.clone(),
            first: first.to_owned(),
            second: second.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Refuses a number outside a range: `holds` says whether it is inside.
    ///
    /// # Errors
    /// Names the key and the range if `holds` is false.
    pub fn check(
        &self,
        key: &str,
        value: impl std::fmt::Display,
        holds: bool,
        expected: &str,
    ) -> Result<(), ConfigError> {
        if holds { Ok(()) } else { Err(self.unexpected(key, &value.to_string(), expected)) }
    }

    /// Ends the reading.
    pub fn freeze(self) -> Frozen {
        Frozen::new(self.file, self.table)
    }
}

/// The keys of each section that a commented file of defaults names, in its comments too.
fn documented(defaults: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut section = "";
    for line in defaults.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.trim_start_matches('[');
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            keys.entry(section).or_default().insert(key);
        }
    }
    keys
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn parse_value(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>();
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A value as errors show it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text {text:?}"),
        Value::Integer(number) => format!("the integer {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(flag) => format!("{flag}"),
        Value::Datetime(date) => format!("the date {date}"),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// Rust's names of types as a reader of a configuration calls them.
fn plain(expected: &str) -> &str {
    match expected {
        "f64" => "a number",
        "u64" | "usize" | "u32" => "an integer from 0",
        "a string" | "path string" => "text in quotation marks",
        "a boolean" => "true or false",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Section {
        rate: f64,
        name: Option<String>,
        size: u64,
    }

    fn layers(user: &str) -> Layers {
        let mut layers = Layers::new("[one]\nrate = 0.5", Path::new("mine.toml"));
        layers.merge(user.parse().unwrap());
        layers
    }

    fn error(user: &str) -> String {
        layers(user).section::<Section>("one").unwrap_err().to_string()
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let mut layers = layers("[one]\nsize = 3");
        layers.set("one.name = two words").unwrap();
        layers.set("one.rate=2").unwrap();
        let read: Section = layers.section("one").unwrap();
        assert_eq!(read, Section { rate: 2.0, name: Some("two words".into()), size: 3 });
    }

    #[test]
    fn errors_name_file_key_found_and_expected() {
        assert_eq!(
            error("[one]\nsise = 3"),
            "mine.toml: unknown key `one.sise`; the nearest known key is `one.size`"
        );
        assert_eq!(error(""), "mine.toml: found no `one.size`, expected a value");
        assert_eq!(
            error("[one]\nsize = \"big\""),
            "mine.toml: `one.size`: found the text \"big\", expected an integer from 0"
        );
        assert_eq!(
            error("[one]\nsize = -1"),
            "mine.toml: `one.size`: found the integer -1, expected an integer from 0"
        );
        assert_eq!(
            error("[one]\nsize = 1\nrate = [1]"),
            "mine.toml: `one.rate`: found a list of 1, expected a number"
        );
    }

    /// A required key and a misspelled one, perhaps of another section: the latter is the cause.
    #[test]
    fn a_misspelled_key_is_named_before_a_missing_one() {
        let text = "[one]\nrate = 0.5\n# size = 3  # required\n[two]\n# path = \"p\"\n";
        let error = |user: &str| {
            let mut layers = Layers::new(text, Path::new("mine.toml"));
            layers.merge(user.parse().unwrap());
            layers.section::<Section>("one").unwrap_err().to_string()
        };
        let unknown = "mine.toml: unknown key `two.paht`; the nearest known key is `two.path`";
        assert_eq!(error("[two]\npaht = \"x\""), unknown);
        let missing = "mine.toml: found no `one.size`, expected a value";
        assert_eq!(error("[two]\npath = \"x\""), missing);
        // What is like nothing documented may be a key of which the defaults say nothing.
        assert_eq!(error("[two]\nzebra = 1\n[three]\nx = 1"), missing);
    }

    #[test]
    fn an_unknown_section_is_refused() {
        let error = layers("[onne]\nx = 1").check_sections(&["one"]).unwrap_err().to_string();
        assert_eq!(error, "mine.toml: unknown key `onne`; the nearest known key is `one`");
    }

    #[test]
    fn an_override_needs_a_key_and_a_value() {
        for text in ["train.steps", "=3", "train.=3", "one.rate.deep=1"] {
            assert!(layers("").set(text).is_err(), "{text}");
        }
    }
}
