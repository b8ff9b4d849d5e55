//! One item as HTML: what the annotator sees, and nothing that says who wrote it.

use hearken_data::feedback::{Candidate, Item, Task};
use hearken_data::{Message, Role};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::turn::Turn;
use crate::error::AppError;
use crate::render::{Heading, Picture, markdown, pictures};
use crate::settings::{Axis, ProjectSettings, Rationale};
use crate::state::AppState;

/// Reasons for "can't tell" that are one key away.
const REASONS: [&str; 4] = [
    "I do not know enough about the subject",
    "The prompt is unclear",
    "An answer cannot be read or seen",
    "I do not want to judge this content",
];

/// Endings of images that may move.
const ANIMATED: [&str; 5] = ["gif", "webp", "apng", "mp4", "webm"];

/// An answer as pages show it.
#[derive(Serialize)]
pub(super) struct ShownAnswer {
    name: String,
    html: String,
    steps: Vec<String>,
    media: Vec<Picture>,
    /// The turns of a conversation.
    turns: Vec<Turn>,
}

impl ShownAnswer {
    pub(super) fn of(candidate: &Candidate, place: usize) -> Self {
        let html = |text: &str| match text.trim().is_empty() {
            true => String::new(),
            false => markdown(text, Heading::Answer),
        };
        let is_clip = candidate.text.trim().is_empty() && !candidate.media.is_empty();
        let name = name(place);
        Self {
            name: if is_clip { name.replace("Answer", "Clip") } else { name },
            html: html(&candidate.text),
            steps: candidate.steps.iter().map(|step| html(step)).collect(),
            media: pictures(&candidate.media),
            turns: turns(&candidate.messages().unwrap_or_default()),
        }
    }
}

/// Messages as turns; those of the assistant are counted from 1.
fn turns(messages: &[Message]) -> Vec<Turn> {
    let mut said = 0;
    let turn = |message: &Message| {
        let number = (message.role == Role::Assistant).then(|| {
            said += 1;
            said
        });
        Turn::of(message, number)
    };
    messages.iter().map(turn).collect()
}

/// "Answer A" for the first place; after the letters the number.
pub(crate) fn name(place: usize) -> String {
    match u8::try_from(place).ok().filter(|place| *place < 26) {
        Some(letter) => format!("Answer {}", char::from(b'A' + letter)),
        None => format!("Answer {}", place + 1),
    }
}

/// The HTML of an item whose candidate `presented[k]` stands at place `k`: whether it is judged anew, and what a model
/// suggests, where that is shown.
pub(crate) fn fragment(
    state: &AppState,
    item: &Item,
    presented: &[usize],
    revising: bool,
    suggestion: Option<String>,
) -> Result<String, AppError> {
    let settings = state.settings()?;
    let answers: Vec<ShownAnswer> = presented
        .iter()
        .enumerate()
        .filter_map(|(place, candidate)| {
            Some(ShownAnswer::of(item.candidates.get(*candidate)?, place))
        })
        .collect();
    let animated = item.candidates.iter().flat_map(|c| &c.media).any(|one| may_move(&one.source));
    let only_pictures = item.candidates.iter().all(|c| c.text.is_empty() && !c.media.is_empty());
    let prompt = turns(&item.prompt);
    let folds = |turns: &[Turn]| turns.iter().any(Turn::is_folded);
    let has_turns = answers.iter().any(|answer| !answer.turns.is_empty());
    let values = context! {
        task => item.task.as_str(),
        question => question(item.task, only_pictures, has_turns),
        folds => folds(&prompt) || answers.iter().any(|answer| folds(&answer.turns)),
        rates_turns => has_turns && settings.rate_turns && item.task == Task::Rating,
        better => settings.better_answers && item.takes_better_answers(),
        prompt => Serde(prompt),
        media => Serde(pictures(&item.media)),
        answers => Serde(answers),
        clips => only_pictures,
        animated,
        sensitive => item.sensitive,
        revising,
        suggestion,
        ..verdict_values(&settings)
    };
    Ok(state.render("label_item.html", values)?.0)
}

fn verdict_values(settings: &ProjectSettings) -> Value {
    context! {
        strength => settings.strength_points,
        scale => scale(settings.strength_points),
        ties => settings.ties,
        both_bad => settings.both_bad,
        partial => settings.partial_rankings,
        stop_at_first_error => settings.stop_at_first_error,
        axes => settings.axes.iter().enumerate().map(axis).collect::<Vec<_>>(),
        rationale => rationale(settings),
        reasons => REASONS,
    }
}

/// How the page calls the setting.
pub(crate) fn rationale(settings: &ProjectSettings) -> &'static str {
    match settings.rationale {
        Rationale::Off => "off",
        Rationale::Optional => "optional",
        Rationale::Required => "required",
    }
}

fn may_move(source: &str) -> bool {
    let animated = |kind: &str| ANIMATED.iter().any(|known| kind.eq_ignore_ascii_case(known));
    let data = source.strip_prefix("data:image/").or_else(|| source.strip_prefix("data:video/"));
    match data {
        Some(data) => data.split(';').next().is_some_and(animated),
        // Whether a PNG moves is not in its name; clips are judged to be on the safe side.
        None => source.rsplit('.').next().is_some_and(|end| animated(end) || end == "png"),
    }
}

fn question(task: Task, only_pictures: bool, has_turns: bool) -> &'static str {
    match task {
        Task::Pairwise if has_turns => "Which conversation is better?",
        Task::Rating if has_turns => "Rate each conversation",
        Task::Pairwise if only_pictures => "Which clip is better?",
        Task::Pairwise => "Which answer is better?",
        Task::Ranking => "Put the answers in order, the best first",
        Task::Rating => "Rate each answer",
        Task::Steps => "Is each step right?",
    }
}

/// The buttons of the strength scale from "A much better" to "B much better".
fn scale(points: u8) -> Vec<Value> {
    let side = |place: usize, points_here: u8| {
        let word = word(points_here, points);
        context! { place, points => points_here, word, answer => name(place) }
    };
    let left = (1..=points).rev().map(|here| side(0, here));
    let middle = std::iter::once(context! { middle => true });
    left.chain(middle).chain((1..=points).map(|here| side(1, here))).collect()
}

fn word(here: u8, points: u8) -> String {
    let words: &[&str] = match points {
        1 => &["simply"],
        2 => &["slightly", "much"],
        3 => &["slightly", "clearly", "much"],
        4 => &["slightly", "clearly", "much", "very much"],
        _ => &[],
    };
    match words.get(usize::from(here).saturating_sub(1)) {
        Some(word) => (*word).to_owned(),
        None => format!("{here} of {points}"),
    }
}

fn axis((index, axis): (usize, &Axis)) -> Value {
    let value = |(at, value): (usize, i32)| {
        context! { value, label => axis.labels.get(at).filter(|label| !label.is_empty()) }
    };
    context! {
        index,
        name => axis.name.clone(),
        min => axis.min,
        max => axis.max,
        values => (axis.min..=axis.max).enumerate().map(value).collect::<Vec<_>>(),
        low => axis.labels.first(),
        high => axis.labels.last(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_symmetric() {
        let places: Vec<(String, String)> = scale(3)
            .iter()
            .map(|step| {
                let text = |key| step.get_attr(key).unwrap().to_string();
                (text("place"), text("points"))
            })
            .collect();
        let mirrored: Vec<_> = places
            .iter()
            .rev()
            .map(|(place, points)| {
                let other = match place.as_str() {
                    "0" => "1",
                    "1" => "0",
                    middle => middle,
                };
                (other.to_owned(), points.clone())
            })
            .collect();
        assert_eq!(places, mirrored);
        assert_eq!(places.len(), 7);
    }

    #[test]
    fn answers_have_letters() {
        assert_eq!(name(0), "Answer A");
        assert_eq!(name(25), "Answer Z");
        assert_eq!(name(26), "Answer 27");
        assert_eq!(name(1000), "Answer 1001");
    }

    #[test]
    fn images_that_may_move_are_known() {
        assert!(may_move("a.mp4") && may_move("data:video/webm;base64,AA"));
        assert!(may_move("clips/a.GIF") && may_move("data:image/webp;base64,AA"));
        assert!(!may_move("cat.jpg") && !may_move("data:image/jpeg;base64,AA"));
    }
}
