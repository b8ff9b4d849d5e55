use super::*;

/// Uniform numbers in [0, 1) that depend on the seed alone (Marsaglia's xorshift64).
struct Uniform(u64);

impl Uniform {
    fn new(seed: u64) -> Self {
        let mut one = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        (0..8).for_each(|_| {
            one.next();
        });
        one
    }

    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const PLAIN: Choice =
    Choice { temperature: 1.0, top_k: None, top_p: 1.0, min_p: 0.0, uniform: 0.5 };

/// Logits with ties, in no order.
fn logits(vocab: usize, seed: u64) -> Vec<f32> {
    let mut rng = Uniform::new(seed);
    (0..vocab).map(|_| (rng.next() as f32 * 40.0).round() / 5.0).collect()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> =
        logits.iter().map(|&l| ((f64::from(l) - f64::from(highest)) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// The truncated distribution by the definition: a full sort, one cut after the other.
fn exact(logits: &[f32], choice: &Choice) -> Vec<f64> {
    let p = softmax(logits, choice.temperature);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(choice.top_k.unwrap_or(p.len()));
    let mass: f64 = order.iter().map(|&id| p[id]).sum();
    let mut cumulative = 0.0;
    let mut n = 0;
    while n < order.len() && (n == 0 || cumulative < choice.top_p * mass - 1e-9) {
        cumulative += p[order[n]];
        n += 1;
    }
    order.truncate(n);
    order.retain(|&id| p[id] >= choice.min_p * p[order_first(&p)] * (1.0 - 1e-9));
    let mass: f64 = order.iter().map(|&id| p[id]).sum();
    let mut kept = vec![0.0; p.len()];
    for id in order {
        kept[id] = p[id] / mass;
    }
    kept
}

fn order_first(p: &[f64]) -> usize {
    (0..p.len()).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap()
}

fn settings() -> Vec<Choice> {
    vec![
        PLAIN,
        Choice { temperature: 0.6, ..PLAIN },
        Choice { top_k: Some(5), ..PLAIN },
        Choice { top_k: Some(1), ..PLAIN },
        Choice { top_k: Some(10_000), ..PLAIN },
        Choice { top_p: 0.9, ..PLAIN },
        Choice { top_p: 0.999, temperature: 3.0, ..PLAIN },
        Choice { top_p: 0.0, ..PLAIN },
        Choice { min_p: 0.2, ..PLAIN },
        Choice { min_p: 1.0, ..PLAIN },
        Choice { top_p: 0.8, top_k: Some(30), min_p: 0.01, temperature: 1.7, ..PLAIN },
        Choice { top_p: 0.95, min_p: 0.3, ..PLAIN },
        Choice { top_p: 0.7, top_k: Some(200), temperature: 2.0, ..PLAIN },
    ]
}

#[test]
fn cuts_keep_what_a_full_sort_keeps() {
    for choice in settings() {
        for (seed, vocab) in [(1, 3), (2, 64), (3, 200), (4, 1000)] {
            let row = logits(vocab, seed);
            let softmax = Softmax::new(&row, highest(&row).unwrap(), choice.temperature);
            let kept = kept(&softmax, &choice);
            let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
            let mut actual = vec![0.0; vocab];
            for (id, weight) in kept {
                actual[id as usize] = weight / total;
            }
            for (id, (a, e)) in actual.iter().zip(exact(&row, &choice)).enumerate() {
                assert!((a - e).abs() < 1e-9, "{choice:?}, V = {vocab}, token {id}: {a}, {e}");
            }
        }
    }
}

/// Pearson's statistic lies below its mean plus six deviations, and no impossible token appears.
#[test]
fn draws_follow_the_exact_distribution() {
    const DRAWS: usize = 40_000;
    for choice in settings() {
        let row = logits(150, 9);
        let expected = exact(&row, &choice);
        let mut counts = vec![0usize; row.len()];
        let mut rng = Uniform::new(7);
        for _ in 0..DRAWS {
            let choice = Choice { uniform: rng.next(), ..choice };
            counts[choose(&row, &choice).unwrap().0 as usize] += 1;
        }
        let (mut statistic, mut cells) = (0.0, 0usize);
        for (id, (&count, p)) in counts.iter().zip(expected).enumerate() {
            let mean = p * DRAWS as f64;
            assert!(p > 0.0 || count == 0, "{choice:?}: token {id} was cut off");
            if mean > 5.0 {
                statistic += (count as f64 - mean).powi(2) / mean;
                cells += 1;
            }
        }
        let freedom = (cells - 1) as f64;
        let bound = freedom + 6.0 * (2.0 * freedom).sqrt() + 1.0;
        assert!(statistic < bound, "{choice:?}: χ² = {statistic}, {freedom} degrees of freedom");
    }
}

#[test]
fn logprobs_are_those_of_the_tempered_untruncated_distribution() {
    for mut choice in settings() {
        for temperature in [0.0, 0.3, 1.0, 2.5] {
            choice.temperature = temperature;
            let row = logits(777, 5);
            let p = softmax(&row, if temperature == 0.0 { 1.0 } else { temperature });
            let (id, logprob) = choose(&row, &choice).unwrap();
            let expected = p[id as usize].ln();
            assert!((logprob - expected).abs() < 1e-10, "{logprob}, {expected}");
        }
    }
}

#[test]
fn greedy_takes_the_first_of_equals() {
    let mut row = vec![0.0; 100];
    for id in [17, 41, 99] {
        row[id] = 2.0;
    }
    assert_eq!(choose(&row, &Choice { temperature: 0.0, ..PLAIN }).unwrap().0, 17);
}

#[test]
fn a_temperature_near_zero_is_greedy() {
    let row = logits(500, 11);
    let greedy = choose(&row, &Choice { temperature: 0.0, ..PLAIN }).unwrap().0;
    for temperature in [1e-3, 1e-30, 1e-320] {
        let cold = choose(&row, &Choice { temperature, top_k: Some(1), ..PLAIN }).unwrap();
        assert_eq!(cold.0, greedy);
        assert!(cold.1.is_finite());
    }
}

#[test]
fn a_logit_of_minus_infinity_is_never_drawn() {
    let mut row = vec![f32::NEG_INFINITY; 300];
    row[130] = -3.0;
    row[131] = -3.0;
    for choice in settings() {
        let mut rng = Uniform::new(5);
        for _ in 0..100 {
            let choice = Choice { uniform: rng.next(), ..choice };
            assert!([130, 131].contains(&choose(&row, &choice).unwrap().0), "{choice:?}");
        }
    }
}

#[test]
fn bad_logits_are_named() {
    let check = |id: usize, value: f32| {
        let mut row = logits(70, 1);
        row[id] = value;
        let bad = choose(&row, &PLAIN).unwrap_err();
        assert_eq!((bad.id, bad.value.to_bits()), (id, value.to_bits()));
    };
    for id in [0, 33, 64, 69] {
        check(id, f32::NAN);
        check(id, f32::INFINITY);
    }
    let nothing = [f32::NEG_INFINITY; 20];
    assert!(choose(&nothing, &PLAIN).is_err());
}
