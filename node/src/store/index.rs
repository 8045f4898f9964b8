//! What is known of each blob, kept in sled from start to start. Losing it loses no blob.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use msm_protocol::{ContentHash, MarketId};

use crate::home::files;

/// sled's own cache. It holds nothing but the index, which is smaller than this.
const CACHE_BYTES: u64 = 16 << 20;
/// Small segments: the index is a few megabytes at most.
const SEGMENT_BYTES: usize = 64 << 10;
/// Changes reach the disk within this time, or when the store is flushed or closed. What a power cut loses is found
/// again in the blobs' files, but for pins and origins of the last second.
const FLUSH_MS: u64 = 1_000;
/// Damaged indexes kept for whoever wants to look at them.
const QUARANTINED: usize = 2;
const QUARANTINE: &str = "index.bad-";

/// What is known of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub size: u64,
    /// The market it was fetched for.
    pub origin: Option<MarketId>,
    pub pinned: bool,
    /// Counts uses of the store; the smallest is the blob that was not used for longest.
    pub used: u64,
}

const RECORD_VERSION: u8 = 1;
const RECORD_BYTES: usize = 1 + 1 + 8 + 8 + 32;
const FLAG_PINNED: u8 = 1;
const FLAG_ORIGIN: u8 = 2;

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0] = RECORD_VERSION;
        bytes[1] = u8::from(self.pinned) * FLAG_PINNED + u8::from(self.origin.is_some()) * FLAG_ORIGIN;
        bytes[2..10].copy_from_slice(&self.size.to_be_bytes());
        bytes[10..18].copy_from_slice(&self.used.to_be_bytes());
        if let Some(origin) = &self.origin {
            bytes[18..].copy_from_slice(origin.as_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_BYTES] = bytes.try_into().ok()?;
        let [RECORD_VERSION, flags, ..] = *bytes else { return None };
        let (size, rest) = bytes[2..].split_first_chunk::<8>()?;
        let (used, rest) = rest.split_first_chunk::<8>()?;
        let origin: [u8; 32] = rest.try_into().ok()?;
        Some(Self {
            size: u64::from_be_bytes(*size),
            origin: (flags & FLAG_ORIGIN != 0).then(|| MarketId::from_bytes(origin)),
            pinned: flags & FLAG_PINNED != 0,
            used: u64::from_be_bytes(*used),
        })
    }
}

/// Why the index cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error(transparent)]
    Sled(#[from] sled::Error),
    /// sled found something it did not expect.
    #[error("sled panicked")]
    Panicked,
}

impl IndexError {
    /// The disk refused; the files themselves may be in order.
    fn is_io(&self) -> bool {
        matches!(self, Self::Sled(sled::Error::Io(_)))
    }
}

/// Runs something of sled's: a panic there must not end the store.
fn guarded<T>(run: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    Ok(catch_unwind(AssertUnwindSafe(run)).map_err(|_| IndexError::Panicked)??)
}

/// An open index.
#[derive(Debug)]
pub(super) struct Index {
    db: sled::Db,
}

/// How opening went.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// `None`: the disk is full or refuses; the store works without, and tries again.
    pub index: Option<Index>,
    /// What it held.
    pub records: Vec<(ContentHash, Record)>,
    /// Where a damaged one was put aside.
    pub quarantined: Option<PathBuf>,
}

impl Index {
    /// Opens the index in `store`. One that is damaged is put aside and a new one is begun.
    pub(super) fn open(store: &Path) -> Opened {
        let folder = store.join("index");
        let mut opened = Opened::default();
        for _ in 0..2 {
            match Self::open_and_read(&folder) {
                Ok((index, records)) => {
                    (opened.index, opened.records) = (Some(index), records);
                    return opened;
                }
                Err(error) if error.is_io() => {
                    tracing::warn!(%error, "store index not usable now");
                    return opened;
                }
                Err(error) => {
                    opened.quarantined = quarantine(store, &folder);
                    tracing::warn!(%error, aside = ?opened.quarantined, "store index damaged; beginning a new one");
                    if opened.quarantined.is_none() {
                        return opened;
                    }
                }
            }
        }
        opened
    }

    fn open_and_read(folder: &Path) -> Result<(Self, Vec<(ContentHash, Record)>), IndexError> {
        guarded(|| {
            let db = sled::Config::new()
                .path(folder)
                .cache_capacity(CACHE_BYTES)
                .segment_size(SEGMENT_BYTES)
                .use_compression(false)
                .flush_every_ms(Some(FLUSH_MS))
                .open()?;
            let mut records = Vec::new();
            for pair in db.iter() {
                let (key, value) = pair?;
                // A record that cannot be read is one that was lost.
                if let (Ok(key), Some(record)) = (<[u8; 32]>::try_from(key.as_ref()), Record::decode(&value)) {
                    records.push((ContentHash::from_bytes(key), record));
                }
            }
            Ok((Self { db }, records))
        })
    }

    pub(super) fn put(&self, hash: &ContentHash, record: &Record) -> Result<(), IndexError> {
        guarded(|| self.db.insert(hash.as_bytes(), record.encode().as_slice()).map(drop))
    }

    pub(super) fn remove(&self, hash: &ContentHash) -> Result<(), IndexError> {
        guarded(|| self.db.remove(hash.as_bytes()).map(drop))
    }

    pub(super) fn flush(&self) -> Result<(), IndexError> {
        guarded(|| self.db.flush().map(drop))
    }

    /// Closes an index that has failed; what sled still tries to write, and how that fails, does not matter.
    pub(super) fn abandon(self) {
        let _ = guarded(|| {
            drop(self);
            Ok(())
        });
    }
}

/// Puts `folder` aside under a name with the time, and removes the oldest such folders.
fn quarantine(store: &Path, folder: &Path) -> Option<PathBuf> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let aside = store.join(format!("{QUARANTINE}{now_ms:013}"));
    if let Err(error) = fs::rename(folder, &aside) {
        tracing::error!(%error, folder = %files::quoted(folder), "a damaged store index cannot be put aside");
        return None;
    }
    let mut old: Vec<PathBuf> = fs::read_dir(store)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(QUARANTINE))
        .map(|entry| entry.path())
        .collect();
    old.sort_unstable();
    for path in old.iter().rev().skip(QUARANTINED) {
        let _ = fs::remove_dir_all(path);
    }
    Some(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { size: 7, origin: Some(MarketId::from_bytes([9; 32])), pinned: true, used: 1 << 40 }
    }

    #[test]
    fn records_read_back_and_nothing_else_does() {
        for record in [record(), Record { origin: None, pinned: false, ..record() }] {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Some(record));
            assert!((0..bytes.len()).all(|len| Record::decode(&bytes[..len]).is_none()));
        }
        assert_eq!(Record::decode(&[0; RECORD_BYTES]), None);
        assert_eq!(Record::decode(&[RECORD_VERSION; RECORD_BYTES + 1]), None);
    }

    #[test]
    fn the_index_outlives_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let hash = ContentHash::of(b"x");
        {
            let opened = Index::open(dir.path());
            opened.index.unwrap().put(&hash, &record()).unwrap();
        }
        let opened = Index::open(dir.path());
        assert_eq!(opened.records, [(hash, record())]);
        assert_eq!(opened.quarantined, None);
        opened.index.unwrap().remove(&hash).unwrap();
    }

    #[test]
    fn a_damaged_index_is_put_aside_and_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        drop(Index::open(dir.path()));
        for _ in 0..4 {
            fs::write(dir.path().join("index/conf"), b"\xff\xfe no sled").unwrap();
            let opened = Index::open(dir.path());
            assert!(opened.index.is_some());
            assert!(opened.quarantined.is_some_and(|aside| aside.exists()));
        }
        let names = fs::read_dir(dir.path()).unwrap().flatten();
        let aside = names.filter(|entry| entry.file_name().to_string_lossy().starts_with(QUARANTINE));
        assert_eq!(aside.count(), QUARANTINED);
    }

    /// What the disk or another process refuses is no damage.
    #[test]
    fn an_index_in_use_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Index::open(dir.path()).index.unwrap();
        let second = Index::open(dir.path());
        assert!(second.index.is_none() && second.quarantined.is_none());
        first.put(&ContentHash::of(b"x"), &record()).unwrap();
        drop(first);
        // sled's own thread lets go of the files a moment later.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let again = std::iter::repeat_with(|| Index::open(dir.path()))
            .find(|opened| opened.index.is_some() || std::time::Instant::now() > until);
        assert_eq!(again.unwrap().records.len(), 1);
    }

    #[test]
    fn a_panic_in_sled_is_an_error() {
        let outcome = guarded(|| -> sled::Result<()> { panic!("on purpose, as sled might") });
        assert!(matches!(outcome, Err(IndexError::Panicked)));
    }
}
