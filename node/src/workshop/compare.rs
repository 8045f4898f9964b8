//! [`Compare`]: whether an output is the expected one, and if not, where it differs first.

use bytes::Bytes;
use regex::Regex;
use serde::{Deserialize, Deserializer, de::Error};

use super::bench::{Bench, Pixels};

/// Characters of an output that are shown when it fits no pattern.
const SHOWN: usize = 80;

/// `compare` of a test.
#[derive(Debug, Clone, Default)]
pub enum Compare {
    /// Byte for byte.
    #[default]
    Bytes,
    /// Pictures of one size in which no channel of any pixel differs by more than this.
    Image(u8),
    /// The same JSON value, however it is written.
    Json,
    /// A text in which this pattern is found.
    Pattern(Regex),
}

/// Where two outputs differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The first place and what stands there, for people.
    pub what: String,
    /// What differs, as a picture: white where it does, black where not.
    pub picture: Option<Pixels>,
}

impl From<String> for Difference {
    fn from(what: String) -> Self {
        Self { what, picture: None }
    }
}

impl<'de> Deserialize<'de> for Compare {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let unknown = || {
            let known = "\"bytes\", \"image:N\" (N from 0 to 255), \"json\" or \"regex:PATTERN\"";
            D::Error::custom(format!("{text:?} is not one of {known}"))
        };
        match text.split_once(':') {
            None if text == "bytes" => Ok(Self::Bytes),
            None if text == "json" => Ok(Self::Json),
            Some(("image", steps)) => steps.parse().map(Self::Image).map_err(|_| unknown()),
            Some(("regex", pattern)) => {
                Regex::new(pattern).map(Self::Pattern).map_err(|error| D::Error::custom(format!("compare: {error}")))
            }
            _ => Err(unknown()),
        }
    }
}

impl Compare {
    /// Nothing when `got` is what was expected.
    pub async fn difference(&self, bench: &Bench, expected: Option<&Bytes>, got: &Bytes) -> Option<Difference> {
        let nothing = Bytes::new();
        let expected = expected.unwrap_or(&nothing);
        match self {
            Self::Bytes => bytes(expected, got).map(Difference::from),
            Self::Json => json(expected, got).map(Difference::from),
            Self::Pattern(pattern) => match std::str::from_utf8(got) {
                Ok(text) if pattern.is_match(text) => None,
                Ok(text) => Some(format!("{} does not fit /{pattern}/", shown(text)).into()),
                Err(error) => Some(format!("is no text (byte {})", error.valid_up_to()).into()),
            },
            Self::Image(_) if expected == got => None,
            Self::Image(steps) => {
                let (expected, got) = tokio::join!(bench.pixels(expected.clone()), bench.pixels(got.clone()));
                match (expected, got) {
                    (Ok(expected), Ok(got)) => pixels(&expected, &got, *steps),
                    (Err(error), _) => Some(format!("the expected file is no picture: {error}").into()),
                    (_, Err(error)) => Some(format!("the output is no picture: {error}").into()),
                }
            }
        }
    }
}

/// Where two outputs differ, by their bytes.
pub fn bytes(expected: &[u8], got: &[u8]) -> Option<String> {
    if expected == got {
        return None;
    }
    let at = expected.iter().zip(got).position(|(a, b)| a != b).unwrap_or(expected.len().min(got.len()));
    let byte = |bytes: &[u8]| bytes.get(at).map_or("the end".to_owned(), |byte| format!("{byte:02x}"));
    let line = match std::str::from_utf8(&got[..at.min(got.len())]) {
        Ok(text) if !text.is_empty() => format!(" (line {})", text.matches('\n').count() + 1),
        _ => String::new(),
    };
    let sizes = match (expected.len(), got.len()) {
        (a, b) if a == b => String::new(),
        (a, b) => format!("; {b} bytes instead of {a}"),
    };
    Some(format!("at byte {at}{line}: expected {}, got {}{sizes}", byte(expected), byte(got)))
}

fn json(expected: &[u8], got: &[u8]) -> Option<String> {
    let read = |bytes: &[u8], what: &str| {
        serde_json::from_slice::<serde_json::Value>(bytes).map_err(|error| format!("{what} is no JSON: {error}"))
    };
    match (read(expected, "the expected file"), read(got, "the output")) {
        (Ok(expected), Ok(got)) => json_value("$", &expected, &got),
        (Err(why), _) | (_, Err(why)) => Some(why),
    }
}

fn json_value(path: &str, expected: &serde_json::Value, got: &serde_json::Value) -> Option<String> {
    use serde_json::Value::{Array, Object};
    match (expected, got) {
        (Object(a), Object(b)) => {
            let missing = a.keys().find(|key| !b.contains_key(*key)).map(|key| format!("at {path}.{key}: is missing"));
            let extra =
                || b.keys().find(|key| !a.contains_key(*key)).map(|key| format!("at {path}.{key}: is not expected"));
            let differs = || a.iter().find_map(|(key, a)| json_value(&format!("{path}.{key}"), a, b.get(key)?));
            missing.or_else(extra).or_else(differs)
        }
        (Array(a), Array(b)) => {
            let differs = a.iter().zip(b).enumerate().find_map(|(n, (a, b))| json_value(&format!("{path}[{n}]"), a, b));
            let sizes =
                || (a.len() != b.len()).then(|| format!("at {path}: {} elements, expected {}", b.len(), a.len()));
            differs.or_else(sizes)
        }
        // 1 and 1.0 are the same JSON number.
        (a, b) if a == b || (a.as_f64().is_some() && a.as_f64() == b.as_f64()) => None,
        (a, b) => Some(format!("at {path}: expected {}, got {}", shown(&a.to_string()), shown(&b.to_string()))),
    }
}

fn pixels(expected: &Pixels, got: &Pixels, steps: u8) -> Option<Difference> {
    if (expected.width, expected.height) != (got.width, got.height) {
        let (a, b) = ((expected.width, expected.height), (got.width, got.height));
        return Some(format!("{}x{} pixels, expected {}x{}", b.0, b.1, a.0, a.1).into());
    }
    let far = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    let pairs = || expected.rgba.chunks_exact(4).zip(got.rgba.chunks_exact(4));
    let most = far(&expected.rgba, &got.rgba);
    if most <= steps {
        return None;
    }
    let wrong = pairs().filter(|(a, b)| far(a, b) > steps).count();
    let first = pairs().position(|(a, b)| far(a, b) > steps).unwrap_or(0);
    let (x, y) = (first % expected.width as usize, first / expected.width as usize);
    let rgba = |from: &Pixels| from.rgba.get(first * 4..first * 4 + 4).map(|p| format!("{p:?}")).unwrap_or_default();
    let what = format!(
        "at pixel {x},{y}: expected {}, got {}; {wrong} pixels differ, by up to {most} (allowed: {steps})",
        rgba(expected),
        rgba(got)
    );
    // Any difference is made visible, the larger the brighter.
    let rgba = pairs().flat_map(|(a, b)| match far(a, b) {
        0 => [0, 0, 0, 255],
        far => [far.max(96), if far > steps { 0 } else { far.max(96) }, 0, 255],
    });
    let picture = Pixels { width: got.width, height: got.height, rgba: rgba.collect::<Vec<u8>>().into() };
    Some(Difference { what, picture: Some(picture) })
}

fn shown(text: &str) -> String {
    crate::cli::render::text::clean(text, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_different_byte_is_named() {
        let table: [(&[u8], &[u8], Option<&str>); 5] = [
            (b"abc", b"abc", None),
            (b"a\nbc", b"a\nbd", Some("at byte 3 (line 2): expected 63, got 64")),
            (b"abc", b"ab", Some("at byte 2 (line 1): expected 63, got the end; 2 bytes instead of 3")),
            (b"", b"x", Some("at byte 0: expected the end, got 78; 1 bytes instead of 0")),
            (b"\xff\x00", b"\xff\x01", Some("at byte 1: expected 00, got 01")),
        ];
        for (expected, got, text) in table {
            assert_eq!(bytes(expected, got).as_deref(), text);
        }
    }

    #[test]
    fn the_first_different_json_value_is_named() {
        let table = [
            (r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1.0, 2], "a": 1 }"#, None),
            (r#"{"a":{"b":[1,2]}}"#, r#"{"a":{"b":[1,3]}}"#, Some("at $.a.b[1]: expected 2, got 3")),
            (r#"{"a":1}"#, r#"{"b":1}"#, Some("at $.a: is missing")),
            ("[]", "[1]", Some("at $: 1 elements, expected 0")),
            (r#"{"a":1}"#, r#"{"a":1,"z":2}"#, Some("at $.z: is not expected")),
        ];
        for (expected, got, text) in table {
            assert_eq!(json(expected.as_bytes(), got.as_bytes()).as_deref(), text);
        }
        assert!(json(b"{", b"{}").unwrap().starts_with("the expected file is no JSON"));
        assert!(json(b"{}", b"{").unwrap().starts_with("the output is no JSON"));
    }

    #[test]
    fn the_first_different_pixel_is_named_and_shown() {
        let picture = |rgba: &[u8]| Pixels { width: 2, height: 1, rgba: Bytes::copy_from_slice(rgba) };
        let (a, b) = (picture(&[1, 2, 3, 4, 5, 6, 7, 8]), picture(&[1, 2, 3, 4, 5, 9, 7, 8]));
        assert_eq!(pixels(&a, &b, 3), None);
        let found = pixels(&a, &b, 2).unwrap();
        let text = "at pixel 1,0: expected [5, 6, 7, 8], got [5, 9, 7, 8]; 1 pixels differ, by up to 3 (allowed: 2)";
        assert_eq!(found.what, text);
        assert_eq!(found.picture.unwrap().rgba[..], [0, 0, 0, 255, 96, 0, 0, 255]);
        let wide = Pixels { width: 1, height: 2, ..a.clone() };
        assert_eq!(pixels(&a, &wide, 255).unwrap().what, "1x2 pixels, expected 2x1");
    }

    #[test]
    fn compare_is_read_from_a_word() {
        #[derive(Deserialize)]
        struct Toml {
            compare: Compare,
        }
        let read = |text: &str| toml::from_str::<Toml>(&format!("compare = {text:?}")).map(|toml| toml.compare);
        assert!(matches!(read("bytes"), Ok(Compare::Bytes)));
        assert!(matches!(read("json"), Ok(Compare::Json)));
        assert!(matches!(read("image:2"), Ok(Compare::Image(2))));
        assert!(matches!(read("regex:^a:b+$"), Ok(Compare::Pattern(_))));
        for wrong in ["", "byte", "image", "image:256", "image:-1", "regex", "regex:(", "json:1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
