//! Where inputs land that are too large for memory: files in one folder of the home, gone with their command.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::io::AsyncRead;

use super::wire::{self, WireError};
use crate::{
    blob::Blob,
    home::files::{self, FileError},
};

/// What is left free of a disk, so that other programs and the node's own small files still have room. *Judgement.*
pub const DISK_RESERVE: u64 = 64 * 1024 * 1024;
/// Bytes that wait to be written at a time: pieces go to the disk in order, one after the other.
const BATCH: usize = 4;

/// A folder for inputs that arrive.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    next: AtomicU64,
}

/// One file in the spool; its name is gone when this is dropped, unless somebody has moved it away.
#[derive(Debug)]
pub struct Spooled {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
}

impl Spool {
    /// The spool in `folder`, which is made when missing and emptied: what lies there belongs to commands that are over.
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        files::private_folder(folder)?;
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(entry.path());
        }
        Ok(Self { folder: folder.to_owned(), next: AtomicU64::new(0) })
    }

    /// Takes `total` bulk bytes from `reader` into a file; memory holds a few pieces at a time.
    pub async fn receive<R: AsyncRead + Unpin>(&self, reader: &mut R, total: u64) -> Result<Spooled, WireError> {
        room(&self.folder, total)?;
        let path = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = Arc::new(files::create_new(&path).map_err(io::Error::other)?);
        let spooled = Spooled { path, file: file.clone(), len: total };
        let (pieces, mut queue) = tokio::sync::mpsc::channel::<Vec<u8>>(BATCH);
        let writing = tokio::task::spawn_blocking(move || {
            use io::Write;
            while let Some(piece) = queue.blocking_recv() {
                (&*file).write_all(&piece)?;
            }
            io::Result::Ok(())
        });
        let mut left = total;
        while left > 0 {
            let piece = wire::read_piece(reader, left).await?;
            left -= piece.len() as u64;
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        writing.await.map_err(io::Error::other)?.map_err(|error| full(error, total))?;
        Ok(spooled)
    }
}

impl Spooled {
    /// Its bytes.
    pub fn blob(&self) -> Blob {
        Blob::File { file: self.file.clone(), offset: 0, len: self.len }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Refuses what would leave less than [`DISK_RESERVE`] of the disk that `folder` is on.
pub fn room(folder: &Path, bytes: u64) -> io::Result<()> {
    let disk = rustix::fs::statvfs(folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free.saturating_sub(DISK_RESERVE) >= bytes {
        return Ok(());
    }
    let text = format!("disk-full: {bytes} bytes are needed and {free} are free, of which {DISK_RESERVE} stay free");
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

/// `error` with the word that it is known by everywhere, when it says that the disk is full.
pub fn full(error: io::Error, bytes: u64) -> io::Error {
    if !files::is_disk_full(&error) || error.to_string().starts_with("disk-full") {
        return error;
    }
    io::Error::new(io::ErrorKind::StorageFull, format!("disk-full: {bytes} bytes do not fit: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b52_what_does_not_fit_is_refused_with_its_number() {
        let folder = tempfile::tempdir().unwrap();
        room(folder.path(), 1).unwrap();
        let error = room(folder.path(), u64::MAX / 2).unwrap_err();
        assert!(error.to_string().starts_with(&format!("disk-full: {} bytes are needed", u64::MAX / 2)), "{error}");
        assert!(files::is_disk_full(&error));
    }

    #[tokio::test]
    async fn a_spooled_input_is_gone_with_its_command() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let content: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let mut sent = Vec::new();
        wire::write_bulk(&mut sent, &content).await.unwrap();
        let spooled = spool.receive(&mut sent.as_slice(), content.len() as u64).await.unwrap();
        assert_eq!(spooled.blob().whole().await.unwrap(), content);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let blob = spooled.blob();
        drop(spooled);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(blob.len(), content.len() as u64, "who still reads it may do so");
        // One that breaks off leaves nothing.
        sent.truncate(sent.len() / 2);
        assert!(spool.receive(&mut sent.as_slice(), content.len() as u64).await.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
