//! How long a request may take: a minute, or less when the client says so (`?timeout=30s`, kubectl's
//! `--request-timeout`). Watches have their own end (`timeoutSeconds`) and are not held to this one.

use std::time::Duration;

use crate::errors::Failure;
use crate::query::Query;

/// The longest that a request may take, and what it may take when it does not say.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// How long this request may take.
pub(crate) fn of(query: &Query) -> Result<Duration, Failure> {
    let Some(text) = query.get("timeout") else { return Ok(LONGEST) };
    let wanted = go_duration(text).ok_or_else(|| {
        Failure::bad_request(format!(
            "invalid timeout specified in the request URL - time: invalid duration {text:?}"
        ))
    })?;
    Ok(if wanted.is_zero() { LONGEST } else { wanted.min(LONGEST) })
}

/// Does something within a time.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Failure::timeout("request did not complete within requested timeout - context deadline exceeded"))
    })
}

const UNITS: &[(&str, f64)] = &[
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Reads `1m30s`, `1.5h`, `0`, as Go writes durations. A negative one is over at once, which is no use to anybody.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters])?;
        total += number * unit;
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let millis = |text| go_duration(text).map(|d| d.as_millis());
        for (text, wanted) in [
            ("32s", Some(32_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("250ms", Some(250)),
            (".5s", Some(500)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("-5s", None),
            ("5 s", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("1e9s", None),
            ("99999999999999999999999h", None),
        ] {
            assert_eq!(millis(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_request_takes_a_minute_at_most() {
        let of = |query| of(&Query::parse(Some(query)));
        assert_eq!(of("").unwrap(), LONGEST);
        assert_eq!(of("timeout=2h").unwrap(), LONGEST);
        assert_eq!(of("timeout=0s").unwrap(), LONGEST);
        assert_eq!(of("timeout=1s").unwrap(), Duration::from_secs(1));
        assert!(
            of("timeout=soon")
                .unwrap_err()
                .message()
                .starts_with("invalid timeout specified in the request URL")
        );
    }
}
