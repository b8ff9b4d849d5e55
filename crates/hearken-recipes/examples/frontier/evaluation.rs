//! Policies on held-out prompts.

use std::path::Path;
use std::sync::Arc;

use hearken_config::Configuration;
use hearken_generate::{EngineOptions, Sampling};
use hearken_model::{LoadOptions, Model, Tokenizer};
use hearken_objective::best_of_n::{expected_score, kl_bound};
use hearken_objective::kl::{KlEstimator, ReferenceTerms};
use hearken_report::frontier::FrontierCost;
use hearken_reward_source::WeightedSum;
use hearken_reward_source::scorers::{ScoreReading, open_scores};
use hearken_run::dataset::Dataset;
use hearken_run::encode::{Encoder, PromptExample};
use hearken_run::ranks::Ranks;
use hearken_run::seeds::Seeds;
use hearken_run::trained_model::load_tokenizer;
use hearken_tensor::Cpu;
use hearken_train::grpo::GrpoConfig;
use hearken_train::rollout::{
    ForwardOptions, Heads, Rollout, SampleOptions, Sequence, read, sample,
};
use serde::{Deserialize, Serialize};

use crate::cost::Meter;
use crate::methods::{World, path};
use crate::{DRAWS, Result};

const MAX_NEW_TOKENS: usize = 64;
const FORWARD: ForwardOptions =
    ForwardOptions { temperature: 1.0, microbatch_tokens: 4096, logits_bytes: 0 };

/// One policy under one seed: a number per held-out prompt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) gold: Vec<f64>,
    pub(crate) proxy: Vec<f64>,
    pub(crate) kl_nats: Vec<f64>,
    pub(crate) length: Vec<f64>,
    pub(crate) cost: FrontierCost,
}

/// Who looks at policies: held-out prompts, the reward model, gold, the start that KL is measured from.
pub(crate) struct Examiner {
    start: Model<Cpu>,
    tokenizer: Option<Tokenizer>,
    prompts: Vec<Arc<PromptExample>>,
    scores: WeightedSum<'static>,
    /// What best-of-N of a seed chooses from, with what it took.
    drawn: Option<(u64, Vec<Drawn>, FrontierCost)>,
}

/// The completions of one prompt, best proxy score first.
struct Drawn {
    gold: Vec<f64>,
    proxy: Vec<f64>,
    length: Vec<f64>,
}

impl Measured {
    pub(crate) fn summary(&self) -> String {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (gold, proxy, kl) = (mean(&self.gold), mean(&self.proxy), mean(&self.kl_nats));
        let seconds = self.cost.wall_seconds;
        format!("gold {gold:.2}, reward model {proxy:.2}, KL {kl:.2} nats, {seconds:.1} s")
    }
}

impl Examiner {
    /// The N of best-of-N.
    pub(crate) const CHOICES: [usize; 5] = [1, 2, 4, 8, DRAWS];

    pub(crate) fn open(world: &World) -> Result<Self> {
        let mut layers = GrpoConfig::defaults(Path::new("frontier"));
        let scores = format!(
            "[[score]]\nkind = \"model\"\nlabel = \"proxy\"\npath = {}\n[[score]]\nkind = \"heuristic\"\n\
             name = \"quickstart_gold\"\nlabel = \"gold\"\nweight = 0.0",
            path(&world.reward_model)
        );
        layers.merge(scores.parse()?);
        for (key, value) in [
            ("run.dir", "\"unused\"".to_owned()),
            ("train.steps", "1".to_owned()),
            ("model.path", path(&world.start)),
            ("data.train", path(&world.data.join("prompts.jsonl"))),
            ("data.eval", path(&world.data.join("prompts_eval.jsonl"))),
            ("rollout.max_new_tokens", MAX_NEW_TOKENS.to_string()),
        ] {
            layers.set(&format!("{key}={value}"))?;
        }
        let config = GrpoConfig::from_layers(layers)?.config;
        let tokenizer = load_tokenizer(&world.start)?;
        let reading =
            ScoreReading { normalize: true, microbatch_tokens: FORWARD.microbatch_tokens };
        let scores = open_scores(&config.scores, &Cpu::new(), tokenizer.as_ref(), reading)?;
        let data = &config.shared.data;
        let mut encoder = Encoder::for_model(&world.start, tokenizer.as_ref(), data)?;
        encoder.length.tokens_max -= MAX_NEW_TOKENS;
        let dataset: Dataset<PromptExample> = Dataset::load(data, &encoder, Seeds::new(0))?;
        let prompts = dataset.eval.into_iter().map(Arc::new).collect();
        Ok(Self { start: load(&world.start)?, tokenizer, prompts, scores, drawn: None })
    }

    /// Completes every prompt once.
    pub(crate) fn examine(&mut self, policy: &Path, seed: u64) -> Result<Measured> {
        let policy = load(policy)?;
        let rollouts = self.sample(&policy, seed, 1)?;
        let [proxy, gold] = self.score(&rollouts)?;
        let sequences: Vec<Sequence<'_>> = rollouts.iter().map(Rollout::sequence).collect();
        let logprobs = read(&policy, &sequences, Heads::LogProbs, FORWARD).logprobs;
        let ref_logprobs = read(&self.start, &sequences, Heads::LogProbs, FORWARD).logprobs;
        let kl_nats = logprobs.iter().zip(&ref_logprobs).map(|(logprobs, ref_logprobs)| {
            KlEstimator::K1.per_token(ReferenceTerms { logprobs, ref_logprobs }).iter().sum()
        });
        let kl_nats = kl_nats.collect();
        let cost = FrontierCost { cpu_seconds: Some(0.0), ..FrontierCost::default() };
        Ok(Measured { gold, proxy, kl_nats, length: lengths(&rollouts), cost })
    }

    /// The best of `n` by the reward model: expectations over all subsets of the completions drawn, which
    /// have no bias. The cost is that of answering every prompt once.
    pub(crate) fn best_of(&mut self, n: usize, seed: u64) -> Result<Measured> {
        if self.drawn.as_ref().is_none_or(|(drawn_for, ..)| *drawn_for != seed) {
            self.drawn = Some(self.draw(seed)?);
        }
        let (_, drawn, whole) = self.drawn.as_ref().ok_or("nothing was drawn")?;
        let expected = |of: fn(&Drawn) -> &Vec<f64>| -> Vec<f64> {
            drawn.iter().filter_map(|one| expected_score(of(one), n)).collect()
        };
        let share = n as f64 / DRAWS as f64;
        let cost = FrontierCost {
            sampled_tokens: share * whole.sampled_tokens,
            trained_tokens: 0.0,
            flops: share * whole.flops,
            cpu_seconds: whole.cpu_seconds.map(|seconds| share * seconds),
            wall_seconds: share * whole.wall_seconds,
        };
        Ok(Measured {
            gold: expected(|one| &one.gold),
            proxy: expected(|one| &one.proxy),
            kl_nats: vec![kl_bound(u32::try_from(n)?); drawn.len()],
            length: expected(|one| &one.length),
            cost,
        })
    }

    fn draw(&mut self, seed: u64) -> Result<(u64, Vec<Drawn>, FrontierCost)> {
        let mut cost = FrontierCost { cpu_seconds: Some(0.0), ..FrontierCost::default() };
        let meter = Meter::start();
        let start = self.start.duplicate();
        let rollouts = self.sample(&start, seed, DRAWS)?;
        let [proxy, gold] = self.score(&rollouts)?;
        meter.add_to(&mut cost);
        let length = lengths(&rollouts);
        cost.sampled_tokens = length.iter().sum();
        // Sampling and scoring are one forward pass each; both models have the same blocks.
        cost.flops = rollouts
            .iter()
            .map(|rollout| {
                let rows = (rollout.prompt.ids.len() + rollout.completion.ids.len()) as f64;
                2.0 * rows * start.forward_flops(rows / 2.0)
            })
            .sum();
        let ranked = |prompt: usize| {
            let mut order: Vec<usize> = (prompt * DRAWS..(prompt + 1) * DRAWS).collect();
            order.sort_by(|&a, &b| proxy[b].total_cmp(&proxy[a]));
            let of = |values: &[f64]| order.iter().map(|&index| values[index]).collect();
            Drawn { gold: of(&gold), proxy: of(&proxy), length: of(&length) }
        };
        Ok((seed, (0..self.prompts.len()).map(ranked).collect(), cost))
    }

    fn sample(&self, policy: &Model<Cpu>, seed: u64, completions: usize) -> Result<Vec<Rollout>> {
        let sampling = Sampling::plain(MAX_NEW_TOKENS);
        let options = SampleOptions {
            sampling: &sampling,
            engine: EngineOptions::default(),
            completions,
            seeds: Seeds::new(seed),
            stream: "frontier",
            index: completions as u64,
            version: 0,
            ranks: &Ranks::default(),
        };
        Ok(sample(policy, self.tokenizer.as_ref(), &self.prompts, &options)?)
    }

    /// Scores of the reward model, and gold.
    fn score(&mut self, rollouts: &[Rollout]) -> Result<[Vec<f64>; 2]> {
        let views: Vec<_> = rollouts.iter().map(Rollout::view).collect();
        let mut scores = self.scores.sum(&views)?.by_source.into_iter().map(|(_, own)| own);
        Ok([scores.next().ok_or("no proxy")?, scores.next().ok_or("no gold")?])
    }
}

fn lengths(rollouts: &[Rollout]) -> Vec<f64> {
    rollouts.iter().map(|rollout| rollout.completion.ids.len() as f64).collect()
}

fn load(dir: &Path) -> Result<Model<Cpu>> {
    Ok(Model::load(Cpu::new(), dir, &LoadOptions::language_model())?.0)
}
