//! What is known of an item beside where it stands: what a search looks at, without the texts.

use hearken_data::feedback::{Candidate, Item, Task};

/// Bits of a signature for each group of three letters: two fifths of them are set, at most.
const BITS_PER_GROUP: usize = 2;
const BITS_MIN: usize = 64;
const BITS_MAX: usize = 8192;
/// Characters of a value of the metadata that is kept.
const VALUE_MAX: usize = 200;

/// What a search asks of an item.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) task: Task,
    /// Metadata of the item that are texts, numbers or truth values.
    meta: Box<[(Box<str>, Box<str>)]>,
    signature: Signature,
    /// Whether the final answer is wrong, where the metadata say so.
    pub(crate) is_wrong: Option<bool>,
    /// What a model that scores solutions thinks of it, where the metadata say so.
    pub(crate) score: Option<f64>,
    /// What reward models think of each candidate, where the metadata of all of them say so: `[candidate][reward model]`; else empty.
    pub(crate) scores: Box<[Box<[f32]>]>,
    /// The state of the first of two candidates less that of the second, where the metadata of both have one; else empty.
    pub(crate) difference: Box<[f32]>,
}

/// Where metadata say whether the final answer is right: as Hearken, and as ProcessBench calls it.
const CORRECT: [&str; 2] = ["correct", "final_answer_correct"];
/// Where metadata have the score of a solution.
const SCORE: &str = "score";
/// Where metadata of a candidate have its scores by several reward models.
pub(crate) const SCORES: &str = "scores";
/// Where they have its coordinates in a reward model.
pub(crate) const STATE: &str = "state";

impl Facts {
    pub(crate) fn of(item: &Item) -> Self {
        let meta = item.meta.iter().filter_map(|(name, value)| {
            let value = match value {
                serde_json::Value::String(text) => text.chars().take(VALUE_MAX).collect(),
                serde_json::Value::Bool(_) | serde_json::Value::Number(_) => value.to_string(),
                _ => return None,
            };
            Some((name.as_str().into(), value.into_boxed_str()))
        });
        let said = |name: &str| {
            let candidate = item.candidates.first().and_then(|first| first.meta.get(name));
            candidate.or_else(|| item.meta.get(name))
        };
        let correct = CORRECT.iter().find_map(|name| said(name)?.as_bool());
        Self {
            is_wrong: correct.map(|correct| !correct),
            score: said(SCORE).and_then(serde_json::Value::as_f64),
            scores: lists(item, SCORES).into(),
            difference: match lists(item, STATE).as_slice() {
                [first, second] => first.iter().zip(second).map(|(a, b)| a - b).collect(),
                _ => Box::default(),
            },
            task: item.task,
            meta: meta.collect(),
            signature: Signature::of(&searched_text(item)),
        }
    }

    /// Whether a text may be in the item; the item itself knows for sure.
    pub(crate) fn may_hold(&self, needle: &Needle) -> bool {
        self.signature.may_hold(&needle.groups)
    }

    /// Whether the metadata have this name, with this value where one is given.
    pub(crate) fn has(&self, name: &str, value: Option<&str>) -> bool {
        self.meta.iter().any(|(known, has)| {
            **known == *name && value.is_none_or(|value| has.eq_ignore_ascii_case(value))
        })
    }
}

/// A list of numbers of each candidate, as long as the others' and not empty; nothing where one lacks it.
fn lists(item: &Item, name: &str) -> Vec<Box<[f32]>> {
    let numbers = |value: &serde_json::Value| -> Option<Box<[f32]>> {
        let number = |one: &serde_json::Value| {
            one.as_f64().map(|one| one as f32).filter(|one| one.is_finite())
        };
        value.as_array()?.iter().map(number).collect()
    };
    let of = |candidate: &Candidate| numbers(candidate.meta.get(name)?);
    let lists: Option<Vec<Box<[f32]>>> = item.candidates.iter().map(of).collect();
    let are_alike = |lists: &Vec<Box<[f32]>>| {
        let length = lists.first().map_or(0, |first| first.len());
        0 < length && lists.iter().all(|one| one.len() == length)
    };
    lists.filter(are_alike).unwrap_or_default()
}

/// What is searched for: letters of any case.
#[derive(Clone, Debug)]
pub(crate) struct Needle {
    text: String,
    groups: Vec<u64>,
}

impl Needle {
    pub(crate) fn of(text: &str) -> Self {
        let text = text.to_lowercase();
        let groups = groups(&text);
        Self { text, groups }
    }

    /// Whether the item holds it: in its name, its prompt, or an answer.
    pub(crate) fn is_in(&self, item: &Item) -> bool {
        searched_text(item).contains(&self.text)
    }
}

/// The text of an item that is searched, in small letters.
fn searched_text(item: &Item) -> String {
    let mut text = item.id.to_lowercase();
    let prompts = item.prompt.iter().map(|message| message.content.to_lowercase());
    let answers = item.candidates.iter().map(|candidate| candidate.full_text().to_lowercase());
    for part in prompts.chain(answers) {
        text.push('\n');
        text.push_str(&part);
    }
    text
}

/// A number for each group of three letters of a text, some several times.
fn groups(text: &str) -> Vec<u64> {
    let letters: Vec<u64> = text.chars().map(|letter| u64::from(u32::from(letter))).collect();
    letters
        .windows(3)
        .map(|three| {
            let number = three[0] << 42 | three[1] << 21 | three[2];
            number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        })
        .collect()
}

/// Which groups of three letters a text has, with some it has not: so that of many items few have to be read to find a
/// text. Each group sets one bit.
#[derive(Debug)]
struct Signature(Box<[u64]>);

impl Signature {
    fn of(text: &str) -> Self {
        let groups = groups(text);
        let wanted = (groups.len() * BITS_PER_GROUP).next_power_of_two();
        let bits = wanted.clamp(BITS_MIN, BITS_MAX);
        let mut signature = Self(vec![0; bits / 64].into());
        for group in groups {
            let (word, bit) = signature.place(group);
            signature.0[word] |= bit;
        }
        signature
    }

    fn place(&self, group: u64) -> (usize, u64) {
        // The upper bits of the product are the well mixed ones; the number of words is a power of two.
        let bit = usize::try_from(group >> 50).expect("invariant: 14 bits") % (64 * self.0.len());
        (bit / 64, 1 << (bit % 64))
    }

    fn may_hold(&self, groups: &[u64]) -> bool {
        groups.iter().all(|group| {
            let (word, bit) = self.place(*group);
            self.0[word] & bit != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use hearken_data::{Message, Role};

    use super::*;

    fn item(prompt: &str, answer: &str) -> Item {
        let prompt = vec![Message::new(Role::User, prompt)];
        let mut item = Item::new(Task::Rating, prompt, vec![Candidate::text(answer)]);
        item.id = "Item-7".into();
        item
    }

    #[test]
    fn what_is_in_an_item_is_never_passed_over() {
        let long = "Die Größe des Hauses beträgt 17 Meter, и ещё немного. ".repeat(200);
        let item = item(&long, "An *answer*\nof two lines");
        let facts = Facts::of(&item);
        for text in ["größe", "GRÖSSE DES", "17 m", "ещё", "item-7", "lines", "of two", "Я"]
        {
            let needle = Needle::of(text);
            assert!(!needle.is_in(&item) || facts.may_hold(&needle), "{text}");
        }
        assert!(Needle::of("größe").is_in(&item) && Needle::of("ITEM-7").is_in(&item));
        assert!(!Needle::of("lines an").is_in(&item));
    }

    /// Of items with other words, few have to be read.
    #[test]
    fn most_of_the_others_are_passed_over() {
        let words = |at: usize| {
            let number = |n: usize| format!("{:x}", (at * 7919 + n).wrapping_mul(2_654_435_761));
            (0..60).map(number).collect::<Vec<_>>().join(" ")
        };
        let needle = Needle::of("photosynthesis");
        let read = (0..500).filter(|at| Facts::of(&item(&words(*at), "x")).may_hold(&needle));
        assert!(read.count() < 10);
    }

    #[test]
    fn metadata_are_found_by_name_and_value() {
        let mut item = item("a", "b");
        item.meta.insert("language".into(), "De".into());
        item.meta.insert("turns".into(), 3.into());
        item.meta.insert("deep".into(), serde_json::json!({"a": 1}));
        let facts = Facts::of(&item);
        assert!(facts.has("language", Some("de")) && facts.has("turns", Some("3")));
        assert!(facts.has("language", None) && !facts.has("language", Some("d")));
        assert!(!facts.has("deep", None));
    }
}
