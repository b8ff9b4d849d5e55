//! Feedback in files: import and export of the formats in use.
//!
//! ```
//! use hearken_data::feedback::Verdict;
//! use hearken_data::feedback::formats::{ExportOptions, Format, ImportOptions, export, import};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("pairs.jsonl");
//! std::fs::write(&path, r#"{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}"#)?;
//!
//! let import = import(&[&path], None, &ImportOptions::default())?;
//! assert_eq!(import.report.formats, [Format::TrlPreference]);
//! assert_eq!(import.judgements[0].verdict, Verdict::preferred(0));
//!
//! let mut battles = Vec::new();
//! let (items, judgements) = (&import.items, &import.judgements);
//! let options = ExportOptions::default();
//! let report = export(items, judgements, Format::ArenaBattle, &options, &mut battles)?;
//! assert_eq!((report.written, report.dropped.len()), (1, 0));
//! assert_eq!(report.lost, []);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not here: where records are kept, and columns under other names than the formats give them.

mod conversation;
mod detect;
mod error;
mod export;
mod fields;
mod format;
mod import;
mod stored;

mod contest;
mod names;

mod suggestion;

mod readers;
mod writers;

mod alpaca_eval;
mod arena;
mod arena_rules;
mod argilla;
mod helpsteer;
mod hh_rlhf;
mod label_studio;
mod llmfao;
mod nectar;
mod own;
mod potato;
mod prm800k;
mod served;
mod shp;
mod summaries;
mod trl;
mod ultrafeedback;

pub use contest::{Contest, ContestWinner, contests_of};
pub use conversation::text_prompted;
pub use detect::{detect, holds_judgements};
pub use error::FormatError;
pub use export::{ExportOptions, ExportReport, NeutralSteps, TextForm, Ties, export};
pub use format::{Format, UnknownFormat};
pub use import::{Import, ImportOptions, ImportReport, Unnamed, import};
pub use stored::{judgements_in, records_of};
pub use trl::contents_of;
