//! Times and durations as operators write and read them.

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use signpost_txmgr::units::Millis;

use crate::error::CommandError;

/// How `--since` may be written, for its help.
pub const SINCE: &str = "30m, 24h, 7d, 2026-11-24T08:00:00Z, or Unix seconds";

/// Parses a point in time: a duration before `now`, a date with time, or Unix seconds.
pub fn since(text: &str, now: Millis) -> Result<Millis, CommandError> {
    let wrong = || CommandError::Input(format!("{text} is not a valid time; write {SINCE}"));
    let ago =
        [("s", 1_000_u64), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)].into_iter().find_map(|(unit, ms)| {
            let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
            Some(count.saturating_mul(ms))
        });
    if let Some(ago) = ago {
        return Ok(Millis(now.0.saturating_sub(ago)));
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1_000).map(Millis).ok_or_else(wrong);
    }
    let at = DateTime::from_str(text, DateTimeFormat::DateTime).map_err(|_| wrong())?;
    at.to_millis().ok().and_then(|ms| u64::try_from(ms).ok()).map(Millis).ok_or_else(wrong)
}

/// A point in time in UTC, to the second.
#[must_use]
pub fn date(at: Millis) -> String {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    DateTime::from_secs(seconds).fmt(DateTimeFormat::DateTime).unwrap_or_else(|_| format!("{} ms", at.0))
}

/// A duration in its two largest units.
#[must_use]
pub fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_795_507_200_000);

    #[test]
    fn time_is_a_duration_ago_a_date_or_unix_seconds() {
        for (text, ms) in [
            ("30m", NOW.0 - 1_800_000),
            ("24h", NOW.0 - 86_400_000),
            ("7d", NOW.0 - 604_800_000),
            ("0s", NOW.0),
            ("2026-11-24T08:00:00Z", 1_795_507_200_000),
            ("1795507200", 1_795_507_200_000),
        ] {
            assert_eq!(since(text, NOW).unwrap(), Millis(ms), "{text}");
        }
        for text in ["", "yesterday", "-1h", "1.5h", "2026-11-24", "99999999999999999999"] {
            assert!(since(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_time_can_be_parsed_again() {
        assert_eq!(date(NOW), "2026-11-24T08:00:00Z");
        assert_eq!(since(&date(NOW), Millis(0)).unwrap(), NOW);
    }

    #[test]
    fn span_has_its_two_largest_units() {
        assert_eq!(span(59_999), "59 s");
        assert_eq!(span(61_000), "1 min 1 s");
        assert_eq!(span(7_260_000), "2 h 1 min");
        assert_eq!(span(90_000_000), "1 d 1 h");
    }
}
