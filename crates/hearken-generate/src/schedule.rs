//! Who runs next.
//!
//! Sequences enter in the order of the requests, each with pages for its prompt and for as many tokens
//! as are reserved; they take further pages as they grow. Where there are none, what entered last gives
//! way and is the first to enter again: its tokens run once more, as one prompt. Whatever gives way,
//! the sequence that has run longest goes on, so everything ends. In a step every running sequence runs one token; prompts that have entered
//! run in the same step, as many tokens as the step's budget lets, the first come first. That order
//! matters: a prompt may read pages that an earlier one fills in the same step.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::pages::PagePool;
use crate::prefix::CachedTokens;
use crate::request::EngineOptions;
use crate::sequence::{OpenSequence, Prompt, Queued};
use crate::wishes::AdapterId;

/// A part of a prompt that runs in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Index among the scheduler's prompts.
    pub(crate) prompt: usize,
    /// Positions.
    pub(crate) positions: Range<usize>,
    /// Whether the prompt ends with it.
    pub(crate) completes: bool,
}

/// A copy of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageCopy {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// Sequences outside and inside the engine; L is a row of logits, wherever it lies.
#[derive(Debug)]
pub(crate) struct Scheduler<'m, L> {
    queue: VecDeque<Queued<'m, L>>,
    /// Prompts that have entered and not yet run to their end or not yet given all their samples
    /// away. Only the last one can lack samples that have entered.
    pub(crate) prompts: VecDeque<Prompt<'m, L>>,
    /// Sequences that sample.
    pub(crate) running: Vec<OpenSequence<'m, L>>,
    pub(crate) pool: PagePool,
    options: EngineOptions,
    /// Tokens of all prompts that have entered.
    pub(crate) prompt_tokens: usize,
    /// Those of them that have run; the others were found in the cache.
    pub(crate) prefill_tokens: usize,
    /// How many times something gave way.
    pub(crate) preempted: usize,
}

impl<'m, L> Scheduler<'m, L> {
    pub(crate) fn new(
        queue: VecDeque<Queued<'m, L>>,
        pages: usize,
        options: EngineOptions,
    ) -> Self {
        let pool = PagePool::new(pages, options.page_len);
        let (prompts, running) = (VecDeque::new(), Vec::new());
        let (prompt_tokens, prefill_tokens, preempted) = (0, 0, 0);
        Self { queue, prompts, running, pool, options, prompt_tokens, prefill_tokens, preempted }
    }

    /// Lets a request enter when there is room, after all that came before it.
    pub(crate) fn enqueue(&mut self, queued: Queued<'m, L>) {
        self.queue.push_back(queued);
    }

    /// Whether everything has been sampled.
    pub(crate) fn is_done(&self) -> bool {
        self.queue.is_empty() && self.prompts.is_empty() && self.running.is_empty()
    }

    /// Lets running sequences take the pages that they need now, and others enter while there are rows
    /// and pages for them.
    pub(crate) fn admit(&mut self) {
        if self.grow() {
            // What gave way does not come back in the same step.
            return;
        }
        let waiting: usize = self.prompts.iter().map(|prompt| prompt.waiting.len()).sum();
        for _ in self.running.len() + waiting..self.options.batch_rows_max {
            if !self.admit_next() {
                break;
            }
        }
    }

    /// Lets the next sample of the last prompt enter, or else the next prompt with its first.
    fn admit_next(&mut self) -> bool {
        if let Some(prompt) = self.prompts.back_mut().filter(|prompt| !prompt.all_admitted()) {
            return prompt.admit_sample(&mut self.pool);
        }
        let Some(queued) = self.queue.pop_front() else { return false };
        match Prompt::admit(queued, &mut self.pool) {
            Ok(prompt) => {
                self.prompt_tokens += prompt.tokens.len();
                self.prompts.push_back(prompt);
                true
            }
            Err(queued) => {
                self.queue.push_front(queued);
                false
            }
        }
    }

    /// Takes a page for every running sequence whose next token lacks one, in the order in which they
    /// began to run; whether anything gave way for it.
    fn grow(&mut self) -> bool {
        let before = self.preempted;
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].has_room() {
                index += 1;
            } else if let Some(page) = self.pool.take(1) {
                self.running[index].pages.extend(page);
            } else {
                self.preempt();
            }
        }
        before < self.preempted
    }

    /// Lets what entered last give way: a prompt, of which samples are still to run, or else the
    /// sequence that began last.
    fn preempt(&mut self) {
        self.preempted += 1;
        if let Some(prompt) = self.prompts.pop_back() {
            // Pages that it has not filled are not to be found by others.
            let filled = prompt.scheduled / self.options.page_len;
            if prompt.scheduled < prompt.tokens.len() {
                prompt.pages[filled..].iter().for_each(|&page| self.pool.forget(page));
            }
            for queued in prompt.give_way(&mut self.pool).into_iter().rev() {
                self.queue.push_front(queued);
            }
        } else if let Some(sequence) = self.running.pop() {
            self.publish(&sequence);
            self.pool.release(&sequence.pages);
            self.queue.push_front(sequence.into_queued());
        }
    }

    /// Lets prompts that begin like a sequence find what it has run.
    fn publish(&mut self, sequence: &OpenSequence<'m, L>) {
        let ids = &sequence.cached_ids();
        let tokens = CachedTokens { adapter: sequence.adapter(), ids };
        self.pool.publish_prefix(tokens, &sequence.pages);
    }

    /// Whether anything that waits or runs goes through an adapter.
    pub(crate) fn uses(&self, adapter: AdapterId) -> bool {
        let wanted = Some(adapter);
        self.queue.iter().any(|queued| queued.terms.wishes.adapter == wanted)
            || self.prompts.iter().any(|prompt| prompt.adapter() == wanted)
            || self.running.iter().any(|sequence| sequence.adapter() == wanted)
    }

    /// The parts of prompts that run in this step.
    pub(crate) fn plan_prefill(&mut self) -> Vec<Chunk> {
        let mut budget = self.options.prefill_tokens_per_step;
        let mut chunks = Vec::new();
        for (index, prompt) in self.prompts.iter_mut().enumerate() {
            let len = prompt.tokens.len();
            let start = prompt.scheduled;
            let end = len.min(start + budget);
            if start < end {
                chunks.push(Chunk { prompt: index, positions: start..end, completes: end == len });
                prompt.scheduled = end;
                budget -= end - start;
                self.prefill_tokens += end - start;
            }
        }
        chunks
    }

    /// Takes the logits after prompts that have run to their end in this step, and starts all
    /// samples that waited for their prompt. The copies must be made before the next step runs.
    pub(crate) fn start(
        &mut self,
        completed: impl IntoIterator<Item = (usize, Arc<L>)>,
    ) -> Vec<PageCopy> {
        for (prompt, logits) in completed {
            self.prompts[prompt].logits = Some(logits);
        }
        let mut copies = Vec::new();
        for prompt in &mut self.prompts {
            let Some(logits) = &prompt.logits else { continue };
            let partial = prompt.partial_page();
            let at = prompt.extent.full_prompt_pages();
            for mut sequence in prompt.waiting.drain(..) {
                // The sample that entered with the prompt owns the page itself.
                if let Some(from) = partial.filter(|&from| from != sequence.pages[at]) {
                    copies.push(PageCopy { from, to: sequence.pages[at] });
                }
                sequence.start(Arc::clone(logits));
                self.running.push(sequence);
            }
        }
        copies
    }

    /// Removes ended sequences and prompts whose samples have all started; returns the former. What
    /// they leave in the cache is found by prompts that begin like them, until its pages are needed.
    pub(crate) fn retire(&mut self) -> Vec<OpenSequence<'m, L>> {
        let ended: Vec<_> =
            self.running.extract_if(.., |sequence| sequence.ended.is_some()).collect();
        for sequence in &ended {
            self.publish(sequence);
            self.pool.release(&sequence.pages);
        }
        let pool = &mut self.pool;
        self.prompts.retain(|prompt| {
            let is_needed = prompt.logits.is_none() || !prompt.all_admitted();
            if !is_needed {
                pool.release(&prompt.pages);
            }
            is_needed
        });
        ended
    }

    /// Removes a request with all of its samples, wherever they are; whether there was anything of it.
    pub(crate) fn cancel(&mut self, index: usize) -> bool {
        let before = (self.queue.len(), self.prompts.len(), self.running.len());
        self.queue.retain(|queued| queued.index != index);
        if let Some(at) = self.prompts.iter().position(|prompt| prompt.index == index) {
            self.hand_over(at);
            let prompt = self.prompts.remove(at).expect("the prompt was found there");
            for sequence in &prompt.waiting {
                self.pool.release(&sequence.pages);
            }
            self.pool.release(&prompt.pages);
        }
        for sequence in self.running.extract_if(.., |sequence| sequence.request == index) {
            self.pool.release(&sequence.pages);
        }
        before != (self.queue.len(), self.prompts.len(), self.running.len())
    }

    /// Prompts that entered after the one at `leaving` may count on pages that it has not run yet: the
    /// first of them runs each such page instead. What nobody counts on is not to be found any more.
    fn hand_over(&mut self, leaving: usize) {
        let (page_len, prompt) = (self.options.page_len, &self.prompts[leaving]);
        let mut unfilled: Vec<u32> = prompt.pages[prompt.scheduled / page_len..].to_vec();
        if prompt.scheduled == prompt.tokens.len() {
            unfilled.clear();
        }
        for later in self.prompts.iter_mut().skip(leaving + 1) {
            let first = later.pages.iter().position(|page| unfilled.contains(page));
            let Some(first) = first else { continue };
            later.scheduled = later.scheduled.min(first * page_len);
            unfilled.retain(|page| !later.pages.contains(page));
        }
        for page in unfilled {
            self.pool.forget(page);
        }
    }
}

/// The most pages that are of use: those of as many of the largest sequences as may run at once.
pub(crate) fn pages_of_use<L>(queue: &[Queued<'_, L>], batch_rows_max: usize) -> usize {
    let largest = |mut pages: Vec<usize>| {
        pages.sort_unstable_by(|a, b| b.cmp(a));
        pages.iter().take(batch_rows_max).sum::<usize>()
    };
    let own = queue.iter().flat_map(|queued| {
        let samples = queued.request.samples.min(batch_rows_max);
        std::iter::repeat_n(queued.extent.own_pages(), samples)
    });
    let shared = queue.iter().map(|queued| queued.extent.full_prompt_pages());
    // One prompt may hold its last page for samples that have not entered.
    largest(own.collect()) + largest(shared.collect()) + 1
}

/// The pages without which a request can never be completed.
pub(crate) fn pages_needed<L>(queued: &Queued<'_, L>) -> usize {
    let later_samples = 1 < queued.request.samples;
    queued.extent.pages() + usize::from(later_samples && queued.extent.has_partial_page())
}

#[cfg(test)]
mod tests;
