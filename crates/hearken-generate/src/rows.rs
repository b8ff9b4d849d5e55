//! The tokens that run in one step, those of one adapter beside each other.

use std::ops::Range;

use hearken_tensor::device::CachedRow;

use crate::schedule::{Chunk, Scheduler};
use crate::wishes::AdapterId;

/// What a step runs: the last token of every running sequence, and parts of prompts. The base's rows come first, then
/// each adapter's; among them sequences and prompts keep their order, in which one prompt fills pages for the next.
#[derive(Debug, Default)]
pub(crate) struct StepRows<'a> {
    pub(crate) tokens: Vec<u32>,
    pub(crate) places: Vec<CachedRow<'a>>,
    /// The rows whose logits are wanted: those of running sequences, then the last ones of prompts that end.
    pub(crate) wanted: Vec<usize>,
    /// The rows of each adapter.
    pub(crate) adapted: Vec<(AdapterId, Range<usize>)>,
}

/// One token.
struct Row<'a> {
    adapter: Option<AdapterId>,
    token: u32,
    place: CachedRow<'a>,
    /// Where its logits are wanted, which of them they are.
    wanted: Option<usize>,
}

impl<'a> StepRows<'a> {
    pub(crate) fn new<L>(scheduler: &'a Scheduler<'_, L>, chunks: &[Chunk]) -> Self {
        let mut rows = Vec::new();
        for sequence in &scheduler.running {
            let (token, position) = sequence.next_token();
            let place = CachedRow { pages: &sequence.pages, position };
            let (adapter, wanted) = (sequence.adapter(), Some(rows.len()));
            rows.push(Row { adapter, token, place, wanted });
        }
        let mut count = rows.len();
        for chunk in chunks {
            let prompt = &scheduler.prompts[chunk.prompt];
            let pages = prompt.pages.as_slice();
            for at in chunk.positions.clone() {
                let place = CachedRow { pages, position: at as u32 };
                let (adapter, token) = (prompt.adapter(), prompt.tokens[at]);
                rows.push(Row { adapter, token, place, wanted: None });
            }
            if let Some(last) = rows.last_mut().filter(|_| chunk.completes) {
                last.wanted = Some(count);
                count += 1;
            }
        }
        Self::grouped(rows, count)
    }

    fn grouped(mut rows: Vec<Row<'a>>, count: usize) -> Self {
        rows.sort_by_key(|row| row.adapter);
        let mut grouped = Self { wanted: vec![0; count], ..Self::default() };
        for group in rows.chunk_by(|row, next| row.adapter == next.adapter) {
            let first = grouped.tokens.len();
            for (index, row) in group.iter().enumerate() {
                grouped.tokens.push(row.token);
                grouped.places.push(row.place);
                if let Some(place) = row.wanted {
                    grouped.wanted[place] = first + index;
                }
            }
            grouped.adapted.extend(group[0].adapter.map(|id| (id, first..grouped.tokens.len())));
        }
        grouped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_adapter_stand_together_in_their_order() {
        let row = |adapter: Option<u64>, token, wanted| Row {
            adapter: adapter.map(AdapterId),
            token,
            place: CachedRow { pages: &[], position: token },
            wanted,
        };
        let rows = vec![
            row(Some(4), 10, Some(0)),
            row(None, 11, Some(1)),
            row(Some(2), 12, Some(2)),
            row(Some(4), 13, None),
            row(Some(4), 14, Some(3)),
            row(None, 15, None),
        ];
        let grouped = StepRows::grouped(rows, 4);
        assert_eq!(grouped.tokens, [11, 15, 12, 10, 13, 14]);
        assert_eq!(grouped.adapted, [(AdapterId(2), 2..3), (AdapterId(4), 3..6)]);
        assert_eq!(grouped.wanted, [3, 0, 2, 5]);
        let positions = grouped.places.iter().map(|place| place.position);
        assert!(positions.eq(grouped.tokens.iter().copied()));
    }
}
