//! Blobs in memory whose hash was checked, least recently used first to go.

use std::collections::VecDeque;

use bytes::Bytes;
use msm_protocol::ContentHash;

/// Blobs looked through at a read; small blobs are quickly read again.
const RECENT_BLOBS: usize = 512;

/// A few blobs, bounded in number and bytes.
#[derive(Debug)]
pub(super) struct Recent {
    /// Oldest use first.
    blobs: VecDeque<(ContentHash, Bytes)>,
    bytes: u64,
    limit: u64,
}

impl Recent {
    pub(super) fn new(limit: u64) -> Self {
        Self { blobs: VecDeque::new(), bytes: 0, limit }
    }

    /// The blob, which now is the most recently used.
    pub(super) fn get(&mut self, hash: &ContentHash) -> Option<Bytes> {
        let at = self.blobs.iter().rposition(|(known, _)| known == hash)?;
        let blob = self.blobs.remove(at)?;
        self.blobs.push_back(blob.clone());
        Some(blob.1)
    }

    /// Keeps a blob whose hash is right.
    pub(super) fn put(&mut self, hash: ContentHash, bytes: Bytes) {
        self.remove(&hash);
        let size = bytes.len() as u64;
        if size > self.limit {
            return;
        }
        while self.bytes + size > self.limit || self.blobs.len() >= RECENT_BLOBS {
            let Some((_, oldest)) = self.blobs.pop_front() else { break };
            self.bytes -= oldest.len() as u64;
        }
        self.bytes += size;
        self.blobs.push_back((hash, bytes));
    }

    pub(super) fn size(&self, hash: &ContentHash) -> Option<u64> {
        self.blobs.iter().find(|(known, _)| known == hash).map(|(_, bytes)| bytes.len() as u64)
    }

    pub(super) fn remove(&mut self, hash: &ContentHash) {
        if let Some(at) = self.blobs.iter().position(|(known, _)| known == hash)
            && let Some((_, bytes)) = self.blobs.remove(at)
        {
            self.bytes -= bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_bound_holds() {
        let blob = |byte: u8, len| Bytes::from(vec![byte; len]);
        let hash = |byte: u8| ContentHash::from_bytes([byte; 32]);
        let mut recent = Recent::new(100);
        recent.put(hash(1), blob(1, 40));
        recent.put(hash(2), blob(2, 40));
        assert_eq!(recent.get(&hash(1)), Some(blob(1, 40)));
        recent.put(hash(3), blob(3, 40));
        assert_eq!((recent.size(&hash(1)), recent.size(&hash(2)), recent.bytes), (Some(40), None, 80));
        recent.put(hash(4), blob(4, 101));
        assert_eq!(recent.size(&hash(4)), None);
        recent.put(hash(1), blob(1, 10));
        assert_eq!((recent.size(&hash(1)), recent.bytes), (Some(10), 50));
        for n in 0..RECENT_BLOBS + 10 {
            recent.put(ContentHash::of(&n.to_be_bytes()), Bytes::new());
        }
        assert_eq!(recent.blobs.len(), RECENT_BLOBS);
    }
}
