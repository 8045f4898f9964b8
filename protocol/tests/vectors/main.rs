//! Test vectors: one fixed sample of every message and document, the same in `vectors.json`, in `PROTOCOL.md` and here.
//!
//! A wire format that changes by accident fails here. After a change that is meant, run
//! `MSM_WRITE_VECTORS=1 cargo test -p msm-protocol --test vectors` and read the difference before keeping it.

mod arbitrary;
mod diag;
mod document;
mod market;
mod refused;
mod sample;
mod samples;
mod session;

use std::{collections::BTreeMap, path::PathBuf};

use data_encoding::HEXLOWER;
use msm_protocol::{RefusalCode, cbor, envelope};
use serde_json::{Value, json};

use sample::{Form, Sample};

fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// True when the files are to be written instead of compared.
fn writing() -> bool {
    std::env::var_os("MSM_WRITE_VECTORS").is_some()
}

/// Compares a file with what it should hold, or writes it.
fn keep(relative: &str, expected: &str) {
    if writing() {
        std::fs::write(path(relative), expected).unwrap();
    }
    let found = std::fs::read_to_string(path(relative)).unwrap();
    if found != expected {
        let line = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or_else(|| found.lines().count().min(expected.lines().count()));
        panic!(
            "{relative}:{}: not what the code gives: {:?}, expected {:?}",
            line + 1,
            found.lines().nth(line),
            expected.lines().nth(line)
        );
    }
}

fn json_of(sample: &Sample) -> Value {
    let mut json = json!({ "name": sample.name, "note": sample.note, "hex": HEXLOWER.encode(&sample.bytes) });
    let mut set = |key: &str, value: Value| json[key] = value;
    match &sample.form {
        Form::Raw => set("kind", json!("bytes")),
        Form::Text(text) => {
            set("kind", json!("text"));
            set("text", json!(text));
        }
        Form::Message(reader, _) => {
            set("kind", json!("cbor"));
            set("reader", json!(reader));
        }
        Form::Signed { document, seeds, payload, digest, .. } => {
            set("kind", json!("envelope"));
            set("reader", json!(document));
            set("seeds", seeds.iter().map(|seed| HEXLOWER.encode(&[*seed; 32])).collect());
            set("payload", json!(HEXLOWER.encode(payload)));
            set("digest", json!(HEXLOWER.encode(digest)));
        }
        Form::Refused(reader, error) => {
            set("kind", json!("refused"));
            set("reader", json!(reader));
            set("error", json!(error));
        }
    }
    json
}

#[test]
fn vectors_are_what_the_code_gives() {
    let all: Vec<Value> = samples::all().iter().map(json_of).collect();
    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    keep("tests/vectors.json", &text);
}

#[test]
fn protocol_md_shows_the_vectors() {
    let found = std::fs::read_to_string(path("PROTOCOL.md")).unwrap();
    let samples = samples::all();
    let by_name: BTreeMap<&str, &Sample> = samples.iter().map(|sample| (sample.name.as_str(), sample)).collect();
    assert_eq!(by_name.len(), samples.len(), "two vectors of one name");
    let (text, shown) = document::with_vectors(&found, &by_name);
    keep("PROTOCOL.md", &text);
    let missing: Vec<&str> = by_name
        .values()
        .filter(|sample| !matches!(sample.form, Form::Refused(..)) && !shown.contains(&sample.name))
        .map(|sample| sample.name.as_str())
        .collect();
    assert!(missing.is_empty(), "PROTOCOL.md does not show {missing:?}");
}

/// The table of refusal codes is the enum: the same codes in the same order, and the same ones fail everywhere.
#[test]
fn protocol_md_lists_every_refusal_code() {
    let text = std::fs::read_to_string(path("PROTOCOL.md")).unwrap();
    let (_, section) = text.split_once("## 8. Refusal codes").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `"));
    let found: Vec<(&str, bool)> =
        rows.map(|row| (row.split('`').nth(1).unwrap(), row.trim_end_matches([' ', '|']).ends_with("yes"))).collect();
    let expected: Vec<_> = RefusalCode::ALL.iter().map(|code| (code.as_str(), code.is_deterministic())).collect();
    assert_eq!(found, expected);
}

/// Numbers and names that the description repeats are those of the code.
#[test]
fn protocol_md_names_limits_and_protocols() {
    use msm_protocol::{limits::*, message::name};
    let text = std::fs::read_to_string(path("PROTOCOL.md")).unwrap();
    for name in [name::IDENTIFY, name::KAD, name::DEVICE, name::HEAD, name::BLOB, name::JOB, name::PRESENCE] {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
    let (_, section) = text.split_once("## 9. Limits").unwrap();
    let (section, _) = section.split_once("## 10.").unwrap();
    let limits = [
        ("CBOR nesting", CBOR_DEPTH as u64),
        ("elements", CBOR_ITEMS as u64),
        ("one text", CBOR_TEXT_BYTES as u64),
        ("request of", CONTROL_BYTES as u64),
        ("response; roots", HEAD_RESPONSE_BYTES as u64),
        ("response; roots", ROOTS_PER_RESPONSE as u64),
        ("bytes in one chunk", CHUNK_BYTES as u64),
        ("job frame", FRAME_BYTES as u64),
        ("gossip RPC", GOSSIP_BYTES as u64),
        ("addresses", PRESENCE_ADDRESSES as u64),
        ("head envelope", HEAD_BYTES as u64),
        ("root, index envelope", ROOT_BYTES as u64),
        ("root, index envelope", INDEX_BYTES as u64),
        ("page", PAGE_BYTES as u64),
        ("signatures", SIGNATURES as u64),
        ("keys of a role", KEYS_PER_ROLE as u64),
        ("page entries", PAGE_ENTRIES as u64),
        ("levels", TREE_LEVELS as u64),
        ("pages of a tree", PAGES_PER_TREE as u64),
        ("step", VERSION_STEP),
        ("manifest; js", MANIFEST_BYTES as u64),
        ("manifest; js", JS_BYTES as u64),
        ("wasm", WASM_BYTES as u64),
        ("package", PACKAGE_BYTES as u64),
        ("variants", VARIANTS as u64),
        ("parameters", PARAMS as u64),
        ("parameters' JSON", PARAMS_BYTES as u64),
        ("input of a job", JOB_INPUT_BYTES),
        ("of a task", TASK_BYTES as u64),
        ("tasks of a job", TASKS_PER_JOB as u64),
        ("credit", u64::from(CREDIT)),
        ("credit", u64::from(CREDIT_MAX)),
        ("in the frame", INLINE_BYTES as u64),
        ("before `accept`", EARLY_BYTES as u64),
        ("open on a lane", JOBS_PER_LANE as u64),
        ("claims", CLAIMS as u64),
        ("time of a task", TASK_TIME_MAX.as_secs()),
        ("memory of a guest", GUEST_MEMORY_MAX),
        ("heartbeat", HEARTBEAT.as_secs()),
        ("shortest lease", LEASE_MIN.as_secs()),
        ("reason", REASON_BYTES as u64),
        ("lists in DeviceInfo", DEVICE_LIST as u64),
    ];
    for (what, value) in limits {
        let rows = section.lines().filter(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(what)));
        let has = |row: &str| {
            let numbers = row.replace(',', "");
            numbers.split(|c: char| !c.is_ascii_digit()).any(|number| number == value.to_string())
        };
        assert!(rows.clone().any(has), "{what}: {value} is not in {:?}", rows.collect::<Vec<_>>());
    }
}

/// The decoder of a sample, if it is a message.
fn reader(sample: &Sample) -> Option<sample::Again> {
    match sample.form {
        Form::Message(_, again) | Form::Signed { again, .. } => Some(again),
        _ => None,
    }
}

#[test]
fn each_message_is_deterministic_and_reads_back() {
    for sample in samples::all() {
        let Some(again) = reader(&sample) else { continue };
        assert_eq!(cbor::check(&sample.bytes), Ok(()), "{}", sample.name);
        assert_eq!(again(&sample.bytes).as_ref(), Ok(&sample.bytes), "{}", sample.name);
    }
}

#[test]
fn every_truncation_is_refused() {
    for sample in samples::all() {
        let Some(again) = reader(&sample) else { continue };
        for end in 0..sample.bytes.len() {
            assert!(again(&sample.bytes[..end]).is_err(), "{} cut at {end}", sample.name);
        }
        assert!(again(&[&sample.bytes[..], &[0]].concat()).is_err(), "{} and one byte", sample.name);
    }
}

/// Every bit of every byte, so those of lengths too: an error or another message, never a panic, and what is read is
/// read the same way twice.
#[test]
fn every_flipped_bit_is_survived() {
    for sample in samples::all() {
        let Some(again) = reader(&sample) else { continue };
        let mut bytes = sample.bytes;
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let _ = again(&bytes);
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

/// A signed document is believed as it is or not at all: no bit of it can change without a key of its role noticing.
#[test]
fn no_flipped_bit_of_a_signed_document_is_believed() {
    for sample in samples::all() {
        let Form::Signed { seeds, verifies, .. } = &sample.form else { continue };
        let trusted: Vec<_> = seeds.iter().map(|seed| sample::key(*seed).public()).collect();
        assert!(verifies(&sample.bytes, &trusted), "{}", sample.name);
        let mut bytes = sample.bytes.clone();
        for at in 0..bytes.len() {
            let bit = 1 << (at % 8);
            bytes[at] ^= bit;
            assert!(!verifies(&bytes, &trusted), "{}: byte {at}, bit {bit}", sample.name);
            bytes[at] ^= bit;
        }
    }
}

/// Each signed sample is made again from its seeds, its type and its payload: what `vectors.json` says is enough.
#[test]
fn signatures_are_made_again_from_what_is_written() {
    for sample in samples::all() {
        let Form::Signed { document, seeds, payload, digest, .. } = &sample.form else { continue };
        assert_eq!(envelope::digest(document, payload), *digest, "{}", sample.name);
        for seed in seeds {
            let key = sample::key(*seed);
            let (signer, signature) = (key.public(), key.sign(digest));
            let has = |needle: &[u8]| sample.bytes.windows(needle.len()).any(|window| window == needle);
            assert!(has(signer.as_bytes()) && has(signature.as_bytes()) && has(payload), "{}", sample.name);
        }
    }
}
