//! The hash by which an item is known.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Candidate, Item, Media, Task};
use crate::content::Message;
use crate::hexadecimal::hexadecimal;

/// What an annotator judges. The order of the fields is part of the hash.
#[derive(Serialize)]
struct HashedItem<'a> {
    task: Task,
    prompt: &'a [Message],
    media: &'a [Media],
    candidates: Vec<HashedContent<'a>>,
}

#[derive(Serialize)]
struct HashedContent<'a> {
    text: &'a str,
    steps: &'a [String],
    media: &'a [Media],
    model: Option<&'a str>,
}

/// 32 hexadecimal digits of SHA-256 over the JSON of what is judged.
pub(super) fn of_item(item: &Item) -> String {
    let judged = HashedItem {
        task: item.task,
        prompt: &item.prompt,
        media: &item.media,
        candidates: item.candidates.iter().map(HashedContent::of).collect(),
    };
    let json = serde_json::to_vec(&judged).expect("strings and lists of them serialise");
    hexadecimal(&Sha256::digest(&json)[..16])
}

impl<'a> HashedContent<'a> {
    fn of(candidate: &'a Candidate) -> Self {
        Self {
            text: &candidate.text,
            steps: &candidate.steps,
            media: &candidate.media,
            model: candidate.model.as_deref(),
        }
    }
}
