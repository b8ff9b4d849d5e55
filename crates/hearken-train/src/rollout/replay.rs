//! Rollouts from a file instead of a policy.

use std::{path::Path, sync::Arc};

use hearken_data::{Completion, ReadOptions, RecordedRollout, StopReason, read};
use hearken_model::Tokenizer;
use hearken_run::encode::PromptExample;
use hearken_run::error::{EncodeError, TrainError};
use serde_json::Map;

use super::{Rollout, RolloutOrigin};

/// The rollouts of one recorded iteration, each with its score.
#[derive(Clone, Debug)]
pub struct RecordedIteration {
    /// Its number in the file.
    pub iteration: u64,
    /// In file order.
    pub rollouts: Vec<(Rollout, f64)>,
}

/// What the tokens of a file must fit.
#[derive(Clone, Copy, Debug)]
pub struct ReplayLimits<'a> {
    /// Size of the policy's vocabulary.
    pub vocab: usize,
    /// The most tokens of prompt and completion together.
    pub tokens_max: usize,
    /// To show texts, and to know end tokens.
    pub tokenizer: Option<&'a Tokenizer>,
}

/// Reads recorded rollouts, grouped by iteration. An iteration's rollouts stand together; which
/// completions share a group is said by the column `group`, or else by equal prompts in a row.
///
/// # Errors
/// If a record is bad, has no token in prompt or completion, or one that the policy does not have;
/// or if an iteration's number comes again after another's.
pub fn read_replay(
    path: &Path,
    limits: ReplayLimits<'_>,
) -> Result<Vec<RecordedIteration>, TrainError> {
    let (records, _) = read::<RecordedRollout>(path, &ReadOptions::default())?;
    let mut iterations: Vec<RecordedIteration> = Vec::new();
    for record in records {
        check(&record, limits)?;
        let (iteration, score) = (record.iteration, record.score);
        if iterations.last().is_none_or(|last| last.iteration != iteration) {
            if iterations.iter().any(|earlier| earlier.iteration == iteration) {
                return Err(TrainError::Other(format!(
                    "{}: iteration {iteration} comes again after another; expected the rollouts of \
                     an iteration together",
                    record.source
                )));
            }
            iterations.push(RecordedIteration { iteration, rollouts: Vec::new() });
        }
        let rollouts = &mut iterations.last_mut().expect("an iteration was pushed").rollouts;
        let group = group_of(&record, rollouts.last().map(|(rollout, _)| rollout));
        rollouts.push((rollout(record, group, limits.tokenizer), score));
    }
    if iterations.is_empty() {
        let reasons = String::new();
        return Err(TrainError::NoExamples { path: path.to_owned(), reasons });
    }
    Ok(iterations)
}

fn group_of(record: &RecordedRollout, before: Option<&Rollout>) -> u64 {
    let next = before.map_or(0, |before| {
        let same = before.prompt.ids == record.prompt_ids;
        before.group + u64::from(!same)
    });
    record.group.unwrap_or(next)
}

fn rollout(record: RecordedRollout, group: u64, tokenizer: Option<&Tokenizer>) -> Rollout {
    let RecordedRollout { prompt_ids, completion_ids, source, .. } = record;
    let text = |of: &dyn Fn(&Tokenizer) -> String| tokenizer.map_or_else(String::new, of);
    let is_end = |id: &u32| tokenizer.is_some_and(|tokenizer| tokenizer.eos().contains(id));
    let ended = completion_ids.last().is_some_and(is_end);
    Rollout {
        text: text(&|tokenizer| tokenizer.decode_continuation(&completion_ids)),
        origin: RolloutOrigin::Recorded,
        group,
        prompt: Arc::new(PromptExample {
            text: text(&|tokenizer| tokenizer.decode(&prompt_ids)),
            messages: None,
            ids: prompt_ids,
            fields: Map::new(),
            source,
        }),
        completion: Completion {
            ids: completion_ids,
            // What the sampler recorded is not part of the file.
            logprobs: Vec::new(),
            stop_reason: if ended { StopReason::EndOfText } else { StopReason::Length },
        },
    }
}

fn check(record: &RecordedRollout, limits: ReplayLimits<'_>) -> Result<(), EncodeError> {
    let at = || record.source.clone();
    for (field, ids) in
        [("prompt_ids", &record.prompt_ids), ("completion_ids", &record.completion_ids)]
    {
        if ids.is_empty() {
            return Err(EncodeError::NoTokens { at: at(), field });
        }
        if let Some(&id) = ids.iter().find(|&&id| limits.vocab <= id as usize) {
            return Err(EncodeError::UnknownToken { at: at(), id, vocab: limits.vocab });
        }
    }
    let found = record.prompt_ids.len() + record.completion_ids.len();
    let limit = limits.tokens_max;
    if limit < found {
        return Err(EncodeError::TooLong { at: at(), found, limit });
    }
    Ok(())
}
