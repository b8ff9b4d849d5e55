//! A prompt on its way through the engine, and each of its samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearken_data::{Completion, StopReason};
use hearken_tensor::draw::{Allowed, BadLogit, Choice, Drawn};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::pages::PagePool;
use crate::prefix::CachedTokens;
use crate::request::SamplingRequest;
use crate::sampler;
use crate::sampling::Sampling;
use crate::stop::{StopRules, StopWatch};
use crate::wishes::{AdapterId, Guidance, TokenReport, Wishes};

/// What holds for all samples of a request.
#[derive(Debug)]
pub(crate) struct Terms<'m> {
    pub(crate) sampling: Sampling,
    pub(crate) rules: StopRules<'m>,
    pub(crate) wishes: Wishes,
}

/// A request that has not entered yet, or what of it has given way.
#[derive(Debug)]
pub(crate) struct Queued<'m, L> {
    /// The request's number.
    pub(crate) index: usize,
    pub(crate) request: Arc<SamplingRequest>,
    pub(crate) terms: Arc<Terms<'m>>,
    pub(crate) extent: Extent,
    pub(crate) part: QueuedPart<'m, L>,
}

/// What of a request waits.
#[derive(Debug)]
pub(crate) enum QueuedPart<'m, L> {
    /// Its samples from this one on.
    SamplesFrom(usize),
    /// A sequence that has begun: its prompt and what it has sampled run again.
    Begun(Box<OpenSequence<'m, L>>),
}

impl<L> Queued<'_, L> {
    /// What runs before the next token can be drawn.
    fn tokens(&self) -> Arc<[u32]> {
        match &self.part {
            QueuedPart::SamplesFrom(_) => self.request.prompt_ids.as_slice().into(),
            QueuedPart::Begun(sequence) => sequence.all_ids().into(),
        }
    }
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
    /// Tokens of a completion for which there are pages from the start, at least 1.
    pub(crate) reserved: usize,
    pub(crate) page_len: usize,
}

impl Extent {
    /// Pages of the longest sequence. Its last token never runs, so it takes no position.
    pub(crate) fn pages(self) -> usize {
        self.pages_for(self.new_tokens)
    }

    /// Pages that a sequence enters with, when it has sampled nothing yet.
    fn pages_at_entry(self) -> usize {
        self.pages_for(self.reserved.min(self.new_tokens))
    }

    fn pages_for(self, new_tokens: usize) -> usize {
        (self.prompt + new_tokens - 1).div_ceil(self.page_len)
    }

    /// The extent of a sequence with `sampled` tokens that runs again: they come before the rest.
    fn after(self, sampled: usize) -> Self {
        let (prompt, new_tokens) = (self.prompt + sampled, self.new_tokens - sampled);
        Self { prompt, new_tokens, ..self }
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
pub(crate) struct Prompt<'m, L> {
    /// The request's number.
    pub(crate) index: usize,
    /// What runs: the request's prompt, or with it what a sequence has sampled that runs again.
    pub(crate) tokens: Arc<[u32]>,
    request: Arc<SamplingRequest>,
    terms: Arc<Terms<'m>>,
    /// Where `tokens` is the prompt.
    pub(crate) extent: Extent,
    /// The extent of the request.
    asked: Extent,
    /// The pages that hold the prompt. They belong to the first sample, and to the prompt as well:
    /// later samples read them.
    pub(crate) pages: Vec<u32>,
    /// Tokens whose keys and values are in the cache, or will be after the steps scheduled so far.
    pub(crate) scheduled: usize,
    /// Samples that have entered the engine, all before the first of this prompt included.
    pub(crate) admitted: usize,
    /// The number after that of the last sample to enter.
    samples: usize,
    /// Samples that wait for the prompt to have run.
    pub(crate) waiting: Vec<OpenSequence<'m, L>>,
    /// The logits after the prompt, once it has run.
    pub(crate) logits: Option<Arc<L>>,
}

impl<'m, L> Prompt<'m, L> {
    /// Enters a prompt together with its first sample, if there are pages for both; gives the request
    /// back if not.
    pub(crate) fn admit(queued: Queued<'m, L>, pool: &mut PagePool) -> Result<Self, Queued<'m, L>> {
        let tokens = queued.tokens();
        let extent = queued.extent.after(tokens.len() - queued.extent.prompt);
        let of_adapter = CachedTokens { adapter: queued.terms.wishes.adapter, ids: &tokens };
        let found = pool.find_prefix(of_adapter);
        // Owned before others are taken, so that these are not given up for them.
        pool.share(&found);
        let Some(taken) = pool.take(extent.pages_at_entry() - found.len()) else {
            pool.release(&found);
            return Err(queued);
        };
        let scheduled = found.len() * extent.page_len;
        let pages = [found, taken].concat();
        pool.publish_prefix(of_adapter, &pages);
        let prompt_pages = pages[..tokens.len().div_ceil(extent.page_len)].to_vec();
        pool.share(&prompt_pages);
        let Queued { index, request, terms, extent: asked, part } = queued;
        let (first, samples) = match part {
            QueuedPart::SamplesFrom(sample) => {
                let new = OpenSequence::new((index, sample), &request, &terms, asked);
                (OpenSequence { pages, ..new }, request.samples)
            }
            QueuedPart::Begun(begun) => {
                let samples = begun.sample + 1;
                (OpenSequence { pages, ..*begun }, samples)
            }
        };
        let (admitted, waiting) = (first.sample + 1, vec![first]);
        let (pages, logits) = (prompt_pages, None);
        Ok(Self {
            index,
            tokens,
            request,
            terms,
            extent,
            asked,
            pages,
            scheduled,
            admitted,
            samples,
            waiting,
            logits,
        })
    }

    /// What it runs through; none is the base.
    pub(crate) fn adapter(&self) -> Option<AdapterId> {
        self.terms.wishes.adapter
    }

    /// Enters the next sample, if there are pages for it.
    pub(crate) fn admit_sample(&mut self, pool: &mut PagePool) -> bool {
        let full = self.extent.full_prompt_pages();
        let Some(own) = pool.take(self.extent.pages_at_entry() - full) else { return false };
        let shared = &self.pages[..full];
        pool.share(shared);
        let pages = [shared, &own].concat();
        let place = (self.index, self.admitted);
        let new = OpenSequence::new(place, &self.request, &self.terms, self.asked);
        self.waiting.push(OpenSequence { pages, ..new });
        self.admitted += 1;
        true
    }

    pub(crate) fn all_admitted(&self) -> bool {
        self.admitted == self.samples
    }

    /// Gives its pages, and those of samples that wait for it, away; returns what is to run later, in
    /// order.
    pub(crate) fn give_way(mut self, pool: &mut PagePool) -> Vec<Queued<'m, L>> {
        let mut later = Vec::new();
        let mut first = self.admitted;
        for sequence in self.waiting.drain(..) {
            pool.release(&sequence.pages);
            // Numbers are given in order: those that have not begun are the last.
            match sequence.ids.is_empty() {
                true => first = first.min(sequence.sample),
                false => later.push(sequence.into_queued()),
            }
        }
        pool.release(&self.pages);
        let (index, extent) = (self.index, self.asked);
        if first < self.samples {
            let part = QueuedPart::SamplesFrom(first);
            later.push(Queued { index, request: self.request, terms: self.terms, extent, part });
        }
        later
    }

    /// The page that sequences other than the first copy into their own, if the prompt ends within
    /// one.
    pub(crate) fn partial_page(&self) -> Option<u32> {
        self.extent.has_partial_page().then(|| *self.pages.last().expect("a prompt has pages"))
    }
}

/// How a token is drawn, but for the row that it is drawn from.
#[derive(Debug)]
pub(crate) struct TokenDraw {
    pub(crate) choice: Choice,
    pub(crate) added: Vec<(u32, f32)>,
    pub(crate) allowed: Option<Allowed>,
    pub(crate) likeliest: Option<usize>,
}

/// One completion in the making.
#[derive(Debug)]
pub(crate) struct OpenSequence<'m, L> {
    /// The request's number.
    pub(crate) request: usize,
    pub(crate) sample: usize,
    /// Pages for what has run and the next token at least, or for the longest sequence there can be.
    pub(crate) pages: Vec<u32>,
    pub(crate) ids: Vec<u32>,
    /// How often it has each of its tokens, where a wish depends on that.
    counts: BTreeMap<u32, u32>,
    logprobs: Vec<f64>,
    asked: Arc<SamplingRequest>,
    terms: Arc<Terms<'m>>,
    /// How far it can go.
    extent: Extent,
    rng: ChaCha8Rng,
    watch: StopWatch<'m>,
    guidance: Option<Box<dyn Guidance>>,
    /// The last token under the model itself, where that is wanted.
    pub(crate) report: Option<TokenReport>,
    /// Logits that the first token is drawn from.
    first: Option<Arc<L>>,
    /// What has been drawn in this step.
    drawn: Option<Result<Drawn, BadLogit>>,
    /// Why the completion has ended, once it has.
    pub(crate) ended: Option<StopReason>,
}

impl<'m, L> OpenSequence<'m, L> {
    /// A sequence without pages; `(request, sample)` are its numbers.
    fn new(
        (request, sample): (usize, usize),
        asked: &Arc<SamplingRequest>,
        terms: &Arc<Terms<'m>>,
        extent: Extent,
    ) -> Self {
        Self {
            request,
            sample,
            pages: Vec::new(),
            ids: Vec::new(),
            counts: BTreeMap::new(),
            logprobs: Vec::new(),
            asked: Arc::clone(asked),
            terms: Arc::clone(terms),
            extent,
            rng: sampler::stream(asked.seed, sample),
            watch: terms.rules.watch(),
            guidance: terms.wishes.guide.as_ref().map(|guide| guide.begin()),
            report: None,
            first: None,
            drawn: None,
            ended: None,
        }
    }

    /// Lets the sequence draw its first token from the logits after its prompt.
    pub(crate) fn start(&mut self, logits: Arc<L>) {
        self.first = Some(logits);
    }

    /// What it runs through; none is the base.
    pub(crate) fn adapter(&self) -> Option<AdapterId> {
        self.terms.wishes.adapter
    }

    /// The token to run next, the last one drawn, and its position.
    pub(crate) fn next_token(&self) -> (u32, u32) {
        let &last = self.ids.last().expect("a running sequence has drawn before it runs");
        (last, (self.asked.prompt_ids.len() + self.ids.len() - 1) as u32)
    }

    /// How the next token is drawn: the first from the logits after the prompt, which are given, others from
    /// the sequence's own row.
    pub(crate) fn wanted(&mut self) -> (Option<Arc<L>>, TokenDraw) {
        let Terms { sampling, wishes, .. } = &*self.terms;
        let Sampling { temperature, top_k, top_p, min_p, .. } = *sampling;
        let uniform = if temperature == 0.0 { 0.0 } else { self.rng.random() };
        let wanted = TokenDraw {
            choice: Choice { temperature, top_k, top_p, min_p, uniform },
            added: wishes.added(&self.counts),
            allowed: self.guidance.as_mut().map(|guidance| guidance.allowed()),
            likeliest: wishes.likeliest,
        };
        (self.first.take(), wanted)
    }

    /// Takes what was drawn.
    pub(crate) fn take(&mut self, drawn: Result<Drawn, BadLogit>) {
        self.drawn = Some(drawn);
    }

    /// Appends the token that was drawn and ends the completion if it is the last one; returns the
    /// token's log-probability.
    pub(crate) fn accept(&mut self) -> Result<f64, BadLogit> {
        let drawn = self.drawn.take().expect("every running sequence has drawn")?;
        let Drawn { id, logprob, report } = drawn;
        self.report = report;
        self.ids.push(id);
        if self.terms.wishes.penalizes() {
            *self.counts.entry(id).or_default() += 1;
        }
        if let Some(guidance) = &mut self.guidance {
            guidance.take(id);
        }
        self.logprobs.push(logprob);
        let Extent { new_tokens, cut_off, .. } = self.extent;
        let is_last = self.ids.len() == new_tokens;
        let ended = self.terms.rules.check(&mut self.watch, id);
        self.ended = ended.or(is_last.then_some(cut_off));
        Ok(logprob)
    }

    /// Whether the next token to run has a page.
    pub(crate) fn has_room(&self) -> bool {
        (self.next_token().1 as usize) < self.pages.len() * self.extent.page_len
    }

    /// The prompt and what was sampled.
    fn all_ids(&self) -> Vec<u32> {
        [self.asked.prompt_ids.as_slice(), &self.ids].concat()
    }

    /// The sequence as what runs again when there is room; its pages are no longer its own.
    pub(crate) fn into_queued(mut self) -> Queued<'m, L> {
        self.pages.clear();
        Queued {
            index: self.request,
            request: Arc::clone(&self.asked),
            terms: Arc::clone(&self.terms),
            extent: self.extent,
            part: QueuedPart::Begun(Box::new(self)),
        }
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
