//! Which pages hold the beginnings of prompts.

use std::collections::HashMap;

/// A page in the tree of prompt beginnings. Ids are never used twice, so that the children of a
/// forgotten page cannot be found again.
type NodeId = u64;

/// What comes before every prompt.
const ROOT: NodeId = 0;

/// Where a page stands in the tree: after which page, and which tokens it holds. Looking up compares
/// the tokens themselves, so equal hashes cannot mix prompts up.
type PageKey = (NodeId, Box<[u32]>);

/// A tree of full pages, each found by the tokens of the page and of all pages before it.
#[derive(Debug, Default)]
pub(crate) struct PrefixTree {
    nodes: HashMap<PageKey, (NodeId, u32)>,
    /// The key of each page that is in the tree.
    keys: HashMap<u32, PageKey>,
    last_id: NodeId,
}

impl PrefixTree {
    /// The pages that hold the beginning of `tokens`, as far as there are any.
    pub(crate) fn find(&self, tokens: &[u32], page_len: usize) -> Vec<u32> {
        let mut parent = ROOT;
        let mut pages = Vec::new();
        for chunk in tokens.chunks_exact(page_len) {
            let Some(&(id, page)) = self.nodes.get(&(parent, chunk.into())) else { break };
            pages.push(page);
            parent = id;
        }
        pages
    }

    /// Enters the full pages of `tokens`. Where another page holds the same beginning already, that
    /// one stays.
    pub(crate) fn insert(&mut self, tokens: &[u32], page_len: usize, pages: &[u32]) {
        let mut parent = ROOT;
        for (chunk, &page) in tokens.chunks_exact(page_len).zip(pages) {
            let key = (parent, Box::from(chunk));
            parent = if let Some(&(id, _)) = self.nodes.get(&key) {
                id
            } else {
                self.last_id += 1;
                self.nodes.insert(key.clone(), (self.last_id, page));
                self.keys.insert(page, key);
                self.last_id
            };
        }
    }

    /// Whether a page is in the tree.
    pub(crate) fn contains(&self, page: u32) -> bool {
        self.keys.contains_key(&page)
    }

    /// Takes a page out.
    pub(crate) fn forget(&mut self, page: u32) {
        if let Some(key) = self.keys.remove(&page) {
            self.nodes.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_longest_common_beginning_in_full_pages() {
        let mut tree = PrefixTree::default();
        tree.insert(&[1, 2, 3, 4, 5], 2, &[7, 8]);
        let check = |tokens: &[u32], expected: &[u32]| assert_eq!(tree.find(tokens, 2), expected);
        check(&[1, 2, 3, 4, 5], &[7, 8]);
        check(&[1, 2, 3, 4], &[7, 8]);
        check(&[1, 2, 3], &[7]);
        check(&[1, 2, 9, 4], &[7]);
        check(&[3, 4], &[]);
        check(&[1], &[]);
    }

    #[test]
    fn a_forgotten_page_hides_what_follows_it() {
        let mut tree = PrefixTree::default();
        tree.insert(&[1, 2, 3, 4], 2, &[7, 8]);
        tree.forget(7);
        assert!(tree.find(&[1, 2, 3, 4], 2).is_empty());
        tree.insert(&[1, 2, 3, 4], 2, &[5, 6]);
        assert_eq!(tree.find(&[1, 2, 3, 4], 2), [5, 6]);
        assert!(tree.contains(8) && !tree.contains(7));
        tree.forget(8);
        assert_eq!(tree.find(&[1, 2, 3, 4], 2), [5, 6]);
    }

    #[test]
    fn the_first_page_with_a_beginning_stays() {
        let mut tree = PrefixTree::default();
        tree.insert(&[1, 2, 3, 4], 2, &[7, 8]);
        tree.insert(&[1, 2, 5, 6], 2, &[9, 10]);
        assert_eq!(tree.find(&[1, 2, 5, 6], 2), [7, 10]);
        assert!(!tree.contains(9));
    }
}
