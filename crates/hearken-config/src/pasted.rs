//! Keys of APIs that were pasted into a configuration: they are refused.

use toml::{Table, Value};

use super::error::Complaint;
use super::secret;

/// The complaint of the first value that looks like a key: a configuration is copied into the run
/// directory, where a key does not belong.
pub(super) fn first(table: &Table) -> Option<Complaint> {
    table.iter().find_map(|(key, value)| of_value(value).map(|found| found.within(key)))
}

fn of_value(value: &Value) -> Option<Complaint> {
    match value {
        Value::String(text) if secret::looks_secret(text) => Some(Complaint::unexpected(
            "",
            secret::text(text),
            "none in a configuration, which the run directory keeps: a key stays in the environment, \
             which programs see too, and `key_env` names its variable; the password of a PostgreSQL \
             server is what PGPASSWORD holds",
        )),
        Value::Array(values) => {
            let mut values = values.iter().enumerate();
            values.find_map(|(index, value)| {
                of_value(value).map(|found| found.within(&format!("[{index}]")))
            })
        }
        Value::Table(table) => first(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_a_list_is_found() {
        let table = "[[score]]\nargs = ['--key', 'sk-0123456789abcdef']".parse().unwrap();
        let found = first(&table).unwrap();
        assert_eq!(found.key(), "score[0].args[1]");
        assert!(!found.to_string().contains("0123456789abcdef"));
    }
}
