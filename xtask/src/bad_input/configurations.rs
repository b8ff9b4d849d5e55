//! Configurations with one thing wrong.

use anyhow::{Context as _, Result};

use super::workshop::{TRAINERS, Workshop, configuration};
use super::{Case, Draws, arguments};

/// Values that no key takes.
const NEVER: [(&str, &str); 3] =
    [("a table", "{ x = 1 }"), ("a date", "1979-05-27"), ("a list of lists", "[[[1]]]")];

/// Keys of each trainer's commented defaults that are damaged, at random.
const KEYS_PER_TRAINER: usize = 26;

/// Keys that take a table.
const TABLES: [&str; 2] = ["columns", "args"];

pub(super) fn cases(workshop: &Workshop, draws: &mut Draws) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (trainer, data) in TRAINERS {
        let good = configuration(trainer, data);
        cases.extend(whole_files(trainer, &good));
        let defaults = workshop.good().join(format!("../../../configs/{trainer}.toml"));
        let defaults =
            std::fs::read_to_string(&defaults).with_context(|| defaults.display().to_string())?;
        let keys = scalar_keys(&defaults);
        for index in 0..KEYS_PER_TRAINER {
            let key = draws.choose(&keys);
            let case = match index % 2 {
                0 => misspelled(trainer, key, draws),
                _ => never_right(trainer, key, draws),
            };
            cases.push(case);
        }
    }
    Ok(cases)
}

/// `section.key` of every line `key = value`, comments aside.
fn scalar_keys(defaults: &str) -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in defaults.lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.split(']').next().unwrap_or_default().clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c == '_' || c.is_ascii_lowercase())
            && !TABLES.contains(&key)
        {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

fn case(trainer: &str, what: &str, arguments: Vec<String>, places: &[&str]) -> Case {
    let places = places.iter().map(|&place| place.to_owned()).collect();
    let what = format!("{trainer}: {what}");
    Case { kind: "configuration", what, files: Vec::new(), arguments, places }
}

fn misspelled(trainer: &str, key: &str, draws: &mut Draws) -> Case {
    let (section, name) = key.split_once('.').unwrap_or((key, ""));
    let mut letters: Vec<char> = name.chars().collect();
    let at = draws.below(letters.len());
    match draws.below(3) {
        0 => drop(letters.remove(at)),
        1 => letters.insert(at, 'q'),
        _ => letters[at] = 'q',
    }
    let wrong: String = letters.into_iter().collect();
    let wrong = format!("{section}.{}", if wrong.is_empty() { "q" } else { &wrong });
    let file = format!("{trainer}.toml");
    let setting = format!("{wrong}=1");
    let what = format!("the key {wrong}");
    case(trainer, &what, arguments(&[trainer, &file, "--set", &setting, "--fresh"]), &[&wrong])
}

fn never_right(trainer: &str, key: &str, draws: &mut Draws) -> Case {
    let (name, value) = *draws.choose(&NEVER);
    let file = format!("{trainer}.toml");
    let setting = format!("{key}={value}");
    let what = format!("{name} for {key}");
    case(trainer, &what, arguments(&[trainer, &file, "--set", &setting, "--fresh"]), &[key])
}

/// Damage to the file as a whole.
fn whole_files(trainer: &str, good: &str) -> Vec<Case> {
    let data_line = good.lines().find(|line| line.starts_with("train = ")).unwrap_or_default();
    let damaged: Vec<(&str, Vec<u8>, &str)> = vec![
        ("cut off in a section's name", b"[run".to_vec(), "bad.toml"),
        ("not UTF-8", [good.as_bytes(), b"\n# \xff\n"].concat(), "bad.toml"),
        ("a value is missing", good.replace("seed = 1", "seed =").into_bytes(), "bad.toml"),
        ("a key twice", good.replace("seed = 1", "seed = 1\nseed = 2").into_bytes(), "seed"),
        ("an unknown section", format!("{good}\n[zebra]\nx = 1\n").into_bytes(), "zebra"),
        ("a section that is a value", format!("run = 3\n{good}").into_bytes(), "run"),
        ("no run.dir", good.replace("dir = ", "# dir = ").into_bytes(), "run.dir"),
        ("no model.path", good.replace("path = ", "# path = ").into_bytes(), "model.path"),
        ("no data.train", good.replace(data_line, "").into_bytes(), "data.train"),
        ("no length", good.replace("steps = 2", "").into_bytes(), "train.steps"),
        ("a model that is not there", good.replace("\"model\"", "\"gone\"").into_bytes(), "gone"),
        ("data that is not there", good.replace(".jsonl", ".gone").into_bytes(), ".gone"),
        ("a folder as data", good.replace(data_line, "train = \"model\"").into_bytes(), "model"),
        (
            "a model as data",
            good.replace(data_line, "train = \"model/model.safetensors\"").into_bytes(),
            "model.safetensors",
        ),
        ("a negative rate", good.replace("lr = 1e-3", "lr = -1").into_bytes(), "optimizer.lr"),
        (
            "a rate that is no number",
            good.replace("lr = 1e-3", "lr = nan").into_bytes(),
            "optimizer.lr",
        ),
        ("no steps", good.replace("steps = 2", "steps = 0").into_bytes(), "train.steps"),
        ("a seed below 0", good.replace("seed = 1", "seed = -1").into_bytes(), "run.seed"),
        (
            "another tool's key",
            good.replace("lr = 1e-3", "learning_rate = 1e-3").into_bytes(),
            "learning_rate",
        ),
    ];
    damaged
        .into_iter()
        .map(|(what, bytes, place)| {
            let words = arguments(&[trainer, "bad.toml", "--fresh"]);
            let mut case = case(trainer, what, words, &[place]);
            case.files = vec![("bad.toml".to_owned(), bytes)];
            case
        })
        .collect()
}
