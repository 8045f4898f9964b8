//! [`Blob`]: bytes in memory or a piece of a file, read in chunks and never copied by cloning.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;

/// The input or output of a task or a job, wherever its bytes are.
#[derive(Debug, Clone)]
pub enum Blob {
    /// In memory.
    Memory(Bytes),
    /// `len` bytes of a file from `offset` on. The file is not written any more.
    File {
        /// Shared by all pieces of it.
        file: Arc<File>,
        /// Where this piece begins.
        offset: u64,
        /// Bytes of this piece.
        len: u64,
    },
}

impl Blob {
    /// A whole file as it is now.
    pub fn of_file(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self::File { file: Arc::new(file), offset: 0, len })
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// True for no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, when they are in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::File { .. } => None,
        }
    }

    /// The file that the bytes are in, when they are in one.
    pub fn file(&self) -> Option<Arc<File>> {
        match self {
            Self::Memory(_) => None,
            Self::File { file, .. } => Some(file.clone()),
        }
    }

    /// The piece of `len` bytes from `at` on, cut where this blob ends.
    pub fn slice(&self, at: u64, len: u64) -> Self {
        let at = at.min(self.len());
        let len = len.min(self.len() - at);
        match self {
            Self::Memory(bytes) => Self::Memory(bytes.slice(at as usize..(at + len) as usize)),
            Self::File { file, offset, .. } => Self::File { file: file.clone(), offset: offset + at, len },
        }
    }

    /// Up to `most` bytes from `at` on, fewer only at the end. A file that has become shorter is an error.
    pub async fn read(&self, at: u64, most: usize) -> io::Result<Bytes> {
        match self.slice(at, most as u64) {
            Self::Memory(bytes) => Ok(bytes),
            piece => tokio::task::spawn_blocking(move || piece.read_here()).await.map_err(io::Error::other)?,
        }
    }

    /// All of it, on this thread, which may have to wait for the disk.
    pub fn read_here(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File { file, offset, len } => {
                let mut bytes = vec![0; *len as usize];
                file.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes.into())
            }
        }
    }

    /// All of it, in memory: for what is known to be small.
    pub async fn whole(&self) -> io::Result<Bytes> {
        self.read(0, usize::try_from(self.len()).unwrap_or(usize::MAX)).await
    }
}

impl Default for Blob {
    fn default() -> Self {
        Self::Memory(Bytes::new())
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        Self::Memory(text.into())
    }
}

impl From<&'static str> for Blob {
    fn from(text: &'static str) -> Self {
        Self::Memory(Bytes::from_static(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_piece_of_a_file_reads_as_the_same_piece_of_memory() {
        let content: Vec<u8> = (0..100).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let (file, memory) = (Blob::of_file(file).unwrap(), Blob::from(Bytes::from(content)));
        assert_eq!((file.len(), memory.len()), (100, 100));
        for (at, len) in [(0, 100), (10, 20), (90, 50), (100, 1), (500, 5), (0, 0)] {
            let (a, b) = (file.slice(at, len), memory.slice(at, len));
            assert_eq!(a.whole().await.unwrap(), b.whole().await.unwrap(), "{at} {len}");
            assert_eq!(a.read(3, 4).await.unwrap(), b.read(3, 4).await.unwrap(), "{at} {len}");
            let part = a.slice(2, 5);
            assert_eq!(part.whole().await.unwrap(), b.slice(2, 5).whole().await.unwrap(), "{at} {len}");
        }
    }

    #[tokio::test]
    async fn a_file_that_was_cut_is_an_error_and_no_short_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let blob = Blob::of_file(file.try_clone().unwrap()).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(blob.whole().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(blob.read(0, 4).await.unwrap(), "0123".as_bytes());
    }
}
