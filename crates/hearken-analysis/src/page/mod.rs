//! The analysis as HTML: sections with tables and charts, no script, no style attribute.

mod agreement;
mod annotators;
mod feature_report;
mod leaderboard;
mod markup;
mod patterns;
mod progress;
mod voting;

pub use feature_report::{feature_report_fragment, feature_report_html};

use hearken_page::document;

use crate::Analysis;
use crate::voting::ElectionAnalysis;

/// The analysis as sections for a page that somebody else frames: `section`s with `h2` and `h3`, `table.numbers`,
/// `figure.plot`, `p.note`, `p.warning`, `ul.legend`.
pub fn fragment(analysis: &Analysis) -> String {
    [
        progress::section(analysis),
        agreement::section(analysis),
        annotators::section(analysis),
        annotators::judges(analysis),
        patterns::section(analysis),
        patterns::ratings(analysis),
        leaderboard::section(analysis),
        voting::section(&analysis.voting),
    ]
    .concat()
}

/// The analysis as a page by itself: nothing is loaded from elsewhere.
pub fn html(analysis: &Analysis) -> String {
    let rounds = analysis.options.bootstrap_rounds;
    let intro = format!(
        "<p>Every number stands with its 95 % interval and the number of observations n; an end is unbounded where the \
         observations are too few, or too much alike, to bound it. Bootstraps have {rounds} rounds, seed {}.</p>\n",
        analysis.options.seed
    );
    document("Analysis of judgements", &format!("{intro}{}", fragment(analysis)))
}

/// What voting rules choose in an election, as a page by itself.
pub fn election_html(analysis: &ElectionAnalysis) -> String {
    let voting = &analysis.voting;
    let intro = match voting.ballots {
        0 => format!("<p>{} votes on pairs.</p>\n", voting.votes),
        ballots => format!("<p>{ballots} ballots, {} votes on pairs.</p>\n", voting.votes),
    };
    document("Voting rules", &(intro + &voting::section(voting)))
}
