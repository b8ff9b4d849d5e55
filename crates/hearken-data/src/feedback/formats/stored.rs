//! Judgements read as the records that trainers take.

use std::collections::BTreeMap;
use std::path::Path;

use super::Format;
use super::error::FormatError;
use super::export::{ExportOptions, NeutralSteps, export};
use super::import::{Import, ImportOptions, import};
use crate::bad_record::BadRecord;
use crate::feedback::{Item, Judgement};
use crate::kind::RecordKind;
use crate::options::ReadOptions;
use crate::read::Records;
use crate::report::ReadError;
use crate::row::Record;
use crate::source::Source;

/// Judgements as records of `T`: those that a file has to which the judgements were exported in
/// TRL's format for such records. `place` names them in errors, with the line in that file.
///
/// The names of columns are TRL's, whatever the options map.
///
/// # Errors
/// If no records of `T` come of judgements.
pub fn records_of<T: Record>(
    place: &Path,
    items: &[Item],
    judgements: &[Judgement],
    options: &ReadOptions,
) -> Result<Records<T>, ReadError> {
    let Some(kind) = T::FROM_JUDGEMENTS else {
        return Err(ReadError::Foreign {
            path: place.into(),
            found: "a store of judgements, of which such records are not made",
            advice: String::new(),
        });
    };
    let mut lines = Vec::new();
    let all = ExportOptions { neutral_steps: NeutralSteps::Keep, ..ExportOptions::default() };
    let export = export(items, judgements, format(kind), &all, &mut lines);
    let export = export.map_err(|error| read_error(place, error))?;
    let options = ReadOptions { columns: BTreeMap::new(), ..options.clone() };
    Ok(Records::of_lines(place, lines, options).leaving_out(export.dropped))
}

/// TRL's format for records that come of judgements.
fn format(kind: RecordKind) -> Format {
    match kind {
        RecordKind::Preferences => Format::TrlPreference,
        RecordKind::UnpairedPreferences => Format::TrlUnpaired,
        RecordKind::Demonstrations => Format::TrlDemonstrations,
        RecordKind::JudgedSteps => Format::TrlStepwise,
        RecordKind::Prompts | RecordKind::RecordedRollouts => Format::TrlPrompt,
    }
}

/// The items and judgements of a file in such a format.
///
/// # Errors
/// If the file cannot be read, a line is bad, or a judgement is about an item that is not there.
pub fn judgements_in(
    path: &Path,
    format: Format,
) -> Result<(Vec<Item>, Vec<Judgement>), ReadError> {
    let read = import(&[path], Some(format), &ImportOptions::default());
    let Import { items, judgements, report, .. } = read.map_err(|error| read_error(path, error))?;
    if 0 < report.without_item {
        let what = format!(
            "found {} judgements about items that are not in the file; expected those items too",
            report.without_item
        );
        return Err(bad(path, what));
    }
    Ok((items, judgements))
}

fn read_error(path: &Path, error: FormatError) -> ReadError {
    match error {
        FormatError::Read(error) => error,
        error => bad(path, error.to_string()),
    }
}

fn bad(path: &Path, what: String) -> ReadError {
    let at = Source { path: path.into(), line: 0 };
    ReadError::Bad { at, reason: BadRecord::Unfit { what } }
}
