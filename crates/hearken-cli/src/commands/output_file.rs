//! The file that results go to.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// What stands for standard input, or output.
pub(super) const STANDARD: &str = "-";

/// Refuses, before minutes of work, a file that could not be written afterwards, and one that would
/// overwrite an input: the same file, also through a link, or a file of a folder that is read.
pub(super) fn check_output(path: &Path, inputs: &[&Path]) -> Result<()> {
    if path == Path::new(STANDARD) {
        return Ok(());
    }
    let shown = path.display();
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            bail!("{shown}: there is no folder {}", folder.display())
        }
        _ => {}
    }
    if path.is_dir() {
        bail!("{shown}: is a folder, expected the name of a file");
    }
    match inputs.iter().find(|input| overwrites(path, input)) {
        Some(input) if input.is_dir() => {
            bail!("{shown}: is a file of {}, which is read; expected another file", input.display())
        }
        Some(input) => {
            bail!("{shown}: is {}, which is read; expected another file", input.display())
        }
        None => Ok(()),
    }
}

/// [`check_output`] for several files, which must differ from one another too.
pub(super) fn check_outputs(paths: &[&Path], inputs: &[&Path]) -> Result<()> {
    for (index, path) in paths.iter().enumerate() {
        check_output(path, inputs)?;
        if paths[..index].iter().any(|other| other == path || is_same(path, other)) {
            bail!("{}: two results go there; expected a file for each", path.display());
        }
    }
    Ok(())
}

fn overwrites(output: &Path, input: &Path) -> bool {
    if !input.is_dir() {
        return is_same(output, input);
    }
    let folder = fs::canonicalize(output).ok().and_then(|whole| whole.parent().map(Path::to_owned));
    folder.is_some() && folder == fs::canonicalize(input).ok()
}

/// Whether two names are those of one file.
fn is_same(a: &Path, b: &Path) -> bool {
    let (Ok(whole_a), Ok(whole_b)) = (fs::canonicalize(a), fs::canonicalize(b)) else {
        return false;
    };
    whole_a == whole_b || has_same_content(a, b)
}

/// Whether the system keeps one content for both: hard links.
#[cfg(unix)]
fn has_same_content(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    place(a).is_some_and(|own| place(b) == Some(own))
}

#[cfg(not(unix))]
fn has_same_content(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_is_an_input_is_refused_under_any_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let model = at("model");
        fs::create_dir(&model).unwrap();
        fs::write(at("in.jsonl"), "{}").unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        std::os::unix::fs::symlink(at("in.jsonl"), at("link.jsonl")).unwrap();
        fs::hard_link(at("in.jsonl"), at("hard.jsonl")).unwrap();
        std::os::unix::fs::symlink(&model, at("other")).unwrap();
        let input = at("in.jsonl");
        let check = |output: &Path| check_output(output, &[&input, &model]);
        for same in ["in.jsonl", "link.jsonl", "hard.jsonl", "model/../in.jsonl"] {
            let error = check(&at(same)).unwrap_err().to_string();
            assert!(error.contains("in.jsonl, which is read; expected another file"), "{error}");
        }
        for inside in ["model/config.json", "other/config.json"] {
            assert!(check(&at(inside)).unwrap_err().to_string().contains("is a file of"));
        }
        assert!(check(&at("model")).unwrap_err().to_string().contains("is a folder"));
        assert!(check(&at("no/out")).unwrap_err().to_string().contains("there is no folder"));
        for fine in ["out.jsonl", "model/new.jsonl", STANDARD] {
            check(&at(fine)).unwrap();
        }
        let twice = check_outputs(&[&at("a"), &at("b"), &at("a")], &[]).unwrap_err().to_string();
        assert!(twice.ends_with("a: two results go there; expected a file for each"), "{twice}");
    }
}
