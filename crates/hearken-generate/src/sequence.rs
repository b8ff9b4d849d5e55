//! A prompt on its way through the engine, and each of its samples.

use std::sync::Arc;

use hearken_data::{Completion, StopReason};
use rand_chacha::ChaCha8Rng;

use crate::pages::PagePool;
use crate::request::Request;
use crate::sampler::{self, BadLogit, Draw};
use crate::sampling::Sampling;
use crate::stop::{StopRules, StopWatch};

/// What holds for all samples of a request.
#[derive(Debug)]
pub(crate) struct Terms<'m> {
    pub(crate) sampling: Sampling,
    pub(crate) rules: StopRules<'m>,
}

/// A request that has not entered yet.
#[derive(Clone, Debug)]
pub(crate) struct Queued<'m> {
    /// The request's number.
    pub(crate) index: usize,
    pub(crate) request: Arc<Request>,
    pub(crate) terms: Arc<Terms<'m>>,
    pub(crate) extent: Extent,
}

/// How many positions and pages the samples of one request take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Tokens of the prompt, at least 1.
    pub(crate) prompt: usize,
    /// The most tokens of a completion, at least 1.
    pub(crate) new_tokens: usize,
    /// Why a completion with so many tokens ends.
    pub(crate) cut_off: StopReason,
    pub(crate) page_len: usize,
}

impl Extent {
    /// Pages of the longest sequence. Its last token never runs, so it takes no position.
    pub(crate) fn pages(self) -> usize {
        (self.prompt + self.new_tokens - 1).div_ceil(self.page_len)
    }

    /// Pages that the prompt fills: all samples share them.
    pub(crate) fn full_prompt_pages(self) -> usize {
        self.prompt / self.page_len
    }

    /// Whether the prompt ends in the middle of a page, of which each sample needs its own.
    pub(crate) fn has_partial_page(self) -> bool {
        !self.prompt.is_multiple_of(self.page_len)
    }

    /// Pages of one sample beside those it shares.
    pub(crate) fn own_pages(self) -> usize {
        self.pages() - self.full_prompt_pages()
    }
}

/// A prompt that has entered the engine, until its last sample has.
#[derive(Debug)]
pub(crate) struct Prompt<'m> {
    /// The request's number.
    pub(crate) index: usize,
    pub(crate) request: Arc<Request>,
    terms: Arc<Terms<'m>>,
    pub(crate) extent: Extent,
    /// The pages that hold the prompt. They belong to the first sample, and to the prompt as well:
    /// later samples read them.
    pub(crate) pages: Vec<u32>,
    /// Tokens whose keys and values are in the cache, or will be after the steps scheduled so far.
    pub(crate) scheduled: usize,
    /// Samples that have entered the engine.
    pub(crate) admitted: usize,
    /// Samples that wait for the prompt to have run.
    pub(crate) waiting: Vec<Sequence<'m>>,
    /// The logits after the prompt, once it has run.
    pub(crate) logits: Option<Arc<[f32]>>,
}

impl<'m> Prompt<'m> {
    /// Enters a prompt together with its first sample, if there are pages for both.
    pub(crate) fn admit(queued: &Queued<'m>, pool: &mut PagePool) -> Option<Self> {
        let (extent, prompt) = (queued.extent, &queued.request.prompt_ids);
        let found = pool.find_prefix(prompt);
        // Owned before others are taken, so that these are not given up for them.
        pool.share(&found);
        let Some(taken) = pool.take(extent.pages() - found.len()) else {
            pool.release(&found);
            return None;
        };
        let scheduled = found.len() * extent.page_len;
        let pages = [found, taken].concat();
        pool.publish_prefix(prompt, &pages);
        let prompt_pages = pages[..prompt.len().div_ceil(extent.page_len)].to_vec();
        pool.share(&prompt_pages);
        let first = Sequence::new(queued, 0, pages);
        Some(Self {
            index: queued.index,
            request: Arc::clone(&queued.request),
            terms: Arc::clone(&queued.terms),
            extent,
            pages: prompt_pages,
            scheduled,
            admitted: 1,
            waiting: vec![first],
            logits: None,
        })
    }

    /// Enters the next sample, if there are pages for it.
    pub(crate) fn admit_sample(&mut self, pool: &mut PagePool) -> bool {
        let Some(own) = pool.take(self.extent.own_pages()) else { return false };
        let shared = &self.pages[..self.extent.full_prompt_pages()];
        pool.share(shared);
        let pages = [shared, &own].concat();
        let queued = Queued {
            index: self.index,
            request: Arc::clone(&self.request),
            terms: Arc::clone(&self.terms),
            extent: self.extent,
        };
        let sample = Sequence::new(&queued, self.admitted, pages);
        self.waiting.push(sample);
        self.admitted += 1;
        true
    }

    pub(crate) fn all_admitted(&self) -> bool {
        self.admitted == self.request.samples
    }

    /// The page that sequences other than the first copy into their own, if the prompt ends within
    /// one.
    pub(crate) fn partial_page(&self) -> Option<u32> {
        self.extent.has_partial_page().then(|| *self.pages.last().expect("a prompt has pages"))
    }
}

/// One completion in the making.
#[derive(Debug)]
pub(crate) struct Sequence<'m> {
    /// The request's number.
    pub(crate) request: usize,
    pub(crate) sample: usize,
    /// Pages for the longest sequence there can be.
    pub(crate) pages: Vec<u32>,
    pub(crate) ids: Vec<u32>,
    logprobs: Vec<f64>,
    asked: Arc<Request>,
    terms: Arc<Terms<'m>>,
    /// How far it can go.
    extent: Extent,
    rng: ChaCha8Rng,
    watch: StopWatch<'m>,
    /// Logits that the first token is drawn from.
    logits: Option<Arc<[f32]>>,
    /// What has been drawn in this step.
    drawn: Option<Result<Draw, BadLogit>>,
    /// Why the completion has ended, once it has.
    pub(crate) ended: Option<StopReason>,
}

impl<'m> Sequence<'m> {
    fn new(queued: &Queued<'m>, sample: usize, pages: Vec<u32>) -> Self {
        Self {
            request: queued.index,
            sample,
            pages,
            ids: Vec::new(),
            logprobs: Vec::new(),
            asked: Arc::clone(&queued.request),
            terms: Arc::clone(&queued.terms),
            extent: queued.extent,
            rng: sampler::stream(queued.request.seed, sample),
            watch: queued.terms.rules.watch(),
            logits: None,
            drawn: None,
            ended: None,
        }
    }

    /// Lets the sequence draw its first token from the logits after its prompt.
    pub(crate) fn start(&mut self, logits: Arc<[f32]>) {
        self.logits = Some(logits);
    }

    /// The token to run next, the last one drawn, and its position.
    pub(crate) fn next_token(&self) -> (u32, u32) {
        let &last = self.ids.last().expect("a running sequence has drawn before it runs");
        (last, (self.asked.prompt_ids.len() + self.ids.len() - 1) as u32)
    }

    /// Draws the next token: the first from the logits after the prompt, others from `row`.
    pub(crate) fn draw(&mut self, row: Option<&[f32]>) {
        let first = self.logits.take();
        let logits = first.as_deref().or(row).expect("a sequence has started, or it has a row");
        self.drawn = Some(sampler::draw(logits, &self.terms.sampling, &mut self.rng));
    }

    /// Appends the token that was drawn and ends the completion if it is the last one; returns the
    /// token's log-probability.
    pub(crate) fn accept(&mut self) -> Result<f64, BadLogit> {
        let draw = self.drawn.take().expect("every running sequence has drawn")?;
        self.ids.push(draw.id);
        self.logprobs.push(draw.logprob);
        let Extent { new_tokens, cut_off, .. } = self.extent;
        let is_last = self.ids.len() == new_tokens;
        let ended = self.terms.rules.check(&mut self.watch, draw.id);
        self.ended = ended.or(is_last.then_some(cut_off));
        Ok(draw.logprob)
    }

    /// The tokens whose keys and values are in the cache: all but the last.
    pub(crate) fn cached_ids(&self) -> Vec<u32> {
        let ran = self.ids.split_last().map_or(&[][..], |(_, ran)| ran);
        [self.asked.prompt_ids.as_slice(), ran].concat()
    }

    pub(crate) fn finish(self) -> Completion {
        let stop_reason = self.ended.expect("the sequence has ended");
        Completion { ids: self.ids, logprobs: self.logprobs, stop_reason }
    }
}
