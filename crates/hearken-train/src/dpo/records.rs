//! Records as trees, mismatched completions included.

use hearken_model::Tokenizer;
use hearken_objective::dpo::unpaired::Desirability;
use hearken_run::dataset::Dataset;
use hearken_run::encode::{JudgedExamples, PreferenceExample, UnpairedExample};
use hearken_run::error::TrainError;
use hearken_run::mix::Mix;
use hearken_run::order::Cursor;
use hearken_run::progress::Progress;
use hearken_run::run::Opening;
use hearken_run::stream::{Drawn, Stream};

use super::DpoConfig;
use super::objective::ObjectiveKind;
use super::tree::Tree;

/// Trees to train on and to evaluate on.
#[derive(Debug)]
pub(super) struct TreeRecords {
    /// At least one.
    pub(super) train: Vec<Tree>,
    /// None where the configuration asks for none.
    pub(super) eval: Vec<Tree>,
    /// Where the training trees came from, if they are mixed.
    pub(super) mix: Mix,
    /// Where pairs are read as they are wanted: then `train` has the first of them.
    pub(super) stream: Option<Stream<PreferenceExample>>,
    /// The trees that the stream gave last.
    pub(super) batch: Vec<Tree>,
}

impl TreeRecords {
    /// Reads what `[data]` names, in the form that the loss wants.
    ///
    /// # Errors
    /// If a file or record is not usable, or KTO finds no other prompt's completion.
    pub(super) fn read(config: &DpoConfig, opening: &mut Opening<'_>) -> Result<Self, TrainError> {
        let encoder = opening.encoder(&config.shared.data)?;
        let (limit, seeds) = (encoder.length.tokens_max, opening.seeds);
        if matches!(config.resolved.objective.kind, ObjectiveKind::Unpaired(_)) {
            let mut data: Dataset<JudgedExamples> =
                Dataset::load(&config.shared.data, &encoder, seeds)?;
            let parts: Vec<Vec<UnpairedExample>> =
                data.mix.parts(&data.train).into_iter().map(one_by_one).collect();
            let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
            data.mix = data.mix.resized(&sizes);
            let mut sets = [parts.concat(), one_by_one(&data.eval)];
            [data.train_report.examples, data.eval_report.examples] =
                [sets[0].len(), sets[1].len()];
            opening.note_data(&data, "training", "evaluation");
            let mismatched = config.resolved.objective.needs_mismatched();
            for examples in sets.iter_mut().filter(|examples| !examples.is_empty()) {
                if mismatched {
                    add_mismatched(examples, *config.shared.train.batch_size, limit)?;
                    continue;
                }
                for example in examples {
                    example.kl_completion = None;
                }
            }
            let [train, eval] = sets.map(trees);
            balance_note(config, &train, opening.progress);
            let (mix, batch) = (data.mix, Vec::new());
            return Ok(Self { train, eval, mix, stream: None, batch });
        }
        let mut data: Dataset<PreferenceExample> =
            Dataset::load(&config.shared.data, &encoder, seeds)?;
        opening.note_data(&data, "training", "evaluation");
        let pairs = data.train.iter_mut().chain(&mut data.eval);
        pairs.for_each(|pair| apply_columns(config, pair));
        let Dataset { train, eval, mix, stream, .. } = data;
        Ok(Self { train: trees(train), eval: trees(eval), mix, stream, batch: Vec::new() })
    }
}

/// Forgets the columns that are not used.
fn apply_columns(config: &DpoConfig, pair: &mut PreferenceExample) {
    if !config.dpo.use_margin {
        pair.margin = 0.0;
    }
    if !config.dpo.use_probability {
        pair.probability = 1.0;
    }
}

impl TreeRecords {
    /// Reads the trees of the next step, where they are read as they are wanted.
    ///
    /// # Errors
    /// If a file cannot be read, or has a record that is not usable.
    pub(super) fn draw(
        &mut self,
        config: &DpoConfig,
        tokenizer: Option<&Tokenizer>,
        cursor: &mut Cursor,
    ) -> Result<Option<Drawn>, TrainError> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let drawn = stream.draw(tokenizer, cursor, *config.shared.train.batch_size)?;
        stream.batch_mut().iter_mut().for_each(|pair| apply_columns(config, pair));
        self.batch = trees(stream.take_batch());
        Ok(Some(drawn))
    }

    /// The training tree with this number: of all, or of the batch that a stream gave last.
    pub(super) fn training(&self, index: usize) -> &Tree {
        if self.batch.is_empty() { &self.train[index] } else { &self.batch[index] }
    }

    /// The first prompts of the evaluation records, else of the training records.
    pub(super) fn prompts(&self, count: usize) -> Vec<&[u32]> {
        let from = if self.eval.is_empty() { &self.train } else { &self.eval };
        from.iter().take(count).map(Tree::prompt).collect()
    }
}

fn trees<E: Into<Tree>>(examples: Vec<E>) -> Vec<Tree> {
    examples.into_iter().map(Into::into).collect()
}

/// The completions of all records. Of pairs, in batches of a thousand records, the chosen ones come
/// first and the rejected ones behind: the order of TRL.
fn one_by_one(records: &[JudgedExamples]) -> Vec<UnpairedExample> {
    const BATCH: usize = 1000;
    let batch = |batch: &[JudgedExamples]| {
        let part = |place: usize| batch.iter().filter_map(move |one| one.completions.get(place));
        part(0).chain(part(1)).cloned().collect::<Vec<_>>()
    };
    records.chunks(BATCH).flat_map(batch).collect()
}

/// Gives every example without a mismatched completion that of the example before it in its batch of
/// the files' order, the first that of the last; where that one has the same prompt, the next before
/// it that has another, in the batch or else anywhere. A completion that is too long for the prompt
/// loses its end.
fn add_mismatched(
    examples: &mut [UnpairedExample],
    batch_size: usize,
    tokens_max: usize,
) -> Result<(), TrainError> {
    let count = examples.len();
    let found: Vec<Option<Vec<u32>>> = (0..count)
        .map(|index| {
            let own = &examples[index];
            if own.kl_completion.is_some() {
                return own.kl_completion.clone();
            }
            let start = index / batch_size * batch_size;
            let len = batch_size.min(count - start);
            let within = (1..len).map(|back| start + (index - start + len - back) % len);
            let anywhere = (1..count).map(|back| (index + count - back) % count);
            let mut other = within.chain(anywhere).map(|other| &examples[other]);
            other.find(|other| other.prompt != own.prompt).map(|other| other.completion.clone())
        })
        .collect();
    for (example, mismatched) in examples.iter_mut().zip(found) {
        let Some(mut mismatched) = mismatched else {
            return Err(TrainError::Other(format!(
                "{}: found one prompt in all {count} records; the loss \"kto\" reads completions of \
                 other prompts: expected at least two prompts, or a column `kl_completion_ids`",
                example.source
            )));
        };
        mismatched.truncate(tokens_max.saturating_sub(example.prompt.len()).max(1));
        example.kl_completion = Some(mismatched);
    }
    Ok(())
}

/// Says which weights would balance the labels, where theirs do not.
fn balance_note(config: &DpoConfig, train: &[Tree], progress: &mut dyn Progress) {
    let ObjectiveKind::Unpaired(objective) = &config.resolved.objective.kind else { return };
    let desirable =
        train.iter().filter(|tree| tree.label.verdict() == Desirability::Desirable).count();
    let undesirable = train.len() - desirable;
    let sides = [
        objective.desirable_weight * desirable as f64,
        objective.undesirable_weight * undesirable as f64,
    ];
    let ratio = sides[0] / sides[1];
    if (1.0..=4.0 / 3.0).contains(&ratio) {
        return;
    }
    let (low, high) = (1.0 / ratio, 4.0 / 3.0 / ratio);
    let advice = if ratio.is_finite() && 0.0 < ratio {
        format!(
            "; its authors keep it between 1 and 4/3: desirable_weight from {:.3} to {:.3}",
            low * objective.desirable_weight,
            high * objective.desirable_weight
        )
    } else {
        String::new()
    };
    progress.note(&format!(
        "{desirable} desirable and {undesirable} undesirable completions: weighted, a ratio of \
         {ratio:.3}{advice}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(prompt: u32, completion: &[u32]) -> UnpairedExample {
        UnpairedExample {
            prompt: vec![prompt],
            completion: completion.to_vec(),
            kl_completion: None,
            desirable: true,
            source: hearken_data::Source::default(),
        }
    }

    fn mismatched(mut examples: Vec<UnpairedExample>, batch_size: usize) -> Vec<Vec<u32>> {
        add_mismatched(&mut examples, batch_size, 3).unwrap();
        examples.into_iter().map(|example| example.kl_completion.unwrap()).collect()
    }

    #[test]
    fn mismatched_completions_rotate_within_batches() {
        let examples = (0..4).map(|index| example(index, &[10 + index])).collect();
        assert_eq!(mismatched(examples, 2), [[11], [10], [13], [12]]);
        let examples = (0..3).map(|index| example(index, &[10 + index])).collect();
        assert_eq!(mismatched(examples, 3), [[12], [10], [11]]);
    }

    #[test]
    fn a_lone_last_example_and_equal_prompts_look_further() {
        let examples = (0..3).map(|index| example(index, &[10 + index])).collect();
        assert_eq!(mismatched(examples, 2), [[11], [10], [11]]);
        let examples = vec![example(1, &[10]), example(2, &[11]), example(2, &[12])];
        assert_eq!(mismatched(examples, 3), [[12], [10], [10]]);
    }

    #[test]
    fn a_mismatched_completion_fits_behind_the_prompt() {
        let examples = vec![example(1, &[10]), example(2, &[11, 12, 13, 14])];
        assert_eq!(mismatched(examples, 2), [vec![11, 12], vec![10]]);
    }

    #[test]
    fn chosen_completions_come_before_rejected_ones() {
        let pair = |prompt: u32| JudgedExamples {
            completions: vec![example(prompt, &[1]), example(prompt, &[2])],
        };
        let single = JudgedExamples { completions: vec![example(9, &[3])] };
        let found = one_by_one(&[pair(5), single, pair(6)]);
        let found: Vec<_> = found.iter().map(|one| (one.prompt[0], one.completion[0])).collect();
        assert_eq!(found, [(5, 1), (9, 3), (6, 1), (5, 2), (6, 2)]);
    }

    #[test]
    fn one_prompt_alone_is_an_error() {
        let mut examples = vec![example(1, &[10]), example(1, &[11])];
        let message = add_mismatched(&mut examples, 2, 9).unwrap_err().to_string();
        assert!(message.contains("at least two prompts"), "{message}");
    }
}
