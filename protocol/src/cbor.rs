//! The one encoding: deterministic CBOR (RFC 8949 section 4.2.1, but doubles stay doubles), and nothing else is accepted.
//!
//! [`check`] walks the bytes once, without recursion and without allocation beyond a fixed stack, before any decoder
//! sees them. It refuses what a lenient decoder would let two implementations read in two ways: trailing bytes,
//! duplicate or unordered map keys, indefinite lengths, long forms of short integers, tags, and floats that are not
//! finite doubles. Struct fields in this crate are therefore declared in key order: shorter names first, then by bytes.

use cbor4ii::{
    core::{dec::Read, utils::SliceReader},
    serde::Deserializer,
};
use serde::Serialize;

use crate::limits::{CBOR_DEPTH, CBOR_ITEMS, CBOR_TEXT_BYTES};

/// Why bytes are not an acceptable message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// Longer than this kind of message may be.
    #[error("message of {size} bytes is over its limit of {limit}")]
    TooLong {
        /// Bytes received.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Ended inside an item.
    #[error("message ends in the middle of an item")]
    Truncated,
    /// Bytes after the item.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// Nested too deeply.
    #[error("nested deeper than {CBOR_DEPTH}")]
    Depth,
    /// Too many array elements and map pairs.
    #[error("more than {CBOR_ITEMS} items")]
    Items,
    /// One text string is too long.
    #[error("a text of more than {CBOR_TEXT_BYTES} bytes")]
    Text,
    /// Not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// An item that deterministic CBOR does not have.
    #[error("not deterministic CBOR: {0}")]
    Form(&'static str),
    /// Well formed, but not the expected message.
    #[error("not the expected message: {0}")]
    Shape(String),
}

/// Encodes `value`. Fails only when a type of ours holds something that [`check`] would refuse (a NaN, say).
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CborError> {
    let bytes = cbor4ii::serde::to_vec(Vec::new(), value).map_err(|e| CborError::Shape(e.to_string()))?;
    debug_assert_eq!(check(&bytes), Ok(()), "a struct whose fields are not in key order, or a value out of range");
    Ok(bytes)
}

/// Decodes one message of at most `limit` bytes.
pub fn from_slice<'de, T: serde::Deserialize<'de>>(bytes: &'de [u8], limit: usize) -> Result<T, CborError> {
    if bytes.len() > limit {
        return Err(CborError::TooLong { size: bytes.len(), limit });
    }
    check(bytes)?;
    let mut decoder = Deserializer::new(SliceReader::new(bytes));
    let value =
        T::deserialize(&mut decoder).map_err(|e| CborError::Shape(e.to_string().chars().take(200).collect()))?;
    // The decoder takes `{"busy": X}` for the plain `"busy"` and leaves X unread; everything behind is then read out of
    // step (a value as the next key), and as many items as were skipped are left over at the end.
    let at_the_end = decoder.into_inner().fill(1).is_ok_and(|rest| rest.as_ref().is_empty());
    if at_the_end { Ok(value) } else { Err(CborError::Shape("a value where a plain variant has none".to_owned())) }
}

/// An array or a map that is being walked.
#[derive(Clone, Copy)]
struct Open<'a> {
    /// Items still to come: elements, or keys and values counted singly.
    left: usize,
    /// For a map, the encoded previous key; the next must sort after it.
    keys: Option<&'a [u8]>,
}

/// Checks that `bytes` are exactly one deterministic CBOR item inside all caps.
pub fn check(bytes: &[u8]) -> Result<(), CborError> {
    let mut at = 0;
    let mut items = 0;
    let mut stack = [Open { left: 0, keys: None }; CBOR_DEPTH];
    let mut depth = 0;
    loop {
        let start = at;
        let is_key = depth > 0 && stack[depth - 1].keys.is_some() && stack[depth - 1].left.is_multiple_of(2);
        let (major, value) = head(bytes, &mut at)?;
        let mut opened = None;
        match major {
            0 | 1 => {}
            2 | 3 => {
                let body = take(bytes, &mut at, value)?;
                if major == 3 {
                    if body.len() > CBOR_TEXT_BYTES {
                        return Err(CborError::Text);
                    }
                    std::str::from_utf8(body).map_err(|_| CborError::Utf8)?;
                }
            }
            4 | 5 => {
                let count = usize::try_from(value).map_err(|_| CborError::Items)?;
                items = count.checked_add(items).filter(|n| *n <= CBOR_ITEMS).ok_or(CborError::Items)?;
                opened = Some(if major == 4 {
                    Open { left: count, keys: None }
                } else {
                    Open { left: count * 2, keys: Some(&[]) }
                });
            }
            6 => return Err(CborError::Form("tag")),
            _ => {} // 7: `head` let through only false, true, null and finite doubles
        }
        if is_key {
            if major != 3 && major != 0 {
                return Err(CborError::Form("map key that is neither text nor a number"));
            }
            let key = &bytes[start..at];
            match stack[depth - 1].keys {
                Some(previous) if previous < key => stack[depth - 1].keys = Some(key),
                _ => return Err(CborError::Form("map keys out of order or twice")),
            }
        }
        if depth > 0 {
            stack[depth - 1].left -= 1;
        }
        if let Some(open) = opened {
            if depth == CBOR_DEPTH {
                return Err(CborError::Depth);
            }
            stack[depth] = open;
            depth += 1;
        }
        while depth > 0 && stack[depth - 1].left == 0 {
            depth -= 1;
        }
        if depth == 0 {
            return if at == bytes.len() { Ok(()) } else { Err(CborError::Trailing(bytes.len() - at)) };
        }
    }
}

/// Reads an item's head: its major type and argument.
fn head(bytes: &[u8], at: &mut usize) -> Result<(u8, u64), CborError> {
    let first = *bytes.get(*at).ok_or(CborError::Truncated)?;
    *at += 1;
    let (major, low) = (first >> 5, first & 0x1f);
    if major == 7 {
        return match low {
            20..=22 => Ok((7, 0)),
            27 => {
                let bits = u64::from_be_bytes(take(bytes, at, 8)?.try_into().map_err(|_| CborError::Truncated)?);
                if f64::from_bits(bits).is_finite() { Ok((7, 0)) } else { Err(CborError::Form("float is not finite")) }
            }
            _ => Err(CborError::Form("simple value or short float")),
        };
    }
    let width = match low {
        0..=23 => return Ok((major, u64::from(low))),
        24..=27 => 1usize << (low - 24),
        31 => return Err(CborError::Form("indefinite length")),
        _ => return Err(CborError::Form("reserved length")),
    };
    let value = take(bytes, at, width as u64)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let shortest = match width {
        1 => value >= 24,
        2 => value > 0xff,
        4 => value > 0xffff,
        _ => value > 0xffff_ffff,
    };
    if shortest { Ok((major, value)) } else { Err(CborError::Form("number not in its shortest form")) }
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, count: u64) -> Result<&'a [u8], CborError> {
    let count = usize::try_from(count).map_err(|_| CborError::Truncated)?;
    let end = at.checked_add(count).ok_or(CborError::Truncated)?;
    let body = bytes.get(*at..end).ok_or(CborError::Truncated)?;
    *at = end;
    Ok(body)
}

/// Implements serde for a newtype over `[u8; N]`: a byte string on the wire, its text form in JSON and TOML.
macro_rules! bytes_on_the_wire_text_for_people {
    ($type:ident, $n:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!(stringify!($type), " of ", stringify!($n), " bytes"))
                    }
                    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<$type, E> {
                        bytes.try_into().map($type).map_err(|_| E::invalid_length(bytes.len(), &self))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                if d.is_human_readable() { d.deserialize_str(Visitor) } else { d.deserialize_bytes(Visitor) }
            }
        }
    };
}
pub(crate) use bytes_on_the_wire_text_for_people;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deterministic_items_pass() {
        let good: &[&[u8]] = &[
            &[0x00],
            &[0x17],
            &[0x18, 0x18],
            &[0x20],
            &[0x40],
            &[0x41, 0xff],
            &[0x61, b'a'],
            &[0x80],
            &[0xa0],
            &[0x82, 0x01, 0x80],
            &[0xa2, 0x61, b'a', 0x01, 0x61, b'b', 0xa0],
            &[0xf4],
            &[0xf5],
            &[0xf6],
            &[0xa2, 0x61, b'z', 0x01, 0x62, b'a', b'a', 0x02],
            &[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
        ];
        for bytes in good {
            assert_eq!(check(bytes), Ok(()), "{bytes:02x?}");
        }
    }

    #[test]
    fn everything_that_could_be_read_in_two_ways_is_refused() {
        let form = |why| Err(CborError::Form(why));
        let (short, order) = ("number not in its shortest form", "map keys out of order or twice");
        let cases: &[(&[u8], Result<(), CborError>)] = &[
            (&[], Err(CborError::Truncated)),
            (&[0x18], Err(CborError::Truncated)),
            (&[0x42, 0x00], Err(CborError::Truncated)),
            (&[0x82, 0x00], Err(CborError::Truncated)),
            (&[0x00, 0x00], Err(CborError::Trailing(1))),
            (&[0x18, 0x17], form(short)),
            (&[0x19, 0x00, 0xff], form(short)),
            (&[0x1a, 0x00, 0x00, 0xff, 0xff], form(short)),
            (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], form(short)),
            (&[0x58, 0x01, 0x00], form(short)),
            (&[0x9f, 0xff], form("indefinite length")),
            (&[0x5f, 0x41, 0x00, 0xff], form("indefinite length")),
            (&[0x1c], form("reserved length")),
            (&[0xc0, 0x00], form("tag")),
            (&[0xf7], form("simple value or short float")),
            (&[0xf9, 0x3c, 0x00], form("simple value or short float")),
            (&[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], form("float is not finite")),
            (&[0xfb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0], form("float is not finite")),
            (&[0xa2, 0x61, b'a', 0x01, 0x61, b'a', 0x02], form(order)),
            (&[0xa2, 0x61, b'b', 0x01, 0x61, b'a', 0x02], form(order)),
            (&[0xa2, 0x62, b'a', b'a', 0x01, 0x61, b'z', 0x02], form(order)),
            (&[0xa1, 0x80, 0x01], form("map key that is neither text nor a number")),
            (&[0x61, 0xff], Err(CborError::Utf8)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(check(bytes), *expected, "{bytes:02x?}");
        }
    }

    /// B13: nesting, open arrays and tags without end stop at the cap, not at the end of the input.
    #[test]
    fn b13_bombs_are_refused_at_their_cap() {
        assert_eq!(check(&[0x81; 100_000]), Err(CborError::Depth));
        assert_eq!(check(&vec![0x9f; 1 << 20]), Err(CborError::Form("indefinite length")));
        assert_eq!(check(&vec![0xc0; 1_000_000]), Err(CborError::Form("tag")));
    }

    /// B14: lengths that no message has are refused without reserving them.
    #[test]
    fn b14_huge_lengths_are_refused() {
        let huge = [0xff; 8];
        for (first, expected) in [
            (0x9b, CborError::Items),
            (0xbb, CborError::Items),
            (0x7b, CborError::Truncated),
            (0x5b, CborError::Truncated),
        ] {
            let bytes: Vec<u8> = std::iter::once(first).chain(huge).collect();
            assert_eq!(check(&bytes), Err(expected), "{first:x}");
        }
        let array_of_2_to_the_40 = [0x9b, 0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(check(&array_of_2_to_the_40), Err(CborError::Items));
    }

    /// B16: a mebibyte of empty strings falls at the item cap.
    #[test]
    fn b16_items_are_counted_before_they_are_read() {
        let mut bytes = vec![0x9a, 0x00, 0x10, 0x00, 0x00];
        bytes.resize(5 + (1 << 20), 0x60);
        assert_eq!(check(&bytes), Err(CborError::Items));
        let mut full = vec![0x99, 0x10, 0x00];
        full.resize(3 + CBOR_ITEMS, 0x60);
        assert_eq!(check(&full), Ok(()));
    }

    /// The decoder by itself reads these as other messages than they are; a second implementation would refuse them.
    #[test]
    fn variants_have_one_form_each() {
        use crate::{Refusal, message::BlobResponse};
        let refusal: &[u8] = b"\xa2\x64code\x64busy\x66reason\x60";
        assert!(from_slice::<Refusal>(refusal, 100).is_ok());
        let out_of_step: &[u8] = b"\xa2\x64code\xa1\x64busy\x66reason\x66reason\x61x";
        assert_eq!(check(out_of_step), Ok(()));
        assert!(matches!(from_slice::<Refusal>(out_of_step, 100), Err(CborError::Shape(_))));
        for bytes in
            [&b"\xa1\x67missing\x00"[..], b"\xa1\x67missing\xf6", b"\x64have", b"\xa0", b"\x81\x67missing", b"\x00"]
        {
            assert!(matches!(from_slice::<BlobResponse>(bytes, 100), Err(CborError::Shape(_))), "{bytes:02x?}");
        }
        assert_eq!(from_slice(b"\x67missing", 100), Ok(BlobResponse::Missing));
    }

    /// Keys that a message does not have are a newer sender's and are skipped; keys that are no text are nobody's.
    #[test]
    fn unknown_text_keys_are_skipped_and_numbered_keys_refused() {
        use crate::job::AttemptRef;
        let known = AttemptRef { task: 1, attempt: 2 };
        assert_eq!(from_slice(b"\xa2\x64task\x01\x67attempt\x02", 100), Ok(known));
        assert_eq!(from_slice(b"\xa3\x64task\x01\x65later\xa1\x00\x80\x67attempt\x02", 100), Ok(known));
        assert!(from_slice::<AttemptRef>(b"\xa2\x00\x01\x01\x02", 100).is_err());
        assert!(from_slice::<AttemptRef>(b"\xa3\x00\x00\x64task\x01\x67attempt\x02", 100).is_err());
    }

    #[test]
    fn every_truncation_of_a_message_is_refused() {
        let whole = to_vec(&(1u8, "text", vec![7u64, 70_000], Some(1.5f64))).unwrap();
        for end in 0..whole.len() {
            assert!(check(&whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_text_over_its_cap_is_refused() {
        let long = "x".repeat(CBOR_TEXT_BYTES + 1);
        let bytes = cbor4ii::serde::to_vec(Vec::new(), &long).unwrap();
        assert_eq!(check(&bytes), Err(CborError::Text));
        assert_eq!(check(&bytes[..]).err(), from_slice::<String>(&bytes, 1 << 20).err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = check(&bytes);
        }
    }
}
