//! Text in columns.

/// Rows under a header, columns as wide as their widest cell. The first and the last column are set
/// left, since they hold words, and those between them right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines: Vec<Vec<&str>> = vec![header.to_vec()];
    lines.extend(rows.iter().map(|row| row.iter().map(String::as_str).collect()));
    let widths: Vec<usize> = (0..header.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let last = header.len() - 1;
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            match column {
                0 => format!("{cell:width$}"),
                _ if column == last => (*cell).to_owned(),
                _ => format!("{cell:>width$}"),
            }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A large number with the letter of its power of ten: "1.2 G".
pub(crate) fn scaled(number: f64) -> String {
    const LETTERS: [(f64, &str); 5] =
        [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match LETTERS.iter().find(|(size, _)| *size <= number) {
        Some((size, letter)) => format!("{:.1} {letter}", number / size),
        None => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "10".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["name", "n", "bought"], &rows), "name   n  bought\na     10  x\n");
    }

    #[test]
    fn large_numbers_get_a_letter() {
        assert_eq!(scaled(950.0), "950");
        assert_eq!(scaled(1234.0), "1.2 k");
        assert_eq!(scaled(2.5e12), "2.5 T");
    }
}
