//! Progress and times.

use super::markup::{Table, Unit, facts, notes, section as framed};
use crate::Analysis;
use hearken_page::escape;
use hearken_page::{Bars, ChartLabels};

pub(super) fn section(analysis: &Analysis) -> String {
    let p = &analysis.progress;
    let mut counts = Table::new("Counts", &["", "number"]);
    let mut count = |what: &str, n: usize| counts.row(&[escape(what), n.to_string()]);
    count("Items", p.items);
    count("Items with a judgement", p.items_judged);
    count("Gold items", p.items_gold);
    count("Annotators", p.annotators);
    count("Judgements by annotators", p.judgements_by_annotators);
    count("Judgements by language models beside them", p.judgements - p.judgements_by_annotators);
    count("Items with a final verdict", p.final_verdicts);
    count("Revised judgements", p.revised);
    for (kind, n) in &p.judgements_by_kind {
        count(&format!("Verdict “{}”", kind.replace('_', " ")), *n);
    }
    let mut overlap = Table::new("Judgements per item", &["judgements", "items"]);
    for o in &p.overlap {
        overlap.row(&[o.judgements.to_string(), o.items.to_string()]);
    }
    let times = facts(
        "Seconds per judgement",
        &[
            ("Median", &p.seconds.median, Unit::Plain(1)),
            ("One in ten takes less than", &p.seconds.fast, Unit::Plain(1)),
            ("One in ten takes more than", &p.seconds.slow, Unit::Plain(1)),
            ("Mean", &p.seconds.mean, Unit::Plain(1)),
        ],
    );
    let per_day = p.days.iter().map(|day| (day.date.clone(), day.judgements as f64)).collect();
    let bin =
        |b: &crate::progress::TimeBin| (format!("{}–{} s", b.from, b.below), b.judgements as f64);
    let body = [
        notes(&p.notes),
        counts.html(),
        overlap.html(),
        times,
        Bars {
            labels: ChartLabels::new("Seconds per judgement", "time", "judgements"),
            bars: p.seconds.histogram.iter().map(bin).collect(),
        }
        .html(),
        Bars {
            labels: ChartLabels::new("Judgements per day", "day, UTC", "judgements"),
            bars: per_day,
        }
        .html(),
    ];
    framed("progress", "Progress", &body.concat())
}
