//! Which charts a trainer's metrics make.

use hearken_page::{ChartLabels, ChartSeries, LineChart, Mark};

use super::TrainerFacts;

/// The figures of one trainer; charts without data leave no trace.
pub(super) fn figures(trainer: &TrainerFacts) -> String {
    charts(trainer).iter().map(LineChart::html).collect()
}

fn charts(trainer: &TrainerFacts) -> Vec<LineChart> {
    let over_steps = |(title, unit, keys): &Curve| {
        let series = |(key, name): &(&str, &str)| ChartSeries {
            name: (*name).to_owned(),
            ..trainer.curves.series("step", key)
        };
        let labels = ChartLabels::new(title, STEPS, unit);
        let lines = LineChart::new(labels, keys.iter().map(series).collect());
        LineChart { limit: limit_of(trainer, title), smooth: true, ..lines }
    };
    let scores =
        [scores_against_kl(trainer), scores_over_steps(trainer), learned_against_utility(trainer)];
    scores.into_iter().chain(CURVES.iter().map(over_steps)).collect()
}

/// The limit that the configuration sets to what a chart shows.
fn limit_of(trainer: &TrainerFacts, title: &str) -> Option<f64> {
    match title {
        "KL to the reference" => trainer.kl_limit,
        "Length of completions" => trainer.setting("rollout", "max_new_tokens"),
        "Gradient norm, before clipping" => {
            trainer.setting("optimizer", "max_grad_norm").filter(|&limit| 0.0 < limit)
        }
        _ => None,
    }
}

/// The horizontal axis of most charts.
const STEPS: &str = "optimizer step";

/// Title, unit, and the metrics with their names in the legend.
type Curve = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Every chart over optimizer steps.
const CURVES: &[Curve] = &[
    (
        "Return of episodes",
        "sum of rewards",
        &[("episode_return", "training"), ("eval_return", "evaluation, likeliest actions")],
    ),
    ("Loss", "loss", &[("loss", "training"), ("eval_loss", "evaluation")]),
    (
        "Likelihood of what is demonstrated",
        "−log π, nats per action",
        &[("imitation/loss", "training"), ("imitation/held_out_loss", "held out")],
    ),
    (
        "Discriminator",
        "share taken for what it is",
        &[
            ("imitation/demonstrated_accuracy", "demonstrated"),
            ("imitation/own_accuracy", "the policy's"),
        ],
    ),
    (
        "Comparisons",
        "so far",
        &[
            ("preference/shown", "asked"),
            ("preference/answered", "answered"),
            ("preference/skipped", "skipped"),
        ],
    ),
    (
        "What the teacher goes by",
        "mean per step of the iteration",
        &[("preference/utility", "utility")],
    ),
    (
        "Learned reward",
        "mean per step of the iteration",
        &[("preference/learned_reward", "from comparisons")],
    ),
    (
        "Reward model",
        "share predicted as it was judged",
        &[("preference/held_out_accuracy", "held-out comparisons")],
    ),
    (
        "Learned reward and the environment's",
        "correlation",
        &[
            ("preference/reward_correlation", "from comparisons"),
            ("imitation/reward_correlation", "from demonstrations"),
        ],
    ),
    (
        "Accuracy",
        "share",
        &[
            ("mean_token_accuracy", "tokens, training"),
            ("accuracy", "pairs, training"),
            ("rewards/accuracies", "pairs, training"),
            ("eval_accuracy", "pairs, evaluation"),
            ("eval_mean_token_accuracy", "tokens, evaluation"),
        ],
    ),
    ("KL to the reference", "nats per completion", &[("objective/kl", "k1, sampled")]),
    (
        "Distance of student and teacher",
        "nats per token",
        &[("forward_kl", "KL(teacher ‖ student)"), ("reverse_kl", "KL(student ‖ teacher)")],
    ),
    (
        "Distance of held-out completions",
        "nats per completion",
        &[("eval_kl", "KL to what the policy is compared with")],
    ),
    ("KL coefficient", "β", &[("kl/beta", "β")]),
    ("Deviation of the scores", "score", &[("reward_std", "all"), ("objective/scores_std", "all")]),
    (
        "Groups that teach nothing",
        "share",
        &[("frac_reward_zero_std", "groups whose scores are all equal")],
    ),
    (
        "Losses of policy and critic",
        "loss",
        &[("loss/policy_avg", "policy"), ("loss/value_avg", "critic")],
    ),
    ("Explained variance of the returns", "share", &[("val/explained_variance", "critic")]),
    ("Entropy", "nats", &[("objective/entropy", "per completion"), ("entropy", "per token")]),
    (
        "Change of the policy within an iteration",
        "",
        &[
            ("policy/approxkl_avg", "approximate KL, nats per token"),
            ("policy/clipfrac_avg", "share of tokens clipped"),
            ("clip_ratio/region_mean", "share clipped"),
        ],
    ),
    (
        "Length of completions",
        "tokens",
        &[
            ("completions/mean_length", "mean"),
            ("completions/min_length", "shortest"),
            ("completions/max_length", "longest"),
        ],
    ),
    (
        "How completions end",
        "share",
        &[
            ("completions/share_ended", "by themselves"),
            ("completions/clipped_ratio", "cut off by the length limit"),
        ],
    ),
    (
        "Scores of the pairs",
        "score",
        &[
            ("mean_reward", "mean"),
            ("min_reward", "least"),
            ("max_reward", "greatest"),
            ("margin", "margin"),
        ],
    ),
    (
        "Implicit rewards",
        "reward",
        &[
            ("rewards/chosen", "chosen"),
            ("rewards/rejected", "rejected"),
            ("rewards/margins", "margin"),
        ],
    ),
    ("Gradient norm, before clipping", "norm", &[("grad_norm", "norm")]),
    ("Learning rate", "rate", &[("learning_rate", "rate")]),
];

/// The frontier: what every source says of the completions, against the distance travelled.
fn scores_against_kl(trainer: &TrainerFacts) -> LineChart {
    let title = "Scores against KL to the reference";
    let labels = ChartLabels::new(title, "KL, nats per completion", "mean score");
    let lines = LineChart::new(labels, score_series(trainer, "objective/kl"));
    LineChart { mark: Mark::Point, ..lines }
}

/// Every iteration by what it was worth to the teacher and to the reward model: a policy that has found what the model
/// wrongly pays for goes up and to the left.
fn learned_against_utility(trainer: &TrainerFacts) -> LineChart {
    let title = "Learned reward against what the teacher goes by";
    let labels = ChartLabels::new(title, "utility, mean per step", "learned reward, mean per step");
    let series = ChartSeries {
        name: "iterations".to_owned(),
        ..trainer.curves.series("preference/utility", "preference/learned_reward")
    };
    LineChart { mark: Mark::Point, ..LineChart::new(labels, vec![series]) }
}

fn scores_over_steps(trainer: &TrainerFacts) -> LineChart {
    let labels = ChartLabels::new("Scores", STEPS, "mean score");
    LineChart { smooth: true, ..LineChart::new(labels, score_series(trainer, "step")) }
}

/// The score that is optimized, then each source's own where there are several. PPO calls the former
/// `objective/scores` and the latter `scores/LABEL`, GRPO `reward` and `rewards/LABEL/mean`.
fn score_series(trainer: &TrainerFacts, x: &str) -> Vec<ChartSeries> {
    let named = |key: &str, name: &str| ChartSeries {
        name: name.to_owned(),
        ..trainer.curves.series(x, key)
    };
    let by_source = |prefix: &'static str, suffix: &'static str| -> Vec<ChartSeries> {
        let keys = trainer.curves.keys_with(prefix).into_iter();
        let label =
            |key: &'_ str| key.strip_prefix(prefix)?.strip_suffix(suffix).map(str::to_owned);
        keys.filter_map(|key| Some(named(key, &label(key)?))).collect()
    };
    let mut sources = by_source("scores/", "");
    sources.extend(by_source("rewards/", "/mean"));
    let mut optimized = named("objective/scores", "optimized");
    if optimized.points.is_empty() && !sources.is_empty() {
        optimized = named("reward", "optimized");
    }
    // One source with weight 1 and no penalty is the sum itself.
    let is_source = sources.iter().any(|source| source.points == optimized.points);
    let mut series = if is_source { Vec::new() } else { vec![optimized] };
    series.extend(sources);
    series
}
