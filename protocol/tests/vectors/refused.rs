//! What must not be taken: each of these breaks one rule.

use msm_protocol::{
    Envelope, cbor,
    device::Requirements,
    document::{Head, Root},
    limits::ROOT_BYTES,
    message::{BlobRequest, BlobResponse},
};

use crate::{
    market::Market,
    sample::{Samples, class, key},
};

/// Bytes that are no message, messages of another shape, and envelopes that prove nothing.
pub fn refused(samples: &mut Samples, market: &Market) {
    let deep: Vec<u8> = [[0x81; 16].as_slice(), &[0x80]].concat();
    let cbor_cases: &[(&str, &'static str, &[u8])] = &[
        ("truncated", "array of two with one element", &[0x82, 0x00]),
        ("trailing", "two items", &[0x00, 0x00]),
        ("long-number", "23 in two bytes", &[0x18, 0x17]),
        ("long-length", "length 1 in two bytes", &[0x58, 0x01, 0x00]),
        ("indefinite", "array of indefinite length", &[0x9f, 0xff]),
        ("tag", "tag 0", &[0xc0, 0x60]),
        ("half-float", "1.0 in 16 bits", &[0xf9, 0x3c, 0x00]),
        ("single-float", "1.0 in 32 bits", &[0xfa, 0x3f, 0x80, 0x00, 0x00]),
        ("nan", "not a number", &[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]),
        ("infinity", "infinity", &[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0]),
        ("undefined", "undefined", &[0xf7]),
        ("simple", "simple value 16", &[0xf0]),
        ("key-order", "keys b, a", b"\xa2\x61b\x00\x61a\x00"),
        ("key-length-order", "keys aa, b: the longer first", b"\xa2\x62aa\x00\x61b\x00"),
        ("key-twice", "keys a, a", b"\xa2\x61a\x00\x61a\x00"),
        ("key-bytes", "a byte string as key", b"\xa1\x41a\x00"),
        ("utf8", "a text that is not UTF-8", &[0x61, 0xff]),
        ("depth", "17 nested arrays; 16 are allowed", &deep),
    ];
    for (name, note, bytes) in cbor_cases {
        samples.refused(name, note, bytes, "any", class(&cbor::check(bytes).unwrap_err()));
    }
    samples.misread::<BlobResponse>("variant-with-value", "a plain variant as a map", b"\xa1\x67missing\xf6");
    samples.misread::<BlobResponse>("variant-without-value", "a variant that has a value as text", b"\x64have");
    samples.misread::<BlobResponse>("variant-unknown", "a variant of nobody", b"\x65maybe");
    let eqs_1 = b"\xa3\x63eqs\x01\x63gps\xf4\x67battery\x00";
    samples.misread::<Requirements>("integer-for-double", "eqs 1 where eqs 1.0 is meant", eqs_1);
    let no_gps = b"\xa2\x63eqs\xfb\0\0\0\0\0\0\0\0\x67battery\x00";
    samples.misread::<Requirements>("field-missing", "no gps", no_gps);
    let battery_256 = b"\xa3\x63eqs\xfb\0\0\0\0\0\0\0\0\x63gps\xf4\x67battery\x19\x01\x00";
    samples.misread::<Requirements>("number-too-large", "battery 256", battery_256);
    let key_0 = b"\xa4\x00\x00\x63eqs\xfb\0\0\0\0\0\0\0\0\x63gps\xf4\x67battery\x00";
    samples.misread::<Requirements>("key-number", "a number as key of a message", key_0);
    let short = b"\xa4\x61v\x01\x63len\x00\x64hash\x43abc\x66offset\x00";
    samples.misread::<BlobRequest>("hash-short", "a hash of 3 bytes", short);

    // Envelopes that read well and prove nothing.
    let root: Root =
        cbor::from_slice(Envelope::from_slice::<Root>(&market.roots[1]).unwrap().payload(), ROOT_BYTES).unwrap();
    let twice = Envelope::sign(&root, &[&key(1), &key(1)]).unwrap();
    let error = twice.verify::<Root>(&root.roles.root.keys, 2).unwrap_err();
    samples.refused(
        "same-key-twice",
        "root/2 signed twice by key 1: one of two",
        &twice.to_vec().unwrap(),
        "Root",
        error,
    );
    let mut changed = market.head.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let error = Envelope::from_slice::<Head>(&changed).unwrap().verify::<Head>(&[key(3).public()], 1).unwrap_err();
    samples.refused("payload-changed", "head/2 with version 3 instead of 2", &changed, "Head", error);
    let wrong = Envelope::from_slice::<Root>(&market.head).unwrap();
    let error = wrong.verify::<Root>(&[key(3).public()], 1).unwrap_err();
    samples.refused("wrong-type", "head/2 where a root is expected", &market.head, "Root", error);
    let moved: Vec<u8> = replace(&market.head, b"\x64type\x64head", b"\x64type\x64root");
    let error = Envelope::from_slice::<Root>(&moved).unwrap().verify::<Root>(&[key(3).public()], 1).unwrap_err();
    samples.refused("type-moved", "head/2 with the type changed to root", &moved, "Root", error);
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
