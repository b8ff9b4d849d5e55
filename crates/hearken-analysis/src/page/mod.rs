//! The analysis as HTML: sections with tables and charts, no script, no style attribute.

mod agreement;
mod annotators;
mod feature_report;
mod lead;
mod leaderboard;
mod markup;
mod patterns;
mod progress;
mod voting;

pub use feature_report::{feature_report_fragment, feature_report_html};

use hearken_page::document;

use crate::Analysis;
use crate::standing::Standing;
use crate::voting::ElectionAnalysis;

/// The sections behind what matters, in their order: the id and the title of each.
const SECTIONS: [(&str, &str); 9] = [
    ("leaderboard", "Leaderboard"),
    ("agreement", "Agreement"),
    ("annotators", "Annotators"),
    ("judges", "Judges"),
    ("suggestions", "Suggestions"),
    ("patterns", "Patterns"),
    ("ratings", "Ratings"),
    ("voting", "Voting rules"),
    ("progress", "Progress"),
];

/// The analysis as sections for a page that somebody else frames: what matters first, then links to the sections, which are
/// folded. `section`s with `h2` and `h3`, `nav.contents`, `details`, `table.numbers`, `figure.plot`, `p.note`, `p.warning`,
/// `ul.legend`.
#[derive(Debug)]
pub struct Report {
    lead: lead::Lead,
    sections: String,
}

impl Report {
    /// Draws it.
    pub fn new(analysis: &Analysis) -> Self {
        Self { lead: lead::Lead::new(analysis), sections: sections(analysis) }
    }

    /// As HTML. Who wins and how far people agree is told of `standing`, where later judgements are known.
    pub fn html(&self, standing: Option<&Standing>) -> String {
        self.lead.section(standing) + &self.sections
    }
}

/// The analysis as sections; see [`Report`].
pub fn fragment(analysis: &Analysis) -> String {
    Report::new(analysis).html(None)
}

/// Who wins and how far people agree, as the first of the sections of a [`Report`] that is not there yet.
pub fn standing_html(standing: &Standing) -> String {
    lead::standing_section(standing)
}

fn sections(analysis: &Analysis) -> String {
    let sections = [
        leaderboard::section(analysis),
        agreement::section(analysis),
        annotators::section(analysis),
        annotators::judges(analysis),
        annotators::suggestions(analysis),
        patterns::section(analysis),
        patterns::ratings(analysis),
        markup::section("voting", "Voting rules", &voting::body(&analysis.voting)),
        progress::section(analysis),
    ]
    .concat();
    let there = SECTIONS.iter().filter(|(id, _)| sections.contains(&format!("<div id=\"{id}\">")));
    let links: Vec<String> =
        there.map(|(id, title)| format!("<li><a href=\"#{id}\">{title}</a></li>\n")).collect();
    let links = links.concat();
    let contents =
        format!("<nav class=\"contents\" aria-label=\"Contents\"><ul>\n{links}</ul></nav>\n");
    contents + &sections
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
    document(
        "Voting rules",
        &(intro + &markup::open_section("voting", "Voting rules", &voting::body(voting))),
    )
}
