//! Why there are no scores.

use std::path::PathBuf;

use hearken_judge::JudgeError;

use super::RolloutView;

/// What a reward source cannot do, or did wrong.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// A program or a server failed.
    #[error("score source {name:?}: {source}")]
    Judge {
        /// The source.
        name: String,
        /// What happened there.
        source: Box<JudgeError>,
    },
    /// The judges of a configuration cannot be opened.
    #[error("score source {name:?}: {reason}")]
    Judges {
        /// The source.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Too few or too many scores.
    #[error("score source {name:?} gave {found} scores for {expected} completions")]
    Count {
        /// The source.
        name: String,
        /// Scores given.
        found: usize,
        /// Completions to be scored.
        expected: usize,
    },
    /// NaN or an infinity.
    #[error(
        "score source {name:?} gave {score} for prompt {prompt:?} and completion {completion:?}"
    )]
    NotFinite {
        /// The source.
        name: String,
        /// What it gave.
        score: f64,
        /// The beginning of the prompt.
        prompt: String,
        /// The beginning of the completion.
        completion: String,
    },
    /// A score of a token that the completion does not have.
    #[error(
        "score source {name:?} gave scores of tokens that are not those of the completion, which has \
         {tokens}: for prompt {prompt:?} and completion {completion:?}"
    )]
    Misplaced {
        /// The source.
        name: String,
        /// Tokens of the completion.
        tokens: usize,
        /// The beginning of the prompt.
        prompt: String,
        /// The beginning of the completion.
        completion: String,
    },
    /// A reward model cannot be loaded.
    #[error("reward model {}: {reason}", path.display())]
    Load {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A reward model cannot read a text.
    #[error(
        "score source {name:?} cannot read prompt {prompt:?} with completion {completion:?}: {reason}"
    )]
    Unreadable {
        /// The source.
        name: String,
        /// Why not.
        reason: String,
        /// The beginning of the prompt.
        prompt: String,
        /// The beginning of the completion.
        completion: String,
    },
    /// A pattern is no regular expression.
    #[error("score source {name:?}: {reason}")]
    Pattern {
        /// The source.
        name: String,
        /// What is wrong with the pattern.
        reason: String,
    },
    /// A column of the prompt's record is missing or has another form.
    #[error(
        "score source {name:?}: column `{column}`: found {found}, expected {expected}, for prompt {prompt:?}"
    )]
    Column {
        /// The source.
        name: String,
        /// The column.
        column: String,
        /// What it has.
        found: String,
        /// What it must have.
        expected: &'static str,
        /// The beginning of the prompt.
        prompt: String,
    },
    /// Programs cannot be run.
    #[error("score source {name:?}: {reason}")]
    Sandbox {
        /// The source.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A source failed while others of an iteration's completions were still being sampled.
    #[error("{source}; {scored} of {completions} completions had been scored before")]
    Portion {
        /// Completions that every source asked meanwhile had scored.
        scored: usize,
        /// Completions that are asked for in all.
        completions: usize,
        /// What happened.
        source: Box<RewardError>,
    },
    /// A closure returned an error of its own.
    #[error("score source {name:?}: {reason}")]
    Closure {
        /// The source.
        name: String,
        /// What it said.
        reason: String,
    },
}

impl RewardError {
    pub(super) fn not_finite(name: &str, score: f64, rollout: &RolloutView<'_>) -> Self {
        Self::NotFinite {
            name: name.to_owned(),
            score,
            prompt: beginning(rollout.prompt),
            completion: beginning(rollout.completion),
        }
    }

    pub(super) fn misplaced(name: &str, rollout: &RolloutView<'_>) -> Self {
        Self::Misplaced {
            name: name.to_owned(),
            tokens: rollout.completion_ids.len(),
            prompt: beginning(rollout.prompt),
            completion: beginning(rollout.completion),
        }
    }

    pub(super) fn column(
        name: &str,
        column: &str,
        found: Option<&serde_json::Value>,
        expected: &'static str,
        rollout: &RolloutView<'_>,
    ) -> Self {
        Self::Column {
            name: name.to_owned(),
            column: column.to_owned(),
            found: found
                .map_or_else(|| "nothing".to_owned(), |found| beginning(&found.to_string())),
            expected,
            prompt: beginning(rollout.prompt),
        }
    }

    pub(super) fn unreadable(name: &str, reason: String, rollout: &RolloutView<'_>) -> Self {
        Self::Unreadable {
            name: name.to_owned(),
            reason,
            prompt: beginning(rollout.prompt),
            completion: beginning(rollout.completion),
        }
    }
}

fn beginning(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
