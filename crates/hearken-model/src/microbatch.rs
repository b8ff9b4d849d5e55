//! Splitting the trees of an optimizer step into forward passes of bounded size.

use std::ops::Range;

/// Consecutive groups of trees with at most `tokens_max` rows each; a tree that alone is larger is
/// a group of its own. Trees are never split, and their order stays.
///
/// ```
/// use hearken_model::microbatch::microbatches;
/// assert_eq!(microbatches(&[60, 40, 10, 300, 5], 100), [0..2, 2..3, 3..4, 4..5]);
/// ```
pub fn microbatches(tree_rows: &[usize], tokens_max: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut held = 0;
    for (index, &rows) in tree_rows.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if held + rows <= tokens_max => {
                group.end = index + 1;
                held += rows;
            }
            _ => {
                groups.push(index..index + 1);
                held = rows;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_every_tree_once_in_order() {
        let rows = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5];
        for tokens_max in 1..50 {
            let groups = microbatches(&rows, tokens_max);
            let covered: Vec<usize> = groups.iter().cloned().flatten().collect();
            assert_eq!(covered, (0..rows.len()).collect::<Vec<_>>());
            for group in groups {
                let total: usize = rows[group.clone()].iter().sum();
                assert!(total <= tokens_max || group.len() == 1);
            }
        }
    }

    #[test]
    fn nothing_makes_no_group() {
        assert!(microbatches(&[], 10).is_empty());
    }
}
