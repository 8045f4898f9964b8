//! A published market as static files, for any web server, USB stick or peer to carry.
//!
//! ```text
//! root/1.cbor  root/2.cbor …     every root, oldest first
//! head.cbor                      the newest head; replaced last, so that everything it leads to is there
//! blobs/<cid>                    index envelopes, pages, manifests and variants, named by their hash
//! ```
//!
//! Nothing that is read here is believed: a stick may come from anybody.

use std::{
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Component, Path, PathBuf},
};

use msm_protocol::{
    ContentHash,
    limits::{HEAD_BYTES, ROOT_BYTES},
};

/// Roots of one market that are read: a chain longer than this is not a history but an attack (TUF's figure).
pub const ROOTS: u64 = 1_024;

const HEAD: &str = "head.cbor";
const BLOBS: &str = "blobs";
/// Held while a market is changed.
const LOCK: &str = ".lock";
/// The only file that can be incomplete; renamed when it is whole.
const NEW: &str = ".new";

/// Why a file of a market cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The system says no.
    #[error("{file}: {source}", file = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A link, a device or a pipe where a file should be.
    #[error("{file}: is not a regular file", file = .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Longer than what it should hold.
    #[error("{file}: is larger than {limit} bytes", file = .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes allowed.
        limit: usize,
    },
    /// A blob with other bytes than its name says.
    #[error("{file}: hash mismatch: its bytes are {found}", file = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Hash of its bytes.
        found: ContentHash,
    },
    /// Another process changes this market at this moment.
    #[error("{file}: another process is changing this market", file = .path.display())]
    Busy {
        /// The market's folder.
        path: PathBuf,
    },
}

/// One file to be written, relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileWrite {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl FileWrite {
    pub(crate) fn root(version: u64, bytes: Vec<u8>) -> Self {
        Self { path: root_path(version), bytes }
    }

    pub(crate) fn head(bytes: Vec<u8>) -> Self {
        Self { path: HEAD.into(), bytes }
    }

    pub(crate) fn blob(hash: &ContentHash, bytes: Vec<u8>) -> Self {
        Self { path: blob_path(hash), bytes }
    }

    /// A file that is not part of what is published.
    pub(crate) fn at(path: &str, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), bytes }
    }
}

fn root_path(version: u64) -> PathBuf {
    Path::new("root").join(format!("{version}.cbor"))
}

fn blob_path(hash: &ContentHash) -> PathBuf {
    Path::new(BLOBS).join(hash.to_string())
}

/// The files of a market.
#[derive(Debug, Clone)]
pub struct PublishedFolder {
    path: PathBuf,
}

impl PublishedFolder {
    /// The market in `path`. Reads nothing.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root envelope of this version, if there is one.
    pub fn root(&self, version: u64) -> Result<Option<Vec<u8>>, FolderError> {
        self.read(&root_path(version), ROOT_BYTES)
    }

    /// The newest head envelope, if there is one.
    pub fn head(&self) -> Result<Option<Vec<u8>>, FolderError> {
        self.read(Path::new(HEAD), HEAD_BYTES)
    }

    /// A blob of at most `limit` bytes, hashed again, if there is one.
    pub fn blob(&self, hash: &ContentHash, limit: usize) -> Result<Option<Vec<u8>>, FolderError> {
        let path = blob_path(hash);
        let Some(bytes) = self.read(&path, limit)? else { return Ok(None) };
        let found = ContentHash::of(&bytes);
        if found == *hash { Ok(Some(bytes)) } else { Err(FolderError::Damaged { path: self.path.join(path), found }) }
    }

    /// Any file of the layout by its path below the folder, such as `head.cbor`. Blobs are not hashed again.
    pub fn file(&self, relative: &str, limit: usize) -> Result<Option<Vec<u8>>, FolderError> {
        let relative = Path::new(relative);
        if relative.components().all(|part| matches!(part, Component::Normal(_))) {
            self.read(relative, limit)
        } else {
            Err(FolderError::NotAFile { path: relative.to_owned() })
        }
    }

    fn read(&self, relative: &Path, limit: usize) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path.join(relative);
        let io = |source| FolderError::Io { path: path.clone(), source };
        // Asked before opening, and without following links: a stranger's stick may hold a pipe or a link to a device.
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Err(FolderError::NotAFile { path }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        }
        let mut bytes = Vec::new();
        File::open(&path).map_err(io)?.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() > limit { Err(FolderError::TooLong { path, limit }) } else { Ok(Some(bytes)) }
    }

    /// Keeps other processes from changing this market until the returned file is dropped.
    pub(crate) fn lock(&self) -> Result<File, FolderError> {
        let path = self.path.join(LOCK);
        let io = |source| FolderError::Io { path: path.clone(), source };
        let file = File::create(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(FolderError::Busy { path: self.path.clone() }),
            Err(fs::TryLockError::Error(e)) => Err(io(e)),
        }
    }

    /// Writes `files` one after another, each of them whole or not at all. Blobs that are there already stay.
    pub(crate) fn write(&self, files: &[FileWrite]) -> Result<(), FolderError> {
        files.iter().try_for_each(|file| self.write_one(file))
    }

    fn write_one(&self, file: &FileWrite) -> Result<(), FolderError> {
        let path = self.path.join(&file.path);
        if file.path.starts_with(BLOBS)
            && let Ok(Some(there)) = self.read(&file.path, file.bytes.len())
            && there == file.bytes
        {
            return Ok(());
        }
        let io = |source| FolderError::Io { path: path.clone(), source };
        let new = self.path.join(NEW);
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder).map_err(io)?;
        let mut whole = File::create(&new).map_err(io)?;
        whole.write_all(&file.bytes).map_err(io)?;
        whole.sync_all().map_err(io)?;
        drop(whole);
        fs::rename(&new, &path).map_err(io)?;
        sync_folder(folder).map_err(io)
    }

    /// Removes a blob, if it is there.
    pub(crate) fn remove_blob(&self, hash: &ContentHash) -> Result<(), FolderError> {
        self.remove_file(self.path.join(blob_path(hash)))
    }

    /// Removes a file that is not part of what is published, if it is there.
    pub(crate) fn remove(&self, path: &str) -> Result<(), FolderError> {
        self.remove_file(self.path.join(path))
    }

    fn remove_file(&self, path: PathBuf) -> Result<(), FolderError> {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FolderError::Io { path, source: e }),
            _ => Ok(()),
        }
    }
}

/// Makes a rename in `folder` survive a power cut. Only Unix opens folders as files.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
