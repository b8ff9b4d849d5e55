//! The model card, `README.md` of a saved model: what it was made from, how, and how good it is.
//!
//! It holds no clock and no name of a machine, so that a run that was killed and went on has the same one. Its
//! head is what the Hugging Face Hub reads.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hearken_data::HubName;
use hearken_model::checkpoint::NoRoom;
use serde_json::{Map, Value};

use super::RunDir;
use super::inputs::{Fingerprint, Input, InputUse};
use crate::error::RunDirError;
use crate::metrics::TIME_FIELDS;

/// Fields that say where a record stands, and nothing about the model.
const PLACES: [&str; 3] = ["step", "epoch", "iteration"];

/// What the log says of the model as it is.
#[derive(Default)]
struct CardFigures {
    step: u64,
    /// The last evaluation.
    evaluation: Option<Map<String, Value>>,
    /// The last optimizer step that was written down.
    training: Option<Map<String, Value>>,
}

/// Writes the card of a model that a command made of others without training: what it was made of, each under
/// the argument that named it, and how. A card that is there stays.
///
/// # Errors
/// If a source cannot be read, or the card not be written.
pub fn write_card_of(
    folder: &Path,
    command: &str,
    sources: &[(&str, &Path)],
) -> Result<(), RunDirError> {
    let path = folder.join("README.md");
    if path.exists() {
        return Ok(());
    }
    let mut text = "---\n".to_owned();
    if let Some((_, base)) = sources.first() {
        let _ = writeln!(text, "base_model: {}", quoted(&base.display().to_string()));
    }
    let name: Vec<&str> = command.split(' ').take(2).collect();
    let _ = write!(
        text,
        "library_name: transformers\ntags:\n- hearken\n# license: yours to choose\n---\n\n# A model made by {}\n\n\
         Hearken {} made it with this command; nothing was trained:\n\n{}\n## Lineage\n\nSHA-256 digests of what was \
         read and of this model, as a run would note them of its own base.\n\n",
        code(&name.join(" ")),
        env!("CARGO_PKG_VERSION"),
        fenced("sh", command),
    );
    let digest = |source: &Path| -> Result<String, RunDirError> {
        let reading = if source.is_file() { InputUse::Template } else { InputUse::Model };
        let input = Input::new(String::new(), source.to_owned(), reading);
        Ok(input.fingerprint().map_err(RunDirError::io(source, "be read"))?.sha256)
    };
    for (key, source) in sources {
        let shown = code(&source.display().to_string());
        let _ = writeln!(text, "- {} {shown}: {}", code(key), code(&digest(source)?));
    }
    let _ = writeln!(text, "- this model: {}", code(&digest(folder)?));
    fs::write(&path, text).map_err(RunDirError::io(&path, "be written"))
}

impl RunDir {
    /// Writes the card of the model that is in `folder`.
    ///
    /// # Errors
    /// If the log or an input cannot be read, or the card not be written.
    pub fn write_card(&self, folder: &Path, no_room: Option<&NoRoom>) -> Result<(), RunDirError> {
        let path = folder.join("README.md");
        let card = self.card(folder, no_room)?;
        fs::write(&path, card).map_err(RunDirError::io(&path, "be written"))
    }

    fn card(&self, folder: &Path, no_room: Option<&NoRoom>) -> Result<String, RunDirError> {
        let measured = self.measured()?;
        let mut text = self.head(folder);
        let (trainer, step) = (self.trainer, measured.step);
        let _ = write!(
            text,
            "\n# A model of {}\n\nTrained by Hearken {} with this command, over {step} optimizer steps:\n\n",
            code(&format!("hearken {trainer}")),
            env!("CARGO_PKG_VERSION"),
        );
        text += &fenced("sh", &self.command);
        if let Some(no_room) = no_room {
            let _ = writeln!(text, "\nIts weights are float32: {no_room}.");
        }
        let evaluated = if self.is_of_control() {
            "In whole episodes with the likeliest actions"
        } else {
            "On held-out data"
        };
        text += &measured.section(evaluated);
        text += &self.lineage(folder)?;
        text += "\n## Configuration\n\nEvery key, as it was resolved; a file with this text is a configuration \
                 itself.\n\n";
        text += &fenced("toml", &self.config);
        text += "\n## License\n\nNone is given here: it is for those who publish the model to choose, as far as the \
                 base model and the data allow.\n";
        Ok(text)
    }

    /// What the Hub reads.
    fn head(&self, folder: &Path) -> String {
        let of = |key: &str| -> Vec<String> {
            let mut paths: Vec<String> = Vec::new();
            for input in self.inputs.iter().filter(|input| input.key.starts_with(key)) {
                let path = match HubName::of_path(&input.path).filter(|_| input.commit.is_some()) {
                    Some(name) => name.repository,
                    None => input.path.display().to_string(),
                };
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
            paths
        };
        let is_adapter = folder.join("adapter_config.json").exists();
        let mut text = "---\n".to_owned();
        // A folder is what it was here; the Hub wants a name of its own.
        for base in of("model.path") {
            let _ = writeln!(text, "base_model: {}", quoted(&base));
        }
        let data = [of("data."), of("rollout.replay"), of("imitation.demonstrations")].concat();
        if !data.is_empty() {
            text += "datasets:\n";
        }
        for path in data {
            let _ = writeln!(text, "- {}", quoted(&path));
        }
        if self.is_of_control() {
            text +=
                "library_name: hearken\npipeline_tag: reinforcement-learning\ntags:\n- hearken\n";
            text += "# license: yours to choose\n---\n";
            return text;
        }
        let library = if is_adapter { "peft" } else { "transformers" };
        let task = if self.trainer == "reward" { "text-classification" } else { "text-generation" };
        let _ = writeln!(text, "library_name: {library}\npipeline_tag: {task}");
        let _ = writeln!(text, "tags:\n- hearken\n- {}", self.trainer);
        text += "# license: yours to choose\n---\n";
        text
    }

    /// Whether the model is a policy of a control task, and none of language.
    fn is_of_control(&self) -> bool {
        self.trainer.starts_with("control")
    }

    fn measured(&self) -> Result<CardFigures, RunDirError> {
        let mut measured = CardFigures::default();
        for record in self.metrics.records()? {
            let Value::Object(record) = record? else { continue };
            measured.step = record.get("step").and_then(Value::as_u64).unwrap_or(measured.step);
            if record.contains_key("loss") {
                measured.training = Some(record);
            } else if record.keys().any(|key| key.starts_with("eval_")) {
                measured.evaluation = Some(record);
            } else if record.contains_key("environment_steps") {
                measured.training = Some(record);
            }
        }
        Ok(measured)
    }

    /// What the model is made of, by hash.
    fn lineage(&self, folder: &Path) -> Result<String, RunDirError> {
        let mut text = "\n## Lineage\n\nSHA-256 digests of what was read, and of this model as a next run would note \
                        it as its own base: of the names, lengths and contents of files. `weights` are config.json and \
                        the tensors, `model` is these with the tokenizer.\n\n"
            .to_owned();
        for Fingerprint { key, path, commit, part, sha256 } in &self.inputs {
            let mut path = code(&path.display().to_string());
            if let Some(commit) = commit {
                let _ = write!(path, " at the commit {}", code(commit));
            }
            let _ = writeln!(text, "- {} {path}, {part}: {}", code(key), code(sha256));
        }
        for reading in [InputUse::StartingWeights, InputUse::Model] {
            let input = Input::new(String::new(), folder.to_owned(), reading);
            let found = input.fingerprint().map_err(RunDirError::io(folder, "be read"))?;
            let _ = writeln!(text, "- this model, {}: {}", found.part, code(&found.sha256));
        }
        Ok(text)
    }
}

impl CardFigures {
    fn section(&self, evaluated: &str) -> String {
        let rows = |record: &Option<Map<String, Value>>| -> String {
            record.iter().flatten().filter_map(|(name, value)| row(name, value)).collect()
        };
        let step = |record: &Option<Map<String, Value>>| {
            record.as_ref().and_then(|record| record.get("step")?.as_u64()).unwrap_or(0)
        };
        let mut text = "\n## Metrics\n".to_owned();
        let parts = [(evaluated, &self.evaluation), ("In training", &self.training)];
        for (what, record) in parts {
            let rows = rows(record);
            if !rows.is_empty() {
                let _ = write!(
                    text,
                    "\n{what}, at step {}:\n\n| metric | value | 95 % interval | n |\n|---|---|---|---|\n{rows}",
                    step(record)
                );
            }
        }
        if self.evaluation.is_none() {
            text += "\nNothing was evaluated on held-out data.\n";
        }
        text
    }
}

/// A number, or an estimate with its interval; `None` of what is neither, or says nothing about the model.
fn row(name: &str, value: &Value) -> Option<String> {
    if PLACES.contains(&name) || TIME_FIELDS.contains(&name) {
        return None;
    }
    let name = code(name).replace('|', "\\|");
    if let Some(number) = value.as_f64() {
        return Some(format!("| {name} | {} | | |\n", shown(number)));
    }
    let of = |key: &str| value.get(key).and_then(Value::as_f64);
    let end = |key: &str| of(key).map_or_else(|| "unbounded".to_owned(), shown);
    let n = value.get("n").and_then(Value::as_u64).map_or_else(String::new, |n| n.to_string());
    let estimate = shown(of("value")?);
    Some(format!("| {name} | {estimate} | {} to {} | {n} |\n", end("low"), end("high")))
}

/// Four digits behind the point, or as many in all.
fn shown(number: f64) -> String {
    match number.abs() {
        size if size == 0.0 || number.fract() == 0.0 && size < 1e9 => format!("{number:.0}"),
        1e-3..1e6 => format!("{number:.4}"),
        _ => format!("{number:.3e}"),
    }
}

/// A text of YAML: JSON's are.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A text as code within a line, whatever is in it.
fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let fence = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A text as a block of code, whatever is in it.
fn fenced(language: &str, text: &str) -> String {
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    let text = text.trim_end_matches('\n');
    format!("{fence}{language}\n{text}\n{fence}\n")
}

/// The most backticks after one another.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_name_holds_stays_code_and_text() {
        assert_eq!(code("a_*b*"), "`a_*b*`");
        assert_eq!(code("a``b"), "```a``b```");
        assert_eq!(code("`a"), "`` `a ``");
        assert_eq!(code("a\n# b"), "`a # b`");
        assert_eq!(fenced("sh", "a\n```\nb\n"), "````sh\na\n```\nb\n````\n");
        assert_eq!(quoted("a: \"b\"\n#"), "\"a: \\\"b\\\"\\n#\"");
        assert!(row("scores/a|b", &json!(1.5)).unwrap().starts_with("| `scores/a\\|b` | 1.5000 |"));
    }

    #[test]
    fn estimates_have_their_interval_and_times_are_left_out() {
        let estimate = json!({"value": 0.75, "low": 0.5, "high": null, "n": 20, "method": "t"});
        let expected = "| `eval_accuracy` | 0.7500 | 0.5000 to unbounded | 20 |\n";
        assert_eq!(row("eval_accuracy", &estimate).unwrap(), expected);
        assert_eq!(
            row("learning_rate", &json!(1e-5)).unwrap(),
            "| `learning_rate` | 1.000e-5 | | |\n"
        );
        assert_eq!(row("tokens", &json!(800)).unwrap(), "| `tokens` | 800 | | |\n");
        for (name, value) in [("seconds", json!(1.0)), ("step", json!(3)), ("curve", json!([1]))] {
            assert_eq!(row(name, &value), None, "{name}");
        }
    }
}
