//! Cases whose answer is a formula.

use super::*;

/// Ranks of which each computes 1000 tokens a second, without anything between them.
fn alone() -> Trainer {
    let network = Network {
        ranks_per_node: 1,
        link_bytes_per_s: f64::INFINITY,
        network_bytes_per_s: f64::INFINITY,
        latency_s: 0.0,
    };
    Trainer {
        tokens_per_s: 1000.0,
        numbers: 10 << 22,
        memory_bytes_per_s: f64::INFINITY,
        network,
        summation: Summation::Exchange,
    }
}

fn on(lengths: Lengths, records: usize, ranks: usize) -> StepPlan {
    StepPlan { records, lengths, ranks }
}

fn draws(count: usize) -> Draws {
    Draws { count, seed: 1 }
}

fn close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-9 * expected.abs() + 1e-12,
        "{found}, expected {expected}"
    );
}

#[test]
fn without_bounds_twice_the_ranks_take_half_the_time() {
    for ranks in [1, 2, 4, 8, 64] {
        let step = steps(&alone(), &on(Lengths::all(500), 64, ranks), draws(3));
        close(step.seconds(), 64.0 * 500.0 / 1000.0 / ranks as f64);
        assert_eq!(step.bound(), Bound::Computing);
    }
}

#[test]
fn bandwidth_alone_gives_the_known_time_of_a_sum() {
    let (bandwidth, bytes) = (1e9, 4.0 * f64::from(10 << 22));
    for summation in [Summation::Exchange, Summation::Ring] {
        for ranks in [2, 4, 8] {
            let network = Network { network_bytes_per_s: bandwidth, ..alone().network };
            let trainer = Trainer { network, summation, ..alone() };
            let step = steps(&trainer, &on(Lengths::all(1), ranks, ranks), draws(1));
            let n = ranks as f64;
            // Each rank gives the others all but its own share, and as much again of weights.
            close(step.bytes_s, 2.0 * (n - 1.0) / n * bytes / bandwidth);
            close(step.seconds(), step.bytes_s + 1e-3);
            assert_eq!(step.bound(), Bound::Bandwidth);
        }
    }
}

#[test]
fn ranks_of_a_machine_share_its_network_in_an_exchange_and_not_in_a_ring() {
    let of = |summation| {
        let network = Network { ranks_per_node: 8, network_bytes_per_s: 1e9, ..alone().network };
        let trainer = Trainer { network, summation, ..alone() };
        steps(&trainer, &on(Lengths::all(1), 16, 16), draws(1)).bytes_s
    };
    let bytes = 4.0 * f64::from(10 << 22);
    // 8 ranks give half of everything each; round a ring 15/16 go once.
    close(of(Summation::Exchange), 2.0 * 8.0 * 0.5 * bytes / 1e9);
    close(of(Summation::Ring), 2.0 * 15.0 / 16.0 * bytes / 1e9);
}

#[test]
fn messages_are_counted_by_portion_and_by_round() {
    let network = Network { latency_s: 1e-3, ..alone().network };
    let of = |summation, numbers, ranks| {
        let trainer = Trainer { numbers, network, summation, ..alone() };
        steps(&trainer, &on(Lengths::all(1), 1, ranks), draws(1)).messages_s
    };
    // Ten whole portions, to 3 others, twice; a number more is a portion more.
    close(of(Summation::Exchange, 10 << 22, 4), 2.0 * 10.0 * 3.0 * 1e-3);
    close(of(Summation::Exchange, (10 << 22) + 1, 4), 2.0 * 11.0 * 3.0 * 1e-3);
    close(of(Summation::Ring, 10 << 22, 4), 2.0 * 3.0 * 1e-3);
    close(of(Summation::Exchange, 10 << 22, 1), 0.0);
}

#[test]
fn everybody_waits_for_whoever_has_the_most() {
    // Three records of a second each for two ranks.
    let step = steps(&alone(), &on(Lengths::all(1000), 3, 2), draws(2));
    close(step.seconds(), 2.0);
    close(step.computing_s, 1.5);
    close(step.waiting_s, 0.5);
    assert_eq!(step.bound(), Bound::Shares);
    // More ranks than records help nobody.
    close(steps(&alone(), &on(Lengths::all(1000), 3, 64), draws(1)).seconds(), 1.0);
}

#[test]
fn memory_bounds_sums_and_updates() {
    let trainer = Trainer { numbers: 1000, memory_bytes_per_s: 4000.0, ..alone() };
    close(steps(&trainer, &on(Lengths::all(1), 1, 1), draws(1)).updating_s, 28.0 * 1000.0 / 4000.0);
    let together = steps(&trainer, &on(Lengths::all(1), 4, 4), draws(1)).updating_s;
    close(together, (12.0 * 750.0 + 28.0 * 250.0) / 4000.0);
}

const SAMPLER: Sampler = Sampler { step_s: 0.01, sequence_s: 0.001, slots: 8 };

fn plan() -> IterationPlan {
    IterationPlan {
        prompts: 4,
        completions: 2,
        prompt_tokens: 0,
        lengths: Lengths::all(100),
        ranks: 1,
        servers: 1,
        is_ahead: false,
        loading_s: 0.5,
    }
}

#[test]
fn sequences_that_run_together_share_the_reading_of_weights() {
    let all = iterations(&alone(), SAMPLER, &plan(), draws(2));
    close(all.sampling_s, 100.0 * (0.01 + 8.0 * 0.001));
    close(all.training.seconds(), 0.8);
    close(all.seconds, 0.5 + all.sampling_s + 0.8);
    close(all.tokens, 800.0);
    // With room for four they run one half after the other.
    let narrow = Sampler { slots: 4, ..SAMPLER };
    let halves = iterations(&alone(), narrow, &plan(), draws(1));
    close(halves.sampling_s, 2.0 * 100.0 * (0.01 + 4.0 * 0.001));
    // Two servers take two prompts each, one of them the third, if there is one.
    let two = iterations(&alone(), narrow, &IterationPlan { servers: 2, ..plan() }, draws(1));
    close(two.sampling_s, 100.0 * (0.01 + 4.0 * 0.001));
    let odd = IterationPlan { servers: 2, prompts: 5, ..plan() };
    let odd = iterations(&alone(), narrow, &odd, draws(1));
    close(odd.sampling_s, 100.0 * (0.01 + 4.0 * 0.001) + 100.0 * (0.01 + 2.0 * 0.001));
    close(odd.idle_s, 100.0 * (0.01 + 2.0 * 0.001) / 2.0);
}

#[test]
fn ahead_of_training_the_longer_of_both_counts() {
    let at_once = iterations(&alone(), SAMPLER, &plan(), draws(1));
    let ahead =
        iterations(&alone(), SAMPLER, &IterationPlan { is_ahead: true, ..plan() }, draws(1));
    close(ahead.seconds, 0.5 + at_once.sampling_s.max(0.8));
    // Ranks that sample themselves gain nothing by it.
    let own = IterationPlan { servers: 0, ranks: 2, ..plan() };
    let at_once = iterations(&alone(), SAMPLER, &own, draws(1));
    let ahead = iterations(&alone(), SAMPLER, &IterationPlan { is_ahead: true, ..own }, draws(1));
    assert_eq!(at_once, ahead);
    close(at_once.seconds, 100.0 * (0.01 + 4.0 * 0.001) + 0.4);
}

#[test]
fn lengths_have_their_mean_and_their_limit() {
    let lengths = Lengths { mean: 200.0, spread: 0.8, max: 10_000 };
    let mut rng = hearken_run::seeds::Seeds::new(3).stream("test", 0);
    let drawn: Vec<usize> = (0..20_000).map(|_| lengths.draw(&mut rng)).collect();
    let mean = drawn.iter().sum::<usize>() as f64 / drawn.len() as f64;
    assert!((mean / 200.0 - 1.0).abs() < 0.03, "{mean}");
    let cut = Lengths { max: 256, ..lengths };
    assert_eq!((0..2000).map(|_| cut.draw(&mut rng)).max(), Some(256));
    // The longest decides: many short ones beside it leave a server idle.
    let of = |spread| {
        let lengths = Lengths { mean: 100.0, spread, max: 4000 };
        let plan = IterationPlan { servers: 8, prompts: 64, lengths, ..plan() };
        let all = iterations(&alone(), SAMPLER, &plan, draws(5));
        all.idle_s / all.sampling_s
    };
    assert!(of(0.0) < 1e-9 && 0.1 < of(1.0), "{} {}", of(0.0), of(1.0));
}
