//! Results for the eye.

use std::fmt::Write as _;

use super::row::BenchRow;

const HEADINGS: [&str; 8] =
    ["work", "shape", "dtype", "tokens/s", "step s", "GFLOP/s", "of peak", "peak MB"];

/// A table with a line for each row; below it what only some of them have.
pub(super) fn table(rows: &[BenchRow]) -> String {
    let lines: Vec<[String; 8]> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let (words, numbers) = line.split_at(3);
        let words = words.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let numbers =
            numbers.iter().zip(&widths[3..]).map(|(cell, width)| format!("{cell:>width$}"));
        let line: Vec<String> = words.chain(numbers).collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    for row in rows {
        details(row, &mut text);
    }
    text
}

fn cells(row: &BenchRow) -> [String; 8] {
    let absent = || "-".to_owned();
    [
        row.work.clone(),
        row.shape.clone(),
        row.dtype.clone(),
        row.tokens_per_s.map_or_else(absent, |rate| format!("{rate:.0}")),
        row.timed.as_ref().map_or_else(absent, |timed| format!("{:.3}", timed.step_s)),
        format!("{:.0}", row.gflops),
        format!("{:.0} %", 100.0 * row.peak_share),
        row.peak_rss_mb.map_or_else(absent, |megabytes| megabytes.to_string()),
    ]
}

fn details(row: &BenchRow, text: &mut String) {
    let BenchRow { work, dtype, .. } = row;
    match (row.bandwidth_gb_per_s, row.bandwidth_share) {
        (Some(best), Some(share)) => {
            let share = 100.0 * share;
            let _ = writeln!(
                text,
                "{work} {dtype}: decoding reads weights at {share:.0} % of the {best:.1} GB/s that \
                 memory gives"
            );
        }
        (Some(best), None) => {
            let _ = writeln!(text, "{work} {dtype}: memory gives {best:.1} GB/s");
        }
        (None, _) => {}
    }
    for part in row.profile.iter().flatten() {
        let (seconds, share) = (part.seconds, 100.0 * part.share);
        let _ = writeln!(text, "{work} {dtype}: {share:5.1} %  {seconds:8.4} s  {}", part.kernels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_details_follow() {
        let rows = [
            BenchRow::of_peak("small30", "f32", 2.0e11, 2.5e10, Some(3)),
            BenchRow {
                tokens_per_s: Some(12345.6),
                ..BenchRow::of_peak("gpt2", "bf16", 1e9, 2.5e10, None)
            },
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        let end = |line: &str, part: &str| line.find(part).map(|at| at + part.len());
        assert_eq!(end(lines[0], "GFLOP/s"), end(lines[1], "200"));
        assert_eq!(end(lines[0], "tokens/s"), end(lines[2], "12346"));
        assert_eq!(lines[3], "peak f32: memory gives 25.0 GB/s");
    }
}
