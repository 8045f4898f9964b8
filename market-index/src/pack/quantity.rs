//! Sizes (`64MiB`) and times (`10s`) as people write them in `service.toml`.

use serde::{Deserialize, Deserializer, de::Error};

/// Bytes, written `512B`, `8KiB`, `64MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// Milliseconds, written `500ms`, `10s` or `1m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub u64);

const SIZE_UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
const TIME_UNITS: [(&str, u64); 3] = [("ms", 1), ("s", 1_000), ("m", 60_000)];

impl Size {
    /// Reads a size.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text, &SIZE_UNITS)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a size such as \"64MiB\" (B, KiB, MiB, GiB)"))
    }
}

impl Time {
    /// Reads a time.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text, &TIME_UNITS).map(Self).ok_or_else(|| format!("{text:?} is not a time such as \"10s\" (ms, s, m)"))
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_exactly() {
        for (text, bytes) in [("0B", 0), ("12B", 12), ("8KiB", 8_192), ("64MiB", 64 << 20), ("1 GiB", 1 << 30)] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("1m", 60_000), ("2 s", 2_000)] {
            assert_eq!(Time::parse(text), Ok(Time(ms)), "{text}");
        }
        for text in
            ["", "64", "MiB", "64MB", "6 4MiB", "-1B", "1.5MiB", "64mib", "99999999999999999999B", "20000000000GiB"]
        {
            assert!(Size::parse(text).is_err(), "{text}");
        }
        for text in ["", "10", "s", "10h", "1.5s", "-1s"] {
            assert!(Time::parse(text).is_err(), "{text}");
        }
    }
}
