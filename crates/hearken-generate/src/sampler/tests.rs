use super::*;

/// Logits with ties, in no order.
fn logits(vocab: usize, seed: u64) -> Vec<f32> {
    let mut rng = stream(seed, 0);
    (0..vocab).map(|_| (rng.random::<f32>() * 40.0).round() / 5.0).collect()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> =
        logits.iter().map(|&l| ((f64::from(l) - f64::from(highest)) / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// The truncated distribution by the definition: a full sort, one cut after the other.
fn exact(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
    let p = softmax(logits, sampling.temperature);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(sampling.top_k.unwrap_or(p.len()));
    let mass: f64 = order.iter().map(|&id| p[id]).sum();
    let mut cumulative = 0.0;
    let mut n = 0;
    while n < order.len() && (n == 0 || cumulative < sampling.top_p * mass - 1e-9) {
        cumulative += p[order[n]];
        n += 1;
    }
    order.truncate(n);
    order.retain(|&id| p[id] >= sampling.min_p * p[order_first(&p)] * (1.0 - 1e-9));
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

fn settings() -> Vec<Sampling> {
    let plain = Sampling::plain(1);
    vec![
        plain.clone(),
        Sampling { temperature: 0.6, ..plain.clone() },
        Sampling { top_k: Some(5), ..plain.clone() },
        Sampling { top_k: Some(1), ..plain.clone() },
        Sampling { top_k: Some(10_000), ..plain.clone() },
        Sampling { top_p: 0.9, ..plain.clone() },
        Sampling { top_p: 0.999, temperature: 3.0, ..plain.clone() },
        Sampling { top_p: 0.0, ..plain.clone() },
        Sampling { min_p: 0.2, ..plain.clone() },
        Sampling { min_p: 1.0, ..plain.clone() },
        Sampling { top_p: 0.8, top_k: Some(30), min_p: 0.01, temperature: 1.7, ..plain.clone() },
        Sampling { top_p: 0.95, min_p: 0.3, ..plain.clone() },
        Sampling { top_p: 0.7, top_k: Some(200), temperature: 2.0, ..plain },
    ]
}

#[test]
fn cuts_keep_what_a_full_sort_keeps() {
    for sampling in settings() {
        for (seed, vocab) in [(1, 3), (2, 64), (3, 200), (4, 1000)] {
            let row = logits(vocab, seed);
            let softmax = Softmax::new(&row, highest(&row).unwrap(), sampling.temperature);
            let kept = kept(&softmax, &sampling);
            let total: f64 = kept.iter().map(|&(_, weight)| weight).sum();
            let mut actual = vec![0.0; vocab];
            for (id, weight) in kept {
                actual[id as usize] = weight / total;
            }
            for (id, (a, e)) in actual.iter().zip(exact(&row, &sampling)).enumerate() {
                assert!((a - e).abs() < 1e-9, "{sampling:?}, V = {vocab}, token {id}: {a}, {e}");
            }
        }
    }
}

/// Pearson's statistic lies below its mean plus six deviations, and no impossible token appears.
#[test]
fn draws_follow_the_exact_distribution() {
    const DRAWS: usize = 40_000;
    for sampling in settings() {
        let row = logits(150, 9);
        let expected = exact(&row, &sampling);
        let mut counts = vec![0usize; row.len()];
        let mut rng = stream(7, 3);
        for _ in 0..DRAWS {
            counts[draw(&row, &sampling, &mut rng).unwrap().id as usize] += 1;
        }
        let (mut statistic, mut cells) = (0.0, 0usize);
        for (id, (&count, p)) in counts.iter().zip(expected).enumerate() {
            let mean = p * DRAWS as f64;
            assert!(p > 0.0 || count == 0, "{sampling:?}: token {id} was cut off");
            if mean > 5.0 {
                statistic += (count as f64 - mean).powi(2) / mean;
                cells += 1;
            }
        }
        let freedom = (cells - 1) as f64;
        let bound = freedom + 6.0 * (2.0 * freedom).sqrt() + 1.0;
        assert!(statistic < bound, "{sampling:?}: χ² = {statistic}, {freedom} degrees of freedom");
    }
}

#[test]
fn logprobs_are_those_of_the_tempered_untruncated_distribution() {
    for mut sampling in settings() {
        for temperature in [0.0, 0.3, 1.0, 2.5] {
            sampling.temperature = temperature;
            let row = logits(777, 5);
            let p = softmax(&row, if temperature == 0.0 { 1.0 } else { temperature });
            let draw = draw(&row, &sampling, &mut stream(1, 1)).unwrap();
            let expected = p[draw.id as usize].ln();
            assert!((draw.logprob - expected).abs() < 1e-10, "{}, {expected}", draw.logprob);
        }
    }
}

#[test]
fn greedy_takes_the_first_of_equals_and_no_random_number() {
    let mut row = vec![0.0; 100];
    for id in [17, 41, 99] {
        row[id] = 2.0;
    }
    let mut rng = stream(0, 0);
    assert_eq!(draw(&row, &Sampling::greedy(1), &mut rng).unwrap().id, 17);
    assert_eq!(rng, stream(0, 0));
}

#[test]
fn a_temperature_near_zero_is_greedy() {
    let row = logits(500, 11);
    let greedy = draw(&row, &Sampling::greedy(1), &mut stream(0, 0)).unwrap();
    for temperature in [1e-3, 1e-30, 1e-320] {
        let sampling = Sampling { temperature, top_k: Some(1), ..Sampling::plain(1) };
        let cold = draw(&row, &sampling, &mut stream(0, 0)).unwrap();
        assert_eq!(cold.id, greedy.id);
        assert!(cold.logprob.is_finite());
    }
}

/// One number per token, whatever is cut off: settings do not shift later draws.
#[test]
fn every_draw_takes_one_random_number() {
    let mut expected = stream(3, 2);
    let _ = expected.random::<f64>();
    for sampling in settings() {
        let mut rng = stream(3, 2);
        draw(&logits(100, 1), &sampling, &mut rng).unwrap();
        assert_eq!(rng, expected);
    }
}

#[test]
fn a_logit_of_minus_infinity_is_never_drawn() {
    let mut row = vec![f32::NEG_INFINITY; 300];
    row[130] = -3.0;
    row[131] = -3.0;
    for sampling in settings() {
        let mut rng = stream(5, 0);
        for _ in 0..100 {
            let draw = draw(&row, &sampling, &mut rng).unwrap();
            assert!([130, 131].contains(&draw.id), "{sampling:?}");
        }
    }
}

#[test]
fn bad_logits_are_named() {
    let check = |id: usize, value: f32| {
        let mut row = logits(70, 1);
        row[id] = value;
        let bad = draw(&row, &Sampling::plain(1), &mut stream(0, 0)).unwrap_err();
        assert_eq!((bad.id, bad.value.to_bits()), (id, value.to_bits()));
    };
    for id in [0, 33, 64, 69] {
        check(id, f32::NAN);
        check(id, f32::INFINITY);
    }
    let nothing = [f32::NEG_INFINITY; 20];
    assert!(draw(&nothing, &Sampling::plain(1), &mut stream(0, 0)).is_err());
}

#[test]
fn streams_differ_by_seed_and_by_sample() {
    let first = |seed, sample| stream(seed, sample).random::<u64>();
    assert_eq!(first(1, 0), first(1, 0));
    assert_ne!(first(1, 0), first(1, 1));
    assert_ne!(first(1, 0), first(2, 0));
}
