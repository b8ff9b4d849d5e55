//! Who runs next.
//!
//! Sequences enter in the order of the requests, each with all the pages it can ever need, so that
//! none is interrupted. In a step every running sequence runs one token; prompts that have entered
//! run in the same step, as many tokens as the step's budget lets, the first come first. That order
//! matters: a prompt may read pages that an earlier one fills in the same step.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::pages::PagePool;
use crate::request::{EngineOptions, Request};
use crate::sequence::{Extent, Prompt, Sequence};
use crate::stop::StopRules;

/// A request that has not entered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued<'a> {
    /// Index of the request.
    pub(crate) index: usize,
    pub(crate) request: &'a Request,
    pub(crate) extent: Extent,
}

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

/// Sequences outside and inside the engine.
#[derive(Debug)]
pub(crate) struct Scheduler<'a> {
    queue: VecDeque<Queued<'a>>,
    /// Prompts that have entered and not yet run to their end or not yet given all their samples
    /// away. Only the last one can lack samples that have entered.
    pub(crate) prompts: VecDeque<Prompt<'a>>,
    /// Sequences that sample.
    pub(crate) running: Vec<Sequence<'a>>,
    pub(crate) pool: PagePool,
    rules: &'a StopRules<'a>,
    options: EngineOptions,
}

impl<'a> Scheduler<'a> {
    pub(crate) fn new(
        queue: VecDeque<Queued<'a>>,
        pages: usize,
        rules: &'a StopRules<'a>,
        options: EngineOptions,
    ) -> Self {
        let pool = PagePool::new(pages, options.page_len);
        Self { queue, prompts: VecDeque::new(), running: Vec::new(), pool, rules, options }
    }

    /// Whether everything has been sampled.
    pub(crate) fn is_done(&self) -> bool {
        self.queue.is_empty() && self.prompts.is_empty() && self.running.is_empty()
    }

    /// Lets sequences enter while there are rows and pages for them.
    pub(crate) fn admit(&mut self) {
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
            return prompt.admit_sample(self.rules, &mut self.pool);
        }
        let Some(&Queued { index, request, extent }) = self.queue.front() else { return false };
        let prompt = Prompt::admit(index, request, extent, self.rules, &mut self.pool);
        let admitted = prompt.is_some();
        if admitted {
            self.queue.pop_front();
            self.prompts.extend(prompt);
        }
        admitted
    }

    /// The parts of prompts that run in this step.
    pub(crate) fn plan_prefill(&mut self) -> Vec<Chunk> {
        let mut budget = self.options.prefill_tokens_per_step;
        let mut chunks = Vec::new();
        for (index, prompt) in self.prompts.iter_mut().enumerate() {
            let len = prompt.request.prompt_ids.len();
            let start = prompt.scheduled;
            let end = len.min(start + budget);
            if start < end {
                chunks.push(Chunk { prompt: index, positions: start..end, completes: end == len });
                prompt.scheduled = end;
                budget -= end - start;
            }
        }
        chunks
    }

    /// Takes the logits after prompts that have run to their end in this step, and starts all
    /// samples that waited for their prompt. The copies must be made before the next step runs.
    pub(crate) fn start(
        &mut self,
        completed: impl IntoIterator<Item = (usize, Arc<[f32]>)>,
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
                // The first sample owns the page itself.
                if let Some(from) = partial.filter(|_| 0 < sequence.sample) {
                    copies.push(PageCopy { from, to: sequence.pages[at] });
                }
                sequence.start(Arc::clone(logits));
                self.running.push(sequence);
            }
        }
        copies
    }

    /// Removes ended sequences and prompts whose samples have all started; returns the former.
    pub(crate) fn retire(&mut self) -> Vec<Sequence<'a>> {
        let ended: Vec<_> =
            self.running.extract_if(.., |sequence| sequence.ended.is_some()).collect();
        for sequence in &ended {
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
}

/// The most pages that are of use: those of as many of the largest sequences as may run at once.
pub(crate) fn pages_of_use(queue: &VecDeque<Queued<'_>>, batch_rows_max: usize) -> usize {
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
pub(crate) fn pages_needed(queued: &Queued<'_>) -> usize {
    let later_samples = 1 < queued.request.samples;
    queued.extent.pages() + usize::from(later_samples && queued.extent.has_partial_page())
}

#[cfg(test)]
mod tests;
