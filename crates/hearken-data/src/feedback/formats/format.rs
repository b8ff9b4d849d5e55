//! The formats and what tells them apart.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::kind::RecordKind;

/// A format of files of feedback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Hearken's own JSON lines of items and judgements, which keep everything.
    Hearken,
    /// TRL: `prompt`, `chosen`, `rejected`.
    TrlPreference,
    /// TRL: `prompt`, `completion`, `label`, as for KTO.
    TrlUnpaired,
    /// TRL: `prompt`, `completions`, `labels`, one label per step.
    TrlStepwise,
    /// TRL: `prompt` and `completion`: the best answers, to imitate. Only written.
    TrlDemonstrations,
    /// TRL: `prompt` alone.
    TrlPrompt,
    /// HH-RLHF: a pair of transcripts.
    HhRlhf,
    /// UltraFeedback: completions of several models, rated on four axes.
    UltraFeedback,
    /// UltraFeedback, binarized: pairs with scores.
    UltraFeedbackBinarized,
    /// HelpSteer2: ratings on five axes, a response a row.
    HelpSteer2,
    /// HelpSteer2-Preference: pairs with strengths from −3 to 3.
    HelpSteer2Preference,
    /// HelpSteer3: pairs with the strengths that each annotator gave.
    HelpSteer3,
    /// Nectar: seven answers in order.
    Nectar,
    /// SHP: pairs of comments with their votes.
    Shp,
    /// LMArena: clean battles.
    ArenaBattle,
    /// LMArena: the raw log of a server.
    ArenaLog,
    /// LMArena: the CSV file of the 55k competition.
    ArenaCsv,
    /// PRM800K: labels for the steps of solutions.
    Prm800k,
    /// An export of Label Studio.
    LabelStudio,
    /// An export of Argilla.
    Argilla,
    /// LLMFAO: comparisons, a vote a row, which name pairs by number.
    Llmfao,
    /// LLMFAO: pairs of answers, a pair a row.
    LlmfaoPairs,
    /// Potato: annotations, a row for each person and instance.
    Potato,
    /// Potato: the instances that annotations name.
    PotatoItems,
    /// AlpacaEval: two outputs and a preference between 1 and 2.
    AlpacaEval,
    /// What a served model wrote and what its users said of it: `hearken serve --log`.
    Served,
    /// Comparisons and ratings of summaries, as in "Learning to summarize from human feedback".
    Summaries,
}

/// What is known of a format without reading a file.
struct Facts {
    format: Format,
    name: &'static str,
    /// Columns that a row has; of each inner list one suffices.
    columns: &'static [&'static [&'static str]],
}

const fn facts(
    format: Format,
    name: &'static str,
    columns: &'static [&'static [&'static str]],
) -> Facts {
    Facts { format, name, columns }
}

/// In the order in which a file is compared with them: where one set of columns holds another, it
/// comes first.
const FACTS: [Facts; 27] = [
    facts(
        Format::Served,
        "served",
        &[&["request_id"], &["choice"], &["completion", "feedback_id"]],
    ),
    facts(Format::Prm800k, "prm800k", &[&["question"], &["label"]]),
    facts(Format::HelpSteer3, "helpsteer3", &[&["context"], &["response1"], &["response2"]]),
    facts(
        Format::HelpSteer2Preference,
        "helpsteer2-preference",
        &[&["prompt"], &["response_1"], &["response_2"], &["preference_strength"]],
    ),
    facts(
        Format::HelpSteer2,
        "helpsteer2",
        &[&["prompt"], &["response"], &["helpfulness"], &["coherence"]],
    ),
    facts(
        Format::UltraFeedbackBinarized,
        "ultrafeedback-binarized",
        &[&["chosen"], &["rejected"], &["score_chosen"], &["score_rejected"]],
    ),
    facts(Format::UltraFeedback, "ultrafeedback", &[&["instruction"], &["completions"]]),
    facts(Format::Nectar, "nectar", &[&["prompt"], &["answers"]]),
    facts(Format::Shp, "shp", &[&["history"], &["human_ref_A"], &["human_ref_B"], &["labels"]]),
    facts(
        Format::ArenaCsv,
        "lmarena-csv",
        &[&["model_a"], &["response_a"], &["response_b"], &["winner_model_a"]],
    ),
    facts(
        Format::ArenaBattle,
        "lmarena",
        &[&["model_a"], &["model_b"], &["winner"], &["conversation_a"], &["conversation_b"]],
    ),
    facts(Format::ArenaLog, "lmarena-log", &[&["tstamp"], &["type"], &["models", "model"]]),
    facts(
        Format::AlpacaEval,
        "alpacaeval",
        &[&["instruction"], &["output_1"], &["output_2"], &["preference"]],
    ),
    facts(Format::Summaries, "summaries", &[&["info"], &["summaries", "summary"], &["worker"]]),
    facts(Format::LlmfaoPairs, "llmfao-pairs", &[&["id"], &["result_x"], &["result_y"]]),
    facts(Format::Llmfao, "llmfao", &[&["id"], &["winner"], &["left"], &["right"]]),
    facts(Format::LabelStudio, "label-studio", &[&["data"], &["annotations"]]),
    facts(Format::Hearken, "hearken", &[&["item", "judgement", "candidates", "verdict"]]),
    facts(Format::Argilla, "argilla", &[&["responses", "QUESTION.responses", "QUESTION"]]),
    facts(Format::TrlStepwise, "trl-stepwise", &[&["completions"], &["labels"]]),
    facts(Format::TrlUnpaired, "trl-unpaired", &[&["prompt"], &["completion"], &["label"]]),
    facts(Format::HhRlhf, "hh-rlhf", &[&["chosen"], &["rejected"]]),
    facts(Format::TrlPreference, "trl", &[&["chosen"], &["rejected"]]),
    facts(Format::TrlDemonstrations, "trl-demonstrations", &[&["prompt"], &["completion"]]),
    facts(Format::Potato, "potato", &[&["instance_id"], &["user_id"]]),
    facts(Format::PotatoItems, "potato-items", &[&["id"], &["responses", "left"]]),
    facts(Format::TrlPrompt, "trl-prompt", &[&["prompt"]]),
];

impl Format {
    /// The kind of training records that a file of this format holds, where one record is what all judgements on a pair
    /// or an answer say together. (Solutions with labelled steps stay as they were judged.)
    pub fn trains(self) -> Option<RecordKind> {
        match self {
            Format::TrlPreference | Format::HhRlhf | Format::TrlStepwise => {
                Some(RecordKind::Preferences)
            }
            Format::TrlUnpaired => Some(RecordKind::UnpairedPreferences),
            Format::TrlDemonstrations => Some(RecordKind::Demonstrations),
            _ => None,
        }
    }

    /// Every format, in the order in which a file is compared with them.
    pub fn all() -> impl Iterator<Item = Format> {
        FACTS.iter().map(|facts| facts.format)
    }

    fn facts(self) -> &'static Facts {
        FACTS.iter().find(|facts| facts.format == self).expect("every format has its facts")
    }

    /// The name on the command line: `"trl"`, `"hh-rlhf"`, ….
    pub fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// Whether a row with these columns may be of the format, by its columns alone.
    pub(super) fn has_columns(self, has: impl Fn(&str) -> bool) -> bool {
        self.facts().columns.iter().all(|choices| choices.iter().any(|column| has(column)))
    }

    /// What a row of the format has, as errors list it.
    pub(super) fn signature(self) -> String {
        let choices = self.facts().columns.iter().map(|choices| choices.join("|"));
        format!("{} ({})", self.as_str(), choices.collect::<Vec<_>>().join(", "))
    }

    /// Whether files of the format can be written.
    pub fn is_written(self) -> bool {
        !matches!(self, Format::ArenaLog | Format::Potato | Format::PotatoItems | Format::Served)
    }

    /// Whether files of the format hold comma-separated values and not JSON.
    pub fn is_csv(self) -> bool {
        matches!(self, Format::ArenaCsv | Format::Llmfao)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The name of no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found the format {found:?}, expected one of {}", names())]
pub struct UnknownFormat {
    /// The name.
    pub found: String,
}

fn names() -> String {
    Format::all().map(Format::as_str).collect::<Vec<_>>().join(", ")
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        // Other names in use for the same thing.
        let format = match name {
            "own" => Some(Format::Hearken),
            "trl-preference" | "preference" => Some(Format::TrlPreference),
            "trl-kto" | "kto" => Some(Format::TrlUnpaired),
            "lmarena-battle" => Some(Format::ArenaBattle),
            "lmarena-55k" => Some(Format::ArenaCsv),
            "tldr" => Some(Format::Summaries),
            _ => Format::all().find(|format| format.as_str() == name),
        };
        format.ok_or_else(|| UnknownFormat { found: name.to_owned() })
    }
}
