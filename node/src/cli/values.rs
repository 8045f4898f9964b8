//! Values of flags: numbers of devices, durations, parameters, media types.

use std::time::Duration;

use clap::ValueEnum;
use msm_protocol::{device::Network, limits::NAME_BYTES};
use serde_json::Value;

use crate::command::{Devices, OnLoss, Redundancy, VOTES_MAX};

/// `auto`, `N` or `A..B`.
pub fn devices(text: &str) -> Result<Devices, String> {
    if text == "auto" {
        return Ok(Devices::Auto);
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| "use auto, a number such as 4, or a range such as 2..6");
    let (min, max) = match text.split_once("..") {
        Some((min, max)) => (number(min)?, number(max.strip_prefix('=').unwrap_or(max))?),
        None => (number(text)?, number(text)?),
    };
    if min == 0 || min > max {
        return Err(format!("{min}..{max} must go from at least 1 upwards"));
    }
    Ok(Devices::Range { min, max })
}

/// `none`, `spot` or `K/N`.
pub fn redundancy(text: &str) -> Result<Redundancy, String> {
    let (agree, of) = match text {
        "none" => return Ok(Redundancy::None),
        "spot" => return Ok(Redundancy::Spot),
        _ => text.split_once('/').ok_or("use none, spot, or K/N such as 2/3")?,
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| "K and N are numbers, such as 2/3");
    let (agree, of) = (number(agree)?, number(of)?);
    if agree < 2 || agree > of || of > VOTES_MAX {
        return Err(format!("{agree}/{of}: at least 2 of at most {VOTES_MAX} devices, such as 2/3"));
    }
    Ok(Redundancy::Agree { agree, of })
}

/// The longest wait that can be asked for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// `500ms`, `10s`, `2m`, `1h`, or seconds without a unit; in milliseconds.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "ms" => 1.0,
        "s" | "" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| "use a number and a unit, such as 500ms, 10s, 2m or 1h")?;
    let ms = number * factor;
    if !(1.0..=LONGEST.as_millis() as f64).contains(&ms) {
        return Err(format!("must be from 1 ms to {} h", LONGEST.as_secs() / 3_600));
    }
    Ok(ms as u64)
}

/// The longest that a grant can be given for; one that is not to end needs no `--for`.
const LONGEST_LIFE: u64 = 366 * 86_400;

/// `30m`, `8h` or `7d`, in seconds.
pub fn life_s(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("use a number and a unit, such as 30m, 8h or 7d".to_owned()),
    };
    let life = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match life {
        Some(life @ 1..=LONGEST_LIFE) => Ok(life),
        _ => Err(format!("must be a whole number, from 1s to {}d", LONGEST_LIFE / 86_400)),
    }
}

/// `NAME=VALUE`. A JSON boolean, number or quoted string is read as one; everything else is a string as it stands.
pub fn param(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE, such as radius=3")?;
    if name.is_empty() || name.len() > NAME_BYTES {
        return Err(format!("a name has 1 to {NAME_BYTES} characters"));
    }
    let value = match serde_json::from_str::<Value>(value) {
        Ok(scalar @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => scalar,
        _ => Value::String(value.to_owned()),
    };
    Ok((name.to_owned(), value))
}

/// A score from 0 upwards.
pub fn score(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(score) if score.is_finite() && score >= 0.0 => Ok(score),
        _ => Err("must be a number from 0 upwards".to_owned()),
    }
}

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkWish {
    /// A fast link.
    High,
    /// Any link.
    Low,
    /// Any device, connected to the internet or not.
    Na,
}

impl From<NetworkWish> for Option<Network> {
    fn from(wish: NetworkWish) -> Self {
        match wish {
            NetworkWish::High => Some(Network::High),
            NetworkWish::Low => Some(Network::Low),
            NetworkWish::Na => None,
        }
    }
}

/// `--require`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Require {
    /// A position source.
    Gps,
}

/// `--engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineWish {
    /// JavaScript.
    Js,
    /// WebAssembly.
    Wasm,
}

impl EngineWish {
    /// Its name in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Js => "js",
            Self::Wasm => "wasm",
        }
    }
}

/// `--eqs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ScoreWish {
    /// Measured speeds, and scores that fall with the distance.
    #[default]
    Measured,
    /// The paper's Eq. 1, whose score rises with the distance: for comparison.
    Paper,
}

/// `--on-loss`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LossWish {
    /// Another worker, then this device.
    #[default]
    Remote,
    /// This device.
    Local,
    /// End the job with what is there.
    Partial,
}

impl From<LossWish> for OnLoss {
    fn from(wish: LossWish) -> Self {
        match wish {
            LossWish::Remote => Self::Remote,
            LossWish::Local => Self::Local,
            LossWish::Partial => Self::Partial,
        }
    }
}

/// Media type of an input, by its first bytes where they say, else by the ending of its name.
pub fn media_type(name: Option<&str>, bytes: &[u8]) -> Option<String> {
    const MAGIC: [(&[u8], &str); 6] = [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"%PDF-", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b"\x1f\x8b", "application/gzip"),
    ];
    const ENDINGS: [(&str, &str); 9] = [
        ("json", "application/json"),
        ("csv", "text/csv"),
        ("html", "text/html"),
        ("htm", "text/html"),
        ("md", "text/markdown"),
        ("txt", "text/plain"),
        ("log", "text/plain"),
        ("xml", "application/xml"),
        ("bin", "application/octet-stream"),
    ];
    if let Some((_, found)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some((*found).to_owned());
    }
    let ending = name?.rsplit_once('.')?.1.to_ascii_lowercase();
    ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, found)| (*found).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_of_devices() {
        assert_eq!(devices("auto"), Ok(Devices::Auto));
        assert_eq!(devices("4"), Ok(Devices::Range { min: 4, max: 4 }));
        assert_eq!(devices("2..6"), Ok(Devices::Range { min: 2, max: 6 }));
        for bad in ["", "0", "-1", "6..2", "0..3", "two", "2..", "99999999999"] {
            assert!(devices(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("10", 10_000), ("1.5s", 1_500), ("2m", 120_000)] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for bad in ["", "s", "-1s", "0", "1d", "25h", "nan", "inf", "1e99s"] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lives_of_grants() {
        for (text, life) in [("1s", 1), ("30m", 1_800), ("8h", 28_800), ("7d", 604_800), ("366d", LONGEST_LIFE)] {
            assert_eq!(life_s(text), Ok(life), "{text}");
        }
        for bad in ["", "8", "0h", "-1h", "1.5h", "367d", "1w", "99999999999999999999d", "h"] {
            assert!(life_s(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_json_scalars_where_they_look_like_ones() {
        let cases = [
            ("radius=8", json!(8)),
            ("ratio=0.5", json!(0.5)),
            ("on=true", json!(true)),
            ("text=hello", json!("hello")),
            ("text=\"8\"", json!("8")),
            ("text=", json!("")),
            ("text=a=b", json!("a=b")),
            ("zip=007", json!("007")),
            ("list=[1]", json!("[1]")),
            ("nothing=null", json!("null")),
            ("big=NaN", json!("NaN")),
        ];
        for (text, value) in cases {
            assert_eq!(param(text).unwrap().1, value, "{text}");
        }
        for bad in ["radius", "=8", &format!("{}=1", "n".repeat(41))] {
            assert!(param(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn media_types_come_from_bytes_before_names() {
        assert_eq!(media_type(Some("x.txt"), b"\x89PNG\r\n\x1a\n..").as_deref(), Some("image/png"));
        assert_eq!(media_type(None, b"\xff\xd8\xff\xe0").as_deref(), Some("image/jpeg"));
        assert_eq!(media_type(Some("a/b.JSON"), b"{}").as_deref(), Some("application/json"));
        assert_eq!(media_type(Some("noending"), b"x"), None);
        assert_eq!(media_type(None, b""), None);
    }
}
