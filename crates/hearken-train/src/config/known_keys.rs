//! Which keys a section knows, and which of them a misspelt one resembles.

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The field names of a struct, as its `Deserialize` asks for them.
pub(super) fn known_keys<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The error is how the probe ends: it has the names by then.
    let _ = T::deserialize(Probe { fields: &mut fields });
    fields
}

struct Probe<'a> {
    fields: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a probe holds no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.fields = fields;
        Err(Error::custom("a probe holds no value"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The candidate with the fewest edits to `key`, if they are few enough to be a misspelling.
pub(super) fn nearest<'a>(
    key: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let measured = candidates.into_iter().map(|known| (edits(key, known), known));
    let (distance, known) = measured.min_by_key(|(distance, _)| *distance)?;
    let lengths = key.chars().count().max(known.chars().count());
    (distance * 2 <= lengths).then_some(known)
}

/// Levenshtein's distance: insertions, deletions and substitutions of characters.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_declaration_order() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only the names are read")]
        struct Section {
            first: u64,
            second: Option<String>,
        }
        assert_eq!(known_keys::<Section>(), ["first", "second"]);
    }

    #[test]
    fn a_misspelling_finds_its_key_and_nonsense_finds_none() {
        let known = ["batch_size", "steps", "epochs"];
        assert_eq!(nearest("bach_size", known), Some("batch_size"));
        assert_eq!(nearest("step", known), Some("steps"));
        assert_eq!(nearest("zzzzzz", known), None);
    }

    #[test]
    fn edits_counts_the_classic_example() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}
