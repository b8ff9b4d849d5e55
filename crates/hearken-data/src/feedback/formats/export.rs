//! Exporting: items and judgements become rows.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::FormatError;
use super::{Format, own, writers};
use crate::feedback::{Item, Judgement, in_force};

/// What becomes of ties in formats of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// They are dropped, and counted.
    #[default]
    Drop,
    /// They are pairs with a `probability` of ½.
    Half,
}

/// What becomes of neutral steps in formats that know good and bad ones only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NeutralSteps {
    /// A solution with one is dropped, and counted.
    #[default]
    Drop,
    /// They count as good.
    Good,
    /// They count as bad.
    Bad,
    /// Every label stays as it is, those that are missing too: in a column `ratings` of -1, 0, 1 and null.
    Keep,
}

/// How prompts and answers are written where a format offers a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextForm {
    /// As the file had them that the item came from; as messages where it came from none.
    #[default]
    AsImported,
    /// As text.
    Text,
    /// As lists of messages.
    Messages,
}

/// How records are exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// What becomes of ties in formats of pairs.
    pub ties: Ties,
    /// What becomes of neutral steps in formats that know good and bad ones only.
    pub neutral_steps: NeutralSteps,
    /// How prompts and answers are written in TRL's formats.
    pub form: TextForm,
}

/// What an export came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// The format.
    pub format: Format,
    /// Judgements that hold, of items that are there.
    pub judgements: usize,
    /// Rows written.
    pub written: usize,
    /// Why records are missing, and how many: judgements, or the pairs that a judgement of several
    /// candidates amounts to.
    pub dropped: Vec<(String, usize)>,
    /// What the format has no place for, and of how many written judgements.
    pub lost: Vec<(String, usize)>,
}

impl ExportReport {
    /// Counts what was left out before anything was written, of `judgements` that hold.
    pub fn leave_out(&mut self, judgements: usize, left_out: Vec<(String, usize)>) {
        self.judgements = judgements;
        self.dropped.extend(left_out);
        self.dropped.sort();
    }
}

/// Writes items and judgements in `format`. Judgements that a later one revises are not written,
/// but in Hearken's own format.
///
/// # Errors
/// If the format is only read, or the writer fails.
pub fn export(
    items: &[Item],
    judgements: &[Judgement],
    format: Format,
    options: &ExportOptions,
    writer: &mut dyn Write,
) -> Result<ExportReport, FormatError> {
    if !format.is_written() {
        return Err(FormatError::NotWritten { format });
    }
    let mut output = Output::new(writer, options);
    let count = if format == Format::Hearken {
        let (items, judgements): (Vec<_>, Vec<_>) =
            (items.iter().collect(), judgements.iter().collect());
        output.written = own::write(&items, &judgements, output.writer)?;
        judgements.len()
    } else {
        let records = ExportRecords::of(items, judgements, &mut output);
        writers::write(format, &records, &mut output)?;
        records.entries.len()
    };
    output.writer.flush()?;
    Ok(output.report(format, count))
}

/// A judgement and its item.
#[derive(Clone, Copy)]
pub(super) struct ExportEntry<'a> {
    pub(super) item: &'a Item,
    pub(super) judgement: &'a Judgement,
    /// The place of the item in the list of items.
    pub(super) place: usize,
}

/// What is to be written.
pub(super) struct ExportRecords<'a> {
    pub(super) items: &'a [Item],
    /// The judgements that hold, in their order.
    pub(super) entries: Vec<ExportEntry<'a>>,
}

impl<'a> ExportRecords<'a> {
    fn of(items: &'a [Item], judgements: &'a [Judgement], output: &mut Output<'_>) -> Self {
        let places: HashMap<&str, usize> =
            items.iter().enumerate().map(|(place, item)| (item.id.as_str(), place)).collect();
        let holding = in_force(judgements);
        output.drop_many("revised by a later judgement", judgements.len() - holding.len());
        let mut entries = Vec::with_capacity(holding.len());
        for judgement in holding {
            match places.get(judgement.item.as_str()) {
                Some(&place) => entries.push(ExportEntry { item: &items[place], judgement, place }),
                None => output.drop("judgement without its item"),
            }
        }
        Self { items, entries }
    }

    /// The judgements of each item that has some, in the order of the items.
    pub(super) fn by_item(&self) -> Vec<(&'a Item, Vec<ExportEntry<'a>>)> {
        let mut groups: Vec<Vec<ExportEntry<'a>>> = vec![Vec::new(); self.items.len()];
        for entry in &self.entries {
            groups[entry.place].push(*entry);
        }
        let groups = self.items.iter().zip(groups);
        groups.filter(|(_, entries)| !entries.is_empty()).collect()
    }
}

/// What a format may have no place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Annotator,
    Strength,
    Margin,
    Rationale,
    Better,
    Presented,
    Time,
}

impl Detail {
    const ALL: [(Detail, &'static str); 7] = [
        (Detail::Annotator, "who judged"),
        (Detail::Strength, "strength"),
        (Detail::Margin, "margin"),
        (Detail::Rationale, "rationale"),
        (Detail::Better, "a better answer"),
        (Detail::Presented, "order shown"),
        (Detail::Time, "time"),
    ];

    fn is_in(self, judgement: &Judgement) -> bool {
        use crate::feedback::Verdict;
        match self {
            Detail::Annotator => true,
            Detail::Strength => {
                matches!(&judgement.verdict, Verdict::Preferred { strength: Some(_), .. })
            }
            Detail::Margin => judgement.margin.is_some(),
            Detail::Rationale => judgement.rationale.is_some(),
            Detail::Better => judgement.better.is_some(),
            Detail::Presented => !judgement.presented.is_empty(),
            Detail::Time => judgement.at != 0 || judgement.duration_ms.is_some(),
        }
    }
}

/// Where rows go, with the counts of what does not.
pub(super) struct Output<'w> {
    pub(super) writer: &'w mut dyn Write,
    pub(super) options: &'w ExportOptions,
    pub(super) written: usize,
    dropped: BTreeMap<&'static str, usize>,
    lost: BTreeMap<&'static str, usize>,
}

impl<'w> Output<'w> {
    fn new(writer: &'w mut dyn Write, options: &'w ExportOptions) -> Self {
        Self { writer, options, written: 0, dropped: BTreeMap::new(), lost: BTreeMap::new() }
    }

    pub(super) fn drop(&mut self, reason: &'static str) {
        self.drop_many(reason, 1);
    }

    pub(super) fn drop_many(&mut self, reason: &'static str, count: usize) {
        if 0 < count {
            *self.dropped.entry(reason).or_default() += count;
        }
    }

    /// Counts what a written judgement says and the format, which keeps `kept`, does not.
    pub(super) fn lose_all_but(&mut self, judgement: &Judgement, kept: &[Detail]) {
        for (detail, name) in Detail::ALL {
            if !kept.contains(&detail) && detail.is_in(judgement) {
                *self.lost.entry(name).or_default() += 1;
            }
        }
    }

    pub(super) fn lose(&mut self, what: &'static str) {
        *self.lost.entry(what).or_default() += 1;
    }

    /// Writes a row of JSON lines.
    pub(super) fn line(&mut self, row: &Map<String, Value>) -> Result<(), FormatError> {
        serde_json::to_writer(&mut *self.writer, row)?;
        self.writer.write_all(b"\n")?;
        self.written += 1;
        Ok(())
    }

    /// Writes rows as one JSON list.
    pub(super) fn array(&mut self, rows: &[Value]) -> Result<(), FormatError> {
        for (index, row) in rows.iter().enumerate() {
            self.writer.write_all(if index == 0 { b"[\n" } else { b",\n" })?;
            serde_json::to_writer(&mut *self.writer, row)?;
        }
        self.writer.write_all(if rows.is_empty() { b"[]\n" } else { b"\n]\n" })?;
        self.written += rows.len();
        Ok(())
    }

    fn report(self, format: Format, judgements: usize) -> ExportReport {
        let owned = |counts: BTreeMap<&'static str, usize>| {
            counts.into_iter().map(|(what, count)| (what.to_owned(), count)).collect()
        };
        ExportReport {
            format,
            judgements,
            written: self.written,
            dropped: owned(self.dropped),
            lost: owned(self.lost),
        }
    }
}

/// Makes a row of columns.
macro_rules! row {
    ($($key:literal : $value:expr),* $(,)?) => {{
        let mut row = ::serde_json::Map::new();
        $(row.insert($key.to_owned(), ::serde_json::json!($value));)*
        row
    }};
}
pub(super) use row;
