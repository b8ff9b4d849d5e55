//! A million judgements. Run by name: `cargo test --release -p hearken-analysis --test scale -- --ignored --nocapture`.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "test code")]

use std::time::Instant;

use hearken_analysis::simulate::{Habits, World, simulate};
use hearken_analysis::{Options, analyze, html};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[test]
#[ignore = "half a minute and 2 GB"]
fn a_million_judgements_are_analyzed() {
    let world = World { items: 100_000, overlap: 10, gold_every: 50, ..World::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let records = simulate(&world, &vec![Habits::HONEST; 200], &mut rng);
    assert_eq!(records.judgements.len(), 1_000_000);
    let start = Instant::now();
    let analysis = analyze(&records, &Options::default());
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "1,000,000 judgements, 1,000 rounds: {seconds:.1} s; page {} bytes",
        html(&analysis).len()
    );
    assert!(seconds < 300.0, "{seconds}");
    assert_eq!(analysis.progress.judgements, 1_000_000);
}
