//! Amounts of resources: `100m`, `1.5Gi`, `1e3`. Parsed exactly (in billionths), written in upstream's canonical form:
//! no fraction, the largest suffix that keeps it whole, in the family of suffixes that was used.

use std::fmt;

use thiserror::Error;

const NANO: i128 = 1_000_000_000;
const LARGEST: i128 = (i64::MAX as i128) * NANO;

/// Why a text is no quantity; upstream's words.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParseError {
    /// Not of the form number, suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number itself.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Decimal,
    Binary,
    Exponent,
}

/// An amount. Ordered by its value; the suffixes do not count.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    family: Family,
}

impl Quantity {
    /// The value in billionths.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// The canonical form of a quantity's text.
pub(crate) fn canonical(text: &str) -> Result<String, ParseError> {
    text.parse::<Quantity>().map(|q| q.to_string())
}

impl std::str::FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if number.is_empty() {
            return Err(ParseError::Format);
        }
        let (unit, family) = unit(suffix)?;
        let nanos = scaled(number, unit)?.min(LARGEST);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, family })
    }
}

/// What a suffix multiplies by.
enum Unit {
    PowerOfTen(i32),
    Times(i128),
}

fn unit(suffix: &str) -> Result<(Unit, Family), ParseError> {
    let decimal = |power| Ok((Unit::PowerOfTen(power), Family::Decimal));
    let binary = |shift: u32| Ok((Unit::Times(1_i128 << shift), Family::Binary));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        other => {
            let power = other.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
            let power: i32 = power.parse().map_err(|_| ParseError::Suffix)?;
            Ok((Unit::PowerOfTen(power.clamp(-30, 30)), Family::Exponent))
        }
    }
}

/// `number * unit` in billionths, rounded up, at most [`LARGEST`].
fn scaled(number: &str, unit: Unit) -> Result<i128, ParseError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || fraction.contains('.') {
        return Err(ParseError::Numeric);
    }
    let mut places = i32::try_from(fraction.len()).map_err(|_| ParseError::Numeric)?;
    let times = match unit {
        Unit::Times(times) => times,
        Unit::PowerOfTen(power) => {
            places -= power;
            1
        }
    };
    // Digits beyond all precision that is kept would only overflow the product.
    let kept = if times == 1 { 30 } else { 19 };
    let excess = digits.len().saturating_sub(kept);
    if excess > 0 {
        digits.truncate(kept);
        places -= i32::try_from(excess).map_err(|_| ParseError::Numeric)?;
    }
    let mantissa: i128 = digits.parse().map_err(|_| ParseError::Numeric)?;
    let shift = 9 - places;
    let product = mantissa.checked_mul(times).unwrap_or(i128::MAX);
    Ok(if shift >= 0 {
        let power = 10_i128.checked_pow(shift.unsigned_abs()).unwrap_or(i128::MAX);
        product.checked_mul(power).unwrap_or(i128::MAX)
    } else {
        let power = 10_i128.checked_pow(shift.unsigned_abs()).unwrap_or(i128::MAX);
        product / power + i128::from(product % power != 0)
    })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.family == Family::Binary && self.nanos.abs() >= 1024 * NANO {
            return self.write_binary(f);
        }
        let (mut mantissa, mut power) = (self.nanos, -9);
        while mantissa % 1000 == 0 && power < 18 {
            mantissa /= 1000;
            power += 3;
        }
        match (self.family, power) {
            (_, 0) => write!(f, "{mantissa}"),
            (Family::Exponent, _) => write!(f, "{mantissa}e{power}"),
            _ => write!(f, "{mantissa}{}", decimal_suffix(power)),
        }
    }
}

impl Quantity {
    fn write_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Fractions of one are rounded up, away from zero.
        let mut mantissa = self.nanos / NANO + (self.nanos % NANO).signum();
        let mut index = 0;
        let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        while mantissa % 1024 == 0 && index + 1 < suffixes.len() {
            mantissa /= 1024;
            index += 1;
        }
        write!(f, "{mantissa}{}", suffixes[index])
    }
}

fn decimal_suffix(power: i32) -> &'static str {
    match power {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, want) in [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("0.1m", "100u"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1024Mi", "1Gi"),
            ("2000", "2k"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("-5", "-5"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("110", "110"),
            ("4Gi", "4Gi"),
            ("9999999999999999999999", "9223372036854775807"),
            ("0.0000000001", "1n"),
            ("0.50000000000000000000000000000000Ei", "512Pi"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, want) in [
            ("", ParseError::Format),
            ("abc", ParseError::Format),
            ("1x", ParseError::Suffix),
            ("1.2.3", ParseError::Numeric),
            (".", ParseError::Numeric),
            ("1 Gi", ParseError::Suffix),
        ] {
            assert_eq!(canonical(text), Err(want), "{text}");
        }
    }

    #[test]
    fn order_ignores_the_suffix() {
        let parse = |t: &str| t.parse::<Quantity>().unwrap();
        assert_eq!(parse("1Gi"), parse("1073741824"));
        assert!(parse("1G") < parse("1Gi"));
    }
}
