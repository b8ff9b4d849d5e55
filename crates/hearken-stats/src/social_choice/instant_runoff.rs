//! Rules that need whole rankings.

use std::collections::BTreeSet;

use super::{Ballot, Profile};

/// First places; a ballot with several candidates on top is shared among them.
pub fn plurality(profile: &Profile) -> Vec<f64> {
    first_places(profile, &vec![true; profile.candidates()])
}

/// The winners of instant run-off: the candidate with the fewest first places leaves until one is left. Where several
/// have the fewest, every order of leaving is followed, and whoever wins under one of them is returned, ascending.
/// Candidates whose places together are fewer than the next one's leave at once, which changes nothing. Ballots that rank
/// nobody left are set aside.
pub fn instant_runoff(profile: &Profile) -> Vec<usize> {
    let all = vec![true; profile.candidates()];
    let mut open = vec![all.clone()];
    let mut seen = BTreeSet::from([all]);
    let mut winners = BTreeSet::new();
    while let Some(standing) = open.pop() {
        let left: Vec<usize> = (0..standing.len()).filter(|&c| standing[c]).collect();
        if let [winner] = left[..] {
            winners.insert(winner);
        }
        if left.len() < 2 {
            continue;
        }
        for next in eliminations(profile, &standing, &left) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    winners.into_iter().collect()
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
