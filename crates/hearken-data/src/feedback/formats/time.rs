//! Times in files: seconds with a fraction, or ISO 8601.

/// Milliseconds since 1970 in UTC of a time such as `2023-01-31T08:05:00.25Z`, with `Z`, an offset
/// or nothing (which is UTC) at its end. `None` where it is no such time.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let mut next = || parts.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(0..=9999).contains(&year) {
        return None;
    }
    let (clock, offset_minutes) = zone(time)?;
    let mut parts = clock.splitn(3, ':');
    let hour: i64 = parts.next()?.parse().ok().filter(|hour| (0..24).contains(hour))?;
    let minute: i64 = parts.next()?.parse().ok().filter(|minute| (0..60).contains(minute))?;
    let second: f64 = parts.next().unwrap_or("0").parse().ok()?;
    if !(0.0..61.0).contains(&second) {
        return None;
    }
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some(minutes * 60_000 + (second * 1000.0).round() as i64)
}

/// The clock without its zone, and the minutes that it is ahead of UTC.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (clock, offset) = time.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits: String = offset[1..].chars().filter(|c| *c != ':').collect();
    if 4 < digits.len() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    let minutes = if digits.len() <= 2 { number * 60 } else { number / 100 * 60 + number % 100 };
    Some((clock.trim_end(), sign * minutes))
}

/// Days since 1970-01-01 in the Gregorian calendar: years that start in March put the day of a leap
/// year at their end.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + day_of_year - 719_468
}

/// The time of `at`, milliseconds since 1970, as `2023-01-31T08:05:00.250Z`.
pub(super) fn format(at: i64) -> String {
    let (day, ms) = (at.div_euclid(86_400_000), at.rem_euclid(86_400_000));
    // No date is further from its guess than the search goes.
    let mut year = 1970 + day.div_euclid(366);
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|&month| days(year, month, 1) <= day).unwrap_or(1);
    let date = day - days(year, month, 1) + 1;
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_zones_and_fractions() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2000-02-29T12:00:00.5+02:00"), Some(951_818_400_500));
        assert_eq!(parse("2022-07-24T01:29:50.512"), Some(1_658_626_190_512));
        assert_eq!(parse("2021-03-09 21:52:49.513742Z"), Some(1_615_326_769_514));
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("2021-13-09T00:00:00Z"), None);
        assert_eq!(parse("2021-03-09T00:00:00+999999999999999999"), None);
        assert_eq!(parse("2021-03-09T00:00:00+-5"), None);
    }

    #[test]
    fn what_is_written_is_read() {
        for at in [0, -1, 951_782_399_999, 1_709_164_800_000, 4_102_444_800_001] {
            assert_eq!(parse(&format(at)), Some(at), "{}", format(at));
        }
        assert_eq!(format(951_782_400_000), "2000-02-29T00:00:00.000Z");
    }
}
