//! Choosing among answers: votes, and reward models that have learned from few solutions or many.

use hearken_config::Verifier;
use hearken_model::steps::StepTokens;
use hearken_model::tokenizer::Bos;
use hearken_model::{LoadOptions, Model};
use hearken_recipes::search::{SampledAnswer, ScoredPrompt, Scorer};
use hearken_reward_source::{StepAggregation, groups_of};
use hearken_run::seeds::Seeds;
use hearken_stats::first_error::{FirstError, first_error_scores};
use hearken_stats::mean::{Paired, mean, paired_difference};
use hearken_stats::reranking::{Candidate, RerankingRule, accuracy_of_choice};
use hearken_tensor::Cpu;
use serde_json::{Value, json};

use super::problem::{Problem, said, steps};
use super::world::{Kind, LABELLED, SAMPLES, World};
use super::{Options, Result};

/// Numbers of answers that are chosen among.
const CHOICES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Random subsets for votes.
const ROUNDS: usize = 40;

/// A reward model, and how many solutions it has learned from.
pub(crate) struct Judge {
    kind: Kind,
    count: usize,
    scorer: Scorer<Cpu>,
}

impl Judge {
    /// Reward models of both kinds from every number of solutions.
    pub(crate) fn all(world: &World) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for count in LABELLED {
            for kind in [Kind::Process, Kind::Outcome] {
                let dir = world.train_reward(kind, count)?;
                let scorer = Scorer::load(Cpu::new(), &dir, &LoadOptions::scorer())?;
                all.push(Self { kind, count, scorer: scorer.ok_or("a reward model")? });
            }
        }
        Ok(all)
    }

    fn name(&self) -> String {
        format!("{} from {}", self.kind.name(), self.count)
    }

    /// A score in [0, 1] of each answer, and those of its steps.
    fn scores(
        &self,
        world: &World,
        problem: &Problem,
        answers: &[SampledAnswer],
    ) -> Result<Vec<(f64, Vec<f64>)>> {
        let prompt = world.tokenizer.encode(&problem.prompt(), Bos::AsConfigured)?;
        let tokens: Vec<StepTokens> = answers
            .iter()
            .map(|answer| {
                let prompt = ScoredPrompt { ids: &prompt, is_text: true };
                self.scorer.tokens(&world.tokenizer, prompt, &answer.text, answer.ended)
            })
            .collect::<std::result::Result<_, _>>()?;
        let reads_steps = self.scorer.separator().is_some();
        let is_read = |one: &&StepTokens| !reads_steps || !one.ends.is_empty();
        let read: Vec<StepTokens> = tokens.iter().filter(is_read).cloned().collect();
        let mut scored = self.scorer.scores(&read, StepAggregation::Product, 8192).into_iter();
        let score = |one: &StepTokens| {
            if !is_read(&one) {
                return (0.0, Vec::new());
            }
            let found = scored.next().expect("a score for each");
            match found.steps {
                Some(steps) => (found.score, steps),
                None => (1.0 / (1.0 + (-found.score).exp()), Vec::new()),
            }
        };
        Ok(tokens.iter().map(score).collect())
    }
}

/// What is measured on problems of one length.
pub(crate) struct Set {
    /// Accuracy of each problem, by way of choosing and number of answers.
    accuracy: Vec<(String, usize, Vec<f64>)>,
    /// How well each process model finds the first error.
    first_errors: Vec<(usize, Value)>,
}

impl Set {
    fn of(&self, way: &str, n: usize) -> &[f64] {
        let mut all = self.accuracy.iter();
        all.find(|one| one.0 == way && one.1 == n).map_or(&[], |one| &one.2)
    }
}

pub(crate) fn measure(
    world: &World,
    (model, judges): (&Model<Cpu>, &[Judge]),
    (terms, what): (std::ops::RangeInclusive<usize>, &str),
    options: &Options,
) -> Result<Set> {
    let mut rng = Seeds::new(world.seed).stream(what, 1);
    let problems: Vec<Problem> =
        (0..options.problems).map(|_| Problem::draw(&mut rng, terms.clone())).collect();
    let all = world.sample(model, &problems, options.samples, what)?;
    let mut ways = vec![
        ("majority".to_owned(), RerankingRule::Majority, 0),
        ("any".to_owned(), RerankingRule::Oracle, 0),
    ];
    for (index, judge) in judges.iter().enumerate() {
        ways.push((format!("weighted by {}", judge.name()), RerankingRule::Weighted, index));
        ways.push((format!("best by {}", judge.name()), RerankingRule::Best, index));
    }
    let ns: Vec<usize> = CHOICES.into_iter().filter(|n| *n <= options.samples).collect();
    let mut accuracy: Vec<(String, usize, Vec<f64>)> = ways
        .iter()
        .flat_map(|(name, ..)| ns.iter().map(|n| (name.clone(), *n, Vec::new())))
        .collect();
    let mut firsts = vec![Vec::new(); judges.len()];
    for (problem, answers) in problems.iter().zip(&all) {
        let said: Vec<Option<String>> = answers.iter().map(|answer| said(&answer.text)).collect();
        let groups = groups_of(Verifier::Exact, &said);
        let mut candidates = Vec::new();
        for (judge, firsts) in judges.iter().zip(&mut firsts) {
            let scores = judge.scores(world, problem, answers)?;
            let one = |(index, (score, _)): (usize, &(f64, Vec<f64>))| Candidate {
                group: groups[index],
                score: *score,
                right: problem.is_solved(&answers[index].text),
            };
            candidates.push(scores.iter().enumerate().map(one).collect::<Vec<_>>());
            for (answer, (_, scores)) in answers.iter().zip(&scores).take(SAMPLES) {
                let truth = problem.judge(&steps(&answer.text));
                let expected = truth.iter().position(|right| !right);
                let found = scores.iter().position(|score| *score < 0.5);
                firsts.push(FirstError { expected, found });
            }
        }
        for (way, (_, choice, judge)) in ways.iter().enumerate() {
            for (at, &n) in ns.iter().enumerate() {
                let found = accuracy_of_choice(&candidates[*judge], *choice, n, ROUNDS, &mut rng);
                accuracy[way * ns.len() + at].2.push(found.ok_or("enough answers")?);
            }
        }
    }
    let mut first_errors = Vec::new();
    for (judge, firsts) in judges.iter().zip(&firsts) {
        if judge.kind == Kind::Process {
            let found = first_error_scores(firsts, 500, &mut rng);
            let scores =
                json!({ "f1": found.f1, "of_wrong": found.erroneous, "of_right": found.correct });
            first_errors.push((judge.count, scores));
        }
    }
    Ok(Set { accuracy, first_errors })
}

/// Means over the problems of all seeds, and differences problem by problem.
pub(crate) fn report(name: &str, sets: &[&Set], options: &Options) -> Value {
    let pooled = |way: &str, n: usize| {
        sets.iter().flat_map(|set| set.of(way, n)).copied().collect::<Vec<_>>()
    };
    let curve = |(way, n, _): &(String, usize, Vec<f64>)| json!({ "chosen_by": way, "n": n, "accuracy": mean(&pooled(way, *n)) });
    let n = 16.min(options.samples);
    let less = |a: &str, b: &str| {
        let (treatment, control) = (pooled(a, n), pooled(b, n));
        let of_seed = |set: &&Set| {
            let mean = |way| set.of(way, n).iter().sum::<f64>() / set.of(way, n).len() as f64;
            mean(a) - mean(b)
        };
        json!({
            "difference": format!("{a} less {b}"),
            "accuracy": paired_difference(Paired { treatment: &treatment, control: &control }),
            "by_seed": sets.iter().map(of_seed).collect::<Vec<f64>>(),
        })
    };
    let of_count = |count: usize| {
        let way = |how: &str, kind: Kind| format!("{how} by {} from {count}", kind.name());
        let process = way("weighted", Kind::Process);
        [
            less(&process, "majority"),
            less(&process, &way("weighted", Kind::Outcome)),
            less(&way("best", Kind::Process), &way("best", Kind::Outcome)),
        ]
    };
    let first_errors = |index: usize| {
        let of_seeds = sets.iter().map(|set| set.first_errors[index].1.clone());
        json!({ "process from": sets[0].first_errors[index].0, "by_seed": of_seeds.collect::<Vec<_>>() })
    };
    json!({
        "problems": name,
        "curves": sets[0].accuracy.iter().map(curve).collect::<Vec<_>>(),
        "differences_among": n,
        "differences": LABELLED.into_iter().flat_map(of_count).collect::<Vec<_>>(),
        "first_error": (0..LABELLED.len()).map(first_errors).collect::<Vec<_>>(),
    })
}
