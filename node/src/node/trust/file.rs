//! `trust.toml` and the folder of evidence: what is remembered of workers, kept across restarts.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use msm_protocol::{PeerId, evidence::Evidence};
use serde::{Deserialize, Serialize};

use super::table::{PEERS, Row, Table};
use crate::home::{
    FileError,
    files::{self, Secrecy},
};

/// Bytes of `trust.toml`: a full table, each row with a strike, twice over.
const TRUST_FILE_BYTES: u64 = 2 * PEERS as u64 * 1024;
/// Files of evidence kept; the oldest makes room. *Judgement*: 8 MiB at most, usually 128 KiB.
pub const EVIDENCE_FILES: usize = 256;
/// How the name of a piece of evidence ends.
const EVIDENCE_ENDING: &str = "cbor";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    #[serde(default, rename = "worker")]
    workers: Vec<Row>,
}

/// The table that was kept, or an empty one and why it is empty. A damaged file is set aside, so that its strikes can
/// still be read by the owner: the next save would replace it.
pub fn load(path: &Path) -> (Table, Option<String>) {
    let anew = |why: String| {
        let aside = path.with_extension("toml.bad");
        let kept = match fs::rename(path, &aside) {
            Ok(()) => format!("; it is kept as {}", aside.display()),
            Err(_) => String::new(),
        };
        let why =
            format!("{}: {why}{kept}; every worker counts as new, and those struck before as well", path.display());
        (Table::default(), Some(why))
    };
    let text = match files::read(path, TRUST_FILE_BYTES, Secrecy::Plain) {
        Ok(None) => return (Table::default(), None),
        Ok(Some(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => return anew("not UTF-8 text".to_owned()),
        },
        Err(error) => return anew(error.to_string()),
    };
    match toml::from_str::<Kept>(&text) {
        Ok(kept) => (Table::of_rows(kept.workers), None),
        Err(error) => anew(error.message().to_owned()),
    }
}

/// Replaces the kept table, in one step.
pub fn save(path: &Path, table: &Table) -> Result<(), FileError> {
    // Rows always serialise: texts and numbers.
    let text = toml::to_string(&Kept { workers: table.rows() }).unwrap_or_default();
    let text = format!("# How workers answered, oldest first. Written by msm: msm peers, msm peers forgive.\n{text}");
    files::replace(path, text.as_bytes())
}

/// Writes a piece of evidence against `peer` and returns the name of its file.
pub fn keep_evidence(folder: &Path, peer: &PeerId, evidence: &Evidence) -> Result<String, String> {
    files::private_folder(folder).map_err(|error| error.to_string())?;
    make_room(folder);
    let bytes = evidence.to_vec().map_err(|error| error.to_string())?;
    // A name that is taken is taken by older evidence: never replaced.
    for n in 1..=EVIDENCE_FILES + 1 {
        let name = format!("{peer}-{n}.{EVIDENCE_ENDING}");
        match files::create(&folder.join(&name), &bytes) {
            Ok(true) => return Ok(name),
            Ok(false) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("{} names of evidence against {peer} are taken", EVIDENCE_FILES + 1))
}

/// Removes the oldest evidence until one more fits.
fn make_room(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut kept: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let path = entry.path();
            let ours = path.extension().is_some_and(|ending| ending == EVIDENCE_ENDING);
            ours.then_some((entry.metadata().ok()?.modified().ok()?, path))
        })
        .collect();
    kept.sort();
    let excess = (kept.len() + 1).saturating_sub(EVIDENCE_FILES);
    for (_, path) in kept.into_iter().take(excess) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::{ContentHash, JobId, SecretKey};
    use serde_bytes::ByteBuf;

    use super::*;
    use crate::node::trust::table::Strike;

    fn peer(n: u8) -> PeerId {
        PeerId::of(&SecretKey::from_seed(&[n; 32]).public())
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.right(peer(1));
        let strike = Strike {
            job: JobId::from_bytes([1; 16]),
            task: 3,
            service: "a/b@1.0.0".into(),
            claimed: ContentHash::of(b"1"),
            right: ContentHash::of(b"2"),
            by: peer(1),
            time: 5,
            unsigned: true,
            evidence: Some("x.cbor".into()),
        };
        table.strike(peer(2), strike);
        table
    }

    #[test]
    fn trust_survives_and_what_is_damaged_is_said_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.toml");
        assert!(matches!(load(&path), (table, None) if table.rows().is_empty()));
        save(&path, &table()).unwrap();
        let (read, why) = load(&path);
        assert_eq!((read.rows(), why), (table().rows(), None));
        let good = fs::read_to_string(&path).unwrap();
        for (from, to) in [("in-a-row = 1", "in-a-row = -1"), ("task = 3", "task = []"), ("[[worker]]", "[[liar]]")] {
            assert!(good.contains(from), "{from}: {good}");
            fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let (read, why) = load(&path);
            assert!(read.rows().is_empty(), "{to}");
            assert!(why.unwrap().contains("every worker counts as new"), "{to}");
            assert!(!path.exists() && dir.path().join("trust.toml.bad").exists());
        }
        fs::write(&path, [0xff; 8]).unwrap();
        assert!(load(&path).1.is_some());
        fs::write(&path, " ".repeat(TRUST_FILE_BYTES as usize + 1)).unwrap();
        assert!(load(&path).1.is_some(), "larger than anything that is written there");
    }

    #[test]
    fn evidence_is_bounded_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("evidence");
        let evidence = |task| Evidence {
            v: 1,
            by: peer(1),
            job: msm_protocol::JobId::from_bytes([0; 16]),
            task,
            time: 1,
            count: 1,
            right: ContentHash::of(b"x"),
            others: vec![],
            params: "{}".into(),
            receipt: ByteBuf::new(),
        };
        let first = keep_evidence(&folder, &peer(2), &evidence(0)).unwrap();
        assert_eq!(first, format!("{}-1.cbor", peer(2)));
        let second = keep_evidence(&folder, &peer(2), &evidence(1)).unwrap();
        assert_eq!(second, format!("{}-2.cbor", peer(2)));
        let read = |name: &str| Evidence::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap().task;
        assert_eq!((read(&first), read(&second)), (0, 1));
        fs::write(folder.join("note.txt"), "the owner's own").unwrap();
        for task in 2..EVIDENCE_FILES as u32 + 4 {
            keep_evidence(&folder, &peer((task % 50) as u8), &evidence(task)).unwrap();
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), EVIDENCE_FILES + 1);
        assert!(folder.join("note.txt").exists());
    }
}
