//! Dates and times in UTC, as files and pages write them.

use time::{Date, Month};

const DAY_MS: i64 = 86_400_000;
/// The Julian day of 1970-01-01.
const EPOCH: i64 = 2_440_588;

/// Milliseconds since 1970 in UTC of a time such as `2023-01-31T08:05:00.25Z`, with `Z`, an offset
/// or nothing (which is UTC) at its end. `None` where it is no such time.
pub fn parse_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut parts = date.splitn(3, '-');
    let year = parts.next()?.parse().ok().filter(|year| (0..=9999).contains(year))?;
    let month = Month::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, parts.next()?.parse().ok()?).ok()?;
    let (clock, offset_minutes) = zone(time)?;
    let mut parts = clock.splitn(3, ':');
    let hour: i64 = parts.next()?.parse().ok().filter(|hour| (0..24).contains(hour))?;
    let minute: i64 = parts.next()?.parse().ok().filter(|minute| (0..60).contains(minute))?;
    let second: f64 = parts.next().unwrap_or("0").parse().ok()?;
    // Leap seconds have the number 60.
    if !(0.0..61.0).contains(&second) {
        return None;
    }
    let day = i64::from(date.to_julian_day()) - EPOCH;
    let minutes = (day * 24 + hour) * 60 + minute - offset_minutes;
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

/// `at`, milliseconds since 1970, as `2023-01-31T08:05:00.250Z`.
pub fn time(at: i64) -> String {
    let ms = at.rem_euclid(DAY_MS);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    let date = date(at.div_euclid(DAY_MS));
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// `at`, milliseconds since 1970, as `2023-01-31 08:05`.
pub fn date_and_minute(at: i64) -> String {
    let minute = at.rem_euclid(DAY_MS) / 60_000;
    format!("{} {:02}:{:02}", date(at.div_euclid(DAY_MS)), minute / 60, minute % 60)
}

/// A day since 1970 as `2023-01-31`. Days beyond the years −9999 to 9999 are the last that are not.
///
/// ```
/// assert_eq!(hearken_data::calendar::date(11_016), "2000-02-29");
/// ```
pub fn date(day: i64) -> String {
    let julian = i32::try_from(day.saturating_add(EPOCH)).ok();
    let date = julian.and_then(|julian| Date::from_julian_day(julian).ok());
    let date = date.unwrap_or(if day < 0 { Date::MIN } else { Date::MAX });
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_zones_and_fractions() {
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_time("2000-02-29T12:00:00.5+02:00"), Some(951_818_400_500));
        assert_eq!(parse_time("2022-07-24T01:29:50.512"), Some(1_658_626_190_512));
        assert_eq!(parse_time("2021-03-09 21:52:49.513742Z"), Some(1_615_326_769_514));
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("2021-13-09T00:00:00Z"), None);
        assert_eq!(parse_time("2021-02-29T00:00:00Z"), None);
        assert_eq!(parse_time("2021-03-09T00:00:00+999999999999999999"), None);
        assert_eq!(parse_time("2021-03-09T00:00:00+-5"), None);
    }

    #[test]
    fn what_is_written_is_read() {
        for at in [0, -1, 951_782_399_999, 1_709_164_800_000, 4_102_444_800_001] {
            assert_eq!(parse_time(&time(at)), Some(at), "{}", time(at));
        }
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(date_and_minute(1_795_461_600_000), "2026-11-23 19:20");
        assert_eq!(date_and_minute(-60_000), "1969-12-31 23:59");
    }

    #[test]
    fn days_have_dates_and_absurd_ones_do_no_harm() {
        for (day, expected) in
            [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_819, "2027-01-01")]
        {
            assert_eq!(date(day), expected);
        }
        assert_eq!(date(i64::MAX), "9999-12-31");
        assert_eq!(time(i64::MIN).len(), "-9999-01-01T00:00:00.000Z".len());
    }
}
