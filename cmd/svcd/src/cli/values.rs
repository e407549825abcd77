//! Values that are typed: how long something lasts.

use std::time::Duration;

const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(n @ 1..=86_400) => Ok(Duration::from_secs(n)),
        _ => Err("must be a whole number of seconds from 1 to 86400".to_owned()),
    }
}

pub(super) fn hours(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(n @ 0..=87_600) => Ok(Duration::from_secs(n * 3600)),
        _ => Err("must be a whole number of hours from 0 to 87600".to_owned()),
    }
}

/// A time with its unit: `90s`, `15m`, `12h`, `365d`; ten seconds at least.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_secs(10);
    let wrong = || "must be a whole number with s, m, h or d, from 10s to 36500d".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let span = Duration::from_secs(u64::from(number) * unit);
    if (SHORTEST..=HUNDRED_YEARS).contains(&span) { Ok(span) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        for (text, seconds) in [("10s", 10), ("15m", 900), ("12h", 43_200), ("365d", 31_536_000)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "s", "5", "9s", "0d", "-1h", "1.5h", "36501d", "99999999999d", "1w", "ä"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
