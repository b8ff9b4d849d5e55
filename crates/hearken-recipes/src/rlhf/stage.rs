//! Whether a stage must run, and what it ran on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearken_report::outcome::StageSummary;
use hearken_run::error::TrainError;
use hearken_run::run_dir::inputs::hash_path;
use hearken_run::run_dir::{RunDirError, STAGE_FILE, Start, write_atomically};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a stage's folder says about the stage.
#[derive(Debug, Serialize, Deserialize)]
struct Stamp {
    /// Of configuration and inputs.
    fingerprint: String,
    /// What the stage cost and bought, once it is done.
    summary: Option<StageSummary>,
}

/// The stamp of a stage that is about to begin: it counts once the run has moved that of what lies there
/// aside.
const NEXT_FILE: &str = "stage.next.json";

/// What is to be done about a stage.
#[derive(Debug)]
pub(crate) enum Todo {
    /// Its output is there, made from the same inputs.
    Skip(StageSummary),
    /// It runs: from its last checkpoint if that was made from the same inputs, else anew.
    Run(Start),
}

/// A stage's folder with the fingerprint of what goes into it.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: PathBuf,
    fingerprint: String,
    /// What must exist for the stage to count as done.
    output: PathBuf,
}

impl Stage {
    /// `inputs` are files and folders whose contents matter; those that are missing count as such.
    pub(crate) fn new(
        folder: PathBuf,
        output: &str,
        config: &str,
        inputs: &[PathBuf],
    ) -> Result<Self, TrainError> {
        let mut hash = Sha256::new();
        hash.update(config.as_bytes());
        for path in inputs {
            hash_path(path, &mut hash).map_err(RunDirError::io(path, "be read"))?;
        }
        let fingerprint = hearken_data::hexadecimal(&hash.finalize());
        Ok(Self { output: folder.join(output), folder, fingerprint })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Decides, and notes what the stage is about to run on.
    pub(crate) fn todo(&self, start: Start) -> Result<Todo, TrainError> {
        let todo = self.decide(start)?;
        if matches!(todo, Todo::Run(Start::Fresh)) {
            // Beside the stamp of what lies there, which is the run's own to move aside.
            self.write(NEXT_FILE, None)?;
        }
        Ok(todo)
    }

    /// Decides.
    pub(crate) fn decide(&self, start: Start) -> Result<Todo, TrainError> {
        let found = self.read()?;
        let same = found.as_ref().is_some_and(|stamp| stamp.fingerprint == self.fingerprint);
        let is_done = start == Start::Resume && same && self.output.exists();
        if is_done && let Some(summary) = found.and_then(|stamp| stamp.summary) {
            return Ok(Todo::Skip(summary));
        }
        let goes_on = start == Start::Resume && same;
        Ok(Todo::Run(if goes_on { Start::Resume } else { Start::Fresh }))
    }

    /// Notes that the stage is done.
    pub(crate) fn done(&self, summary: &StageSummary) -> Result<(), TrainError> {
        self.write(STAGE_FILE, Some(summary.clone()))?;
        let next = self.folder.join(NEXT_FILE);
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RunDirError::io(&next, "be removed")(error).into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the stage's output, or one of `more`, is there and no stage has made it.
    pub(crate) fn is_foreign(&self, more: &[PathBuf]) -> Result<bool, TrainError> {
        let is_there = self.output.exists() || more.iter().any(|path| path.exists());
        Ok(is_there && self.read()?.is_none())
    }

    /// What the folder's content was made from: the stamp of a stage that is done or was begun, or else of
    /// the one that was about to take its place. A stamp that does not parse says nothing: the stage runs
    /// anew.
    fn read(&self) -> Result<Option<Stamp>, TrainError> {
        for name in [STAGE_FILE, NEXT_FILE] {
            let path = self.folder.join(name);
            match fs::read_to_string(&path) {
                Ok(text) => return Ok(serde_json::from_str(&text).ok()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RunDirError::io(&path, "be read")(error).into()),
            }
        }
        Ok(None)
    }

    fn write(&self, name: &str, summary: Option<StageSummary>) -> Result<(), TrainError> {
        let stamp = Stamp { fingerprint: self.fingerprint.clone(), summary };
        let text = serde_json::to_vec_pretty(&stamp).expect("a stamp is a plain struct");
        let folder = &self.folder;
        fs::create_dir_all(folder).map_err(RunDirError::io(folder, "be created"))?;
        Ok(write_atomically(&folder.join(name), &text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> StageSummary {
        StageSummary {
            name: "sft".to_owned(),
            tokens: 1,
            flops: 2.0,
            seconds: 3.0,
            peak_memory_bytes: None,
            bought: Vec::new(),
        }
    }

    fn stage(root: &Path, config: &str) -> Stage {
        let inputs = [root.join("data.jsonl"), root.join("model"), root.join("absent")];
        Stage::new(root.join("sft"), "final", config, &inputs).unwrap()
    }

    #[test]
    fn a_stage_is_skipped_only_if_nothing_that_goes_into_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("data.jsonl"), "1").unwrap();
        fs::create_dir(root.join("model")).unwrap();
        fs::write(root.join("model/weights"), "1").unwrap();
        let todo = |config: &str| stage(root, config).todo(Start::Resume).unwrap();

        assert!(matches!(todo("a"), Todo::Run(Start::Fresh)));
        assert!(matches!(todo("a"), Todo::Run(Start::Resume)), "begun and not done");
        stage(root, "a").done(&summary()).unwrap();
        assert!(matches!(todo("a"), Todo::Run(Start::Resume)), "there is no output");

        stage(root, "a").done(&summary()).unwrap();
        fs::create_dir(root.join("sft/final")).unwrap();
        assert!(matches!(todo("a"), Todo::Skip(found) if found == summary()));
        fs::write(root.join("model/weights"), "2").unwrap();
        assert!(matches!(todo("a"), Todo::Run(Start::Fresh)), "an input has changed");
        stage(root, "a").done(&summary()).unwrap();
        assert!(matches!(todo("b"), Todo::Run(Start::Fresh)), "the configuration has changed");
    }

    #[test]
    fn a_stage_that_is_killed_at_its_start_takes_nothing_over_from_other_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        stage(root, "a").todo(Start::Resume).unwrap();
        fs::create_dir_all(root.join("sft/final")).unwrap();
        stage(root, "a").done(&summary()).unwrap();
        let todo = |config: &str| stage(root, config).todo(Start::Resume).unwrap();

        assert!(matches!(todo("b"), Todo::Run(Start::Fresh)));
        // Here the process ends, before the run of "b" has moved aside what is there.
        assert!(matches!(todo("b"), Todo::Run(Start::Fresh)));
        assert!(matches!(todo("a"), Todo::Skip(_)), "nothing of it is lost");
        // Here it ends when the run has.
        fs::remove_file(root.join("sft").join(STAGE_FILE)).unwrap();
        assert!(matches!(todo("b"), Todo::Run(Start::Resume)));
        assert!(matches!(todo("a"), Todo::Run(Start::Fresh)));
    }

    #[test]
    fn a_fresh_start_skips_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stage = stage(folder.path(), "a");
        fs::create_dir_all(folder.path().join("sft/final")).unwrap();
        stage.done(&summary()).unwrap();
        assert!(matches!(stage.todo(Start::Fresh).unwrap(), Todo::Run(Start::Fresh)));
    }
}
