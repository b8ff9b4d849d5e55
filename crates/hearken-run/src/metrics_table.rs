//! The metrics of a run as a table: a line for each record, a column for each field of any of them.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use hearken_data::write_whole;
use serde_json::Value;

use crate::error::RunDirError;

/// Writes the table of the records that `records` gives, which are read twice, whole or not at all. Columns are
/// in the order in which fields first appear; a record has nothing under the fields of others.
///
/// # Errors
/// If a record cannot be read, or the system refuses; an older table is then still there.
pub(crate) fn write<R: Iterator<Item = Result<Value, RunDirError>>>(
    path: &Path,
    records: impl Fn() -> Result<R, RunDirError>,
) -> Result<(), RunDirError> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut columns: Vec<String> = Vec::new();
    for record in records()? {
        for (name, _) in leaves(&record?) {
            if !places.contains_key(&name) {
                places.insert(name.clone(), columns.len());
                columns.push(name);
            }
        }
    }
    let (mut rows, mut broken) = (records()?, None);
    let written = write_whole(path, |file| {
        let mut table = csv::Writer::from_writer(file);
        if !columns.is_empty() {
            table.write_record(&columns)?;
        }
        for record in rows.by_ref() {
            let record = record.map_err(|error| {
                broken = Some(error);
                io::Error::from(io::ErrorKind::InvalidData)
            })?;
            let mut cells = vec![String::new(); columns.len()];
            for (name, value) in leaves(&record) {
                cells[places[&name]] = cell(value);
            }
            table.write_record(&cells)?;
        }
        table.flush()
    });
    broken.map_or_else(|| written.map_err(RunDirError::io(path, "be written")), Err)
}

/// A number as `metrics.jsonl` has it; what is not a number there (`null`) is nothing here.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// What a record says, each value with its name: what is in an object within it is named `name/key`, but for
/// the value of an estimate, which has the name itself.
pub(crate) fn leaves(record: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    add_leaves("", record, &mut found);
    found
}

fn add_leaves<'r>(name: &str, value: &'r Value, found: &mut Vec<(String, &'r Value)>) {
    let within = |key: &str| match (name, key) {
        ("", key) => key.to_owned(),
        (name, "value") => name.to_owned(),
        (name, key) => format!("{name}/{key}"),
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| add_leaves(&within(key), value, found));
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                add_leaves(&within(&index.to_string()), value, found);
            }
        }
        value => found.push((name.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_of_a_record_has_a_name() {
        let record = json!({
            "step": 3, "loss": 0.5, "none": null,
            "eval_accuracy": {"value": 0.75, "low": 0.5, "n": 9, "method": "wilson"},
            "curve": [{"low": 0.0, "observed": {"value": 1.0}}],
        });
        let names: Vec<String> = leaves(&record).into_iter().map(|(name, _)| name).collect();
        let of_estimate =
            ["eval_accuracy", "eval_accuracy/low", "eval_accuracy/n", "eval_accuracy/method"];
        let steps = ["step", "loss", "none"];
        let expected = [&steps[..], &of_estimate, &["curve/0/low", "curve/0/observed"]].concat();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_table_has_the_columns_of_all_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let text = |records: &[Value]| {
            write(&path, || Ok(records.iter().cloned().map(Ok))).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        let records = [
            json!({"step": 0, "eval_loss": {"value": 0.1, "low": null, "method": "a, \"b\""}}),
            json!({"step": 1, "loss": 1e-7}),
            json!({"step": 1, "loss": 2, "later": true}),
        ];
        let expected = "step,eval_loss,eval_loss/low,eval_loss/method,loss,later\n\
                        0,0.1,,\"a, \"\"b\"\"\",,\n1,,,,1e-7,\n1,,,,2,true\n";
        assert_eq!(text(&records), expected);
        assert_eq!(text(&records[1..2]), "step,loss\n1,1e-7\n");
        assert_eq!(text(&[]), "");
    }
}
