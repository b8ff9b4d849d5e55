//! Who owns which page of the cache.

use std::collections::BTreeSet;

use crate::prefix::{CachedTokens, PrefixTree};

/// The pages of a cache with the number of owners of each.
///
/// A page without owners is free, or idle: it holds the beginning of a prompt and is kept in case
/// another prompt begins alike, until pages run out.
#[derive(Debug)]
pub(crate) struct PagePool {
    page_len: usize,
    owners: Vec<u32>,
    free: Vec<u32>,
    /// Idle pages, with the time of their last release before them.
    idle: BTreeSet<(u64, u32)>,
    /// When each page was released last.
    released: Vec<u64>,
    clock: u64,
    prefixes: PrefixTree,
}

impl PagePool {
    pub(crate) fn new(pages: usize, page_len: usize) -> Self {
        Self {
            page_len,
            owners: vec![0; pages],
            // The lowest numbers are handed out first: pages that are never used cost no memory.
            free: (0..pages as u32).rev().collect(),
            idle: BTreeSet::new(),
            released: vec![0; pages],
            clock: 0,
            prefixes: PrefixTree::default(),
        }
    }

    /// Pages that could be taken at once.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Takes `n` pages, idle ones only where there are no free ones; `None` if there are too few.
    pub(crate) fn take(&mut self, n: usize) -> Option<Vec<u32>> {
        (n <= self.available()).then(|| (0..n).map(|_| self.take_one()).collect())
    }

    fn take_one(&mut self) -> u32 {
        let page = self.free.pop().unwrap_or_else(|| {
            let (_, page) = self.idle.pop_first().expect("a page is available");
            self.prefixes.forget(page);
            page
        });
        self.owners[page as usize] = 1;
        page
    }

    /// Pages that have owners.
    pub(crate) fn owned(&self) -> usize {
        self.owners.len() - self.available()
    }

    /// Pages without owners that are kept in case a prompt begins like what they hold.
    pub(crate) fn kept(&self) -> usize {
        self.idle.len()
    }

    /// Lets no prompt find a page any more. It has an owner.
    pub(crate) fn forget(&mut self, page: u32) {
        debug_assert!(0 < self.owners[page as usize], "page {page} is not idle");
        self.prefixes.forget(page);
    }

    /// Adds an owner to each of `pages`.
    pub(crate) fn share(&mut self, pages: &[u32]) {
        for &page in pages {
            if self.owners[page as usize] == 0 {
                let was_idle = self.idle.remove(&(self.released[page as usize], page));
                assert!(was_idle, "page {page} holds nothing to share");
            }
            self.owners[page as usize] += 1;
        }
    }

    /// Removes an owner from each of `pages`, the pages of one sequence in order of position.
    pub(crate) fn release(&mut self, pages: &[u32]) {
        // Backwards, so that the end of a prompt is given up before its beginning.
        for &page in pages.iter().rev() {
            let owners = &mut self.owners[page as usize];
            *owners = owners.checked_sub(1).expect("a released page has an owner");
            if *owners == 0 && self.prefixes.contains(page) {
                self.clock += 1;
                self.released[page as usize] = self.clock;
                self.idle.insert((self.clock, page));
            } else if *owners == 0 {
                self.free.push(page);
            }
        }
    }

    /// Pages that hold the beginning of a prompt. The prompt's last token is never among what they
    /// hold: it has to run, for the logits that follow it.
    pub(crate) fn find_prefix(&self, prompt: CachedTokens<'_>) -> Vec<u32> {
        let ids = &prompt.ids[..prompt.ids.len().saturating_sub(1)];
        self.prefixes.find(CachedTokens { ids, ..prompt }, self.page_len)
    }

    /// Lets other prompts find the full pages of this one.
    pub(crate) fn publish_prefix(&mut self, prompt: CachedTokens<'_>, pages: &[u32]) {
        self.prefixes.insert(prompt, self.page_len, pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(ids: &[u32]) -> CachedTokens<'_> {
        CachedTokens { adapter: None, ids }
    }

    #[test]
    fn a_page_returns_when_its_last_owner_leaves() {
        let mut pool = PagePool::new(3, 2);
        let pages = pool.take(2).unwrap();
        pool.share(&pages[..1]);
        pool.release(&pages);
        assert_eq!(pool.available(), 2);
        assert_eq!(pool.take(3), None);
        pool.release(&pages[..1]);
        assert_eq!(pool.available(), 3);
    }

    #[test]
    #[should_panic(expected = "has an owner")]
    fn releasing_twice_is_a_bug() {
        let mut pool = PagePool::new(1, 2);
        let pages = pool.take(1).unwrap();
        pool.release(&pages);
        pool.release(&pages);
    }

    #[test]
    fn a_prefix_is_found_after_its_owner_left_until_pages_run_out() {
        let mut pool = PagePool::new(4, 2);
        let prompt = [1, 2, 3, 4, 5];
        let pages = pool.take(3).unwrap();
        pool.publish_prefix(base(&prompt), &pages);
        pool.release(&pages);
        assert_eq!(pool.available(), 4);
        assert_eq!(pool.find_prefix(base(&prompt)), pages[..2]);

        let found = pool.find_prefix(base(&prompt));
        pool.share(&found);
        assert_eq!(pool.available(), 2);
        pool.release(&found);

        // Two are free; the third is the prompt's second page, which is of least use.
        let taken = pool.take(3).unwrap();
        assert!(taken.contains(&pages[1]));
        assert_eq!(pool.find_prefix(base(&prompt)), pages[..1]);
        pool.release(&taken);
        assert_eq!(pool.available(), 4);
    }

    #[test]
    fn the_last_token_of_a_prompt_is_never_reused() {
        let mut pool = PagePool::new(2, 2);
        let pages = pool.take(2).unwrap();
        pool.publish_prefix(base(&[1, 2, 3, 4]), &pages);
        assert_eq!(pool.find_prefix(base(&[1, 2, 3, 4])), pages[..1]);
        assert_eq!(pool.find_prefix(base(&[1, 2, 3, 4, 5])), pages);
        assert!(pool.find_prefix(base(&[1])).is_empty());
    }
}
