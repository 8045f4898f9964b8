//! Blobs in files named by their hash, with bounds, pins and eviction.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{ContentHash, MarketId};

use super::{
    StoreError, StoreLimits,
    blobs::Blobs,
    index::{Index, IndexError, Record},
    recent::Recent,
    table::Table,
};
use crate::home::{FileError, files};

/// An index that could not be opened (full disk) is tried again this often (B52: recovers within 2 s).
const INDEX_RETRY: Duration = Duration::from_secs(1);

/// The state of a store, for `status` and `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Blobs on disk.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs found damaged, and deleted, since it was opened.
    pub damaged: u64,
    /// Where a damaged index was put aside when it was opened.
    pub quarantined: Option<PathBuf>,
    /// False while pins, origins and uses are not written to disk (full disk).
    pub index: bool,
    /// True when the last blob did not fit on the disk.
    pub disk_full: bool,
}

/// Blobs by hash. All calls block on the disk: use it through [`super::StoreHandle`].
#[derive(Debug)]
pub struct ContentStore {
    dir: PathBuf,
    limits: StoreLimits,
    blobs: Blobs,
    table: Table,
    recent: Recent,
    index: Option<Index>,
    index_tried: Instant,
    damaged: u64,
    quarantined: Option<PathBuf>,
    disk_full: bool,
}

impl ContentStore {
    /// Opens the store in `dir`, or begins one. A damaged index is put aside and rebuilt; a full disk only means that
    /// nothing new is stored.
    ///
    /// # Errors
    /// The folder is a link, a file, or somebody else's (B56).
    pub fn open(dir: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        let mut store = Self::without_index(dir, limits)?;
        let opened = Index::open(dir);
        store.index = opened.index;
        store.quarantined = opened.quarantined;
        store.take_in(opened.records);
        Ok(store)
    }

    fn without_index(dir: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        match files::private_folder(dir) {
            // A disk that refuses is no reason not to start: the store is a cache.
            Err(FileError::Io { .. }) => {}
            other => other?,
        }
        Ok(Self {
            dir: dir.to_owned(),
            limits,
            blobs: Blobs::open(dir.join("blobs"))?,
            table: Table::default(),
            recent: Recent::new(limits.recent_bytes),
            index: None,
            index_tried: Instant::now(),
            damaged: 0,
            quarantined: None,
            disk_full: false,
        })
    }

    /// Makes table and index agree with the files: they are the truth.
    fn take_in(&mut self, records: Vec<(ContentHash, Record)>) {
        let mut known: HashMap<ContentHash, Record> = records.into_iter().collect();
        let mut found: Vec<_> = self
            .blobs
            .list()
            .into_iter()
            .map(|(hash, size)| {
                let before = known.remove(&hash);
                let fresh = Record { size, origin: None, pinned: false, used: 0 };
                (hash, before, Record { size, ..before.unwrap_or(fresh) })
            })
            .collect();
        for lost in known.keys() {
            self.note(|index| index.remove(lost));
        }
        found.sort_by_key(|(_, _, record)| record.used);
        for (hash, before, record) in found {
            let now = self.table.insert(hash, record);
            if before != Some(now) {
                self.note(|index| index.put(&hash, &now));
            }
        }
        while self.table.bytes() > self.limits.total_bytes || self.table.len() > self.limits.blobs {
            if !self.evict_one(None) {
                break;
            }
        }
    }

    /// The blob, if it is there and whole. One that is not is deleted and counted (B53).
    pub fn get(&mut self, hash: &ContentHash) -> Option<Bytes> {
        self.retry_index();
        if let Some(bytes) = self.recent.get(hash) {
            self.touch(hash);
            return Some(bytes);
        }
        let size = self.table.get(hash)?.size;
        // A file larger than any blob may be is none of ours.
        let bytes = match self.blobs.read(hash, size.min(self.limits.blob_bytes)) {
            Ok(bytes) if ContentHash::of(&bytes) == *hash => Bytes::from(bytes),
            outcome => {
                let why = outcome.err().map_or_else(|| "its hash is wrong".to_owned(), |error| error.to_string());
                tracing::warn!(hash = hash.short(), why, "damaged blob deleted");
                self.damaged += 1;
                self.delete(hash);
                return None;
            }
        };
        self.recent.put(*hash, bytes.clone());
        self.touch(hash);
        Some(bytes)
    }

    /// Stores a blob, fetched for the market `origin` if for any, and makes room by deleting what was not used for
    /// longest: of that market when it has more than its share.
    pub fn put(&mut self, bytes: Bytes, origin: Option<MarketId>) -> Result<ContentHash, StoreError> {
        self.retry_index();
        let size = bytes.len() as u64;
        if size > self.limits.blob_bytes {
            return Err(StoreError::TooLarge { size, limit: self.limits.blob_bytes });
        }
        let hash = ContentHash::of(&bytes);
        // In memory first: on a full disk it can be used at least for a while.
        self.recent.put(hash, bytes.clone());
        let before = self.table.get(&hash).copied();
        if before.is_some() && self.blobs.is_there(&hash, size) {
            self.touch(&hash);
            return Ok(hash);
        }
        self.delete_file(&hash);
        self.make_room(size, origin)?;
        self.check_free(size)?;
        self.write(&hash, &bytes)?;
        // Its file had vanished: what the owner wanted kept is kept again.
        let pinned = before.is_some_and(|record| record.pinned);
        let record = self.table.insert(hash, Record { size, origin, pinned, used: 0 });
        self.note(|index| index.put(&hash, &record));
        Ok(hash)
    }

    /// True when the blob is known; not whether its bytes are still right: only reading tells.
    pub fn has(&self, hash: &ContentHash) -> bool {
        self.table.get(hash).is_some() || self.recent.size(hash).is_some()
    }

    /// Bytes of the blob.
    pub fn size(&self, hash: &ContentHash) -> Option<u64> {
        self.table.get(hash).map(|record| record.size).or_else(|| self.recent.size(hash))
    }

    /// Keeps the blob until [`Self::unpin`], whatever must go. False when it is not there.
    pub fn pin(&mut self, hash: &ContentHash) -> bool {
        self.set_pin(hash, true)
    }

    /// Lets the blob go when room is needed. False when it is not there.
    pub fn unpin(&mut self, hash: &ContentHash) -> bool {
        self.set_pin(hash, false)
    }

    fn set_pin(&mut self, hash: &ContentHash, pinned: bool) -> bool {
        let Some(record) = self.table.set_pin(hash, pinned) else { return false };
        self.note(|index| index.put(hash, &record));
        true
    }

    /// Bytes of all blobs on disk.
    pub fn total_bytes(&self) -> u64 {
        self.table.bytes()
    }

    /// How the store is.
    pub fn health(&self) -> StoreHealth {
        StoreHealth {
            blobs: self.table.len(),
            bytes: self.table.bytes(),
            damaged: self.damaged,
            quarantined: self.quarantined.clone(),
            index: self.index.is_some(),
            disk_full: self.disk_full,
        }
    }

    /// Writes what the index has not written yet.
    pub fn flush(&mut self) {
        self.note(Index::flush);
    }

    // ---- room ----------------------------------------------------------------------------------------------------

    fn make_room(&mut self, size: u64, origin: Option<MarketId>) -> Result<(), StoreError> {
        if let Some(market) = origin {
            let limit = self.limits.market_bytes;
            while self.table.market_bytes(&market) + size > limit {
                if !self.evict_one(Some(market)) {
                    return Err(StoreError::Full { used: self.table.market_bytes(&market), limit });
                }
            }
        }
        while self.table.bytes() + size > self.limits.total_bytes || self.table.len() >= self.limits.blobs {
            if !self.evict_one(None) {
                return Err(StoreError::Full { used: self.table.bytes(), limit: self.limits.total_bytes });
            }
        }
        Ok(())
    }

    /// Deletes the blob (of one market) that was not used for longest. False when there is none that may go.
    fn evict_one(&mut self, of: Option<MarketId>) -> bool {
        self.table.oldest(of).inspect(|hash| self.delete(hash)).is_some()
    }

    /// The disk must keep its minimum free with this blob on it.
    fn check_free(&mut self, size: u64) -> Result<(), StoreError> {
        // A file system that does not tell is not full until it says so.
        let Some((free, total)) = self.blobs.free() else { return Ok(()) };
        let needed = size.saturating_add(self.limits.must_stay_free(total));
        self.disk_full = free < needed;
        if self.disk_full {
            Err(StoreError::DiskFull { path: self.blobs.dir().to_owned(), free, needed })
        } else {
            Ok(())
        }
    }

    // ---- files and index -----------------------------------------------------------------------------------------

    fn write(&mut self, hash: &ContentHash, bytes: &[u8]) -> Result<(), StoreError> {
        let Err(source) = self.blobs.write(hash, bytes) else { return Ok(()) };
        self.disk_full = files::is_disk_full(&source);
        if self.disk_full {
            let free = self.blobs.free().map_or(0, |(free, _)| free);
            return Err(StoreError::DiskFull { path: self.blobs.dir().to_owned(), free, needed: bytes.len() as u64 });
        }
        Err(StoreError::Write { path: self.blobs.path(hash), source })
    }

    fn touch(&mut self, hash: &ContentHash) {
        if let Some(record) = self.table.touch(hash) {
            self.note(|index| index.put(hash, &record));
        }
    }

    /// Deletes a blob from disk and memory.
    fn delete(&mut self, hash: &ContentHash) {
        self.recent.remove(hash);
        self.delete_file(hash);
    }

    fn delete_file(&mut self, hash: &ContentHash) {
        if self.table.remove(hash).is_none() {
            return;
        }
        if let Err(error) = self.blobs.remove(hash) {
            tracing::warn!(%error, hash = hash.short(), "blob not deleted");
        }
        self.note(|index| index.remove(hash));
    }

    /// Does something with the index, if there is one. After an error there is none until it is opened again: sled does
    /// not recover from a full disk by itself.
    fn note(&mut self, change: impl FnOnce(&Index) -> Result<(), IndexError>) {
        let Some(Err(error)) = self.index.as_ref().map(change) else { return };
        tracing::warn!(%error, "store index closed");
        self.index_tried = Instant::now();
        if let Some(index) = self.index.take() {
            index.abandon();
        }
    }

    /// Opens an index that could not be opened or was closed after an error, and writes everything known to it.
    fn retry_index(&mut self) {
        if self.index.is_some() || self.index_tried.elapsed() < INDEX_RETRY {
            return;
        }
        self.index_tried = Instant::now();
        let opened = Index::open(&self.dir);
        self.index = opened.index;
        self.quarantined = opened.quarantined.or(self.quarantined.take());
        for (hash, _) in &opened.records {
            if self.table.get(hash).is_none() {
                self.note(|index| index.remove(hash));
            }
        }
        let records: Vec<_> = self.table.iter().map(|(hash, record)| (*hash, *record)).collect();
        for (hash, record) in records {
            self.note(|index| index.put(&hash, &record));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write,
    };

    use super::*;

    const MARKET: MarketId = MarketId::from_bytes([1; 32]);

    /// Small bounds, and no demand on the test machine's disk.
    const SMALL: StoreLimits = StoreLimits {
        total_bytes: 1_000,
        market_bytes: 250,
        blobs: 50,
        blob_bytes: 200,
        recent_bytes: 0,
        free_bytes: 0,
        free_percent: 0,
        free_share_bytes: 0,
    };

    fn open(dir: &Path) -> ContentStore {
        ContentStore::open(dir, SMALL).unwrap()
    }

    fn blob(n: u16, len: usize) -> Bytes {
        n.to_be_bytes().into_iter().cycle().take(len).collect()
    }

    #[test]
    fn blobs_outlive_the_process_and_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let hash = {
            let mut store = open(dir.path());
            let hash = store.put(blob(1, 100), Some(MARKET)).unwrap();
            assert_eq!(store.put(blob(1, 100), None).unwrap(), hash);
            assert!(store.pin(&hash));
            assert_eq!((store.total_bytes(), store.size(&hash), store.has(&hash)), (100, Some(100), true));
            hash
        };
        {
            let mut store = open(dir.path());
            assert_eq!(store.get(&hash), Some(blob(1, 100)));
            let record = *store.table.get(&hash).unwrap();
            assert_eq!((record.pinned, record.origin), (true, Some(MARKET)));
        }
        fs::remove_dir_all(dir.path().join("index")).unwrap();
        let mut store = open(dir.path());
        assert_eq!(store.get(&hash), Some(blob(1, 100)));
        assert_eq!(store.get(&ContentHash::of(b"other")), None);
    }

    #[test]
    fn the_least_recently_used_go_first_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let hashes: Vec<_> = (0..10).map(|n| store.put(blob(n, 100), None).unwrap()).collect();
        // A use is written to the index now and then.
        for _ in 0..super::super::table::USES_PER_WRITE {
            store.get(&hashes[0]).unwrap();
        }
        assert!(store.pin(&hashes[1]));
        drop(store);
        let mut store = open(dir.path());
        for n in 10..13 {
            store.put(blob(n, 100), None).unwrap();
        }
        let left: Vec<_> = hashes.iter().map(|hash| store.has(hash)).collect();
        assert_eq!(left, [true, true, false, false, false, true, true, true, true, true]);
        assert_eq!(store.total_bytes(), 1_000);
    }

    #[test]
    fn bounds_hold_and_pins_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let too_large = store.put(blob(0, 201), None);
        assert!(matches!(too_large, Err(StoreError::TooLarge { size: 201, limit: 200 })), "{too_large:?}");
        // Many small ones are bounded by number.
        for n in 0..60 {
            store.put(blob(n, 2), None).unwrap();
        }
        assert_eq!(store.health().blobs, 50);
        let hashes: Vec<_> = (100..105).map(|n| store.put(blob(n, 200), None).unwrap()).collect();
        assert_eq!(store.total_bytes(), 1_000);
        assert!(hashes.iter().all(|hash| store.pin(hash)));
        assert!(matches!(store.put(blob(106, 1), None), Err(StoreError::Full { used: 1_000, limit: 1_000 })));
        assert!(store.unpin(&hashes[3]));
        store.put(blob(106, 1), None).unwrap();
        assert_eq!(hashes.iter().filter(|hash| store.has(hash)).count(), 4);
        assert!(!store.pin(&hashes[3]));
    }

    #[test]
    fn b51_one_market_cannot_push_out_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let others: Vec<_> = (0..7).map(|n| store.put(blob(n, 100), None).unwrap()).collect();
        for n in 100..200 {
            store.put(blob(n, 100), Some(MARKET)).unwrap();
            assert!(store.table.market_bytes(&MARKET) <= SMALL.market_bytes);
        }
        assert!(others.iter().all(|hash| store.has(hash)));
        // Also not with pins.
        let last: Vec<_> = [198, 199].map(|n| ContentHash::of(&blob(n, 100))).to_vec();
        assert!(last.iter().all(|hash| store.pin(hash)));
        assert!(matches!(store.put(blob(200, 100), Some(MARKET)), Err(StoreError::Full { used: 200, limit: 250 })));
    }

    #[test]
    fn b53_no_flipped_or_cut_file_is_ever_believed() {
        let dir = tempfile::tempdir().unwrap();
        let good = blob(7, 200);
        let hash = ContentHash::of(&good);
        let path = { open(dir.path()).blobs.path(&hash) };
        for round in 0..=(200 * 3) {
            let mut store = open_without_index(dir.path());
            store.put(good.clone(), None).unwrap();
            let mut bytes = good.to_vec();
            match (round / 200, round % 200) {
                (0, at) => bytes[at] ^= 1,
                (1, at) => bytes.truncate(at),
                (2, at) => bytes.extend(std::iter::repeat_n(0, at + 1)),
                _ => fs::remove_file(&path).unwrap(),
            }
            if path.exists() {
                fs::write(&path, bytes).unwrap();
            }
            // In the running store, and in the next one.
            let mut next = open_without_index(dir.path());
            assert_eq!(next.get(&hash), None);
            assert_eq!(store.get(&hash), None);
            assert_eq!(store.health().damaged, 1);
            assert!(!path.exists() && !store.has(&hash));
            store.put(good.clone(), None).unwrap();
            assert_eq!(store.get(&hash), Some(good.clone()));
        }
    }

    /// An index is slow to open, and not what these tests are about.
    fn open_without_index(dir: &Path) -> ContentStore {
        let mut store = ContentStore::without_index(dir, SMALL).unwrap();
        store.take_in(Vec::new());
        // Far from the next try.
        store.index_tried = Instant::now() + Duration::from_secs(3_600);
        store
    }

    #[test]
    fn b53_the_store_opens_and_serves_whatever_happens_to_the_index() {
        let origin = tempfile::tempdir().unwrap();
        let hashes: Vec<_> = {
            let mut store = open(origin.path());
            (0..20).map(|n| store.put(blob(n, 40), None).unwrap()).collect()
        };
        let db = fs::read(origin.path().join("index/db")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut state = 1u64;
        for round in 0..100 {
            let _ = fs::remove_dir_all(dir.path().join("index"));
            copy(&origin.path().join("blobs"), &dir.path().join("blobs"));
            copy(&origin.path().join("index"), &dir.path().join("index"));
            let mut bytes = db.clone();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] ^= 1 << (state % 8);
            fs::write(dir.path().join("index/db"), bytes).unwrap();
            let mut store = open(dir.path());
            assert!(store.health().index, "round {round}, offset {at}");
            for hash in &hashes {
                assert!(store.get(hash).is_none_or(|bytes| ContentHash::of(&bytes) == *hash));
            }
            store.put(blob(99, 40), None).unwrap();
        }
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    #[test]
    fn b56_a_blob_that_is_a_link_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let hash = store.put(blob(1, 100), None).unwrap();
        let (path, elsewhere) = (store.blobs.path(&hash), dir.path().join("elsewhere"));
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(store.get(&hash), None);
        assert_eq!(fs::read(&elsewhere).unwrap(), blob(1, 100));
    }

    #[test]
    fn b52_a_disk_below_its_minimum_takes_nothing_but_memory_does() {
        let dir = tempfile::tempdir().unwrap();
        let limits = StoreLimits { free_bytes: u64::MAX / 2, recent_bytes: 1_000, ..SMALL };
        let mut store = ContentStore::open(dir.path(), limits).unwrap();
        let error = store.put(blob(1, 100), None).unwrap_err();
        assert!(error.to_string().starts_with("disk-full: "), "{error}");
        let hash = ContentHash::of(&blob(1, 100));
        assert_eq!((store.get(&hash), store.total_bytes()), (Some(blob(1, 100)), 0));
        assert!(store.has(&hash) && store.health().disk_full);
        // Space comes back.
        store.limits.free_bytes = 0;
        store.put(blob(1, 100), None).unwrap();
        assert!(!store.health().disk_full && store.total_bytes() == 100);
    }

    #[test]
    fn b52_a_disk_that_takes_not_even_a_folder_leaves_a_store_in_memory() {
        // No folder can be made in here, by root neither.
        let limits = StoreLimits { recent_bytes: 1_000, ..SMALL };
        let mut store = ContentStore::open(Path::new("/proc/self/store"), limits).unwrap();
        assert!(store.put(blob(1, 100), None).is_err());
        assert_eq!(store.get(&ContentHash::of(&blob(1, 100))), Some(blob(1, 100)));
        assert_eq!(store.health(), StoreHealth::default());
        // Folders that come later are made at the next blob.
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        fs::remove_dir_all(dir.path().join("blobs")).unwrap();
        let hash = store.put(blob(1, 100), None).unwrap();
        assert_eq!(store.get(&hash), Some(blob(1, 100)));
    }

    #[test]
    fn an_index_that_fails_is_opened_again_and_told_everything() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let hashes: Vec<_> = (0..3).map(|n| store.put(blob(n, 100), None).unwrap()).collect();
        store.note(|_| Err(IndexError::Panicked));
        assert!(!store.health().index);
        // Without it: a blob comes, one goes, one is pinned.
        let late = store.put(blob(9, 100), None).unwrap();
        store.delete(&hashes[0]);
        assert!(store.pin(&hashes[1]));
        store.index_tried -= INDEX_RETRY;
        assert!(store.get(&late).is_some() && store.health().index);
        drop(store);
        let records: HashMap<_, _> = Index::open(dir.path()).records.into_iter().collect();
        let mut known: Vec<_> = records.keys().copied().collect();
        known.sort_unstable();
        let mut expected = vec![hashes[1], hashes[2], late];
        expected.sort_unstable();
        assert_eq!(known, expected);
        assert!(records[&hashes[1]].pinned);
    }

    #[test]
    fn a_blob_whose_file_vanished_can_be_put_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let hash = store.put(blob(1, 100), Some(MARKET)).unwrap();
        store.pin(&hash);
        for spoil in [|path: &Path| fs::remove_file(path), |path: &Path| fs::write(path, b"short")] {
            spoil(&store.blobs.path(&hash)).unwrap();
            store.put(blob(1, 100), Some(MARKET)).unwrap();
            assert_eq!((store.get(&hash), store.total_bytes()), (Some(blob(1, 100)), 100));
            assert!(store.table.get(&hash).unwrap().pinned);
        }
    }

    #[test]
    fn what_a_killed_process_left_is_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let hash = open(dir.path()).put(blob(1, 100), None).unwrap();
        let part = dir.path().join("blobs").join(format!("{}.part", ContentHash::of(b"x")));
        fs::write(&part, b"half").unwrap();
        let store = open(dir.path());
        assert!(!part.exists() && store.has(&hash));
    }

    /// A disk of 8 MiB that is full in truth, by the blobs and then by somebody else.
    #[test]
    fn b52_a_full_disk_stops_new_blobs_only_and_restarts_and_recovers() {
        let disk = Path::new("/mnt");
        let setup = "mount -t tmpfs -o size=8m,mode=700 none /mnt";
        let name = "store::content::tests::b52_a_full_disk_stops_new_blobs_only_and_restarts_and_recovers";
        if !crate::own_mounts::inside(name, setup) {
            return;
        }
        let limits = StoreLimits { total_bytes: 1 << 30, blob_bytes: 1 << 20, blobs: 1_000, ..SMALL };
        let dir = disk.join("store");
        let mut store = ContentStore::open(&dir, limits).unwrap();
        let mut hashes = Vec::new();
        let refused = loop {
            match store.put(blob(hashes.len() as u16, 300_000), None) {
                Ok(hash) => hashes.push(hash),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
        assert!(hashes.len() > 10);
        // To the last byte, so that the index cannot be written either.
        let ballast = disk.join("ballast");
        let mut file = File::create(&ballast).unwrap();
        while file.write(&[0; 4_096]).is_ok_and(|written| written > 0) {}
        drop(file);
        let whole = |store: &mut ContentStore, what: &str| {
            for (n, hash) in hashes.iter().enumerate() {
                assert_eq!(store.get(hash), Some(blob(n as u16, 300_000)), "{what}");
            }
        };
        whole(&mut store, "running");
        store.pin(&hashes[0]);
        store.flush();
        assert!(matches!(store.put(blob(999, 300_000), None), Err(StoreError::DiskFull { .. })));
        drop(store);
        // A restart while it is full.
        let mut store = ContentStore::open(&dir, limits).unwrap();
        whole(&mut store, "after a restart");
        let health = store.health();
        assert!(!health.index, "sled opened on a full disk: is this test still about anything?");
        assert_eq!(health.quarantined, None, "a full disk is no damage");
        assert!(matches!(store.put(blob(999, 300_000), None), Err(StoreError::DiskFull { .. })));
        assert!(store.health().disk_full);
        // Space comes back: at once for blobs, at the next try for the index.
        fs::remove_file(&ballast).unwrap();
        store.delete(&hashes[1]);
        store.put(blob(999, 300_000), None).unwrap();
        let until = Instant::now() + INDEX_RETRY * 2;
        while !store.health().index && Instant::now() < until {
            store.get(&hashes[0]);
        }
        assert!(store.health().index && !store.health().disk_full);
        assert!(store.pin(&hashes[2]));
        drop(store);
        // sled's own thread lets go of the files a moment later.
        let until = Instant::now() + Duration::from_secs(10);
        let again = std::iter::repeat_with(|| ContentStore::open(&dir, limits).unwrap())
            .find(|store| store.health().index || Instant::now() > until);
        assert!(again.unwrap().table.get(&hashes[2]).unwrap().pinned);
    }
}
