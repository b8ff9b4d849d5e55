//! The kinds of records, told by their columns.

use std::fmt;

/// What the records of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// Two completions, one of them preferred.
    Preferences,
    /// One completion, judged good or bad.
    UnpairedPreferences,
    /// Sequences to imitate.
    Demonstrations,
    /// Prompts alone.
    Prompts,
    /// Completions that were sampled and scored.
    RecordedRollouts,
    /// Solutions whose steps were judged.
    JudgedSteps,
}

impl RecordKind {
    /// The kind of a record, told by the columns that it has, complete or not: where one set of
    /// columns holds another, it comes first. `None` where no column is known.
    ///
    /// ```
    /// use hearken_data::RecordKind;
    ///
    /// let kind = |columns: &[&str]| RecordKind::of(|column| columns.contains(&column));
    /// assert_eq!(kind(&["prompt", "chosen"]), Some(RecordKind::Preferences));
    /// assert_eq!(kind(&["prompt", "completion"]), Some(RecordKind::Demonstrations));
    /// assert_eq!(kind(&["prompt", "completion", "label"]), Some(RecordKind::UnpairedPreferences));
    /// assert_eq!(kind(&["prompt", "answer"]), Some(RecordKind::Prompts));
    /// assert_eq!(kind(&["prompt", "completions", "labels"]), Some(RecordKind::JudgedSteps));
    /// assert_eq!(kind(&["question"]), None);
    /// ```
    pub fn of(has: impl Fn(&str) -> bool) -> Option<Self> {
        let any = |columns: &[&str]| columns.iter().any(|column| has(column));
        let all = |columns: &[&str]| columns.iter().all(|column| has(column));
        let kinds = [
            (all(&["iteration", "score"]), Self::RecordedRollouts),
            (
                any(&["step_ends", "step_labels"])
                    || (has("completions") && any(&["labels", "ratings"]))
                    || all(&["problem", "steps"])
                    || all(&["input", "label", "task"]),
                Self::JudgedSteps,
            ),
            (any(&["chosen", "rejected", "chosen_ids", "rejected_ids"]), Self::Preferences),
            (has("label") && any(&["completion", "completion_ids"]), Self::UnpairedPreferences),
            (
                any(&["messages", "text", "completion", "completion_ids", "input_ids"]),
                Self::Demonstrations,
            ),
            (any(&["prompt", "prompt_ids"]), Self::Prompts),
        ];
        kinds.into_iter().find_map(|(fits, kind)| fits.then_some(kind))
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preferences => "preferences",
            Self::UnpairedPreferences => "unpaired preferences",
            Self::Demonstrations => "demonstrations",
            Self::Prompts => "prompts",
            Self::RecordedRollouts => "recorded rollouts",
            Self::JudgedSteps => "judged steps",
        })
    }
}
