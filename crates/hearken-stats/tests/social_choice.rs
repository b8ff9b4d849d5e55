//! Voting rules on the two electorates whose results are published, and on their edges.

#![allow(
    clippy::float_cmp,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code; exact results are compared exactly"
)]

mod common;

use common::{close, vote};
use hearken_stats::comparison::{Outcome, Tally};
use hearken_stats::social_choice::{
    Ballot, BallotError, PairMatrix, Profile, Rule, Search, Stakes, borda, condorcet_winner,
    copeland, instant_runoff, kemeny, kemeny_score, maximal_lottery, maximin, plurality,
    ranked_pairs, schulze, smith_set, winners,
};

/// Ballots as strings over `names`, each with its count.
fn profile(names: &str, ballots: &[(usize, &str)]) -> Profile {
    let ballot = |&(count, order): &(usize, &str)| Ballot {
        tiers: order.chars().map(|c| vec![names.find(c).unwrap()]).collect(),
        weight: count as f64,
    };
    Profile::new(names.len(), ballots.iter().map(ballot).collect()).unwrap()
}

const CITIES: &str = "MNCK";

/// Memphis, Nashville, Chattanooga, Knoxville.
fn tennessee() -> Profile {
    profile(CITIES, &[(42, "MNCK"), (26, "NCKM"), (15, "CKNM"), (17, "KCNM")])
}

/// The 45 voters of Schulze's paper.
fn schulze_voters() -> Profile {
    let ballots = [
        (5, "ACBED"),
        (5, "ADECB"),
        (8, "BEDAC"),
        (3, "CABED"),
        (7, "CAEBD"),
        (2, "CBADE"),
        (7, "DCEBA"),
        (8, "EBADC"),
    ];
    profile("ABCDE", &ballots)
}

/// A ranking without ties.
fn strict(names: &str, order: &str) -> Vec<Vec<usize>> {
    order.chars().map(|c| vec![names.find(c).unwrap()]).collect()
}

fn order(names: &str, order: &str) -> Vec<usize> {
    strict(names, order).concat()
}

#[test]
fn tennessee_has_its_published_scores() {
    let (votes, pairs) = (tennessee(), tennessee().pairs());
    assert_eq!(plurality(&votes), [42.0, 26.0, 15.0, 17.0]);
    assert_eq!(borda(&pairs), [126.0, 194.0, 173.0, 107.0]);
    assert_eq!(copeland(&pairs), [0.0, 3.0, 2.0, 1.0]);
    assert_eq!(maximin(&pairs), [42.0, 58.0, 32.0, 17.0]);
    assert_eq!(condorcet_winner(&pairs), Some(1));
    assert_eq!(smith_set(&pairs), [1]);
    assert_eq!(instant_runoff(&votes).winners, [3]);
    assert_eq!(schulze(&pairs), strict(CITIES, "NCKM"));
    assert_eq!(ranked_pairs(&pairs).tiers, strict(CITIES, "NCKM"));
    assert!(ranked_pairs(&pairs).contested.is_empty());
    let best = kemeny(&pairs);
    assert_eq!((best.order, best.score), (order(CITIES, "NCKM"), 393.0));
    assert_eq!(best.search, Search::Exact { optima: 1 });
    assert_eq!(kemeny_score(&pairs, &order(CITIES, "NCMK")), 377.0);
    for stakes in [Stakes::Margins, Stakes::Majorities] {
        close(&maximal_lottery(&pairs, stakes).chances, &[0.0, 1.0, 0.0, 0.0], 1e-12);
    }
}

#[test]
fn schulzes_voters_elect_somebody_else_under_every_rule() {
    let names = "ABCDE";
    let (votes, pairs) = (schulze_voters(), schulze_voters().pairs());
    assert_eq!(schulze(&pairs), strict(names, "EACBD"));
    assert_eq!(ranked_pairs(&pairs).tiers, strict(names, "ACEBD"));
    assert_eq!(borda(&pairs), [98.0, 92.0, 89.0, 69.0, 102.0]);
    assert_eq!(copeland(&pairs), [2.0, 2.0, 2.0, 1.0, 3.0]);
    assert_eq!(maximin(&pairs), [20.0, 16.0, 17.0, 12.0, 21.0]);
    let best = kemeny(&pairs);
    assert_eq!((best.order, best.score), (order(names, "EBADC"), 260.0));
    assert_eq!(kemeny_score(&pairs, &order(names, "ACEBD")), 259.0);
    assert_eq!(plurality(&votes), [10.0, 8.0, 12.0, 7.0, 8.0]);
    assert_eq!(instant_runoff(&votes).winners, [2]);
    assert_eq!(smith_set(&pairs), [0, 1, 2, 3, 4]);
    assert_eq!(condorcet_winner(&pairs), None);
    let lottery = maximal_lottery(&pairs, Stakes::Margins);
    close(&lottery.chances, &[3.0 / 11.0, 0.0, 1.0 / 11.0, 0.0, 7.0 / 11.0], 1e-12);
    let lottery = maximal_lottery(&pairs, Stakes::Majorities);
    close(&lottery.chances, &[1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0, 1.0 / 3.0], 1e-12);
    let by_rule = winners(&votes);
    let winner = |rule| by_rule.iter().find(|(r, _)| *r == rule).unwrap().1.clone();
    assert_eq!(winner(Rule::Plurality), [2]);
    assert_eq!(winner(Rule::RankedPairs), [0]);
    assert_eq!(winner(Rule::Schulze), [4]);
}

/// 60 voters A > B > C, 40 voters B > C > A: the majority wants A, Borda B.
#[test]
fn borda_and_the_majority_can_disagree() {
    let pairs = profile("ABC", &[(60, "ABC"), (40, "BCA")]).pairs();
    assert_eq!(condorcet_winner(&pairs), Some(0));
    assert_eq!(borda(&pairs), [120.0, 140.0, 40.0]);
}

#[test]
fn candidates_left_out_are_compared_with_nothing() {
    let pairs = profile("ABC", &[(3, "AB")]).pairs();
    assert_eq!(pairs.support(0, 1), 3.0);
    assert_eq!((pairs.support(0, 2), pairs.support(2, 0)), (0.0, 0.0));
    // C takes part in nothing: a tier with whoever nobody is above.
    assert_eq!(schulze(&pairs), [vec![0, 2], vec![1]]);
}

#[test]
fn equals_share_a_ballot() {
    let ballot = Ballot { tiers: vec![vec![0, 1], vec![2]], weight: 2.0 };
    let votes = Profile::new(3, vec![ballot]).unwrap();
    assert_eq!(plurality(&votes), [1.0, 1.0, 0.0]);
    assert_eq!(borda(&votes.pairs()), [3.0, 3.0, 0.0]);
    assert_eq!(instant_runoff(&votes).winners, [0, 1]);
    assert_eq!(ranked_pairs(&votes.pairs()).tiers, [vec![0, 1], vec![2]]);
}

#[test]
fn a_symmetric_cycle_is_contested() {
    let pairs = profile("ABC", &[(1, "ABC"), (1, "BCA"), (1, "CAB")]).pairs();
    assert_eq!(ranked_pairs(&pairs).contested, [(2, 0)]);
    assert_eq!(schulze(&pairs), [vec![0, 1, 2]]);
    assert_eq!(kemeny(&pairs).search, Search::Exact { optima: 3 });
    assert_eq!(kemeny(&pairs).winners, [0, 1, 2]);
}

#[test]
fn votes_on_pairs_make_a_matrix_with_ties_as_halves() {
    let votes = [vote(0, 1, Outcome::Left), vote(1, 0, Outcome::Tie), vote(1, 0, Outcome::Left)];
    let pairs = PairMatrix::from_tally(&Tally::new(2, votes).unwrap());
    assert_eq!((pairs.support(0, 1), pairs.support(1, 0)), (1.5, 1.5));
}

/// No lottery can be beaten in expectation by a single candidate, whatever the margins.
#[test]
fn a_maximal_lottery_loses_to_nobody() {
    let mut matrix = PairMatrix::new(7);
    for a in 0..7 {
        for b in 0..a {
            let votes = ((a * 31 + b * 17) % 11) as f64;
            matrix.add(a, b, votes);
            matrix.add(b, a, 10.0 - votes);
        }
    }
    let lottery = maximal_lottery(&matrix, Stakes::Margins);
    let lottery = lottery.chances;
    assert!((lottery.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    for rival in 0..7 {
        let against: f64 =
            (0..7).filter(|&a| a != rival).map(|a| lottery[a] * matrix.margin(a, rival)).sum();
        assert!(against > -1e-9, "{rival} beats the lottery by {against}");
    }
}

/// Of two candidates who beat the third and are even, every mixture is optimal; odd margins leave one lottery.
#[test]
fn another_maximal_lottery_is_found() {
    let pairs = profile("ABC", &[(1, "ABC"), (1, "BAC")]).pairs();
    let lottery = maximal_lottery(&pairs, Stakes::Margins);
    assert_eq!((lottery.possible, lottery.unique), (vec![0, 1], false));
    assert!(lottery.chances[2] < 1e-12);
    for pairs in [tennessee().pairs(), schulze_voters().pairs()] {
        assert!(maximal_lottery(&pairs, Stakes::Margins).unique);
    }
    let nothing = maximal_lottery(&PairMatrix::new(3), Stakes::Margins);
    assert_eq!((nothing.possible, nothing.unique), (vec![0, 1, 2], false));
    // A cycle of three, and a fourth who is even with everybody.
    let mut cycle = PairMatrix::new(4);
    for (a, b) in [(0, 2), (1, 0), (2, 1)] {
        cycle.add(a, b, 2.0);
    }
    let lottery = maximal_lottery(&cycle, Stakes::Margins);
    assert_eq!((lottery.possible, lottery.unique), (vec![0, 1, 2, 3], false));
}

/// Two voters who want the opposite of each other leave every rule with the same two winners.
#[test]
fn rules_agree_on_a_tie() {
    let votes = profile("AB", &[(1, "AB"), (1, "BA")]);
    for (rule, found) in winners(&votes) {
        assert_eq!(found, [0, 1], "{rule:?}");
    }
}

/// Thirty candidates with one first place each can leave in 30! orders.
#[test]
fn instant_runoff_ends_where_everybody_is_equal() {
    let ballot = |first: usize| Ballot { tiers: vec![vec![first]], weight: 1.0 };
    let few = instant_runoff(&Profile::new(6, (0..6).map(ballot).collect()).unwrap());
    assert_eq!((few.winners, few.complete), ((0..6).collect(), true));
    let many = instant_runoff(&Profile::new(30, (0..30).map(ballot).collect()).unwrap());
    assert!(!many.complete && !many.winners.is_empty());
}

#[test]
fn bad_ballots_are_named() {
    let twice = Ballot { tiers: vec![vec![0], vec![1, 0]], weight: 1.0 };
    let error = Profile::new(2, vec![twice]).unwrap_err();
    assert_eq!(error, BallotError::RankedTwice { index: 0, candidate: 0 });
    let unknown = Ballot { tiers: vec![vec![2]], weight: 1.0 };
    assert!(Profile::new(2, vec![unknown]).is_err());
}
