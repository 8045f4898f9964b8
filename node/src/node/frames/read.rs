//! Reads frames, many at a time, and the bytes of chunks straight to where they stay.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use msm_protocol::{
    cbor::{self, CborError},
    job::ChunkHead,
    limits::FRAME_BYTES,
};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::FrameError;

/// Room made for what is read: of short frames a few of yamux's.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of a frame's length.
const LENGTH: usize = 4;

/// What comes out of a stream.
#[derive(Debug)]
pub enum Frame<T> {
    /// A message that is no chunk.
    Message(T),
    /// A chunk begins. Say with [`FrameReader::read_into`] where its bytes go, or they are thrown away.
    Chunk(ChunkHead),
    /// The buffer that was given for a chunk, with all of its bytes.
    Body(ChunkHead, Vec<u8>),
}

/// A chunk on its way.
struct Body {
    head: ChunkHead,
    into: Option<Vec<u8>>,
    left: usize,
}

/// Reads frames of any type. Dropping its futures loses nothing: what was read stays here.
pub struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    body: Option<Body>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `io`.
    pub fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), body: None }
    }

    /// The next frame, or `None` at the end of the stream.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Frame<T>>, FrameError> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(Some(frame));
            }
            if self.more().await? == 0 {
                return match self.buffer.is_empty() && self.body.is_none() {
                    true => Ok(None),
                    false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                };
            }
        }
    }

    /// The next frame, when all of it has been read already.
    pub fn ready<T: DeserializeOwned>(&mut self) -> Result<Option<Frame<T>>, FrameError> {
        if self.body.is_some() {
            match self.body_from_buffer() {
                None => return Ok(None),
                Some((head, Some(bytes))) => return Ok(Some(Frame::Body(head, bytes))),
                Some((_, None)) => {}
            }
        }
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES {
            return Err(FrameError::TooLong(length));
        }
        let here = rest.get(..length).unwrap_or(rest);
        if here.len() < length.min(ChunkHead::BYTES) {
            return Ok(None);
        }
        if let Some((head, taken)) = ChunkHead::read(here) {
            if taken + head.len != length {
                let error = if taken + head.len > length { CborError::Truncated } else { CborError::Trailing(1) };
                return Err(error.into());
            }
            self.buffer.advance(LENGTH + taken);
            self.body = Some(Body { head, into: None, left: head.len });
            return Ok(Some(Frame::Chunk(head)));
        }
        if here.len() < length {
            return Ok(None);
        }
        let message = cbor::from_slice(here, FRAME_BYTES)?;
        self.buffer.advance(LENGTH + length);
        Ok(Some(Frame::Message(message)))
    }

    /// Says where the bytes of the chunk that has just begun are appended.
    pub fn read_into(&mut self, buffer: Vec<u8>) {
        if let Some(body) = &mut self.body {
            body.into = Some(buffer);
        }
    }

    /// Takes what the buffer holds of the chunk; the chunk when that was all of it.
    fn body_from_buffer(&mut self) -> Option<(ChunkHead, Option<Vec<u8>>)> {
        let body = self.body.as_mut()?;
        let here = body.left.min(self.buffer.len());
        if let Some(into) = &mut body.into {
            into.extend_from_slice(&self.buffer[..here]);
        }
        self.buffer.advance(here);
        body.left -= here;
        if body.left > 0 {
            return None;
        }
        self.body.take().map(|body| (body.head, body.into))
    }

    /// Reads what there is; 0 at the end of the stream.
    async fn more(&mut self) -> io::Result<usize> {
        match &mut self.body {
            // The bulk of a chunk never lies in the buffer.
            Some(Body { into: Some(into), left, .. }) if self.buffer.is_empty() => {
                let got = self.io.read_buf(&mut (&mut *into).limit(*left)).await?;
                *left -= got;
                Ok(got)
            }
            _ => {
                self.buffer.reserve(READ_BYTES);
                self.io.read_buf(&mut self.buffer).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msm_protocol::job::{Chunk, ToWorker};
    use serde_bytes::ByteBuf;

    fn framed(message: &ToWorker) -> Vec<u8> {
        let mut bytes = Vec::new();
        super::super::put_frame(&mut bytes, message);
        bytes
    }

    fn chunk(at: u64, bytes: &[u8]) -> ToWorker {
        ToWorker::Chunk(Chunk { at, id: 7, bytes: ByteBuf::from(bytes) })
    }

    #[tokio::test]
    async fn frames_over_the_cap_are_refused_unread() {
        async fn read(bytes: &[u8]) -> Result<Option<Frame<ToWorker>>, FrameError> {
            FrameReader::new(bytes).next().await
        }
        let mut bytes = (FRAME_BYTES as u32 + 1).to_le_bytes().to_vec();
        bytes.push(0);
        assert!(matches!(read(&bytes).await, Err(FrameError::TooLong(_))));
        assert!(matches!(read(&[5, 0, 0, 0, 1]).await, Err(FrameError::Io(_))));
        assert!(matches!(read(&[1, 0]).await, Err(FrameError::Io(_))));
        assert!(matches!(read(&[]).await, Ok(None)));
    }

    /// A chunk whose frame is longer or shorter than its bytes is no chunk.
    #[tokio::test]
    async fn a_chunk_of_another_length_than_its_frame_is_refused() {
        let good = framed(&chunk(0, b"abc"));
        for length in [good.len() - 5, good.len() - 3] {
            let mut bytes = good.clone();
            bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
            bytes.push(0);
            let error = FrameReader::new(&bytes[..]).next::<ToWorker>().await.unwrap_err();
            assert!(matches!(error, FrameError::Message(_)), "{error}");
        }
    }

    /// Whatever the pieces in which bytes come, and however often its future is dropped, the same frames come out.
    #[tokio::test]
    async fn frames_read_the_same_in_pieces_of_any_size() {
        let long: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let all =
            [ToWorker::Over(1), chunk(0, &long), ToWorker::Cancel(9), chunk(5, b"x"), chunk(6, b"y"), ToWorker::Done];
        let bytes: Vec<u8> = all.iter().flat_map(framed).collect();
        for piece in [1, 7, 1_000, 99_999, bytes.len()] {
            let (near, mut far) = tokio::io::duplex(piece);
            let sent = bytes.clone();
            let sender = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut far, &sent).await });
            let mut reader = FrameReader::new(near);
            let mut seen = Vec::new();
            loop {
                // One look at a time, then the future is dropped.
                let frame = {
                    let next = std::pin::pin!(reader.next::<ToWorker>());
                    tokio::select! { biased; frame = next => Some(frame), () = tokio::task::yield_now() => None }
                };
                match frame {
                    None => {}
                    Some(Ok(Some(Frame::Message(message)))) => seen.push(message),
                    // The one at 5 is not wanted.
                    Some(Ok(Some(Frame::Chunk(head)))) if head.at == 5 => {}
                    Some(Ok(Some(Frame::Chunk(_)))) => reader.read_into(b"before".to_vec()),
                    Some(Ok(Some(Frame::Body(head, body)))) => {
                        assert_eq!(&body[..6], b"before");
                        seen.push(chunk(head.at, &body[6..]));
                    }
                    Some(Ok(None)) => break,
                    Some(Err(error)) => panic!("{error}"),
                }
            }
            sender.await.unwrap().unwrap();
            let wanted: Vec<_> = all.iter().filter(|frame| **frame != chunk(5, b"x")).cloned().collect();
            assert!(seen == wanted, "pieces of {piece}");
        }
    }
}
