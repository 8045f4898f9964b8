//! Puts the chunks of one input or output together, and hashes them while they arrive.

use bytes::Bytes;
use msm_protocol::{ContentHash, hash::Hasher, job::ChunkHead, limits::CHUNK_BYTES};

/// Memory taken with the first chunk. The buffer then grows fourfold: large ones are moved by the kernel, not copied.
const FIRST_BYTES: usize = 4 * CHUNK_BYTES;

/// Why chunks do not add up to what was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// More bytes were announced than there may be.
    #[error("{size} bytes announced, at most {limit} are allowed")]
    TooLarge {
        /// Bytes announced.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A chunk out of order or past the end.
    #[error("chunk at {offset}, expected {expected}")]
    Offset {
        /// Where the chunk says it belongs.
        offset: u64,
        /// Where the next chunk belongs.
        expected: u64,
    },
    /// What lies in the frame is not as long as it was announced.
    #[error("{got} bytes in the frame, {size} announced")]
    Length {
        /// Bytes in the frame.
        got: usize,
        /// Bytes announced.
        size: u64,
    },
    /// The bytes are not those announced.
    #[error("the bytes do not match their hash")]
    Hash,
}

/// An input or output on its way.
pub struct Assembly {
    hash: ContentHash,
    size: u64,
    bytes: Vec<u8>,
    hasher: Hasher,
}

impl Assembly {
    /// Expects `size` bytes with `hash`. Memory is taken as bytes arrive, not as they are announced.
    pub fn new(hash: ContentHash, size: u64, limit: u64) -> Result<Self, AssemblyError> {
        if size > limit {
            return Err(AssemblyError::TooLarge { size, limit });
        }
        Ok(Self { hash, size, bytes: Vec::new(), hasher: Hasher::default() })
    }

    /// Bytes expected.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The buffer to which the bytes of this chunk are to be appended. Give it back with [`Assembly::filled`].
    pub fn buffer(&mut self, chunk: &ChunkHead) -> Result<Vec<u8>, AssemblyError> {
        let expected = self.bytes.len() as u64;
        let end = expected.saturating_add(chunk.len as u64);
        if chunk.at != expected || end > self.size || chunk.len == 0 {
            return Err(AssemblyError::Offset { offset: chunk.at, expected });
        }
        let capacity = self.bytes.capacity();
        if (capacity as u64) < end {
            let wanted = (4 * capacity).max(FIRST_BYTES).min(usize::try_from(self.size).unwrap_or(usize::MAX));
            self.bytes.reserve_exact(wanted.max(end as usize) - self.bytes.len());
        }
        Ok(std::mem::take(&mut self.bytes))
    }

    /// Takes the buffer back with one more chunk in it. `Some` when the last byte has arrived and the hash is right.
    pub fn filled(&mut self, chunk: &ChunkHead, buffer: Vec<u8>) -> Result<Option<Bytes>, AssemblyError> {
        self.hasher.update(&buffer[buffer.len().saturating_sub(chunk.len)..]);
        self.bytes = buffer;
        if (self.bytes.len() as u64) < self.size { Ok(None) } else { self.finish().map(Some) }
    }

    /// The whole, when it lay in the frame that announced it or has no bytes; `None` when it follows in chunks.
    pub fn at_once(&mut self, inline: Option<Vec<u8>>) -> Result<Option<Bytes>, AssemblyError> {
        match inline {
            Some(bytes) if bytes.len() as u64 != self.size || bytes.is_empty() => {
                Err(AssemblyError::Length { got: bytes.len(), size: self.size })
            }
            Some(bytes) => {
                self.hasher.update(&bytes);
                self.bytes = bytes;
                self.finish().map(Some)
            }
            None if self.size == 0 => self.finish().map(Some),
            None => Ok(None),
        }
    }

    fn finish(&mut self) -> Result<Bytes, AssemblyError> {
        let (bytes, hasher) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.hasher));
        if hasher.finish() == self.hash { Ok(bytes.into()) } else { Err(AssemblyError::Hash) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(to: &mut Assembly, at: u64, bytes: &[u8]) -> Result<Option<Bytes>, AssemblyError> {
        let head = ChunkHead { at, id: 0, len: bytes.len() };
        let mut buffer = to.buffer(&head)?;
        buffer.extend_from_slice(bytes);
        to.filled(&head, buffer)
    }

    #[test]
    fn chunks_add_up_or_are_refused() {
        let hash = ContentHash::of(b"abcd");
        let new = || Assembly::new(hash, 4, 10).unwrap();
        let mut good = new();
        assert_eq!(add(&mut good, 0, b"ab"), Ok(None));
        assert_eq!(add(&mut good, 2, b"cd").unwrap().as_deref(), Some(&b"abcd"[..]));
        assert_eq!(add(&mut new(), 1, b"a"), Err(AssemblyError::Offset { offset: 1, expected: 0 }));
        assert!(matches!(add(&mut new(), 0, b"abcde"), Err(AssemblyError::Offset { .. })));
        assert!(matches!(add(&mut new(), 0, b""), Err(AssemblyError::Offset { .. })), "an endless stream of nothing");
        assert_eq!(add(&mut new(), 0, b"abcx"), Err(AssemblyError::Hash));
        assert_eq!(Assembly::new(hash, 11, 10).err(), Some(AssemblyError::TooLarge { size: 11, limit: 10 }));
    }

    #[test]
    fn what_lies_in_the_frame_is_all_or_wrong() {
        let new = || Assembly::new(ContentHash::of(b"abcd"), 4, 10).unwrap();
        assert_eq!(new().at_once(Some(b"abcd".to_vec())).unwrap().as_deref(), Some(&b"abcd"[..]));
        assert_eq!(new().at_once(None), Ok(None));
        assert_eq!(new().at_once(Some(b"abc".to_vec())), Err(AssemblyError::Length { got: 3, size: 4 }));
        assert_eq!(new().at_once(Some(b"abcx".to_vec())), Err(AssemblyError::Hash));
        let empty = |hash: &[u8]| Assembly::new(ContentHash::of(hash), 0, 10).unwrap();
        assert_eq!(empty(b"").at_once(None), Ok(Some(Bytes::new())));
        assert_eq!(empty(b"x").at_once(None), Err(AssemblyError::Hash));
        assert!(empty(b"").at_once(Some(Vec::new())).is_err(), "one way to say it");
    }

    /// A sender that announces much and sends little holds little.
    #[test]
    fn memory_is_taken_as_bytes_arrive() {
        let mut assembly = Assembly::new(ContentHash::of(b""), 64 << 20, 64 << 20).unwrap();
        assert_eq!(assembly.bytes.capacity(), 0);
        add(&mut assembly, 0, b"x").unwrap();
        assert!(assembly.bytes.capacity() <= FIRST_BYTES, "{}", assembly.bytes.capacity());
    }
}
