//! `strftime_now`.

use minijinja::{Error, ErrorKind};
use time::OffsetDateTime;

/// `datetime.now().strftime(format)` at `now`, milliseconds since 1970 in UTC. Directives are those of
/// the C locale; with `-` after `%` a number has no zeros before it.
pub(super) fn strftime(format: &str, now: i64) -> Result<String, Error> {
    let at = OffsetDateTime::from_unix_timestamp(now.div_euclid(1000)).map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}"))
    })?;
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let start = rest.as_str();
        let is_bare = start.starts_with('-');
        if is_bare {
            rest.next();
        }
        let directive = rest.next();
        let Some(text) = directive.and_then(|directive| written(at, now, directive)) else {
            // What is no directive stays, as in the C library.
            let len = start.len() - rest.as_str().len();
            out.push('%');
            out.push_str(&start[..len]);
            continue;
        };
        let bare = text.trim_start_matches(['0', ' ']);
        out.push_str(match is_bare {
            true if bare.is_empty() => "0",
            true => bare,
            false => &text,
        });
    }
    Ok(out)
}

fn written(at: OffsetDateTime, now: i64, directive: char) -> Option<String> {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    let weekday = at.weekday().to_string();
    let month_name = at.month().to_string();
    let twelve = (hour + 11) % 12 + 1;
    let since_monday = u16::from(at.weekday().number_days_from_monday());
    let since_sunday = u16::from(at.weekday().number_days_from_sunday());
    Some(match directive {
        'a' => weekday[..3].to_owned(),
        'A' => weekday,
        'b' | 'h' => month_name[..3].to_owned(),
        'B' => month_name,
        'C' => format!("{:02}", year / 100),
        'c' => format!(
            "{} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}",
            &weekday[..3],
            &month_name[..3]
        ),
        'd' => format!("{day:02}"),
        'D' | 'x' => format!("{month:02}/{day:02}/{:02}", year % 100),
        'e' => format!("{day:2}"),
        'f' => format!("{:06}", now.rem_euclid(1000) * 1000),
        'F' => format!("{year}-{month:02}-{day:02}"),
        'G' => at.to_iso_week_date().0.to_string(),
        'H' => format!("{hour:02}"),
        'I' => format!("{twelve:02}"),
        'j' => format!("{:03}", at.ordinal()),
        'k' => format!("{hour:2}"),
        'l' => format!("{twelve:2}"),
        'm' => format!("{month:02}"),
        'M' => format!("{minute:02}"),
        'n' => "\n".to_owned(),
        'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        'r' => {
            format!("{twelve:02}:{minute:02}:{second:02} {}", if hour < 12 { "AM" } else { "PM" })
        }
        'R' => format!("{hour:02}:{minute:02}"),
        's' => at.unix_timestamp().to_string(),
        'S' => format!("{second:02}"),
        't' => "\t".to_owned(),
        'T' | 'X' => format!("{hour:02}:{minute:02}:{second:02}"),
        'u' => at.weekday().number_from_monday().to_string(),
        'U' => format!("{:02}", (at.ordinal() + 6 - since_sunday) / 7),
        'V' => format!("{:02}", at.iso_week()),
        'w' => since_sunday.to_string(),
        'W' => format!("{:02}", (at.ordinal() + 6 - since_monday) / 7),
        'y' => format!("{:02}", year % 100),
        'Y' => year.to_string(),
        // A time of Python's without a zone has neither.
        'z' | 'Z' => String::new(),
        '%' => "%".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn a_time_is_written_as_strftime_writes_it() {
        // 2024-07-04 09:05:06 UTC, a Thursday.
        let at = 1_720_083_906_000;
        let cases = [
            ("%d %b %Y", "04 Jul 2024"),
            ("%-d %B %y, %A", "4 July 24, Thursday"),
            ("%Y-%m-%d %H:%M:%S", "2024-07-04 09:05:06"),
            ("%I:%M %p %j %U %W %V", "09:05 AM 186 26 27 27"),
            ("100%% %Q %", "100% %Q %"),
        ];
        for (format, expected) in cases {
            assert_eq!(strftime(format, at).unwrap(), expected, "{format}");
        }
    }
}
