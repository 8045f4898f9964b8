//! The content store: blobs by hash. A cache that is never believed, only checked.
//!
//! - [`ContentStore`]: one file a blob, re-hashed whenever it is read from disk; what is wrong is deleted and reads as
//!   absent.
//! - `blobs`: the files.
//! - `index`: sizes, pins, origins and last use, in sled. It can be lost at any time: it is rebuilt from the files.
//! - `table`: what is there and what goes first; pure.
//! - `recent`: blobs that were checked lately, in memory.
//! - [`StoreHandle`]: the store on a thread of its own, behind a bounded queue.
//!
//! Why blobs are not in sled itself: measured with sled 0.34.7, its cache limit does not hold (reading 128 MiB leaves
//! 128 MiB in memory), files grow to 1.4 to 2.4 times the content and do not shrink, and a database on a full disk does
//! not open, while files can still be read there.

mod blobs;
mod content;
mod handle;
mod index;
mod recent;
mod table;

use std::{io, path::PathBuf};

use msm_protocol::limits::PACKAGE_BYTES;

pub use self::{
    content::{ContentStore, StoreHealth},
    handle::StoreHandle,
};
use crate::{
    command::{CommandError, ErrorCode},
    home::FileError,
};

/// Bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes of all blobs together.
    pub total_bytes: u64,
    /// Bytes of all blobs of one market: one cannot push out the others (B51).
    pub market_bytes: u64,
    /// Blobs at most: bounds the index, about 300 bytes each in memory.
    pub blobs: usize,
    /// Bytes of one blob.
    pub blob_bytes: u64,
    /// Bytes of checked blobs kept in memory, so that reading a blob range by range does not hash it each time.
    pub recent_bytes: u64,
    /// Bytes that must stay free on the disk.
    pub free_bytes: u64,
    /// The same as a share of the disk, in percent; the larger of both counts,
    pub free_percent: u64,
    /// but the share never demands more than this: 5 % of a large disk is no shortage.
    pub free_share_bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            total_bytes: 256 << 20,
            market_bytes: 64 << 20,
            blobs: 16_384,
            blob_bytes: PACKAGE_BYTES as u64,
            recent_bytes: 16 << 20,
            free_bytes: 64 << 20,
            free_percent: 5,
            free_share_bytes: 1 << 30,
        }
    }
}

impl StoreLimits {
    /// Bytes that must stay free on a disk of `total` bytes.
    pub fn must_stay_free(&self, total: u64) -> u64 {
        self.free_bytes.max((total / 100 * self.free_percent).min(self.free_share_bytes))
    }
}

/// Why a blob was not stored, or a store not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full, or would be fuller than it may (B52). The blob is kept in memory while there is room.
    #[error("disk-full: {free} bytes are free at {}, {needed} are needed", .path.display())]
    DiskFull {
        /// Where.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that must be free to store this blob: its own and the minimum.
        needed: u64,
    },
    /// Larger than any blob may be.
    #[error("a blob of {size} bytes; at most {limit} are stored")]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// Everything that could make room is pinned.
    #[error("store-full: {used} of {limit} bytes are used, and what could go is pinned")]
    Full {
        /// Bytes used, of the whole store or of one market.
        used: u64,
        /// The bound.
        limit: u64,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A blob cannot be written.
    #[error("cannot write to {}: {source}", .path.display())]
    Write {
        /// The blob's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store's thread has ended, or could not be started.
    #[error("the store is closed")]
    Closed,
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let mut answer = Self::new(ErrorCode::Failed, error.to_string());
        if let StoreError::File(file) = &error {
            answer.r#try = file.tries();
        }
        answer
    }
}
