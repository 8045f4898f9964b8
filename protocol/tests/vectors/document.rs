//! The code blocks of `PROTOCOL.md` that hold vectors: ` ```hex NAME `, ` ```diag NAME `, ` ```text NAME ` and
//! ` ```refused GROUP `.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;

use crate::{
    diag::diag,
    sample::{Form, Sample},
};

/// Hex digits of one line.
const HEX_WIDTH: usize = 96;

/// The document with every vector block filled in, and the names of the vectors whose bytes or text it shows.
pub fn with_vectors(document: &str, samples: &BTreeMap<&str, &Sample>) -> (String, BTreeSet<String>) {
    let mut out = String::new();
    let mut shown = BTreeSet::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let block = line.strip_prefix("```").and_then(|info| info.split_once(' '));
        let Some((form, name)) = block else { continue };
        if form == "refused" {
            out.push_str(&refused(samples, name));
            assert!(lines.any(|line| line == "```"), "PROTOCOL.md: the block of what is refused does not end");
            out.push_str("```\n");
            continue;
        }
        let sample = samples.get(name).unwrap_or_else(|| panic!("PROTOCOL.md shows {name:?}, which is no vector"));
        out.push_str(&match (form, &sample.form) {
            ("hex", _) => hex(&sample.bytes),
            ("diag", Form::Message(..) | Form::Signed { .. }) => diag(&sample.bytes),
            ("text", Form::Text(text)) => format!("{text}\n"),
            _ => panic!("PROTOCOL.md: a block of {name:?} as {form:?}"),
        });
        if form != "diag" {
            shown.insert(name.to_owned());
        }
        assert!(lines.any(|line| line == "```"), "PROTOCOL.md: the block of {name:?} does not end");
        out.push_str("```\n");
    }
    (out, shown)
}

/// One line for each vector that must be refused: `name hex ; why`.
fn refused(samples: &BTreeMap<&str, &Sample>, group: &str) -> String {
    let mut out = String::new();
    for sample in samples.values() {
        let Form::Refused(reader, error) = &sample.form else { continue };
        let of_group = match group {
            "cbor" => *reader == "any",
            _ => *reader != "any" && error == "shape",
        };
        if of_group {
            let (name, digits) = (sample.name.trim_start_matches("refuse/"), HEXLOWER.encode(&sample.bytes));
            let reader = if *reader == "any" { String::new() } else { format!("{reader}: ") };
            out.push_str(&format!("{name} {digits} ; {reader}{}\n", sample.note));
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let digits = HEXLOWER.encode(bytes);
    let lines = digits.as_bytes().chunks(HEX_WIDTH).map(String::from_utf8_lossy);
    lines.map(|line| format!("{line}\n")).collect()
}
