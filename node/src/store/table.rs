//! Which blobs there are, how large, whose, and which goes first: the pure half of the store.

use std::collections::{BTreeMap, HashMap};

use msm_protocol::{ContentHash, MarketId};

use super::index::Record;

/// A use is written to the index when this many others have come since the last one written: order among blobs used
/// together is not worth a write for each read.
pub(super) const USES_PER_WRITE: u64 = 64;

/// The blobs on disk. This is what counts while a store is open; the index is its copy.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<ContentHash, Entry>,
    /// Unpinned blobs by use, oldest first.
    evictable: BTreeMap<u64, ContentHash>,
    /// Bytes for each market.
    markets: HashMap<MarketId, u64>,
    bytes: u64,
    /// Counts uses; each has a number of its own.
    clock: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    record: Record,
    /// The use that the index knows.
    written: u64,
}

impl Table {
    pub(super) fn get(&self, hash: &ContentHash) -> Option<&Record> {
        self.entries.get(hash).map(|entry| &entry.record)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ContentHash, &Record)> {
        self.entries.iter().map(|(hash, entry)| (hash, &entry.record))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn market_bytes(&self, market: &MarketId) -> u64 {
        self.markets.get(market).copied().unwrap_or(0)
    }

    /// Adds a blob that is not there, used last at `record.used` or, when that number was given already, after it.
    /// Returns the record as it is now.
    pub(super) fn insert(&mut self, hash: ContentHash, record: Record) -> Record {
        self.clock = record.used.max(self.clock + 1);
        let record = Record { used: self.clock, ..record };
        self.bytes += record.size;
        if let Some(market) = record.origin {
            *self.markets.entry(market).or_default() += record.size;
        }
        if !record.pinned {
            self.evictable.insert(record.used, hash);
        }
        self.entries.insert(hash, Entry { record, written: record.used });
        record
    }

    pub(super) fn remove(&mut self, hash: &ContentHash) -> Option<Record> {
        let Entry { record, .. } = self.entries.remove(hash)?;
        self.evictable.remove(&record.used);
        self.bytes -= record.size;
        if let Some(market) = record.origin
            && let Some(bytes) = self.markets.get_mut(&market)
        {
            *bytes -= record.size;
            if *bytes == 0 {
                self.markets.remove(&market);
            }
        }
        Some(record)
    }

    /// Notes a use. The record, when it is time to write it to the index.
    pub(super) fn touch(&mut self, hash: &ContentHash) -> Option<Record> {
        let entry = self.entries.get_mut(hash)?;
        self.clock += 1;
        let before = std::mem::replace(&mut entry.record.used, self.clock);
        let record = entry.record;
        if !record.pinned {
            self.evictable.remove(&before);
            self.evictable.insert(record.used, *hash);
        }
        let due = record.used - entry.written >= USES_PER_WRITE;
        due.then(|| {
            entry.written = record.used;
            record
        })
    }

    /// Keeps a blob from going, or lets it. The record, if there is such a blob.
    pub(super) fn set_pin(&mut self, hash: &ContentHash, pinned: bool) -> Option<Record> {
        let entry = self.entries.get_mut(hash)?;
        entry.record.pinned = pinned;
        entry.written = entry.record.used;
        if pinned {
            self.evictable.remove(&entry.record.used);
        } else {
            self.evictable.insert(entry.record.used, *hash);
        }
        Some(entry.record)
    }

    /// The blob (of one market) that was not used for longest and may go.
    pub(super) fn oldest(&self, of: Option<MarketId>) -> Option<ContentHash> {
        let origin = |hash: &ContentHash| self.get(hash).and_then(|record| record.origin);
        self.evictable.values().find(|hash| of.is_none() || origin(hash) == of).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKET: MarketId = MarketId::from_bytes([1; 32]);

    fn hash(n: u8) -> ContentHash {
        ContentHash::from_bytes([n; 32])
    }

    fn record(size: u64, origin: Option<MarketId>, used: u64) -> Record {
        Record { size, origin, pinned: false, used }
    }

    #[test]
    fn order_is_by_use_and_numbers_are_never_shared() {
        let mut table = Table::default();
        // As an index might hold them after a crash: the same number twice, and one far ahead.
        assert_eq!(table.insert(hash(1), record(1, None, 5)).used, 5);
        assert_eq!(table.insert(hash(2), record(1, None, 5)).used, 6);
        assert_eq!(table.insert(hash(3), record(1, None, 1 << 40)).used, 1 << 40);
        assert_eq!(table.insert(hash(4), record(1, None, 0)).used, (1 << 40) + 1);
        table.touch(&hash(1));
        let order = std::iter::from_fn(|| table.oldest(None).inspect(|hash| assert!(table.remove(hash).is_some())));
        assert_eq!(order.collect::<Vec<_>>(), [hash(2), hash(3), hash(4), hash(1)]);
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }

    #[test]
    fn pinned_blobs_do_not_go_and_markets_are_told_apart() {
        let mut table = Table::default();
        for n in 1..=4 {
            table.insert(hash(n), record(10, (n % 2 == 0).then_some(MARKET), 0));
        }
        assert_eq!((table.oldest(None), table.oldest(Some(MARKET))), (Some(hash(1)), Some(hash(2))));
        assert!(table.set_pin(&hash(1), true).is_some_and(|record| record.pinned));
        table.set_pin(&hash(2), true);
        // A use of a pinned blob does not make it evictable.
        table.touch(&hash(1));
        assert_eq!((table.oldest(None), table.oldest(Some(MARKET))), (Some(hash(3)), Some(hash(4))));
        table.set_pin(&hash(2), false);
        assert_eq!(table.oldest(Some(MARKET)), Some(hash(2)));
        assert_eq!((table.market_bytes(&MARKET), table.bytes()), (20, 40));
        table.remove(&hash(2));
        table.remove(&hash(4));
        assert_eq!((table.market_bytes(&MARKET), table.bytes()), (0, 20));
        assert_eq!(table.set_pin(&hash(9), true), None);
    }

    #[test]
    fn uses_are_written_now_and_then() {
        let mut table = Table::default();
        table.insert(hash(1), record(1, None, 0));
        let written = (0..USES_PER_WRITE * 3).filter(|_| table.touch(&hash(1)).is_some()).count();
        assert_eq!(written, 3);
    }
}
