//! Which pages hold the beginnings of prompts.

use std::collections::HashMap;

use crate::wishes::AdapterId;

/// A page in the tree of prompt beginnings. Ids are never used twice, so that the children of a
/// forgotten page cannot be found again.
type NodeId = u64;

/// What a page comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Before {
    /// Nothing: it begins prompts of an adapter, or of the base, whose keys and values are others.
    Nothing(Option<AdapterId>),
    /// Another page.
    Page(NodeId),
}

/// Where a page stands in the tree: after which page, and which tokens it holds. Looking up compares
/// the tokens themselves, so equal hashes cannot mix prompts up.
type PageKey = (Before, Box<[u32]>);

/// Tokens whose keys and values a cache keeps, and the adapter that they run through; none is the base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedTokens<'a> {
    pub(crate) adapter: Option<AdapterId>,
    pub(crate) ids: &'a [u32],
}

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
    pub(crate) fn find(&self, tokens: CachedTokens<'_>, page_len: usize) -> Vec<u32> {
        let mut before = Before::Nothing(tokens.adapter);
        let mut pages = Vec::new();
        for chunk in tokens.ids.chunks_exact(page_len) {
            let Some(&(id, page)) = self.nodes.get(&(before, chunk.into())) else { break };
            pages.push(page);
            before = Before::Page(id);
        }
        pages
    }

    /// Enters the full pages of `tokens`. Where another page holds the same beginning already, that
    /// one stays.
    pub(crate) fn insert(&mut self, tokens: CachedTokens<'_>, page_len: usize, pages: &[u32]) {
        let mut before = Before::Nothing(tokens.adapter);
        for (chunk, &page) in tokens.ids.chunks_exact(page_len).zip(pages) {
            let key = (before, Box::from(chunk));
            before = Before::Page(if let Some(&(id, _)) = self.nodes.get(&key) {
                id
            } else {
                self.last_id += 1;
                self.nodes.insert(key.clone(), (self.last_id, page));
                self.keys.insert(page, key);
                self.last_id
            });
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

    fn base(ids: &[u32]) -> CachedTokens<'_> {
        CachedTokens { adapter: None, ids }
    }

    impl PrefixTree {
        fn insert_base(&mut self, ids: &[u32], page_len: usize, pages: &[u32]) {
            self.insert(base(ids), page_len, pages);
        }

        fn find_base(&self, ids: &[u32], page_len: usize) -> Vec<u32> {
            self.find(base(ids), page_len)
        }
    }

    #[test]
    fn what_an_adapter_made_of_a_beginning_nobody_else_finds() {
        let mut tree = PrefixTree::default();
        let of = |adapter: u64, ids| CachedTokens { adapter: Some(AdapterId(adapter)), ids };
        tree.insert(base(&[1, 2, 3, 4]), 2, &[5, 6]);
        tree.insert(of(0, &[1, 2, 3, 4]), 2, &[7, 8]);
        assert_eq!(tree.find(of(0, &[1, 2, 3, 4]), 2), [7, 8]);
        assert_eq!(tree.find(base(&[1, 2, 3, 4]), 2), [5, 6]);
        assert!(tree.find(of(1, &[1, 2, 3, 4]), 2).is_empty());
    }

    #[test]
    fn finds_the_longest_common_beginning_in_full_pages() {
        let mut tree = PrefixTree::default();
        tree.insert_base(&[1, 2, 3, 4, 5], 2, &[7, 8]);
        let check =
            |tokens: &[u32], expected: &[u32]| assert_eq!(tree.find_base(tokens, 2), expected);
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
        tree.insert_base(&[1, 2, 3, 4], 2, &[7, 8]);
        tree.forget(7);
        assert!(tree.find_base(&[1, 2, 3, 4], 2).is_empty());
        tree.insert_base(&[1, 2, 3, 4], 2, &[5, 6]);
        assert_eq!(tree.find_base(&[1, 2, 3, 4], 2), [5, 6]);
        assert!(tree.contains(8) && !tree.contains(7));
        tree.forget(8);
        assert_eq!(tree.find_base(&[1, 2, 3, 4], 2), [5, 6]);
    }

    #[test]
    fn the_first_page_with_a_beginning_stays() {
        let mut tree = PrefixTree::default();
        tree.insert_base(&[1, 2, 3, 4], 2, &[7, 8]);
        tree.insert_base(&[1, 2, 5, 6], 2, &[9, 10]);
        assert_eq!(tree.find_base(&[1, 2, 5, 6], 2), [7, 10]);
        assert!(!tree.contains(9));
    }
}
