//! Rules that need whole rankings.

use std::collections::BTreeSet;

use super::{Ballot, Profile};

/// First places; a ballot with several candidates on top is shared among them.
pub fn plurality(profile: &Profile) -> Vec<f64> {
    first_places(profile, &vec![true; profile.candidates()])
}

/// The result of [`instant_runoff`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstantRunoff {
    /// Whoever wins under one of the orders of leaving that were followed, ascending.
    pub winners: Vec<usize>,
    /// Whether every order was followed. Else there were more than can be, and of later equals the candidate with the
    /// lowest number leaves; others might win, too.
    pub complete: bool,
}

/// Sets of candidates still standing up to which every order of leaving is followed: more than up to 14 candidates have.
const STANDING_MAX: usize = 1 << 14;

/// Instant run-off: the candidate with the fewest first places leaves until one is left. Where several have the fewest,
/// every order of leaving is followed, as far as there are not too many.
/// Candidates whose places together are fewer than the next one's leave at once, which changes nothing. Ballots that rank
/// nobody left are set aside.
pub fn instant_runoff(profile: &Profile) -> InstantRunoff {
    let all = vec![true; profile.candidates()];
    let mut open = vec![all.clone()];
    let mut seen = BTreeSet::from([all]);
    let mut winners = BTreeSet::new();
    let mut complete = true;
    while let Some(standing) = open.pop() {
        let left: Vec<usize> = (0..standing.len()).filter(|&c| standing[c]).collect();
        if let [winner] = left[..] {
            winners.insert(winner);
        }
        if left.len() < 2 {
            continue;
        }
        let mut next = eliminations(profile, &standing, &left);
        if STANDING_MAX <= seen.len() && 1 < next.len() {
            complete = false;
            next.truncate(1);
        }
        for standing in next {
            if seen.insert(standing.clone()) {
                open.push(standing);
            }
        }
    }
    InstantRunoff { winners: winners.into_iter().collect(), complete }
}

/// Who may stand after the next elimination.
fn eliminations(profile: &Profile, standing: &[bool], left: &[usize]) -> Vec<Vec<bool>> {
    let places = first_places(profile, standing);
    let fewest = left.iter().map(|&c| places[c]).fold(f64::INFINITY, f64::min);
    let (last, rest): (Vec<usize>, Vec<usize>) = left.iter().partition(|&&c| places[c] <= fewest);
    let next = rest.iter().map(|&c| places[c]).reduce(f64::min);
    let without = |gone: &[usize]| {
        let mut standing = standing.to_vec();
        for &c in gone {
            standing[c] = false;
        }
        standing
    };
    let together = fewest * last.len() as f64;
    if next.is_some_and(|next| together < next) {
        vec![without(&last)]
    } else {
        last.iter().map(|&c| without(&[c])).collect()
    }
}

/// First places among those who stand.
fn first_places(profile: &Profile, standing: &[bool]) -> Vec<f64> {
    let mut places = vec![0.0; profile.candidates()];
    for Ballot { tiers, weight } in profile.ballots() {
        let standing_in = |tier: &Vec<usize>| -> Vec<usize> {
            tier.iter().copied().filter(|&c| standing[c]).collect()
        };
        if let Some(top) = tiers.iter().map(standing_in).find(|tier| !tier.is_empty()) {
            for &c in &top {
                places[c] += weight / top.len() as f64;
            }
        }
    }
    places
}
