//! A batch without padding: segments of tokens that continue one another.

use std::ops::Range;

/// A run of consecutive rows of a batch that continues another segment, or starts a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The segment that this one continues; `None` starts a sequence at position 0.
    pub parent: Option<usize>,
    /// The first row of the segment in the batch.
    pub start: usize,
    /// Number of rows; may be 0.
    pub len: usize,
    /// The position of the first row: the number of tokens on the path above.
    pub first_position: usize,
}

impl Segment {
    /// The rows of the batch that belong to this segment.
    pub fn rows(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// Which row sees which: a row sees its own segment up to itself, and all of its ancestors.
///
/// A prompt with several completions is one segment with several children; a preference pair is
/// the longest common prefix with two children; packed sequences are roots without children.
///
/// ```
/// use hearken_tensor::Forest;
/// let mut forest = Forest::new();
/// let prompt = forest.push(None, 3);
/// forest.push(Some(prompt), 2);
/// forest.push(Some(prompt), 1);
/// assert_eq!(forest.positions(), [0, 1, 2, 3, 4, 3]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forest {
    segments: Vec<Segment>,
    rows: usize,
}

impl Forest {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a segment of `len` rows that continues `parent`, and returns its index.
    ///
    /// # Panics
    /// If `parent` is not the index of an earlier segment.
    pub fn push(&mut self, parent: Option<usize>, len: usize) -> usize {
        let first_position = parent.map_or(0, |index| {
            assert!(index < self.segments.len(), "a segment continues an earlier one");
            self.segments[index].first_position + self.segments[index].len
        });
        self.segments.push(Segment { parent, start: self.rows, len, first_position });
        self.rows += len;
        self.segments.len() - 1
    }

    /// All segments, parents before children.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Number of rows of the batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The position of each row along its path, from 0.
    pub fn positions(&self) -> Vec<u32> {
        let position = |segment: &Segment| {
            let first = segment.first_position as u32;
            first..first + segment.len as u32
        };
        self.segments.iter().flat_map(position).collect()
    }

    /// The indices of the segments from the root down to `segment`, itself included.
    pub fn path(&self, segment: usize) -> Vec<usize> {
        let mut path = vec![segment];
        while let Some(parent) = self.segments[path[path.len() - 1]].parent {
            path.push(parent);
        }
        path.reverse();
        path
    }

    /// The segments grouped by the root that they descend from; groups do not see one another.
    pub fn trees(&self) -> Vec<Vec<usize>> {
        let mut tree_of = vec![0; self.segments.len()];
        let mut trees: Vec<Vec<usize>> = Vec::new();
        for (index, segment) in self.segments.iter().enumerate() {
            tree_of[index] = if let Some(parent) = segment.parent {
                tree_of[parent]
            } else {
                trees.push(Vec::new());
                trees.len() - 1
            };
            trees[tree_of[index]].push(index);
        }
        trees
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_continue_the_path_and_not_the_rows() {
        let mut forest = Forest::new();
        let root = forest.push(None, 2);
        let left = forest.push(Some(root), 1);
        let empty = forest.push(Some(root), 0);
        let below_empty = forest.push(Some(empty), 2);
        let other = forest.push(None, 1);
        assert_eq!(forest.positions(), [0, 1, 2, 2, 3, 0]);
        assert_eq!(forest.path(below_empty), [root, empty, below_empty]);
        assert_eq!(forest.trees(), [vec![root, left, empty, below_empty], vec![other]]);
        assert_eq!(forest.segments()[below_empty].rows(), 3..5);
    }

    #[test]
    #[should_panic(expected = "continues an earlier one")]
    fn a_parent_must_exist() {
        Forest::new().push(Some(0), 1);
    }
}
