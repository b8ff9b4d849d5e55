//! Which pairs of tokens a byte-level BPE tokenizer merges.
//!
//! The most frequent pair of neighbors becomes a token, again and again: Sennrich et al. 2016,
//! arXiv:1508.07909. Of equally frequent pairs the one of the smaller ids is first. Every pair knows where
//! it stands, so that a merge costs what it changes: the time is about linear in the length of the
//! words, however long they are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// What no symbol is: the neighbor of a word's first and last, and the id of one that was merged away.
const NONE: u32 = u32::MAX;

/// Two neighboring tokens.
type TokenPair = (u32, u32);

/// Learned tokens.
#[derive(Debug)]
pub(super) struct Merges {
    /// All tokens; the index is the id.
    pub(super) tokens: Vec<String>,
    /// What is merged, in order.
    pub(super) pairs: Vec<(String, String)>,
    /// Places that were looked at while they were learned, which is what that costs.
    #[cfg(test)]
    places_read: usize,
}

/// How often a pair stands where.
#[derive(Debug, Default)]
struct Occurrences {
    count: i64,
    /// Positions of the first token, where the pair may have gone since.
    places: Vec<u32>,
}

/// All words, one after the other, each a list of symbols with neighbors.
struct Words {
    ids: Vec<u32>,
    previous: Vec<u32>,
    next: Vec<u32>,
    /// The word of each symbol.
    word: Vec<u32>,
    /// How often each word occurs.
    counts: Vec<i64>,
    pairs: HashMap<TokenPair, Occurrences>,
    #[cfg(test)]
    places_read: usize,
}

impl Merges {
    /// Learns merges up to `vocab_size` tokens, or until no pair occurs `count_min` times. `tokens` are
    /// those that are there from the start; characters of `words` that are none of them are passed
    /// over. `progress` is told how many tokens there are after each merge.
    pub(super) fn learn(
        tokens: Vec<String>,
        words: &[(String, u64)],
        vocab_size: usize,
        count_min: u64,
        progress: &mut dyn FnMut(usize),
    ) -> Self {
        let mut ids: HashMap<String, u32> =
            tokens.iter().zip(0..).map(|(token, id)| (token.clone(), id)).collect();
        let mut words = Words::new(&ids, words);
        let mut queue: BinaryHeap<(i64, Reverse<TokenPair>)> = {
            let pairs = words.pairs.iter().map(|(pair, found)| (found.count, Reverse(*pair)));
            pairs.collect()
        };
        let mut merges = Self {
            tokens,
            pairs: Vec::new(),
            #[cfg(test)]
            places_read: 0,
        };
        while merges.tokens.len() < vocab_size {
            let Some((count, Reverse(pair))) = queue.pop() else { break };
            let found = words.pairs.get(&pair).map_or(0, |found| found.count);
            if found != count {
                // It has become rarer since it was put there.
                if 0 < found {
                    queue.push((found, Reverse(pair)));
                }
                continue;
            }
            if count < count_min.max(1).cast_signed() {
                break;
            }
            let [first, second] = [pair.0, pair.1].map(|id| merges.tokens[id as usize].clone());
            let token = format!("{first}{second}");
            let id = *ids.entry(token.clone()).or_insert_with(|| {
                merges.tokens.push(token);
                (merges.tokens.len() - 1) as u32
            });
            merges.pairs.push((first, second));
            for pair in words.merge(pair, id) {
                let count = words.pairs.get(&pair).map_or(0, |found| found.count);
                if 0 < count {
                    queue.push((count, Reverse(pair)));
                }
            }
            progress(merges.tokens.len());
        }
        #[cfg(test)]
        (merges.places_read = words.places_read);
        merges
    }
}

impl Words {
    fn new(ids: &HashMap<String, u32>, words: &[(String, u64)]) -> Self {
        let mut this = Self {
            ids: Vec::new(),
            previous: Vec::new(),
            next: Vec::new(),
            word: Vec::new(),
            counts: Vec::with_capacity(words.len()),
            pairs: HashMap::new(),
            #[cfg(test)]
            places_read: 0,
        };
        let mut buffer = [0; 4];
        for (index, (word, count)) in words.iter().enumerate() {
            this.counts.push(i64::try_from(*count).unwrap_or(i64::MAX));
            let start = this.ids.len();
            let known = word.chars().filter_map(|c| ids.get(&*c.encode_utf8(&mut buffer)));
            this.ids.extend(known);
            for at in start..this.ids.len() {
                this.word.push(index as u32);
                this.previous.push(if at == start { NONE } else { at as u32 - 1 });
                this.next.push(if at + 1 == this.ids.len() { NONE } else { at as u32 + 1 });
            }
        }
        for at in 0..this.ids.len() {
            if this.next[at] != NONE {
                this.add((this.ids[at], this.ids[at + 1]), at as u32);
            }
        }
        this
    }

    fn count_at(&self, at: u32) -> i64 {
        self.counts[self.word[at as usize] as usize]
    }

    fn add(&mut self, pair: TokenPair, at: u32) {
        let count = self.count_at(at);
        let found = self.pairs.entry(pair).or_default();
        found.count += count;
        found.places.push(at);
    }

    fn remove(&mut self, pair: TokenPair, at: u32) {
        let count = self.count_at(at);
        if let Some(found) = self.pairs.get_mut(&pair) {
            found.count -= count;
        }
    }

    /// Merges a pair wherever it stands, from left to right; returns the pairs that became more
    /// frequent.
    fn merge(&mut self, pair: TokenPair, id: u32) -> Vec<TokenPair> {
        let mut places = self.pairs.remove(&pair).unwrap_or_default().places;
        #[cfg(test)]
        (self.places_read += places.len());
        places.sort_unstable();
        places.dedup();
        let mut grown = Vec::new();
        for at in places {
            let (here, second) = (at as usize, self.next[at as usize]);
            let stands =
                self.ids[here] == pair.0 && second != NONE && self.ids[second as usize] == pair.1;
            if !stands {
                continue;
            }
            let (left, right) = (self.previous[here], self.next[second as usize]);
            self.ids[here] = id;
            self.ids[second as usize] = NONE;
            self.next[here] = right;
            if left != NONE {
                let neighbor = self.ids[left as usize];
                self.remove((neighbor, pair.0), at);
                self.add((neighbor, id), left);
                grown.push((neighbor, id));
            }
            if right != NONE {
                let neighbor = self.ids[right as usize];
                self.previous[right as usize] = at;
                self.remove((pair.1, neighbor), at);
                self.add((id, neighbor), at);
                grown.push((id, neighbor));
            }
        }
        grown.sort_unstable();
        grown.dedup();
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(words: &[(&str, u64)], vocab_size: usize) -> Vec<String> {
        let tokens: Vec<String> = ('a'..='e').map(String::from).collect();
        let words: Vec<_> =
            words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect();
        Merges::learn(tokens, &words, vocab_size, 2, &mut |_| {}).tokens.split_off(5)
    }

    #[test]
    fn the_most_frequent_pair_is_merged_first_and_ties_by_id() {
        assert_eq!(learned(&[("abab", 2), ("cd", 3)], 7), ["ab", "cd"]);
        assert_eq!(learned(&[("cd", 2), ("ab", 2)], 7), ["ab", "cd"]);
        assert_eq!(learned(&[("ab", 1)], 7), [""; 0], "once is not often");
    }

    #[test]
    fn neighbors_of_one_kind_are_merged_from_the_left() {
        assert_eq!(
            learned(&[("aaaaa", 2)], 100),
            ["aa", "aaa", "aaaaa"],
            "as Hugging Face tokenizers 0.23 learns them"
        );
        assert_eq!(learned(&[("aaa", 5)], 100), ["aa", "aaa"]);
    }

    #[test]
    fn characters_that_are_no_tokens_are_passed_over() {
        assert_eq!(learned(&[("a-b", 2), ("?", 9)], 7), ["ab"]);
    }

    /// A word as long as a file: DNA, a line of data.
    #[test]
    fn a_text_without_spaces_costs_what_its_length_says() {
        let read = |length: usize| {
            let text: String = (0..length).map(|i| ["ab", "ac", "ba"][i * i % 7 % 3]).collect();
            let tokens = ('a'..='c').map(String::from).collect();
            Merges::learn(tokens, &[(text, 1)], 150, 2, &mut |_| {}).places_read
        };
        let (short, long) = (read(5_000), read(40_000));
        assert!(5_000 <= short && long <= 10 * short, "{short}, then {long}");
    }
}
