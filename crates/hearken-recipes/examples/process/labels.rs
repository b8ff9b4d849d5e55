//! Labels by completions against the truth, and how fast they come.

use std::ops::{ControlFlow, RangeInclusive};
use std::time::Instant;

use hearken_config::Verifier;
use hearken_data::{Completion, StopReason};
use hearken_generate::{EngineOptions, Sampling, SamplingRequest, generate_with};
use hearken_model::Model;
use hearken_model::steps::encode_steps;
use hearken_model::tokenizer::Bos;
use hearken_recipes::step_labels::{Rollouts, StepEstimate, Unlabelled, by_rollouts};
use hearken_run::seeds::Seeds;
use hearken_stats::proportion::wilson;
use hearken_tensor::Cpu;
use rand::Rng;
use serde_json::{Value, json};

use super::Result;
use super::problem::{Problem, steps};
use super::world::{EXAMPLES, LONGEST, MORE_STEPS, POSITIONS, STEPS, World};

/// Solutions that are labelled.
const SOLUTIONS: usize = 80;
/// Completions from each step.
const COMPLETIONS: [usize; 5] = [1, 2, 4, 8, 16];
/// Turns in which the two ways of completing are timed.
const TURNS: usize = 5;

/// Solutions to problems, in tokens.
struct Solutions {
    problems: Vec<Problem>,
    prompts: Vec<String>,
    steps: Vec<Vec<String>>,
    answers: Vec<String>,
}

impl Solutions {
    /// What the policy makes of problems of such a length; with so many solved problems before each prompt.
    fn sample(
        world: &World,
        model: &Model<Cpu>,
        (lengths, examples): (RangeInclusive<usize>, usize),
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let problems: Vec<Problem> =
            (0..SOLUTIONS).map(|_| Problem::draw(rng, lengths.clone())).collect();
        let answers = world.sample(model, &problems, 1, "to label")?;
        let steps: Vec<Vec<String>> = answers.iter().map(|of| steps(&of[0].text)).collect();
        let mut prompt =
            |problem: &Problem| problem.prompt_behind((examples, &lengths), rng, world.seed);
        let prompts = problems.iter().map(&mut prompt).collect();
        let answers = problems.iter().map(Problem::answer).collect();
        Ok(Self { problems, prompts, steps, answers })
    }

    fn unlabelled(&self, world: &World) -> Result<Vec<(&Problem, Unlabelled<'_>)>> {
        let mut all = Vec::new();
        for (index, steps) in self.steps.iter().enumerate().filter(|(_, steps)| !steps.is_empty()) {
            let prompt = world.tokenizer.encode(&self.prompts[index], Bos::AsConfigured)?;
            let tokens = encode_steps(&world.tokenizer, &prompt, steps, "\n")?;
            let answer = &self.answers[index];
            all.push((&self.problems[index], Unlabelled { tokens, steps, answer }));
        }
        Ok(all)
    }
}

fn sampling(max_new_tokens: usize) -> Sampling {
    Sampling { temperature: 1.0, ..Sampling::greedy(max_new_tokens) }
}

/// Labels by so many completions, the seconds they took, and the tokens that were sampled.
fn label(
    world: &World,
    model: &Model<Cpu>,
    unlabelled: &[Unlabelled<'_>],
    (count, sampling): (usize, &Sampling),
) -> Result<(Vec<Vec<StepEstimate>>, f64, usize)> {
    let (verifier, separator) = (Verifier::Numeric, "\n");
    let rollouts = Rollouts { count, sampling, verifier, separator, seed: world.seed };
    let (began, mut tokens) = (Instant::now(), 0);
    let labels = by_rollouts(model, &world.tokenizer, unlabelled, &rollouts, &mut |_| {
        tokens += 1;
        ControlFlow::Continue(())
    })?;
    Ok((labels, began.elapsed().as_secs_f64(), tokens))
}

/// Labels by completions against the truth, which is whether all is right up to a step; and how fast they come beside
/// completions that share nothing.
pub(crate) fn measure(world: &World, model: &Model<Cpu>) -> Result<Value> {
    let mut rng = Seeds::new(world.seed).stream("rollouts", 0);
    let all = *STEPS.start()..=*MORE_STEPS.end();
    let solutions = Solutions::sample(world, model, (all, 0), &mut rng)?;
    let judged = solutions.unlabelled(world)?;
    let unlabelled: Vec<Unlabelled<'_>> = judged.iter().map(|(_, one)| one.clone()).collect();
    let mut found = Vec::new();
    for count in COMPLETIONS {
        let (labels, ..) = label(world, model, &unlabelled, (count, &sampling(LONGEST)))?;
        let (mut hard, mut soft, mut all) = (0, 0, 0);
        for ((problem, solution), labels) in judged.iter().zip(&labels) {
            let truth = problem.judge(solution.steps);
            let mut is_right = true;
            for (label, right) in labels.iter().zip(truth) {
                is_right &= right;
                all += 1;
                hard += usize::from((0.0 < label.hard()) == is_right);
                soft += usize::from((0.5 <= label.soft()) == is_right);
            }
        }
        found.push(json!({
            "completions": count, "steps": all,
            "hard": wilson(hard as f64, all), "soft_at_half": wilson(soft as f64, all),
        }));
    }
    let alone = speed(world, model, &unlabelled, LONGEST)?;
    let with_examples = Solutions::sample(world, model, (STEPS, EXAMPLES), &mut rng)?;
    let unlabelled: Vec<Unlabelled<'_>> =
        with_examples.unlabelled(world)?.into_iter().map(|(_, one)| one).collect();
    let longest = unlabelled.iter().map(|one| one.tokens.ids.len()).max().unwrap_or(0);
    let room = POSITIONS.saturating_sub(longest).max(1);
    let behind_examples = speed(world, model, &unlabelled, room.min(LONGEST))?;
    Ok(json!({
        "seed": world.seed,
        "accuracy": found,
        "speed": { "prompts that are problems": alone, "three solved problems before each": behind_examples },
    }))
}

/// Completions that share their beginnings, beside as many of which each has a prompt that is computed by itself: in turns,
/// so that whatever else the machine does hits both.
fn speed(
    world: &World,
    model: &Model<Cpu>,
    unlabelled: &[Unlabelled<'_>],
    max_new_tokens: usize,
) -> Result<Value> {
    let sampling = sampling(max_new_tokens);
    let each = COMPLETIONS[COMPLETIONS.len() - 1];
    // What prompts share is shared in whole pages: none is so long.
    let options = EngineOptions { page_len: POSITIONS, ..EngineOptions::default() };
    let (mut shared_s, mut alone_s) = (0.0, 0.0);
    let (mut shared_tokens, mut alone_tokens, mut beginnings) = (0, 0, 0);
    let (mut completions, mut ended) = (0, 0);
    for some in unlabelled.chunks(unlabelled.len().div_ceil(TURNS).max(1)) {
        let (_, seconds, tokens) = label(world, model, some, (each, &sampling))?;
        shared_s += seconds;
        shared_tokens += tokens;
        let requests: Vec<SamplingRequest> = some
            .iter()
            .flat_map(|solution| {
                let ends = &solution.tokens.ends;
                ends[..ends.len() - 1].iter().flat_map(|end| {
                    let prompt_ids = solution.tokens.ids[..=*end].to_vec();
                    (0..each as u64).map(move |seed| SamplingRequest {
                        prompt_ids: prompt_ids.clone(),
                        samples: 1,
                        seed,
                    })
                })
            })
            .collect();
        let began = Instant::now();
        let tokenizer = Some(&world.tokenizer);
        let found = generate_with(model, tokenizer, &requests, &sampling, &options, &mut |_| {
            ControlFlow::Continue(())
        })?;
        alone_s += began.elapsed().as_secs_f64();
        alone_tokens += found.iter().flatten().map(|one| one.ids.len()).sum::<usize>();
        beginnings += requests.iter().map(|request| request.prompt_ids.len()).sum::<usize>();
        completions += requests.len();
        let has_ended = |one: &&Completion| one.stop_reason == StopReason::EndOfText;
        ended += found.iter().flatten().filter(has_ended).count();
    }
    let per_token = |seconds: f64, tokens: usize| seconds / tokens.max(1) as f64;
    Ok(json!({
        "completions": completions, "ended": ended,
        "tokens_of_a_beginning": beginnings as f64 / completions as f64,
        "tokens_of_a_completion": alone_tokens as f64 / completions as f64,
        "shared_s": shared_s, "alone_s": alone_s,
        "ratio_per_token": per_token(alone_s, alone_tokens) / per_token(shared_s, shared_tokens),
    }))
}
