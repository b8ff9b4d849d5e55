//! Records with one thing wrong.

use serde_json::{Value, json};

use super::{Case, Draws, arguments};

/// A kind of records: a command that reads them, and a good one.
struct Form {
    name: &'static str,
    /// A form's record with every column that it must have.
    good: Value,
    commands: &'static [&'static str],
}

const LINES: usize = 4;

pub(super) fn cases(draws: &mut Draws) -> Vec<Case> {
    let message = |role: &str, text: &str| json!({"role": role, "content": text});
    let forms = [
        Form {
            name: "prompt and completion",
            good: json!({"prompt": "one and two", "completion": " are three"}),
            commands: &["sft"],
        },
        Form {
            name: "token ids",
            good: json!({"prompt_ids": [5, 6], "completion_ids": [7, 8]}),
            commands: &["sft"],
        },
        Form {
            name: "messages",
            good: json!({"messages": [message("user", "one and two"), message("assistant", "three")]}),
            commands: &["sft"],
        },
        Form {
            name: "pairs",
            good: json!({"prompt": "one and two", "chosen": " are three", "rejected": " are four"}),
            commands: &["reward", "dpo"],
        },
        Form {
            name: "pairs of token ids",
            good: json!({"prompt_ids": [5, 6], "chosen_ids": [7, 8], "rejected_ids": [9, 8]}),
            commands: &["reward", "dpo"],
        },
        Form {
            name: "prompts",
            good: json!({"prompt": "one and two"}),
            commands: &["ppo", "grpo"],
        },
        Form { name: "sequences", good: json!({"input_ids": [5, 6, 7]}), commands: &["logprobs"] },
        Form {
            name: "prompts to complete",
            good: json!({"prompt": "one"}),
            commands: &["generate"],
        },
    ];
    let mut cases = Vec::new();
    for form in &forms {
        for (what, bytes) in damaged(&form.good) {
            for &command in form.commands {
                cases.push(case(form, command, &what, &bytes, draws));
            }
        }
    }
    cases
}

/// What is wrong, and the line.
fn damaged(good: &Value) -> Vec<(String, Vec<u8>)> {
    let text = good.to_string();
    let mut lines: Vec<(String, Vec<u8>)> = vec![
        ("cut off".into(), text.as_bytes()[..text.len() - 1].to_vec()),
        ("cut off in the middle".into(), text.as_bytes()[..text.len() / 2].to_vec()),
        ("two objects on a line".into(), format!("{text} {text}").into_bytes()),
        ("a number".into(), b"3".to_vec()),
        ("a list".into(), b"[1, 2]".to_vec()),
        ("no column".into(), b"{}".to_vec()),
        (
            "a byte that is not UTF-8".into(),
            [&text.as_bytes()[..4], b"\xff", &text.as_bytes()[4..]].concat(),
        ),
        ("Python's quotation marks".into(), text.replace('"', "'").into_bytes()),
    ];
    for column in good.as_object().into_iter().flat_map(|object| object.keys()) {
        let mut with = |what: &str, value: &str| {
            let mut changed = good.clone();
            changed[column] = json!("PLACE");
            let line = changed.to_string().replace("\"PLACE\"", value);
            lines.push((format!("`{column}`: {what}"), line.into_bytes()));
        };
        with("a number", "3");
        with("an object", "{\"x\": 1}");
        with("true", "true");
        // Of a pair without a prompt both texts are whole sequences, which is a form of its own.
        if !column.starts_with("prompt") || good.get("chosen").or(good.get("chosen_ids")).is_none()
        {
            with("null", "null");
        }
        with("an empty list", "[]");
        with("a list of lists", "[[1], [2]]");
        with("not a number", "NaN");
        if good[column].is_string() {
            with("half a surrogate pair", "\"half \\ud83d of it\"");
        } else {
            with("text", "\"five\"");
            with("a negative number", "[5, -1]");
            with("a fraction", "[5, 6.5]");
            with("a token beyond the vocabulary", "[5, 4000000]");
        }
    }
    lines
}

fn case(form: &Form, command: &str, what: &str, bytes: &[u8], draws: &mut Draws) -> Case {
    let good = format!("{}\n", form.good);
    let at = draws.below(LINES);
    let mut file = Vec::new();
    for line in 0..LINES {
        if line == at {
            file.extend_from_slice(bytes);
            file.push(b'\n');
        } else {
            file.extend_from_slice(good.as_bytes());
        }
    }
    let words = match command {
        "generate" => arguments(&[
            "generate",
            "--model",
            "model",
            "--input",
            "bad.jsonl",
            "--output",
            "out.jsonl",
            "--max-new-tokens",
            "2",
        ]),
        "logprobs" => arguments(&[
            "logprobs",
            "--model",
            "model",
            "--input",
            "bad.jsonl",
            "--output",
            "out.jsonl",
        ]),
        trainer => {
            let file = format!("{trainer}.toml");
            arguments(&[trainer, &file, "--set", "data.train=bad.jsonl", "--fresh"])
        }
    };
    Case {
        kind: "record",
        what: format!("{command}, {}: {what}", form.name),
        files: vec![("bad.jsonl".to_owned(), file)],
        arguments: words,
        places: vec![format!("bad.jsonl:{}", at + 1), format!("bad.jsonl, line {}", at + 1)],
    }
}
