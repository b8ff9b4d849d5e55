//! Files from text, and imports of them.

use std::path::PathBuf;

use hearken_data::feedback::formats::{
    ExportOptions, ExportReport, Format, FormatError, Import, ImportOptions, export, import,
};
use hearken_data::feedback::{Item, Judgement};
use tempfile::TempDir;

/// A folder with one file.
pub(crate) struct File {
    folder: TempDir,
    pub(crate) path: PathBuf,
}

impl File {
    pub(crate) fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Self { folder, path }
    }

    pub(crate) fn beside(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn import(&self) -> Result<Import, FormatError> {
        import(&[&self.path], None, &ImportOptions::default())
    }
}

/// Imports a file of this text, whose format it tells itself.
pub(crate) fn read(name: &str, content: impl AsRef<[u8]>) -> Import {
    File::new(name, content).import().unwrap_or_else(|error| panic!("{error}"))
}

/// The error of such an import, without the folder.
pub(crate) fn error(name: &str, content: impl AsRef<[u8]>) -> String {
    let file = File::new(name, content);
    let error = file.import().unwrap_err().to_string();
    error.replace(&format!("{}/", file.folder.path().display()), "")
}

/// Exports to memory.
pub(crate) fn write(
    items: &[Item],
    judgements: &[Judgement],
    format: Format,
    options: ExportOptions,
) -> (Vec<u8>, ExportReport) {
    let mut bytes = Vec::new();
    let report = export(items, judgements, format, &options, &mut bytes).unwrap();
    (bytes, report)
}

/// Counts by their names.
pub(crate) fn counts(counts: &[(String, usize)]) -> Vec<(&str, usize)> {
    counts.iter().map(|(name, count)| (name.as_str(), *count)).collect()
}
