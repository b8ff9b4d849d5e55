//! Reads `[dpo] online` and `[online]`: what is sampled during training, and what is learned of it.

use hearken_objective::online::{KlCredit, NashMd};
use hearken_objective::reward::MissingEnd;
use serde::Deserialize;

use crate::config::{ConfigError, JudgeConfig, Layers, RolloutConfig, ScoreConfig, read_scores};
use crate::dpo::objective::{Kind, Objective};
use crate::dpo::section::DpoSection;

/// How completions that are sampled during training are learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct OnlineConfig {
    /// What is sampled and learned.
    pub method: Method,
    /// Passes over an iteration's records.
    pub epochs: usize,
    /// Optimizer steps per pass.
    pub minibatches: usize,
    /// What scores say of a comparison.
    pub labels: Labels,
    /// What a missing end does to a score.
    pub missing_end: MissingEnd,
    /// The KL of a completion, in nats, above which the run ends.
    pub kl_limit_nats: Option<f64>,
    /// Whether reward models apply what is stored beside them.
    pub normalize_scores: bool,
    /// `[rollout]`.
    pub rollout: RolloutConfig,
    /// `[[score]]`.
    pub scores: Vec<ScoreConfig>,
    /// `[judge]`: who compares completions; `None` where scores do.
    pub judge: Option<JudgeConfig>,
}

/// What is sampled for a prompt, and what is learned of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The best and the worst of several completions are a pair: Guo et al. 2024, arXiv:2402.04792.
    Dpo,
    /// A completion of the policy and one of the reference are a pair, with exploration: Xie et al.
    /// 2024, arXiv:2405.21046.
    Xpo {
        /// α: weight of log π of what the reference wrote.
        alpha: f64,
    },
    /// A completion of the policy is played against one of a mixture: Munos et al. 2023,
    /// arXiv:2312.00886.
    NashMd {
        /// The reference's share in the mixture.
        mixture: f64,
    },
    /// A demonstration and a completion of the policy before the iteration are a pair: Chen et al.
    /// 2024, arXiv:2401.01335.
    Spin,
    /// One completion per prompt is imitated.
    BestOfN {
        /// Which.
        selection: Selection,
    },
    /// A share of the iteration's completions is imitated: Dong et al. 2023, arXiv:2304.06767.
    Raft {
        /// The share, above 0.
        share: f64,
        /// Which.
        selection: Selection,
    },
}

/// Which completions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Those that score highest.
    Score,
    /// As many, at random: what is gained then is not gained by the scores.
    Random,
}

/// What two scores say of which completion is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// The higher score is; equal ones are a toss-up.
    Hard,
    /// The probability is σ of their difference.
    Soft,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::dpo) enum MethodName {
    Dpo,
    Xpo,
    NashMd,
    Spin,
    BestOfN,
    Raft,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawCredit {
    Token,
    Completion,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    epochs: usize,
    minibatches: usize,
    labels: Option<Labels>,
    selection: Selection,
    raft_share: f64,
    xpo_alpha: f64,
    nash_mixture: f64,
    nash_kl: RawCredit,
    missing_end_penalty: f64,
    kl_limit: Option<f64>,
    normalize_scores: bool,
}

impl OnlineConfig {
    /// Reads what belongs to `dpo.online` and fits the objective of `dpo` to it; `None` where pairs
    /// come from files.
    ///
    /// # Errors
    /// Names the key that is unknown, out of range, or contradicts another.
    pub(in crate::dpo) fn read(
        layers: &Layers,
        batch_size: usize,
        dpo: &mut DpoSection,
    ) -> Result<Option<Self>, ConfigError> {
        let raw: Raw = layers.section("online")?;
        let rollout = RolloutConfig::read(layers)?;
        let scores = read_scores(layers)?;
        let judge = JudgeConfig::read(layers)?;
        let Some(name) = dpo.online else {
            if !scores.is_empty() {
                let reason = "without `dpo.online` nothing is sampled that could be scored";
                return Err(layers.exclusive("score", "dpo.loss without dpo.online", reason));
            }
            if judge.is_some() {
                let reason = "without `dpo.online` nothing is sampled that could be compared";
                return Err(layers.exclusive("judge", "dpo.loss without dpo.online", reason));
            }
            return Ok(None);
        };
        raw.check(layers)?;
        let method = raw.method(name);
        let online = Self {
            method,
            epochs: raw.epochs,
            minibatches: raw.minibatches,
            labels: raw.labels.unwrap_or(match method {
                Method::NashMd { .. } => Labels::Soft,
                _ => Labels::Hard,
            }),
            missing_end: match raw.missing_end_penalty {
                0.0 => MissingEnd::Keep,
                penalty => MissingEnd::Subtract { penalty },
            },
            kl_limit_nats: raw.kl_limit,
            normalize_scores: raw.normalize_scores,
            rollout,
            scores,
            judge,
        };
        online.check(layers, batch_size, dpo)?;
        raw.fit(&online, dpo);
        Ok(Some(online))
    }

    /// Whether a judge, if there is one, is asked: as many completions at random need none.
    pub(super) fn is_judged(&self) -> bool {
        !matches!(self.method, Method::BestOfN { selection: Selection::Random })
    }

    /// Prompts of an iteration whose optimizer steps have `batch_size` records.
    pub fn prompts(&self, batch_size: usize) -> usize {
        let records = batch_size * self.minibatches;
        let completions = self.rollout.completions;
        match self.method {
            Method::Dpo | Method::BestOfN { .. } => records,
            Method::Xpo { .. } | Method::NashMd { .. } | Method::Spin => {
                records.div_ceil(completions)
            }
            Method::Raft { share, .. } => {
                (records as f64 / (share * completions as f64)).round().max(1.0) as usize
            }
        }
    }

    fn check(
        &self,
        layers: &Layers,
        batch_size: usize,
        dpo: &DpoSection,
    ) -> Result<(), ConfigError> {
        self.check_judge(layers)?;
        let completions = self.rollout.completions;
        let compares = matches!(self.method, Method::Dpo);
        let expected = "at least 2: the best and the worst are compared";
        let key = "rollout.completions";
        layers.check(key, completions, !compares || 1 < completions, expected)?;
        if self.rollout.replay.is_some() {
            let reason = "recorded completions with scores are no pairs; write them as preferences";
            return Err(layers.exclusive("dpo.online", "rollout.replay", reason));
        }
        let records = batch_size * self.minibatches;
        let divides = match self.method {
            Method::Dpo | Method::BestOfN { .. } => true,
            Method::Xpo { .. } | Method::NashMd { .. } | Method::Spin => {
                records.is_multiple_of(completions)
            }
            Method::Raft { share, .. } => {
                let kept = share * (self.prompts(batch_size) * completions) as f64;
                (kept - records as f64).abs() < 1e-6
            }
        };
        let expected = format!(
            "a number with which batch_size · minibatches = {records} records come from whole \
             prompts"
        );
        layers.check(key, completions, divides, &expected)?;
        let reads_pairs = matches!(self.method, Method::Dpo | Method::Xpo { .. } | Method::Spin);
        if reads_pairs && dpo.is_unpaired() {
            let reason = "what is sampled are pairs, and this loss reads single completions";
            return Err(layers.exclusive("dpo.loss", "dpo.online", reason));
        }
        if dpo.reference.cache.is_some() {
            let reason = "nothing is known of completions before they are sampled";
            return Err(layers.exclusive("dpo.reference_cache", "dpo.online", reason));
        }
        if self.method == Method::Spin && dpo.reference.sync.is_some() {
            let reason = "the reference of SPIN is the policy before each iteration";
            return Err(layers.exclusive("dpo.reference_sync_steps", "dpo.online", reason));
        }
        Ok(())
    }
}

impl OnlineConfig {
    fn check_judge(&self, layers: &Layers) -> Result<(), ConfigError> {
        if self.judge.is_none() {
            return Ok(());
        }
        let compares = matches!(
            self.method,
            Method::Dpo | Method::Xpo { .. } | Method::NashMd { .. } | Method::BestOfN { .. }
        );
        if !compares {
            let reason = "it compares no two completions of one prompt: a judge says nothing to it";
            return Err(layers.exclusive("judge", "dpo.online", reason));
        }
        let is_alone =
            matches!(self.method, Method::BestOfN { .. }) && self.rollout.completions < 2;
        let expected = "at least 2: a judge compares two";
        layers.check("rollout.completions", self.rollout.completions, !is_alone, expected)?;
        if self.missing_end != MissingEnd::Keep {
            let reason = "a judge gives no score that a penalty could be taken from";
            return Err(layers.exclusive("judge", "online.missing_end_penalty", reason));
        }
        Ok(())
    }
}

impl Raw {
    fn check(&self, layers: &Layers) -> Result<(), ConfigError> {
        for (key, value) in
            [("online.epochs", self.epochs), ("online.minibatches", self.minibatches)]
        {
            layers.check(key, value, 0 < value, "an integer from 1")?;
        }
        let share = self.raft_share;
        let holds = 0.0 < share && share <= 1.0;
        layers.check("online.raft_share", share, holds, "a number above 0, up to 1")?;
        let mixture = self.nash_mixture;
        let holds = (0.0..=1.0).contains(&mixture);
        layers.check("online.nash_mixture", mixture, holds, "a number from 0 to 1")?;
        for (key, value) in [
            ("online.xpo_alpha", self.xpo_alpha),
            ("online.missing_end_penalty", self.missing_end_penalty),
        ] {
            layers.check(key, value, value.is_finite() && 0.0 <= value, "a number from 0")?;
        }
        if let Some(limit) = self.kl_limit {
            let holds = limit.is_finite() && 0.0 < limit;
            layers.check("online.kl_limit", limit, holds, "a number above 0")?;
        }
        Ok(())
    }

    fn method(&self, name: MethodName) -> Method {
        let selection = self.selection;
        match name {
            MethodName::Dpo => Method::Dpo,
            MethodName::Xpo => Method::Xpo { alpha: self.xpo_alpha },
            MethodName::NashMd => Method::NashMd { mixture: self.nash_mixture },
            MethodName::Spin => Method::Spin,
            MethodName::BestOfN => Method::BestOfN { selection },
            MethodName::Raft => Method::Raft { share: self.raft_share, selection },
        }
    }

    /// Makes the objective that of the method, at the temperature of the sampling.
    fn fit(&self, online: &OnlineConfig, dpo: &mut DpoSection) {
        match online.method {
            Method::Dpo | Method::Spin => {}
            Method::Xpo { alpha } => dpo.objective.exploration = alpha,
            Method::NashMd { .. } => {
                let beta = match &dpo.objective.kind {
                    Kind::Paired(objective) => objective.beta,
                    Kind::Unpaired(objective) => objective.beta,
                    Kind::Nash(_) | Kind::Likelihood(_) => unreachable!("no loss has that name"),
                };
                let credit = match self.nash_kl {
                    RawCredit::Token => KlCredit::Token,
                    RawCredit::Completion => KlCredit::Completion,
                };
                dpo.objective = Objective::nash(NashMd { beta, credit });
            }
            Method::BestOfN { .. } | Method::Raft { .. } => dpo.objective = Objective::imitation(),
        }
        dpo.objective.temperature = online.rollout.temperature;
    }
}
