//! One file a blob, named by its hash: written whole or not at all, read without following links.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use msm_protocol::ContentHash;

use crate::home::{FileError, files};

/// The folder of blobs.
#[derive(Debug)]
pub(super) struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// The folder, which is made when missing. When the disk does not let it be made or read (full, failing), there are
    /// no blobs for now.
    ///
    /// # Errors
    /// It is a link, a file, or somebody else's.
    pub(super) fn open(dir: PathBuf) -> Result<Self, FileError> {
        match files::private_folder(&dir) {
            Err(error @ FileError::Io { .. }) => tracing::warn!(%error, "blobs are kept in memory only"),
            other => other?,
        }
        Ok(Self { dir })
    }

    /// Every blob and its bytes. Removes what a killed process had half written.
    pub(super) fn list(&self) -> Vec<(ContentHash, u64)> {
        let entries = fs::read_dir(&self.dir).inspect_err(|error| tracing::warn!(%error, "blobs cannot be listed"));
        let mut found = Vec::new();
        for entry in entries.into_iter().flatten().flatten() {
            match entry.file_name().to_str().and_then(|name| name.parse::<ContentHash>().ok()) {
                Some(hash) => found.extend(entry.metadata().map(|meta| (hash, meta.len()))),
                None => drop(fs::remove_file(entry.path())),
            }
        }
        found
    }

    /// What the blob's file holds now, and one byte more than `size` when it has grown.
    pub(super) fn read(&self, hash: &ContentHash, size: u64) -> io::Result<Vec<u8>> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(self.path(hash))?;
        let mut bytes = Vec::with_capacity(size as usize + 1);
        file.take(size + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a blob so that its name only ever stands for all of it. No sync: after a power cut an empty or torn file
    /// is noticed when it is read.
    pub(super) fn write(&self, hash: &ContentHash, bytes: &[u8]) -> io::Result<()> {
        // One writer: a store belongs to one thread of the process that holds the home.
        let beside = self.path(hash).with_extension("part");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let opened = match options.open(&beside) {
            // The folder could not be made before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().mode(0o700).create(&self.dir).and_then(|()| options.open(&beside))
            }
            other => other,
        };
        let written =
            opened.and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&beside, self.path(hash)));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }

    /// Removes a blob; one that is not there is fine.
    pub(super) fn remove(&self, hash: &ContentHash) -> io::Result<()> {
        match fs::remove_file(self.path(hash)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// True when there is a file of that many bytes.
    pub(super) fn is_there(&self, hash: &ContentHash, size: u64) -> bool {
        fs::symlink_metadata(self.path(hash)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Bytes free to this user and in all, on the disk of the folder.
    pub(super) fn free(&self) -> Option<(u64, u64)> {
        let disk = rustix::fs::statvfs(&self.dir).ok()?;
        Some((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
    }

    pub(super) fn path(&self, hash: &ContentHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}
