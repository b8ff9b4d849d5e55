//! Which charts a trainer's metrics make.

use super::{
    ReportError, TrainerFacts,
    chart::{Chart, Mark},
    series::Series,
};

/// The figures of one trainer; charts without data leave no trace.
pub(super) fn figures(trainer: &TrainerFacts) -> Result<String, ReportError> {
    charts(trainer).iter().map(Chart::to_html).collect()
}

fn charts(trainer: &TrainerFacts) -> Vec<Chart> {
    let curves = &trainer.curves;
    let over_steps = |keys: &[(&str, &str)]| -> Vec<Series> {
        let series = |(key, name): &(&str, &str)| {
            Series { name: (*name).to_owned(), ..curves.series("step", key) }
        };
        keys.iter().map(series).collect()
    };
    vec![
        scores_against_kl(trainer),
        scores_over_steps(trainer),
        Chart::over_steps("Loss", "loss", over_steps(&[("loss", "training"), ("eval_loss", "evaluation")])),
        Chart::over_steps(
            "Accuracy",
            "share",
            over_steps(&[
                ("mean_token_accuracy", "tokens, training"),
                ("accuracy", "pairs, training"),
                ("eval_accuracy", "evaluation"),
                ("eval_mean_token_accuracy", "tokens, evaluation"),
            ]),
        ),
        Chart::over_steps(
            "KL to the reference",
            "nats per completion",
            over_steps(&[("objective/kl", "k1, sampled")]),
        ),
        Chart::over_steps("KL coefficient", "β", over_steps(&[("kl/beta", "β")])),
        Chart::over_steps(
            "Losses of policy and critic",
            "loss",
            over_steps(&[("loss/policy_avg", "policy"), ("loss/value_avg", "critic")]),
        ),
        Chart::over_steps(
            "Explained variance of the returns",
            "share",
            over_steps(&[("val/explained_variance", "critic")]),
        ),
        Chart::over_steps(
            "Entropy",
            "nats",
            over_steps(&[("objective/entropy", "per completion"), ("entropy", "per token")]),
        ),
        Chart::over_steps(
            "Change of the policy within an iteration",
            "",
            over_steps(&[
                ("policy/approxkl_avg", "approximate KL, nats per token"),
                ("policy/clipfrac_avg", "share of tokens clipped"),
            ]),
        ),
        Chart::over_steps(
            "Length of completions",
            "tokens",
            over_steps(&[
                ("completions/mean_length", "mean"),
                ("completions/min_length", "shortest"),
                ("completions/max_length", "longest"),
            ]),
        ),
        Chart::over_steps(
            "Completions that end by themselves",
            "share",
            over_steps(&[("completions/share_ended", "share")]),
        ),
        Chart::over_steps(
            "Scores of the pairs",
            "score",
            over_steps(&[
                ("mean_reward", "mean"),
                ("min_reward", "least"),
                ("max_reward", "greatest"),
                ("margin", "margin"),
            ]),
        ),
        Chart::over_steps("Gradient norm, before clipping", "norm", over_steps(&[("grad_norm", "norm")])),
        Chart::over_steps("Learning rate", "rate", over_steps(&[("learning_rate", "rate")])),
    ]
}

/// The frontier: what every source says of the completions, against the distance travelled.
fn scores_against_kl(trainer: &TrainerFacts) -> Chart {
    Chart {
        title: "Scores against KL to the reference".to_owned(),
        x_label: "KL, nats per completion".to_owned(),
        y_label: "mean score".to_owned(),
        mark: Mark::Point,
        series: score_series(trainer, "objective/kl"),
    }
}

fn scores_over_steps(trainer: &TrainerFacts) -> Chart {
    Chart::over_steps("Scores", "mean score", score_series(trainer, "step"))
}

/// The score that is optimized, then each source's own where there are several.
fn score_series(trainer: &TrainerFacts, x: &str) -> Vec<Series> {
    const PREFIX: &str = "scores/";
    let named = |key: &str, name: &str| Series { name: name.to_owned(), ..trainer.curves.series(x, key) };
    let sources = trainer.curves.keys_with(PREFIX);
    let mut series = vec![named("objective/scores", "optimized")];
    if 1 < sources.len() {
        series.extend(sources.iter().map(|key| named(key, &key[PREFIX.len()..])));
    }
    series
}
