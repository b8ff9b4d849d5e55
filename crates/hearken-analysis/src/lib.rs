//! What judgements say.
//!
//! [`analyze`] takes items and judgements as a store or a file has them ([`JudgedItems`]) and gives an [`Analysis`]: plain
//! numbers, each with its interval and its n, in a JSON whose names `docs/analyze.md` lists. [`html`] and [`fragment`]
//! draw it. Where a number cannot be computed, a sentence stands in its place ([`Figure::Missing`]).
//!
//! ```
//! use hearken_analysis::{Options, JudgedItems, analyze};
//!
//! let analysis = analyze(&JudgedItems::default(), &Options::default());
//! assert_eq!(analysis.progress.judgements, 0);
//! ```
//!
//! | part | module |
//! |---|---|
//! | how far the work is, and how long it takes | [`progress`] |
//! | whether annotators agree | [`agreement`] |
//! | whom to believe, and who is conspicuous | [`annotators`], [`judges`], [`groups`] |
//! | what a judge is worth beside people, and what it is biased towards | [`judge_report`] |
//! | how much suggestions sway | [`suggestions`] |
//! | what predicts the choice | [`features`], [`patterns`] |
//! | ratings, and whether they fit the choices | [`ratings`] |
//! | labels of steps, approvals | [`labels`] |
//! | which model is best | [`leaderboard`], [`voting`] |
//! | who wins and how far people agree, anew after every label | [`standing`] |
//! | what voting rules make of bare votes | [`voting::Election`] |
//! | a reward model on features | [`FeatureReport`] |
//! | annotators made of numbers, for tests | [`simulate`] |
//!
//! What is *not* here: stores, files, HTTP.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::float_cmp))]

mod records;

mod figure;

mod index;

pub mod progress;

pub mod agreement;

pub mod annotators;

pub mod groups;

pub mod judges;

pub mod judge_report;

pub mod suggestions;

pub mod features;

pub mod patterns;

pub mod ratings;

pub mod labels;

pub mod leaderboard;

pub mod voting;

pub mod standing;

mod feature_report;

mod page;

pub mod simulate;

use serde::{Deserialize, Serialize};

pub use feature_report::{CalibrationBin, FeatureReport, Importance};
pub use figure::{Figure, Test};
pub use page::{
    Report, election_html, feature_report_fragment, feature_report_html, fragment, html,
    standing_html,
};
pub use records::{JudgedItems, Options};

/// The version of the JSON that an [`Analysis`] becomes. It grows when a name changes its meaning or goes away.
pub const VERSION: u32 = 1;

/// Everything that is computed from judgements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// [`VERSION`].
    pub version: u32,
    /// The options it was made with.
    pub options: Options,
    /// How far the work is.
    pub progress: progress::Progress,
    /// Whether annotators agree.
    pub agreement: agreement::Agreement,
    /// Each annotator.
    pub annotators: annotators::Annotators,
    /// Groups of annotators with different taste.
    pub groups: groups::Groups,
    /// Language models that judged.
    pub judges: judges::Judges,
    /// How much suggestions sway.
    pub suggestions: suggestions::Suggestions,
    /// What predicts the choice.
    pub patterns: patterns::Patterns,
    /// Ratings on axes.
    pub ratings: ratings::Ratings,
    /// Labels of steps, and approvals.
    pub labels: labels::LabelShares,
    /// Which model is best.
    pub leaderboard: leaderboard::Leaderboard,
    /// What voting rules would choose.
    pub voting: voting::Voting,
}

/// Analyzes records. The same records and options give the same numbers, whatever the number of threads.
pub fn analyze(records: &JudgedItems, options: &Options) -> Analysis {
    let index = index::Index::new(records);
    let skill = annotators::skills(&index);
    Analysis {
        version: VERSION,
        options: options.clone(),
        progress: progress::progress(&index),
        agreement: agreement::agreement(&index, options),
        annotators: annotators::annotators(&index, &skill),
        groups: groups::groups(&index, options),
        judges: judges::judges(&index),
        suggestions: suggestions::suggestions(&index),
        patterns: patterns::patterns(&index, options),
        ratings: ratings::ratings(&index),
        labels: labels::labels(&index),
        leaderboard: leaderboard::leaderboard(&index, options),
        voting: voting::voting(&index),
    }
}

/// The annotators of records, and nothing else of an [`Analysis`].
pub fn annotators_of(records: &JudgedItems) -> annotators::Annotators {
    let index = index::Index::new(records);
    annotators::annotators(&index, &annotators::skills(&index))
}
