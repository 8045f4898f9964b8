//! [`Body`]: an output on its way to whoever asked for it, read piece by piece, never held as a whole.

use std::{collections::VecDeque, fmt, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};
use msm_protocol::limits::CHUNK_BYTES;

use crate::blob::Blob;

/// The bulk output of a command: pieces of memory and of files one after the other, or what a socket brings.
pub struct Body {
    left: u64,
    source: Source,
    /// Lives as long as the body.
    keeps: Option<Arc<dyn Kept>>,
}

/// What a body is read from: the folder of a job whose result it is.
pub trait Kept: Send + Sync {
    /// All of the body was read.
    fn taken(&self);
}

enum Source {
    Pieces(VecDeque<Blob>),
    Arriving(BoxStream<'static, io::Result<Bytes>>),
}

impl Body {
    /// Pieces, in order.
    pub fn of_pieces(pieces: impl IntoIterator<Item = Blob>) -> Self {
        let pieces: VecDeque<Blob> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { left: pieces.iter().map(Blob::len).sum(), source: Source::Pieces(pieces), keeps: None }
    }

    /// `len` bytes that `stream` brings.
    pub fn arriving(len: u64, stream: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Self { left: len, source: Source::Arriving(stream), keeps: None }
    }

    /// The same, holding on to `what` until it is gone.
    pub fn keeping(self, what: Arc<dyn Kept>) -> Self {
        let body = Self { keeps: Some(what), ..self };
        body.told();
        body
    }

    /// Tells what it is read from when it was.
    fn told(&self) {
        if let Some(keeps) = self.keeps.as_ref().filter(|_| self.left == 0) {
            keeps.taken();
        }
    }

    /// Bytes that are still to come.
    pub fn len(&self) -> u64 {
        self.left
    }

    /// True when nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The next bytes, at most [`CHUNK_BYTES`] of a file and as they come otherwise; `None` at the end. One that breaks
    /// off early is an error.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let bytes = match &mut self.source {
            Source::Pieces(pieces) => {
                let piece = pieces.front_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
                let bytes = piece.read(0, CHUNK_BYTES).await?;
                *piece = piece.slice(bytes.len() as u64, u64::MAX);
                if piece.is_empty() {
                    pieces.pop_front();
                }
                bytes
            }
            Source::Arriving(stream) => stream.next().await.ok_or(io::ErrorKind::UnexpectedEof)??,
        };
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        self.told();
        Ok(Some(bytes))
    }

    /// All of it, in memory; more than `most` bytes are an error.
    pub async fn whole(mut self, most: u64) -> io::Result<Bytes> {
        if self.left > most {
            return Err(io::Error::other(format!("output-too-large: {} bytes, at most {most} here", self.left)));
        }
        let first = self.next().await?.unwrap_or_default();
        if self.is_empty() {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(first.len() + self.left as usize);
        whole.extend_from_slice(&first);
        while let Some(bytes) = self.next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::of_pieces([])
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::of_pieces([bytes.into()])
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn pieces_come_in_order_and_in_small_chunks() {
        let content: Vec<u8> = (0..CHUNK_BYTES + 100).map(|n| n as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let file = Blob::of_file(file).unwrap();
        let pieces = [file.slice(50, u64::MAX), Bytes::from_static(b"mid").into(), Blob::default(), file.slice(0, 50)];
        let body = || Body::of_pieces(pieces.clone());
        let expected = [&content[50..], b"mid", &content[..50]].concat();
        assert_eq!(body().len(), expected.len() as u64);
        assert_eq!(body().whole(u64::MAX).await.unwrap(), expected);
        assert!(body().whole(expected.len() as u64 - 1).await.unwrap_err().to_string().starts_with("output-too-large"));
        let mut body = body();
        while let Some(bytes) = body.next().await.unwrap() {
            assert!(!bytes.is_empty() && bytes.len() <= CHUNK_BYTES);
        }
        assert!(body.is_empty());
    }

    #[tokio::test]
    async fn what_breaks_off_is_an_error() {
        let one = || futures::stream::iter([Ok(Bytes::from_static(b"abc"))]).boxed();
        assert_eq!(Body::arriving(3, one()).whole(9).await.unwrap(), "abc");
        assert_eq!(Body::arriving(4, one()).whole(9).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(Body::arriving(2, one()).whole(9).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
