//! The vocabulary of preference learning and its file formats.
//!
//! What a person or a program wrote down about a model's text comes in through [`read()`] as one of
//! five records:
//!
//! | record | one line of the file says |
//! |---|---|
//! | [`Demonstration`] | write like this |
//! | [`Preference`] | of these two, this one is preferred |
//! | [`UnpairedPreference`] | this one is good, or bad |
//! | [`Prompt`] | answer this |
//! | [`RecordedRollout`] | this was sampled and got this score |
//!
//! The columns are those of TRL's datasets, plus token columns (`…_ids`) and the transcripts of
//! HH-RLHF. Each record type documents its columns with an example.
//!
//! ```
//! use hearken_data::{Content, Preference, ReadOptions, read};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("preferences.jsonl");
//! std::fs::write(&path, r#"{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}"#)?;
//!
//! let (preferences, report) = read::<Preference>(&path, &ReadOptions::default())?;
//! assert_eq!((report.read, report.skipped), (1, 0));
//! assert_eq!(preferences[0].chosen, Content::Text(" 4".into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not here: tokenizers and chat templates (text stays text, messages stay messages), and any other
//! crate of the workspace.
#![deny(missing_docs)]

mod answer;
mod bad_record;
pub mod calendar;
mod caught;
mod cells;
mod completion;
mod content;
mod contents;
mod data_files;
mod demonstration;
pub mod feedback;
mod foreign;
mod hexadecimal;
mod hub_name;
mod json;
mod judged_steps;
mod kind;
mod lines;
mod options;
mod parquet_file;
mod parquet_writer;
mod preference;
mod prompt;
mod read;
pub mod redaction;
mod report;
mod rollout;
mod row;
mod rows;
mod selection;
mod source;
mod split;
mod table;
mod transcript;
mod unpaired_preference;
mod value;
mod whole_file;
mod write;

pub use answer::{Answer, AnswerContent};
pub use bad_record::{BadRecord, FieldError};
pub use caught::caught;
pub use completion::{Completion, StopReason};
pub use content::{Content, Message, Role};
pub use data_files::{can_write, has_header, is_parquet, listed_files, record_files};
pub use demonstration::{Demonstration, DemonstrationContent};
pub use foreign::advice_on_model;
pub use hexadecimal::hexadecimal;
pub use hub_name::{HubKind, HubName, HubSnapshot, is_commit};
pub use judged_steps::{JudgedSteps, Solution, StepScale};
pub use kind::RecordKind;
pub use options::{OnBadRecord, ReadOptions};
pub use parquet_writer::{NoColumnType, ParquetColumns};
pub use preference::Preference;
pub use prompt::Prompt;
pub use read::{Records, kind_of, read, read_from};
pub use report::{ReadError, ReadReport};
pub use rollout::RecordedRollout;
pub use row::{Form, Record, Row};
pub use source::Source;
pub use split::{PromptKey, Prompted, Split, SplitError, held_out, split_by_prompt};
pub use table::{AnyRow, write_rows};
pub use transcript::TranscriptForm;
pub use unpaired_preference::UnpairedPreference;
pub use whole_file::{Unfinished, is_unfinished, sync_all, sync_parent, write_whole};
pub use write::{JsonLinesAppender, WriteError, write_file, write_jsonl};
