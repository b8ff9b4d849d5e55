//! Importing: rows become items and judgements.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::detect::detect;
use super::error::FormatError;
use super::{Format, readers};
use crate::bad_record::BadRecord;
use crate::content::Message;
use crate::feedback::{Item, Judgement, Verdict};
use crate::hexadecimal::hexadecimal;
use crate::options::{OnBadRecord, ReadOptions};
use crate::report::{ReadError, ReadReport};
use crate::row::Row;
use crate::rows::{RawColumns, RawRow, Rows};
use crate::source::Source;

/// What a row takes at least, in bytes.
const ROW_BYTES: usize = 512;
/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// What becomes of judgements whose file does not say who judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unnamed {
    /// They are kept, under the name that [`ImportOptions::annotator`] or the format gives.
    #[default]
    Keep,
    /// They are left out and counted: people are to judge the items.
    LeaveOut,
}

/// How files are imported.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// What happens at a row that is not usable.
    pub on_bad_record: OnBadRecord,
    /// Who judged, where the format does not say; else the name of the format.
    pub annotator: Option<String>,
    /// What becomes of judgements where the format does not say who judged.
    pub unnamed: Unnamed,
    /// Whether judgements are left out, and counted: the items are to be judged anew.
    pub items_only: bool,
    /// How many annotators are to judge each item.
    pub overlap: Option<u32>,
    /// Whether the items are blurred until the annotator asks for them.
    pub sensitive: bool,
    /// How many rows of each file are read at most; `None` reads all.
    pub limit: Option<usize>,
    /// The longest accepted line, in bytes.
    pub line_bytes_max: usize,
    /// The most that is read: bytes of rows, decompressed, each row counted as 512 at least, since rows take memory
    /// however short they are. `None` reads all.
    pub bytes_max: Option<u64>,
    /// Whether votes of LMArena are left out that its makers leave out of their analyses: on answers
    /// that are empty, broken off or an error, on conversations that tell who answers, and by those
    /// who saw the names of the models. (Whole words count, and the models' own names; not looked at
    /// are lists of barred addresses.)
    pub clean: bool,
    /// How many judgements of an annotator count per day, in UTC, where the time is known: the first.
    pub judgements_per_day: Option<usize>,
    /// For exports of Label Studio and Argilla, whose columns anyone names: the file's names of the
    /// prompt and the candidates, under "prompt" and "candidates" (separated by commas).
    pub columns: BTreeMap<String, String>,
}

impl Default for ImportOptions {
    /// Every row; a bad one stops; lines up to 64 MiB.
    fn default() -> Self {
        Self {
            on_bad_record: OnBadRecord::Stop,
            annotator: None,
            unnamed: Unnamed::Keep,
            items_only: false,
            overlap: None,
            sensitive: false,
            limit: None,
            line_bytes_max: 64 << 20,
            bytes_max: None,
            clean: false,
            judgements_per_day: None,
            columns: BTreeMap::new(),
        }
    }
}

/// What came of the rows of some files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// The formats of the files, each once.
    pub formats: Vec<Format>,
    /// Rows read.
    pub rows: usize,
    /// Distinct items.
    pub items: usize,
    /// Distinct judgements.
    pub judgements: usize,
    /// Judgements about items that the files do not hold.
    pub without_item: usize,
    /// Items that were there already, equal in content; only formats that name their items have
    /// them.
    pub repeated_items: usize,
    /// Judgements that were there already, equal in content.
    pub repeated_judgements: usize,
    /// Bad rows left out.
    pub skipped: usize,
    /// Why, for the first few: `file:line: reason`.
    pub reasons: Vec<String>,
    /// What the rows say and the records do not, and how often.
    pub left_out: Vec<(String, usize)>,
}

/// Items and judgements from files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    /// The items, in the order of their first appearance.
    pub items: Vec<Item>,
    /// The judgements, in the order of the rows.
    pub judgements: Vec<Judgement>,
    /// Prompts without any candidate, as files of prompts have them.
    pub prompts: Vec<Vec<Message>>,
    /// What came of the rows.
    pub report: ImportReport,
}

/// Reads files into items and judgements. Without a `format`, each file tells its own by its first
/// row.
///
/// Where a format does not name its items and judgements, their ids are hashes of what they say, so
/// that importing a file again gives the same ids, and two equal rows are one judgement.
///
/// # Errors
/// If a file cannot be read, is of no known format or holds nothing, if two records of one id
/// differ, and, under [`OnBadRecord::Stop`], at the first bad row.
pub fn import<P: AsRef<Path>>(
    paths: &[P],
    format: Option<Format>,
    options: &ImportOptions,
) -> Result<Import, FormatError> {
    let mut collector = Collector::new(options);
    let mut readings: Vec<(Format, Box<dyn FormatReader>)> = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let format = format.map_or_else(|| detect(path), Ok)?;
        let known = readings.iter().position(|(known, _)| readers::share(*known, format));
        let known = known.unwrap_or_else(|| {
            readings.push((format, readers::reading(format)));
            readings.len() - 1
        });
        collector.start(format);
        let reading = readings[known].1.as_mut();
        reading.start(path, format);
        if options.limit != Some(0) && take_rows(path, reading, &mut collector)? == 0 {
            return Err(FormatError::Empty { path: path.into() });
        }
    }
    for (format, reading) in &mut readings {
        collector.start(*format);
        reading.finish(&mut collector)?;
    }
    collector.import(paths.first().map(|path| path.as_ref().to_path_buf()).unwrap_or_default())
}

/// How the rows of a format are read.
pub(super) trait FormatReader {
    /// Is told the file that the next rows come from.
    fn start(&mut self, _path: &Path, _format: Format) {}

    /// Takes a row. Where it fails, the records that it has added are taken back.
    fn row(&mut self, row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord>;

    /// Takes a line before it is parsed, if the format has a shorter way.
    fn line(&mut self, _bytes: &[u8], _into: &mut Collector<'_>) -> Option<Result<(), BadRecord>> {
        None
    }

    /// Is told that no row is left.
    fn finish(&mut self, _into: &mut Collector<'_>) -> Result<(), FormatError> {
        Ok(())
    }
}

/// A format whose rows stand each for itself.
pub(super) struct EachRow(pub(super) fn(&Row<'_>, &mut Collector<'_>) -> Result<(), BadRecord>);

impl FormatReader for EachRow {
    fn row(&mut self, row: &Row<'_>, into: &mut Collector<'_>) -> Result<(), BadRecord> {
        (self.0)(row, into)
    }
}

/// Hands the rows of a file to a reading, and gives how many there were.
fn take_rows(
    path: &Path,
    reading: &mut dyn FormatReader,
    collector: &mut Collector<'_>,
) -> Result<usize, FormatError> {
    let ImportOptions { on_bad_record, limit, line_bytes_max, bytes_max, .. } = *collector.options;
    let options = ReadOptions { line_bytes_max, ..ReadOptions::default() };
    let mut rows = Rows::open(path, line_bytes_max)?;
    let mut taken = 0;
    while limit.is_none_or(|limit| taken < limit) {
        let Some(row) = rows.advance()? else { break };
        taken += 1;
        collector.report.rows += 1;
        let at = row.at.clone();
        collector.bytes += row.bytes().max(ROW_BYTES) as u64;
        if let Some(bytes_max) = bytes_max.filter(|bytes_max| *bytes_max < collector.bytes) {
            return Err(FormatError::TooMuch { path: path.into(), line: at.line, bytes_max });
        }
        match (take_row(row, &options, reading, collector), on_bad_record) {
            (Ok(()), _) => {}
            (Err(reason), OnBadRecord::Stop) => return Err(ReadError::Bad { at, reason }.into()),
            (Err(reason), OnBadRecord::Skip) => {
                let report = &mut collector.report;
                report.skipped += 1;
                if report.reasons.len() < ReadReport::REASONS_MAX {
                    report.reasons.push(format!("{at}: {reason}"));
                }
            }
        }
    }
    Ok(taken)
}

fn take_row(
    row: RawRow,
    options: &ReadOptions,
    reading: &mut dyn FormatReader,
    collector: &mut Collector<'_>,
) -> Result<(), BadRecord> {
    let columns = row.columns?;
    if let RawColumns::Json(bytes) = &columns
        && let Some(result) = reading.line(bytes, collector)
    {
        return result;
    }
    let row = Row::of(columns.parsed()?, options, row.at);
    collector.name_row(&row);
    let before = collector.mark();
    let result = reading.row(&row, collector);
    if result.is_err() {
        collector.undo(before);
    } else {
        for _ in 0..row.unreadable_count() {
            collector.leave_out("column that holds no JSON (NaN, half of a character, bytes)");
        }
    }
    result
}

/// A name that equal rows share: 32 hexadecimal digits of SHA-256 over `salt` and the columns.
fn fingerprint(row: &Row<'_>, salt: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(salt.as_bytes());
    hasher.update(b"\n");
    hasher.update(serde_json::to_vec(row.columns()).expect("JSON values serialize"));
    hexadecimal(&hasher.finalize()[..16])
}

/// How many records a collector had at some moment.
#[derive(Clone, Copy)]
struct Mark {
    items: usize,
    judgements: usize,
    unmatched: usize,
}

/// What the readings fill.
pub(super) struct Collector<'o> {
    pub(super) options: &'o ImportOptions,
    format: Format,
    items: Vec<Item>,
    places: HashMap<String, usize>,
    judgements: Vec<Judgement>,
    /// Judgements that came before their items, or without them.
    unmatched: Vec<usize>,
    prompts: Vec<Vec<Message>>,
    /// The same, to look them up.
    known_prompts: HashSet<Vec<Message>>,
    /// The name of the row in hand, and how many judgements have been named after it.
    row_name: String,
    named: usize,
    left_out: BTreeMap<&'static str, usize>,
    report: ImportReport,
    /// Bytes of the rows read.
    bytes: u64,
}

impl<'o> Collector<'o> {
    fn new(options: &'o ImportOptions) -> Self {
        Self {
            options,
            format: Format::Hearken,
            items: Vec::new(),
            places: HashMap::new(),
            judgements: Vec::new(),
            unmatched: Vec::new(),
            prompts: Vec::new(),
            known_prompts: HashSet::new(),
            row_name: String::new(),
            named: 0,
            left_out: BTreeMap::new(),
            report: ImportReport::default(),
            bytes: 0,
        }
    }

    fn start(&mut self, format: Format) {
        self.format = format;
        if !self.report.formats.contains(&format) {
            self.report.formats.push(format);
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            items: self.items.len(),
            judgements: self.judgements.len(),
            unmatched: self.unmatched.len(),
        }
    }

    /// Takes back what was added since.
    fn undo(&mut self, mark: Mark) {
        for item in self.items.drain(mark.items..) {
            self.places.remove(&item.id);
        }
        self.judgements.truncate(mark.judgements);
        self.unmatched.truncate(mark.unmatched);
    }

    fn name_row(&mut self, row: &Row<'_>) {
        // Rows of Hearken's own format name what they hold.
        if self.format != Format::Hearken {
            self.begin(fingerprint(row, self.format.as_str()));
        }
    }

    /// Names the judgements that follow after `row_name`.
    pub(super) fn begin(&mut self, row_name: String) {
        self.row_name = row_name;
        self.named = 0;
    }

    /// The name of the row in hand.
    pub(super) fn row_name(&self) -> &str {
        &self.row_name
    }

    /// Who judged, where the format does not say.
    pub(super) fn nameless(&self) -> String {
        self.options.annotator.clone().unwrap_or_else(|| self.format.as_str().to_owned())
    }

    /// Counts something that a row says and the records do not.
    pub(super) fn leave_out(&mut self, what: &'static str) {
        *self.left_out.entry(what).or_default() += 1;
    }

    /// Adds a prompt without any candidate, unless it is there already.
    pub(super) fn prompt(&mut self, prompt: Vec<Message>) {
        if self.known_prompts.insert(prompt.clone()) {
            self.prompts.push(prompt);
        }
    }

    /// Adds an item, unless it is there already, and gives its place.
    pub(super) fn item(&mut self, mut item: Item) -> Result<usize, BadRecord> {
        item.check_new().map_err(|what| BadRecord::Unfit { what })?;
        item.overlap = self.options.overlap.or(item.overlap);
        item.sensitive |= self.options.sensitive;
        if let Some(&place) = self.places.get(&item.id) {
            if self.format == Format::Hearken {
                self.repeat(place, &item)?;
            }
            return Ok(place);
        }
        self.places.insert(item.id.clone(), self.items.len());
        self.items.push(item);
        Ok(self.items.len() - 1)
    }

    fn repeat(&mut self, place: usize, item: &Item) -> Result<(), BadRecord> {
        if self.items[place] != *item {
            let what = format!(
                "found another item with the id {:?} of an earlier one; expected the same content",
                item.id
            );
            return Err(BadRecord::Unfit { what });
        }
        self.report.repeated_items += 1;
        Ok(())
    }

    /// Adds a judgement of the item at `place`, named after the row in hand.
    pub(super) fn judge(
        &mut self,
        place: usize,
        annotator: impl Into<String>,
        verdict: Verdict,
    ) -> Result<&mut Judgement, BadRecord> {
        let item = &self.items[place];
        verdict.check(item).map_err(|what| BadRecord::Unfit { what })?;
        let id = match self.named {
            0 => self.row_name.clone(),
            n => format!("{}-{n}", self.row_name),
        };
        self.named += 1;
        // Items of other formats are named by their hash, which costs time to compute again.
        let judgement = Judgement {
            id,
            item: item.id.clone(),
            annotator: annotator.into(),
            verdict,
            margin: None,
            item_hash: item.id.clone(),
            presented: Vec::new(),
            origin: crate::feedback::Origin::Human,
            rationale: None,
            better: None,
            duration_ms: None,
            at: 0,
            assignment: None,
            revises: None,
            is_final: false,
            suggestion: None,
            guidelines: None,
            propensity: None,
        };
        self.judgements.push(judgement);
        Ok(self.judgements.last_mut().expect("one was just pushed"))
    }

    /// Adds a judgement that names itself and its item.
    pub(super) fn judgement(&mut self, judgement: Judgement) -> Result<(), BadRecord> {
        if judgement.id.is_empty() {
            return Err(BadRecord::Unfit { what: "the judgement has an empty \"id\"".into() });
        }
        match self.places.get(&judgement.item) {
            Some(&place) => {
                judgement.check(&self.items[place]).map_err(|what| BadRecord::Unfit { what })?;
            }
            None => self.unmatched.push(self.judgements.len()),
        }
        self.judgements.push(judgement);
        Ok(())
    }

    fn import(mut self, path: PathBuf) -> Result<Import, FormatError> {
        let without_item = self.match_late(&path)?;
        self.drop_repeated_judgements()?;
        self.leave_out_unnamed();
        if self.options.items_only && !self.judgements.is_empty() {
            let what = "judgement of the file: the items alone were asked for";
            self.left_out.insert(what, self.judgements.len());
            self.judgements.clear();
        }
        self.cap_days();
        let mut report = self.report;
        report.without_item = if self.options.items_only { 0 } else { without_item };
        report.items = self.items.len();
        report.judgements = self.judgements.len();
        report.left_out =
            self.left_out.into_iter().map(|(what, count)| (what.to_owned(), count)).collect();
        if report.items + report.judgements + self.prompts.len() == 0 && 0 < report.rows {
            let counts = report.left_out.iter().map(|(what, count)| format!("{count} × {what}"));
            let mut why: Vec<String> = counts.collect();
            why.extend(report.reasons.first().map(|first| format!("the first bad row: {first}")));
            return Err(FormatError::Nothing { path, why: why.join("; ") });
        }
        let (items, judgements, prompts) = (self.items, self.judgements, self.prompts);
        Ok(Import { items, judgements, prompts, report })
    }

    /// Checks the judgements that came before their items, and counts those without one.
    fn match_late(&self, path: &Path) -> Result<usize, ReadError> {
        let mut without_item = 0;
        for judgement in self.unmatched.iter().map(|&index| &self.judgements[index]) {
            match self.places.get(&judgement.item) {
                None => without_item += 1,
                Some(&place) => judgement.check(&self.items[place]).map_err(|what| {
                    let what = format!("judgement {:?}: {what}", judgement.id);
                    let at = Source { path: path.into(), line: 0 };
                    ReadError::Bad { at, reason: BadRecord::Unfit { what } }
                })?,
            }
        }
        Ok(without_item)
    }

    /// Leaves out judgements that carry the name of their format in place of an annotator's.
    fn leave_out_unnamed(&mut self) {
        if self.options.unnamed == Unnamed::Keep {
            return;
        }
        let formats = &self.report.formats;
        let before = self.judgements.len();
        self.judgements
            .retain(|judgement| formats.iter().all(|one| one.as_str() != judgement.annotator));
        let left_out = before - self.judgements.len();
        if 0 < left_out {
            let what = "judgement of the file that names no annotator: people are asked instead";
            self.left_out.insert(what, left_out);
        }
    }

    /// Leaves out what an annotator judged beyond the first of a day.
    fn cap_days(&mut self) {
        let Some(most) = self.options.judgements_per_day else { return };
        let mut days: HashMap<(String, i64), usize> = HashMap::new();
        let before = self.judgements.len();
        self.judgements.retain(|judgement| {
            let day = (judgement.annotator.clone(), judgement.at.div_euclid(DAY_MS));
            let judged = days.entry(day).or_default();
            *judged += 1;
            judgement.at == 0 || *judged <= most
        });
        let left_out = before - self.judgements.len();
        if 0 < left_out {
            let what = "judgement beyond the first of its annotator on that day";
            self.left_out.insert(what, left_out);
        }
    }

    fn drop_repeated_judgements(&mut self) -> Result<(), FormatError> {
        let mut first: HashMap<&str, usize> = HashMap::with_capacity(self.judgements.len());
        let mut repeated: HashSet<usize> = HashSet::new();
        for (index, judgement) in self.judgements.iter().enumerate() {
            let before = *first.entry(&judgement.id).or_insert(index);
            if before == index {
                continue;
            }
            if self.judgements[before] != *judgement {
                let id = judgement.id.clone();
                return Err(FormatError::Conflict { what: "judgement", id });
            }
            repeated.insert(index);
        }
        self.report.repeated_judgements = repeated.len();
        if !repeated.is_empty() {
            let mut index = 0;
            self.judgements.retain(|_| {
                index += 1;
                !repeated.contains(&(index - 1))
            });
        }
        Ok(())
    }
}
