//! Which keys a configuration has, as its types say it: what is unknown, what a missing one should
//! hold, and the JSON schema.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use toml::Table;

use super::error::Complaint;
use super::foreign;

/// The keys of a configuration: the JSON schema of its type, without references.
#[derive(Clone, Debug)]
pub struct SchemaKeys {
    command: &'static str,
    schema: Value,
}

impl SchemaKeys {
    /// The keys of `C`, which `command` reads, but for those of `without`: `section.key` of a section
    /// that trainers share.
    pub fn of<C: JsonSchema>(command: &'static str, without: &[&str]) -> Self {
        let settings =
            SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<C>();
        let mut schema = Value::from(schema);
        for key in without {
            let (section, key) = key.split_once('.').expect("section.key");
            let section = schema["properties"][section]["properties"].as_object_mut();
            section.expect("a section with keys").shift_remove(key);
        }
        Self { command, schema }
    }

    /// What a key holds, in words; its documentation without the period.
    pub(super) fn expected(&self, key: &str) -> Option<String> {
        let mut at = vec![&self.schema];
        for part in key.split('.') {
            let name = part.split('[').next().unwrap_or(part);
            at = at.iter().filter_map(|schema| property(schema, name)).collect();
            if part.ends_with(']') {
                at = at.iter().filter_map(|schema| schema.get("items")).collect();
            }
        }
        let text = at.first()?.get("description")?.as_str()?;
        let text = text.split("\n\n").next()?.replace('\n', " ");
        let text = text.split_once(": ").map_or(text.as_str(), |(text, _)| text);
        let text = text.trim_end_matches('.');
        let mut chars = text.chars();
        let first = chars.next()?.to_lowercase();
        Some(first.chain(chars).collect())
    }

    /// The first key that nothing reads.
    pub(super) fn first_unknown(&self, table: &Table) -> Option<Complaint> {
        self.unknown_in(&self.schema, table, "")
    }

    fn unknown_in(&self, schema: &Value, table: &Table, section: &str) -> Option<Complaint> {
        let kind = table.get("kind").and_then(toml::Value::as_str);
        let known = properties(schema, kind);
        let is_known_kind = kind.is_none() || known.iter().any(|(name, _)| *name == "kind");
        if known.is_empty() || !is_known_kind {
            // A table of free names, or one that has no kind or an unknown one: its reader says so.
            return None;
        }
        table.iter().find_map(|(key, value)| {
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            let Some((_, schema)) = known.iter().find(|(name, _)| name == key) else {
                return Some(match kind.filter(|_| property(schema, key).is_some()) {
                    Some(kind) => {
                        let hint = format!("kind = {kind:?} has no such key");
                        Complaint::Unknown { key: path, hint }
                    }
                    None => self.unknown(path, &known),
                });
            };
            match value {
                toml::Value::Table(table) => self.unknown_in(schema, table, &path),
                toml::Value::Array(values) => {
                    let items = non_null(schema).get("items")?;
                    values.iter().enumerate().find_map(|(index, value)| {
                        self.unknown_in(items, value.as_table()?, &format!("{path}[{index}]"))
                    })
                }
                _ => None,
            }
        })
    }

    /// The complaint of an unknown key beside those that are known there.
    fn unknown(&self, path: String, known: &[(&str, &Value)]) -> Complaint {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", &path));
        let names = || known.iter().map(|(name, _)| *name);
        let at = |name: &str| {
            if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
        };
        let all = self.paths();
        let hint = foreign::answer(self.command, key, &all)
            .or_else(|| foreign::elsewhere(key, &all))
            .or_else(|| {
                nearest(key, names()).map(|name| format!("the nearest known key is `{}`", at(name)))
            })
            .or_else(|| foreign::section(self.command, key))
            .or_else(|| foreign::of_others(self.command, key));
        Complaint::Unknown { hint: hint.unwrap_or_default(), key: path }
    }

    /// Every key of every section: `section.key`, each once.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        paths_of(&self.schema, "", &mut paths);
        paths.dedup();
        paths
    }

    /// The JSON schema, with the defaults in it.
    pub fn to_json_schema(&self, defaults: &Table) -> Value {
        let mut schema = self.schema.clone();
        add_defaults(&mut schema, defaults);
        let title = format!("The configuration of hearken {}", self.command);
        schema.as_object_mut().expect("an object").insert("title".to_owned(), json!(title));
        schema
    }
}

/// The schema of an option is that of its value.
fn non_null(schema: &Value) -> &Value {
    let of_value =
        |list: &'_ Value| list.as_array().map(|list| list.iter().position(|s| s["type"] != "null"));
    match schema.get("anyOf").filter(|_| schema.get("properties").is_none()) {
        Some(list) => of_value(list).flatten().map_or(schema, |at| &list[at]),
        None => schema,
    }
}

/// The names and schemas of a section's keys; of the variants of an enum, those of `kind`, or of all.
fn properties<'a>(schema: &'a Value, kind: Option<&str>) -> Vec<(&'a str, &'a Value)> {
    let schema = non_null(schema);
    let own = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut found: Vec<_> = own.map(|(name, schema)| (name.as_str(), schema)).collect();
    for list in ["oneOf", "anyOf", "allOf"] {
        for variant in schema.get(list).and_then(Value::as_array).into_iter().flatten() {
            let is_meant = |of: &Value| kind.is_none_or(|kind| of.is_null() || of == kind);
            if is_meant(&variant["properties"]["kind"]["const"]) {
                found.extend(properties(variant, kind));
            }
        }
    }
    found
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    properties(schema, None).into_iter().find(|(found, _)| *found == name).map(|(_, schema)| schema)
}

fn paths_of(schema: &Value, section: &str, paths: &mut Vec<String>) {
    let schema = non_null(schema);
    let schema =
        schema.get("items").filter(|items| !properties(items, None).is_empty()).unwrap_or(schema);
    let keys = properties(schema, None);
    if keys.is_empty() && !section.is_empty() && !paths.iter().any(|path| path == section) {
        paths.push(section.to_owned());
    }
    for (name, schema) in keys {
        let path = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        paths_of(schema, &path, paths);
    }
}

/// What has a default need not be given.
fn add_defaults(schema: &mut Value, defaults: &Table) {
    let Some(schema) = schema.as_object_mut() else { return };
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (_, property) in
        properties.into_iter().flatten().filter(|(key, _)| !defaults.contains_key(*key))
    {
        property.as_object_mut().map(|property| property.shift_remove("default"));
    }
    for (key, default) in defaults {
        let Some(property) = schema.get_mut("properties").and_then(|all| all.get_mut(key)) else {
            continue;
        };
        match default {
            toml::Value::Table(defaults) if !defaults.is_empty() => {
                add_defaults(property, defaults);
                if property.get("required").and_then(Value::as_array).is_some_and(|r| !r.is_empty())
                {
                    continue;
                }
            }
            default => {
                let default = serde_json::to_value(default).unwrap_or(Value::Null);
                property
                    .as_object_mut()
                    .map(|property: &mut Map<_, _>| property.insert("default".to_owned(), default));
            }
        }
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.retain(|name| name != key);
        }
    }
}

/// The candidate with the fewest edits to `key`, if they are few enough to be a misspelling.
pub(super) fn nearest<'a>(
    key: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let measured = candidates.into_iter().map(|known| (strsim::levenshtein(key, known), known));
    let (distance, known) = measured.min_by_key(|(distance, _)| *distance)?;
    let lengths = key.chars().count().max(known.chars().count());
    (distance * 2 <= lengths).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_finds_its_key_and_nonsense_finds_none() {
        let known = ["batch_size", "steps", "epochs"];
        assert_eq!(nearest("bach_size", known), Some("batch_size"));
        assert_eq!(nearest("step", known), Some("steps"));
        assert_eq!(nearest("zzzzzz", known), None);
    }
}
