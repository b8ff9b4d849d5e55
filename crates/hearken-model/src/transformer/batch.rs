//! Tokens on a segment forest.

use hearken_tensor::Forest;

/// The tokens of a batch and which of them see which.
///
/// ```
/// use hearken_model::Batch;
/// let mut batch = Batch::new();
/// let prompt = batch.push(None, &[5, 6]);
/// let answer = batch.push(Some(prompt), &[7, 8, 9]);
/// assert_eq!(batch.row(answer, 0), 2);
/// assert_eq!(batch.rows(), 5);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// One token per row.
    pub tokens: Vec<u32>,
    /// The segments that the rows belong to.
    pub forest: Forest,
    /// In a training pass of a model with dropout, what decides which elements are dropped: of a row, it
    /// follows from this seed and from the tokens up to the row, whatever else the batch holds.
    pub dropout: Option<u64>,
}

impl Batch {
    /// A batch without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `tokens` as a continuation of segment `parent`, or as a new sequence; returns the
    /// index of the new segment.
    ///
    /// # Panics
    /// If `parent` is not the index of an earlier segment.
    pub fn push(&mut self, parent: Option<usize>, tokens: &[u32]) -> usize {
        self.tokens.extend_from_slice(tokens);
        self.forest.push(parent, tokens.len())
    }

    /// The row of the token `index` of `segment`.
    ///
    /// # Panics
    /// If the segment has no such token.
    pub fn row(&self, segment: usize, index: usize) -> usize {
        let segment = self.forest.segments()[segment];
        assert!(index < segment.len, "token {index} of a segment of {}", segment.len);
        segment.start + index
    }

    /// The row of the last token on the path that ends with `segment`, looking above empty
    /// segments; `None` if the whole path is empty.
    pub fn last_row(&self, segment: usize) -> Option<usize> {
        let path = self.forest.path(segment);
        let segments = self.forest.segments();
        let last = path.iter().rev().map(|&index| segments[index]).find(|segment| 0 < segment.len);
        last.map(|segment| segment.start + segment.len - 1)
    }

    /// A number for each row that follows from `seed` and the tokens on the path up to the row.
    pub(crate) fn row_keys(&self, seed: u64) -> Vec<u32> {
        let mut hashes = vec![0; self.rows()];
        for segment in self.forest.segments() {
            let before = segment.parent.and_then(|parent| self.last_row(parent));
            let mut hash = before.map_or_else(|| mix(seed), |row| hashes[row]);
            for row in segment.rows() {
                hash = mix(hash ^ u64::from(self.tokens[row]));
                hashes[row] = hash;
            }
        }
        hashes.into_iter().map(|hash: u64| (hash >> 32) as u32).collect()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}

/// Mixes all bits: the step of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_row_follows_from_the_tokens_up_to_it() {
        let (prompt, answers) = ([5, 6, 7], [[8, 9], [8, 1]]);
        let mut tree = Batch::new();
        let root = tree.push(None, &prompt);
        let empty = tree.push(Some(root), &[]);
        for answer in &answers {
            tree.push(Some(empty), answer);
        }
        let keys = tree.row_keys(3);
        for (index, answer) in answers.iter().enumerate() {
            let mut apart = Batch::new();
            apart.push(None, &[1, 2]);
            let whole = apart.push(None, &[&prompt[..], &answer[..]].concat());
            let first = apart.row(whole, 0);
            let apart = &apart.row_keys(3)[first..];
            assert_eq!(apart[..3], keys[..3]);
            assert_eq!(apart[3..], keys[3 + 2 * index..][..2]);
        }
        assert_eq!(keys[3], keys[5]);
        assert_ne!(keys[4], keys[6]);
        assert_ne!(keys, tree.row_keys(4));
    }
}
