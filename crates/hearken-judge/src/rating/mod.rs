//! How good a completion is by itself, on a scale: the mean of the scale's numbers by their probabilities.
//!
//! Source: direct RLAIF, Lee et al. 2309.00267, section 2.2.2.
//!
//! Not here: what a score is used for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hearken_data::{Message, Role};

use crate::choice::{ChoiceOptions, Chooser, named};
use crate::model::LanguageModel;
use crate::pairwise::{filled, in_parallel};
use crate::{Item, JudgeError};

/// How a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct RatingOptions {
    /// What the model is told before each question; nothing where it is empty.
    pub system: String,
    /// What it is asked, with the places `{prompt}` and `{answer}`.
    pub question: String,
    /// The numbers of the scale as it may name them, from 1, and how one of them is found out.
    pub choice: ChoiceOptions,
    /// Questions at a time; at least one.
    pub parallel: usize,
}

/// A rating, with the reasons for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rating {
    /// From 1 to the end of the scale; `None` where the model names no number.
    pub score: Option<f64>,
    /// Why, where it was asked.
    pub rationale: Option<String>,
}

/// A language model that is asked how good a completion is.
pub struct RatingJudge {
    model: Arc<dyn LanguageModel>,
    options: RatingOptions,
    chooser: Chooser,
    is_over: Arc<AtomicBool>,
}

impl RatingJudge {
    /// A judge; it breaks off what it asks once `is_over` is set.
    pub fn new(
        model: Arc<dyn LanguageModel>,
        options: RatingOptions,
        is_over: Arc<AtomicBool>,
    ) -> Self {
        Self { model, options, chooser: Chooser::default(), is_over }
    }

    /// One rating per item, in order.
    ///
    /// # Errors
    /// If the model cannot be asked.
    pub fn rate(&self, items: &[Item<'_>]) -> Result<Vec<Rating>, JudgeError> {
        let has_failed = AtomicBool::new(false);
        let go_on = || !has_failed.load(Ordering::Relaxed) && !self.is_over.load(Ordering::Relaxed);
        let choice = &self.options.choice;
        let read = |answer: &str| {
            let index = named(answer, &choice.choices)?;
            let mut weights = vec![0.0; choice.choices.len()];
            weights[index] = 1.0;
            Some(weights)
        };
        in_parallel(items, self.options.parallel, &has_failed, |item| {
            let places = [("{prompt}", item.prompt), ("{answer}", item.completion)];
            let question = filled(&self.options.question, &places);
            let mut conversation = vec![Message::new(Role::User, question)];
            if !self.options.system.is_empty() {
                conversation.insert(0, Message::new(Role::System, self.options.system.clone()));
            }
            let chosen =
                self.chooser.choose(self.model.as_ref(), conversation, choice, &read, &go_on)?;
            let score = chosen.weights.ok().map(|weights| {
                (1_u32..).zip(weights).map(|(score, weight)| f64::from(score) * weight).sum()
            });
            Ok(Rating { score, rationale: chosen.rationale })
        })
    }
}
