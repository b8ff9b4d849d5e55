//! Defaults, the user's file and overrides, laid over one another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::error::{Complaint, ConfigError, KeyOrigin, KeyPlace};
use super::frozen::Frozen;
use super::keys::SchemaKeys;
use super::pasted;
use super::reader::Reader;
use super::secret;

/// A configuration while it is read: tables merged key by key, the later over the earlier, and where
/// each key of the user's stands.
#[derive(Clone, Debug)]
pub struct Layers {
    file: PathBuf,
    table: Table,
    origins: BTreeMap<String, KeyOrigin>,
    /// What was given on the command line.
    overrides: Vec<String>,
    /// The section of the file that this is, if it is one stage of several.
    stage: Option<String>,
    /// The command that runs several stages.
    program: &'static str,
}

impl Layers {
    /// The embedded defaults alone. Errors name `file`.
    ///
    /// # Panics
    /// If `defaults` is not TOML: it is part of the program.
    pub fn new(defaults: &str, file: &Path) -> Self {
        let table = defaults.parse().expect("embedded defaults are valid TOML");
        let (origins, overrides) = (BTreeMap::new(), Vec::new());
        Self { file: file.to_owned(), table, origins, overrides, stage: None, program: "rlhf" }
    }

    /// The defaults, with `file` over them and each `section.key=value` of `overrides` over that.
    ///
    /// # Errors
    /// If the file cannot be read or is not TOML, or an override has another form.
    pub fn read(defaults: &str, file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut layers = Self::new(defaults, file);
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        let not_toml = |error| not_toml(file, &text, &error);
        let spans = DeTable::parse(&text).map_err(not_toml)?;
        layers.merge(text.parse().map_err(not_toml)?);
        let mut lines = KeyLines { text: &text, origins: &mut layers.origins };
        lines.of_table("", spans.get_ref());
        for text in overrides {
            layers.set(text)?;
        }
        Ok(layers)
    }

    /// The same as the file of a command that runs stages, which is `rlhf` where nothing is said.
    #[must_use]
    pub fn of_program(self, program: &'static str) -> Self {
        Self { program, ..self }
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
        let bad = || ConfigError::BadOverride {
            text: if secret::looks_secret(text) { "(not shown)".into() } else { text.to_owned() },
        };
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let key = key.trim();
        let parts: Vec<&str> = key.split('.').collect();
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
        self.origins.insert(key.to_owned(), KeyOrigin::Override);
        self.overrides.push(text.to_owned());
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

    /// A key of a section, where it has one.
    pub fn value(&self, section: &str, key: &str) -> Option<&Value> {
        self.table.get(section)?.get(key)
    }

    /// Whether the user's file or command line has this key.
    pub fn is_given(&self, key: &str) -> bool {
        self.origins.contains_key(&self.in_file(key))
    }

    /// Writes a key that follows from others.
    pub fn derive(&mut self, section: &str, key: &str, value: impl Into<Value>) {
        let section = self.table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(key.to_owned(), value.into());
        }
    }

    /// `table` laid over `defaults`, as the stage `name` of this configuration: errors name its keys
    /// with their lines in this file.
    pub fn stage(&self, name: &str, mut defaults: Self, table: Table) -> Self {
        defaults.merge(table);
        defaults.origins.clone_from(&self.origins);
        defaults.overrides.clone_from(&self.overrides);
        Self { stage: Some(name.to_owned()), program: self.program, ..defaults }
    }

    /// Refuses what nothing reads, and keys of APIs.
    ///
    /// # Errors
    /// Names the first such key, and the nearest known one.
    pub fn check(&self, keys: &SchemaKeys) -> Result<(), ConfigError> {
        let found = pasted::first(&self.table).or_else(|| keys.first_unknown(&self.table));
        found.map_or(Ok(()), |complaint| Err(self.error(complaint)))
    }

    /// Reads all sections, and names the first key of a section that is missing. What is wrong with the
    /// keys that are there says more than what is not, so that something else stands for a missing one
    /// until all are read.
    ///
    /// # Errors
    /// Names the key whose value is not usable, or that is missing where nothing can stand for it.
    pub fn parse<C: DeserializeOwned>(
        &self,
        keys: &SchemaKeys,
    ) -> Result<(C, Option<Complaint>), ConfigError> {
        let mut table = self.table.clone();
        let mut missing: Vec<Complaint> = Vec::new();
        loop {
            let complaint = match C::deserialize(Reader::of(&table)) {
                Ok(config) => return Ok((config, missing.into_iter().next())),
                Err(complaint) => complaint.described(|key| keys.expected(key)),
            };
            let is_new = missing.iter().all(|earlier| earlier.key() != complaint.key());
            let is_missing = matches!(complaint, Complaint::Missing { .. });
            if !is_new || !is_missing || !stand_in(&mut table, complaint.key()) {
                let first = missing.into_iter().next().filter(|_| !is_new || is_missing);
                return Err(self.error(first.unwrap_or(complaint)));
            }
            missing.push(complaint);
        }
    }

    /// The error of a complaint: with the place of its key.
    pub fn error(&self, complaint: Complaint) -> ConfigError {
        let complaint = match &self.stage {
            Some(stage) => complaint.within(stage),
            None => complaint,
        };
        // A setting may be named with its value.
        let mut key = complaint.key().split(" = ").next().unwrap_or_default();
        let origin = loop {
            match (self.origins.get(key), key.rfind(['.', '['])) {
                (Some(origin), _) => break *origin,
                (None, Some(end)) => key = &key[..end],
                (None, None) => break KeyOrigin::Nowhere,
            }
        };
        ConfigError::Unusable { place: KeyPlace { file: self.file.clone(), origin }, complaint }
    }

    /// A key as the whole file names it.
    fn in_file(&self, key: &str) -> String {
        self.stage.as_ref().map_or_else(|| key.to_owned(), |stage| format!("{stage}.{key}"))
    }

    /// Ends the reading of the configuration of `trainer`.
    pub fn freeze(self, trainer: &'static str) -> Frozen {
        let command = self.command(trainer);
        Frozen::new(self.file, self.table, trainer, command)
    }

    /// The command line that gave all this: of a stage, that of the stages together.
    fn command(&self, trainer: &str) -> String {
        let program = if self.stage.is_some() { self.program } else { trainer };
        let mut words = vec!["hearken".to_owned(), program.to_owned()];
        words.push(shell_word(&self.file.display().to_string()));
        for text in &self.overrides {
            let key = text.split('=').next().unwrap_or_default();
            let is_secret = secret::looks_secret(text) || secret::names_secret(key);
            let shown = if is_secret { format!("{key}=(not shown)") } else { text.clone() };
            words.extend(["--set".to_owned(), shell_word(&shown)]);
        }
        words.join(" ")
    }
}

/// A text as one word of a shell.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Notes the line of every key.
struct KeyLines<'a> {
    text: &'a str,
    origins: &'a mut BTreeMap<String, KeyOrigin>,
}

impl KeyLines<'_> {
    fn of_table(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            let path =
                if section.is_empty() { name.to_string() } else { format!("{section}.{name}") };
            self.of_value(path, key.span().start, value.get_ref());
        }
    }

    fn of_value(&mut self, path: String, start: usize, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.of_table(&path, table),
            DeValue::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.of_value(path, value.span().start, value.get_ref());
                }
            }
            _ => {}
        }
        self.origins.insert(path, KeyOrigin::Line(line_of(self.text, start)));
    }
}

/// The line, counted from 1, that has a byte.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The error of a file that is not TOML, with the line in question unless it may hold a key.
fn not_toml(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let mut message = error.message().replace('\n', "; ");
    let line = error.span().map(|span| line_of(text, span.start));
    let quoted =
        line.and_then(|line| text.lines().nth(line - 1)).map(str::trim).unwrap_or_default();
    let key = quoted.split('=').next().unwrap_or_default().trim();
    if !quoted.is_empty() && !secret::looks_secret(quoted) && !secret::names_secret(key) {
        message = format!("{message}, in `{quoted}`");
    }
    let origin = line.map_or(KeyOrigin::Nowhere, KeyOrigin::Line);
    ConfigError::NotToml { place: KeyPlace { file: file.to_owned(), origin }, message }
}

/// Puts a text where a key of a section is missing; says whether there is such a section.
fn stand_in(table: &mut Table, key: &str) -> bool {
    let Some((section, name)) = key.split_once('.') else { return false };
    if name.contains(['.', '[']) {
        return false;
    }
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    let Value::Table(section) = section else { return false };
    section.insert(name.to_owned(), Value::String("missing".to_owned()));
    true
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

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::super::configuration::Configuration;
    use super::super::named::Named;
    use super::*;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Small {
        one: Section,
        two: Option<Other>,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Section {
        rate: f64,
        name: Option<String>,
        size: u64,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Other {
        /// A folder of models.
        path: String,
    }

    impl Configuration for Small {
        const COMMAND: &'static str = "small";
        const DEFAULTS: &'static str = "[one]\nrate = 0.5";

        fn named(&mut self) -> Vec<Named<'_>> {
            Vec::new()
        }

        fn settle(&mut self) -> Result<(), Complaint> {
            Ok(())
        }
    }

    /// Reads a file with this text and these overrides.
    fn read(text: &str, overrides: &[&str]) -> Result<Small, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let read = Small::load(&file, &overrides).map(|loaded| loaded.config);
        read.map_err(|error| error.to_string().replace(&file.display().to_string(), "mine.toml"))
    }

    fn error(text: &str) -> String {
        read(text, &[]).unwrap_err()
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let read = read("[one]\nsize = 3", &["one.name = two words", "one.rate=2"]).unwrap();
        assert_eq!(read.one, Section { rate: 2.0, name: Some("two words".into()), size: 3 });
        assert_eq!(read.two, None);
    }

    #[test]
    fn the_command_is_one_that_a_shell_takes_and_has_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, "[one]\nsize = 3").unwrap();
        let given =
            ["one.name=it's two", "one.name=sk-0123456789abcdefg", "one.name=x", "one.rate=1e-5"];
        let given = given.map(str::to_owned);
        let frozen = Small::load(&file, &given).unwrap().frozen;
        let command = frozen.command().replace(&file.display().to_string(), "mine.toml");
        assert_eq!(
            command,
            r"hearken small mine.toml --set 'one.name=it'\''s two' --set 'one.name=(not shown)' --set one.name=x --set one.rate=1e-5"
        );
        assert_eq!(frozen.trainer(), "small");
    }

    #[test]
    fn errors_name_file_line_key_found_and_expected() {
        assert_eq!(
            error("[one]\nsise = 3"),
            "mine.toml:2: unknown key `one.sise`; the nearest known key is `one.size`"
        );
        assert_eq!(error(""), "mine.toml: found no `one.size`, expected a value");
        assert_eq!(error("\n[one]"), "mine.toml:2: found no `one.size`, expected a value");
        assert_eq!(
            error("[one]\nsize = \"big\""),
            "mine.toml:2: `one.size`: found the text \"big\", expected an integer from 0"
        );
        assert_eq!(
            error("[one]\n\nsize = -1"),
            "mine.toml:3: `one.size`: found the integer -1, expected an integer from 0"
        );
        assert_eq!(
            error("one.size = 1\none.rate = [1]"),
            "mine.toml:2: `one.rate`: found a list of 1, expected a number"
        );
        assert_eq!(
            error("one.size = 1\n[two]"),
            "mine.toml:2: found no `two.path`, expected a folder of models"
        );
        assert_eq!(
            read("[one]", &["one.size=x"]).unwrap_err(),
            "mine.toml (--set): `one.size`: found the text \"x\", expected an integer from 0"
        );
    }

    #[test]
    fn a_file_that_is_not_toml_is_quoted_but_for_keys_of_apis() {
        let error_of = error("[one]\nsize = big");
        assert!(error_of.starts_with("mine.toml:2: not valid TOML: "), "{error_of}");
        assert!(error_of.ends_with("in `size = big`"), "{error_of}");
        for line in ["name = sk-0123456789abcdefg", "api_key = letmein9"] {
            let error = error(line);
            assert!(error.starts_with("mine.toml:1: not valid TOML: "), "{error}");
            assert!(!error.contains("0123456789") && !error.contains("letmein9"), "{error}");
        }
    }

    #[test]
    fn a_key_of_an_api_is_refused_and_not_shown() {
        let key = "sk-0123456789abcdefg";
        for (text, overrides) in [
            (format!("[one]\nname = '{key}'"), vec![]),
            (format!("[one]\nsize = '{key}'"), vec![]),
            (format!("[one]\nrates = ['{key}']"), vec![]),
            (format!("api_key = '{key}'"), vec![]),
            (format!("{key} = 1"), vec![]),
            (format!("[one]\n{key} = 1"), vec![]),
            (String::new(), vec![format!("one.name={key}")]),
            (String::new(), vec![format!("one..name={key}")]),
            (String::new(), vec![format!("one.rate.deep={key}")]),
        ] {
            let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
            let error = read(&text, &overrides).unwrap_err();
            assert!(!error.contains(key) && error.contains("not shown"), "{error}");
        }
    }

    /// A required key and a misspelled one, perhaps of another section: the latter is the cause.
    #[test]
    fn a_misspelled_key_is_named_before_a_missing_one() {
        let unknown = "mine.toml:2: unknown key `two.paht`; the nearest known key is `two.path`";
        assert_eq!(error("[two]\npaht = \"x\""), unknown);
    }

    #[test]
    fn an_unknown_section_is_refused() {
        let expected = "mine.toml:1: unknown key `onne`; the nearest known key is `one`";

        assert_eq!(error("[onne]\nx = 1"), expected);
    }

    #[test]
    fn an_override_needs_a_key_and_a_value() {
        for text in ["train.steps", "=3", "train.=3", "one.rate.deep=1"] {
            assert!(read("", &[text]).unwrap_err().starts_with("--set"), "{text}");
        }
    }
}
