//! What keys of other tools are called here.

/// The trainers, whose sections have their names.
const TRAINERS: [&str; 6] = ["sft", "reward", "dpo", "ppo", "grpo", "distill"];

/// Names of other tools, one line for each group that means the same.
const TABLE: &str = include_str!("foreign.txt");

/// What a name of another tool means here.
enum Meaning {
    /// Keys, of which the first that a trainer has is named; and what to know besides.
    Keys(Vec<&'static str>, &'static str),
    /// Nothing: what to know.
    Nothing(&'static str),
}

/// What a line says, with its names.
fn entry(line: &'static str) -> Option<(impl Iterator<Item = &'static str>, Meaning)> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    // Sentences may have either sign; names have none.
    let at = line.find([':', '='])?;
    let (names, said) = (&line[..at], line[at + 1..].trim_start());
    let meaning = if line[at..].starts_with('=') {
        let (keys, note) = said.split_once(" | ").unwrap_or((said, ""));
        Meaning::Keys(keys.split_whitespace().collect(), note)
    } else {
        Meaning::Nothing(said)
    };
    Some((names.split_whitespace(), meaning))
}

/// What a name of another tool means, in whatever case and with whatever hyphens it is written: keys first, which not
/// every trainer has.
fn meanings(key: &str) -> impl Iterator<Item = Meaning> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    TABLE
        .lines()
        .filter_map(entry)
        .filter_map(move |(mut names, meaning)| names.any(|name| name == key).then_some(meaning))
}

/// The sections, or trainers, in which `key` is one of another tool's: what to write instead.
pub(super) fn answer(command: &str, key: &str, known: &[String]) -> Option<String> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let key = key.as_str();
    if TRAINERS.contains(&key) {
        return Some(format!(
            "section [{key}] is read by `hearken {key}`, and this is `hearken {command}`"
        ));
    }
    meanings(key).find_map(|meaning| match meaning {
        Meaning::Keys(ours, note) => {
            let has = |path: &&str| known.iter().any(|known| is_path(known, path));
            let path = ours.into_iter().find(has)?;
            Some(format!("here it is `{path}`{note}"))
        }
        Meaning::Nothing(why) => Some(why.to_owned()),
    })
}

/// What other trainers call what `key` is in other tools.
pub(super) fn of_others(command: &str, key: &str) -> Option<String> {
    let path = meanings(key).find_map(|meaning| match meaning {
        Meaning::Keys(ours, _) => ours.first().copied(),
        Meaning::Nothing(_) => None,
    })?;
    let of = trainers_with(path.split('.').next().unwrap_or_default())?;
    Some(format!("`{path}` means that, which is a key of {of}, and this is `hearken {command}`"))
}

/// Whether a path is `ours`, perhaps of a stage.
fn is_path(known: &str, ours: &str) -> bool {
    known.strip_suffix(ours).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Where a key stands that is known, but not here.
pub(super) fn elsewhere(key: &str, known: &[String]) -> Option<String> {
    let name = |path: &String| path.rsplit_once('.').is_some_and(|(_, name)| name == key);
    let found: Vec<&str> =
        known.iter().filter(|path| name(path)).take(3).map(String::as_str).collect();
    (!found.is_empty()).then(|| format!("`{}` is known", found.join("`, `")))
}

/// What is to be said of a section that other trainers have.
pub(super) fn section(command: &str, key: &str) -> Option<String> {
    let of = trainers_with(key)?;
    Some(format!("section [{key}] is one of {of}, and this is `hearken {command}`"))
}

fn trainers_with(section: &str) -> Option<&'static str> {
    Some(match section {
        "kl" => "ppo and grpo",
        "rollout" | "score" => "distill, ppo and grpo",
        "teacher" => "distill",
        "online" | "judge" | "dpo" => "dpo",
        "ppo" => "ppo",
        "grpo" => "grpo",
        "samples" => "every trainer but reward",
        "quickstart" | "evaluation" => "rlhf",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_tools_are_answered_with_what_is_there() {
        let known = ["optimizer.lr", "lora.r", "kl.beta", "stage.kl.placement"].map(str::to_owned);
        for (key, expected) in [
            ("learning_rate", "here it is `optimizer.lr`"),
            ("Lora-Rank", "here it is `lora.r`"),
            ("use_kl_loss", "here it is `kl.placement`"),
            ("pref_beta", "here it is `kl.beta`"),
            ("rl", "the command says what is trained"),
            ("load_in_4bit", "`model.base` = \"int8\""),
            ("actor_rollout_ref", "sections [model]"),
            ("overwrite_output_dir", "goes on from the last checkpoint"),
            ("dpo", "section [dpo] is read by `hearken dpo`, and this is `hearken sft`"),
        ] {
            let found = answer("sft", key, &known).unwrap_or_default();
            assert!(found.contains(expected), "{key}: {found}");
        }
        assert_eq!(answer("sft", "colour", &known), None);
        assert_eq!(
            of_others("sft", "vf_coef").unwrap(),
            "`ppo.value_coef` means that, which is a key of ppo, and this is `hearken sft`"
        );
    }

    /// A name stands for keys once, so that one answer is given.
    #[test]
    fn a_name_has_one_answer() {
        let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entries = lines.map(|line| entry(line).unwrap_or_else(|| panic!("{line}")));
        let keys = entries.filter(|(_, meaning)| matches!(meaning, Meaning::Keys(..)));
        let names: Vec<_> = keys.flat_map(|(names, _)| names).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name}");
        }
    }
}
