//! A better answer that is written beside the verdict: the page names the place of the answer that was edited.

use hearken_data::feedback::{BetterAnswer, Item};
use serde::{Deserialize, Serialize};

use crate::settings::ProjectSettings;

/// A better answer as the page sends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edited {
    /// The place of the answer that was edited; none where it was written without one.
    #[serde(default)]
    place: Option<usize>,
    text: String,
}

impl Edited {
    /// In terms of the candidates of the item, which were shown in this order.
    pub(crate) fn candidate(self, presented: &[usize]) -> Result<BetterAnswer, String> {
        let beyond = |place| format!("place {place}, but {} were shown", presented.len());
        let of = |place: usize| presented.get(place).copied().ok_or_else(|| beyond(place));
        let candidate = self.place.map(of).transpose()?;
        Ok(BetterAnswer { text: self.text.replace("\r\n", "\n").trim().to_owned(), candidate })
    }

    /// What was written, on a page that shows the candidates in this order.
    pub(crate) fn of(better: &BetterAnswer, presented: &[usize]) -> Self {
        let place = |candidate| presented.iter().position(|shown| *shown == candidate);
        Self { place: better.candidate.and_then(place), text: better.text.clone() }
    }
}

/// The answers as they were written, in the order of the page, where they may be edited.
pub(crate) fn texts(
    settings: &ProjectSettings,
    item: &Item,
    presented: &[usize],
) -> Option<Vec<String>> {
    let text = |place: &usize| item.candidates.get(*place).map(|one| one.text.clone());
    let is_offered = settings.better_answers && item.takes_better_answers();
    is_offered.then(|| presented.iter().filter_map(text).collect())
}
