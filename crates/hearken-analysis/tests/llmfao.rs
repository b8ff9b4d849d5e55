//! The facts of LLMFAO: 8,931 votes of people on answers of 59 models. Skipped where the data is not there.

#![allow(
    clippy::float_cmp,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code; exact results are compared exactly"
)]

mod common;

use std::sync::LazyLock;
use std::time::Instant;

use hearken_analysis::annotators::{Annotator, ReasonKind};
use hearken_analysis::{Analysis, Figure, Options, analyze, fragment, html};

static ANALYSIS: LazyLock<Option<Analysis>> = LazyLock::new(|| {
    let records = common::llmfao()?;
    let start = Instant::now();
    let analysis = analyze(&records, &Options { bootstrap_rounds: 200, ..Options::default() });
    eprintln!("200 rounds: {:.1} s", start.elapsed().as_secs_f64());
    Some(analysis)
});

fn close(figure: &Figure, expected: f64, tolerance: f64) {
    let value = figure.value().unwrap_or_else(|| panic!("{figure:?}"));
    assert!((value - expected).abs() <= tolerance, "{value}, expected {expected}");
}

fn count(figure: &Figure) -> (usize, usize) {
    let e = figure.known().unwrap();
    ((e.value * e.n as f64).round() as usize, e.n)
}

#[test]
fn counts_are_as_documented() {
    let Some(a) = &*ANALYSIS else { return };
    assert_eq!((a.progress.items, a.progress.judgements_by_annotators), (2139, 8931));
    assert_eq!(a.progress.annotators, 124);
    assert_eq!(a.progress.judgements, 8931 + 2 * 2139);
    assert_eq!((a.progress.unfit, a.progress.unknown_item), (0, 0));
}

#[test]
fn agreement_is_as_documented() {
    let Some(a) = &*ANALYSIS else { return };
    let c = &a.agreement.comparisons;
    close(&c.raw, 8043.0 / 15_112.0, 1e-12);
    close(&c.raw_decisive, 4737.0 / 6755.0, 1e-12);
    close(&c.alpha_nominal, 0.2906, 6e-5);
    close(&c.alpha_interval, 0.2878, 6e-5);
    for figure in [&c.raw, &c.raw_decisive, &c.alpha_nominal, &c.alpha_ordinal, &c.fleiss] {
        let e = figure.known().unwrap();
        assert!(e.low < e.value && e.value < e.high && e.half_width() < 0.05, "{e}");
    }
    assert!(matches!(&c.cohen, Figure::Missing { missing } if missing.contains("124")));
}

fn annotator<'a>(a: &'a Analysis, name: &str) -> &'a Annotator {
    a.annotators.list.iter().find(|k| k.name == name).unwrap()
}

#[test]
fn sides_are_biased_as_documented() {
    let Some(a) = &*ANALYSIS else { return };
    close(&a.annotators.left_share, 0.53315, 5e-6);
    assert_eq!(count(&a.annotators.left_share), (2911, 5460));
    assert!((a.annotators.left_test.unwrap().z - 4.90).abs() < 0.005);
    for (name, left, n, z) in [("20", 204, 290, 6.93), ("37", 73, 98, 4.85)] {
        let k = annotator(a, name);
        assert_eq!(count(&k.left_share), (left, n));
        assert!((k.left_test.unwrap().z - z).abs() < 0.006);
        assert!(k.conspicuous.iter().any(|r| r.kind == ReasonKind::Side), "{:?}", k.conspicuous);
    }
    let named = a.annotators.list.iter().filter(|k| !k.conspicuous.is_empty()).count();
    eprintln!("{named} conspicuous annotators");
}

#[test]
fn the_longer_answer_wins_in_four_of_ten() {
    let Some(a) = &*ANALYSIS else { return };
    let length = &a.patterns.features[0];
    assert_eq!(length.feature, "characters");
    assert_eq!((length.wins, length.wins + length.losses + length.equal), (2238, 5460));
    close(&length.more_wins, 0.409_89, 1e-5);
    let test = length.more_wins_test.unwrap();
    assert!(test.z < -8.0 && test.p_holm < 1e-6, "{test:?}");
    assert_eq!(length.examples.len(), 3);
}

#[test]
fn models_are_as_documented() {
    let Some(a) = &*ANALYSIS else { return };
    let board = &a.leaderboard;
    let share = |name: &str| {
        board.models.iter().find(|row| row.model == name).and_then(|row| row.share).unwrap()
    };
    for (name, expected) in [
        ("GPT 4", 0.041_217_873_68),
        ("Platypus-2 Instruct (70B)", 0.029_233_178_41),
        ("command", 0.028_852_056_44),
    ] {
        assert!((share(name) - expected).abs() < 1e-10);
    }
    assert_eq!((board.models.len(), board.votes, board.components.len()), (59, 8931, 1));
    assert_eq!((board.triads.complete, board.triads.cyclic), (5249, 510));
    assert_eq!((a.voting.pairs_compared, a.voting.pairs), (927, 1711));
    assert!(board.order_effect.known().unwrap().low > 0.0);
    assert_eq!(board.models[0].model, "GPT 4");
    let first = &board.models[0];
    assert_eq!(first.rank_bounds.unwrap().best, 1);
    let (bootstrap, sandwich) =
        (first.rating.known().unwrap(), first.rating_sandwich.known().unwrap());
    assert!((bootstrap.half_width() / sandwich.half_width() - 1.0).abs() < 0.3);
}

#[test]
fn judges_agree_with_the_plurality_as_documented() {
    let Some(a) = &*ANALYSIS else { return };
    let judge = |name: &str| a.judges.list.iter().find(|j| j.name == name).unwrap();
    let (gpt4, gpt3) = (judge("gpt4"), judge("gpt3"));
    assert_eq!(count(&gpt4.agreement), (778, 1043));
    assert_eq!(count(&gpt3.agreement), (613, 971));
    assert_eq!((gpt4.votes, gpt4.ties, gpt3.ties), (2139, 66, 194));
    assert_eq!(count(&gpt3.left_share), (1352, 1945));
    assert_eq!(count(&gpt4.left_share), (943, 2073));
}

#[test]
fn numbers_do_not_depend_on_the_run_and_json_holds_them() {
    let Some(a) = &*ANALYSIS else { return };
    let records = common::llmfao().unwrap();
    let options = Options { bootstrap_rounds: 20, ..Options::default() };
    let again = analyze(&records, &options);
    assert_eq!(again, analyze(&records, &options));
    assert_eq!(again.patterns, a.patterns);
    let json = serde_json::to_string(a).unwrap();
    let back: Analysis = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
}

#[test]
fn the_page_is_by_itself_and_without_style_attributes() {
    let Some(a) = &*ANALYSIS else { return };
    let page = html(a);
    assert!(page.contains("GPT 4") && page.contains("Krippendorff"));
    // The name of the SVG namespace is no address.
    let body = fragment(a).replace("http://www.w3.org/2000/svg", "");
    for forbidden in ["style=", "<script", "=\"http:", "https://", "NaN", "onload"] {
        let at = body.find(forbidden);
        let found: String = body[at.unwrap_or(0)..].chars().take(80).collect();
        assert!(at.is_none(), "{forbidden}: {found}");
    }
    if let Some(folder) = std::env::var_os("HEARKEN_PAGES") {
        std::fs::write(std::path::Path::new(&folder).join("llmfao.html"), page).unwrap();
        let json = serde_json::to_string_pretty(a).unwrap();
        std::fs::write(std::path::Path::new(&folder).join("llmfao.json"), json).unwrap();
    }
}
