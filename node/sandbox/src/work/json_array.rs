//! `json-array`: deals out the elements of one JSON array and puts arrays together again.

use serde::de::IgnoredAny;

use super::{Aim, Sink, WorkError, frames};

/// Frames of arrays, each with a run of the input's elements.
pub fn split<S: Sink>(input: &[u8], aim: Aim, out: &mut S) -> Result<(), S::Error> {
    let units = Elements::of(input)?.count() as u64;
    let mut elements = Elements::of(input)?;
    let mut text = Vec::new();
    for run in aim.runs(units, input.len() as u64).iter() {
        text.clear();
        let length = usize::try_from(run.end - run.start).unwrap_or(usize::MAX);
        append(&mut text, elements.by_ref().take(length));
        out.put(&[&frames::prefix(text.len() + 2)?, b"[", &text, b"]"])?;
    }
    Ok(())
}

/// One array of the elements of all arrays in the frames.
pub fn merge<S: Sink>(input: &[u8], out: &mut S) -> Result<(), S::Error> {
    join(frames::read(input), out)
}

/// The array with its elements written as a merge writes them.
pub fn normal<S: Sink>(array: &[u8], out: &mut S) -> Result<(), S::Error> {
    join([Ok(array)].into_iter(), out)
}

fn join<'a, S: Sink>(arrays: impl Iterator<Item = Result<&'a [u8], WorkError>>, out: &mut S) -> Result<(), S::Error> {
    /// Text is handed on in pieces of about this size: big enough that each costs little.
    const PIECE_BYTES: usize = 64 * 1024;
    let mut text = vec![b'['];
    let mut first = true;
    for (index, array) in arrays.enumerate() {
        let elements = Elements::of(array?)
            .map_err(|error| WorkError::bad(format!("the output of part {index} is not a JSON array: {error}")))?;
        for element in elements {
            if !std::mem::take(&mut first) {
                text.push(b',');
            }
            text.extend(element);
            if text.len() > PIECE_BYTES {
                out.put(&[&text])?;
                text.clear();
            }
        }
    }
    out.put(&[&text, b"]"])
}

fn append<'a>(text: &mut Vec<u8>, elements: impl Iterator<Item = &'a [u8]>) {
    for (index, element) in elements.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend(element);
    }
}

/// The text of each element of an array that is known to be well-formed.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, WorkError> {
        // Checked as a whole first, so that what follows need only know where elements end.
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| WorkError::bad(format!("not JSON: {error}")))?;
        let inside = bytes.trim_ascii().strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
        inside.map(|inside| Self(inside.trim_ascii())).ok_or_else(|| WorkError::bad("not a JSON array"))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        let end = self.0.iter().position(|byte| {
            match (in_string, byte) {
                (true, _) if escaped => escaped = false,
                (true, b'\\') => escaped = true,
                (_, b'"') => in_string = !in_string,
                (false, b'[' | b'{') => depth += 1,
                (false, b']' | b'}') => depth = depth.saturating_sub(1),
                (false, b',') => return depth == 0,
                _ => {}
            }
            false
        });
        let (element, rest) = match end {
            Some(comma) => (&self.0[..comma], &self.0[comma + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(element.trim_ascii())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::frames::tests::*, *};

    fn split_of(input: &str, aim: Aim) -> Result<Vec<u8>, WorkError> {
        let mut out = Keep::default();
        split(input.as_bytes(), aim, &mut out).map(|()| out.0)
    }

    #[test]
    fn elements_keep_their_text() {
        let table: &[(&str, u32, &[&str])] = &[
            ("[]", 3, &["[]"]),
            (" [ \n] ", 3, &["[]"]),
            ("[1]", 3, &["[1]"]),
            ("[ 1 , 2.50 ,\t3e1 ]", 3, &["[1]", "[2.50]", "[3e1]"]),
            (r#"["a,b", "]", "\"[,\\", {"k":[1, 2]}]"#, 2, &[r#"["a,b","]"]"#, r#"["\"[,\\",{"k":[1, 2]}]"#]),
            ("[[],[[]],{}]", 9, &["[[]]", "[[[]]]", "[{}]"]),
        ];
        for (input, want, expected) in table {
            let frames = split_of(input, Aim::even(*want, u64::MAX)).unwrap();
            assert_eq!(all(&frames), expected.iter().map(|text| text.as_bytes()).collect::<Vec<_>>(), "{input}");
        }
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for input in ["", "1", "{}", "\"[]\"", "[1,]", "[1", "[1] x", "[1 2]", "[\"\\\"]", &"[".repeat(200)] {
            assert!(split_of(input, Aim::even(2, u64::MAX)).is_err(), "{input}");
        }
        assert!(merge(b"\x02\0\0\0{}", &mut Keep::default()).unwrap_err().to_string().contains("part 0"));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i64>().prop_map(Value::from), "[,\\[\\]\"\\\\{} a]{0,8}".prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                inner.prop_map(|v| json!({ "a": v, "]": 1 })),
            ]
        })
    }

    proptest! {
        #[test]
        fn arrays_put_together_are_the_input(
            values in prop::collection::vec(value(), 0..40), want in 1u32..20, slots in 1u32..9,
        ) {
            let aim = Aim { want, target_bytes: u64::MAX, slots };
            for text in [serde_json::to_string(&values).unwrap(), serde_json::to_string_pretty(&values).unwrap()] {
                let frames = split_of(&text, aim).unwrap();
                let (mut merged, mut whole) = (Keep::default(), Keep::default());
                merge(&frames, &mut merged).unwrap();
                normal(text.as_bytes(), &mut whole).unwrap();
                prop_assert_eq!(&merged.0, &whole.0);
                prop_assert_eq!(&serde_json::from_slice::<Vec<Value>>(&merged.0).unwrap(), &values);
            }
        }
    }
}
