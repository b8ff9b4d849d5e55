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

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}
