//! Frames of a lane: a u32 LE length and that many bytes of CBOR, in both directions.
//!
//! [`FrameReader`] may be dropped in the middle of a frame and asked again. One task writes a stream: it takes what is
//! to be written from its owner's [`Outgoing`], control frames before bulk, and bulk in chunks, so that a heartbeat or a
//! cancel waits for one chunk at most. [`Assembly`] puts chunks together where they stay.

mod assembly;
mod passage;
mod read;
mod write;

pub use assembly::{Assembly, AssemblyError};
pub use passage::Passage;
pub use read::{Frame, FrameReader};
pub use write::{Next, Outbox, Outgoing, put_frame, write_all};

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::AsyncRead as _;
use libp2p::Stream;
use msm_protocol::{cbor::CborError, limits::FRAME_BYTES};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf},
    task::JoinHandle,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// Why a stream ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The connection broke.
    #[error("stream broke: {0}")]
    Io(#[from] io::Error),
    /// A frame longer than any frame may be.
    #[error("frame of {0} bytes is over {FRAME_BYTES}")]
    TooLong(usize),
    /// A frame that is not the message it should be.
    #[error("{0}")]
    Message(#[from] CborError),
}

/// The reading end of a stream.
pub type StreamReader = FrameReader<ReadHalf<Fused>>;

/// Splits a stream into its two ends and starts the task that writes what `outbox` holds. That task ends when there is
/// nothing more to write, or with the error that broke the stream.
pub fn open<O: Outgoing>(stream: Stream, outbox: Arc<Outbox<O>>) -> (StreamReader, JoinHandle<io::Result<()>>) {
    let (read, write) = tokio::io::split(Fused { inner: Some(stream.compat()) });
    (FrameReader::new(read), tokio::spawn(write_all(write, outbox)))
}

/// Bytes read in one go: a frame of yamux is no longer.
const READ_AT_ONCE: usize = 16 * 1024;

/// A stream that is not touched again after an error. libp2p's lazily negotiated streams panic when one end is used
/// after the other has seen the connection fail.
pub struct Fused {
    inner: Option<Compat<Stream>>,
}

impl Fused {
    fn poll<T>(&mut self, poll: impl FnOnce(Pin<&mut Compat<Stream>>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let polled = poll(Pin::new(inner));
        if matches!(polled, Poll::Ready(Err(_))) {
            self.inner = None;
        }
        polled
    }
}

impl AsyncRead for Fused {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // The stream wants bytes that are initialised, so what it is given is zeroed at each look for more.
        let some = buf.initialize_unfilled_to(buf.remaining().min(READ_AT_ONCE));
        let stream = |inner: Pin<&mut Compat<Stream>>| Pin::new(inner.get_mut().get_mut()).poll_read(cx, some);
        let got = ready!(self.poll(stream))?;
        buf.advance(got);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Fused {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|inner| inner.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|inner| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|inner| inner.poll_shutdown(cx))
    }
}
