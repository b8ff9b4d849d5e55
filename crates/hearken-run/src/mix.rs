//! Several sources of training examples, and how much of every epoch comes from each.

use std::path::PathBuf;

use hearken_config::MixSource;

use crate::error::TrainError;
use crate::order::Share;

/// The sources of a mixture, `[[data.mix]]`; none where nothing is mixed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mix {
    parts: Vec<MixedSource>,
}

#[derive(Clone, Debug, PartialEq)]
struct MixedSource {
    /// The first of its files, by which it is named.
    path: PathBuf,
    weight: f64,
    /// Training examples that came of it.
    examples: usize,
}

impl Mix {
    /// Sources with the number of training examples that came of each, in the same order.
    pub fn new(sources: &[MixSource], examples: &[usize]) -> Self {
        let parts = sources.iter().zip(examples).map(|(source, &examples)| MixedSource {
            path: source.path.first().cloned().unwrap_or_default(),
            weight: *source.weight,
            examples,
        });
        Self { parts: parts.collect() }
    }

    /// The same sources, each of which has become so many examples.
    pub fn resized(mut self, examples: &[usize]) -> Self {
        for (part, &examples) in self.parts.iter_mut().zip(examples) {
            part.examples = examples;
        }
        self
    }

    /// What of all examples came of each source; all of them where nothing is mixed.
    pub fn parts<'e, E>(&self, mut examples: &'e [E]) -> Vec<&'e [E]> {
        if self.parts.is_empty() {
            return vec![examples];
        }
        let mut found = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let (own, rest) = examples.split_at(part.examples);
            found.push(own);
            examples = rest;
        }
        found
    }

    /// How much of an epoch comes from each source: of as many examples as there are in all of them together,
    /// the share that its weight has of all weights, to the next example by the largest remainders.
    pub fn shares(&self) -> Vec<Share> {
        let total: usize = self.parts.iter().map(|part| part.examples).sum();
        let weights: f64 = self.parts.iter().map(|part| part.weight).sum();
        let exact: Vec<f64> =
            self.parts.iter().map(|part| total as f64 * (part.weight / weights)).collect();
        let mut drawn: Vec<usize> = exact.iter().map(|exact| exact.floor() as usize).collect();
        let mut by_remainder: Vec<usize> = (0..exact.len()).collect();
        by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
        let left = total.saturating_sub(drawn.iter().sum());
        by_remainder.into_iter().cycle().take(left).for_each(|index| drawn[index] += 1);
        let share = |(part, drawn): (&MixedSource, usize)| Share { examples: part.examples, drawn };
        self.parts.iter().zip(drawn).map(share).collect()
    }

    /// Refuses a source of which an epoch has nothing.
    ///
    /// # Errors
    /// Names it.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        for (index, (part, share)) in self.parts.iter().zip(self.shares()).enumerate() {
            if share.examples == 0 {
                let reasons = format!(" (`data.mix[{index}]`)");
                return Err(TrainError::NoExamples { path: part.path.clone(), reasons });
            }
            if share.drawn == 0 {
                return Err(TrainError::Other(format!(
                    "`data.mix[{index}].weight`: found {}, by which {} has no part in an epoch, expected more \
                     beside the other weights",
                    part.weight,
                    part.path.display()
                )));
            }
        }
        Ok(())
    }

    /// What a reader should know of each source, in a sentence.
    pub fn notes(&self) -> Vec<String> {
        let note = |(part, Share { examples, drawn }): (&MixedSource, Share)| {
            let times = drawn as f64 / examples.max(1) as f64;
            format!(
                "mix: {}: {examples} examples, {drawn} of every epoch ({times:.2} times each)",
                part.path.display()
            )
        };
        self.parts.iter().zip(self.shares()).map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(parts: &[(f64, usize)]) -> Mix {
        let part =
            |&(weight, examples): &(f64, usize)| MixedSource { path: "a".into(), weight, examples };
        Mix { parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn an_epoch_is_as_long_as_all_sources_and_shared_by_weight() {
        let drawn = |parts: &[(f64, usize)]| -> Vec<usize> {
            mix(parts).shares().iter().map(|share| share.drawn).collect()
        };
        assert_eq!(drawn(&[(1.0, 30), (1.0, 90)]), [60, 60]);
        assert_eq!(drawn(&[(2.0, 5), (1.0, 5)]), [7, 3]);
        assert_eq!(drawn(&[(1.0, 1), (1.0, 2), (1.0, 2)]), [2, 2, 1]);
        assert_eq!(drawn(&[(1e300, 4), (1e300, 4)]), [4, 4]);
        assert!(drawn(&[]).is_empty());
    }

    #[test]
    fn a_source_that_has_no_part_in_an_epoch_is_refused() {
        mix(&[(1.0, 3), (1.0, 3)]).check().unwrap();
        mix(&[]).check().unwrap();
        let error = |parts: &[(f64, usize)]| mix(parts).check().unwrap_err().to_string();
        assert!(error(&[(1.0, 3), (1.0, 0)]).contains("`data.mix[1]`"));
        assert!(error(&[(1e-9, 3), (1.0, 3)]).contains("`data.mix[0].weight`: found 0.000000001"));
    }
}
