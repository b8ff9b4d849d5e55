//! A second version of a model before it takes the place of the first: it answers a share of the conversations (a canary), or beside the
//! answers, seen by nobody (a shadow). What users say of a canary can end it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use hearken_data::feedback::served::{AnswerName, Said, Thumb};
use hearken_stats::betting::{BetSide, Capital, mean_at_any_time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::weights::Weights;

/// What a candidate is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// It answers a share of the conversations.
    Canary,
    /// Its answers to a share of the conversations are written down, and nobody sees them.
    Shadow,
}

/// How a candidate stands, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CandidateStanding {
    /// It is there.
    Running,
    /// Users found it worse: it answers no more.
    RolledBack,
    /// It was taken away, or the model got other weights.
    Withdrawn,
    /// It is the model.
    Promoted,
}

/// A second version of a served model.
#[derive(Debug)]
pub(crate) struct ServingCandidate {
    pub(crate) weights: Arc<Weights>,
    pub(crate) purpose: Purpose,
    /// The share of conversations, in (0, 1].
    share: f64,
    /// The most candidates that are rolled back though they are as good, as a share.
    alpha: f64,
    /// The version of the model beside it.
    current: String,
    heard: Mutex<Heard>,
}

/// What users said since it is there.
#[derive(Debug)]
struct Heard {
    /// Outcomes: 1 where the candidate wins, 0 where it loses, ½ for a tie.
    outcomes: Vec<f64>,
    better: Capital,
    worse: Capital,
    /// What was said of single answers of the candidate that waits for one of the model beside it, or the other way round.
    waiting: VecDeque<f64>,
    /// Whose answers those are.
    waits_for: Option<Side>,
    /// Single answers of either, and how many of them were good.
    answers: [(u64, f64); 2],
    /// JudgedAnswers and pairs of which something was said: the first time counts.
    seen: HashSet<(AnswerName, Option<AnswerName>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Current,
    Candidate,
}

/// How a candidate fares.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct CandidateReport {
    /// The name of the model.
    pub(crate) model: String,
    pub(crate) standing: CandidateStanding,
    purpose: Purpose,
    /// The version of the candidate.
    pub(crate) version: String,
    /// The version beside it.
    current: String,
    share: f64,
    alpha: f64,
    /// Comparisons so far: choices between the two, and what was said of single answers, an answer of either side by side in the order in which
    /// it was said.
    pub(crate) comparisons: usize,
    /// How often the candidate wins, ties being half, with an interval of 95 % that holds whenever one looks.
    win_rate: Option<RateBody>,
    /// The natural logarithm of what bets on "it wins more than half of the time" are worth.
    log_e_better: f64,
    /// The same of "it wins less": above ln(1/alpha) a canary is rolled back.
    log_e_worse: f64,
    /// What was said of single answers of the candidate.
    candidate_answers: JudgedAnswers,
    /// The same of the version beside it.
    current_answers: JudgedAnswers,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
struct RateBody {
    value: f64,
    low: f64,
    high: f64,
    n: usize,
}

/// Single answers: thumbs, and edits, which say that the answer was bad.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
struct JudgedAnswers {
    n: u64,
    good: f64,
}

/// A number in [0, 1) that is the conversation's, and another one's for another version.
fn place(version: &str, conversation: &str) -> f64 {
    let mut hash = Sha256::new();
    hash.update(version.as_bytes());
    hash.update([0]);
    hash.update(conversation.as_bytes());
    let digest = hash.finalize();
    let bytes: [u8; 8] = digest[..8].try_into().expect("a digest has 32 bytes");
    // 2⁵³ values are those that an f64 tells apart.
    (u64::from_be_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64
}

impl ServingCandidate {
    pub(crate) fn new(
        weights: Weights,
        purpose: Purpose,
        share: f64,
        alpha: f64,
        current: &str,
    ) -> Self {
        let (weights, current) = (Arc::new(weights), current.to_owned());
        Self { weights, purpose, share, alpha, current, heard: Mutex::new(Heard::new()) }
    }

    /// Whether a conversation is among its share: all turns of one are, or none.
    pub(crate) fn takes(&self, conversation: &str) -> bool {
        place(&self.weights.version, conversation) < self.share
    }

    fn side(&self, version: &str) -> Option<Side> {
        match version {
            version if version == self.weights.version => Some(Side::Candidate),
            version if version == self.current => Some(Side::Current),
            _ => None,
        }
    }

    /// Hears what a user said of an answer that `version` wrote, and, of a choice, over which answers with their versions. Says whether
    /// users find the candidate worse.
    pub(crate) fn hear(
        &self,
        (of, version): (&AnswerName, &str),
        said: &Said,
        over: &[(AnswerName, String)],
    ) -> bool {
        let Some(side) = self.side(version).filter(|_| self.purpose == Purpose::Canary) else {
            return false;
        };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Said::Thumb(thumb) => heard.single(of, side, f64::from(*thumb == Thumb::Up)),
            Said::Edit(_) => heard.single(of, side, 0.0),
            Said::Over(_) => {
                for (other, version) in over {
                    let is_new = heard.seen.insert((of.clone(), Some(other.clone())));
                    if is_new && self.side(version).is_some_and(|beaten| beaten != side) {
                        heard.outcome(f64::from(side == Side::Candidate));
                    }
                }
            }
        }
        heard.worse.refutes(self.alpha)
    }

    pub(crate) fn report(&self, model: &str, standing: CandidateStanding) -> CandidateReport {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = mean_at_any_time(&heard.outcomes);
        let answers = |side: Side| {
            let (n, good) = heard.answers[side as usize];
            JudgedAnswers { n, good }
        };
        CandidateReport {
            model: model.to_owned(),
            standing,
            purpose: self.purpose,
            version: self.weights.version.clone(),
            current: self.current.clone(),
            share: self.share,
            alpha: self.alpha,
            comparisons: heard.outcomes.len(),
            win_rate: rate.map(|of| RateBody {
                value: of.value,
                low: of.low,
                high: of.high,
                n: of.n,
            }),
            log_e_better: heard.better.log_value(),
            log_e_worse: heard.worse.log_value(),
            candidate_answers: answers(Side::Candidate),
            current_answers: answers(Side::Current),
        }
    }
}

impl Heard {
    fn new() -> Self {
        let [better, worse] = [BetSide::Above, BetSide::Below].map(|side| Capital::new(side, 0.5));
        Self {
            outcomes: Vec::new(),
            better,
            worse,
            waiting: VecDeque::new(),
            waits_for: None,
            answers: [(0, 0.0); 2],
            seen: HashSet::new(),
        }
    }

    fn outcome(&mut self, outcome: f64) {
        self.better.observe(outcome);
        self.worse.observe(outcome);
        self.outcomes.push(outcome);
    }

    /// What was said of one answer is set beside what was said of one of the other version, in the order in which it was said. If both are
    /// found good equally often, their difference is 0 on average, and the outcome ½.
    fn single(&mut self, of: &AnswerName, side: Side, good: f64) {
        if !self.seen.insert((of.clone(), None)) {
            return;
        }
        let (n, sum) = &mut self.answers[side as usize];
        (*n, *sum) = (*n + 1, *sum + good);
        if self.waits_for.is_some_and(|waits_for| waits_for == side)
            && let Some(other) = self.waiting.pop_front()
        {
            let (candidate, current) = match side {
                Side::Candidate => (good, other),
                Side::Current => (other, good),
            };
            self.outcome((1.0 + candidate - current) / 2.0);
        } else {
            self.waits_for = Some(match side {
                Side::Candidate => Side::Current,
                Side::Current => Side::Candidate,
            });
            self.waiting.push_back(good);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_conversations_is_that_share_and_another_one_for_another_version() {
        let taken = |version: &str| -> Vec<bool> {
            (0..4000).map(|number| place(version, &format!("Hello {number}")) < 0.25).collect()
        };
        let (one, other) = (taken("a"), taken("b"));
        for taken in [&one, &other] {
            let share = taken.iter().filter(|taken| **taken).count() as f64 / 4000.0;
            assert!((share - 0.25).abs() < 0.03, "{share}");
        }
        let both = one.iter().zip(&other).filter(|(a, b)| **a && **b).count() as f64 / 4000.0;
        assert!((both - 0.0625).abs() < 0.02, "{both}");
        assert_eq!(one, taken("a"));
    }

    fn name(number: usize) -> AnswerName {
        AnswerName { request_id: number.to_string(), choice: 0 }
    }

    #[test]
    fn single_answers_are_compared_in_the_order_in_which_they_are_judged() {
        let mut heard = Heard::new();
        // Two of the candidate wait for two of the other version; the third has nobody yet.
        for (number, side, good) in [
            (0, Side::Candidate, 0.0),
            (1, Side::Candidate, 1.0),
            (1, Side::Candidate, 0.0),
            (2, Side::Current, 1.0),
            (3, Side::Current, 1.0),
            (4, Side::Current, 0.0),
        ] {
            heard.single(&name(number), side, good);
        }
        assert_eq!(heard.outcomes, [0.0, 0.5]);
        assert_eq!(heard.answers, [(3, 2.0), (2, 1.0)]);
        heard.single(&name(5), Side::Candidate, 1.0);
        assert_eq!(heard.outcomes, [0.0, 0.5, 1.0]);
    }

    /// Of candidates that are as good, at most a share α is ever found worse, though bets are looked at after each thumb; one
    /// that is worse is found out.
    #[test]
    fn an_equal_candidate_is_rarely_rolled_back_and_a_worse_one_soon() {
        use rand::rngs::StdRng;
        use rand::{RngExt as _, SeedableRng as _};
        let mut rng = StdRng::seed_from_u64(5);
        let mut found_worse = |candidate: f64, share: f64| {
            let mut heard = Heard::new();
            (0..2000).any(|number| {
                let is_candidate = rng.random::<f64>() < share;
                let (side, rate) =
                    if is_candidate { (Side::Candidate, candidate) } else { (Side::Current, 0.7) };
                heard.single(&name(number), side, f64::from(rng.random::<f64>() < rate));
                heard.worse.refutes(0.05)
            })
        };
        let false_alarms = (0..200).filter(|_| found_worse(0.7, 0.2)).count();
        assert!(false_alarms <= 15, "{false_alarms}");
        assert!((0..20).all(|_| found_worse(0.3, 0.2)));
    }
}
