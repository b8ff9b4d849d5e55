//! Search over steps, led by a process reward model.
//!
//! Snell et al. 2024, arXiv:2408.03314 (beam search); Beeching et al. 2024, "Scaling test-time compute with open
//! models" (diverse verifier tree search).

use std::ops::ControlFlow;

use hearken_data::StopReason;
use hearken_generate::{Engine, EngineOptions, GenerateError, Sampling, SamplingRequest};
use hearken_model::tokenizer::TokenizerError;
use hearken_model::{Model, Tokenizer};
use hearken_reward_source::StepAggregation;
use hearken_tensor::Device;

use super::{SampledAnswer, Scored, ScoredPrompt, Scorer};

/// How a tree of steps is grown.
#[derive(Clone, Debug)]
pub struct TreeSearch<'a> {
    /// Answers that are grown at the same time.
    pub beams: usize,
    /// Steps that are tried behind each answer that is kept: of these, one in so many stays.
    pub width: usize,
    /// Whether every subtree keeps its own best (diverse), or the best of all stay (beam search).
    pub diverse: bool,
    /// The most steps of an answer.
    pub steps_max: usize,
    /// How a step is sampled: `max_new_tokens` is that of a step, and `stop` is what separates steps.
    pub sampling: &'a Sampling,
    /// How the scores of steps become one.
    pub aggregate: StepAggregation,
    /// The most tokens of an answer.
    pub tokens_max: usize,
    /// Seed of all draws.
    pub seed: u64,
}

/// Why a search ended without answers.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A step cannot be sampled.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A step cannot be read by the reward model.
    #[error("the reward model cannot read a step: {0}")]
    Read(#[from] Box<TokenizerError>),
}

/// An answer that is being grown.
#[derive(Clone)]
struct Beam {
    answer: SampledAnswer,
    scored: Scored,
    /// Nothing is added any more.
    is_whole: bool,
}

/// The answers that a search over steps ends with, each with its score, the best first.
///
/// # Errors
/// If a step cannot be sampled or read.
///
/// # Panics
/// If `scorer` does not score steps.
pub fn search<D: Device>(
    policy: &Model<D>,
    tokenizer: &Tokenizer,
    scorer: &Scorer<D>,
    reads: &Tokenizer,
    prompt_ids: &[u32],
    prompt: ScoredPrompt<'_>,
    how: &TreeSearch<'_>,
) -> Result<Vec<(SampledAnswer, Scored)>, SearchError> {
    let separator = scorer.separator().expect("a process reward model").to_owned();
    let sampling = Sampling { stop: vec![separator.clone()], ..how.sampling.clone() };
    // One engine: what answers have in common is found in its cache.
    let mut engine = Engine::new(
        policy,
        Some(tokenizer),
        EngineOptions { cache_bytes: 256 << 20, ..EngineOptions::default() },
    )?;
    let kept = (how.beams / how.width).max(1);
    let empty = SampledAnswer { text: String::new(), ids: Vec::new(), ended: false };
    let root = Beam { answer: empty, scored: Scored { steps: None, score: 0.0 }, is_whole: false };
    let mut beams = vec![root; kept];
    for depth in 0..how.steps_max {
        let growing: Vec<usize> =
            (0..beams.len()).filter(|&index| !beams[index].is_whole).collect();
        if growing.is_empty() {
            break;
        }
        let mut requests = Vec::with_capacity(growing.len());
        for &index in &growing {
            let prompt_ids = [prompt_ids, &beams[index].answer.ids].concat();
            let mix = how.seed.wrapping_add(((depth as u64) << 32) + index as u64 + 1);
            let seed = mix.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            requests.push(
                engine
                    .submit(SamplingRequest { prompt_ids, samples: how.width, seed }, &sampling)?,
            );
        }
        let mut ended = engine.finish(&mut |_| ControlFlow::Continue(()))?;
        ended.sort_by_key(|one| (one.request, one.sample));
        let mut grown: Vec<(usize, Beam)> = Vec::new();
        for one in ended {
            let parent = requests.iter().position(|&request| request == one.request);
            let parent = growing[parent.expect("a request of this round")];
            let beam = &beams[parent];
            let mut ids = beam.answer.ids.clone();
            ids.extend(&one.completion.ids);
            let has_ended = one.completion.stop_reason == StopReason::EndOfText;
            let is_whole = has_ended
                || one.completion.stop_reason == StopReason::Positions
                || how.tokens_max <= ids.len();
            let text = tokenizer.decode_continuation(&ids);
            let answer = SampledAnswer { text, ids, ended: has_ended };
            grown.push((parent, Beam { answer, scored: beam.scored.clone(), is_whole }));
        }
        score(scorer, reads, prompt, how, grown.iter_mut().map(|(_, beam)| beam))?;
        beams = next(&beams, grown, kept, how.diverse);
    }
    let mut found: Vec<(SampledAnswer, Scored)> =
        beams.into_iter().map(|beam| (beam.answer, beam.scored)).collect();
    found.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    Ok(found)
}

/// Scores what has been grown; an answer without a step is worth nothing.
fn score<'b, D: Device>(
    scorer: &Scorer<D>,
    reads: &Tokenizer,
    prompt: ScoredPrompt<'_>,
    how: &TreeSearch<'_>,
    grown: impl Iterator<Item = &'b mut Beam>,
) -> Result<(), SearchError> {
    let (mut tokens, mut beams) = (Vec::new(), Vec::new());
    for beam in grown {
        let found =
            scorer.tokens(reads, prompt, &beam.answer.text, beam.answer.ended).map_err(Box::new)?;
        if found.ends.is_empty() || scorer.model().config().max_positions < found.ids.len() {
            beam.scored = Scored { steps: None, score: 0.0 };
            beam.is_whole = true;
            continue;
        }
        tokens.push(found);
        beams.push(beam);
    }
    let scores = scorer.scores(&tokens, how.aggregate, MICROBATCH_TOKENS);
    beams.into_iter().zip(scores).for_each(|(beam, scored)| beam.scored = scored);
    Ok(())
}

/// The most tokens that go through the reward model at once.
const MICROBATCH_TOKENS: usize = 4096;

/// What is kept of the answers that are whole and those that have been grown.
fn next(beams: &[Beam], grown: Vec<(usize, Beam)>, kept: usize, diverse: bool) -> Vec<Beam> {
    if diverse {
        // Each subtree goes on with its own best.
        let mut best: Vec<Option<Beam>> = vec![None; beams.len()];
        for (parent, beam) in grown {
            let is_better =
                best[parent].as_ref().is_none_or(|best| best.scored.score < beam.scored.score);
            if is_better {
                best[parent] = Some(beam);
            }
        }
        let next = beams.iter().zip(best);
        return next.map(|(before, best)| best.unwrap_or_else(|| before.clone())).collect();
    }
    let whole = beams.iter().filter(|beam| beam.is_whole).cloned();
    let mut all: Vec<Beam> = whole.chain(grown.into_iter().map(|(_, beam)| beam)).collect();
    all.sort_by(|a, b| b.scored.score.total_cmp(&a.scored.score));
    // The same text twice is one answer.
    let mut seen: Vec<Vec<u32>> = Vec::new();
    all.retain(|beam| {
        let is_new = !seen.contains(&beam.answer.ids);
        seen.push(beam.answer.ids.clone());
        is_new
    });
    all.truncate(kept);
    all
}
